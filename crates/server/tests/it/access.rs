//! Who may do what: every operation of the OpenAPI document for every kind of caller, at every moment.

mod identity;
mod ops_center;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use billhook::ops::keys::{self, Scope};
use billhook::ops::{sessions, users};
use jiff::Timestamp;

use crate::harness::{Answer, Database, Plan, World};

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

/// Those that somebody with a session asks: the ones that read for a user or an admin.
pub fn session_operations() -> Vec<Operation> {
    let mut operations = operations();
    operations.retain(|operation| ["customer", "admin"].contains(&operation.role.as_str()));
    operations
}

/// The paths that anybody may ask for, beside those of the document.
const PUBLIC: [&str; 8] = [
    "/",
    "/healthz",
    "/readyz",
    "/docs",
    "/docs/openapi.json",
    "/docs/docs.css",
    "/docs/errors",
    "/docs/errors/{code}",
];

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
    let [writer, reader] = [key(&world, Scope::UsageWrite).await, key(&world, Scope::UsageRead).await];
    let unknown = format!("Bearer bhk_{}", "k7".repeat(21) + "Q");
    let callers: [(&str, Option<(&str, &str)>); 9] = [
        ("anonymous", None),
        ("empty", Some(("cookie", "session_token="))),
        ("random", Some(("cookie", &random))),
        ("user", Some(("cookie", &user))),
        ("admin", Some(("cookie", &admin))),
        ("unknown key", Some(("authorization", &unknown))),
        ("no key", Some(("authorization", "Bearer sk-somebody-elses"))),
        ("writer", Some(("authorization", &writer))),
        ("reader", Some(("authorization", &reader))),
    ];
    for operation in operations() {
        for (caller, credentials) in callers {
            let expected = expected(&operation, caller);
            let headers: Vec<_> = credentials.into_iter().collect();
            let answer = world.request(&operation.method, &operation.path, &headers).await;
            let said = (answer.status, code_of(&answer));
            // Who may ask hears what else is missing: a body, a user.
            let judged = matches!(said.0, 200 | 204 | 400 | 404 | 415 | 422);
            let fits = expected.as_ref().map_or(judged, |expected| *expected == said);
            assert!(fits, "{caller} {} {}: {said:?}, not {expected:?}", operation.method, operation.path);
        }
    }
}

/// Which operations a service asks that only wants to read.
const FOR_ANY_KEY: [&str; 3] = ["check", "authorize", "lago_event"];

/// What a caller hears; nothing where they may ask.
fn expected(operation: &Operation, caller: &str) -> Option<(u16, String)> {
    let name = operation.described["operationId"].as_str().unwrap_or_default();
    let for_any_key = FOR_ANY_KEY.contains(&name);
    let is_lagos = operation.described["tags"][0] == "lago";
    let (status, code) = match (operation.role.as_str(), caller) {
        ("customer", "user" | "admin") | ("admin", "admin") => (200, ""),
        ("admin", "user") => (403, "auth.forbidden"),
        ("service", "writer") | ("caller", "user" | "admin" | "reader") => return None,
        ("service" | "caller", "reader" | "writer") if for_any_key => return None,
        ("service", "reader") if is_lagos => (403, "write_action_not_allowed_for_event"),
        ("service", "reader") | ("caller", "writer") => (403, "auth.scope"),
        ("service", _) if is_lagos => (401, ""),
        ("service", _) | ("caller", "unknown key") => (401, "auth.key"),
        ("customer" | "admin" | "caller", _) => (401, "auth.required"),
        // Signed, not authenticated; with nothing configured there is nothing here.
        ("webhook", _) => (404, "not_found"),
        (role, _) => panic!("{}: nobody has the role {role:?}", operation.path),
    };
    Some((status, code.to_owned()))
}

fn code_of(answer: &Answer) -> String {
    let value: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
    value["code"].as_str().unwrap_or_default().to_owned()
}

