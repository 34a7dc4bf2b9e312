//! F-39: the same objects for callers of three ages, every row of the table of moved members in its place.

use crate::lab::Lab;
use sandbox::Seed;
use serde_json::{Value, json};

const OLD: &str = "2025-02-24.acacia";
const BASIL: &str = "2025-04-30.basil";

fn absent(object: &Value, names: &[&str]) {
    for name in names {
        assert_eq!(object.get(*name), None, "{name} in {}", object["object"]);
    }
}

#[test]
fn a_subscription_before_basil() {
    let lab = Lab::new(Seed::Business);
    let new = lab.get("/v1/subscriptions/sub_sandbox_user").body;
    let old = lab.get_as(OLD, "/v1/subscriptions/sub_sandbox_user").body;
    let item = &new["items"]["data"][0];
    assert_eq!(old["current_period_start"], item["current_period_start"]);
    assert_eq!(old["current_period_end"], item["current_period_end"]);
    assert_eq!((&old["plan"]["id"], &old["plan"]["amount"]), (&json!("price_professional_monthly"), &json!(4900)));
    assert_eq!((&old["quantity"], &old["discount"]), (&json!(1), &json!(null)));
    assert_eq!(old["items"]["data"][0]["price"]["recurring"]["aggregate_usage"], json!(null));
    absent(&old, &["billing_mode", "billing_schedules", "managed_payments", "customer_account", "status_details"]);
    absent(&old["items"]["data"][0], &["current_period_start", "current_period_end", "billed_until"]);
    absent(&new, &["current_period_start", "current_period_end", "plan", "quantity", "discount"]);
}

#[test]
fn several_items_have_no_plan_in_common() {
    let lab = Lab::new(Seed::Business);
    let old = lab.get_as(OLD, "/v1/subscriptions/sub_sandbox_066").body;
    assert_eq!((&old["plan"], &old["quantity"]), (&json!(null), &json!(null)));
    assert_eq!(old["items"]["data"].as_array().unwrap().len(), 2);
}

#[test]
fn an_invoice_before_basil() {
    let lab = Lab::new(Seed::Business);
    let old = lab.get_as(OLD, "/v1/invoices/in_sandbox_user_6").body;
    for (name, expected) in [
        ("subscription", json!("sub_sandbox_user")),
        ("paid", json!(true)),
        ("paid_out_of_band", json!(false)),
        ("charge", json!("ch_sandbox_user_6")),
        ("payment_intent", json!("pi_sandbox_user_6")),
        ("quote", json!(null)),
        ("tax", json!(null)),
        ("total_tax_amounts", json!([])),
        ("discount", json!(null)),
        ("subscription_details", json!({"metadata": {"tier": "professional"}})),
    ] {
        assert_eq!(old.get(name), Some(&expected), "{name}");
    }
    absent(&old, &["parent", "total_taxes", "amount_overpaid", "status_details", "customer_account", "payments"]);
    let line = &old["lines"]["data"][0];
    assert_eq!(line["price"]["id"], "price_professional_monthly");
    assert_eq!((&line["plan"]["interval"], &line["plan"]["object"]), (&json!("month"), &json!("plan")));
    assert_eq!((&line["type"], &line["proration"]), (&json!("subscription"), &json!(false)));
    assert_eq!(
        (&line["subscription"], &line["subscription_item"]),
        (&json!("sub_sandbox_user"), &json!("si_sandbox_user_1"))
    );
    absent(line, &["parent", "pricing", "taxes", "subtotal", "quantity_decimal"]);
    let open = lab.get_as(OLD, "/v1/invoices?status=open").rows()[0].clone();
    assert_eq!((&open["paid"], &open["status"]), (&json!(false), &json!("open")));
}

#[test]
fn charges_and_intents_before_basil() {
    let lab = Lab::new(Seed::Business);
    let charge = |version: &str| lab.get_as(version, "/v1/charges/ch_sandbox_075_8").body;
    assert_eq!(charge(OLD)["invoice"], "in_sandbox_075_8");
    absent(&charge(OLD), &["refunds"]);
    absent(&charge(BASIL), &["invoice", "refunds"]);
    assert_eq!(charge("2022-08-01")["refunds"]["data"][0]["amount"], 4900);
    let intent = lab.get_as("2022-08-01", "/v1/payment_intents/pi_sandbox_user_6").body;
    assert_eq!(intent["invoice"], "in_sandbox_user_6");
    assert_eq!(intent["charges"]["data"][0]["invoice"], "in_sandbox_user_6");
}

#[test]
fn the_coupon_of_a_discount_moved_twice() {
    let lab = Lab::new(Seed::Business);
    let found = |version: &str| lab.get_as(version, "/v1/subscriptions/sub_sandbox_061?expand[]=discounts").body;
    assert_eq!(found(OLD)["discount"]["coupon"]["percent_off"], 20);
    assert_eq!(found(OLD)["discounts"][0]["coupon"]["id"], "FOUNDING20");
    let between = found(BASIL);
    assert_eq!(between["discounts"][0]["coupon"]["id"], "FOUNDING20");
    absent(&between["discounts"][0], &["source"]);
    absent(&between, &["discount", "current_period_end", "plan"]);
    assert!(between["items"]["data"][0]["current_period_end"].is_i64());
    let new = found("2025-09-30.clover");
    assert_eq!(new["discounts"][0]["source"], json!({"coupon": "FOUNDING20", "type": "coupon"}));
    absent(&new["discounts"][0], &["coupon"]);
}

#[test]
fn old_paths_of_expand_lead_where_they_led() {
    let lab = Lab::new(Seed::Business);
    let path = "/v1/subscriptions/sub_sandbox_user?expand[]=latest_invoice.payment_intent.latest_charge.invoice";
    let found = lab.get_as(OLD, path).body;
    let intent = &found["latest_invoice"]["payment_intent"];
    assert_eq!(intent["latest_charge"]["invoice"]["paid"], true);
    assert_eq!(intent["invoice"], "in_sandbox_user_6");
    assert_eq!(lab.get(path).status, 400);
}

#[test]
fn members_appear_on_their_day() {
    let lab = Lab::new(Seed::Business);
    let has = |version: &str, path: &str, name: &str| lab.get_as(version, path).body.get(name).is_some();
    for (path, name, before, since) in [
        ("/v1/subscriptions/sub_sandbox_user", "billing_mode", "2025-05-28.basil", "2025-06-30.basil"),
        ("/v1/subscriptions/sub_sandbox_user", "managed_payments", "2026-02-25.clover", "2026-03-25.dahlia"),
        ("/v1/subscriptions/sub_sandbox_user", "status_details", "2026-08-26.dahlia", "2026-09-30.endive"),
        ("/v1/customers/cus_sandbox_user", "customer_account", "2025-11-17.clover", "2025-12-15.clover"),
        ("/v1/invoices/in_sandbox_user_6", "amount_overpaid", OLD, "2025-03-31.basil"),
    ] {
        assert_eq!((has(before, path, name), has(since, path, name)), (false, true), "{name}");
    }
}
