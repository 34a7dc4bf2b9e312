//! CloudEvents, one and many.

use serde_json::{Value, json};

use super::{EVENTS, Meter, fault};
use crate::harness::Answer;

const ONE: &str = "application/cloudevents+json";
const MANY: &str = "application/cloudevents-batch+json; charset=utf-8";

fn event(meter: &Meter, id: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "/gateway", "type": "tts", "subject": meter.user, "time": "2026-11-22T09:59:50Z",
        "datacontenttype": "application/json", "traceparent": "00-1", "data": { "quantity": "2.5", "model": "m" },
    })
}

#[tokio::test]
async fn one_is_recorded_like_our_own() {
    let meter = Meter::new().await;
    let body = event(&meter, "c1").to_string();
    assert_eq!(
        meter.post_as(EVENTS, ONE, &body).await.shown(),
        "201\n{\"transaction_id\":\"c1\",\"status\":\"recorded\",\"position\":2}"
    );
    assert_eq!(meter.post_as(EVENTS, ONE, &body).await.status, 200);
    assert_eq!(meter.used("tts").await.to_string(), "2.5");
    let mut other = event(&meter, "c1");
    other["data"]["quantity"] = json!(3);
    assert_eq!(fault(&meter.post_as(EVENTS, ONE, &other.to_string()).await).0, 409);
}

#[tokio::test]
async fn each_attribute_that_is_wrong_is_named() {
    let meter = Meter::new().await;
    for (attribute, value, pointer) in [
        ("specversion", json!("0.3"), "/specversion"),
        ("specversion", Value::Null, "/specversion"),
        ("id", json!(""), "/id"),
        ("source", Value::Null, "/source"),
        ("type", json!(7), "/type"),
        ("subject", Value::Null, "/subject"),
        ("time", json!("yesterday"), "/time"),
        ("data", Value::Null, "/data"),
        ("data", json!("text"), "/data"),
        ("data", json!({}), "/data/quantity"),
        ("data", json!({ "quantity": -1 }), "/data/quantity"),
        ("data", json!({ "quantity": "x" }), "/data/quantity"),
        ("data", json!({ "quantity": 1, "a": "x".repeat(16 * 1024) }), "/data"),
    ] {
        let mut event = event(&meter, "c1");
        match value {
            Value::Null => drop(event.as_object_mut().unwrap().remove(attribute)),
            value => event[attribute] = value,
        }
        let answer = meter.post_as(EVENTS, ONE, &event.to_string()).await;
        assert_eq!(fault(&answer), (422, "invalid".into(), vec![pointer.into()]), "{event}");
    }
    assert_eq!(meter.used("tts").await, 0);
}

/// What only the log or the catalogue can tell is said of the sender's own members as well.
#[tokio::test]
async fn what_is_refused_later_is_named_where_the_sender_has_it() {
    let meter = Meter::new().await;
    assert_eq!(meter.post_as(EVENTS, ONE, &event(&meter, "known").to_string()).await.status, 201);
    for (id, attribute, value, structured, binary) in [
        ("c1", "subject", json!("usr_nobody"), "/subject", "ce-subject"),
        ("c1", "type", json!("telepathy"), "/type", "ce-type"),
        ("c1", "time", json!("2026-01-01T00:00:00Z"), "/time", "ce-time"),
        ("c1", "data", json!({ "quantity": 2_000_000_000 }), "/data/quantity", "/quantity"),
        ("known", "data", json!({ "quantity": 3, "model": "m" }), "/data/quantity", "/quantity"),
        ("known", "data", json!({ "quantity": "2.5", "model": "n" }), "/data", ""),
    ] {
        let mut event = event(&meter, id);
        event[attribute] = value;
        let answer = meter.post_as(EVENTS, ONE, &event.to_string()).await;
        assert_eq!(fault(&answer).2, [structured], "{event}");
        let batch = meter.post_as(EVENTS, MANY, &json!([event]).to_string()).await.json();
        assert_eq!(batch["results"][0]["pointer"], format!("/0{structured}"), "{event}");
        let headers: Vec<(String, String)> = ["specversion", "id", "source", "type", "subject", "time"]
            .map(|name| (format!("ce-{name}"), event[name].as_str().unwrap().to_owned()))
            .into();
        let mut headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        headers.extend([("authorization", meter.key.as_str()), ("content-type", "application/json")]);
        let answer = meter.world.send("POST", EVENTS, &headers, &event["data"].to_string()).await;
        assert_eq!(fault(&answer).2, [binary], "{event}");
    }
}

