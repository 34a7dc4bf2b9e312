//! Many events at once: each gets its verdict, in order, and a bad item never takes a good one with it.

use std::sync::Arc;

use billhook::telemetry::{Counted, Metrics};
use serde_json::{Value, json};

use super::{EVENTS, Meter, fault};

fn words(results: &Value) -> Vec<String> {
    let word = |result: &Value| match result["code"].as_str() {
        Some(code) => format!("{} {code} {}", result["status"].as_str().unwrap(), result["pointer"].as_str().unwrap()),
        None => result["status"].as_str().unwrap().to_owned(),
    };
    results["results"].as_array().expect("results").iter().map(word).collect()
}

#[tokio::test]
async fn a_mixed_batch_to_the_byte() {
    let meter = Meter::new().await;
    let batch = json!([meter.event("a"), meter.changed("b", "type", json!("telepathy")), meter.event("a"), {"transaction_id": "c\"\n"}]);
    let answer = meter.post(EVENTS, &batch.to_string()).await;
    let expected = concat!(
        "200\n",
        r#"{"recorded":1,"duplicates":1,"rejected":2,"ignored":0,"position":2,"results":["#,
        r#"{"transaction_id":"a","status":"recorded","position":2},"#,
        "\n",
        r#"{"transaction_id":"b","status":"rejected","code":"type.unknown","pointer":"/1/type","detail":"expected an event type of the catalogue"},"#,
        "\n",
        r#"{"transaction_id":"a","status":"duplicate","position":2},"#,
        "\n",
        r#"{"transaction_id":"c\"\n","status":"rejected","code":"invalid","pointer":"/3/user_id","detail":"is required"}]}"#,
    );
    assert_eq!(answer.shown(), expected);
    assert_eq!(meter.used("inference").await, 3);
}

#[tokio::test]
async fn every_item_is_judged_for_itself_whatever_is_beside_it() {
    let meter = Meter::new().await;
    let text = |value: Value| value.to_string();
    let twice = text(meter.event("d")).replace("\"quantity\":3", "\"quantity\":3,\"quantity\":3");
    let inside = text(meter.changed("i", "properties", json!({}))).replace("{}", "{\"a\":1,\"a\":2}");
    let levels = format!("{{\"a\":{}{}}}", "[".repeat(64), "]".repeat(64));
    let deep = text(meter.changed("p", "properties", json!("LEVELS"))).replace("\"LEVELS\"", &levels);
    let bad = [
        (twice, "rejected invalid /1/quantity"),
        (inside, "rejected invalid /1/properties"),
        (deep, "rejected invalid /1/properties"),
        (text(meter.changed("m", "more", json!(1))), "rejected invalid /1/more"),
        (text(meter.changed("q", "quantity", json!("1e3"))), "rejected invalid /1/quantity"),
        (text(meter.changed("t", "timestamp", json!("2026-10-01T00:00:00Z"))), "rejected too_old /1/timestamp"),
        (text(meter.changed("u", "user_id", json!("usr_nobody"))), "rejected user.unknown /1/user_id"),
        ("null".to_owned(), "rejected invalid /1"),
        ("7".to_owned(), "rejected invalid /1"),
        ("[[]]".to_owned(), "rejected invalid /1"),
        ("{}".to_owned(), "rejected invalid /1/transaction_id"),
        ("[".repeat(5000) + &"]".repeat(5000), "rejected invalid /1"),
    ];
    for (number, (item, expected)) in bad.into_iter().enumerate() {
        let (before, after) = (meter.event(&format!("before-{number}")), meter.event(&format!("after-{number}")));
        let answer = meter.post(EVENTS, &format!("[{before},{item},{after}]")).await;
        assert_eq!(answer.status, 200, "{item}: {}", answer.body);
        let found = answer.json();
        assert_eq!(words(&found), ["recorded", expected, "recorded"], "{item}");
        assert_eq!((&found["recorded"], &found["rejected"]), (&json!(2), &json!(1)));
    }
    assert_eq!(meter.used("inference").await, 12 * 2 * 3, "what was refused counts nowhere");
}

