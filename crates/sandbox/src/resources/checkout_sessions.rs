//! Checkout sessions: a page on which somebody pays. The subscription begins when they do, not before.

use super::checkout_rows as rows;
use super::collection::Paid;
use super::{Answer, Call, Reply, changed, customers, discounts, find, list_where, named, narrow, payment_intents};
use super::{payment_methods, payments, prices, subscription_items as items, subscriptions, taxes};
use crate::calendar::DAY;
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::params::{Field, Params, Spec, opt, req};
use crate::world::World;
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) const LIST: &[Field] = &[
    opt("customer", Spec::Text),
    opt("customer_account", Spec::Unsupported),
    opt("customer_details", Spec::Unsupported),
    opt("payment_intent", Spec::Text),
    opt("payment_link", Spec::Unsupported),
    opt("status", Spec::OneOf(&["complete", "expired", "open"])),
    opt("subscription", Spec::Text),
];

const DISCOUNT: &[Field] = &[opt("coupon", Spec::Text), opt("promotion_code", Spec::Text)];
const SUBSCRIPTION_DATA: &[Field] = &[
    opt("billing_mode", Spec::Ignored),
    opt("default_tax_rates", Spec::List(&Spec::Text)),
    opt("description", Spec::Text),
    opt("metadata", Spec::Metadata),
    opt("trial_end", Spec::Time),
    opt("trial_period_days", Spec::Int(1, 730)),
    opt("trial_settings", Spec::Ignored),
];
const INTENT_DATA: &[Field] = &[
    opt("capture_method", Spec::OneOf(&["automatic", "automatic_async", "manual"])),
    opt("description", Spec::Text),
    opt("metadata", Spec::Metadata),
    opt("receipt_email", Spec::Text),
    opt("setup_future_usage", Spec::OneOf(&["off_session", "on_session"])),
    opt("shipping", Spec::Hash(payment_intents::CARRIER)),
    opt("statement_descriptor", Spec::Text),
];
const ENABLED: &[Field] = &[opt("enabled", Spec::Bool)];
const OFF: &[Field] = &[opt("enabled", Spec::OneOf(&["false"]))];

pub(crate) const CREATE: &[Field] = &[
    opt("allow_promotion_codes", Spec::Bool),
    opt("allowed_payment_method_types", Spec::List(&Spec::Text)),
    opt("automatic_tax", Spec::Hash(OFF)),
    opt("billing_address_collection", Spec::OneOf(&["auto", "required"])),
    opt("cancel_url", Spec::Url),
    opt("client_reference_id", Spec::Text),
    opt("consent_collection", Spec::Ignored),
    opt("currency", Spec::Text),
    opt("custom_text", Spec::Ignored),
    opt("customer", Spec::Text),
    opt("customer_creation", Spec::OneOf(&["always", "if_required"])),
    opt("customer_email", Spec::Email),
    opt("customer_update", Spec::Ignored),
    opt("discounts", Spec::List(&Spec::Hash(DISCOUNT))),
    opt("expires_at", Spec::Time),
    opt("invoice_creation", Spec::Hash(OFF)),
    opt("line_items", Spec::List(&Spec::Hash(rows::ITEM))),
    opt("locale", Spec::Text),
    opt("metadata", Spec::Metadata),
    opt("mode", Spec::OneOf(&["payment", "setup", "subscription"])),
    opt("payment_intent_data", Spec::Hash(INTENT_DATA)),
    opt("payment_method_collection", Spec::OneOf(&["always", "if_required"])),
    opt("payment_method_options", Spec::Ignored),
    opt("payment_method_types", Spec::List(&Spec::Text)),
    opt("phone_number_collection", Spec::Hash(ENABLED)),
    opt("return_url", Spec::Url),
    opt("setup_intent_data", Spec::Ignored),
    opt("shipping_address_collection", Spec::Unsupported),
    opt("shipping_options", Spec::Unsupported),
    opt("submit_type", Spec::Text),
    opt("subscription_data", Spec::Hash(SUBSCRIPTION_DATA)),
    opt("success_url", Spec::Url),
    opt("tax_id_collection", Spec::Hash(ENABLED)),
    opt("ui_mode", Spec::OneOf(&["hosted_page"])),
];

