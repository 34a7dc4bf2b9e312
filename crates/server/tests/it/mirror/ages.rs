//! Both ages of Stripe's shapes, and servers of other shapes, end in the same rows (F-39).

use std::collections::BTreeMap;

use serde_json::Value;

use super::shelf::Shelf;
use super::{in_front_of, mirrored, subscription};
use crate::harness::{Plan, World};

/// Everything that is derived or shown, of every list.
const ROWS: [&str; 7] = [
    "SELECT id, customer, status, tier, currency, amount_minor, interval_unit, interval_count, monthly_minor, value_until, period_start, period_end, anchor, cancel_at_period_end, created, fault FROM subscriptions",
    "SELECT id, customer, subscription, number, status, currency, amount_due, amount_paid, created, due_date, paid, invoice_pdf, hosted_invoice_url FROM invoices",
    "SELECT id, customer, amount, amount_refunded, currency, status, description, created, paid, refunded FROM charges",
    "SELECT id, charge, amount, currency, status, created FROM refunds",
    "SELECT id, email, name, created, metadata FROM customers",
    "SELECT id, customer, kind, brand, last4, exp_month, exp_year, created FROM payment_methods",
    "SELECT id, product FROM prices",
];

async fn rows(world: &World) -> Vec<BTreeMap<String, Vec<String>>> {
    let mut all = Vec::new();
    for sql in ROWS {
        all.push(mirrored(&world.app, sql).await);
    }
    all
}

#[tokio::test]
async fn f39_every_version_of_stripe_ends_in_the_same_rows() {
    let mut known: Option<Vec<BTreeMap<String, Vec<String>>>> = None;
    for version in ["2026-09-30.endive", "2025-09-30.clover", "2025-03-31.basil", "2025-02-24.acacia", "2020-08-27"] {
        let world = World::planned(Plan { version, ..Plan::default() }).await;
        assert_eq!(world.sync().await.faults, Vec::new(), "{version}");
        let rows = rows(&world).await;
        let Some(known) = &known else {
            assert!(rows.iter().all(|list| !list.is_empty()));
            known = Some(rows);
            continue;
        };
        for (list, sql) in ROWS.iter().enumerate() {
            assert_eq!(known[list], rows[list], "{version}: {sql}");
        }
    }
}

/// Objects of our own making: the same little account as it was written before 2025-03-31 and as it is written today.
fn account(age: &str) -> Vec<(String, Vec<Value>)> {
    let text = match age {
        "old" => include_str!("../fixtures/account-2025-02-24.json"),
        _ => include_str!("../fixtures/account-2026-09-30.json"),
    };
    let account: BTreeMap<String, Vec<Value>> = serde_json::from_str(text).expect("a fixture");
    account.into_iter().collect()
}

async fn of_age(age: &str) -> World {
    let shelf = Shelf::whole(&[]);
    for (list, objects) in account(age) {
        shelf.put(&list, objects);
    }
    let world = in_front_of(&shelf).await;
    assert_eq!(world.sync().await.faults, Vec::new(), "{age}");
    world
}

#[tokio::test]
async fn f39_objects_of_both_ages_are_read_from_where_each_keeps_its_data() {
    let (old, new) = (of_age("old").await, of_age("new").await);
    let (before, after) = (rows(&old).await, rows(&new).await);
    for (list, sql) in ROWS.iter().enumerate() {
        assert_eq!(before[list], after[list], "{sql}");
    }
    let row = subscription(&new.app, "sub_1").await;
    assert_eq!(row.period.expect("a period").end.to_string(), "2026-12-12T10:00:00Z");
    // 2 × 49.00 with a quarter off for good.
    assert_eq!((row.amount_minor, row.monthly_minor, row.tier.as_str()), (Some(9800), 7350, "professional"));
    assert_eq!(after[1]["in_1"][1], "sub_1", "the invoice knows its subscription");
    for world in [&old, &new] {
        let token = world.user("a@example.com", Some("cus_1"), false).await.1;
        let mut shown = String::new();
        for page in ["subscription", "invoices", "payment-methods"] {
            let answer = world.get(&format!("/api/v1/billing/{page}"), &token).await;
            shown.extend([page, " ", &answer.shown(), "\n"]);
        }
        insta::assert_snapshot!("an_account_of_either_age", shown);
    }
}

#[tokio::test]
async fn f39_unknown_words_and_missing_members_cost_no_list() {
    let bare = serde_json::json!({"id": "sub_9", "object": "subscription", "status": "hibernating", "customer": "cus_1", "future": {"a": 1}});
    let odd = serde_json::json!({"id": "pm_9", "object": "payment_method", "type": "telepathy", "customer": "cus_1", "created": "soon"});
    let shelf = Shelf::whole(&[
        ("subscriptions", vec![bare]),
        ("payment_methods", vec![odd]),
        ("customers", vec![serde_json::json!({"id": "cus_1"})]),
    ]);
    let world = in_front_of(&shelf).await;
    world.sync().await;
    let row = subscription(&world.app, "sub_9").await;
    assert_eq!((row.status.as_str(), row.amount_minor, row.monthly_minor), ("hibernating", None, 0));
    assert!(row.fault.is_some(), "a subscription of nothing has no known price");
    let token = world.user("a@example.com", Some("cus_1"), false).await.1;
    let shown = world.get("/api/v1/billing/subscription", &token).await;
    assert_eq!((shown.status, &shown.json()["amount"]), (200, &Value::Null), "an unknown is not a zero");
    let methods = world.get("/api/v1/billing/payment-methods", &token).await.json();
    assert_eq!((&methods[0]["type"], &methods[0]["card"]), (&Value::from("telepathy"), &Value::Null));
}
