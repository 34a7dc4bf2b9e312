//! What every answer carries, whoever makes it.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use billhook::http::door::Limits;
use billhook::http::edge::Settings;
use billhook::http::metrics;
use billhook::telemetry::Metrics;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::{Doorway, Reply, connect, listener, rooms, runtime, settings};

/// Requests that end in every kind of answer: by handlers, the router, the framework, the edge and hyper.
fn one_of_each() -> Vec<(String, u16)> {
    let head = |line: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\r\n");
    let long = "x".repeat(9_000);
    let mut all: Vec<(String, u16)> = [
        ("GET /ok", 200),
        ("GET /moved", 307),
        ("GET /docs", 200),
        ("GET /docs/openapi.json", 200),
        ("GET /docs/errors/not_found", 200),
        ("GET /docs/errors/nothing", 404),
        ("GET /healthz", 200),
        ("GET /readyz", 503),
        ("GET /query?limit=zillion", 400),
        ("GET /fail/required", 401),
        ("GET /fail/forbidden", 403),
        ("GET /fail/conflict", 409),
        ("GET /fail/invalid", 422),
        ("GET /fail/limit", 429),
        ("GET /fail/busy", 503),
        ("GET /fail/stripe", 500),
        ("GET /fail/database", 503),
        ("GET /fail/internal", 500),
        ("GET /fail/html", 502),
        ("GET /nowhere", 404),
        ("GET /.env", 404),
        ("GET /metrics", 404),
        ("GET /panic", 500),
        ("DELETE /ok", 405),
        ("OPTIONS /ok", 405),
        ("TRACE /ok", 405),
        ("BREW /ok", 405),
        ("POST /json", 415),
    ]
    .into_iter()
    .map(|(line, status)| (head(line), status))
    .collect();
    all.extend([
        (head(&format!("GET /ok?{long}")), 414),
        ("GET /ok HTTP/1.1\r\nHost: evil\r\n\r\n".to_owned(), 421),
        ("GET /ok HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("POST /json HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048577\r\n\r\n".to_owned(), 413),
        (format!("GET /ok HTTP/1.1\r\nHost: localhost\r\nX: {long}{long}\r\n\r\n"), 431),
        ("GET /ok HTTP/1.1\r\nHost: localhost\r\nbroken\r\n\r\n".to_owned(), 400),
    ]);
    all
}

#[test]
fn s19_s17_every_answer_carries_the_security_headers_and_no_cors() {
    let door = Doorway::open(Limits::default());
    for (request, status) in one_of_each() {
        let reply = door.send(request.as_bytes());
        let line = &request[..request.len().min(60)];
        assert_eq!(reply.status, status, "{line}: {reply:?}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("x-frame-options", "DENY"),
        ] {
            assert_eq!(reply.header(name), value, "{name} of {line}");
        }
        assert!(reply.header("content-security-policy").contains("frame-ancestors 'none'"), "{line}");
        assert!(matches!(reply.header("cache-control"), "private, no-store" | "public, no-cache"), "{line}");
        assert!(reply.header("x-request-id").starts_with("req_") && reply.header("x-request-id").len() == 30, "{line}");
        let foreign = |name: &&String| {
            name.starts_with("access-control") || *name == "server" || *name == "strict-transport-security"
        };
        assert_eq!(reply.headers.keys().find(foreign), None, "{line}");
    }
}

#[test]
fn every_error_is_a_problem_document_without_secrets() {
    let door = Doorway::open(Limits::default());
    for (request, status) in
        one_of_each().into_iter().filter(|(line, status)| *status >= 400 && !line.contains("/readyz"))
    {
        let reply = door.send(request.as_bytes());
        let line = &request[..request.len().min(60)];
        assert_eq!(reply.header("content-type"), "application/problem+json", "{line}");
        let problem = reply.json();
        assert_eq!(problem["status"], status, "{line}");
        assert_eq!(problem["request_id"], reply.header("x-request-id"), "{line}");
        assert_eq!(problem["type"], format!("/docs/errors/{}", reply.code()), "{line}");
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{line}");
        let text = String::from_utf8_lossy(&reply.body);
        for secret in ["sk_live", "example.com", "SELECT", "<html", "on purpose", ".rs", "zillion"] {
            assert!(!text.contains(secret), "S-56, S-61: {secret} in {text}");
        }
    }
}

#[test]
fn errors_say_what_a_client_needs_to_go_on() {
    let door = Doorway::open(Limits::default());
    for (line, header, value) in [
        ("GET /fail/required", "www-authenticate", "Cookie realm=\"billhook\", cookie-name=\"session_token\""),
        ("GET /fail/stripe", "retry-after", "2"),
        ("GET /fail/limit", "retry-after", "2"),
        ("POST /ok", "allow", "GET,HEAD"),
        ("TRACE /ok", "allow", "GET,HEAD"),
        ("BREW /ok", "allow", "GET,HEAD"),
        ("CONNECT localhost:80", "allow", ""),
    ] {
        assert_eq!(door.ask(&format!("{line} HTTP/1.1")).header(header), value, "{line}");
    }
    let invalid = door.ask("GET /fail/invalid HTTP/1.1").json();
    assert_eq!(invalid["errors"], json!([{"pointer": "?limit", "detail": "a number from 1 to 100"}]));
}

#[test]
fn s19_browsers_are_told_to_stay_on_https_only_where_there_is_https() {
    let door = Doorway::with(Limits::default(), Settings { https: true, ..settings() }, rooms());
    for line in ["GET /ok", "GET /nowhere"] {
        assert_eq!(door.ask(&format!("{line} HTTP/1.1")).header("strict-transport-security"), "max-age=31536000");
    }
}

#[test]
fn a_request_has_one_id_and_it_is_ours() {
    let door = Doorway::open(Limits::default());
    let reply = door.ask("GET /ok HTTP/1.1\r\nX-Request-Id: req_mine");
    assert_ne!(reply.header("x-request-id"), "req_mine");
    let ids: std::collections::BTreeSet<_> =
        (0..50).map(|_| door.ask("GET /ok HTTP/1.1").header("x-request-id").to_owned()).collect();
    assert_eq!(ids.len(), 50);
}

#[test]
fn the_documentation_has_its_own_policy_and_is_not_sent_twice() {
    let door = Doorway::open(Limits::default());
    let page = door.ask("GET /docs HTTP/1.1");
    assert!(page.header("content-security-policy").contains("style-src 'self'"));
    assert!(!page.header("content-security-policy").contains("unsafe"));
    let again = door.ask(&format!("GET /docs HTTP/1.1\r\nIf-None-Match: {}", page.header("etag")));
    assert_eq!((again.status, again.body.len()), (304, 0));
    assert_eq!(door.ask("GET /docs/openapi.json HTTP/1.1").json()["info"]["title"], "Small");
}

#[test]
fn readiness_names_what_is_missing() {
    let door = Doorway::open(Limits::default());
    assert_eq!(door.ask("GET /healthz HTTP/1.1").json(), json!({"status": "ok"}));
    let reply = door.ask("GET /readyz HTTP/1.1");
    let missing = json!([{"part": "mirror", "detail": "nothing was synced yet: run billhook sync"}]);
    assert_eq!((reply.status, &reply.json()["missing"]), (503, &missing));
}

#[test]
fn s62_metrics_are_on_a_listener_of_their_own() {
    let counted = Arc::new(Metrics::new());
    counted.http.answered(0, 200, Duration::from_micros(90));
    let (listener, address) = listener();
    let (stop, stopped) = oneshot::channel::<()>();
    let theirs = Arc::clone(&counted);
    let thread = std::thread::spawn(move || {
        runtime().block_on(async move {
            let listener = TcpListener::from_std(listener)?;
            metrics::serve_metrics(listener, theirs, async { drop(stopped.await) }).await
        })
    });
    let ask = |line: &str| {
        let mut stream = connect(address);
        stream.write_all(format!("{line} HTTP/1.1\r\nHost: any.name\r\n\r\n").as_bytes()).unwrap();
        Reply::read(&mut stream).unwrap()
    };
    let page = ask("GET /metrics");
    assert!(String::from_utf8_lossy(&page.body).contains("billhook_http_requests_total{status=\"2xx\"} 1"));
    assert!(page.header("content-type").starts_with("application/openmetrics-text"));
    for (line, status) in [("GET /", 404), ("GET /ok", 404), ("POST /metrics", 405), ("GET /docs", 404)] {
        assert_eq!(ask(line).status, status, "{line}");
    }
    drop(stop);
    thread.join().unwrap().unwrap();
}
