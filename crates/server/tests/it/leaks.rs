//! What the real binary says: nothing secret, nothing personal, and every line of log is one object.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use billhook::clock::{Clock, System};
use sandbox::{Fault, FaultKind};

use crate::access::operations;
use crate::harness::database::{Database, variable};
use crate::harness::made_up::{answer, listen};
use crate::harness::program::{Done, Program, Running, get};
use crate::harness::{KEY, client, send};

const EMAIL: &str = "canary.person@leak.test";
const NAME: &str = "Canaryname Leaksson";
/// A key that is not ours.
const OTHER: &str = "rk_live_otherOTHER5678";

/// The lines of log among what was said on stderr; each is one JSON object, or the test fails.
fn log_lines(done: &Done) -> Vec<serde_json::Value> {
    let lines = done.stderr.lines().filter(|line| line.trim_start().starts_with('{'));
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[track_caller]
fn says_nothing_of(done: &Done, canaries: &[&str]) {
    for canary in canaries {
        assert!(canary.len() > 4, "{canary:?} is found everywhere");
        for (channel, text) in [("stdout", &done.stdout), ("stderr", &done.stderr)] {
            let line = text.lines().find(|line| line.contains(canary));
            assert_eq!(line, None, "{canary} is on {channel}");
        }
    }
}

/// A sandbox with the machine's clock, as the binary has it.
async fn stripe() -> sandbox::Sandbox {
    let config = sandbox::Config {
        listen: ([127, 0, 0, 1], 0).into(),
        key: Some(KEY.to_owned()),
        state: None,
        seed: sandbox::Seed::Business,
        now: Arc::new(|| System.now()),
    };
    sandbox::start(config).await.expect("a sandbox")
}

/// A server that answers every request with these bytes.
fn always(answer: String) -> String {
    format!("http://127.0.0.1:{}", listen(move |guest| answer_once(guest, &answer)))
}

fn answer_once(mut guest: TcpStream, answer: &str) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        guest.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    guest.write_all(answer.as_bytes())
}

