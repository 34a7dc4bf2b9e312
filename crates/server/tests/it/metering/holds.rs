//! Check, reserve, commit, release: what each answers, and what is wrong with each member.

use billhook::ops::reservations::{self, Commit};
use billing::usage::Quantity;
use futures_util::future::FutureExt;
use serde_json::{Value, json};

use super::{EVENTS, Meter, fault};
use crate::harness::Answer;

const CHECK: &str = "/api/v1/usage/check";
const RESERVE: &str = "/api/v1/usage/reservations";

/// A user of the trial tier has 100 credits and no more.
fn ask(meter: &Meter, quantity: Value) -> Value {
    json!({ "user_id": meter.user, "type": "inference", "quantity": quantity })
}

fn hold(meter: &Meter, id: &str, quantity: Value) -> Value {
    let mut hold = ask(meter, quantity);
    hold["id"] = json!(id);
    hold["ttl_seconds"] = json!(60);
    hold
}

async fn reserve(meter: &Meter, hold: &Value) -> Answer {
    meter.post(RESERVE, &hold.to_string()).await
}

async fn release(meter: &Meter, id: &str) -> Answer {
    meter.world.request("DELETE", &format!("{RESERVE}/{id}"), &[("authorization", &meter.key)]).await
}

#[tokio::test]
async fn a_check_says_how_the_user_stands_and_counts_nothing() {
    let meter = Meter::new().await;
    for (quantity, allowed) in
        [(json!(100), true), (json!("100.000001"), false), (json!(0), true), (json!("0.5"), true)]
    {
        let answer = meter.post(CHECK, &ask(&meter, quantity.clone()).to_string()).await;
        let said = answer.json();
        assert_eq!((answer.status, &said["allowed"]), (200, &json!(allowed)), "{quantity}: {said}");
        assert_eq!(said["code"], if allowed { Value::Null } else { json!("credits.exhausted") });
        assert_eq!(said["remaining"], 100);
        let policy = answer.header("ratelimit-policy").expect("a policy");
        assert!(policy.starts_with("\"credits\";q=100;w="), "{policy}");
        assert!(answer.header("ratelimit").expect("a state").starts_with("\"credits\";r=100;t="));
    }
    assert_eq!(meter.used("inference").await, 0);
}

#[tokio::test]
async fn a_reservation_is_held_committed_once_and_then_counted() {
    let meter = Meter::new().await;
    let held = reserve(&meter, &hold(&meter, "r1", json!(40))).await;
    let expected = r#"{"id":"r1","status":"held","quantity":40,"expires_at":"2026-11-22T10:01:00Z","remaining":60,"undecided":false}"#;
    assert_eq!((held.status, held.body.as_str()), (201, expected));
    let again = reserve(&meter, &hold(&meter, "r1", json!("40.0"))).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (201, Some("true")), "S-36");
    assert_eq!(again.json()["id"], "r1");
    assert_eq!(meter.used("inference").await, 0);
    let commit = async |body: Value| meter.post(&format!("{RESERVE}/r1/commit"), &body.to_string()).await;
    let done = commit(json!({ "quantity": 25 })).await;
    let said = done.json();
    assert_eq!(
        (done.status, &said["status"], &said["quantity"], &said["late"]),
        (200, &json!("committed"), &json!(25), &json!(false))
    );
    assert_eq!((&said["id"], &said["remaining"]), (&json!("r1"), &json!(75)), "what was not used is free again");
    assert_eq!(done.header("idempotent-replayed"), None);
    let again = commit(json!({ "quantity": "25.0" })).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")));
    assert_eq!(again.json()["position"], said["position"]);
    assert_eq!(
        fault(&commit(json!({ "quantity": 26 })).await),
        (409, "usage.conflict".into(), vec!["/quantity".into()])
    );
    assert_eq!(meter.used("inference").await, 25);
}

