//! Events and batches: contract cases 1 to 19, on both stores.

use crate::lab::{Lab, event};
use sandbox::lago::Store;
use serde_json::{Value, json};

#[test]
fn case_01_a_valid_event_is_echoed() {
    let lab = Lab::furnished();
    let sent = json!({"event": {"transaction_id": "t1", "external_subscription_id": "sub", "code": "api", "timestamp": 1_795_341_600,
        "properties": {"units": "2.5", "model": "m"}, "external_customer_id": "ada"}});
    let event = &lab.post("/events", &sent).body["event"];
    assert_eq!(event["lago_id"].as_str().unwrap().len(), 36);
    let mut shown = event.clone();
    shown["lago_id"] = Value::Null;
    let wanted = json!({
        "lago_id": null, "transaction_id": "t1", "lago_customer_id": null, "code": "api", "timestamp": "2026-11-22T10:00:00.000Z",
        "precise_total_amount_cents": null, "properties": {"units": "2.5", "model": "m"}, "lago_subscription_id": null,
        "external_subscription_id": "sub", "created_at": "2026-11-22T10:00:00Z",
    });
    assert_eq!(shown, wanted);
    assert_eq!(lab.units(), "2.5 1 1");
    assert_eq!(lab.lago().usage("sub", "api"), Some(("2.5".into(), 1)));
}

