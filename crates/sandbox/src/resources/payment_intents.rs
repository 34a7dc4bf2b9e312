//! Payment intents: one for each invoice that has to be paid, and those that people make themselves.

use super::{Answer, Call, changed, currencies, find, list, named, payment_methods, payments};
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::params::{Field, Spec, opt, req};
use crate::version::ENDIVE;
use crate::world::{World, opaque};
use serde_json::{Value, json};

pub(crate) const LIST: &[Field] = &[opt("customer", Spec::Text), opt("customer_account", Spec::Unsupported)];

const AUTOMATIC: &[Field] = &[req("enabled", Spec::Bool), opt("allow_redirects", Spec::OneOf(&["always", "never"]))];
pub(super) const CARRIER: &[Field] = &[
    opt("address", Spec::Hash(super::customers::ADDRESS)),
    opt("carrier", Spec::Text),
    opt("name", Spec::Text),
    opt("phone", Spec::Text),
    opt("tracking_number", Spec::Text),
];

const COMMON: &[Field] = &[
    opt("allowed_payment_method_types", Spec::List(&Spec::Text)),
    opt("amount_details", Spec::Unsupported),
    opt("application_fee_amount", Spec::Unsupported),
    opt("capture_method", Spec::OneOf(&["automatic", "automatic_async", "manual"])),
    opt("customer", Spec::Text),
    opt("customer_account", Spec::Unsupported),
    opt("description", Spec::Clearable),
    opt("excluded_payment_method_types", Spec::List(&Spec::Text)),
    opt("hooks", Spec::Unsupported),
    opt("metadata", Spec::Metadata),
    opt("payment_details", Spec::Unsupported),
    opt("payment_method", Spec::Text),
    opt("payment_method_configuration", Spec::Unsupported),
    opt("payment_method_data", Spec::Hash(payment_methods::CREATE)),
    opt("payment_method_options", Spec::Ignored),
    opt("payment_method_types", Spec::List(&Spec::Text)),
    opt("receipt_email", Spec::Clearable),
    opt("setup_future_usage", Spec::OneOf(&["off_session", "on_session"])),
    opt("shipping", Spec::ClearableHash(CARRIER)),
    opt("statement_descriptor", Spec::Text),
    opt("statement_descriptor_suffix", Spec::Text),
    opt("transfer_data", Spec::Unsupported),
    opt("transfer_group", Spec::Text),
];

pub(crate) const CREATE: &[&[Field]] = &[
    COMMON,
    &[
        req("amount", Spec::Int(1, i64::MAX)),
        req("currency", Spec::Text),
        opt("automatic_payment_methods", Spec::Hash(AUTOMATIC)),
        opt("confirm", Spec::Bool),
        opt("confirmation_method", Spec::OneOf(&["automatic", "manual"])),
        opt("confirmation_token", Spec::Unsupported),
        opt("error_on_requires_action", Spec::Bool),
        opt("mandate", Spec::Unsupported),
        opt("mandate_data", Spec::Ignored),
        opt("off_session", Spec::Text),
        opt("on_behalf_of", Spec::Unsupported),
        opt("radar_options", Spec::Ignored),
        opt("return_url", Spec::Url),
        opt("use_stripe_sdk", Spec::Ignored),
    ],
];

