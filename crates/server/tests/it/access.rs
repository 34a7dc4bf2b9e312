//! Who may do what: every operation of the OpenAPI document for every kind of caller, and whose data they see.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use billhook::error::Error;
use billhook::ops::{sessions, users};

use crate::endpoints::use_some;
use crate::harness::database::variable;
use crate::harness::{Answer, Plan, World};

/// One operation of the document.
#[derive(Debug, Clone)]
pub struct Operation {
    pub method: String,
    pub path: String,
    pub role: String,
    pub described: serde_json::Value,
}

pub fn operations() -> Vec<Operation> {
    let document = billhook::http::openapi::document();
    let paths = document["paths"].as_object().expect("paths");
    let of_path = |(path, item): (&String, &serde_json::Value)| {
        let item = item.as_object().expect("operations").clone();
        let path = path.clone();
        item.into_iter().map(move |(method, described)| Operation {
            method: method.to_uppercase(),
            path: path.clone(),
            role: described["x-role"].as_str().unwrap_or_default().to_owned(),
            described,
        })
    };
    paths.iter().flat_map(of_path).collect()
}

/// The paths that anybody may ask for, beside those of the document.
const PUBLIC: [&str; 7] =
    ["/healthz", "/readyz", "/docs", "/docs/openapi.json", "/docs/docs.css", "/docs/errors", "/docs/errors/{code}"];

const MINE: [&str; 4] = [
    "/api/v1/billing/subscription",
    "/api/v1/billing/invoices",
    "/api/v1/billing/payment-methods",
    "/api/v1/billing/usage",
];

fn cookie(token: &str) -> String {
    format!("session_token={token}")
}

/// A token as this program issues them, of a session that does not exist.
fn random_token() -> String {
    format!("bhs_{}", "k7".repeat(21) + "Q")
}

// ------------------------------------------------------------------------------------------------------- the matrix

#[tokio::test]
async fn s01_s24_every_operation_for_every_caller() {
    let world = World::new().await;
    let (user, admin) = (cookie(&world.ada().await), cookie(&world.admin().await));
    let random = cookie(&random_token());
    let callers: [(&str, Option<&str>); 5] = [
        ("anonymous", None),
        ("empty", Some("session_token=")),
        ("random", Some(&random)),
        ("user", Some(&user)),
        ("admin", Some(&admin)),
    ];
    for operation in operations() {
        for (caller, cookie) in callers {
            let expected = match (operation.role.as_str(), caller) {
                ("customer", "user" | "admin") | ("admin", "admin") => (200, None),
                ("admin", "user") => (403, Some("auth.forbidden")),
                ("customer" | "admin", _) => (401, Some("auth.required")),
                (role, _) => panic!("{}: nobody has the role {role:?}", operation.path),
            };
            let headers: Vec<_> = cookie.iter().map(|cookie| ("cookie", *cookie)).collect();
            let answer = world.request(&operation.method, &operation.path, &headers).await;
            let code = answer.json()["code"].as_str().map(str::to_owned);
            assert_eq!((answer.status, code.as_deref()), expected, "{caller} {} {}", operation.method, operation.path);
        }
    }
}

/// Bad input of every kind that an operation could look at.
const BAD_QUERY: &str = "?limit=abc&limit=2&cursor=%00&status=foo&user_id=b";

#[tokio::test]
async fn s02_nobody_hears_of_bad_input_before_they_may_send_any() {
    let world = World::new().await;
    let user = cookie(&world.ada().await);
    let json = ("content-type", "application/json");
    for Operation { method, path, role, .. } in operations() {
        let bad = format!("{path}{BAD_QUERY}");
        let good = world.request(&method, &path, &[]).await.shown();
        assert!(good.starts_with("401\n"), "{path}: {good}");
        assert_eq!(world.send(&method, &bad, &[json], "{\"broken").await.shown(), good, "anonymous {path}");
        if role == "admin" {
            let good = world.request(&method, &path, &[("cookie", &user)]).await.shown();
            assert!(good.starts_with("403\n"), "{path}: {good}");
            let answer = world.send(&method, &bad, &[("cookie", &user), json], "{\"broken").await;
            assert_eq!(answer.shown(), good, "a user at {path}");
        }
    }
}