#[tokio::test]
async fn a_batch_sent_again_is_all_duplicates_and_a_changed_item_is_a_conflict() {
    let meter = Meter::new().await;
    let mut items: Vec<Value> = (0..5).map(|number| meter.event(&format!("e{number}"))).collect();
    let first = meter.post(EVENTS, &Value::from(items.clone()).to_string()).await.json();
    items[3]["quantity"] = json!(4);
    let again = meter.post(EVENTS, &Value::from(items).to_string()).await.json();
    assert_eq!(
        words(&again),
        ["duplicate", "duplicate", "duplicate", "conflict usage.conflict /3/quantity", "duplicate"]
    );
    assert_eq!((&again["duplicates"], &again["rejected"]), (&json!(4), &json!(1)));
    assert_eq!(again["results"][0]["position"], first["results"][0]["position"], "with the first answer");
    assert_eq!(meter.used("inference").await, 15);
}

#[tokio::test]
async fn a_thousand_items_are_taken_and_one_more_is_not() {
    let meter = Meter::new().await;
    let batch =
        |items: usize| Value::from((0..items).map(|n| meter.event(&format!("e{n}"))).collect::<Vec<_>>()).to_string();
    let answer = meter.post(EVENTS, &batch(1_001)).await;
    assert_eq!((answer.status, fault(&answer).1), (413, "batch.too_large".into()));
    assert_eq!(meter.used("inference").await, 0);
    let full = meter.post(EVENTS, &batch(1_000)).await.json();
    assert_eq!((&full["recorded"], &full["position"]), (&json!(1000), &json!(1001)));
    assert_eq!(
        meter.post(EVENTS, "[]").await.body,
        r#"{"recorded":0,"duplicates":0,"rejected":0,"ignored":0,"position":null,"results":[]}"#
    );
    assert_eq!(meter.used("inference").await, 3000);
}

#[tokio::test]
async fn four_mebibytes_are_taken_here_and_one_byte_more_is_not() {
    let meter = Meter::new().await;
    let most = 4 * 1024 * 1024;
    let padded = |length: usize| {
        let event = format!("[{}]", meter.event("e1"));
        event.clone() + &" ".repeat(length - event.len())
    };
    let over = meter.post(EVENTS, &padded(most + 1)).await;
    assert_eq!((over.status, fault(&over).1), (413, "body.too_large".into()));
    assert_eq!(meter.post(EVENTS, &padded(most)).await.status, 200);
    let elsewhere = meter.post("/api/v1/usage/check", &padded(1024 * 1024 + 1)).await;
    assert_eq!(elsewhere.status, 413, "only where events come in batches");
}

/// A sender that looks at the status only sees a 200: the operator sees what was refused under it.
#[tokio::test]
async fn what_is_refused_is_counted_by_its_code() {
    let meter = Meter::new().await;
    let unknown = |id: &str, member| meter.changed(id, member, json!("nobody"));
    let batch = json!([meter.event("e1"), unknown("e2", "user_id"), unknown("e3", "type"), unknown("e4", "type"), 7]);
    assert_eq!(meter.post(EVENTS, &batch.to_string()).await.status, 200);
    assert_eq!(meter.post(EVENTS, &meter.changed("e1", "quantity", json!(9)).to_string()).await.status, 409);
    let lago = json!({ "event": { "transaction_id": "l1", "external_subscription_id": meter.user, "code": "inference_call",
        "timestamp": 1_700_000_000 } });
    assert_eq!(meter.post("/api/v1/events", &lago.to_string()).await.status, 422);
    let counted = Counted {
        name: "billhook_usage_refused",
        help: "Events that were not recorded",
        label: "code",
        counts: Arc::clone(&meter.world.app.usage.refusals),
    };
    let mut metrics = Metrics::new();
    metrics.registry().register_collector(Box::new(counted));
    let page = metrics.render().unwrap();
    for (code, times) in
        [("user.unknown", 1), ("type.unknown", 2), ("invalid", 1), ("usage.conflict", 1), ("too_old", 1)]
    {
        assert!(page.contains(&format!("billhook_usage_refused_total{{code=\"{code}\"}} {times}\n")), "{code}: {page}");
    }
}

