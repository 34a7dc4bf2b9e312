//! Subscriptions: contract case 23, changes of plan, and what the clock does.

use crate::lab::{Lab, event};
use serde_json::{Value, json};

fn ask(lab: &Lab, subscription: Value) -> String {
    let answer = lab.post("/subscriptions", &json!({ "subscription": subscription }));
    if answer.status == 200 {
        answer.body["subscription"]["status"].as_str().unwrap().to_owned()
    } else {
        answer.error()
    }
}

#[test]
fn case_23_who_may_subscribe() {
    let lab = Lab::furnished();
    for (sent, wanted) in [
        (json!({"external_customer_id": "bob", "external_id": "b", "plan_code": "none"}), "404 plan_not_found null"),
        (
            json!({"external_id": "b", "plan_code": "basic"}),
            r#"422 validation_errors {"external_customer_id":["value_is_mandatory"]}"#,
        ),
        (
            json!({"external_customer_id": "bob", "plan_code": "basic"}),
            r#"422 validation_errors {"external_id":["value_is_mandatory"]}"#,
        ),
        (
            json!({"external_customer_id": "bob", "external_id": "b", "plan_code": "basic", "subscription_at": "soon"}),
            r#"422 validation_errors {"subscription_at":["invalid_date"]}"#,
        ),
        (
            json!({"external_customer_id": "bob", "external_id": "b", "plan_code": "basic", "ending_at": "2026-11-01"}),
            r#"422 validation_errors {"ending_at":["invalid_date"]}"#,
        ),
        (
            json!({"external_customer_id": "bob", "external_id": "sub", "plan_code": "basic"}),
            r#"422 validation_errors {"external_id":["value_already_exist"]}"#,
        ),
        (
            json!({"external_customer_id": "bob", "external_id": "b", "plan_code": "basic", "plan_overrides": {"amount_cents": 1}}),
            "403 feature_unavailable null",
        ),
        (json!({"external_customer_id": "bob", "external_id": "b", "plan_code": "basic"}), "active"),
        (
            json!({"external_customer_id": "bob", "external_id": "later", "plan_code": "basic", "subscription_at": "2026-12-01"}),
            "pending",
        ),
    ] {
        assert_eq!(ask(&lab, sent.clone()), wanted, "{sent}");
    }
    assert_eq!(lab.get("/customers/bob").status, 200, "an unknown customer is created");
}

#[test]
fn case_23_a_replay_changes_nothing() {
    let lab = Lab::furnished();
    let first = lab.get("/subscriptions/sub").body["subscription"].clone();
    lab.pass(5_000);
    assert_eq!(lab.subscribe("ada", "sub", "basic", "2026-11-20")["lago_id"], first["lago_id"]);
    assert_eq!(first["started_at"], "2026-11-01T00:00:00Z");
    assert_eq!(first["current_billing_period_ending_at"], "2026-11-30T23:59:59Z");
    assert_eq!(lab.get("/subscriptions").body["meta"]["total_count"], 1);
}

#[test]
fn case_23_what_waits_is_found_by_its_state() {
    let lab = Lab::furnished();
    lab.subscribe("ada", "later", "basic", "2026-12-01");
    assert_eq!(lab.get("/subscriptions/later").error(), "404 subscription_not_found null");
    assert_eq!(lab.get("/subscriptions/later?status=pending").body["subscription"]["status"], "pending");
    assert_eq!(lab.delete("/subscriptions/later").status, 404);
    assert_eq!(lab.delete("/subscriptions/later?status=pending").body["subscription"]["status"], "canceled");
    let ended = lab.delete("/subscriptions/sub").body["subscription"].clone();
    assert_eq!((&ended["status"], &ended["terminated_at"]), (&json!("terminated"), &json!("2026-11-22T10:00:00Z")));
    assert_eq!(lab.get("/subscriptions").body["meta"]["total_count"], 0);
    assert_eq!(lab.get("/subscriptions?status[]=terminated&status[]=canceled").body["meta"]["total_count"], 2);
}

#[test]
fn the_clock_starts_and_ends() {
    let lab = Lab::furnished();
    let sent = json!({"external_customer_id": "ada", "external_id": "short", "plan_code": "basic",
                      "subscription_at": "2026-11-25T00:00:00Z", "ending_at": "2026-11-27T12:00:00Z"});
    lab.made("/subscriptions", json!({ "subscription": sent }));
    for (at, status, period) in [
        ("2026-11-24T23:59:59Z", "pending", json!(null)),
        ("2026-11-25T00:00:00Z", "active", json!("2026-11-25T00:00:00Z")),
        ("2026-11-27T11:59:59Z", "active", json!("2026-11-25T00:00:00Z")),
        ("2026-11-27T12:00:00Z", "terminated", json!(null)),
    ] {
        lab.set_clock(at);
        let found = lab.get(&format!("/subscriptions/short?status={status}")).body["subscription"].clone();
        assert_eq!((&found["status"], &found["current_billing_period_started_at"]), (&json!(status), &period), "{at}");
    }
}

#[test]
fn a_dearer_plan_begins_now_and_a_cheaper_one_at_the_end_of_the_period() {
    let lab = Lab::furnished();
    let metric = lab.get("/billable_metrics/api").body["billable_metric"]["lago_id"].clone();
    let charge = json!([{"billable_metric_id": metric, "charge_model": "standard", "properties": {"amount": "1"}}]);
    let dear = json!({"name": "dear", "code": "dear", "interval": "yearly", "amount_cents": 100, "amount_currency": "USD", "charges": charge});
    lab.made("/plans", json!({ "plan": dear }));
    let mut before = event("t1", "1");
    before["timestamp"] = json!("1795341600.122");
    lab.made("/events", json!({ "event": before }));
    assert_eq!(lab.units(), "1.0 1 1");
    let upgraded = lab.subscribe("ada", "sub", "dear", "2026-11-22");
    assert_eq!((&upgraded["plan_code"], &upgraded["previous_plan_code"]), (&json!("dear"), &json!("basic")));
    assert_eq!(lab.usage()["charges_usage"][0]["units"], "0.0", "what was before belongs to the other");
    let downgraded = lab.subscribe("ada", "sub", "basic", "2026-11-22");
    assert_eq!((&downgraded["plan_code"], &downgraded["next_plan_code"]), (&json!("dear"), &json!("basic")));
    assert_eq!(downgraded["downgrade_plan_date"], "2027-01-01");
    lab.set_clock("2027-01-01T00:00:00Z");
    assert_eq!(lab.get("/subscriptions/sub").body["subscription"]["plan_code"], "basic");
}

#[test]
fn a_start_in_the_past_does_not_reach_behind_an_end() {
    let lab = Lab::furnished();
    lab.delete("/subscriptions/sub");
    assert_eq!(lab.subscribe("ada", "sub", "basic", "2026-11-01")["started_at"], "2026-11-22T10:00:00Z");
    assert_eq!(lab.batch(vec![event("t1", "1")]).status, 200);
}