/// All paths that the sources of `http/` mount, wherever they do it.
fn mounted(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            mounted(&path, found);
        } else {
            let text = std::fs::read_to_string(&path).expect("source");
            for other in [".nest(", ".nest_service(", ".route_service(", ".fallback_service("] {
                assert!(!text.contains(other), "{}: {other} hides paths from this test", path.display());
            }
            let routes = text.split(".route(").skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"'));
            found.extend(routes.filter_map(|rest| rest.split('"').next()).map(str::to_owned));
        }
    }
}

#[tokio::test]
async fn s24_every_route_is_in_the_document_or_explicitly_public() {
    let mut found = BTreeSet::new();
    mounted(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http"), &mut found);
    let documented = operations().into_iter().map(|operation| operation.path);
    // The numbers have a listener of their own, which is not the public one.
    let expected: BTreeSet<String> =
        documented.chain(PUBLIC.map(str::to_owned)).chain(["/metrics".to_owned()]).collect();
    assert_eq!(found, expected);
    let world = World::new().await;
    for path in PUBLIC {
        let answer = world.get_anonymous(&path.replace("{code}", "auth.required")).await;
        assert_eq!(answer.status, 200, "{path}");
    }
}

#[tokio::test]
async fn s24_other_methods_are_not_allowed_and_the_answer_says_which_are() {
    let world = World::new().await;
    let admin = cookie(&world.admin().await);
    for path in operations().into_iter().map(|operation| operation.path) {
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            let answer = world.request(method, &path, &[("cookie", &admin)]).await;
            let allow: Vec<_> = answer.header("allow").unwrap_or_default().split(',').map(str::trim).collect();
            assert_eq!((answer.status, answer.json()["code"].as_str()), (405, Some("method_not_allowed")), "{method} {path}");
            assert!(allow.contains(&"GET") && allow.contains(&"HEAD"), "{method} {path}: {allow:?}");
        }
        let head = world.request("HEAD", &path, &[("cookie", &admin)]).await;
        assert_eq!((head.status, head.body.as_str()), (200, ""), "HEAD {path}");
    }
}

// --------------------------------------------------------------------------------------- the database decides, at once

/// One connection that is kept alive, so that nothing learned at its beginning can decide later.
struct KeptAlive(TcpStream);

impl KeptAlive {
    fn to(world: &World) -> Self {
        let stream = TcpStream::connect(world.base.strip_prefix("http://").expect("base")).expect("connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
        Self(stream)
    }

    fn get(&mut self, path: &str, token: &str) -> u16 {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nCookie: session_token={token}\r\n\r\n");
        self.0.write_all(head.as_bytes()).expect("written");
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).expect("the connection stays open");
            bytes.push(byte[0]);
        }
        let head = String::from_utf8(bytes).expect("ascii").to_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()).expect("a length");
        let mut body = vec![0; length.parse().expect("number")];
        self.0.read_exact(&mut body).expect("body");
        head[9..12].parse().expect("status")
    }
}

const STATS: &str = "/api/v1/admin/billing/stats";
const USAGE: &str = "/api/v1/billing/usage";