pub(crate) const UPDATE: &[Field] = &[opt("metadata", Spec::Metadata)];

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    let filters = [
        ("customer", Index::Customer),
        ("subscription", Index::Subscription),
        ("payment_intent", Index::PaymentIntent),
        ("status", Index::Status),
    ];
    list_where(world, Kind::CheckoutSession, call, narrow(call, &filters))
}

pub(crate) fn line_items(world: &World, call: &Call<'_>) -> Answer {
    rows::page(world, call, Kind::CheckoutSession)
}

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    super::payment_intents::allowed_types(call)?;
    let mode = sent.text("mode").unwrap_or("payment").to_owned();
    if sent.text("success_url").is_none() {
        return Err(StripeError::missing("success_url"));
    }
    let customer = match sent.text("customer") {
        Some(id) => Some(named(&world.store, Kind::Customer, id, "customer")?),
        None => None,
    };
    discounts::check(world, sent)?;
    let exempt = customer.as_ref().and_then(|customer| taxes::exemption(&customer["tax_exempt"]));
    let data = sent.get("subscription_data").unwrap_or(&Value::Null);
    let terms = rows::Terms { mode: &mode, exempt, default_rates: &data["default_tax_rates"] };
    let rows = rows::of(world, sent, &terms)?;
    let currency = rows.first().map_or(json!(sent.text("currency")), |row| row["currency"].clone());
    let id = format!("cs_test_{}", world.id("").trim_start_matches('_'));
    let expires = sent.int("expires_at").unwrap_or(world.now + DAY);
    if expires < world.now + 30 * 60 || expires > world.now + DAY {
        let text = "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation.";
        return Err(StripeError::invalid(text).param("expires_at"));
    }
    let trial = data["trial_end"].is_i64() || data["trial_period_days"].is_i64();
    let mut session = object(&id, &mode, world.now, expires);
    let url = format!("{}/_sandbox/pages/checkout/{id}", world.base);
    let email = sent.text("customer_email").or(customer.as_ref().and_then(|customer| customer["email"].as_str()));
    let facts = json!({
        "currency": currency,
        "customer": customer.as_ref().map(|customer| &customer["id"]), "customer_email": sent.text("customer_email"),
        "customer_details": email.map(details), "url": url,
        "payment_status": if mode == "setup" { "no_payment_required" } else { "unpaid" },
        "customer_creation": if customer.is_some() || mode == "setup" { Value::Null } else { json!("always") }
    });
    super::fill(&mut session, Some(&facts));
    super::fill(&mut session, Some(&rows::sums(&rows)));
    if trial {
        let once = rows.iter().filter(|row| row["price"]["type"] == "one_time");
        session["amount_total"] = json!(once.filter_map(|row| row["amount_total"].as_i64()).sum::<i64>());
    }
    let plain = ["allow_promotion_codes", "billing_address_collection", "cancel_url", "client_reference_id", "locale"];
    sent.assign(&mut session, &plain);
    sent.assign(&mut session, &["payment_method_collection", "submit_type", "success_url"]);
    sent.merge_metadata(&mut session);
    let kept = json!({
        "id": id, "created": world.now, "secret": null, "rows": rows, "discounts": sent.get("discounts"),
        "subscription_data": sent.get("subscription_data"), "payment_intent_data": sent.get("payment_intent_data")
    });
    world.store.put(Kind::Secret, kept);
    changed(world, Kind::CheckoutSession, session)
}

fn details(email: &str) -> Value {
    json!({
        "address": super::address(None), "business_name": null, "email": email, "individual_name": null, "name": null,
        "phone": null, "tax_exempt": "none", "tax_ids": []
    })
}

