//! Lago's own wire: the cases of its contract that concern events, answered in its shape.

use billhook::store::log::Kind;
use billing::Catalogue;
use serde_json::{Value, json};

use super::Meter;
use crate::harness::database::unique_name;
use crate::harness::{Answer, Database, Plan};

const ONE: &str = "/api/v1/events";
const MANY: &str = "/api/v1/events/batch";
/// 2026-11-22T09:59:50Z
const AT: i64 = 1_795_341_590;

fn event(meter: &Meter, id: &str) -> Value {
    json!({
        "transaction_id": id, "external_subscription_id": meter.user, "code": "inference_call", "timestamp": AT,
        "properties": { "units": "2", "model": "m" },
    })
}

fn with(mut event: Value, member: &str, value: Value) -> Value {
    match value {
        Value::Null => drop(event.as_object_mut().unwrap().remove(member)),
        value => event[member] = value,
    }
    event
}

async fn one(meter: &Meter, event: &Value) -> Answer {
    meter.post(ONE, &json!({ "event": event }).to_string()).await
}

async fn many(meter: &Meter, events: &[Value]) -> Answer {
    meter.post(MANY, &json!({ "events": events }).to_string()).await
}

fn details(answer: &Answer) -> Value {
    let body = answer.json();
    assert_eq!(
        (answer.status, &body["status"], &body["code"]),
        (422, &json!(422), &json!("validation_errors")),
        "{body}"
    );
    assert_eq!(body["error"], "Unprocessable Entity");
    body["error_details"].clone()
}

/// Two types may go to Lago under one code; what comes in under it could be either, at another weight.
#[tokio::test]
async fn a_code_of_two_types_means_neither() {
    let path = std::env::temp_dir().join(format!("{}.toml", unique_name()));
    std::fs::write(&path, Catalogue::BUILT_IN.replace("stt_call", "tts_call")).expect("a catalogue");
    let environment = vec![("BILLHOOK_CATALOG", path.display().to_string())];
    let meter = Meter::planned(Plan { stripe: None, environment, ..Plan::default() }).await;
    let answer = one(&meter, &with(event(&meter, "e1"), "code", json!("tts_call"))).await;
    assert_eq!(details(&answer), json!({ "code": ["billable_metric_not_found"] }));
    assert_eq!(one(&meter, &event(&meter, "e1")).await.status, 200);
    std::fs::remove_file(path).expect("removed");
}

#[tokio::test]
async fn case_1_a_valid_event_is_echoed_as_lago_does() {
    let meter = Meter::new().await;
    let answer = one(&meter, &with(event(&meter, "l1"), "precise_total_amount_cents", json!("12.5"))).await;
    let expected = format!(
        concat!(
            r#"200{{"event":{{"lago_id":"00000000-0000-8000-8000-000000000002","transaction_id":"l1","lago_customer_id":null,"#,
            r#""code":"inference_call","timestamp":"2026-11-22T09:59:50.000Z","precise_total_amount_cents":"12.5","#,
            r#""properties":{{"model":"m","units":"2"}},"lago_subscription_id":null,"external_subscription_id":"{}","#,
            r#""created_at":"2026-11-22T10:00:00Z"}}}}"#
        ),
        meter.user
    );
    assert_eq!(format!("{}{}", answer.status, answer.body), expected);
    assert_eq!(meter.used("inference").await, 2);
}

#[tokio::test]
async fn cases_2_3_a_duplicate_is_refused_and_what_is_stored_stays_once() {
    let meter = Meter::new().await;
    assert_eq!(one(&meter, &event(&meter, "l1")).await.status, 200);
    for other in [event(&meter, "l1"), with(event(&meter, "l1"), "properties", json!({ "units": "9" }))] {
        assert_eq!(details(&one(&meter, &other).await), json!({ "transaction_id": ["value_already_exist"] }));
    }
    assert_eq!(meter.used("inference").await, 2);
}