#[tokio::test(flavor = "multi_thread")]
async fn s09_role_and_state_are_the_databases_at_each_request_of_one_connection() {
    let world = World::new().await;
    let (id, token) = world.user("boss@example.com", None, true).await;
    let mut line = KeptAlive::to(&world);
    let mut asked = |path, status| assert_eq!(line.get(path, &token), status, "{path}");
    for _ in 0..2 {
        asked(STATS, 200);
        users::set_admin(&world.app, &id, false).await.expect("demoted");
        asked(STATS, 403);
        asked(USAGE, 200);
        users::set_admin(&world.app, &id, true).await.expect("promoted");
        asked(STATS, 200);
        users::set_disabled(&world.app, &id, true).await.expect("disabled");
        asked(STATS, 401);
        asked(USAGE, 401);
        users::set_disabled(&world.app, &id, false).await.expect("enabled");
    }
    asked(USAGE, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn s09_what_another_process_writes_into_the_file_holds_for_the_next_request() {
    let world = World::new().await;
    let (_, token) = world.user("boss@example.com", None, true).await;
    let other = rusqlite::Connection::open(world.database.path()).expect("the file");
    let mut line = KeptAlive::to(&world);
    for (sql, stats, usage) in [
        ("UPDATE users SET is_admin = 0", 403, 200),
        ("UPDATE users SET is_admin = 1", 200, 200),
        ("UPDATE users SET disabled_at = 1", 401, 401),
        ("UPDATE users SET disabled_at = NULL", 200, 200),
        ("DELETE FROM sessions", 401, 401),
    ] {
        // Asked twice, so that whatever is kept has been kept.
        line.get(STATS, &token);
        line.get(USAGE, &token);
        other.execute(sql, []).expect(sql);
        assert_eq!((line.get(STATS, &token), line.get(USAGE, &token)), (stats, usage), "{sql}");
    }
}

#[tokio::test]
async fn s08_a_session_ends_at_its_second() {
    let world = World::new().await;
    let (id, _) = world.user("u@example.com", None, false).await;
    let token = sessions::issue(&world.app, &id, Duration::from_secs(3_600)).await.expect("a session");
    let untouched = sessions::issue(&world.app, &id, Duration::from_secs(3_600)).await.expect("a session");
    world.clock.advance(Duration::from_millis(3_599_999));
    assert_eq!(world.get(USAGE, &token).await.status, 200);
    world.clock.advance(Duration::from_millis(1));
    for token in [token, untouched] {
        let answer = world.get(USAGE, &token).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (401, Some("auth.expired")));
    }
}

#[tokio::test]
async fn s07_a_revoked_session_is_over_and_the_others_are_not() {
    let world = World::new().await;
    let (id, first) = world.user("u@example.com", None, false).await;
    let second = sessions::issue(&world.app, &id, Duration::from_secs(60)).await.expect("a session");
    let stranger = world.ada().await;
    let statuses = async || {
        let mut all = Vec::new();
        for token in [&first, &second, &stranger] {
            all.push(world.get(USAGE, token).await.status);
        }
        all
    };
    assert_eq!(statuses().await, [200, 200, 200]);
    assert!(sessions::revoke(&world.app, &first).await.expect("revoked"));
    assert_eq!(statuses().await, [401, 200, 200]);
    assert!(!sessions::revoke(&world.app, &first).await.expect("there is none"));
    assert_eq!(sessions::revoke_all(&world.app, &id).await.expect("revoked"), 1);
    assert_eq!(statuses().await, [401, 401, 200]);
}

// ------------------------------------------------------------------------------------------------------------- tokens

#[tokio::test]
async fn s03_what_cannot_be_a_token_is_refused_without_a_query() {
    let world = World::new().await;
    let token = world.ada().await;
    let (short, long) = (&token[..token.len() - 1], format!("{token}A"));
    let (huge, strange) = ("A".repeat(8 * 1024), format!("{}!", &token[..token.len() - 1]));
    let upper = token.replace("bhs_", "BHS_");
    // Whoever asks this database for a session gets an error now.
    let file = rusqlite::Connection::open(world.database.path()).expect("the file");
    file.execute_batch("ALTER TABLE sessions RENAME TO sessions_elsewhere").expect("renamed");
    assert_eq!(world.get(USAGE, &random_token()).await.status, 500, "a token of the right form is looked up");
    for bad in [short, &long, &huge, &strange, &upper, "x", "a b", "\"", "%20", "../../etc/passwd", "' OR 1=1 --"] {
        let answer = world.get(USAGE, bad).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (401, Some("auth.required")), "{bad}");
    }
}

#[tokio::test]
async fn s03_the_database_holds_the_hash_and_never_the_token() {
    let world = World::new().await;
    let token = world.ada().await;
    assert_eq!(world.get(USAGE, &token).await.status, 200);
    let mut bytes = Vec::new();
    for suffix in ["", "-wal", "-shm"] {
        bytes.extend(std::fs::read(format!("{}{suffix}", world.database.path().display())).unwrap_or_default());
    }
    let text = String::from_utf8_lossy(&bytes);
    let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    let hash = digest.as_ref().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    assert!(text.contains(&hash), "the search finds nothing: it is broken");
    assert_eq!(text.matches(token.trim_start_matches("bhs_")).count(), 0);
}

