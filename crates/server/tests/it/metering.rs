//! Usage comes in: every notation, every verdict, and what is wrong with each member, through the door.

mod batches;
mod cloud_events;
mod gateway;
mod gone;
mod holds;
mod lago_wire;
mod limits;
mod lite_llm;
mod log;
mod naming;
mod roots;
mod unwritable;

use billhook::ops::keys::Scope;
use serde_json::{Value, json};

use crate::access::key;
use crate::harness::{Answer, Database, Plan, World};

pub const EVENTS: &str = "/api/v1/usage/events";
const JSON: (&str, &str) = ("content-type", "application/json");

/// A program without Stripe, a user of it, and a service with its key.
pub struct Meter {
    pub world: World,
    pub user: String,
    /// The user's session.
    pub session: String,
    /// The value of the `Authorization` header.
    pub key: String,
}

impl Meter {
    pub async fn new() -> Self {
        Self::planned(Plan { stripe: None, ..Plan::default() }).await
    }

    pub async fn planned(plan: Plan) -> Self {
        let world = World::planned(plan).await;
        let (user, session) = world.user("u@example.com", None, false).await;
        let key = key(&world, Scope::UsageWrite).await;
        Self { world, user, session, key }
    }

    pub async fn post(&self, path: &str, body: &str) -> Answer {
        self.post_as(path, "application/json", body).await
    }

    pub async fn post_as(&self, path: &str, kind: &str, body: &str) -> Answer {
        self.world.send("POST", path, &[("authorization", &self.key), ("content-type", kind)], body).await
    }

    /// An event of the user's, ten seconds ago.
    pub fn event(&self, id: &str) -> Value {
        json!({ "transaction_id": id, "user_id": self.user, "type": "inference", "quantity": 3, "timestamp": "2026-11-22T09:59:50Z" })
    }

    /// The same with one member changed; null takes it out.
    pub fn changed(&self, id: &str, member: &str, value: Value) -> Value {
        let mut event = self.event(id);
        match value {
            Value::Null => drop(event.as_object_mut().expect("object").remove(member)),
            value => event[member] = value,
        }
        event
    }

    /// What the user has used of a type in the period.
    pub async fn used(&self, kind: &str) -> Value {
        let answer = self.world.get("/api/v1/billing/usage", &self.session).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["usage"]["month"][kind].clone()
    }
}

/// Status, code and the pointers of an error.
pub fn fault(answer: &Answer) -> (u16, String, Vec<String>) {
    let problem = answer.json();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pointers = problem["errors"].as_array().into_iter().flatten().map(|fault| text(&fault["pointer"])).collect();
    (answer.status, text(&problem["code"]), pointers)
}

#[tokio::test]
async fn an_event_is_recorded_once_and_a_repeated_one_gets_the_first_answer() {
    let meter = Meter::new().await;
    let body = meter.event("e1").to_string();
    let first = meter.post(EVENTS, &body).await;
    assert_eq!(first.shown(), "201\n{\"transaction_id\":\"e1\",\"status\":\"recorded\",\"position\":2}");
    assert_eq!(first.header("idempotent-replayed"), None);
    for _ in 0..2 {
        let again = meter.post(EVENTS, &body).await;
        assert_eq!(again.shown(), "200\n{\"transaction_id\":\"e1\",\"status\":\"duplicate\",\"position\":2}");
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
    }
    assert_eq!(meter.used("inference").await, 3);
}