/// Whatever wire an event comes by, alone or with others: one that was not recorded is counted.
#[tokio::test]
async fn what_is_refused_on_any_wire_is_counted() {
    let meter = Meter::new().await;
    let counted = || meter.world.app.usage.refusals.read();
    let lago =
        |id: &str, code: &str, of: &str| json!({ "transaction_id": id, "external_subscription_id": of, "code": code });
    let one = |event: &serde_json::Value| json!({ "event": event }).to_string();
    let many = |events: &[serde_json::Value]| json!({ "events": events }).to_string();
    let user = meter.user.as_str();
    let (single, batch, calls) = ("/api/v1/events", "/api/v1/events/batch", "/api/v1/usage/litellm");
    let good = lago("l0", "inference_call", user);
    for (path, body, code, times) in [
        (EVENTS, meter.changed("e", "quantity", json!(-1)).to_string(), "invalid", 1),
        (EVENTS, meter.changed("e", "type", json!("nothing")).to_string(), "type.unknown", 1),
        (EVENTS, "{".to_owned(), "body.malformed", 1),
        (EVENTS, "[7,8]".to_owned(), "invalid", 2),
        (EVENTS, "[7,8".to_owned(), "body.malformed", 1),
        (EVENTS, json!(vec![7; 1_001]).to_string(), "batch.too_large", 1),
        (EVENTS, " ".repeat(4 * 1024 * 1024 + 1), "body.too_large", 1),
        (calls, "7".to_owned(), "invalid", 1),
        (calls, "[".to_owned(), "body.malformed", 1),
        (single, one(&lago("l", "nothing", user)), "type.unknown", 1),
        (single, one(&lago("l", "inference_call", "nobody")), "user.unknown", 1),
        (single, one(&lago("", "inference_call", user)), "invalid", 1),
        (single, "{}".to_owned(), "body.malformed", 1),
        (batch, many(&[lago("l", "nothing", user), good, lago("m", "inference_call", "nobody")]), "type.unknown", 1),
        (batch, many(&[lago("l", "nothing", user), lago("m", "nothing", user)]), "type.unknown", 2),
        (batch, many(&[]), "invalid", 0),
        (batch, many(&vec![lago("l", "nothing", user); 101]), "batch.too_large", 1),
        (batch, "[".to_owned(), "body.malformed", 1),
    ] {
        let before = counted();
        let answer = meter.post(path, &body).await;
        let shown = body.chars().take(200).collect::<String>();
        let more = |code: &str| counted().get(code).unwrap_or(&0) - before.get(code).unwrap_or(&0);
        assert_eq!(more(code), times, "{path} {shown}: {}", answer.body);
    }
}

/// What is wrong with an item is said in words of its own, and an event by itself is no batch.
#[tokio::test]
async fn what_is_wrong_with_an_item_is_said_in_its_place() {
    let meter = Meter::new().await;
    let good = meter.event("e1").to_string();
    for (wrong, expected) in [
        (good.replace("\"type\":", "\"quantity\":3,\"type\":"), "rejected /0/quantity: is named twice"),
        (
            good.replace("\"e1\"", "\"\\ud800\""),
            "rejected /0/transaction_id: expected text without half a surrogate pair",
        ),
        (
            good.replace("\"e1\"", "\"\\ud800x\""),
            "rejected /0/transaction_id: expected text without half a surrogate pair",
        ),
    ] {
        let answer = meter.post(EVENTS, &format!("[{wrong}]")).await.json();
        let text = |member: &str| answer["results"][0][member].as_str().unwrap_or_default().to_owned();
        assert_eq!(format!("{} {}: {}", text("status"), text("pointer"), text("detail")), expected, "{wrong}");
    }
    let padded = |length: usize| good.clone() + &" ".repeat(length - good.len());
    let over = meter.post(EVENTS, &padded(1024 * 1024 + 1)).await;
    assert_eq!((over.status, fault(&over).1), (413, "body.too_large".into()));
    assert_eq!(meter.post(EVENTS, &padded(1024 * 1024)).await.status, 201);
}
