//! What the sandbox is planted with.

use crate::lab::{Lab, NOW};
use sandbox::{Seed, USER_CUSTOMER};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};

/// All rows of a list, page by page.
fn all(lab: &Lab, path: &str) -> Vec<Value> {
    let mut out: Vec<Value> = Vec::new();
    loop {
        let after =
            out.last().map(|row| format!("&starting_after={}", row["id"].as_str().unwrap())).unwrap_or_default();
        let page = lab.get(&format!("{path}{}limit=100{after}", if path.contains('?') { '&' } else { '?' }));
        out.extend_from_slice(page.rows());
        if page.body["has_more"] == false {
            return out;
        }
    }
}

fn count(rows: &[Value], name: &str) -> BTreeMap<String, usize> {
    let mut out = BTreeMap::new();
    for row in rows {
        *out.entry(row[name].as_str().unwrap_or("-").to_owned()).or_default() += 1;
    }
    out
}

/// Tier, count and minor units a month of a subscription: price first, as the contract says.
fn monthly(subscription: &Value) -> (String, i64) {
    let items = subscription["items"]["data"].as_array().unwrap();
    let value = items.iter().map(|item| {
        let amount = item["price"]["unit_amount"].as_i64().unwrap() * item["quantity"].as_i64().unwrap();
        if item["price"]["recurring"]["interval"] == "year" { amount / 12 } else { amount }
    });
    let tier = items[0]["price"]["id"].as_str().unwrap().split('_').nth(1).unwrap();
    (tier.to_owned(), value.sum())
}

#[test]
fn the_business_adds_up_to_4990() {
    let lab = Lab::new(Seed::Business);
    assert_eq!(all(&lab, "/v1/customers").len(), 150);
    let running = all(&lab, "/v1/subscriptions");
    assert_eq!(running.len(), 120);
    let statuses = count(&running, "status");
    assert_eq!(statuses, BTreeMap::from([("active".into(), 109), ("past_due".into(), 1), ("trialing".into(), 10)]));
    let mut tiers: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for subscription in &running {
        let (tier, value) = monthly(subscription);
        let line = tiers.entry(tier).or_default();
        line.0 += 1;
        line.1 += if subscription["currency"] == "usd" { value } else { 0 };
    }
    let expected =
        [("enterprise", (10, 99_000)), ("professional", (70, 343_000)), ("starter", (30, 57_000)), ("trial", (10, 0))];
    assert_eq!(tiers, expected.map(|(tier, line)| (tier.to_owned(), line)).into());
    assert_eq!(count(&running, "currency")["jpy"], 1);
    let late = running.iter().find(|row| row["status"] == "past_due").unwrap();
    assert_eq!(monthly(late).0, "starter");
    assert!((1..119).contains(&running.iter().filter(|row| row["metadata"]["tier"].is_string()).count()));
}

/// The 4,990.00 stands whether or not coupons are taken off: in dollars only a `once` coupon is at work.
#[test]
fn coupons_do_not_touch_the_total() {
    let lab = Lab::new(Seed::Business);
    let discounted: Vec<(String, String, String)> =
        all(&lab, "/v1/subscriptions?expand[]=data.discounts.source.coupon")
            .iter()
            .flat_map(|row| row["discounts"].as_array().unwrap().iter().map(move |discount| (row, discount)))
            .map(|(row, discount)| {
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                (text(&row["currency"]), text(&row["status"]), text(&discount["source"]["coupon"]["duration"]))
            })
            .collect();
    let line = |currency: &str, duration: &str| (currency.to_owned(), "active".to_owned(), duration.to_owned());
    assert_eq!(HashSet::from_iter(discounted), HashSet::from([line("jpy", "forever"), line("usd", "once")]));
}

#[test]
fn ada_is_who_the_documents_say() {
    let lab = Lab::new(Seed::Business);
    let ada = lab.get(&format!("/v1/customers/{USER_CUSTOMER}")).body;
    assert_eq!((&ada["name"], &ada["email"]), (&json!("Ada Moreno"), &json!("ada@example.com")));
    assert_eq!(ada["metadata"]["tier"], "professional");
    let own = lab.get(&format!("/v1/subscriptions?customer={USER_CUSTOMER}")).rows()[0].clone();
    assert_eq!((&own["status"], monthly(&own)), (&json!("active"), ("professional".to_owned(), 4_900)));
    let start = own["items"]["data"][0]["current_period_start"].as_i64().unwrap();
    assert_eq!((NOW - start) / 86_400, 10);
    let card = lab.get(&format!("/v1/payment_methods?customer={USER_CUSTOMER}")).rows()[0]["card"].clone();
    assert_eq!((&card["brand"], &card["last4"]), (&json!("visa"), &json!("4242")));
    let invoices = lab.get(&format!("/v1/invoices?customer={USER_CUSTOMER}"));
    assert_eq!(invoices.rows().len(), 6);
    for invoice in invoices.rows() {
        assert_eq!((&invoice["status"], &invoice["total"]), (&json!("paid"), &json!(4_900)));
        assert!(invoice["number"].as_str().unwrap().starts_with("INV-2026-"));
    }
}