#[tokio::test]
async fn the_same_event_in_another_notation_is_the_same_event() {
    let meter = Meter::new().await;
    let event = |id: &str, properties: &str| {
        let bare = meter.event(id).to_string();
        format!("{},\"properties\":{properties}}}", bare.strip_suffix('}').expect("an object"))
    };
    for (id, first, again) in [
        ("e1", r#"{"a":1,"b":{"c":[0.10]}}"#, r#"{ "b": {"c":[1e-1]}, "a": 1 }"#),
        ("e2", r#"{"text":"\u0061"}"#, r#"{"text":"a"}"#),
    ] {
        assert_eq!(meter.post(EVENTS, &event(id, first)).await.status, 201);
        assert_eq!(meter.post(EVENTS, &event(id, again)).await.status, 200, "{id}");
    }
    assert_eq!(meter.post(EVENTS, &meter.event("e3").to_string()).await.status, 201);
    assert_eq!(meter.post(EVENTS, &event("e3", "{}")).await.status, 200, "nothing is said of it in either");
    let other = event("e1", r#"{"a":1,"b":{"c":[0.11]}}"#);
    assert_eq!(fault(&meter.post(EVENTS, &other).await).2, ["/properties"]);
}

#[tokio::test]
async fn a_number_too_large_for_a_float_is_json_and_named() {
    let meter = Meter::new().await;
    let number = "1".repeat(400);
    for huge in ["1e400", "-1E+400", &number] {
        let body = meter.changed("e1", "quantity", json!("HUGE")).to_string().replace("\"HUGE\"", huge);
        assert_eq!(
            fault(&meter.post(EVENTS, &body).await),
            (422, "invalid".into(), vec!["/quantity".into()]),
            "{huge}"
        );
        let body = meter.changed("e1", "timestamp", json!("HUGE")).to_string().replace("\"HUGE\"", huge);
        assert_eq!(
            fault(&meter.post(EVENTS, &body).await),
            (422, "invalid".into(), vec!["/timestamp".into()]),
            "{huge}"
        );
        let twice = format!(r#"{{"transaction_id":"e1","quantity":{huge},"transaction_id":"e1"}}"#);
        assert_eq!(meter.post(EVENTS, &twice).await.status, 400, "what is not one clear document is not");
        let broken = format!(r#"{{"transaction_id":"e1","quantity":{huge}.}}"#);
        assert_eq!(meter.post(EVENTS, &broken).await.status, 400, "{broken}");
    }
}

#[tokio::test]
async fn the_same_id_with_other_content_is_a_conflict_that_names_the_member() {
    let meter = Meter::new().await;
    let (other, _) = meter.world.user("other@example.com", None, false).await;
    let event = meter.changed("e1", "properties", json!({ "model": "m" }));
    assert_eq!(meter.post(EVENTS, &event.to_string()).await.status, 201);
    for (member, value) in [
        ("user_id", json!(other)),
        ("type", json!("embedding")),
        ("quantity", json!(4)),
        ("quantity", json!("3.000001")),
        ("timestamp", json!("2026-11-22T09:59:51Z")),
        ("properties", json!({ "model": "n" })),
    ] {
        let mut changed = event.clone();
        changed[member] = value;
        let answer = meter.post(EVENTS, &changed.to_string()).await;
        assert_eq!(fault(&answer), (409, "usage.conflict".into(), vec![format!("/{member}")]), "{}", answer.body);
    }
    assert_eq!((meter.used("inference").await, meter.used("embedding").await), (json!(3), json!(0)));
}

#[tokio::test]
async fn on_postgresql_every_wire_answers_the_same() {
    let meter = Meter::planned(Plan { stripe: None, database: Database::postgres(), ..Plan::default() }).await;
    let bad = meter.changed("e2", "user_id", json!("usr_nobody"));
    let batch = json!([meter.event("e1"), bad, meter.event("e1"), meter.changed("e1", "quantity", json!(4))]);
    let expected = ["recorded", "rejected", "duplicate", "conflict"];
    let answer = meter.post(EVENTS, &batch.to_string()).await.json();
    let words: Vec<_> = (0..4).map(|n| answer["results"][n]["status"].as_str().expect("a word")).collect();
    assert_eq!(words, expected);
    let nul = meter.changed("a\u{0}", "user_id", json!("u\u{0}")).to_string();
    assert_eq!(fault(&meter.post(EVENTS, &nul).await).2, ["/transaction_id", "/user_id"]);
    let lago =
        json!({ "event": { "transaction_id": "l1", "external_subscription_id": meter.user, "code": "tts_call" } });
    assert_eq!(meter.post("/api/v1/events", &lago.to_string()).await.status, 200);
    assert_eq!(meter.post("/api/v1/events", &lago.to_string()).await.status, 422);
    let list = meter.world.get(EVENTS, &meter.session).await.json();
    assert_eq!(list["events"][0]["transaction_id"], "l1");
    assert_eq!((meter.used("inference").await, meter.used("tts").await), (json!(3), json!(1)));
    let revoked = billhook::ops::keys::list(&meter.world.app).await.expect("keys")[0].id.clone();
    billhook::ops::keys::revoke(&meter.world.app, &revoked).await.expect("revoked");
    assert_eq!(meter.post(EVENTS, "[]").await.status, 401);
}

#[tokio::test]
async fn a_quantity_is_the_same_in_every_notation_and_exact() {
    let meter = Meter::new().await;
    for (id, quantity, again) in [("e1", "0.1", "\"0.100000\""), ("e2", "\"0.2\"", "0.20"), ("e3", "7", "\"7.0\"")] {
        let body = |quantity: &str| meter.changed(id, "quantity", json!("Q")).to_string().replace("\"Q\"", quantity);
        assert_eq!(meter.post(EVENTS, &body(quantity)).await.status, 201, "{quantity}");
        assert_eq!(meter.post(EVENTS, &body(again)).await.status, 200, "{again}");
    }
    assert_eq!(meter.used("inference").await.to_string(), "7.3");
}

#[tokio::test]
async fn each_member_that_is_wrong_is_refused_by_name_and_nothing_counts() {
    let meter = Meter::new().await;
    let long = "x".repeat(256);
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(64), "]".repeat(64));
    let deep: Value = serde_json::from_str(&deep).expect("JSON");
    for (member, value, code) in [
        ("transaction_id", Value::Null, "invalid"),
        ("transaction_id", json!(""), "invalid"),
        ("transaction_id", json!(long), "invalid"),
        ("transaction_id", json!("a\u{0}b"), "invalid"),
        ("transaction_id", json!(7), "invalid"),
        ("user_id", Value::Null, "invalid"),
        ("user_id", json!(["u"]), "invalid"),
        ("user_id", json!("a\u{0}"), "invalid"),
        ("user_id", json!("usr_nobody"), "user.unknown"),
        ("type", Value::Null, "invalid"),
        ("type", json!(""), "invalid"),
        ("type", json!("telepathy"), "type.unknown"),
        ("type", json!("Inference"), "type.unknown"),
        ("quantity", Value::Null, "invalid"),
        ("quantity", json!(-1), "invalid"),
        ("quantity", json!("0.0000001"), "invalid"),
        ("quantity", json!("1e3"), "invalid"),
        ("quantity", json!("99999999999999"), "invalid"),
        ("quantity", json!(true), "invalid"),
        ("timestamp", Value::Null, "invalid"),
        ("timestamp", json!(1_763_805_600), "invalid"),
        ("timestamp", json!("2026-11-22"), "invalid"),
        ("timestamp", json!("2026-11-22T10:00:00"), "invalid"),
        ("timestamp", json!("2026-02-30T10:00:00Z"), "invalid"),
        ("timestamp", json!("2026-10-18T10:00:00.455Z"), "too_old"),
        ("timestamp", json!("2026-11-22T10:05:00.457Z"), "too_early"),
        ("timestamp", json!("9999-12-31T23:59:59Z"), "too_early"),
        ("properties", json!([]), "invalid"),
        ("properties", json!("text"), "invalid"),
        ("properties", json!({ "a": "x".repeat(1100) }), "invalid"),
        ("more", json!(1), "invalid"),
    ] {
        let body = meter.changed("e1", member, value).to_string();
        let answer = meter.post(EVENTS, &body).await;
        assert_eq!(fault(&answer), (422, code.into(), vec![format!("/{member}")]), "{body}: {}", answer.body);
    }
    let answer = meter.post(EVENTS, &meter.changed("e1", "properties", deep).to_string()).await;
    assert_eq!(fault(&answer).0, 400, "S-32: more than 64 levels in one document");
    let body = r#"{"transaction_id":"","user_id":"","type":"inference","quantity":-1,"timestamp":"now"}"#;
    let all = fault(&meter.post(EVENTS, body).await).2;
    assert_eq!(all, ["/transaction_id", "/user_id", "/quantity", "/timestamp"], "all of them at once");
    assert_eq!(meter.used("inference").await, 0);
}

#[tokio::test]
async fn s39_the_ends_of_the_window_are_inside_and_a_leap_second_is_a_time() {
    let meter = Meter::new().await;
    for (id, at) in [
        ("oldest", "2026-10-18T10:00:00.456Z"),
        ("ahead", "2026-11-22T10:05:00.456Z"),
        ("zone", "2026-11-22T15:30:00+05:30"),
        ("leap", "2026-11-21T23:59:60Z"),
    ] {
        let answer = meter.post(EVENTS, &meter.changed(id, "timestamp", json!(at)).to_string()).await;
        assert_eq!(answer.status, 201, "{at}: {}", answer.body);
    }
}

#[tokio::test]
async fn s14_s32_a_body_that_is_not_what_its_type_says_is_refused_whole() {
    let meter = Meter::new().await;
    let event = meter.event("e1").to_string();
    let twice = event.replace("\"quantity\":3", "\"quantity\":3,\"quantity\":4");
    let inside = event.replace("\"quantity\":3", "\"quantity\":3,\"properties\":{\"a\":1,\"a\":2}");
    for (body, status) in [
        ("", 400),
        ("{", 400),
        (&event[..event.len() - 1], 400),
        (&format!("{event}x"), 400),
        (&format!("{event}{event}"), 400),
        (&twice, 400),
        (&inside, 400),
        ("[{}", 400),
        ("[{},]", 400),
        ("NaN", 400),
        ("null", 422),
        ("7", 422),
        ("\"text\"", 422),
        ("{}", 422),
    ] {
        let answer = meter.post(EVENTS, body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert_eq!(fault(&answer).1, if status == 400 { "body.malformed" } else { "invalid" }, "{body}");
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/x-ndjson", "application/jsonx", ""] {
        let answer = meter.post_as(EVENTS, kind, &event).await;
        assert_eq!((answer.status, fault(&answer).1), (415, "body.media_type".into()), "{kind}");
    }
    let packed = [("authorization", meter.key.as_str()), JSON, ("content-encoding", "gzip")];
    assert_eq!(meter.world.send("POST", EVENTS, &packed, &event).await.status, 415);
    assert_eq!(meter.used("inference").await, 0);
}

#[tokio::test]
async fn what_was_recorded_is_seen_by_a_reader_who_waits_for_it() {
    let meter = Meter::new().await;
    let answer = meter.post(EVENTS, &meter.event("e1").to_string()).await;
    let position = answer.json()["position"].as_i64().expect("a position");
    let usage = |position: &str| format!("/api/v1/billing/usage?at_least={position}");
    let seen = meter.world.get(&usage(&position.to_string()), &meter.session).await;
    assert_eq!((seen.status, seen.header("billing-position")), (200, None));
    assert_eq!(seen.json()["usage"]["month"]["inference"], 3);
    let ahead = meter.world.get(&usage(&(position + 1000).to_string()), &meter.session).await;
    assert_eq!((ahead.status, ahead.header("billing-position")), (200, Some(position.to_string().as_str())));
    for bad in ["0", "-1", "abc", "1.5", "", "%2B1", "99999999999999999999", "1&at_least=1"] {
        let answer = meter.world.get(&usage(bad), &meter.session).await;
        assert_eq!(fault(&answer), (422, "invalid".into(), vec!["?at_least".into()]), "{bad}");
    }
}
