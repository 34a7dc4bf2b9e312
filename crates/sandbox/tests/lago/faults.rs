//! Scripted trouble: what a caller sees, and what was done nevertheless.

use crate::lab::{Answer, Lab, event};
use sandbox::lago::{Fault, FaultKind};
use serde_json::json;
use std::io;
use std::time::{Duration, Instant};

/// Sends `t1` with 2 units and waits a quarter of a second.
fn impatient(lab: &Lab) -> io::Result<Answer> {
    let headers = "Authorization: Bearer key\r\nContent-Type: application/json\r\n";
    let body = json!({"event": event("t1", "2")}).to_string();
    lab.raw("POST", "/api/v1/events", headers, &body, Duration::from_millis(250))
}

#[test]
fn f41_rate_limits_say_when_they_end() {
    let lab = Lab::furnished();
    lab.fault(1, FaultKind::rate_limited(50, 2));
    let answer = lab.event("t1", "2");
    let header = |name: &str| answer.headers[name].as_str();
    assert_eq!(
        (answer.status, header("x-ratelimit-limit"), header("x-ratelimit-remaining"), header("x-ratelimit-reset")),
        (429, "50", "0", "2")
    );
    assert_eq!(lab.event("t1", "2").status, 200, "nothing was stored before");
}

#[test]
fn errors_before_anything_is_done() {
    let lab = Lab::furnished();
    for status in [401, 500, 502, 503] {
        lab.fault(1, FaultKind::status(status));
        assert_eq!(lab.event("t1", "2").status, status);
    }
    for (kind, hangs) in [(FaultKind::Hang, true), (FaultKind::Close, false)] {
        lab.fault(1, kind.clone());
        let error = impatient(&lab).unwrap_err().kind();
        assert_eq!([io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error), hangs, "{kind:?}");
    }
    assert_eq!(lab.lago().events(), []);
    assert_eq!(lab.lago().requests().iter().filter(|request| request.path == "/api/v1/events").count(), 6);
}

#[test]
fn f42_replies_are_lost_after_the_commit() {
    for kind in [FaultKind::CommitThenClose, FaultKind::CommitThenHang, FaultKind::CommitThenStatus { status: 502 }] {
        let lab = Lab::furnished();
        lab.fault(1, kind.clone());
        assert!(
            impatient(&lab).is_ok_and(|answer| answer.status == 502)
                == matches!(kind, FaultKind::CommitThenStatus { .. })
        );
        assert_eq!(impatient(&lab).unwrap().details(), r#"{"transaction_id":["value_already_exist"]}"#, "{kind:?}");
        assert_eq!(lab.units(), "2.0 1 1", "{kind:?}");
    }
}

#[test]
fn slow_answers_arrive() {
    let lab = Lab::furnished();
    lab.fault(1, FaultKind::Slow { milliseconds: 120 });
    let begun = Instant::now();
    assert_eq!(lab.event("t1", "2").status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(120));
}

#[test]
fn lago_before_1_39_stores_a_part_of_a_refused_batch() {
    let lab = Lab::furnished();
    lab.lago().faults().push(Fault::always("", FaultKind::LegacyPartialStore));
    lab.event("stored", "1");
    let answer = lab.batch(vec![event("a", "1"), event("stored", "1"), event("b", "1")]);
    assert_eq!(answer.details(), r#"{"1":{"transaction_id":["value_already_exist"]}}"#);
    assert_eq!(lab.units(), "3.0 3 2");
    assert_eq!(lab.batch(vec![event("c", "1"), event("c", "1")]).status, 500);
    assert_eq!(lab.units(), "3.0 3 2");
    lab.lago().faults().clear();
    assert_eq!(lab.batch(vec![event("d", "1"), event("a", "1")]).status, 422);
    assert_eq!(lab.units(), "3.0 3 2", "from 1.39 on it is all or nothing");
}

#[test]
fn usage_is_stale_while_the_jobs_stand_still() {
    let lab = Lab::furnished();
    lab.event("t1", "1");
    lab.lago().faults().push(Fault::always("", FaultKind::StaleUsage));
    lab.event("t2", "1");
    assert_eq!(lab.units(), "1.0 1 1");
    assert_eq!(lab.lago().usage("sub", "api"), Some(("2.0".into(), 2)), "it is stored all the same");
    lab.lago().faults().clear();
    assert_eq!(lab.units(), "2.0 2 1");
}

#[test]
fn the_script_is_written_over_http_too() {
    let lab = Lab::furnished();
    let json = "Content-Type: application/json\r\n";
    let control = |method: &str, headers: &str, body: &str| {
        lab.raw(method, "/_sandbox/faults", headers, body, Duration::from_secs(5)).unwrap()
    };
    let line = r#"{"method":"POST","path_prefix":"/api/v1/events/batch","times":1,"kind":"status","status":503}"#;
    assert_eq!(control("POST", "", line).status, 415);
    assert_eq!(control("POST", json, r#"{"kind":"mystery"}"#).status, 422);
    assert_eq!(control("POST", json, line).status, 201);
    assert_eq!(control("GET", "", "").body["faults"][0]["status"], 503);
    assert_eq!(lab.event("t1", "1").status, 200);
    assert_eq!(lab.batch(vec![event("t2", "1")]).status, 503);
    assert_eq!(lab.batch(vec![event("t2", "1")]).status, 200);
    control("POST", json, line);
    assert_eq!(control("DELETE", "", "").body, json!({"faults": []}));
    let asked = lab.raw("GET", "/_sandbox/requests", "", "", Duration::from_secs(5)).unwrap();
    let last = asked.body["requests"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (last["path"].as_str(), last["at"].as_str()),
        (Some("/api/v1/events/batch"), Some("2026-11-22T10:00:00.123456Z"))
    );
}
