//! Bank debits: the intent is `processing` until the bank has said whether there was money. Here it says so as soon as time
//! goes on; invoices that are collected by themselves do not wait for it.

use super::charges::{self, Asked};
use super::{payment_intents, payment_methods, payments};
use crate::kind::{Index, Kind};
use crate::world::World;
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) fn is_one(method: &Value) -> bool {
    method["type"] == "sepa_debit" || method["type"] == "us_bank_account"
}

/// The debit is on its way to the bank.
pub(crate) fn begin(world: &mut World, intent: &Value, method: &Value) -> Arc<Value> {
    let id = world.id("ch");
    let mut charge = charges::object(&Asked {
        id: &id,
        created: world.now,
        amount: intent["amount"].as_i64().unwrap_or_default(),
        currency: intent["currency"].as_str().unwrap_or_default(),
        customer: &intent["customer"],
        description: intent["description"].as_str(),
        intent: intent["id"].as_str(),
        method,
        decline: None,
    });
    charge["paid"] = json!(false);
    charge["status"] = json!("pending");
    world.store.put(Kind::Charge, charge);
    let mut intent = intent.clone();
    intent["latest_charge"] = json!(id);
    intent["payment_method"] = method["id"].clone();
    intent["payment_method_types"] = json!([method["type"]]);
    intent["status"] = json!("processing");
    world.store.put(Kind::PaymentIntent, intent)
}

/// The bank has spoken: the charge, the intent and whoever waited for them come to their end.
pub(crate) fn settle(world: &mut World, intent: &Value) {
    let of = |name: &str, kind: Kind| intent[name].as_str().and_then(|id| world.store.get(kind, id));
    let (Some(charge), Some(method)) = (of("latest_charge", Kind::Charge), of("payment_method", Kind::PaymentMethod))
    else {
        return;
    };
    let decline = payment_methods::decline(&method);
    let mut charge = (*charge).clone();
    charges::come_to(&mut charge, decline);
    let charge = world.store.put(Kind::Charge, charge);
    let mut intent = intent.clone();
    payment_intents::charged(&mut intent, &charge, &method);
    let intent = world.store.put(Kind::PaymentIntent, intent);
    payments::settle_invoice(world, &intent);
    let id = intent["id"].as_str().unwrap_or_default();
    if let Some(session) = world.store.newest(Kind::CheckoutSession, Index::PaymentIntent, id) {
        let mut session = (*session).clone();
        let (status, name) = match decline {
            None => ("paid", "checkout.session.async_payment_succeeded"),
            Some(_) => ("unpaid", "checkout.session.async_payment_failed"),
        };
        session["payment_status"] = json!(status);
        let stored = world.store.put(Kind::CheckoutSession, session);
        world.store.tell(name, stored);
    }
}