#[tokio::test]
async fn cases_4_to_6_timestamps_are_seconds_with_a_fraction_and_now_without() {
    let meter = Meter::new().await;
    for (id, at, shown) in [
        ("t1", json!(AT), "2026-11-22T09:59:50.000Z"),
        ("t2", json!("1795341590.1"), "2026-11-22T09:59:50.100Z"),
        ("t3", json!(1_795_341_590.25), "2026-11-22T09:59:50.250Z"),
        ("t4", Value::Null, "2026-11-22T10:00:00.456Z"),
    ] {
        let answer = one(&meter, &with(event(&meter, id), "timestamp", at)).await.json();
        assert_eq!(answer["event"]["timestamp"], shown, "{answer}");
    }
    for (at, code) in [
        (json!("2026-11-22T09:59:50Z"), "invalid_format"),
        (json!("Sun Nov 22 09:59:50 2026"), "invalid_format"),
        (json!(""), "invalid_format"),
        (json!(-1), "invalid_format"),
        (json!([]), "invalid_format"),
        // Milliseconds: Lago takes them for the year 54,000 and never bills them.
        (json!(AT * 1000), "invalid_format"),
        (json!(AT + 400), "too_early"),
        (json!(AT - 40 * 86_400), "too_old"),
    ] {
        let answer = one(&meter, &with(event(&meter, "t5"), "timestamp", at.clone())).await;
        assert_eq!(details(&answer), json!({ "timestamp": [code] }), "{at}");
    }
}

#[tokio::test]
async fn cases_7_8_what_lago_would_lose_in_silence_is_refused_by_field() {
    let meter = Meter::new().await;
    for (member, value, code) in [
        ("transaction_id", Value::Null, "value_is_mandatory"),
        ("transaction_id", json!(""), "value_is_mandatory"),
        ("code", Value::Null, "value_is_mandatory"),
        ("code", json!("unheard_of"), "billable_metric_not_found"),
        ("code", json!("inference"), "billable_metric_not_found"),
        ("external_subscription_id", Value::Null, "value_is_mandatory"),
        ("external_subscription_id", json!("sub_nobody"), "subscription_not_found"),
        ("external_subscription_id", json!("a\u{0}b"), "value_is_invalid"),
        ("properties", json!({ "units": "abc" }), "value_is_invalid"),
        ("properties", json!({ "units": "1e-7" }), "value_is_invalid"),
        ("properties", json!({ "units": " 3" }), "value_is_invalid"),
        ("properties", json!({ "units": -1 }), "value_is_invalid"),
        ("properties", json!([1]), "value_is_invalid"),
    ] {
        let answer = one(&meter, &with(event(&meter, "l1"), member, value.clone())).await;
        assert_eq!(details(&answer), json!({ member: [code] }), "{value}");
    }
    assert_eq!(details(&one(&meter, &json!({ "timestamp": AT })).await).as_object().unwrap().len(), 3, "all at once");
    assert_eq!(meter.used("inference").await, 0);
}

#[tokio::test]
async fn case_9_the_amount_of_dynamic_charges_is_echoed_and_garbage_is_zero() {
    let meter = Meter::new().await;
    for (id, sent, shown) in [("p1", json!("abc"), "0.0"), ("p2", json!("7"), "7.0"), ("p3", json!(12.34), "12.34")] {
        let answer = one(&meter, &with(event(&meter, id), "precise_total_amount_cents", sent)).await.json();
        assert_eq!(answer["event"]["precise_total_amount_cents"], shown);
    }
}

#[tokio::test]
async fn units_come_from_the_properties_or_are_one() {
    let meter = Meter::new().await;
    for (id, properties) in [
        ("u1", json!({ "units": "0.5", "quantity": 7, "value": 9 })),
        ("u2", json!({ "quantity": 7, "value": 9 })),
        ("u3", json!({ "value": "9" })),
        ("u4", json!({ "model": "m" })),
        ("u5", Value::Null),
    ] {
        assert_eq!(one(&meter, &with(event(&meter, id), "properties", properties)).await.status, 200, "{id}");
    }
    assert_eq!(meter.used("inference").await.to_string(), "18.5");
}

#[tokio::test]
async fn case_11_a_batch_is_one_to_a_hundred() {
    let meter = Meter::new().await;
    let events: Vec<Value> = (0..101).map(|number| event(&meter, &format!("b{number}"))).collect();
    assert_eq!(details(&many(&meter, &events).await), json!({ "events": ["too_many_events"] }));
    assert_eq!(details(&many(&meter, &[]).await), json!({ "events": ["no_events"] }));
    assert_eq!(details(&meter.post(MANY, "{}").await), json!({ "events": ["no_events"] }));
    let answer = many(&meter, &events[..100]).await;
    assert_eq!((answer.status, answer.json()["events"].as_array().map(Vec::len)), (200, Some(100)));
    assert_eq!(answer.json()["events"][99]["transaction_id"], "b99");
    assert_eq!(meter.used("inference").await, 200);
}

