//! Keys, bodies and routes: contract cases 20 and 21, and what a catalogue is refused.

use crate::lab::{Lab, event};
use sandbox::lago::FaultKind;
use serde_json::json;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);
const JSON: &str = "Content-Type: application/json\r\n";

#[test]
fn case_20_keys() {
    let lab = Lab::new();
    let unauthorized = json!({"status": 401, "error": "Unauthorized"});
    for (headers, status) in [
        ("", 401),
        ("Authorization: key\r\n", 401),
        ("Authorization: Bearer other\r\n", 401),
        ("Authorization: Bearer key\r\n", 200),
        ("Authorization: Whatever key\r\n", 200),
    ] {
        let answer = lab.raw("GET", "/api/v1/plans", headers, "", PATIENCE).unwrap();
        assert_eq!(answer.status, status, "{headers}");
        assert_eq!(answer.status == 401, answer.body == unauthorized, "{headers}");
    }
    let code = "write_action_not_allowed_for_event";
    lab.fault(1, FaultKind::Status { status: 403, code: Some(code.into()), headers: [].into() });
    assert_eq!(lab.event("t1", "1").body, json!({"status": 403, "error": "Forbidden", "code": code}));
}

#[test]
fn case_21_bodies() {
    let lab = Lab::new();
    let missing = "BadRequest: param is missing or the value is empty or invalid: customer";
    for (headers, body, wanted) in [
        (JSON, "{}", missing),
        (JSON, "", missing),
        (JSON, r#"{"customer": {}}"#, missing),
        (JSON, r#"{"customer": "ada"}"#, missing),
        (JSON, "[1]", missing),
        ("", r#"{"customer": {"external_id": "ada"}}"#, missing),
        (JSON, "{", "BadRequest: error occurred while parsing request parameters"),
    ] {
        let headers = format!("Authorization: Bearer key\r\n{headers}");
        let answer = lab.raw("POST", "/api/v1/customers", &headers, body, PATIENCE).unwrap();
        assert_eq!(answer.body, json!({"status": 400, "error": wanted}), "{body}");
    }
    let answer = lab.post("/customers", &json!({"customer": {"currency": "XXX"}}));
    assert_eq!(
        answer.body,
        json!({"status": 422, "error": "Unprocessable Entity", "code": "validation_errors",
               "error_details": {"currency": ["value_is_invalid"], "external_id": ["value_is_mandatory"]}})
    );
}

#[test]
fn routes() {
    let lab = Lab::new();
    for path in ["/nothing", "/subscriptions/sub/usage", ""] {
        assert_eq!(lab.get(path).error(), "404 resource_not_found null", "{path}");
    }
    assert_eq!(lab.raw("GET", "/health", "", "", PATIENCE).unwrap().status, 200);
    for (path, noun) in [
        ("/customers/x", "customer"),
        ("/plans/x", "plan"),
        ("/billable_metrics/x", "billable_metric"),
        ("/invoices/x", "invoice"),
    ] {
        assert_eq!(lab.get(path).error(), format!("404 {noun}_not_found null"));
    }
}

#[test]
fn metrics_and_plans_are_created_once() {
    let lab = Lab::furnished();
    let metric = lab.get("/billable_metrics/api").body["billable_metric"].clone();
    assert_eq!((&metric["aggregation_type"], &metric["field_name"]), (&json!("sum_agg"), &json!("units")));
    let plan = lab.get("/plans/basic").body["plan"].clone();
    assert_eq!(plan["charges"][0]["properties"], json!({"amount": "0.005"}));
    for (path, root, sent, wanted) in [
        (
            "/billable_metrics",
            "billable_metric",
            json!({"name": "a", "code": "api", "aggregation_type": "count_agg"}),
            r#"{"code":["value_already_exist"]}"#,
        ),
        (
            "/billable_metrics",
            "billable_metric",
            json!({"name": "a", "code": "b", "aggregation_type": "sum_agg"}),
            r#"{"field_name":["value_is_mandatory"]}"#,
        ),
        (
            "/billable_metrics",
            "billable_metric",
            json!({"name": "a", "code": "b", "aggregation_type": "sum"}),
            r#"{"aggregation_type":["value_is_invalid"]}"#,
        ),
        (
            "/plans",
            "plan",
            json!({"name": "a", "code": "basic", "interval": "monthly", "amount_cents": 0, "amount_currency": "USD"}),
            r#"{"code":["value_already_exist"]}"#,
        ),
        (
            "/plans",
            "plan",
            json!({"name": "a", "code": "b", "interval": "daily", "amount_cents": -1, "amount_currency": "usd"}),
            r#"{"amount_cents":["value_is_invalid"],"amount_currency":["value_is_invalid"],"interval":["value_is_invalid"]}"#,
        ),
    ] {
        assert_eq!(lab.post(path, &json!({ root: sent })).details(), wanted);
    }
    let plan = json!({"name": "a", "code": "b", "interval": "monthly", "amount_cents": 0, "amount_currency": "USD",
                      "charges": [{"billable_metric_id": "unknown", "charge_model": "standard", "properties": {"amount": "1"}}]});
    assert_eq!(lab.post("/plans", &json!({ "plan": plan })).error(), "404 billable_metrics_not_found null");
    assert_eq!(lab.get("/plans").body["meta"]["total_count"], 1);
}

/// What many events cost grows with their number and no faster: the last batches take no longer than the first.
#[test]
fn twenty_thousand_events() {
    let lab = Lab::furnished();
    let send = |batches: std::ops::Range<u32>| {
        let begun = Instant::now();
        for batch in batches {
            let events = (0..100).map(|number| event(&format!("t{batch}-{number}"), "0.5")).collect();
            assert_eq!(lab.batch(events).status, 200);
        }
        begun.elapsed()
    };
    let (first, _, last) = (send(0..20), send(20..180), send(180..200));
    assert!(last < first * 5 + Duration::from_millis(200), "{first:?}, then {last:?}");
    assert_eq!(lab.units(), "10000.0 20000 5000");
}