#[test]
fn case_02_the_same_id_again_is_refused_and_the_first_stays() {
    let lab = Lab::furnished();
    assert_eq!(lab.event("t1", "2").status, 200);
    assert_eq!(lab.event("t1", "5").details(), r#"{"transaction_id":["value_already_exist"]}"#);
    assert_eq!(lab.units(), "2.0 1 1");
}

#[test]
fn case_03_the_same_id_for_another_subscription_is_another_event() {
    let lab = Lab::furnished();
    lab.subscribe("ada", "second", "basic", "2026-11-01");
    let mut other = event("t1", "3");
    other["external_subscription_id"] = json!("second");
    assert_eq!(lab.event("t1", "2").status, 200);
    assert_eq!(lab.post("/events", &json!({ "event": other })).status, 200);
    assert_eq!(lab.lago().usage("second", "api"), Some(("3.0".into(), 1)));
    // Nobody is nobody's: without a subscription an id is never taken.
    for _ in 0..2 {
        assert_eq!(lab.post("/events", &json!({"event": {"transaction_id": "t1", "code": "api"}})).status, 200);
    }
}

#[test]
fn cases_04_to_07_and_09_what_is_checked_at_once() {
    let lab = Lab::furnished();
    for (number, (member, value, wanted)) in [
        ("timestamp", json!("1780586634.1"), r#""2026-06-04T15:23:54.100Z""#),
        ("timestamp", json!(1_780_586_634), r#""2026-06-04T15:23:54.000Z""#),
        ("timestamp", json!(1_780_586_634.25), r#""2026-06-04T15:23:54.250Z""#),
        ("timestamp", json!(null), r#""2026-11-22T10:00:00.123Z""#),
        ("timestamp", json!(1_795_341_600_000_i64), r#""58862-02-09T16:00:00.000Z""#),
        ("timestamp", json!("2026-11-22T10:00:00Z"), r#"{"timestamp":["invalid_format"]}"#),
        ("timestamp", json!("2026-11-22 10:00:00 +0000"), r#"{"timestamp":["invalid_format"]}"#),
        ("transaction_id", json!(null), r#"{"transaction_id":["value_is_mandatory"]}"#),
        ("transaction_id", json!(" "), r#"{"transaction_id":["value_is_mandatory"]}"#),
        ("transaction_id", json!({"no": "text"}), r#"{"transaction_id":["value_is_mandatory"]}"#),
        ("transaction_id", json!(77), r#""77""#),
        ("code", json!(""), r#"{"code":["value_is_mandatory"]}"#),
        ("precise_total_amount_cents", json!("12.50"), r#""12.5""#),
        ("precise_total_amount_cents", json!(3), r#""3.0""#),
        ("precise_total_amount_cents", json!("much"), r#""0.0""#),
    ]
    .into_iter()
    .enumerate()
    {
        let mut sent = event(&format!("t{number}"), "1");
        sent[member] = value;
        let answer = lab.post("/events", &json!({ "event": sent }));
        let seen = if answer.status == 200 { answer.body["event"][member].to_string() } else { answer.details() };
        assert_eq!(seen, wanted, "{sent}");
    }
}

#[test]
fn case_08_what_lago_does_not_know_it_takes_and_never_bills() {
    let lab = Lab::furnished();
    for (number, (member, value)) in [
        ("code", json!("unknown")),
        ("external_subscription_id", json!("unknown")),
        ("external_subscription_id", json!(null)),
        ("properties", json!({"other": 1})),
        ("properties", json!("no object")),
        ("timestamp", json!(1_795_341_600_000_i64)),
    ]
    .into_iter()
    .enumerate()
    {
        let mut sent = event(&format!("t{number}"), "1");
        sent[member] = value;
        assert_eq!(lab.post("/events", &json!({ "event": sent })).status, 200, "{sent}");
    }
    assert_eq!(lab.units(), "0.0 0 0");
    assert_eq!(lab.lago().events().len(), 6);
}

#[test]
fn case_10_expressions() {
    let lab = Lab::new();
    lab.metric(json!({"code": "gpu", "aggregation_type": "sum_agg", "field_name": "total", "expression": "event.properties.seconds * event.properties.cards"}));
    let event = |properties: Value| json!({"transaction_id": "t", "external_subscription_id": "sub", "code": "gpu", "properties": properties});
    let bad = event(json!({"seconds": 5}));
    let why = r#""expression_evaluation_failed: Variable: cards not found""#;
    assert_eq!(lab.post("/events", &json!({ "event": bad })).details(), why);
    assert_eq!(lab.batch(vec![bad]).details(), format!(r#"{{"0":{why}}}"#));
    let good = lab.post("/events", &json!({"event": event(json!({"seconds": 5, "cards": "1.5"}))}));
    assert_eq!(good.body["event"]["properties"], json!({"seconds": 5, "cards": "1.5", "total": "7.5"}));
}

#[test]
fn case_11_the_size_of_a_batch() {
    let lab = Lab::furnished();
    let some = |count: usize| (0..count).map(|number| event(&format!("t{number}"), "1")).collect::<Vec<_>>();
    assert_eq!(lab.batch(some(101)).details(), r#"{"events":["too_many_events"]}"#);
    assert_eq!(lab.batch(some(0)).details(), r#"{"events":["no_events"]}"#);
    assert_eq!(lab.post("/events/batch", &json!({})).details(), r#"{"events":["no_events"]}"#);
    let good = lab.batch(some(100));
    assert_eq!(good.body["events"].as_array().unwrap().len(), 100);
    assert_eq!(good.body["meta"], Value::Null);
    assert_eq!(lab.units(), "100.0 100 50");
}

#[test]
fn case_12_faulty_items_are_named_and_nothing_is_stored() {
    let lab = Lab::furnished();
    lab.event("stored", "1");
    let mut bad = event("bad", "1");
    bad["timestamp"] = json!("yesterday");
    // Field errors come alone: what is double is looked for only when they are mended.
    let answer = lab.batch(vec![event("a", "1"), bad, event("stored", "1")]);
    assert_eq!(answer.details(), r#"{"1":{"timestamp":["invalid_format"]}}"#);
    assert_eq!(lab.units(), "1.0 1 1");
}

#[test]
fn cases_13_to_16_a_batch_with_doubles_stores_nothing() {
    let double = r#"{"transaction_id":["value_already_exist"]}"#;
    for (ids, wanted) in [
        ("stored a b", &[0][..]),
        ("a stored b", &[1]),
        ("a b stored", &[2]),
        ("a a b", &[1]),
        ("a a a", &[1, 2]),
        ("a a b c b", &[1, 4]),
        ("a b@other a@other", &[2]),
    ] {
        let lab = Lab::furnished();
        lab.event("stored", "1");
        let sent = ids.split(' ').map(|id| {
            let (id, subscription) = id.split_once('@').unwrap_or((id, "sub"));
            let mut event = event(id, "1");
            event["external_subscription_id"] = json!(subscription);
            event
        });
        let wanted: Vec<String> = wanted.iter().map(|index| format!(r#""{index}":{double}"#)).collect();
        assert_eq!(lab.batch(sent.collect()).details(), format!("{{{}}}", wanted.join(",")), "{ids}");
        assert_eq!(lab.lago().events().len(), 1, "{ids}");
    }
}

#[test]
fn case_17_events_are_found_by_their_id() {
    let lab = Lab::furnished();
    let id = "1Az()[]?#._/|-/../";
    lab.event(id, "1");
    let escaped = "1Az%28%29%5B%5D%3F%23%2E_%2F%7C-%2F%2E%2E%2F";
    assert_eq!(lab.get(&format!("/events/{escaped}")).body["event"]["transaction_id"], id);
    assert_eq!(lab.get("/events/unknown").error(), "404 event_not_found null");
    lab.delete("/billable_metrics/api");
    assert_eq!(lab.get(&format!("/events/{escaped}")).error(), "404 event_not_found null");
    assert_eq!(lab.event(id, "1").status, 422, "what is deleted keeps its id");
}

#[test]
fn case_18_lists_of_events() {
    let lab = Lab::furnished();
    let empty = json!({"current_page": 0, "next_page": null, "prev_page": null, "total_pages": 0, "total_count": 0});
    assert_eq!(lab.get("/events").body, json!({"events": [], "meta": empty}));
    for (id, code, timestamp) in [("b", "api", 100), ("a", "api", 100), ("c", "api", 50), ("d", "other", 200)] {
        let sent = json!({"event": {"transaction_id": id, "external_subscription_id": "sub", "code": code, "timestamp": timestamp}});
        lab.post("/events", &sent);
    }
    let ids = |query: &str| {
        let answer = lab.get(&format!("/events?{query}")).body;
        let ids: Vec<&str> = answer["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["transaction_id"].as_str().unwrap())
            .collect();
        format!("{} of {}", ids.join(""), answer["meta"]["total_count"])
    };
    for (query, wanted) in [
        ("", "dabc of 4"),
        ("code=api", "abc of 3"),
        ("external_subscription_id=sub&code=other", "d of 1"),
        ("external_subscription_id=nobody", " of 0"),
        ("timestamp_from=1970-01-01T00:01:40Z", "dab of 3"),
        ("external_subscription_id=sub&timestamp_to=1970-01-01T00:01:40Z", "abc of 3"),
        ("external_subscription_id=sub&timestamp_from_started_at=true", " of 0"),
        ("per_page=3", "dab of 4"),
        ("per_page=3&page=2", "c of 4"),
    ] {
        assert_eq!(ids(query), wanted, "{query}");
    }
    let meta = json!({"current_page": 2, "next_page": 3, "prev_page": 1, "total_pages": 4, "total_count": 4});
    assert_eq!(lab.get("/events?per_page=1&page=2").body["meta"], meta);
}

#[test]
fn case_19_clickhouse_refuses_nothing_and_counts_by_id_and_timestamp() {
    let lab = Lab::with(Store::ClickHouse).furnish();
    let first = lab.event("t1", "2").body["event"].clone();
    assert_eq!((&first["lago_id"], &first["created_at"]), (&Value::Null, &Value::Null));
    assert_eq!(lab.event("t1", "3").status, 200);
    assert_eq!(lab.units(), "3.0 1 2", "the last one wins");
    let mut later = event("t1", "4");
    later["timestamp"] = json!("1795341601.5");
    assert_eq!(lab.batch(vec![later.clone(), later]).status, 200);
    assert_eq!(lab.units(), "7.0 2 4", "another timestamp is another event");
    assert_eq!(lab.get("/events").body["meta"]["total_count"], 4, "the list shows what was sent");
}
