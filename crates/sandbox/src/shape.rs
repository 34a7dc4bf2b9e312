//! Objects are kept in the newest shape; this writes them for an older `Stripe-Version`.
//!
//! Three ages: before basil (2025-03-31), from basil until clover (2025-09-30), and since. Single members that came in
//! between are left out for callers who are older than they are.

use crate::kind::{Index, Kind};
use crate::resources::{embedded, subscription_items};
use crate::store::{Query, Start, Store};
use crate::version::{BASIL, CLOVER, UNEMBEDDED, Version};
use crate::world::array;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Members that are younger than the oldest shape: object, member, first day.
const ADDED: &[(&str, &str, &str)] = &[
    ("invoice", "status_details", "2026-09-30"),
    ("subscription", "status_details", "2026-09-30"),
    ("invoice", "amount_paid_off_stripe", "2026-03-25"),
    ("line_item", "quantity_decimal", "2026-03-25"),
    ("payment_intent", "managed_payments", "2026-03-25"),
    ("payment_intent", "payment_details", "2025-09-30"),
    ("subscription", "billing_schedules", "2026-03-25"),
    ("subscription", "managed_payments", "2026-03-25"),
    ("subscription_item", "billed_until", "2026-03-25"),
    ("customer", "customer_account", "2025-12-15"),
    ("discount", "customer_account", "2025-12-15"),
    ("invoice", "customer_account", "2025-12-15"),
    ("payment_intent", "customer_account", "2025-12-15"),
    ("payment_method", "customer_account", "2025-12-15"),
    ("refund", "customer", "2025-12-15"),
    ("refund", "customer_account", "2025-12-15"),
    ("refund", "payment_method", "2025-12-15"),
    ("subscription", "customer_account", "2025-12-15"),
    ("tax_id", "customer_account", "2025-12-15"),
    ("payment_intent", "excluded_payment_method_types", "2025-09-30"),
    ("subscription", "billing_mode", "2025-06-30"),
    ("subscription_schedule", "billing_mode", "2025-06-30"),
    ("subscription_schedule", "customer_account", "2025-12-15"),
    ("subscription_schedule", "pause_schedules", "2026-09-30"),
    ("invoice", "amount_overpaid", BASIL),
];

/// The newest day of the table above: callers of today need nothing rewritten.
const NEWEST: &str = "2026-09-30";

/// Whether an object can be sent as it is kept.
pub(crate) fn is_current(kind: &str, version: &Version) -> bool {
    !version.before(NEWEST) && !matches!(kind, "price" | "coupon")
}