#[tokio::test]
async fn cases_12_to_16_a_batch_is_all_or_nothing_and_names_the_index() {
    let meter = Meter::new().await;
    assert_eq!(one(&meter, &event(&meter, "stored")).await.status, 200);
    let fresh = |id: &str| event(&meter, id);
    let bad = with(fresh("bad"), "timestamp", json!("yesterday"));
    let exists = json!({ "transaction_id": ["value_already_exist"] });
    for (name, events, expected) in [
        ("12", vec![fresh("x"), bad.clone(), fresh("y")], json!({ "1": { "timestamp": ["invalid_format"] } })),
        (
            "12, too old",
            vec![fresh("x"), with(fresh("old"), "timestamp", json!(AT - 40 * 86_400))],
            json!({ "1": { "timestamp": ["too_old"] } }),
        ),
        ("13 first", vec![fresh("stored"), fresh("x")], json!({ "0": exists })),
        ("13 middle", vec![fresh("x"), fresh("stored"), fresh("y")], json!({ "1": exists })),
        ("13 last", vec![fresh("x"), fresh("stored")], json!({ "1": exists })),
        ("14", vec![fresh("x"), fresh("x"), fresh("y"), fresh("x")], json!({ "1": exists, "3": exists })),
        ("15", vec![fresh("x"), fresh("y"), fresh("x"), fresh("y")], json!({ "2": exists, "3": exists })),
        (
            "field errors come alone",
            vec![fresh("stored"), bad.clone()],
            json!({ "1": { "timestamp": ["invalid_format"] } }),
        ),
    ] {
        assert_eq!(details(&many(&meter, &events).await), expected, "{name}");
    }
    assert_eq!(meter.used("inference").await, 2, "nothing of them was recorded");
    assert_eq!(many(&meter, &[fresh("x"), fresh("y")]).await.status, 200, "and what was left out can still come");
}

/// What only the log knows is known before anything is recorded.
#[tokio::test]
async fn case_12_a_batch_with_an_event_that_is_too_late_is_recorded_not_at_all() {
    let environment = vec![("BILLHOOK_LATE_EVENTS", "reject".to_owned())];
    let meter = Meter::planned(Plan { stripe: None, environment, ..Plan::default() }).await;
    let late = with(event(&meter, "late"), "timestamp", json!(AT - 30 * 86_400));
    let events = [event(&meter, "x"), late, event(&meter, "y")];
    assert_eq!(details(&many(&meter, &events).await), json!({ "1": { "timestamp": ["too_late"] } }));
    assert_eq!(meter.used("inference").await, 0);
    assert_eq!(many(&meter, &[event(&meter, "x"), event(&meter, "y")]).await.status, 200);
}

/// Batches that have an event in common come at the same moment: one is there whole, and of the others nothing.
async fn case_14_batches_at_once_are_all_or_nothing(database: Database) {
    let meter = Meter::planned(Plan { stripe: None, database, ..Plan::default() }).await;
    for round in 0..15 {
        let batch = |own: usize| {
            let own = |number| event(&meter, &format!("own-{round}-{own}-{number}"));
            [own(1), event(&meter, &format!("shared-{round}")), own(2)]
        };
        // Others come in between, and are recorded whatever becomes of the batches.
        let single = event(&meter, &format!("single-{round}"));
        let (first, second, third) = (batch(1), batch(2), batch(3));
        let (alone, first, second, third) =
            tokio::join!(one(&meter, &single), many(&meter, &first), many(&meter, &second), many(&meter, &third));
        assert_eq!(alone.status, 200);
        let mut answers = [first, second, third];
        answers.sort_by_key(|answer| answer.status);
        assert_eq!(answers.each_ref().map(|answer| answer.status), [200, 422, 422]);
        for refused in &answers[1..] {
            assert_eq!(details(refused), json!({ "1": { "transaction_id": ["value_already_exist"] } }));
        }
        assert_eq!(meter.used("inference").await, json!((round + 1) * 4 * 2), "round {round}");
    }
}

on_each_database!(case_14_batches_at_once_are_all_or_nothing);

