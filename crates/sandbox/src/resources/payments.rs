//! Paying a payment intent: confirming it with a method, the bank's question to the owner, capture and cancellation.

use super::{Answer, Call, Reply, cash_balances, collection, debits, find, payment_intents, payment_methods};
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::params::{Field, Params, Spec, opt};
use crate::world::World;
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) const CONFIRM: &[Field] = &[
    opt("allowed_payment_method_types", Spec::List(&Spec::Text)),
    opt("capture_method", Spec::OneOf(&["automatic", "automatic_async", "manual"])),
    opt("error_on_requires_action", Spec::Bool),
    opt("mandate", Spec::Unsupported),
    opt("mandate_data", Spec::Ignored),
    opt("off_session", Spec::Text),
    opt("payment_method", Spec::Text),
    opt("payment_method_data", Spec::Hash(payment_methods::CREATE)),
    opt("payment_method_options", Spec::Ignored),
    opt("radar_options", Spec::Ignored),
    opt("receipt_email", Spec::Clearable),
    opt("return_url", Spec::Url),
    opt("setup_future_usage", Spec::OneOf(&["off_session", "on_session"])),
    opt("use_stripe_sdk", Spec::Ignored),
];

pub(crate) const CAPTURE: &[Field] = &[
    opt("amount_to_capture", Spec::Int(1, 99_999_999)),
    opt("application_fee_amount", Spec::Unsupported),
    opt("final_capture", Spec::Bool),
    opt("metadata", Spec::Metadata),
    opt("statement_descriptor", Spec::Text),
    opt("statement_descriptor_suffix", Spec::Text),
];

pub(crate) const CANCEL: &[Field] =
    &[opt("cancellation_reason", Spec::OneOf(&["abandoned", "duplicate", "fraudulent", "requested_by_customer"]))];

fn unexpected(intent: &Value, verb: &str) -> StripeError {
    let status = intent["status"].as_str().unwrap_or_default();
    let text = match (verb, status) {
        ("confirm", "succeeded") => {
            "You cannot confirm this PaymentIntent because it has already succeeded after being previously confirmed."
                .to_owned()
        }
        ("capture", _) => format!(
            "This PaymentIntent could not be captured because it has a status of {status}. Only a PaymentIntent with one \
             of the following statuses may be captured: requires_capture."
        ),
        ("cancel", _) => format!(
            "You cannot cancel this PaymentIntent because it has a status of {status}. Only a PaymentIntent with one of \
             the following statuses may be canceled: requires_payment_method, requires_capture, requires_confirmation, \
             requires_action, processing."
        ),
        _ => format!("You cannot {verb} this PaymentIntent because it has a status of {status}."),
    };
    StripeError::invalid(text).code("payment_intent_unexpected_state").with("payment_intent", intent.clone())
}

pub(crate) fn confirm(world: &mut World, call: &Call<'_>) -> Answer {
    let intent = find(&world.store, Kind::PaymentIntent, call.id())?;
    let mut intent = (*intent).clone();
    let sent = payment_methods::with_method(world, &call.params)?;
    sent.assign(&mut intent, &["receipt_email", "setup_future_usage", "capture_method"]);
    pay(world, intent, &sent)
}

/// Confirms an intent that need not be stored yet.
pub(crate) fn pay(world: &mut World, mut intent: Value, sent: &Params) -> Answer {
    let open = ["requires_payment_method", "requires_confirmation", "requires_action"];
    if !open.iter().any(|status| intent["status"] == *status) {
        return Err(unexpected(&intent, "confirm"));
    }
    let name = sent.text("payment_method").or(intent["payment_method"].as_str()).map(str::to_owned);
    let Some(name) = name else {
        let text = "You cannot confirm this PaymentIntent because it's missing a payment method.";
        return Err(StripeError::invalid(text).code("payment_intent_unexpected_state"));
    };
    let method = usable(world, &name, &intent)?;
    if payment_methods::wants_owner(&method) {
        return ask(world, intent, &method, sent);
    }
    intent["payment_method"] = method["id"].clone();
    let (stored, declined) = charge(world, &intent, &method);
    match declined {
        Some(code) => Err(StripeError::declined(code)
            .with("charge", stored["latest_charge"].clone())
            .with("payment_intent", (*stored).clone())
            .with("payment_method", (*method).clone())
            .keeping()),
        None => Ok(Reply::One(stored)),
    }
}