fn object(id: &str, mode: &str, now: i64, expires: i64) -> Value {
    let mut session = json!({
        "id": id, "object": "checkout.session", "adaptive_pricing": null, "after_expiration": null,
        "allow_promotion_codes": null, "amount_subtotal": null, "amount_total": null,
        "automatic_tax": {"enabled": false, "liability": null, "provider": null, "status": null},
        "billing_address_collection": null, "cancel_url": null, "client_reference_id": null, "client_secret": null,
        "collected_information": null, "consent": null, "consent_collection": null, "created": now, "currency": null,
        "currency_conversion": null, "custom_fields": [],
        "custom_text": {"after_submit": null, "shipping_address": null, "submit": null, "terms_of_service_acceptance": null},
        "customer": null, "customer_account": null, "customer_creation": null, "customer_details": null,
        "customer_email": null, "discounts": [], "expires_at": expires, "invoice": null, "invoice_creation": null,
        "livemode": false, "locale": null
    });
    let rest = json!({
        "metadata": {}, "mode": mode, "origin_context": null, "payment_intent": null, "payment_link": null,
        "payment_method_collection": if mode == "subscription" { "always" } else { "if_required" },
        "payment_method_configuration_details": null, "payment_method_options": {}, "payment_method_types": ["card"],
        "payment_status": "unpaid", "permissions": null, "phone_number_collection": {"enabled": false},
        "recovered_from": null, "saved_payment_method_options": null, "setup_intent": null,
        "shipping_address_collection": null, "shipping_cost": null, "shipping_options": [], "status": "open",
        "submit_type": null, "subscription": null, "success_url": null,
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0}, "ui_mode": "hosted_page",
        "url": null, "wallet_options": null
    });
    super::fill(&mut session, Some(&rest));
    if let Some(members) = session.as_object_mut() {
        members.remove("recovered_from");
        members.remove("wallet_options");
    }
    session
}

pub(crate) fn update(world: &mut World, call: &Call<'_>) -> Answer {
    let mut session = (*find(&world.store, Kind::CheckoutSession, call.id())?).clone();
    call.params.merge_metadata(&mut session);
    changed(world, Kind::CheckoutSession, session)
}

pub(crate) fn expire_now(world: &mut World, call: &Call<'_>) -> Answer {
    let session = open_session(world, call.id())?;
    Ok(Reply::One(expire(world, &session)))
}

pub(crate) const CONFIRM: &[Field] =
    &[req("payment_method", Spec::Text), opt("expected_amount", Spec::Int(0, prices::AMOUNT_MAX))];

/// What Stripe's own page sends, and the Stripe CLI in its place.
pub(crate) fn confirm(world: &mut World, call: &Call<'_>) -> Answer {
    let session = open_session(world, call.id())?;
    let expected = call.params.int("expected_amount");
    if expected.is_some_and(|amount| session["amount_total"] != amount) {
        let text = format!("The expected amount is not that of this session, which is {}.", session["amount_total"]);
        return Err(StripeError::invalid(text).param("expected_amount"));
    }
    let card = call.params.need("payment_method")?;
    let email = world.store.get(Kind::PaymentMethod, card).map(|method| method["billing_details"]["email"].clone());
    let email = email.as_ref().and_then(Value::as_str).unwrap_or("stripe@example.com");
    complete(world, call.id(), card, email).map(Reply::One)
}

/// Nobody paid in time, or nobody is to pay any more.
pub(crate) fn expire(world: &mut World, session: &Value) -> Arc<Value> {
    let mut session = session.clone();
    session["status"] = json!("expired");
    session["url"] = Value::Null;
    world.store.put(Kind::CheckoutSession, session)
}

fn open_session(world: &World, id: &str) -> Result<Arc<Value>, StripeError> {
    let session = find(&world.store, Kind::CheckoutSession, id)?;
    if session["status"] == "open" {
        return Ok(session);
    }
    let text =
        format!("This Session is {} and nothing can be done with it.", session["status"].as_str().unwrap_or_default());
    Err(StripeError::invalid(text))
}

