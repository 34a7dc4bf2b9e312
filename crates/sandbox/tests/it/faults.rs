//! Scripted trouble, rows F-27 to F-34: what a caller sees, and what was done nevertheless.

use crate::lab::{Answer, Lab, raw};
use sandbox::{Fault, FaultKind, Seed};
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn lab() -> Lab {
    Lab::new(Seed::Business)
}

fn status(status: u16) -> FaultKind {
    FaultKind::Status { status, retry_after: None, should_retry: None }
}

/// One customer more with this name, or none.
fn made(lab: &Lab) -> usize {
    lab.get("/v1/customers?limit=10").rows().iter().filter(|row| row["name"] == "Trouble").count()
}

fn impatient(lab: &Lab, method: &str, path: &str, form: &str) -> io::Result<Answer> {
    let headers = [("Authorization", "Bearer sk_test_lab"), ("Idempotency-Key", "trouble")];
    raw(lab.sandbox().addr(), method, path, &headers, form, Duration::from_millis(400))
}

#[test]
fn f27_rate_limits_with_and_without_retry_after() {
    let lab = lab();
    lab.fault(
        "/v1/customers",
        1,
        FaultKind::Status { status: 429, retry_after: Some("3".into()), should_retry: Some(true) },
    );
    lab.fault("/v1/customers", 1, status(429));
    let (with, without) = (lab.get("/v1/customers"), lab.get("/v1/customers"));
    assert_eq!(with.error(), "429 invalid_request_error rate_limit -");
    assert_eq!((with.header("retry-after"), with.header("stripe-should-retry")), ("3", "true"));
    assert_eq!((without.status, without.header("retry-after")), (429, ""));
    assert_eq!(lab.get("/v1/customers").status, 200);
}

#[test]
fn f28_errors_with_a_body_of_stripes_form() {
    let lab = lab();
    for code in [500, 502, 503] {
        lab.fault("/v1/customers", 1, status(code));
        let answer = lab.post("/v1/customers", "name=Trouble");
        assert_eq!(answer.error(), format!("{code} api_error - -"));
    }
    assert_eq!(made(&lab), 0);
}

#[test]
fn f28_connection_reset() {
    let lab = lab();
    lab.fault("/v1/customers", 1, FaultKind::Reset);
    let error = impatient(&lab, "POST", "/v1/customers", "name=Trouble").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(made(&lab), 0);
}

#[test]
fn f29_executed_but_never_answered() {
    for kind in [FaultKind::TimeoutAfterCommit, FaultKind::DropAfterCommit] {
        let lab = lab();
        lab.fault("/v1/customers", 1, kind.clone());
        let send = || impatient(&lab, "POST", "/v1/customers", "name=Trouble");
        let error = send().unwrap_err().kind();
        let hung = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error);
        assert_eq!(hung, kind == FaultKind::TimeoutAfterCommit, "{error:?}");
        let again = send().unwrap();
        assert_eq!((again.status, again.header("idempotent-replayed")), (200, "true"), "{kind:?}");
        assert_eq!(made(&lab), 1, "{kind:?}");
    }
}

#[test]
fn a_hang_executes_nothing() {
    let lab = lab();
    lab.fault("/v1/customers", 1, FaultKind::Hang);
    impatient(&lab, "POST", "/v1/customers", "name=Trouble").unwrap_err();
    assert_eq!(made(&lab), 0);
    let after = impatient(&lab, "POST", "/v1/customers", "name=Trouble").unwrap();
    assert_eq!((after.status, made(&lab)), (200, 1));
}

#[test]
fn f30_conflict_and_whether_to_retry() {
    let lab = lab();
    lab.fault("/v1/customers", 1, FaultKind::Status { status: 409, retry_after: None, should_retry: Some(false) });
    let answer = lab.post("/v1/customers", "name=Trouble");
    assert_eq!(answer.error(), "409 idempotency_error idempotency_key_in_use -");
    assert_eq!(answer.header("stripe-should-retry"), "false");
}

#[test]
fn f31_pages_that_lie() {
    let lab = lab();
    lab.fault("/v1/customers", 2, FaultKind::HasMoreLie);
    assert_eq!(lab.get("/v1/customers?limit=5").body["has_more"], false);
    assert_eq!(lab.get("/v1/customers?email=ada%40example.com").body["has_more"], true);
    lab.fault("/v1/customers", 1, FaultKind::DuplicateRows);
    let page = lab.get("/v1/customers?limit=5");
    assert_eq!((page.rows().len(), page.ids()[0]), (6, page.ids()[1]));
}