#[tokio::test]
async fn s06_two_session_cookies_are_nobodys() {
    let world = World::new().await;
    let (token, other) = (world.ada().await, random_token());
    let host = format!("__Host-session_token={token}");
    let (own, foreign) = (cookie(&token), cookie(&other));
    let (twice, both) = (format!("{own}; {own}"), format!("theme=dark; {own}; {host}"));
    let tossed = format!("session_token=\u{e9}; {own}");
    for (headers, status, code) in [
        (vec![own.as_str()], 200, None),
        (vec![&host], 200, None),
        (vec!["theme=\u{e9}", &own], 200, None),
        (vec![&twice], 401, Some("auth.ambiguous_cookie")),
        (vec![&both], 401, Some("auth.ambiguous_cookie")),
        (vec![&own, &foreign], 401, Some("auth.ambiguous_cookie")),
        (vec![&foreign, &own], 401, Some("auth.ambiguous_cookie")),
        (vec![&own, "session_token="], 401, Some("auth.ambiguous_cookie")),
        (vec![&tossed], 401, Some("auth.ambiguous_cookie")),
    ] {
        let cookies: Vec<_> = headers.iter().map(|value| ("cookie", *value)).collect();
        let answer = world.request("GET", USAGE, &cookies).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, code), "{headers:?}");
    }
}

// ------------------------------------------------------------------------------------------------------ whose data it is

/// The customer of every invoice and payment method that an answer names.
fn owners(world: &World, answer: &Answer) -> BTreeSet<String> {
    let file = rusqlite::Connection::open(world.database.path()).expect("the file");
    let sql = "SELECT customer FROM invoices WHERE id = ?1 UNION SELECT customer FROM payment_methods WHERE id = ?1";
    let rows = answer.json().as_array().expect("a list").clone();
    rows.iter().map(|row| file.query_row(sql, [row["id"].as_str()], |row| row.get(0)).expect("an owner")).collect()
}

/// Another paying customer of the little business than the sandbox's user.
async fn somebody_else(world: &World) -> String {
    let list = world.get("/api/v1/admin/billing/subscriptions?status=active", &world.admin().await).await.json();
    let rows = list["subscriptions"].as_array().expect("rows").clone();
    let customers = rows.iter().filter_map(|row| row["customer"].as_str());
    customers.filter(|id| *id != sandbox::USER_CUSTOMER).next_back().expect("another customer").to_owned()
}

#[tokio::test]
async fn s23_a_user_sees_their_own_and_nothing_of_anybody_else() {
    let world = World::new().await;
    let other = somebody_else(&world).await;
    let (user_a, a) = world.user("a@here.test", Some(sandbox::USER_CUSTOMER), false).await;
    let (_, b) = world.user("b@here.test", Some(&other), false).await;
    use_some(&world, &user_a).await;
    for _ in 0..2 {
        for path in ["/api/v1/billing/invoices?limit=100", "/api/v1/billing/payment-methods"] {
            for (token, customer) in [(&a, sandbox::USER_CUSTOMER), (&b, &other)] {
                let answer = world.get(path, token).await;
                assert_eq!(owners(&world, &answer), BTreeSet::from([customer.to_owned()]), "{path}");
            }
        }
        let used = async |token| world.get(USAGE, token).await.json()["credits"]["used"].clone();
        assert_eq!((used(&a).await, used(&b).await), (585.into(), 0.into()));
        let start = async |token| world.get(MINE[0], token).await.json()["current_period_start"].clone();
        assert_ne!(start(&a).await, start(&b).await);
    }
}

#[tokio::test]
async fn s25_s29_nobody_chooses_whose_data_they_get() {
    let world = World::new().await;
    let other = somebody_else(&world).await;
    let (_, a) = world.user("a@here.test", Some(sandbox::USER_CUSTOMER), false).await;
    let (user_b, _) = world.user("b@here.test", Some(&other), false).await;
    let chosen = format!("?user_id={user_b}&user={user_b}&customer={other}&stripe_customer_id={other}&email=b@here.test&is_admin=1");
    let cookie = cookie(&a);
    let headers = [("cookie", cookie.as_str()), ("x-user-id", &user_b), ("x-user-email", "b@here.test")];
    for path in MINE {
        let plain = world.get(path, &a).await.shown();
        assert_eq!(world.request("GET", &format!("{path}{chosen}"), &headers).await.shown(), plain, "{path}");
    }
    assert_eq!(world.request("GET", &format!("{STATS}{chosen}"), &headers).await.status, 403);
}

