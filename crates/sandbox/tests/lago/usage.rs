//! Usage now and in the past: contract cases 24 to 28.

use crate::lab::{Lab, charge, event};
use serde_json::json;

#[test]
fn case_24_a_graduated_charge_with_tax_and_without() {
    let lab = Lab::new();
    let metric = lab.metric(json!({"code": "api", "aggregation_type": "count_agg"}));
    let ranges = json!([{"from_value": 0, "to_value": null, "per_unit_amount": "0.01", "flat_amount": "0.01"}]);
    let charge =
        json!({"billable_metric_id": metric, "charge_model": "graduated", "properties": {"graduated_ranges": ranges}});
    lab.plan("basic", json!([charge]));
    lab.made("/taxes", json!({"tax": {"name": "vat", "code": "vat", "rate": "20.0", "applied_to_organization": true}}));
    lab.subscribe("ada", "sub", "basic", "2026-11-10");
    for number in 0..4 {
        lab.event(&format!("t{number}"), "1");
    }
    let usage = lab.usage();
    let wanted = [
        ("from_datetime", json!("2026-11-10T00:00:00Z")),
        ("to_datetime", json!("2026-11-30T23:59:59Z")),
        ("issuing_date", json!("2026-11-30")),
        ("currency", json!("USD")),
        ("amount_cents", json!(5)),
        ("taxes_amount_cents", json!(1)),
        ("total_amount_cents", json!(6)),
        ("lago_invoice_id", json!(null)),
    ];
    for (member, wanted) in wanted {
        assert_eq!(usage[member], wanted, "{member}");
    }
    let line = &usage["charges_usage"][0];
    assert_eq!(
        (&line["units"], &line["total_aggregated_units"], &line["events_count"]),
        (&json!("4.0"), &json!("4.0"), &json!(4))
    );
    assert_eq!(
        (&line["charge"]["charge_model"], &line["billable_metric"]["code"]),
        (&json!("graduated"), &json!("api"))
    );
    let untaxed = lab.get("/customers/ada/current_usage?external_subscription_id=sub&apply_taxes=false").body;
    assert_eq!(
        (&untaxed["customer_usage"]["taxes_amount_cents"], &untaxed["customer_usage"]["total_amount_cents"]),
        (&json!(0), &json!(5))
    );
}

#[test]
fn case_25_whose_usage() {
    let lab = Lab::furnished();
    lab.subscribe("bob", "other", "basic", "2026-11-01");
    for (path, wanted) in [
        ("/customers/nobody/current_usage?external_subscription_id=sub", "404 customer_not_found null"),
        ("/customers/ada/current_usage?external_subscription_id=other", "405 no_active_subscription null"),
        ("/customers/ada/current_usage", "405 no_active_subscription null"),
        ("/customers/ada/current_usage?external_subscription_id=sub&charge_code=none", "404 charge_not_found null"),
        (
            "/customers/ada/current_usage?external_subscription_id=sub&billable_metric_code=none",
            "404 billable_metric_not_found null",
        ),
        ("/customers/ada/current_usage?external_subscription_id=sub&charge_code=api", "200 - null"),
    ] {
        assert_eq!(lab.get(path).error(), wanted, "{path}");
    }
    lab.delete("/subscriptions/sub");
    assert_eq!(
        lab.get("/customers/ada/current_usage?external_subscription_id=sub").error(),
        "405 no_active_subscription null"
    );
}

#[test]
fn case_26_the_edges_of_a_period() {
    // The second of the start begins before the start: whole seconds fall out of it.
    for (timestamp, units) in [
        ("1795341600", "0.0"),
        ("1795341600.122", "0.0"),
        ("1795341600.123", "1.0"),
        ("1796083199.999", "1.0"),
        ("1796083200", "0.0"),
    ] {
        let lab = Lab::new();
        let metric = lab.metric(json!({"code": "api", "aggregation_type": "sum_agg", "field_name": "units"}));
        lab.plan(
            "basic",
            json!([{"billable_metric_id": metric, "charge_model": "standard", "properties": {"amount": "1"}}]),
        );
        lab.made(
            "/subscriptions",
            json!({"subscription": {"external_customer_id": "ada", "external_id": "sub", "plan_code": "basic"}}),
        );
        let mut sent = event("t1", "1");
        sent["timestamp"] = json!(timestamp);
        lab.post("/events", &json!({ "event": sent }));
        assert_eq!(lab.usage()["charges_usage"][0]["units"], units, "{timestamp}");
    }
}

#[test]
fn case_26_the_period_is_the_customers() {
    let lab = Lab::furnished();
    lab.made("/customers", json!({"customer": {"external_id": "ada", "timezone": "America/New_York"}}));
    let usage = lab.usage();
    assert_eq!(
        (&usage["from_datetime"], &usage["to_datetime"]),
        (&json!("2026-11-01T04:00:00Z"), &json!("2026-12-01T04:59:59Z"))
    );
    assert_eq!(usage["issuing_date"], "2026-11-30");
}