pub(crate) const UPDATE: &[&[Field]] = &[COMMON, &[opt("amount", Spec::Int(1, i64::MAX)), opt("currency", Spec::Text)]];

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let currency = currencies::parse(sent.need("currency")?)?;
    let customer = match sent.text("customer") {
        Some(id) => named(&world.store, Kind::Customer, id, "customer")?["id"].clone(),
        None => Value::Null,
    };
    let id = world.id("pi");
    let amount = sent.need_int("amount")?;
    currencies::chargeable(amount, &currency)?;
    let mut intent = object(&id, world.now, amount, &currency, &customer);
    intent["setup_future_usage"] = Value::Null;
    if let Some(given) = sent.get("automatic_payment_methods") {
        let redirects = given["allow_redirects"].as_str().unwrap_or("always");
        intent["automatic_payment_methods"] = json!({"allow_redirects": redirects, "enabled": given["enabled"]});
    }
    sent.assign(&mut intent, &["confirmation_method"]);
    write(world, &mut intent, call)?;
    if sent.flag("confirm") == Some(true) {
        return payments::pay(world, intent, sent);
    }
    if sent.get("off_session").is_some() || sent.get("return_url").is_some() {
        let name = if sent.get("off_session").is_some() { "off_session" } else { "return_url" };
        let text = format!("You can only use `{name}` when `confirm` is true.");
        return Err(StripeError::invalid(text).param(name));
    }
    changed(world, Kind::PaymentIntent, intent)
}

/// The types of payment methods that an intent allows: under the name of the caller's age.
pub(super) fn allowed_types<'a>(call: &'a Call<'_>) -> Result<&'a [Value], StripeError> {
    let (old, new) = ("payment_method_types", "allowed_payment_method_types");
    if call.params.get(old).is_some() && call.version.knows(ENDIVE) {
        return Err(StripeError::unknown(old));
    }
    if call.params.get(new).is_some() && call.version.before(ENDIVE) {
        return Err(StripeError::unknown(new));
    }
    Ok(call.params.list(if call.params.get(old).is_some() { old } else { new }))
}

fn write(world: &mut World, intent: &mut Value, call: &Call<'_>) -> Result<(), StripeError> {
    let sent = &payment_methods::with_method(world, &call.params)?;
    let types = allowed_types(call)?;
    if !types.is_empty() {
        intent["payment_method_types"] = Value::Array(types.to_vec());
    }
    sent.assign(intent, &["capture_method", "description", "receipt_email", "setup_future_usage", "shipping"]);
    sent.assign(intent, &["statement_descriptor", "statement_descriptor_suffix", "transfer_group"]);
    sent.merge_metadata(intent);
    if let Some(given) = intent["shipping"]["address"].as_object().cloned() {
        intent["shipping"]["address"] = super::address(Some(&Value::Object(given)));
    }
    if let Some(name) = sent.text("payment_method") {
        let method = payment_methods::resolve(world, name, "payment_method")?;
        if world.store.get(Kind::PaymentMethod, name).is_none() {
            world.store.put(Kind::PaymentMethod, (*method).clone());
        }
        intent["payment_method"] = method["id"].clone();
        intent["status"] = json!("requires_confirmation");
    }
    Ok(())
}

pub(crate) fn update(world: &mut World, call: &Call<'_>) -> Answer {
    let mut intent = (*find(&world.store, Kind::PaymentIntent, call.id())?).clone();
    if intent["status"] == "succeeded" || intent["status"] == "canceled" {
        let only = ["metadata", "description"];
        if UPDATE.concat().iter().any(|field| call.params.get(field.name).is_some() && !only.contains(&field.name)) {
            if call.params.get("amount").is_some() {
                return Err(amount_is_fixed(&intent));
            }
            let text = "This PaymentIntent could not be updated because it has come to its end.";
            return Err(StripeError::invalid(text).code("payment_intent_unexpected_state"));
        }
    }
    let (amount, currency) = (call.params.int("amount"), call.params.text("currency"));
    if amount.is_some() || currency.is_some() {
        let currency = currencies::parse(currency.or(intent["currency"].as_str()).unwrap_or_default())?;
        let amount = amount.or(intent["amount"].as_i64()).ok_or_else(|| StripeError::missing("amount"))?;
        currencies::chargeable(amount, &currency)?;
        (intent["amount"], intent["currency"]) = (json!(amount), json!(currency));
    }
    if let Some(id) = call.params.text("customer") {
        intent["customer"] = named(&world.store, Kind::Customer, id, "customer")?["id"].clone();
    }
    write(world, &mut intent, call)?;
    changed(world, Kind::PaymentIntent, intent)
}