#[tokio::test]
async fn a_released_reservation_is_free_and_resolved_at_most_once() {
    let meter = Meter::new().await;
    reserve(&meter, &hold(&meter, "r1", json!(100))).await;
    assert_eq!(reserve(&meter, &hold(&meter, "r2", json!(1))).await.status, 402);
    let released = release(&meter, "r1").await;
    assert_eq!((released.status, released.body.as_str()), (204, ""));
    assert_eq!(release(&meter, "r1").await.status, 204);
    assert_eq!(reserve(&meter, &hold(&meter, "r2", json!(1))).await.status, 201);
    assert_eq!(fault(&release(&meter, "nothing").await), (404, "not_found".into(), vec![]));
    meter.post(&format!("{RESERVE}/r2/commit"), r#"{"quantity":1}"#).await;
    assert_eq!(release(&meter, "r2").await.status, 409, "committed stays committed");
}

#[tokio::test]
async fn s37_a_refusal_is_402_says_how_the_limits_stand_and_where_there_is_more() {
    let meter = Meter::new().await;
    meter.post(EVENTS, &meter.changed("e1", "quantity", json!(99)).to_string()).await;
    let answer = reserve(&meter, &hold(&meter, "r1", json!("1.5"))).await;
    assert_eq!(fault(&answer), (402, "credits.exhausted".into(), vec![]), "{}", answer.body);
    assert_eq!(answer.json()["upgrade_url"], "http://localhost:8084/billing/upgrade");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert!(answer.header("ratelimit-policy").expect("a policy").starts_with("\"credits\";q=100;w="));
    assert!(answer.header("ratelimit").expect("a state").starts_with("\"credits\";r=1;t="));
}

#[tokio::test]
async fn s36_the_idempotency_key_names_a_reservation_that_has_no_id() {
    let meter = Meter::new().await;
    let body = ask(&meter, json!(1)).to_string();
    let send = async |key: &[&str], body: &str| {
        let mut headers = vec![("authorization", meter.key.as_str()), ("content-type", "application/json")];
        headers.extend(key.iter().map(|key| ("idempotency-key", *key)));
        meter.world.send("POST", RESERVE, &headers, body).await
    };
    let first = send(&["k-1"], &body).await;
    assert_eq!((first.status, &first.json()["id"]), (201, &json!("k-1")));
    assert_eq!(send(&["\"k-1\""], &body).await.header("idempotent-replayed"), Some("true"), "as a structured string");
    let both = hold(&meter, "k-2", json!(1)).to_string();
    assert_eq!(send(&["k-2"], &both).await.status, 201);
    assert_eq!(fault(&send(&["k-3"], &both).await).2, ["Idempotency-Key"]);
    assert_eq!(fault(&send(&["k-4", "k-4"], &body).await).2, ["Idempotency-Key"]);
    let made = send(&[], &body).await.json();
    assert!(made["id"].as_str().expect("an id").starts_with("res_"), "{made}");
    let other = ask(&meter, json!(2)).to_string();
    assert_eq!(fault(&send(&["k-1"], &other).await), (409, "usage.conflict".into(), vec!["/quantity".into()]));
}

#[tokio::test]
async fn each_member_that_is_wrong_is_refused_by_name() {
    let meter = Meter::new().await;
    let with = |member: &str, value: Value| {
        let mut body = hold(&meter, "r1", json!(1));
        match value {
            Value::Null => drop(body.as_object_mut().unwrap().remove(member)),
            value => body[member] = value,
        }
        body.to_string()
    };
    for (member, value, code) in [
        ("id", json!(""), "invalid"),
        ("id", json!("x".repeat(256)), "invalid"),
        ("id", json!(7), "invalid"),
        ("user_id", Value::Null, "invalid"),
        ("user_id", json!("a\u{0}"), "invalid"),
        ("user_id", json!("usr_nobody"), "user.unknown"),
        ("type", Value::Null, "invalid"),
        ("type", json!("telepathy"), "type.unknown"),
        ("quantity", Value::Null, "invalid"),
        ("quantity", json!(-1), "invalid"),
        ("quantity", json!("1e3"), "invalid"),
        ("quantity", json!([1]), "invalid"),
        ("ttl_seconds", json!(0), "invalid"),
        ("ttl_seconds", json!(86_401), "invalid"),
        ("ttl_seconds", json!(1.5), "invalid"),
        ("ttl_seconds", json!("60"), "invalid"),
        ("more", json!(1), "invalid"),
    ] {
        let body = with(member, value);
        let answer = meter.post(RESERVE, &body).await;
        assert_eq!(fault(&answer), (422, code.into(), vec![format!("/{member}")]), "{body}: {}", answer.body);
    }
    for (member, value, code) in [
        ("user_id", json!("usr_nobody"), "user.unknown"),
        ("type", json!("x"), "type.unknown"),
        ("quantity", json!(-1), "invalid"),
    ] {
        let mut body = ask(&meter, json!(1));
        body[member] = value;
        assert_eq!(fault(&meter.post(CHECK, &body.to_string()).await), (422, code.into(), vec![format!("/{member}")]));
    }
    reserve(&meter, &hold(&meter, "r1", json!(1))).await;
    for (body, pointer) in [
        (r"{}", "/quantity"),
        (r#"{"quantity":-1}"#, "/quantity"),
        (r#"{"quantity":1,"timestamp":"now"}"#, "/timestamp"),
        (r#"{"quantity":1,"user_id":""}"#, "/user_id"),
        (r#"{"quantity":1,"more":1}"#, "/more"),
    ] {
        let answer = meter.post(&format!("{RESERVE}/r1/commit"), body).await;
        assert_eq!(fault(&answer), (422, "invalid".into(), vec![pointer.into()]), "{body}");
    }
    for id in ["%00", &"x".repeat(256)] {
        assert_eq!(meter.post(&format!("{RESERVE}/{id}/commit"), r#"{"quantity":1}"#).await.status, 404, "{id}");
        assert_eq!(release(&meter, id).await.status, 404, "{id}");
    }
    for body in ["", "{", "[1]", "{} {}"] {
        let status = meter.post(RESERVE, body).await.status;
        assert_eq!(status, if body == "[1]" { 422 } else { 400 }, "{body}");
    }
    // S-32: no two readers may understand it differently, whatever would be read of it.
    for quantity in
        [r#"1,"quantity":2"#, r#"{"a":1,"a":1}"#, r#""\ud800""#, r#"1,"type":"inference""#, "1,\"more\":[1,{}]}{"]
    {
        let body = format!(r#"{{"user_id":"usr_nobody","type":"inference","quantity":{quantity}}}"#);
        for path in [CHECK, RESERVE] {
            assert_eq!(meter.post(path, &body).await.status, 400, "{body}");
        }
    }
}

/// I-03: the commit came in time, and the disk takes its time. What it holds is nobody else's meanwhile.
#[tokio::test]
async fn i03_a_hold_stays_while_its_commit_is_on_the_way() {
    let meter = Meter::new().await;
    let (app, clock) = (&meter.world.app, &meter.world.clock);
    let at = |text: &str| clock.set(text.parse().expect("an instant"));
    assert_eq!(reserve(&meter, &hold(&meter, "r1", json!(100))).await.status, 201);
    at("2026-11-22T10:00:59.999Z");
    let (release, released) = std::sync::mpsc::channel::<()>();
    let mut slow = Box::pin(app.db.write(move |_| Ok(released.recv().is_ok())));
    assert!((&mut slow).now_or_never().is_none(), "it is before the commit in line");
    let commit = Commit { quantity: Quantity::parse("100").unwrap(), at: None, user: None, kind: None };
    let mut committing = Box::pin(reservations::commit(app, "r1", commit));
    assert!((&mut committing).now_or_never().is_none());
    at("2026-11-22T10:01:00.001Z");
    assert_eq!(reserve(&meter, &hold(&meter, "r2", json!(1))).await.status, 402);
    release.send(()).expect("it waits");
    let (slow, committed) = tokio::join!(slow, committing);
    assert!(slow.is_ok() && !committed.expect("recorded").late);
    assert_eq!(reserve(&meter, &hold(&meter, "r2", json!(1))).await.status, 402);
    assert_eq!(meter.used("inference").await, 100);
}
