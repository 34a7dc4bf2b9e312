//! Having an invoice paid, and what follows for its subscription: active again, past due, tried again, given up.

use super::{balances, billing, charges, invoices, payment_intents, payment_methods, subscription_status};
use crate::calendar::DAY;
use crate::kind::{Index, Kind};
use crate::lifecycle::Dunning;
use crate::store::Store;
use crate::world::World;
use serde_json::{Value, json};
use std::sync::Arc;

/// Days before the second try, and after each further one: the first failure plus 1, 3, 5 and 7 days.
const PAUSES: [i64; 4] = [1, 2, 2, 2];

/// How a payment went.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Paid {
    Yes,
    /// The reason of the card's bank.
    Declined(&'static str),
    /// The bank wants to see the owner.
    NeedsOwner,
    NoMethod,
}

/// The subscription that an invoice is for.
pub(crate) fn subscription_of(store: &Store, invoice: &Value) -> Option<Arc<Value>> {
    let id = invoice["parent"]["subscription_details"]["subscription"].as_str()?;
    store.get(Kind::Subscription, id)
}

/// The method that is charged: the invoice's, the subscription's, the customer's.
pub(crate) fn method_of(store: &Store, object: &Value, customer: &Value) -> Option<Arc<Value>> {
    let own = object["default_payment_method"].as_str();
    own.and_then(|id| store.get(Kind::PaymentMethod, id)).or_else(|| default_of(store, customer))
}

/// The method that a customer pays with unless something else is said.
pub(crate) fn default_of(store: &Store, customer: &Value) -> Option<Arc<Value>> {
    let method = customer["invoice_settings"]["default_payment_method"].as_str();
    store.get(Kind::PaymentMethod, method.or(customer["default_source"].as_str())?)
}

/// What is to happen at the end of a trial: only where nobody can pay it is something else than an invoice.
pub(crate) fn end_of_trial<'a>(world: &World, subscription: &'a Value) -> &'a str {
    let customer = billing::of_customer(&world.store, subscription);
    let charged = subscription["collection_method"] == "charge_automatically";
    let asked = subscription["trial_settings"]["end_behavior"]["missing_payment_method"].as_str();
    match method_of(&world.store, subscription, &customer) {
        None if charged => asked.unwrap_or("create_invoice"),
        _ => "create_invoice",
    }
}

/// The payment of an invoice and its intent.
pub(crate) fn payment_of(store: &Store, invoice: &Value) -> Option<(Arc<Value>, Arc<Value>)> {
    let payment = store.newest(Kind::InvoicePayment, Index::Invoice, invoice["id"].as_str()?)?;
    let intent = store.get(Kind::PaymentIntent, payment["payment"]["payment_intent"].as_str()?)?;
    Some((payment, intent))
}

/// Charges the method for what an open invoice still costs. With nobody there a bank that wants to see the owner declines.
pub(crate) fn collect(world: &mut World, invoice: &Value, method: Option<&Value>) -> Paid {
    let Some((_, intent)) = payment_of(&world.store, invoice) else { return Paid::NoMethod };
    let Some(method) = method else {
        failed(world, invoice, false);
        return Paid::NoMethod;
    };
    if payment_methods::wants_owner(method) {
        let mut intent = (*intent).clone();
        payment_intents::ask_owner(&mut intent, method, &world.base);
        world.store.put(Kind::PaymentIntent, intent);
        let stored = failed(world, invoice, true);
        world.store.tell("invoice.payment_action_required", stored);
        return Paid::NeedsOwner;
    }
    let decline = payment_methods::decline(method);
    let reason = invoice["billing_reason"].as_str().unwrap_or_default();
    let text = if reason == "subscription_create" { "Subscription creation" } else { "Subscription update" };
    let charge = charge(world, &intent, method, Some(text), decline);
    let mut intent = (*intent).clone();
    payment_intents::charged(&mut intent, &charge, method);
    world.store.put(Kind::PaymentIntent, intent);
    if let Some(code) = decline {
        failed(world, invoice, true);
        return Paid::Declined(code);
    }
    settle(world, invoice, true);
    Paid::Yes
}

/// A charge of what an intent asks for.
pub(crate) fn charge(
    world: &mut World,
    intent: &Value,
    method: &Value,
    text: Option<&str>,
    decline: Option<&str>,
) -> Arc<Value> {
    let id = world.id("ch");
    let charge = charges::object(&charges::Asked {
        id: &id,
        created: world.now,
        amount: intent["amount"].as_i64().unwrap_or_default(),
        currency: intent["currency"].as_str().unwrap_or_default(),
        customer: &intent["customer"],
        description: intent["description"].as_str().or(text),
        intent: intent["id"].as_str(),
        method,
        decline,
    });
    let charge = world.store.put(Kind::Charge, charge);
    balances::tell_of(world, &charge);
    charge
}

