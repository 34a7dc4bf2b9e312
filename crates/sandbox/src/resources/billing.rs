//! From a subscription to an invoice that can be paid: drafting with everything that is due, then finalizing.

use super::invoices::{self, Head};
use super::lines::{self, Source};
use super::{collection, discounts, invoice_payments, meters, payment_intents, tax_ids, taxes};
use crate::kind::{Index, Kind};
use crate::store::Store;
use crate::world::{World, array};
use serde_json::{Value, json};
use std::sync::Arc;

/// How long a draft waits before it is finalized by itself.
pub(crate) const DRAFT_SECONDS: i64 = 3600;

/// What is to be billed.
pub(crate) struct Bill<'a> {
    pub(crate) id: &'a str,
    pub(crate) subscription: &'a Value,
    /// `subscription_create`, `subscription_cycle`, `subscription_update`.
    pub(crate) reason: &'a str,
    /// The items that begin a period now.
    pub(crate) items: Vec<&'a Value>,
    pub(crate) trial: bool,
    /// Metered usage since this instant is billed with it.
    pub(crate) usage_since: Option<i64>,
}

/// A draft with the lines of these items, what waits for the next invoice, and the coupons that run.
pub(crate) fn draft(world: &World, bill: &Bill<'_>) -> Value {
    let store = &world.store;
    let customer = of_customer(store, bill.subscription);
    let source = Source { subscription: bill.subscription, invoice: bill.id, trial: bill.trial, period: None };
    let mut lines = lines::of_items(store, &source, &bill.items);
    if let Some(since) = bill.usage_since {
        lines.extend(meters::usage_lines(store, bill.subscription, bill.id, (since, world.now), lines.len()));
    }
    let pending = pending(store, &customer["id"], &bill.subscription["id"], &bill.subscription["currency"]);
    let place = lines.len() + 1;
    lines.extend(pending.iter().zip(place..).map(|(item, place)| line_of(item, bill.id, place)));
    let (own, theirs) = (array(&bill.subscription["discounts"]), std::slice::from_ref(&customer["discount"]["id"]));
    let discounts = running(store, if own.is_empty() { theirs } else { own }, &json!(bill.id), world.now);
    let lines = lines::discounted(store, &discounts, lines);
    let head = Head {
        customer: &customer,
        subscription: Some(bill.subscription),
        reason: bill.reason,
        at: world.now,
        currency: bill.subscription["currency"].as_str().unwrap_or("usd"),
    };
    let mut invoice = invoices::object(bill.id, &head, lines);
    invoice["default_payment_method"] = bill.subscription["default_payment_method"].clone();
    if let Some(since) = bill.usage_since {
        invoice["period_start"] = json!(since);
    }
    invoice["default_tax_rates"] = bill.subscription["default_tax_rates"].clone();
    invoice["customer_tax_ids"] = tax_ids::shown(store, &customer);
    taxes::sum_up(store, &mut invoice);
    invoice
}

/// Makes the draft and takes up the invoice items in it. It will finalize itself in an hour where `advances`.
pub(crate) fn begin(world: &mut World, bill: &Bill<'_>, advances: bool) -> Arc<Value> {
    let mut invoice = draft(world, bill);
    invoice["auto_advance"] = json!(advances);
    if advances {
        invoice["automatically_finalizes_at"] = json!(world.now + DRAFT_SECONDS);
    }
    take_up(world, &invoice);
    world.store.put(Kind::Invoice, invoice)
}

/// The customer of a subscription or invoice; deleted ones are only an id.
pub(crate) fn of_customer(store: &Store, object: &Value) -> Arc<Value> {
    let id = object["customer"].as_str().unwrap_or_default();
    store.get(Kind::Customer, id).unwrap_or_else(|| Arc::new(json!({"id": id, "object": "customer"})))
}

/// What waits for the next invoice in this currency: everything for this subscription, and what is for no subscription at all.
pub(crate) fn pending(store: &Store, customer: &Value, subscription: &Value, currency: &Value) -> Vec<Arc<Value>> {
    let mut items = store.all(Kind::InvoiceItem, Index::Pending, customer.as_str().unwrap_or_default());
    items.retain(|item| {
        let own = &item["parent"]["subscription_details"]["subscription"];
        item["currency"] == *currency && (own.is_null() || own == subscription)
    });
    items.reverse();
    items
}