fn amount_is_fixed(intent: &Value) -> StripeError {
    let text = format!(
        "This PaymentIntent's amount could not be updated because it has a status of {}. You may only update the amount of \
         a PaymentIntent with one of the following statuses: requires_payment_method, requires_confirmation, \
         requires_action.",
        intent["status"].as_str().unwrap_or_default()
    );
    StripeError::invalid(text).code("payment_intent_unexpected_state").param("amount")
}

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    list(world, Kind::PaymentIntent, call, &[("customer", Index::Customer)])
}

/// An intent that waits for somebody to pay.
pub(crate) fn object(id: &str, created: i64, amount: i64, currency: &str, customer: &Value) -> Value {
    let salt = id.bytes().fold(5_u64, |sum, byte| sum.wrapping_mul(33).wrapping_add(u64::from(byte)));
    json!({
        "id": id,
        "object": "payment_intent",
        "amount": amount,
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": null,
        "application_fee_amount": null,
        "automatic_payment_methods": null,
        "canceled_at": null,
        "cancellation_reason": null,
        "capture_method": "automatic",
        "client_secret": format!("{id}_secret_{}", opaque(salt, 9, 25)),
        "confirmation_method": "automatic",
        "created": created,
        "currency": currency,
        "customer": customer,
        "customer_account": null,
        "description": null,
        "excluded_payment_method_types": null,
        "last_payment_error": null,
        "latest_charge": null,
        "livemode": false,
        "managed_payments": {"enabled": false},
        "metadata": {},
        "next_action": null,
        "on_behalf_of": null,
        "payment_details": null,
        "payment_method": null,
        "payment_method_configuration_details": null,
        "payment_method_options": {},
        "payment_method_types": ["card"],
        "processing": null,
        "receipt_email": null,
        "review": null,
        "setup_future_usage": "off_session",
        "shipping": null,
        "source": null,
        "statement_descriptor": null,
        "statement_descriptor_suffix": null,
        "status": "requires_payment_method",
        "transfer_data": null,
        "transfer_group": null
    })
}

/// The intent after a charge: paid, or waiting for another method with the reason why.
pub(crate) fn charged(intent: &mut Value, charge: &Value, method: &Value) {
    intent["latest_charge"] = charge["id"].clone();
    intent["payment_method_types"] = json!([method["type"]]);
    intent["description"] = charge["description"].clone();
    if charge["status"] == "succeeded" {
        intent["status"] = json!("succeeded");
        intent["amount_received"] = intent["amount"].clone();
        intent["payment_method"] = method["id"].clone();
        intent["last_payment_error"] = Value::Null;
        intent["next_action"] = Value::Null;
    } else {
        intent["last_payment_error"] = json!({
            "charge": charge["id"], "code": charge["failure_code"], "decline_code": charge["outcome"]["reason"],
            "doc_url": "https://stripe.com/docs/error-codes/card-declined", "message": charge["failure_message"],
            "payment_method": method, "type": "card_error"
        });
        intent["status"] = json!("requires_payment_method");
        intent["payment_method"] = Value::Null;
        intent["next_action"] = Value::Null;
    }
}

/// The bank wants to see the owner: nothing is charged until they have been to the page.
pub(crate) fn ask_owner(intent: &mut Value, method: &Value, base: &str) {
    let id = intent["id"].as_str().unwrap_or_default();
    let url = format!("{base}/_sandbox/pages/authentication/{id}");
    let return_url = intent["next_action"]["redirect_to_url"]["return_url"].clone();
    intent["status"] = json!("requires_action");
    intent["payment_method"] = method["id"].clone();
    intent["next_action"] =
        json!({"redirect_to_url": {"return_url": return_url, "url": url}, "type": "redirect_to_url"});
}