// ------------------------------------------------------------------------------------------------- identity at Stripe

async fn customer_at_stripe(world: &World, email: &str) -> String {
    let form = format!("email={}&name=Somebody", email.replace('@', "%40"));
    world.at_stripe("POST", "/v1/customers", &form).await["id"].as_str().expect("an id").to_owned()
}

/// What the database says of a user's link.
fn link_of(world: &World, user: &str) -> Option<String> {
    let file = rusqlite::Connection::open(world.database.path()).expect("the file");
    file.query_row("SELECT stripe_customer_id FROM users WHERE id = ?1", [user], |row| row.get(0)).expect("the user")
}

#[tokio::test]
async fn s26_one_exact_match_is_linked_once_and_stays() {
    let world = World::planned(Plan { stripe: Some(sandbox::Seed::Empty), ..Plan::default() }).await;
    let customer = customer_at_stripe(&world, "eve@here.test").await;
    world.sync().await;
    let (user, token) = world.user("eve@here.test", None, false).await;
    let (stranger, other_token) = world.user("EVE@here.test", None, false).await;
    assert_eq!(world.get(MINE[1], &token).await.body, "[]");
    assert_eq!(link_of(&world, &user).as_ref(), Some(&customer));
    assert_eq!(world.get(MINE[1], &other_token).await.body, "[]");
    assert_eq!(link_of(&world, &stranger), None, "an e-mail of other letters is another e-mail");

    world.at_stripe("POST", &format!("/v1/customers/{customer}"), "email=moved%40here.test").await;
    let newcomer = customer_at_stripe(&world, "eve@here.test").await;
    world.sync().await;
    world.get(MINE[0], &token).await;
    assert_eq!(link_of(&world, &user), Some(customer), "the link is the identity now, not {newcomer}");
}

#[tokio::test]
async fn s26_an_ambiguous_or_taken_address_links_nobody() {
    let world = World::planned(Plan { stripe: Some(sandbox::Seed::Business), ..Plan::default() }).await;
    customer_at_stripe(&world, "twin@here.test").await;
    customer_at_stripe(&world, "twin@here.test").await;
    world.sync().await;
    let (twin, twin_token) = world.user("twin@here.test", None, false).await;
    // The victim is linked, and their customer has this address; the attacker takes it here.
    let (victim, victim_token) = world.user("victim@here.test", Some(sandbox::USER_CUSTOMER), false).await;
    let (attacker, attacker_token) = world.user("attacker@here.test", None, false).await;
    rusqlite::Connection::open(world.database.path())
        .and_then(|file| file.execute("UPDATE users SET email = 'ada@example.com' WHERE id = ?1", [&attacker]))
        .expect("changed");
    for (user, token) in [(&twin, &twin_token), (&attacker, &attacker_token)] {
        for path in MINE {
            let (theirs, victims) = (world.get(path, token).await, world.get(path, &victim_token).await);
            assert_eq!(theirs.status, 200, "{path}");
            assert_ne!(theirs.body, victims.body, "{path}");
        }
        assert_eq!(world.get(MINE[0], token).await.json()["status"], "none");
        assert_eq!(world.get(MINE[1], token).await.body, "[]");
        assert_eq!(link_of(&world, user), None);
    }
    assert_eq!(link_of(&world, &victim).as_deref(), Some(sandbox::USER_CUSTOMER));
}