#[tokio::test]
async fn case_17_an_event_is_found_by_its_id_whatever_it_is_made_of() {
    let meter = Meter::new().await;
    let id = "1Az()[]?#._/|-/../";
    assert_eq!(one(&meter, &event(&meter, id)).await.status, 200);
    let encoded = id.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02X}"));
    let get =
        async |id: &str| meter.world.request("GET", &format!("{ONE}/{id}"), &[("authorization", &meter.key)]).await;
    let found = get(&encoded).await;
    assert_eq!((found.status, &found.json()["event"]["transaction_id"]), (200, &json!(id)), "{}", found.body);
    assert_eq!(found.json()["event"]["properties"], json!({ "units": "2", "model": "m" }));
    let missing = get("nothing").await;
    assert_eq!(
        (missing.status, missing.body.as_str()),
        (404, r#"{"status":404,"error":"Not Found","code":"event_not_found"}"#)
    );
}

#[tokio::test]
async fn cases_20_21_keys_and_roots_are_refused_in_lagos_words() {
    let meter = Meter::new().await;
    let unauthorized = meter.world.request("POST", ONE, &[]).await;
    assert_eq!((unauthorized.status, unauthorized.body.as_str()), (401, r#"{"status":401,"error":"Unauthorized"}"#));
    for (path, body, root) in
        [(ONE, "[]", "event"), (ONE, "{", "event"), (ONE, r#"{"event":7}"#, "event"), (MANY, "7", "events")]
    {
        let answer = meter.post(path, body).await;
        let error = format!("BadRequest: param is missing or the value is empty or invalid: {root}");
        assert_eq!((answer.status, answer.json()["error"].as_str()), (400, Some(error.as_str())), "{body}");
    }
    assert_eq!(
        meter.post_as(ONE, "text/plain", "{}").await.json(),
        json!({ "status": 415, "error": "Unsupported Media Type" })
    );
}

#[tokio::test]
async fn a_subscription_is_the_users_id_or_their_id_at_lago() {
    let meter = Meter::new().await;
    let file = rusqlite::Connection::open(meter.world.database.path()).expect("the file");
    file.execute("UPDATE users SET lago_customer_id = 'lago-77' WHERE id = ?1", [&meter.user]).expect("linked");
    let sent = with(event(&meter, "l1"), "external_subscription_id", json!("lago-77"));
    assert_eq!(one(&meter, &sent).await.json()["event"]["external_subscription_id"], "lago-77");
    assert_eq!(meter.used("inference").await, 2);
    let (other, _) = meter.world.user("other@example.com", None, false).await;
    file.execute("UPDATE users SET lago_customer_id = 'lago-77' WHERE id = ?1", [&other]).expect("linked");
    let sent = with(event(&meter, "l2"), "external_subscription_id", json!("lago-77"));
    assert_eq!(
        details(&one(&meter, &sent).await),
        json!({ "external_subscription_id": ["subscription_not_found"] }),
        "of two: nobody's"
    );
}

/// Case 3: ids are unique within a subscription, and a client takes `value_already_exist` for done.
async fn case_3_one_id_of_two_subscriptions_is_two_events(database: Database) {
    let meter = Meter::planned(Plan { stripe: None, database, ..Plan::default() }).await;
    let (other, _) = meter.world.user("other@example.com", None, false).await;
    let of = |id: &str, user: &str| {
        let mut event = event(&meter, id);
        event["external_subscription_id"] = json!(user);
        event
    };
    let exists = json!({ "transaction_id": ["value_already_exist"] });
    for id in ["l1", "01KAN9SRY0W6V9T0YQW1X2Z3AB"] {
        for user in [&meter.user, &other] {
            assert_eq!(one(&meter, &of(id, user)).await.status, 200, "{id}");
            assert_eq!(details(&one(&meter, &of(id, user)).await), exists, "{id}: the same again");
        }
    }
    let batch = json!({ "events": [of("l2", &meter.user), of("l2", &other)] }).to_string();
    assert_eq!(meter.post(MANY, &batch).await.status, 200);
    let again = details(&meter.post(MANY, &batch).await);
    assert_eq!(again, json!({ "0": exists, "1": exists }));
    let log = meter.world.app.db.read(|tx| billhook::store::log::read(tx, 0, 100)).await.expect("the log");
    let of = |user: &str| log.iter().filter(|entry| entry.user == user && entry.kind == Kind::Usage).count();
    assert_eq!((of(&meter.user), of(&other)), (3, 3));
}

on_each_database!(case_3_one_id_of_two_subscriptions_is_two_events);
