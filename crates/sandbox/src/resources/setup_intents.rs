//! Setup intents: a payment method is saved for later, perhaps after the bank has seen its owner.

use super::{Answer, Call, Reply, changed, find, list, named, payment_methods};
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::params::{Field, Spec, opt, req};
use crate::world::{World, opaque};
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) const LIST: &[Field] = &[
    opt("attach_to_self", Spec::Unsupported),
    opt("customer", Spec::Text),
    opt("customer_account", Spec::Unsupported),
    opt("payment_method", Spec::Text),
];

const AUTOMATIC: &[Field] = &[req("enabled", Spec::Bool), opt("allow_redirects", Spec::OneOf(&["always", "never"]))];

pub(crate) const CREATE: &[Field] = &[
    opt("allowed_payment_method_types", Spec::List(&Spec::Text)),
    opt("automatic_payment_methods", Spec::Hash(AUTOMATIC)),
    opt("confirm", Spec::Bool),
    opt("customer", Spec::Text),
    opt("description", Spec::Text),
    opt("mandate_data", Spec::Ignored),
    opt("metadata", Spec::Metadata),
    opt("payment_method", Spec::Text),
    opt("payment_method_options", Spec::Ignored),
    opt("payment_method_types", Spec::List(&Spec::Text)),
    opt("return_url", Spec::Text),
    opt("usage", Spec::OneOf(&["off_session", "on_session"])),
    opt("use_stripe_sdk", Spec::Ignored),
];

pub(crate) const CONFIRM: &[Field] = &[
    opt("mandate_data", Spec::Ignored),
    opt("payment_method", Spec::Text),
    opt("payment_method_options", Spec::Ignored),
    opt("return_url", Spec::Text),
    opt("use_stripe_sdk", Spec::Ignored),
];

pub(crate) const CANCEL: &[Field] =
    &[opt("cancellation_reason", Spec::OneOf(&["abandoned", "duplicate", "requested_by_customer"]))];

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    list(world, Kind::SetupIntent, call, &[("customer", Index::Customer)])
}

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    if let Some(id) = sent.text("customer") {
        named(&world.store, Kind::Customer, id, "customer")?;
    }
    let id = world.id("seti");
    let secret = format!("{id}_secret_{}", opaque(world.born().unsigned_abs() ^ 0x5E71, world.store.next(), 25));
    let mut intent = json!({
        "id": id, "object": "setup_intent", "application": null, "automatic_payment_methods": null,
        "cancellation_reason": null, "client_secret": secret, "created": world.now, "customer": sent.text("customer"),
        "customer_account": null, "description": sent.text("description"), "excluded_payment_method_types": null,
        "flow_directions": null, "last_setup_error": null, "latest_attempt": null, "livemode": false, "mandate": null,
        "metadata": {}, "next_action": null, "on_behalf_of": null, "payment_method": null,
        "payment_method_configuration_details": null, "payment_method_options": {},
        "payment_method_types": ["card"], "single_use_mandate": null, "status": "requires_payment_method",
        "usage": sent.text("usage").unwrap_or("off_session")
    });
    sent.merge_metadata(&mut intent);
    if sent.flag("confirm") == Some(true) {
        return save(world, intent, sent.text("payment_method"));
    }
    if let Some(name) = sent.text("payment_method") {
        let method = kept(world, name)?;
        intent["payment_method"] = method["id"].clone();
        intent["status"] = json!("requires_confirmation");
    }
    changed(world, Kind::SetupIntent, intent)
}

fn kept(world: &mut World, name: &str) -> Result<Arc<Value>, StripeError> {
    let method = payment_methods::resolve(world, name, "payment_method")?;
    if world.store.get(Kind::PaymentMethod, name).is_some() {
        return Ok(method);
    }
    Ok(world.store.put(Kind::PaymentMethod, (*method).clone()))
}