/// Rewrites the object and everything in it into the caller's shape.
pub(crate) fn reshape(store: &Store, value: &mut Value, version: &Version) {
    match value {
        // An event is in the shape of the account's version, whoever looks at it.
        Value::Object(object) if object.get("object").is_some_and(|kind| kind == "event") => {}
        Value::Object(object) => {
            reshape_one(store, object, version);
            for (_, member) in object.iter_mut().filter(|(name, _)| *name != "metadata") {
                reshape(store, member, version);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| reshape(store, value, version)),
        _ => {}
    }
}

fn reshape_one(store: &Store, object: &mut Map<String, Value>, version: &Version) {
    let Some(kind) = object.get("object").and_then(Value::as_str).map(str::to_owned) else { return };
    let old = version.before(BASIL);
    match kind.as_str() {
        "price" => price(object, old),
        "plan" if old => put(object, "aggregate_usage", Value::Null),
        "coupon" => drop(object.remove("applies_to")),
        "discount" if version.before(CLOVER) => discount(store, object),
        "subscription" if old => subscription(store, object),
        "subscription_item" if old => remove(object, &["current_period_start", "current_period_end"]),
        "invoice" if old => invoice(store, object),
        "line_item" if old => line(store, object),
        "promotion_code" if version.before(CLOVER) => promotion_code(store, object),
        "invoiceitem" if old => invoice_item(store, object),
        "charge" => charge(store, object, version),
        "payment_intent" => payment_intent(store, object, version),
        _ => {}
    }
    for (of, member, since) in ADDED {
        if *of == kind && version.before(since) {
            object.remove(*member);
        }
    }
}

/// A promotion code used to carry its coupon whole.
fn promotion_code(store: &Store, object: &mut Map<String, Value>) {
    let id = object.get("promotion").and_then(|promotion| promotion["coupon"].as_str()).unwrap_or_default();
    let coupon = store.get(Kind::Coupon, id).map_or(Value::Null, |coupon| (*coupon).clone());
    put(object, "coupon", coupon);
    remove(object, &["promotion"]);
}

fn invoice_item(store: &Store, object: &mut Map<String, Value>) {
    let parent = object.remove("parent").unwrap_or_default();
    let pricing = object.remove("pricing").unwrap_or_default();
    let price = pricing["price_details"]["price"].as_str().and_then(|id| store.get(Kind::Price, id));
    let price = price.map_or(Value::Null, |price| (*price).clone());
    let plan = if price["type"] == "recurring" { crate::resources::plans::object(&price) } else { Value::Null };
    put(object, "plan", plan);
    put(object, "price", price);
    put(object, "subscription", parent["subscription_details"]["subscription"].clone());
    put(object, "subscription_item", parent["subscription_details"]["subscription_item"].clone());
    let unit = pricing["unit_amount_decimal"].clone();
    put(
        object,
        "unit_amount",
        unit.as_str().and_then(|unit| unit.parse::<i64>().ok()).map_or(Value::Null, Value::from),
    );
    put(object, "unit_amount_decimal", unit);
    remove(object, &["net_amount", "proration_details", "quantity_decimal"]);
}

fn put(object: &mut Map<String, Value>, name: &str, value: Value) {
    object.insert(name.to_owned(), value);
}

fn remove(object: &mut Map<String, Value>, names: &[&str]) {
    for name in names {
        object.remove(*name);
    }
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn price(object: &mut Map<String, Value>, old: bool) {
    remove(object, &["tiers", "currency_options"]);
    if let (true, Some(Value::Object(recurring))) = (old, object.get_mut("recurring")) {
        put(recurring, "aggregate_usage", Value::Null);
    }
}

/// A discount used to carry its coupon whole.
fn discount(store: &Store, object: &mut Map<String, Value>) {
    let id = object.get("source").and_then(|source| source["coupon"].as_str()).unwrap_or_default();
    let coupon = store.get(Kind::Coupon, id);
    let coupon =
        coupon.map_or_else(|| json!({"id": id, "object": "coupon", "deleted": true}), |coupon| (*coupon).clone());
    put(object, "coupon", coupon);
    remove(object, &["source"]);
}

/// The first of several discounts, whole: what stood in `discount`.
fn first_discount(store: &Store, object: &Map<String, Value>) -> Value {
    let first = object.get("discounts").and_then(|ids| ids[0].as_str());
    let found = first.and_then(|id| store.get(Kind::Discount, id));
    found.map_or(Value::Null, |discount| (*discount).clone())
}

fn subscription(store: &Store, object: &mut Map<String, Value>) {
    let (start, end) = subscription_items::current_period(object.get("items").unwrap_or(&Value::Null));
    put(object, "current_period_start", json!(start));
    put(object, "current_period_end", json!(end));
    let discount = first_discount(store, object);
    put(object, "discount", discount);
    let (plan, quantity) = match object.get("items").map(|items| array(&items["data"])) {
        Some([only]) => (only["plan"].clone(), only["quantity"].clone()),
        _ => (Value::Null, Value::Null),
    };
    put(object, "plan", plan);
    put(object, "quantity", quantity);
}

fn invoice(store: &Store, object: &mut Map<String, Value>) {
    if text(object, "id").starts_with("upcoming_") {
        object.remove("id");
    }
    let parent = object.remove("parent").unwrap_or_default();
    let details = &parent["subscription_details"];
    let payment = store.newest(Kind::InvoicePayment, Index::Invoice, text(object, "id"));
    let intent = payment.map_or(Value::Null, |payment| payment["payment"]["payment_intent"].clone());
    let charge = intent.as_str().and_then(|id| store.get(Kind::PaymentIntent, id));
    put(object, "charge", charge.map_or(Value::Null, |intent| intent["latest_charge"].clone()));
    put(object, "payment_intent", intent);
    put(object, "subscription", details["subscription"].clone());
    put(object, "subscription_details", json!({"metadata": details["metadata"]}));
    put(object, "quote", parent["quote_details"]["quote"].clone());
    put(object, "paid", json!(object.get("status").is_some_and(|status| status == "paid")));
    put(object, "paid_out_of_band", json!(false));
    let discount = first_discount(store, object);
    put(object, "discount", discount);
    let taxes = old_taxes(object.get("total_taxes"));
    let tax = taxes.iter().filter_map(|tax| tax["amount"].as_i64()).sum::<i64>();
    put(object, "tax", if taxes.is_empty() { Value::Null } else { json!(tax) });
    put(object, "total_tax_amounts", json!(taxes));
    put(object, "application_fee_amount", Value::Null);
    put(object, "transfer_data", Value::Null);
    remove(object, &["total_taxes", "payments", "confirmation_secret"]);
    if let Some(Value::Object(tax)) = object.get_mut("automatic_tax") {
        tax.remove("provider");
    }
}

fn line(store: &Store, object: &mut Map<String, Value>) {
    let parent = object.remove("parent").unwrap_or_default();
    let pricing = object.remove("pricing").unwrap_or_default();
    let item = &parent["subscription_item_details"];
    let price = pricing["price_details"]["price"].as_str().and_then(|id| store.get(Kind::Price, id));
    let price = price.map_or(Value::Null, |price| (*price).clone());
    let plan = if price["type"] == "recurring" { crate::resources::plans::object(&price) } else { Value::Null };
    let taxes = old_taxes(object.get("taxes"));
    let inside =
        taxes.iter().filter(|tax| tax["inclusive"] == true).filter_map(|tax| tax["amount"].as_i64()).sum::<i64>();
    let rates = taxes.iter().filter_map(|tax| store.get(Kind::TaxRate, tax["tax_rate"].as_str()?));
    put(object, "tax_rates", rates.map(|rate| (*rate).clone()).collect());
    put(
        object,
        "amount_excluding_tax",
        json!(object.get("amount").and_then(Value::as_i64).unwrap_or_default() - inside),
    );
    put(object, "unit_amount_excluding_tax", pricing["unit_amount_decimal"].clone());
    put(object, "plan", plan);
    put(object, "price", price);
    put(object, "proration", item["proration"].clone());
    put(object, "proration_details", item["proration_details"].clone());
    put(object, "subscription", item["subscription"].clone());
    put(object, "subscription_item", item["subscription_item"].clone());
    put(object, "tax_amounts", json!(taxes));
    put(object, "type", json!("subscription"));
    remove(object, &["taxes", "subtotal"]);
}

/// Taxes as they were written before basil.
fn old_taxes(taxes: Option<&Value>) -> Vec<Value> {
    let old = |tax: &Value| {
        json!({
            "amount": tax["amount"], "inclusive": tax["tax_behavior"] == "inclusive",
            "tax_rate": tax["tax_rate_details"]["tax_rate"], "taxability_reason": tax["taxability_reason"],
            "taxable_amount": tax["taxable_amount"]
        })
    };
    taxes.map_or(&[][..], array).iter().map(old).collect()
}

/// The invoice that a payment intent pays: only its invoice payment knows.
fn invoice_of(store: &Store, intent: &str) -> Value {
    let payment = store.newest(Kind::InvoicePayment, Index::PaymentIntent, intent);
    payment.map_or(Value::Null, |payment| payment["invoice"].clone())
}

fn charge(store: &Store, object: &mut Map<String, Value>, version: &Version) {
    if version.before(BASIL) {
        let invoice = invoice_of(store, text(object, "payment_intent"));
        put(object, "invoice", invoice);
    }
    if version.before(UNEMBEDDED) {
        let refunds = refunds(store, text(object, "id"));
        put(object, "refunds", refunds);
    }
}

fn payment_intent(store: &Store, object: &mut Map<String, Value>, version: &Version) {
    let id = text(object, "id").to_owned();
    if version.before(BASIL) {
        put(object, "invoice", invoice_of(store, &id));
    }
    if version.before(UNEMBEDDED) {
        let url = format!("/v1/charges?payment_intent={id}");
        put(object, "charges", first_ten(store, Kind::Charge, Index::PaymentIntent, &id, url));
    }
}

/// The refunds of a charge, as they stand inside it.
pub(crate) fn refunds(store: &Store, charge: &str) -> Value {
    first_ten(store, Kind::Refund, Index::Charge, charge, format!("/v1/charges/{charge}/refunds"))
}

/// An embedded list: the ten newest, and whether there are more.
pub(crate) fn first_ten(store: &Store, kind: Kind, index: Index, value: &str, url: String) -> Value {
    let query = Query { equal: vec![(index, Arc::from(value))], ..Query::default() };
    let page = store.page(kind, &query, Start::Newest, 10);
    let mut list = embedded(url, page.rows.iter().map(|row| (*store.made(row)).clone()).collect());
    list["has_more"] = json!(page.has_more);
    list
}