#[test]
fn case_27_what_a_sum_takes() {
    for (units, wanted) in [
        (&["5", "-2"][..], "3.0 2 2"),
        (&["5", "-7"], "0.0 2 0"),
        (&["1e-7", "abc", "1,000", " 3", "", "0.1"], "0.1 1 0"),
        (&["0.000000000000000001", "1"], "1.000000000000000001 2 1"),
    ] {
        let lab = Lab::furnished();
        for (number, units) in units.iter().enumerate() {
            assert_eq!(lab.event(&format!("t{number}"), units).status, 200);
        }
        assert_eq!(lab.units(), wanted, "{units:?}");
    }
}

#[test]
fn case_27_numbers_of_json_are_written_out() {
    let lab = Lab::furnished();
    for (number, units) in [json!(2), json!(0.25), json!(1e-7), json!(true), json!(null)].into_iter().enumerate() {
        let mut sent = event(&format!("t{number}"), "");
        sent["properties"]["units"] = units;
        lab.post("/events", &json!({ "event": sent }));
    }
    assert_eq!(lab.units(), "2.2500001 3 1");
}

#[test]
fn every_aggregation() {
    for (metric, units) in [
        (json!({"aggregation_type": "count_agg"}), "4.0"),
        (json!({"aggregation_type": "max_agg", "field_name": "units"}), "7.25"),
        (json!({"aggregation_type": "unique_count_agg", "field_name": "units"}), "3.0"),
        (json!({"aggregation_type": "latest_agg", "field_name": "units"}), "3.0"),
        (
            json!({"aggregation_type": "sum_agg", "field_name": "units", "rounding_function": "ceil", "rounding_precision": 0}),
            "17.0",
        ),
    ] {
        let lab = Lab::new();
        let mut named = metric.clone();
        named["code"] = json!("api");
        let id = lab.metric(named);
        lab.plan(
            "basic",
            json!([{"billable_metric_id": id, "charge_model": "standard", "properties": {"amount": "1"}}]),
        );
        lab.subscribe("ada", "sub", "basic", "2026-11-01");
        for (number, units) in ["3", "7.25", "3", "3.0"].into_iter().enumerate() {
            lab.event(&format!("t{number}"), units);
        }
        assert_eq!(lab.usage()["charges_usage"][0]["units"], units, "{metric}");
    }
}

#[test]
fn numbers_that_are_too_long_are_an_error_and_not_a_zero() {
    let lab = Lab::furnished();
    lab.event("t1", &"9".repeat(45));
    assert_eq!(lab.get("/customers/ada/current_usage?external_subscription_id=sub").status, 500);
}

#[test]
fn case_28_periods_that_are_over() {
    let lab = Lab::furnished();
    lab.event("t1", "3");
    lab.set_clock("2026-12-10T00:00:00Z");
    let late = lab.event("late", "9");
    assert_eq!(late.status, 200, "stored, and never billed");
    let mut december = event("t2", "4");
    december["timestamp"] = json!("1796860800");
    lab.post("/events", &json!({ "event": december }));
    assert_eq!(lab.units(), "4.0 1 2");
    lab.set_clock("2027-01-02T00:00:00Z");
    let past = |more: &str| lab.get(&format!("/customers/ada/past_usage{more}"));
    let periods = past("?external_subscription_id=sub").body["usage_periods"].clone();
    let shown: Vec<String> = periods
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{} {}", one["from_datetime"].as_str().unwrap(), charge(one)))
        .collect();
    assert_eq!(shown, ["2026-12-01T00:00:00Z 4.0 1 2", "2026-11-01T00:00:00Z 3.0 1 2"]);
    let invoice = periods[0]["lago_invoice_id"].as_str().unwrap();
    assert_eq!(lab.get(&format!("/invoices/{invoice}")).body["invoice"]["total_amount_cents"], 2);
    for (more, wanted) in [
        ("", r#"422 validation_errors {"external_subscription_id":["value_is_mandatory"]}"#),
        ("?external_subscription_id=none", "404 subscription_not_found null"),
        ("?external_subscription_id=sub&billable_metric_code=none", "404 billable_metric_not_found null"),
    ] {
        assert_eq!(past(more).error(), wanted, "{more}");
    }
    assert_eq!(
        past("?external_subscription_id=sub&periods_count=1").body["usage_periods"].as_array().unwrap().len(),
        1
    );
}

#[test]
fn a_plans_own_price_is_billed_by_the_day() {
    let lab = Lab::new();
    let plan = json!({"name": "p", "code": "p", "interval": "monthly", "amount_cents": 3000, "amount_currency": "USD", "charges": []});
    lab.made("/plans", json!({ "plan": plan }));
    lab.subscribe("ada", "sub", "p", "2026-11-21");
    lab.set_clock("2026-12-01T00:00:00Z");
    let invoices = lab.get("/invoices?external_customer_id=ada").body;
    assert_eq!(
        (&invoices["meta"]["total_count"], &invoices["invoices"][0]["total_amount_cents"]),
        (&json!(1), &json!(1000))
    );
}