#[test]
fn f31_truncated_in_the_middle_of_a_walk() {
    let lab = lab();
    lab.sandbox().faults().push(Fault::new("/v1/customers", 1, FaultKind::TruncatedBody).method("GET").after(1));
    let first = lab.get("/v1/customers?limit=50");
    let next = format!("/v1/customers?limit=50&starting_after={}", first.ids()[49]);
    assert_eq!(lab.send("GET", &next, &[], "").unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(lab.get(&next).rows().len(), 50);
}

#[test]
fn f32_a_200_that_is_none() {
    let lab = lab();
    lab.fault("/v1/customers", 1, FaultKind::Html);
    let html = lab.get("/v1/customers");
    assert_eq!((html.status, html.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(html.text.starts_with("<!doctype html>"));
    lab.fault("/v1/customers", 1, FaultKind::CutJson);
    let cut = lab.get("/v1/customers");
    assert_eq!((cut.status, cut.header("content-type")), (200, "application/json"));
    assert!(cut.text.starts_with("{\"object\":\"list\"") && cut.body.is_null());
    lab.fault("/v1/customers", 1, FaultKind::HugeBody { bytes: 3_000_000 });
    let huge = lab.get("/v1/customers");
    assert_eq!((huge.status, huge.text.len()), (200, 3_000_000));
    assert!(huge.text.starts_with("{\"object\":\"list\",\"data\":["));
}

#[test]
fn f33_slow_bodies() {
    let lab = lab();
    lab.fault("/v1/customers/cus_sandbox_user", 1, FaultKind::SlowBody { bytes_per_second: 2_000 });
    let begun = Instant::now();
    let slow = lab.get("/v1/customers/cus_sandbox_user");
    assert_eq!(slow.body["email"], "ada@example.com");
    assert!(begun.elapsed() > Duration::from_millis(250), "{:?}", begun.elapsed());
}

/// A byte every now and then defeats a read timeout; only a deadline over the whole helps.
#[test]
fn f33_headers_that_never_end() {
    let lab = lab();
    lab.fault("/v1/customers", 1, FaultKind::EndlessHeaders);
    let mut stream = TcpStream::connect(lab.sandbox().addr()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(900))).unwrap();
    stream.write_all(b"GET /v1/customers HTTP/1.1\r\nHost: sandbox\r\n\r\n").unwrap();
    let (mut seen, mut part) = (Vec::new(), [0; 512]);
    while seen.len() < 150 {
        let size = stream.read(&mut part).unwrap();
        assert!(size > 0, "the connection stays open");
        seen.extend_from_slice(&part[..size]);
    }
    assert!(seen.starts_with(b"HTTP/1.1 200 OK\r\n") && !seen.windows(4).any(|four| four == b"\r\n\r\n"));
    assert_eq!(lab.get("/v1/account").status, 200, "others are served meanwhile");
}

#[test]
fn f34_a_key_that_was_revoked() {
    let lab = lab();
    lab.fault("/v1/", 1, status(401));
    lab.fault("/v1/", 1, status(403));
    assert_eq!(lab.get("/v1/customers").error(), "401 invalid_request_error - -");
    assert_eq!(lab.get("/v1/customers").error(), "403 invalid_request_error - -");
}

#[test]
fn the_script_can_be_written_from_outside() {
    let lab = lab();
    let send = |method: &str, kind: &str, body: &str| {
        raw(lab.sandbox().addr(), method, "/_sandbox/faults", &[("Content-Type", kind)], body, Duration::from_secs(5))
            .unwrap()
    };
    let one = r#"{"method":"GET","path_prefix":"/v1/charges","times":1,"kind":"status","status":503}"#;
    assert_eq!(send("POST", "application/json", one).status, 201);
    assert_eq!((lab.get("/v1/charges").status, lab.get("/v1/charges").status), (503, 200));
    assert_eq!(send("POST", "application/json", &format!("[{one},{{\"kind\":\"reset\"}}]")).status, 201);
    assert_eq!(lab.sandbox().faults().pending().len(), 2);
    assert_eq!(send("DELETE", "", "").status, 200);
    assert_eq!(lab.get("/v1/charges").status, 200);
    assert_eq!(send("POST", "text/plain", one).status, 415, "which a foreign web page could send");
    assert_eq!(send("POST", "application/json", r#"{"kind":"earthquake"}"#).status, 422);
}

#[test]
fn requests_are_remembered_without_their_key() {
    let lab = lab();
    lab.get("/v1/customers?limit=1");
    lab.send("POST", "/v1/customers", &[("Idempotency-Key", "k"), ("Stripe-Version", "2025-03-31.basil")], "name=x")
        .unwrap();
    let requests = lab.sandbox().requests();
    let last = requests.last().unwrap();
    assert_eq!((last.method.as_str(), last.path.as_str(), last.body.as_str()), ("POST", "/v1/customers", "name=x"));
    assert_eq!(
        (last.idempotency_key.as_deref(), last.stripe_version.as_deref()),
        (Some("k"), Some("2025-03-31.basil"))
    );
    assert_eq!(requests[requests.len() - 2].query, "limit=1");
    assert!(!format!("{requests:?}").contains("sk_test_lab"));
}
