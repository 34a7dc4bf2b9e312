//! What customers have sent by bank transfer: their cash balance, and the payments that it is used for by itself.

use super::{Answer, Call, Reply, collection, currencies, find, list_where, payment_intents, payments, prices};
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::params::{Field, Spec, opt, req};
use crate::store::{Query, Store};
use crate::world::World;
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(crate) const FUND: &[Field] =
    &[req("amount", Spec::Int(1, prices::AMOUNT_MAX)), req("currency", Spec::Text), opt("reference", Spec::Text)];

/// What a customer has of a currency.
fn held(store: &Store, customer: &str, currency: &Value) -> i64 {
    let moves = store.all(Kind::CashTransaction, Index::Customer, customer);
    let own = moves.iter().filter(|moved| moved["currency"] == *currency);
    own.filter_map(|moved| moved["net_amount"].as_i64()).sum()
}

pub(crate) fn object(store: &Store, customer: &str) -> Value {
    let mut available = Map::new();
    for moved in store.all(Kind::CashTransaction, Index::Customer, customer) {
        let sum = held(store, customer, &moved["currency"]);
        available.insert(moved["currency"].as_str().unwrap_or_default().to_owned(), json!(sum));
    }
    json!({
        "object": "cash_balance", "available": if available.is_empty() { Value::Null } else { Value::Object(available) },
        "customer": customer, "customer_account": null, "livemode": false,
        "settings": {"reconciliation_mode": "automatic", "using_merchant_default": true}
    })
}

pub(crate) fn own(world: &World, call: &Call<'_>) -> Answer {
    find(&world.store, Kind::Customer, call.id())?;
    Ok(Reply::One(Arc::new(object(&world.store, call.id()))))
}

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    find(&world.store, Kind::Customer, call.id())?;
    let own = (Index::Customer, Arc::from(call.id()));
    list_where(world, Kind::CashTransaction, call, Query { equal: vec![own], ..Query::default() })
}

pub(crate) fn one(world: &World, call: &Call<'_>) -> Answer {
    let id = call.ids.get(1).copied().unwrap_or_default();
    let moved = find(&world.store, Kind::CashTransaction, id)?;
    if moved["customer"] == call.id() {
        Ok(Reply::One(moved))
    } else {
        Err(StripeError::not_found(Kind::CashTransaction.noun(), id, "id"))
    }
}

fn moved(world: &mut World, customer: &str, amount: i64, currency: &Value, what: (&str, Value)) -> Value {
    let id = world.id("ccsbtxn");
    let mut row = json!({
        "id": id, "object": "customer_cash_balance_transaction", "created": world.now, "currency": currency,
        "customer": customer, "customer_account": null,
        "ending_balance": held(&world.store, customer, currency) + amount, "livemode": false, "net_amount": amount,
        "type": what.0
    });
    row[what.0] = what.1;
    row
}

/// Somebody has sent money. It pays what waits for it, and what is left can be used.
pub(crate) fn fund(world: &mut World, call: &Call<'_>) -> Answer {
    let customer = find(&world.store, Kind::Customer, call.id())?;
    world.follow_clock(&customer);
    let currency = json!(currencies::parse(call.params.need("currency")?)?);
    let amount = call.params.need_int("amount")?;
    let kind = bank_of(&currency);
    let details = match kind {
        "eu_bank_transfer" => json!({"bic": "BANKDEAAXXX", "iban_last4": "7089", "sender_name": "Ada"}),
        "gb_bank_transfer" => json!({"account_number_last4": "6789", "sender_name": "Ada", "sort_code": "200000"}),
        "jp_bank_transfer" => json!({"sender_bank": "Ada's bank", "sender_branch": null, "sender_name": "Ada"}),
        _ => json!({"network": "ach", "sender_name": "Ada"}),
    };
    let transfer = json!({kind: details, "reference": call.params.text("reference"), "type": kind});
    let row = moved(world, call.id(), amount, &currency, ("funded", json!({"bank_transfer": transfer})));
    let row = world.store.put(Kind::CashTransaction, row);
    let waiting = world.store.all(Kind::PaymentIntent, Index::Customer, call.id());
    for intent in waiting.iter().rev().filter(|intent| waits(intent) && intent["currency"] == currency) {
        apply(world, intent);
    }
    if held(&world.store, call.id(), &currency) > 0 {
        let balance = Arc::new(object(&world.store, call.id()));
        world.store.tell("cash_balance.funds_available", balance);
    }
    Ok(Reply::One(row))
}

fn waits(intent: &Value) -> bool {
    intent["next_action"]["type"] == "display_bank_transfer_instructions"
}

/// An intent that is to be paid from the balance: with what is there, else with what comes.
pub(super) fn ask(world: &mut World, intent: &Value, method: &Value) -> Arc<Value> {
    let mut waiting = intent.clone();
    waiting["status"] = json!("requires_action");
    waiting["payment_method"] = method["id"].clone();
    waiting["payment_method_types"] = json!(["customer_balance"]);
    waiting["next_action"] = json!({
        "display_bank_transfer_instructions": {
            "amount_remaining": intent["amount"], "currency": intent["currency"], "financial_addresses": [],
            "hosted_instructions_url": null, "reference": "SANDBOX", "type": bank_of(&intent["currency"])
        },
        "type": "display_bank_transfer_instructions"
    });
    let stored = world.store.put(Kind::PaymentIntent, waiting);
    apply(world, &stored)
}

/// How a transfer in this currency is called.
fn bank_of(currency: &Value) -> &'static str {
    match currency.as_str() {
        Some("eur") => "eu_bank_transfer",
        Some("gbp") => "gb_bank_transfer",
        Some("jpy") => "jp_bank_transfer",
        _ => "us_bank_transfer",
    }
}

/// Uses what the customer has for this intent: all that it still needs, or a part of it.
fn apply(world: &mut World, intent: &Value) -> Arc<Value> {
    let customer = intent["customer"].as_str().unwrap_or_default();
    let wanted = &intent["next_action"]["display_bank_transfer_instructions"]["amount_remaining"];
    let wanted = wanted.as_i64().unwrap_or_default();
    let used = held(&world.store, customer, &intent["currency"]).min(wanted);
    let mut intent = intent.clone();
    if used <= 0 {
        return Arc::new(intent);
    }
    let to = json!({"payment_intent": intent["id"]});
    let row = moved(world, customer, -used, &intent["currency"], ("applied_to_payment", to));
    world.store.put(Kind::CashTransaction, row);
    if used < wanted {
        intent["next_action"]["display_bank_transfer_instructions"]["amount_remaining"] = json!(wanted - used);
        let stored = world.store.put(Kind::PaymentIntent, intent);
        world.store.tell("payment_intent.partially_funded", Arc::clone(&stored));
        return stored;
    }
    let method = intent["payment_method"].as_str().and_then(|id| world.store.get(Kind::PaymentMethod, id));
    let method = method.unwrap_or_default();
    let charge = collection::charge(world, &intent, &method, None, None);
    payment_intents::charged(&mut intent, &charge, &method);
    let paid = world.store.put(Kind::PaymentIntent, intent);
    payments::settle_invoice(world, &paid);
    paid
}