fn said(status: u16, kind: &str, body: &str) -> String {
    answer(status, &format!("Content-Type: {kind}\r\nConnection: close\r\n"), body)
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// A user and an admin with a session each.
fn people(program: &Program, customer: Option<&str>) -> [String; 2] {
    let mut add = vec!["user", "add", "--email", EMAIL, "--name", NAME];
    add.extend(customer.iter().flat_map(|customer| ["--customer", *customer]));
    let user = program.run(&add);
    let admin = program.run(&["user", "add", "--email", "canary.admin@leak.test", "--name", NAME, "--admin"]);
    [user, admin].map(|added| program.run(&["session", "issue", "--user", added.line()]).line().to_owned())
}

/// Everything that can be asked, rightly and wrongly, by everybody.
async fn ask_everything(base: &str, tokens: &[String]) {
    let http = client();
    let bad = format!("limit={EMAIL}&status={NAME}&cursor={KEY}&user_id={EMAIL}").replace(' ', "%20");
    for path in operations().into_iter().map(|operation| operation.path) {
        for token in tokens.iter().map(Some).chain([None]) {
            for url in [format!("{base}{path}"), format!("{base}{path}?{bad}"), format!("{base}{path}/{EMAIL}")] {
                get(&url, token.map(String::as_str)).await;
            }
        }
        let twice = format!("session_token={}; session_token={}", tokens[0], tokens[1]);
        for headers in
            [[("cookie", twice.as_str()), ("x", NAME)], [("host", "canary.leak.test"), ("authorization", KEY)]]
        {
            send(&http, "POST", &format!("{base}{path}"), &headers, EMAIL).await;
        }
    }
}

/// What a run with everybody and everything leaves behind.
async fn served(program: &Program, tokens: &[String], until: &str) -> Done {
    let running = program.start(&["serve", "--listen", "127.0.0.1:0"]);
    let base = running.stderr.base();
    running.stderr.line(until);
    ask_everything(&base, tokens).await;
    let done = running.stop();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn s56_s58_a_run_on_good_and_bad_days_says_nothing_secret_or_personal() {
    let stripe = stripe().await;
    let program =
        Program::at_stripe(&stripe.base_url()).with("BILLHOOK_LOG", "trace").with("BILLHOOK_SYNC_INTERVAL", "1s");
    // The user's address is one customer's, the admin's two customers'.
    for email in [EMAIL, "canary.admin@leak.test", "canary.admin@leak.test"] {
        let form = format!("email={}&name={}", email.replace('@', "%40"), NAME.replace(' ', "%20"));
        let (key, url) = (format!("Bearer {KEY}"), format!("{}/v1/customers", stripe.base_url()));
        let headers = [("authorization", key.as_str()), ("content-type", "application/x-www-form-urlencoded")];
        assert_eq!(send(&client(), "POST", &url, &headers, &form).await.status, 200);
    }
    let tokens = people(&program, None);

    let running = program.start(&["serve", "--listen", "127.0.0.1:0"]);
    let base = running.stderr.base();
    running.stderr.line("synced with Stripe");
    ask_everything(&base, &tokens).await;
    for kind in
        [FaultKind::Status { status: 401, retry_after: None, should_retry: None }, FaultKind::Html, FaultKind::CutJson]
    {
        stripe.faults().push(Fault { method: None, path_prefix: "/v1/".to_owned(), after: 0, times: Some(50), kind });
    }
    running.stderr.line("did not come to its end");
    ask_everything(&base, &tokens).await;
    let done = running.stop();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(log_lines(&done).len() > 100, "at `trace` there is much to say");
    assert!(done.stderr.contains("several customers have this address"), "{}", done.stderr);
    says_nothing_of(
        &done,
        &[KEY, &KEY[8..], &tokens[0], &tokens[1], &tokens[0][4..], EMAIL, "canary.admin", "Canaryname", "@example."],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn s56_a_stripe_that_quotes_the_key_is_not_quoted() {
    // Ours, somebody else's, and a person: whatever a proxy or a mistaken server puts there.
    let message = format!("Invalid API Key {KEY}, {OTHER} of {EMAIL}; Authorization: Bearer {KEY}");
    let quoting = format!(r#"{{"error":{{"message":"{message}","type":"invalid_request_error"}}}}"#);
    let page = format!("<html><body>proxy error for Authorization: Bearer {KEY}</body></html>");
    for (answer, until) in [
        (said(401, "application/json", &quoting), "does not accept the key"),
        (said(403, "text/html", &page), "does not accept the key"),
        (said(402, "application/json", &quoting), "did not come to its end"),
    ] {
        let program = Program::at_stripe(&always(answer)).with("BILLHOOK_LOG", "trace");
        let tokens = people(&program, Some("cus_canary"));
        let done = served(&program, &tokens, until).await;
        assert!(log_lines(&done).len() > 10);
        says_nothing_of(&done, &[KEY, &KEY[8..], OTHER, &tokens[0], &tokens[1], EMAIL, "Canaryname", "<html"]);
        for args in [&["sync"][..], &["doctor"], &["doctor", "--json"], &["config"], &["config", "--json"]] {
            says_nothing_of(&program.run(args), &[KEY, &KEY[8..], OTHER, EMAIL, "<html"]);
        }
    }
}

#[test]
fn s57_what_stripe_says_cannot_forge_a_line_of_log() {
    let forged =
        "forged\\r\\n{\\\"level\\\":\\\"ERROR\\\",\\\"message\\\":\\\"forged\\\"}\\u001b[31m\\u2028{\\\"level\\\"";
    let body = format!(r#"{{"error":{{"message":"{forged}","type":"invalid_request_error"}}}}"#);
    let program = Program::at_stripe(&always(said(401, "application/json", &body)));
    let running = program.start(&["serve", "--listen", "127.0.0.1:0"]);
    running.stderr.line("did not come to its end");
    let served = running.stop();
    assert!(!log_lines(&served).is_empty());
    for done in [served, program.run(&["sync"]), program.run(&["doctor"])] {
        for text in [&done.stdout, &done.stderr] {
            assert!(!text.lines().any(|line| line.trim_start().starts_with("{\"level\":\"ERROR\"")), "{text}");
            assert!(!text.contains(['\u{1b}', '\r', '\u{2028}']), "{text:?}");
        }
        log_lines(&done);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s56_the_passwords_of_redis_and_the_database_stay_inside() {
    let database = Database::postgres();
    let address = database.address();
    let password = address.split(['@', ':']).nth(2).expect("a password").to_owned();
    let program = Program::new()
        .with("DATABASE_URL", &address)
        .with("REDIS_URL", "redis://someone:canaryredis99@127.0.0.1:1/")
        .with("BILLHOOK_LOG", "trace");
    let mut tokens = people(&program, None).to_vec();
    tokens.push("A".repeat(43)); // might be a session of Ops Center's
    let running = program.start(&["serve", "--listen", "127.0.0.1:0"]);
    let base = running.stderr.base();
    ask_everything(&base, &tokens).await;
    drop(database);
    ask_everything(&base, &tokens).await;
    let done = running.stop();
    let failed = log_lines(&done).iter().filter(|line| line["message"] == "upstream failed").count();
    assert!(failed > 5, "both are away, and the log says so");
    let canaries = [password.as_str(), "canaryredis99", &tokens[0], &tokens[2], EMAIL];
    says_nothing_of(&done, &canaries);
    for args in [&["doctor"][..], &["migrate"], &["config"], &["user", "list"]] {
        says_nothing_of(&program.run(args), &canaries);
    }
    let wrong = variable("BILLHOOK_TEST_POSTGRES").replace(&password, "canarywrong99");
    for address in
        [wrong.as_str(), "postgres://someone:canarywrong99@127.0.0.1:1/x", "mysql://someone:canarywrong99@h/x"]
    {
        let done = Program::new().with("DATABASE_URL", address).run(&["migrate"]);
        assert_eq!(done.code, Some(78), "{done:?}");
        says_nothing_of(&done, &["canarywrong99"]);
    }
}

#[tokio::test]
async fn s62_the_numbers_are_on_their_own_listener_and_nothing_else_is_anywhere() {
    let listen = format!("127.0.0.1:{}", free_port());
    let program = Program::new().with("BILLHOOK_METRICS_LISTEN", &listen);
    let running: Running = program.start(&["serve", "--listen", "127.0.0.1:0"]);
    let base = running.stderr.base();
    let aside = format!("http://{listen}");
    for path in [
        "/debug",
        "/debug/pprof",
        "/.env",
        "/.git/config",
        "/.well-known/x",
        "/server-status",
        "/actuator",
        "/openapi.json",
        "/billhook.db",
        "/docs/",
        "/docs/../billhook.db",
        "/admin",
    ] {
        assert_eq!(get(&format!("{base}{path}"), None).await.status, 404, "{path}");
        assert_eq!(get(&format!("{aside}{path}"), None).await.status, 404, "{path} aside");
    }
    assert_eq!(get(&format!("{base}/metrics"), None).await.status, 404);
    for path in ["/healthz", "/docs", "/api/v1/billing/usage"] {
        assert_eq!(get(&format!("{aside}{path}"), None).await.status, 404, "{path} aside");
    }
    let numbers = get(&format!("{aside}/metrics"), None).await;
    assert_eq!(numbers.status, 200);
    assert!(numbers.body.contains("billhook_http_requests_total{status=\"4xx\"} 13\n"), "{}", numbers.body);
    assert_eq!(running.stop().code, Some(0));
}