pub(crate) fn confirm(world: &mut World, call: &Call<'_>) -> Answer {
    let intent = find(&world.store, Kind::SetupIntent, call.id())?;
    if intent["status"] == "succeeded" || intent["status"] == "canceled" {
        let text = "You cannot confirm this SetupIntent because it has come to its end.";
        return Err(StripeError::invalid(text).code("setup_intent_unexpected_state"));
    }
    save(world, (*intent).clone(), call.params.text("payment_method"))
}

/// Saves the method, unless the bank wants to see its owner first or declines it.
fn save(world: &mut World, mut intent: Value, name: Option<&str>) -> Answer {
    let name = name.or(intent["payment_method"].as_str()).map(str::to_owned);
    let name = name.ok_or_else(|| {
        StripeError::invalid("You cannot confirm this SetupIntent because it's missing a payment method.")
            .code("setup_intent_unexpected_state")
    })?;
    let method = kept(world, &name)?;
    intent["payment_method"] = method["id"].clone();
    let last4 = method["card"]["last4"].as_str().unwrap_or_default();
    if payment_methods::wants_owner(&method) || last4 == "3155" {
        let url = format!("{}/_sandbox/pages/authentication/{}", world.base, intent["id"].as_str().unwrap_or_default());
        intent["status"] = json!("requires_action");
        intent["next_action"] = json!({"redirect_to_url": {"return_url": null, "url": url}, "type": "redirect_to_url"});
        return changed(world, Kind::SetupIntent, intent);
    }
    if let Some(code) = payment_methods::decline(&method).filter(|_| last4 != "0341") {
        let error = StripeError::declined(code);
        intent["status"] = json!("requires_payment_method");
        intent["payment_method"] = Value::Null;
        intent["last_setup_error"] = json!({
            "code": error.code, "decline_code": code, "message": error.message, "payment_method": *method,
            "type": "card_error"
        });
        let stored = world.store.put(Kind::SetupIntent, intent);
        return Err(error.with("setup_intent", (*stored).clone()).keeping());
    }
    done(world, intent, method).map(Reply::One)
}

fn done(world: &mut World, mut intent: Value, method: Arc<Value>) -> Result<Arc<Value>, StripeError> {
    if let Some(customer) = intent["customer"].as_str() {
        payment_methods::attach_to(world, method, customer)?;
    }
    intent["status"] = json!("succeeded");
    intent["next_action"] = Value::Null;
    Ok(world.store.put(Kind::SetupIntent, intent))
}

/// The owner has been to the bank's page.
pub(crate) fn answered(world: &mut World, id: &str, agreed: bool) -> Result<Arc<Value>, StripeError> {
    let intent = find(&world.store, Kind::SetupIntent, id)?;
    let method = intent["payment_method"].as_str().and_then(|id| world.store.get(Kind::PaymentMethod, id));
    if let Some(method) = method.filter(|_| agreed && intent["status"] == "requires_action") {
        return done(world, (*intent).clone(), method);
    }
    let mut intent = (*intent).clone();
    intent["status"] = json!("requires_payment_method");
    intent["next_action"] = Value::Null;
    intent["last_setup_error"] = json!({
        "code": "setup_intent_authentication_failure", "message": "The provided PaymentMethod has failed authentication.",
        "type": "invalid_request_error"
    });
    Ok(world.store.put(Kind::SetupIntent, intent))
}

pub(crate) fn cancel(world: &mut World, call: &Call<'_>) -> Answer {
    let mut intent = (*find(&world.store, Kind::SetupIntent, call.id())?).clone();
    if intent["status"] == "succeeded" || intent["status"] == "canceled" {
        let text = "You cannot cancel this SetupIntent because it has come to its end.";
        return Err(StripeError::invalid(text).code("setup_intent_unexpected_state"));
    }
    intent["status"] = json!("canceled");
    intent["cancellation_reason"] = json!(call.params.text("cancellation_reason"));
    changed(world, Kind::SetupIntent, intent)
}