#[tokio::test]
async fn s26_a_customer_belongs_to_one_user() {
    let world = World::new().await;
    let (first, _) = world.user("a@here.test", Some(sandbox::USER_CUSTOMER), false).await;
    let (second, _) = world.user("b@here.test", None, false).await;
    let code = |outcome| match outcome {
        Err(Error::Conflict { code, .. }) => code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(users::link(&world.app, &second, sandbox::USER_CUSTOMER).await), "customer.already_linked");
    let add = users::Add {
        email: "c@here.test".to_owned(),
        name: "C".to_owned(),
        tier: None,
        customer: Some(sandbox::USER_CUSTOMER.to_owned()),
        admin: false,
    };
    assert_eq!(code(users::add(&world.app, add).await.map(|_| ())), "customer.already_linked");
    users::link(&world.app, &first, sandbox::USER_CUSTOMER).await.expect("their own, said again");
    assert_eq!(link_of(&world, &second), None);
    assert_eq!(users::list(&world.app, "", 10).await.expect("users").len(), 2, "the refused user was not added");
}

#[tokio::test]
async fn s26_a_subscription_id_in_the_customer_column_is_no_identity() {
    let world = World::new().await;
    let (user, token) = world.user("legacy@here.test", None, false).await;
    let subscription = "sub_".to_owned() + sandbox::USER_CUSTOMER.trim_start_matches("cus_");
    rusqlite::Connection::open(world.database.path())
        .and_then(|file| file.execute("UPDATE users SET stripe_customer_id = ?2 WHERE id = ?1", [&user, &subscription]))
        .expect("changed");
    assert_eq!(world.get(MINE[0], &token).await.json()["status"], "none");
    assert_eq!(world.get(MINE[1], &token).await.body, "[]");
    assert_eq!(link_of(&world, &user), Some(subscription), "nothing of the old row is lost");
}

// --------------------------------------------------------------------------------------- sessions of Ops Center in Redis

/// Puts a session where Ops Center puts them.
async fn ops_center_session(redis: &str, token: &str, payload: &serde_json::Value) {
    let client = redis::Client::open(redis).expect("an address");
    let mut connection = client.get_multiplexed_async_connection().await.expect("Redis");
    let mut command = redis::cmd("SET");
    command.arg(format!("session:{token}")).arg(payload.to_string()).arg("EX").arg(600);
    command.query_async::<()>(&mut connection).await.expect("set");
}

async fn end_ops_center_session(redis: &str, token: &str) {
    let client = redis::Client::open(redis).expect("an address");
    let mut connection = client.get_multiplexed_async_connection().await.expect("Redis");
    redis::cmd("DEL").arg(format!("session:{token}")).query_async::<()>(&mut connection).await.expect("deleted");
}

async fn world_with_redis(redis: &str) -> World {
    World::planned(Plan { environment: vec![("REDIS_URL", redis.to_owned())], stripe: None, ..Plan::default() }).await
}

/// A token as Python's `token_urlsafe(32)` makes them, another one in each test.
fn foreign_token(world: &World, name: &str) -> String {
    let port = world.base.rsplit(':').next().expect("a port");
    format!("{:A<43}", format!("{name}-{}-{port}-", std::process::id()))
}

#[tokio::test]
async fn sessions_of_ops_center_name_a_user_and_the_database_says_the_rest() {
    let redis = variable("BILLHOOK_TEST_REDIS");
    let world = world_with_redis(&redis).await;
    let (user, _) = world.user("u@here.test", None, false).await;
    let (boss, _) = world.user("boss@here.test", None, true).await;
    let (gone, _) = world.user("gone@here.test", None, false).await;
    users::set_disabled(&world.app, &gone, true).await.expect("disabled");
    for (name, payload, usage, stats) in [
        ("flat", serde_json::json!({"user_id": user, "email": "x", "is_admin": true}), 200, 403),
        ("nested", serde_json::json!({"user": {"id": user, "role": "admin"}, "access_token": "t"}), 200, 403),
        ("nested-user-id", serde_json::json!({"user": {"user_id": user}}), 200, 403),
        ("admin", serde_json::json!({"user_id": boss, "is_admin": false}), 200, 200),
        ("unknown", serde_json::json!({"user_id": "somebody"}), 401, 401),
        ("disabled", serde_json::json!({"user_id": gone}), 401, 401),
        ("nobody", serde_json::json!({"user": {}}), 401, 401),
        ("no-object", serde_json::json!("text"), 401, 401),
    ] {
        let token = foreign_token(&world, name);
        assert_eq!(world.get(USAGE, &token).await.status, 401, "{name}: before the session");
        ops_center_session(&redis, &token, &payload).await;
        assert_eq!((world.get(USAGE, &token).await.status, world.get(STATS, &token).await.status), (usage, stats), "{name}");
        end_ops_center_session(&redis, &token).await;
        assert_eq!(world.get(USAGE, &token).await.status, 401, "{name}: after the session");
    }
}