#[test]
fn there_is_trouble_and_variety_in_it() {
    let lab = Lab::new(Seed::Business);
    let charges = all(&lab, "/v1/charges");
    assert_eq!(charges.iter().filter(|row| row["status"] == "failed").count(), 1);
    assert_eq!(charges.iter().filter(|row| row["refunded"] == true).count(), 1);
    assert_eq!(all(&lab, "/v1/refunds").len(), 1);
    let methods = all(&lab, "/v1/payment_methods");
    let kinds = count(&methods, "type");
    assert_eq!((kinds["us_bank_account"], kinds["sepa_debit"]), (2, 1));
    let brands: HashSet<&str> = methods.iter().filter_map(|row| row["card"]["brand"].as_str()).collect();
    assert_eq!(brands, HashSet::from(["visa", "mastercard", "amex", "discover", "jcb"]));
    let customers = all(&lab, "/v1/customers");
    assert_eq!(customers.iter().filter_map(|row| row["email"].as_str()).collect::<HashSet<_>>().len(), 150);
    assert!(customers.iter().all(|row| row["metadata"]["user_id"].is_string() && row["metadata"]["tier"].is_string()));
    let numbers: HashSet<String> =
        all(&lab, "/v1/invoices").iter().map(|row| row["number"].as_str().unwrap().to_owned()).collect();
    assert_eq!(numbers.len(), all(&lab, "/v1/invoices").len(), "every number once");
}

/// Every id in every object leads to an object, and nothing happens in the future or before its customer.
#[test]
fn the_business_hangs_together() {
    let lab = Lab::new(Seed::Business);
    let lists = [
        "customers",
        "products",
        "prices",
        "coupons",
        "subscriptions?status=all",
        "invoices",
        "invoice_payments",
        "charges",
        "refunds",
        "payment_methods",
        "payment_intents",
    ];
    let objects: Vec<Value> = lists.iter().flat_map(|list| all(&lab, &format!("/v1/{list}"))).collect();
    let born: BTreeMap<&str, i64> =
        objects.iter().map(|object| (object["id"].as_str().unwrap(), object["created"].as_i64().unwrap())).collect();
    for object in &objects {
        let (id, created) = (&object["id"], object["created"].as_i64().unwrap());
        assert!(created <= NOW, "{id} is made in the future");
        for name in [
            "customer",
            "latest_invoice",
            "invoice",
            "charge",
            "payment_intent",
            "latest_charge",
            "payment_method",
            "product",
            "default_price",
        ] {
            if let Some(other) = object[name].as_str() {
                assert!(born.contains_key(other), "{id}: {name} {other} is nobody");
            }
        }
        if let Some(customer) = object["customer"].as_str() {
            assert!(born[customer] <= created, "{id} is older than {customer}");
        }
    }
}

#[test]
fn the_same_instant_plants_the_same_business() {
    let (one, two) = (Lab::new(Seed::Business), Lab::new(Seed::Business));
    for path in ["/v1/customers?limit=100", "/v1/invoices?limit=100", "/v1/payment_intents?limit=100"] {
        assert_eq!(one.get(path).text, two.get(path).text, "{path}");
    }
}

#[test]
fn scale_is_whole_wherever_one_looks() {
    let lab = Lab::new(Seed::Scale { customers: 250 });
    for list in
        ["customers", "subscriptions", "invoices", "charges", "payment_methods", "payment_intents", "invoice_payments"]
    {
        let rows = all(&lab, &format!("/v1/{list}"));
        let ids: HashSet<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
        assert_eq!((rows.len(), ids.len()), (250, 250), "{list}");
        assert!(rows.windows(2).all(|two| two[0]["created"].as_i64() >= two[1]["created"].as_i64()), "{list}");
    }
    let deep = lab.get("/v1/subscriptions/sub_scale_0000123?expand[]=customer&expand[]=latest_invoice.payments").body;
    assert_eq!(deep["customer"]["id"], "cus_scale_0000123");
    let invoice = &deep["latest_invoice"];
    assert_eq!((&invoice["status"], &invoice["total"]), (&json!("paid"), &json!(9_900)));
    assert_eq!(invoice["payments"]["data"][0]["payment"]["payment_intent"], "pi_scale_0000123");
    assert_eq!(lab.get("/v1/charges?customer=cus_scale_0000123").rows()[0]["amount"], 9_900);
    let old = lab.get_as("2024-06-20", "/v1/charges/ch_scale_0000123").body;
    assert_eq!(old["invoice"], "in_scale_0000123");
}