/// The line that an invoice item becomes.
pub(crate) fn line_of(item: &Value, invoice: &str, place: usize) -> Value {
    let amount = item["amount"].as_i64().unwrap_or_default();
    let (currency, text) = (item["currency"].as_str(), item["description"].as_str());
    let id = lines::id(invoice, place);
    let mut line = lines::blank(&id, invoice, amount, currency.unwrap_or("usd"), text.unwrap_or_default());
    for name in ["discountable", "metadata", "period", "pricing", "quantity", "quantity_decimal"] {
        line[name] = item[name].clone();
    }
    let details = &item["parent"]["subscription_details"];
    line["subscription"] = details["subscription"].clone();
    line["taxes"] = taxes::asked(&item["tax_rates"]);
    line["parent"] = if item["proration"] == true {
        lines::item_parent(&details["subscription"], &details["subscription_item"], &item["id"])
    } else {
        json!({
            "invoice_item_details": {
                "invoice_item": item["id"], "proration": false, "proration_details": {"credited_items": null},
                "subscription": details["subscription"]
            },
            "subscription_item_details": null,
            "type": "invoice_item_details"
        })
    };
    line
}

/// Marks the invoice items of these lines as billed.
pub(crate) fn take_up(world: &mut World, invoice: &Value) {
    for line in array(&invoice["lines"]["data"]) {
        let parent = &line["parent"];
        let item = parent["subscription_item_details"]["invoice_item"]
            .as_str()
            .or(parent["invoice_item_details"]["invoice_item"].as_str());
        if let Some(item) = item.and_then(|id| world.store.get(Kind::InvoiceItem, id)) {
            let mut item = (*item).clone();
            item["invoice"] = invoice["id"].clone();
            world.store.put(Kind::InvoiceItem, item);
        }
    }
}

/// Those of these discounts that work on this invoice at this instant: a `once` coupon until another one had something to take
/// it off.
pub(super) fn running<'a>(store: &Store, discounts: &'a [Value], invoice: &Value, at: i64) -> Vec<&'a str> {
    let works = |id: &&str| {
        let Some(discount) = store.get(Kind::Discount, id) else { return false };
        discount["end"].as_i64().is_none_or(|end| end > at) && !discounts::is_used_up(store, &discount, invoice)
    };
    discounts.iter().filter_map(Value::as_str).filter(works).collect()
}

/// Gives a draft its number and opens it; what costs nothing is paid at once. Returns it as stored.
pub(crate) fn finalize(world: &mut World, draft: &Value) -> Arc<Value> {
    let mut invoice = draft.clone();
    let number = world.invoice_number(world.now);
    invoices::open(&mut invoice, &number, world.now);
    use_balance(world, &mut invoice);
    let customer = of_customer(&world.store, &invoice);
    let due = invoice["amount_due"].as_i64().unwrap_or_default();
    if due == 0 {
        invoices::settle(&mut invoice, world.now);
        let paid = world.store.put(Kind::Invoice, invoice);
        collection::paid(world, &paid);
        return paid;
    }
    if invoice["collection_method"] == "send_invoice" {
        let subscription = collection::subscription_of(&world.store, &invoice);
        let days = subscription.and_then(|subscription| subscription["days_until_due"].as_i64()).unwrap_or(30);
        if invoice["due_date"].is_null() {
            invoice["due_date"] = json!(invoices::due_date(world.now, days));
        }
    }
    let currency = invoice["currency"].as_str().unwrap_or("usd").to_owned();
    let intent = world.id("pi");
    let mut intent = payment_intents::object(&intent, world.now, due, &currency, &customer["id"]);
    intent["payment_details"] = json!({"customer_reference": null, "order_reference": invoice["id"]});
    let payment = world.id("inpay");
    let payment = invoice_payments::object(&payment, &invoice, intent["id"].as_str().unwrap_or_default(), None);
    world.store.put(Kind::PaymentIntent, intent);
    world.store.put(Kind::InvoicePayment, payment);
    let stored = world.store.put(Kind::Invoice, invoice);
    if stored["collection_method"] == "send_invoice" {
        world.store.tell("invoice.sent", Arc::clone(&stored));
    }
    stored
}

/// Takes the customer's balance into account: credit pays, debt is added, and what is left over becomes credit.
fn use_balance(world: &mut World, invoice: &mut Value) {
    let customer = of_customer(&world.store, invoice);
    let before = customer["balance"].as_i64().unwrap_or_default();
    let total = invoice["total"].as_i64().unwrap_or_default();
    let due = (total + before).max(0);
    let after = if due > 0 { 0 } else { total + before };
    invoice["starting_balance"] = json!(before);
    invoice["ending_balance"] = json!(after);
    invoice["amount_due"] = json!(due);
    invoice["amount_remaining"] = json!(due);
    if before != after && customer.get("balance").is_some() {
        let mut customer = (*customer).clone();
        customer["balance"] = json!(after);
        world.store.put(Kind::Customer, customer);
    }
}
