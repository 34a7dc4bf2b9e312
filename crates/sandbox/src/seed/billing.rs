//! Invoices of the past: made, charged and paid in one go, under readable ids.

use crate::calendar::{DAY, Period};
use crate::kind::Kind;
use crate::resources::invoices::{self, Head};
use crate::resources::lines::{self, Source};
use crate::resources::{charges, invoice_payments, payment_intents, payment_methods};
use crate::store::Store;
use crate::world::{World, array};
use serde_json::{Value, json};
use std::sync::Arc;

/// What was billed.
pub(super) struct Bill<'a> {
    /// The last part of the readable ids.
    pub(super) name: &'a str,
    pub(super) subscription: &'a Value,
    pub(super) customer: &'a Value,
    /// `subscription_create` or `subscription_cycle`.
    pub(super) reason: &'a str,
    pub(super) at: i64,
    /// The period that all lines are for.
    pub(super) period: Period,
    pub(super) trial: bool,
    /// What was charged, which may have declined.
    pub(super) method: &'a Value,
}

/// The open invoice: lines from items, less the coupons that were running.
pub(super) fn open(store: &Store, bill: &Bill<'_>, id: &str, number: &str) -> Value {
    let items: Vec<&Value> = array(&bill.subscription["items"]["data"]).iter().collect();
    let source = Source { subscription: bill.subscription, invoice: id, trial: bill.trial, period: Some(bill.period) };
    let lines = lines::discounted(store, &running(store, bill), lines::of_items(store, &source, &items));
    let head = Head {
        customer: bill.customer,
        subscription: Some(bill.subscription),
        reason: bill.reason,
        at: bill.at,
        currency: bill.subscription["currency"].as_str().unwrap_or("usd"),
    };
    let mut invoice = invoices::object(id, &head, lines);
    invoices::open(&mut invoice, number, bill.at);
    invoice
}

/// The discounts that worked on this invoice; a `once` coupon works on the first one only.
fn running<'a>(store: &Store, bill: &Bill<'a>) -> Vec<&'a str> {
    let works = |id: &&str| {
        let Some(discount) = store.get(Kind::Discount, id) else { return false };
        let coupon = discount["source"]["coupon"].as_str().and_then(|coupon| store.get(Kind::Coupon, coupon));
        let once = coupon.is_some_and(|coupon| coupon["duration"] == "once");
        discount["end"].as_i64().is_none_or(|end| end > bill.at)
            && discount["start"].as_i64().is_none_or(|start| start <= bill.at)
            && (!once || bill.reason == "subscription_create")
    };
    array(&bill.subscription["discounts"]).iter().filter_map(Value::as_str).filter(works).collect()
}

/// Makes the invoice, has it paid or declined, and stores all of it.
pub(super) fn bill(world: &mut World, bill: &Bill<'_>) -> Arc<Value> {
    let id = |prefix: &str| format!("{prefix}_{}", bill.name);
    let number = world.invoice_number(bill.at);
    let mut invoice = open(&world.store, bill, &id("in"), &number);
    let total = invoice["total"].as_i64().unwrap_or_default();
    if total == 0 {
        invoices::settle(&mut invoice, bill.at);
        return world.store.put(Kind::Invoice, invoice);
    }
    let currency = invoice["currency"].as_str().unwrap_or_default().to_owned();
    let mut intent = payment_intents::object(&id("pi"), bill.at, total, &currency, &bill.customer["id"]);
    let charge = charge(world, bill, total, &currency);
    payment_intents::charged(&mut intent, &charge, bill.method);
    // The next try lies ahead of the birth of the sandbox, however old the invoice is.
    let again = world.born().max(bill.at) + DAY;
    invoices::attempted(&mut invoice, charge["status"] == "succeeded", bill.at, Some(again));
    invoice["auto_advance"] = json!(invoice["status"] == "open");
    let paid_at = invoice["status_transitions"]["paid_at"].as_i64();
    world.store.put(Kind::InvoicePayment, invoice_payments::object(&id("inpay"), &invoice, &id("pi"), paid_at));
    world.store.put(Kind::PaymentIntent, intent);
    world.store.put(Kind::Invoice, invoice)
}

fn charge(world: &mut World, bill: &Bill<'_>, total: i64, currency: &str) -> Arc<Value> {
    let fallback = if bill.reason == "subscription_create" { "Subscription creation" } else { "Subscription update" };
    let charge = charges::object(&charges::Asked {
        id: &format!("ch_{}", bill.name),
        created: bill.at,
        amount: total,
        currency,
        customer: &bill.customer["id"],
        description: bill.subscription["description"].as_str().or(Some(fallback)),
        intent: Some(&format!("pi_{}", bill.name)),
        method: bill.method,
        decline: payment_methods::decline(bill.method),
    });
    world.store.put(Kind::Charge, charge)
}