/// A key as it stands in the header.
pub async fn key(world: &World, scope: Scope) -> String {
    format!("Bearer {}", keys::issue(&world.app, "a test", &[scope]).await.expect("a key"))
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
        if role == "webhook" {
            continue;
        }
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
    let offered = operations();
    let paths: BTreeSet<&str> = offered.iter().map(|operation| operation.path.as_str()).collect();
    for path in paths {
        let mut methods: BTreeSet<&str> =
            offered.iter().filter(|other| other.path == path).map(|other| other.method.as_str()).collect();
        if methods.contains("GET") {
            methods.insert("HEAD");
        }
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            if methods.contains(method) {
                continue;
            }
            let answer = world.request(method, path, &[("cookie", &admin)]).await;
            let allow: BTreeSet<_> = answer.header("allow").unwrap_or_default().split(',').map(str::trim).collect();
            // An answer to HEAD has no body to read a code from.
            let code = if method == "HEAD" { "" } else { "method_not_allowed" };
            assert_eq!((answer.status, code_of(&answer).as_str()), (405, code), "{method} {path}");
            assert_eq!(allow, methods, "{method} {path}");
        }
    }
    for path in session_operations().into_iter().map(|operation| operation.path) {
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
    let token = sessions::issue(&world.app, &id, Duration::from_hours(1)).await.expect("a session");
    let untouched = sessions::issue(&world.app, &id, Duration::from_hours(1)).await.expect("a session");
    let end = Timestamp::from_second(world.now().as_second() + 3_600).expect("instant");
    world.clock.set(end - jiff::SignedDuration::from_millis(1));
    assert_eq!(world.get(USAGE, &token).await.status, 200);
    world.clock.set(end);
    for token in [token, untouched] {
        let answer = world.get(USAGE, &token).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (401, Some("auth.expired")));
    }
}

/// F-49: whoever was told that their session is over is not let in again when the clock goes an hour back: not by this process, nor by
/// another one on the same database, whether the session was in memory or not.
#[tokio::test]
async fn f49_a_session_that_has_ended_stays_over_when_the_clock_goes_back() {
    let world = World::planned(Plan { stripe: None, ..Plan::default() }).await;
    let begin = world.now();
    let (id, longer) = world.user("u@example.com", None, false).await;
    let issue = async || sessions::issue(&world.app, &id, Duration::from_hours(1)).await.expect("a session");
    let (kept, loaded, never_asked) = (issue().await, issue().await, issue().await);
    let said = async |world: &World, token: &str| {
        let answer = world.get(USAGE, token).await;
        let code = if answer.status == 200 { String::new() } else { answer.json()["code"].to_string() };
        (answer.status, code)
    };
    let (goes_on, over) = ((200, String::new()), (401, "\"auth.expired\"".to_owned()));
    assert_eq!(said(&world, &kept).await, goes_on, "it is in memory from here on");
    world.clock.advance(Duration::from_hours(1));
    for (token, expected) in [(&kept, &over), (&loaded, &over), (&longer, &goes_on)] {
        assert_eq!(said(&world, token).await, *expected);
    }

    world.clock.set(begin);
    let database = Database::Elsewhere(world.database.address());
    let other = World::planned(Plan { stripe: None, database, seed: 8, ..Plan::default() }).await;
    for world in [&world, &other] {
        assert_eq!(world.now(), begin);
        for (token, expected) in [(&kept, &over), (&loaded, &over), (&longer, &goes_on), (&never_asked, &goes_on)] {
            for _ in 0..2 {
                assert_eq!(said(world, token).await, *expected);
            }
        }
    }
    // Whoever signs in again is in.
    assert_eq!(said(&world, &issue().await).await, goes_on);
}

#[tokio::test]
async fn s07_a_revoked_session_is_over_and_the_others_are_not() {
    let world = World::new().await;
    let (id, first) = world.user("u@example.com", None, false).await;
    let second = sessions::issue(&world.app, &id, Duration::from_mins(1)).await.expect("a session");
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