#[tokio::test]
async fn s09_holds_for_sessions_of_ops_center_too() {
    let redis = variable("BILLHOOK_TEST_REDIS");
    let world = world_with_redis(&redis).await;
    let (boss, _) = world.user("boss@here.test", None, true).await;
    let token = foreign_token(&world, "boss");
    ops_center_session(&redis, &token, &serde_json::json!({"user_id": boss})).await;
    assert_eq!(world.get(STATS, &token).await.status, 200);
    users::set_admin(&world.app, &boss, false).await.expect("demoted");
    assert_eq!(world.get(STATS, &token).await.status, 403);
    users::set_disabled(&world.app, &boss, true).await.expect("disabled");
    assert_eq!(world.get(USAGE, &token).await.status, 401);
}

/// A way to Redis that can be closed: who goes it while it is closed, or was on it, is cut off.
struct Gate {
    address: String,
    open: Arc<AtomicBool>,
}

impl Gate {
    fn to(redis: &str) -> Self {
        let target = redis.trim_start_matches("redis://").trim_end_matches('/').to_owned();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("redis://{}", listener.local_addr().expect("address"));
        let open = Arc::new(AtomicBool::new(true));
        let gate = Self { address, open: Arc::clone(&open) };
        std::thread::spawn(move || {
            for guest in listener.incoming().flatten() {
                if open.load(Ordering::SeqCst) {
                    let redis = TcpStream::connect(&target).expect("Redis");
                    for (from, to) in [(&guest, &redis), (&redis, &guest)] {
                        let (from, to) = (from.try_clone().expect("socket"), to.try_clone().expect("socket"));
                        let open = Arc::clone(&open);
                        std::thread::spawn(move || carry(from, to, &open));
                    }
                }
            }
        });
        gate
    }
}

/// Carries bytes one way until the gate is closed.
fn carry(mut from: TcpStream, mut to: TcpStream, open: &AtomicBool) {
    let mut bytes = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        if !open.load(Ordering::SeqCst) || to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(std::net::Shutdown::Both), to.shutdown(std::net::Shutdown::Both));
}

#[tokio::test]
async fn redis_down_leaves_own_sessions_alone_and_says_so_to_the_others() {
    let redis = variable("BILLHOOK_TEST_REDIS");
    let gate = Gate::to(&redis);
    let world = world_with_redis(&gate.address).await;
    let (user, own) = world.user("u@here.test", None, false).await;
    let token = foreign_token(&world, "down");
    ops_center_session(&redis, &token, &serde_json::json!({"user_id": user})).await;
    assert_eq!(world.get(USAGE, &token).await.status, 200);

    gate.open.store(false, Ordering::SeqCst);
    for _ in 0..2 {
        let answer = world.get(USAGE, &token).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("redis.unavailable")));
        assert!(answer.header("retry-after").is_some_and(|wait| wait.parse::<u32>().is_ok_and(|wait| wait > 0)));
        assert_eq!(world.get(USAGE, &own).await.status, 200, "own sessions need no Redis");
    }
    assert_eq!(world.get_anonymous(USAGE).await.status, 401, "nobody is nobody without asking Redis");

    gate.open.store(true, Ordering::SeqCst);
    let mut status = 0;
    for _ in 0..50 {
        status = world.get(USAGE, &token).await.status;
        if status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(status, 200, "Redis is back, and nobody restarted anything");
}

#[tokio::test]
async fn a_redis_that_never_answers_is_not_waited_for() {
    // Accepts and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let world = world_with_redis(&format!("redis://{}", silent.local_addr().expect("address"))).await;
    let own = world.admin().await;
    let answer = world.get(USAGE, &foreign_token(&world, "silent")).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("redis.unavailable")));
    assert_eq!(world.get(USAGE, &own).await.status, 200);
}