/// The method of this name, kept, and the customer's where it is to be used again.
fn usable(world: &mut World, name: &str, intent: &Value) -> Result<Arc<Value>, StripeError> {
    let method = payment_methods::resolve(world, name, "payment_method")?;
    let owner = intent["customer"].as_str();
    if method["customer"].is_string() && method["customer"] != intent["customer"] {
        let text = "The provided PaymentMethod cannot be used with this PaymentIntent: it belongs to another customer.";
        return Err(StripeError::invalid(text).param("payment_method"));
    }
    match owner {
        Some(owner) if intent["setup_future_usage"].is_string() => payment_methods::attach_to(world, method, owner),
        _ if world.store.get(Kind::PaymentMethod, name).is_some() => Ok(method),
        _ => Ok(world.store.put(Kind::PaymentMethod, (*method).clone())),
    }
}

fn ask(world: &mut World, mut intent: Value, method: &Value, sent: &Params) -> Answer {
    let alone = sent.text("off_session").is_some_and(|word| word != "false");
    if alone || sent.flag("error_on_requires_action") == Some(true) {
        let error = json!({
            "code": "authentication_required", "decline_code": "authentication_required",
            "doc_url": "https://stripe.com/docs/error-codes/authentication-required",
            "message": "Your card was declined. This transaction requires authentication.",
            "payment_method": method, "type": "card_error"
        });
        intent["last_payment_error"] = error;
        intent["status"] = json!("requires_payment_method");
        let stored = world.store.put(Kind::PaymentIntent, intent);
        let text = "Your card was declined. This transaction requires authentication.";
        return Err(StripeError::new(402, "card_error", text)
            .code("authentication_required")
            .with("decline_code", json!("authentication_required"))
            .with("payment_intent", (*stored).clone())
            .keeping());
    }
    intent["next_action"] = json!({"redirect_to_url": {"return_url": sent.text("return_url")}});
    payment_intents::ask_owner(&mut intent, method, &world.base);
    Ok(Reply::One(world.store.put(Kind::PaymentIntent, intent)))
}

/// Charges the method, and settles the invoice that the intent is for. Returns the intent and why it was declined.
fn charge(world: &mut World, intent: &Value, method: &Value) -> (Arc<Value>, Option<&'static str>) {
    let id = intent["id"].as_str().unwrap_or_default();
    if world.store.get(Kind::PaymentIntent, id).is_none() {
        world.store.put(Kind::PaymentIntent, intent.clone());
    }
    if debits::is_one(method) {
        return (debits::begin(world, intent, method), None);
    }
    if method["type"] == "customer_balance" {
        return (cash_balances::ask(world, intent, method), None);
    }
    let decline = payment_methods::decline(method);
    let charge = collection::charge(world, intent, method, None, decline);
    let mut paid = intent.clone();
    payment_intents::charged(&mut paid, &charge, method);
    if decline.is_none() && intent["capture_method"] == "manual" {
        paid["status"] = json!("requires_capture");
        paid["amount_received"] = json!(0);
        paid["amount_capturable"] = paid["amount"].clone();
        let mut charge = (*charge).clone();
        charge["captured"] = json!(false);
        charge["amount_captured"] = json!(0);
        world.store.put(Kind::Charge, charge);
    }
    let stored = world.store.put(Kind::PaymentIntent, paid);
    settle_invoice(world, &stored);
    (stored, decline)
}