#[tokio::test]
async fn many_are_judged_one_by_one_and_without_a_time_it_is_now() {
    let meter = Meter::new().await;
    let mut timeless = event(&meter, "c2");
    timeless.as_object_mut().unwrap().remove("time");
    let batch = json!([event(&meter, "c1"), timeless, { "id": "c3" }, event(&meter, "c1")]);
    let answer = meter.post_as(EVENTS, MANY, &batch.to_string()).await.json();
    let words: Vec<_> =
        answer["results"].as_array().unwrap().iter().map(|result| result["status"].as_str().unwrap()).collect();
    assert_eq!(words, ["recorded", "recorded", "rejected", "duplicate"]);
    assert_eq!(answer["results"][2]["transaction_id"], "c3");
    let again = meter.post_as(EVENTS, MANY, &json!([timeless]).to_string()).await.json();
    assert_eq!(again["duplicates"], 1, "the nearest days are searched for the id");
    assert_eq!(fault(&meter.post_as(EVENTS, MANY, &event(&meter, "c4").to_string()).await).0, 422);
    assert_eq!(fault(&meter.post_as(EVENTS, ONE, &batch.to_string()).await).0, 422);
}

/// The event as headers and a body, as the official clients send it in binary mode, with one header changed.
async fn post_binary(meter: &Meter, changed: (&str, Option<&str>), body: &str) -> Answer {
    let mut headers = vec![
        ("authorization", meter.key.as_str()),
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "b%201"),
        ("ce-source", "/gateway"),
        ("ce-type", "tts"),
        ("ce-subject", &meter.user),
        ("ce-time", "2026-11-22T09:59:50Z"),
        ("ce-traceparent", "00-1"),
    ];
    headers.retain(|(name, _)| *name != changed.0);
    headers.extend(changed.1.map(|value| (changed.0, value)));
    meter.world.send("POST", EVENTS, &headers, body).await
}

#[tokio::test]
async fn in_binary_mode_it_is_the_same_event() {
    let meter = Meter::new().await;
    let data = r#"{"quantity":"2.5","model":"m"}"#;
    assert_eq!(
        post_binary(&meter, ("ce-x", None), data).await.shown(),
        "201\n{\"transaction_id\":\"b 1\",\"status\":\"recorded\",\"position\":2}"
    );
    let structured = event(&meter, "b 1").to_string();
    assert_eq!(meter.post_as(EVENTS, ONE, &structured).await.status, 200, "a duplicate, whichever way it comes");
    assert_eq!(post_binary(&meter, ("ce-source", Some("/another")), data).await.status, 201);
    assert_eq!(post_binary(&meter, ("content-type", None), data).await.status, 200, "nobody says what its data is");
    assert_eq!(post_binary(&meter, ("content-type", Some("text/plain")), data).await.status, 415);
    assert_eq!(meter.used("tts").await, 5);
}

#[tokio::test]
async fn in_binary_mode_each_fault_is_named_where_it_is() {
    let meter = Meter::new().await;
    let data = r#"{"quantity":1}"#;
    for (header, value, body, pointer) in [
        ("ce-specversion", Some("0.3"), data, "ce-specversion"),
        ("ce-id", None, data, "ce-id"),
        ("ce-id", Some("%00"), data, "ce-id"),
        ("ce-source", None, data, "ce-source"),
        ("ce-type", None, data, "ce-type"),
        ("ce-subject", Some("%ff"), data, "ce-subject"),
        ("ce-time", Some("yesterday"), data, "ce-time"),
        ("ce-x", None, r#"{"quantity":-1}"#, "/quantity"),
        ("ce-x", None, "{}", "/quantity"),
        ("ce-x", None, "[]", ""),
        ("ce-x", None, r#"{"quantity":1,"quantity":2}"#, ""),
    ] {
        let answer = post_binary(&meter, (header, value), body).await;
        assert_eq!(fault(&answer), (422, "invalid".into(), vec![pointer.into()]), "{header} {value:?} {body}");
    }
    for body in ["", "{", "{} {}"] {
        assert_eq!(post_binary(&meter, ("ce-x", None), body).await.status, 400, "{body}");
    }
    assert_eq!(meter.used("tts").await, 0);
}
