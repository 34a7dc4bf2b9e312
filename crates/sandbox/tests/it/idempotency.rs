//! Idempotency keys.

use crate::lab::Lab;
use sandbox::{FaultKind, Seed};
use std::thread;
use std::time::Duration;

fn customers(lab: &Lab) -> usize {
    lab.get("/v1/customers?limit=100").rows().len()
}

#[test]
fn the_same_again_is_the_same_answer() {
    let lab = Lab::new(Seed::Empty);
    let send = |form: &str| lab.post_once("key-1", "/v1/customers", form).unwrap();
    let first = send("name=Ada&metadata[a]=1");
    let again = send("metadata[a]=1&name=Ada");
    assert_eq!((first.status, again.status, &first.text), (200, 200, &again.text));
    assert_eq!((first.header("idempotent-replayed"), again.header("idempotent-replayed")), ("", "true"));
    assert_eq!(first.header("original-request"), first.header("request-id"));
    assert_eq!(again.header("original-request"), first.header("request-id"));
    assert_ne!(again.header("request-id"), first.header("request-id"));
    assert_eq!(again.header("idempotency-key"), "key-1");
    assert_eq!(customers(&lab), 1);
}

/// F-30: 400 for another request under the same key, be it other parameters or another path.
#[test]
fn other_parameters_are_refused() {
    let lab = Lab::new(Seed::Empty);
    lab.post_once("key-1", "/v1/customers", "name=Ada").unwrap();
    for (path, form) in [("/v1/customers", "name=Eve"), ("/v1/products", "name=Ada")] {
        let answer = lab.post_once("key-1", path, form).unwrap();
        assert_eq!(answer.error(), "400 idempotency_error - -", "{path} {form}");
        assert!(answer.body["error"]["message"].as_str().unwrap().contains("Try using a key other than 'key-1'"));
    }
    assert_eq!(customers(&lab), 1);
}

/// F-30: 409 while the first is still running, and then the first one's answer.
#[test]
fn in_flight_is_a_conflict() {
    let lab = Lab::new(Seed::Empty);
    lab.fault("/v1/customers", 1, FaultKind::Delay { milliseconds: 400 });
    let (first, second) = thread::scope(|scope| {
        let first = scope.spawn(|| lab.post_once("key-1", "/v1/customers", "name=Ada").unwrap());
        thread::sleep(Duration::from_millis(150));
        let second = lab.post_once("key-1", "/v1/customers", "name=Ada").unwrap();
        (first.join().unwrap(), second)
    });
    assert_eq!(second.error(), "409 idempotency_error idempotency_key_in_use -");
    assert_eq!(second.header("stripe-should-retry"), "true");
    let third = lab.post_once("key-1", "/v1/customers", "name=Ada").unwrap();
    assert_eq!((third.text, third.status), (first.text, 200));
    assert_eq!(customers(&lab), 1);
}

#[test]
fn a_bad_request_is_not_kept_and_a_500_is() {
    let lab = Lab::new(Seed::Empty);
    let send = |key: &str, form: &str| lab.post_once(key, "/v1/customers", form).unwrap();
    assert_eq!(send("a", "email=nobody").status, 400);
    assert_eq!(send("a", "email=some%40example.com").status, 200);
    lab.fault("/v1/customers", 1, FaultKind::Status { status: 500, retry_after: None, should_retry: None });
    assert_eq!(send("b", "name=Ada").status, 500);
    let again = send("b", "name=Ada");
    assert_eq!((again.status, again.header("idempotent-replayed")), (500, "true"));
    // What never reached the work is not kept: the same key may try again.
    lab.fault("/v1/customers", 1, FaultKind::Status { status: 503, retry_after: None, should_retry: None });
    assert_eq!((send("c", "name=Ada").status, send("c", "name=Ada").status), (503, 200));
    assert_eq!(customers(&lab), 2);
}

#[test]
fn a_decline_is_kept() {
    let lab = Lab::new(Seed::Empty);
    let form = "amount=100&currency=usd&source=tok_chargeDeclined";
    let send = || lab.post_once("a", "/v1/charges", form).unwrap();
    let (first, again) = (send(), send());
    assert_eq!(first.error(), "402 card_error card_declined -");
    assert_eq!((again.status, first.text), (402, again.text));
    assert_eq!(lab.get("/v1/charges").rows().len(), 1);
}

#[test]
fn a_key_is_forgotten_after_a_day() {
    let lab = Lab::new(Seed::Empty);
    lab.post_once("a", "/v1/customers", "name=Ada").unwrap();
    lab.wait(24 * 60 * 60 - 1);
    assert_eq!(lab.post_once("a", "/v1/customers", "name=Ada").unwrap().header("idempotent-replayed"), "true");
    lab.wait(1);
    assert_eq!(lab.post_once("a", "/v1/customers", "name=Eve").unwrap().status, 200);
}

#[test]
fn keys_count_for_writes_only() {
    let lab = Lab::new(Seed::Business);
    let get = |path: &str| lab.send("GET", path, &[("Idempotency-Key", "a")], "").unwrap().status;
    assert_eq!((get("/v1/customers?limit=1"), get("/v1/customers?limit=2")), (200, 200));
}