/// The invoice that an intent was for is paid with it.
pub(crate) fn settle_invoice(world: &mut World, intent: &Value) {
    let id = intent["id"].as_str().unwrap_or_default();
    let payment = world.store.newest(Kind::InvoicePayment, Index::PaymentIntent, id);
    let invoice = payment.and_then(|payment| world.store.get(Kind::Invoice, payment["invoice"].as_str()?));
    if let Some(invoice) = invoice.filter(|invoice| invoice["status"] == "open" && intent["status"] == "succeeded") {
        collection::settle(world, &invoice, true);
    }
}

/// The owner has been to the bank's page.
pub(crate) fn answered(world: &mut World, id: &str, agreed: bool) -> Result<Arc<Value>, StripeError> {
    let intent = find(&world.store, Kind::PaymentIntent, id)?;
    if intent["status"] != "requires_action" {
        return Err(unexpected(&intent, "authenticate"));
    }
    world.follow_clock(&intent);
    let method = intent["payment_method"].as_str().and_then(|id| world.store.get(Kind::PaymentMethod, id));
    if let Some(method) = method.filter(|_| agreed) {
        return Ok(charge(world, &intent, &method).0);
    }
    let mut intent = (*intent).clone();
    intent["status"] = json!("requires_payment_method");
    intent["payment_method"] = Value::Null;
    intent["next_action"] = Value::Null;
    intent["last_payment_error"] = json!({
        "code": "payment_intent_authentication_failure",
        "doc_url": "https://stripe.com/docs/error-codes/payment-intent-authentication-failure",
        "message": "The provided PaymentMethod has failed authentication. You can provide payment_method_data or a new PaymentMethod to attempt to fulfill this PaymentIntent again.",
        "type": "invalid_request_error"
    });
    Ok(world.store.put(Kind::PaymentIntent, intent))
}

pub(crate) fn capture(world: &mut World, call: &Call<'_>) -> Answer {
    let intent = find(&world.store, Kind::PaymentIntent, call.id())?;
    if intent["status"] != "requires_capture" {
        return Err(unexpected(&intent, "capture"));
    }
    let most = intent["amount_capturable"].as_i64().unwrap_or_default();
    let amount = call.params.int("amount_to_capture").unwrap_or(most);
    if amount > most {
        let text =
            format!("The amount to capture ({amount}) is greater than the amount that can be captured ({most}).");
        return Err(StripeError::invalid(text).code("amount_too_large").param("amount_to_capture"));
    }
    if let Some(charge) = intent["latest_charge"].as_str().and_then(|id| world.store.get(Kind::Charge, id)) {
        let mut charge = (*charge).clone();
        charge["captured"] = json!(true);
        charge["amount_captured"] = json!(amount);
        world.store.put(Kind::Charge, charge);
    }
    let mut intent = (*intent).clone();
    intent["status"] = json!("succeeded");
    intent["amount_received"] = json!(amount);
    intent["amount_capturable"] = json!(0);
    call.params.merge_metadata(&mut intent);
    Ok(Reply::One(world.store.put(Kind::PaymentIntent, intent)))
}

pub(crate) fn cancel(world: &mut World, call: &Call<'_>) -> Answer {
    let intent = find(&world.store, Kind::PaymentIntent, call.id())?;
    let open = ["requires_payment_method", "requires_confirmation", "requires_action", "requires_capture"];
    if !open.iter().any(|status| intent["status"] == *status) {
        return Err(unexpected(&intent, "cancel"));
    }
    let mut intent = (*intent).clone();
    intent["status"] = json!("canceled");
    intent["canceled_at"] = json!(world.now);
    intent["cancellation_reason"] = json!(call.params.text("cancellation_reason"));
    intent["amount_capturable"] = json!(0);
    intent["next_action"] = Value::Null;
    Ok(Reply::One(world.store.put(Kind::PaymentIntent, intent)))
}