/// Somebody pays with a card of this name (`pm_card_visa`, …).
pub(crate) fn complete(world: &mut World, id: &str, card: &str, email: &str) -> Result<Arc<Value>, StripeError> {
    let mut session = (*open_session(world, id)?).clone();
    let customer = payer(world, &session, email)?;
    world.follow_clock(&customer);
    let owner = customer["id"].as_str().unwrap_or_default().to_owned();
    let method = payment_methods::resolve(world, card, "payment_method")?;
    let method = payment_methods::attach_to(world, method, &owner)?;
    session["customer"] = json!(owner);
    session["customer_details"] = details(customer["email"].as_str().unwrap_or_default());
    match session["mode"].as_str() {
        Some("subscription") => subscribe(world, &mut session, &customer, &method)?,
        Some("payment") => charge(world, &mut session, &owner, &method)?,
        _ => {}
    }
    session["status"] = json!("complete");
    session["url"] = Value::Null;
    Ok(world.store.put(Kind::CheckoutSession, session))
}

fn payer(world: &mut World, session: &Value, email: &str) -> Result<Arc<Value>, StripeError> {
    if let Some(id) = session["customer"].as_str() {
        return named(&world.store, Kind::Customer, id, "customer");
    }
    let id = world.id("cus");
    let mut customer = customers::object(&id, world.now);
    customer["email"] = json!(session["customer_email"].as_str().unwrap_or(email));
    Ok(world.store.put(Kind::Customer, customer))
}

fn subscribe(world: &mut World, session: &mut Value, customer: &Value, method: &Arc<Value>) -> Result<(), StripeError> {
    let asked = rows::kept(&world.store, session["id"].as_str().unwrap_or_default());
    let (items, once) = rows::of_subscription(&asked["rows"]);
    let mut wanted = json!({"items": items, "add_invoice_items": once, "default_payment_method": method["id"]});
    super::fill(&mut wanted, asked.get("subscription_data").filter(|data| data.is_object()));
    if asked["discounts"].is_array() {
        wanted["discounts"] = asked["discounts"].clone();
    }
    let sent = Params::over(&wanted);
    items::check_items(world, sent.list("items"))?;
    discounts::check(world, &sent)?;
    let subscription = subscriptions::compose(world, &sent, customer)?;
    let (subscription, paid) = subscriptions::open(world, subscription, customer, Some(Arc::clone(method)), None);
    if let Paid::Declined(_) | Paid::NeedsOwner = paid {
        return Err(subscriptions::refusal(world, &subscription, &paid));
    }
    session["subscription"] = subscription["id"].clone();
    session["invoice"] = subscription["latest_invoice"].clone();
    let invoice = subscription["latest_invoice"].as_str().and_then(|id| world.store.get(Kind::Invoice, id));
    let total = invoice.map_or(Value::Null, |invoice| invoice["total"].clone());
    session["payment_status"] = json!(if total == 0 { "no_payment_required" } else { "paid" });
    session["amount_total"] = total;
    Ok(())
}

fn charge(world: &mut World, session: &mut Value, customer: &str, method: &Value) -> Result<(), StripeError> {
    let asked = rows::kept(&world.store, session["id"].as_str().unwrap_or_default());
    let id = world.id("pi");
    let (amount, currency) = (session["amount_total"].as_i64(), session["currency"].as_str().unwrap_or("usd"));
    let mut intent = payment_intents::object(&id, world.now, amount.unwrap_or_default(), currency, &json!(customer));
    intent["setup_future_usage"] = Value::Null;
    super::fill(&mut intent, asked.get("payment_intent_data").filter(|data| data.is_object()));
    let sent = Params::over(&json!({"payment_method": method["id"]}));
    let Reply::One(intent) = payments::pay(world, intent, &sent)? else { return Ok(()) };
    if intent["status"] == "requires_action" {
        return Err(StripeError::new(
            402,
            "card_error",
            "Your card was declined. This transaction requires authentication.",
        ));
    }
    session["payment_intent"] = intent["id"].clone();
    session["payment_status"] = json!(if intent["status"] == "processing" { "unpaid" } else { "paid" });
    Ok(())
}