/// The invoice is paid: by a charge, or outside of Stripe.
pub(crate) fn settle(world: &mut World, invoice: &Value, charged: bool) -> Arc<Value> {
    if let Some((payment, intent)) = payment_of(&world.store, invoice) {
        let mut payment = (*payment).clone();
        if charged {
            payment["status"] = json!("paid");
            payment["amount_paid"] = invoice["amount_due"].clone();
            payment["status_transitions"]["paid_at"] = json!(world.now);
        } else {
            cancel(world, &intent);
            payment["status"] = json!("canceled");
            payment["status_transitions"]["canceled_at"] = json!(world.now);
        }
        world.store.put(Kind::InvoicePayment, payment);
    }
    let mut invoice = invoice.clone();
    if charged {
        invoices::attempted(&mut invoice, true, world.now, None);
    } else {
        invoices::settle(&mut invoice, world.now);
    }
    let stored = world.store.put(Kind::Invoice, invoice);
    paid(world, &stored);
    stored
}

/// An intent that nobody will pay any more.
pub(crate) fn cancel(world: &mut World, intent: &Value) {
    if intent["status"] != "succeeded" && intent["status"] != "canceled" {
        let mut intent = intent.clone();
        intent["status"] = json!("canceled");
        intent["canceled_at"] = json!(world.now);
        intent["cancellation_reason"] = json!("void_invoice");
        intent["next_action"] = Value::Null;
        world.store.put(Kind::PaymentIntent, intent);
    }
}

/// What a paid invoice does to its subscription and customer.
pub(crate) fn paid(world: &mut World, invoice: &Value) {
    be_delinquent(world, invoice, false);
    let Some(subscription) = subscription_of(&world.store, invoice) else { return };
    let heals = match subscription["status"].as_str() {
        Some("incomplete") => true,
        Some("past_due" | "unpaid") => subscription["latest_invoice"] == invoice["id"],
        _ => false,
    };
    if heals {
        subscription_status::set(world, &subscription, "active");
    }
}

fn be_delinquent(world: &mut World, invoice: &Value, delinquent: bool) {
    let customer = billing::of_customer(&world.store, invoice);
    if customer.get("delinquent").is_some_and(|now| *now != delinquent) {
        let mut customer = (*customer).clone();
        customer["delinquent"] = json!(delinquent);
        world.store.put(Kind::Customer, customer);
    }
}

/// A try that brought no money: the next one, or the end of trying. Where there is nothing to try with, there is neither.
fn failed(world: &mut World, invoice: &Value, tries_again: bool) -> Arc<Value> {
    let tries = usize::try_from(invoice["attempt_count"].as_i64().unwrap_or_default()).unwrap_or(usize::MAX);
    let subscription = subscription_of(&world.store, invoice);
    let first = invoice["billing_reason"] == "subscription_create"
        && subscription.as_ref().is_some_and(|subscription| subscription["status"] == "incomplete");
    let trying = tries_again && !first && subscription.is_some();
    let again = PAUSES.get(tries).filter(|_| trying).map(|days| world.now + days * DAY);
    let mut invoice = invoice.clone();
    invoices::attempted(&mut invoice, false, world.now, again);
    let over = trying && again.is_none();
    if over {
        invoice["auto_advance"] = json!(false);
    }
    let stored = world.store.put(Kind::Invoice, invoice);
    be_delinquent(world, &stored, true);
    if let Some(subscription) = subscription.filter(|_| !first) {
        after_failure(world, &subscription, over);
    }
    stored
}

fn after_failure(world: &mut World, subscription: &Value, over: bool) {
    let running = ["active", "past_due", "trialing"].iter().any(|status| subscription["status"] == *status);
    match (over, Dunning::of(world)) {
        _ if !running => {}
        (true, Dunning::Cancel) => {
            subscription_status::end(world, subscription, None, "payment_failed");
        }
        (true, Dunning::Unpaid) => subscription_status::set(world, subscription, "unpaid"),
        (true, Dunning::PastDue) | (false, _) => subscription_status::set(world, subscription, "past_due"),
    }
}

/// Nobody has to pay this any more.
pub(crate) fn void(world: &mut World, invoice: &Value) -> Arc<Value> {
    if let Some((payment, intent)) = payment_of(&world.store, invoice) {
        cancel(world, &intent);
        let mut payment = (*payment).clone();
        payment["status"] = json!("canceled");
        payment["status_transitions"]["canceled_at"] = json!(world.now);
        world.store.put(Kind::InvoicePayment, payment);
    }
    close(world, invoice, "void", "voided_at")
}

/// Ends an invoice that was not paid.
pub(crate) fn close(world: &mut World, invoice: &Value, status: &str, stamp: &str) -> Arc<Value> {
    let mut invoice = invoice.clone();
    invoice["status"] = json!(status);
    invoice["auto_advance"] = json!(false);
    invoice["next_payment_attempt"] = Value::Null;
    invoice["automatically_finalizes_at"] = Value::Null;
    invoice["status_transitions"][stamp] = json!(world.now);
    if status == "void" {
        invoice["amount_remaining"] = json!(0);
    }
    world.store.put(Kind::Invoice, invoice)
}
