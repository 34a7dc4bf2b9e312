//! Subscriptions: creating one makes its items, its first period and its first invoice, and has it paid.
//!
//! What changes one later is in `subscription_changes`, what time does to it in `lifecycle`.

use super::billing::{self, Bill};
use super::collection::{self, Paid};
use super::subscription_items as items;
use super::{
    Answer, Call, Reply, added_items, customers, discounts, embedded, find, list_where, named, narrow, tax_rates,
};
use crate::calendar::DAY;
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::lifecycle::due;
use crate::params::{Field, Params, Spec, opt, req};
use crate::world::{World, array};
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) const LIST: &[Field] = &[
    opt("automatic_tax", Spec::Unsupported),
    opt("collection_method", Spec::OneOf(COLLECTION)),
    opt("current_period_end", Spec::Range),
    opt("current_period_start", Spec::Range),
    opt("customer", Spec::Text),
    opt("customer_account", Spec::Unsupported),
    opt("plan", Spec::Text),
    opt("price", Spec::Text),
    opt("status", Spec::OneOf(STATUSES)),
    opt("test_clock", Spec::Text),
];

const STATUSES: &[&str] = &[
    "active",
    "past_due",
    "unpaid",
    "canceled",
    "incomplete",
    "incomplete_expired",
    "trialing",
    "paused",
    "all",
    "ended",
];

const COLLECTION: &[&str] = &["charge_automatically", "send_invoice"];

const AUTOMATIC_TAX: &[Field] = &[opt("enabled", Spec::OneOf(&["false"]))];
const MODE: &[Field] = &[req("type", Spec::OneOf(&["classic", "flexible"])), opt("flexible", Spec::Ignored)];
const END: &[Field] = &[
    req("missing_payment_method", Spec::OneOf(&["cancel", "create_invoice", "pause"])),
    opt("billing_cycle_anchor", Spec::Ignored),
];
const TRIAL_SETTINGS: &[Field] = &[req("end_behavior", Spec::Hash(END))];
const PAUSE: &[Field] =
    &[req("behavior", Spec::OneOf(&["keep_as_draft", "mark_uncollectible", "void"])), opt("resumes_at", Spec::Time)];
const PAYMENT_SETTINGS: &[Field] = &[
    opt("payment_method_options", Spec::Ignored),
    opt("payment_method_types", Spec::ClearableList(&Spec::Text)),
    opt("save_default_payment_method", Spec::OneOf(&["off", "on_subscription"])),
];
const CANCELLATION: &[Field] = &[
    opt("comment", Spec::Clearable),
    opt(
        "feedback",
        Spec::OneOf(&[
            "customer_service",
            "low_quality",
            "missing_features",
            "other",
            "switched_service",
            "too_complex",
            "too_expensive",
            "unused",
        ]),
    ),
];

const COMMON: &[Field] = &[
    opt("add_invoice_items", added_items::ASKED),
    opt("application_fee_percent", Spec::Unsupported),
    opt("automatic_tax", Spec::Hash(AUTOMATIC_TAX)),
    opt("billing_thresholds", Spec::Unsupported),
    opt("cancel_at", Spec::Time),
    opt("cancel_at_period_end", Spec::Bool),
    opt("collection_method", Spec::OneOf(COLLECTION)),
    opt("days_until_due", Spec::Int(0, 3650)),
    opt("default_payment_method", Spec::Clearable),
    opt("default_source", Spec::Unsupported),
    opt("default_tax_rates", Spec::ClearableList(&Spec::Text)),
    opt("description", Spec::Clearable),
    opt("discounts", Spec::ClearableList(&Spec::Hash(discounts::ASKED))),
    opt("invoice_settings", Spec::Unsupported),
    opt("metadata", Spec::Metadata),
    opt("off_session", Spec::Ignored),
    opt("on_behalf_of", Spec::Unsupported),
    opt("payment_settings", Spec::Hash(PAYMENT_SETTINGS)),
    opt("pending_invoice_item_interval", Spec::Unsupported),
    opt("transfer_data", Spec::Unsupported),
    opt("trial_end", Spec::TimeOrNow),
    opt("trial_from_plan", Spec::Ignored),
    opt("trial_settings", Spec::Hash(TRIAL_SETTINGS)),
];

const PRORATION: Spec = Spec::OneOf(&["always_invoice", "create_prorations", "none"]);

const BEHAVIOR: Spec =
    Spec::OneOf(&["allow_incomplete", "default_incomplete", "error_if_incomplete", "pending_if_incomplete"]);

pub(crate) const CREATE: &[&[Field]] = &[
    COMMON,
    &[
        req("customer", Spec::Text),
        req("items", Spec::List(&Spec::Hash(items::ITEM))),
        opt("backdate_start_date", Spec::Unsupported),
        opt("billing_cycle_anchor", Spec::Unsupported),
        opt("billing_cycle_anchor_config", Spec::Unsupported),
        opt("billing_mode", Spec::Hash(MODE)),
        opt("billing_schedules", Spec::Unsupported),
        opt("currency", Spec::Text),
        opt("customer_account", Spec::Unsupported),
        opt("payment_behavior", BEHAVIOR),
        opt("proration_behavior", PRORATION),
        opt("trial_period_days", Spec::Int(1, 730)),
    ],
];

pub(crate) const UPDATE: &[&[Field]] = &[
    COMMON,
    &[
        opt("billing_cycle_anchor", Spec::Anchor),
        opt("billing_schedules", Spec::Unsupported),
        opt("cancellation_details", Spec::Hash(CANCELLATION)),
        opt("items", Spec::List(&Spec::Hash(items::ITEM_UPDATE))),
        opt("pause_collection", Spec::ClearableHash(PAUSE)),
        opt("payment_behavior", BEHAVIOR),
        opt("proration_behavior", PRORATION),
        opt("proration_date", Spec::Time),
    ],
];

pub(crate) const CANCEL: &[Field] = &[
    opt("cancellation_details", Spec::Hash(CANCELLATION)),
    opt("invoice_now", Spec::Bool),
    opt("prorate", Spec::Bool),
];

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    let params = &call.params;
    let mut query = narrow(
        call,
        &[("customer", Index::Customer), ("price", Index::Price), ("plan", Index::Price), ("test_clock", Index::Clock)],
    );
    match params.text("status") {
        None => query.equal.push((Index::Live, Arc::from("true"))),
        Some("ended") => query.equal.push((Index::Ended, Arc::from("true"))),
        Some("all") => {}
        Some(status) => query.equal.push((Index::Status, Arc::from(status))),
    }
    let (method, from, until) =
        (params.get("collection_method"), params.get("current_period_start"), params.get("current_period_end"));
    let all = params.text("test_clock").is_some() || params.text("customer").is_some();
    if !all || method.is_some() || from.is_some() || until.is_some() {
        query.keep = Some(Box::new(move |subscription| {
            let (start, end) = items::current_period(&subscription["items"]);
            (all || customers::on_no_clock(subscription))
                && method.is_none_or(|method| subscription["collection_method"] == *method)
                && super::within(from, start)
                && super::within(until, end)
        }));
    }
    list_where(world, Kind::Subscription, call, query)
}

pub(super) fn retrieve_one(world: &World, id: &str) -> Result<Arc<Value>, StripeError> {
    find(&world.store, Kind::Subscription, id)
}

/// An active subscription without items.
pub(crate) fn object(id: &str, customer: &str, currency: &str, created: i64) -> Value {
    json!({
        "id": id,
        "object": "subscription",
        "application": null,
        "application_fee_percent": null,
        "automatic_tax": {"disabled_reason": null, "enabled": false, "liability": null},
        "billing_cycle_anchor": created,
        "billing_cycle_anchor_config": null,
        "billing_mode": {"flexible": {"proration_discounts": "included"}, "type": "flexible", "updated_at": created},
        "billing_schedules": [],
        "billing_thresholds": null,
        "cancel_at": null,
        "cancel_at_period_end": false,
        "canceled_at": null,
        "cancellation_details": {"comment": null, "feedback": null, "reason": null},
        "collection_method": "charge_automatically",
        "created": created,
        "currency": currency,
        "customer": customer,
        "customer_account": null,
        "days_until_due": null,
        "default_payment_method": null,
        "default_source": null,
        "default_tax_rates": [],
        "description": null,
        "discounts": [],
        "ended_at": null,
        "invoice_settings": {"account_tax_ids": null, "custom_fields": null, "description": null, "footer": null, "issuer": {"type": "self"}},
        "items": embedded(format!("/v1/subscription_items?subscription={id}"), Vec::new()),
        "latest_invoice": null,
        "livemode": false,
        "managed_payments": {"enabled": false},
        "metadata": {},
        "next_pending_invoice_item_invoice": null,
        "on_behalf_of": null,
        "pause_collection": null,
        "payment_settings": {"payment_method_options": null, "payment_method_types": null, "save_default_payment_method": "off"},
        "pending_invoice_item_interval": null,
        "pending_setup_intent": null,
        "pending_update": null,
        "schedule": null,
        "start_date": created,
        "status": "active",
        "status_details": null,
        "test_clock": null,
        "transfer_data": null,
        "trial_end": null,
        "trial_settings": {"end_behavior": {"billing_cycle_anchor": null, "missing_payment_method": "create_invoice"}},
        "trial_start": null
    })
}

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let customer = named(&world.store, Kind::Customer, sent.need("customer")?, "customer")?;
    world.follow_clock(&customer);
    if sent.text("payment_behavior") == Some("pending_if_incomplete") {
        let text = "payment_behavior=pending_if_incomplete is only supported when a subscription is updated.";
        return Err(StripeError::invalid(text).param("payment_behavior"));
    }
    let method = payable(world, sent, &customer)?;
    let subscription = compose(world, sent, &customer)?;
    let (subscription, paid) = open(world, subscription, &customer, method, sent.text("payment_behavior"));
    if let (Paid::Declined(_) | Paid::NeedsOwner, Some("error_if_incomplete")) = (&paid, sent.text("payment_behavior"))
    {
        return Err(refusal(world, &subscription, &paid));
    }
    Ok(Reply::One(subscription))
}

/// All that can be wrong with a new subscription, before anything is made. Returns what will be charged.
fn payable(world: &World, sent: &Params, customer: &Value) -> Result<Option<Arc<Value>>, StripeError> {
    items::check_items(world, sent.list("items"))?;
    check_currency(world, sent, customer)?;
    check_end(sent, world.now)?;
    let method = pay_with(world, sent.text("default_payment_method"), customer)?;
    check_payable(sent, method.as_deref(), trial_end(world, sent)?, customer)?;
    added_items::check(world, sent.list("add_invoice_items"))?;
    discounts::check(world, sent)?;
    Ok(method)
}

/// A day to end on lies ahead.
pub(super) fn check_end(sent: &Params, now: i64) -> Result<(), StripeError> {
    match sent.int("cancel_at") {
        Some(at) if at <= now => {
            let text = "Invalid timestamp: must be an integer Unix timestamp in the future.";
            Err(StripeError::invalid(text).param("cancel_at"))
        }
        _ => Ok(()),
    }
}

/// As long as a customer has a subscription in one currency, they cannot have one in another.
fn check_currency(world: &World, sent: &Params, customer: &Value) -> Result<(), StripeError> {
    let price = sent.list("items").first().and_then(|item| item["price"].as_str().or(item["plan"].as_str()));
    let Some(price) = price.and_then(|id| world.store.get(Kind::Price, id)) else { return Ok(()) };
    let others = world.store.all(Kind::Subscription, Index::Customer, customer["id"].as_str().unwrap_or_default());
    let live = others.iter().filter(|other| other["status"] != "canceled" && other["status"] != "incomplete_expired");
    let Some(other) = live.into_iter().find(|other| other["currency"] != price["currency"]) else { return Ok(()) };
    let text = format!(
        "You cannot combine currencies on a single customer. This customer has an active subscription, subscription \
         schedule, discount, quote, or invoice item with currency {}",
        other["currency"].as_str().unwrap_or_default()
    );
    Err(StripeError::invalid(text))
}

/// The subscription as it was asked for, without its first invoice.
pub(crate) fn compose(world: &mut World, sent: &Params, customer: &Value) -> Result<Value, StripeError> {
    let id = world.id("sub");
    let items = items::new_items(world, &id, sent.list("items"))?;
    let currency = items.first().map_or(Value::Null, |item| item["price"]["currency"].clone());
    let customer_id = customer["id"].as_str().unwrap_or_default();
    let mut subscription = object(&id, customer_id, currency.as_str().unwrap_or("usd"), world.now);
    subscription["items"]["data"] = Value::Array(items);
    subscription["test_clock"] = customer["test_clock"].clone();
    if let Some(end) = trial_end(world, sent)? {
        start_trial(&mut subscription, world.now, end);
    }
    write(&mut subscription, sent);
    if let Some(mode) = sent.get("billing_mode").filter(|mode| mode["type"] == "classic") {
        subscription["billing_mode"] = json!({"flexible": null, "type": mode["type"]});
    }
    discounts::set(world, &mut subscription, sent)?;
    tax_rates::take(&world.store, &mut subscription, "default_tax_rates", sent)?;
    items::set_periods(&mut subscription, world.now);
    added_items::sell(world, &subscription, sent.list("add_invoice_items"))?;
    if sent.flag("cancel_at_period_end") == Some(true) {
        ask_to_end(&mut subscription, world.now);
    }
    Ok(subscription)
}

/// The subscription will end with its period.
pub(crate) fn ask_to_end(subscription: &mut Value, now: i64) {
    let (_, end) = items::current_period(&subscription["items"]);
    subscription["cancel_at_period_end"] = json!(true);
    subscription["cancel_at"] = json!(end);
    subscription["canceled_at"] = json!(now);
    subscription["cancellation_details"]["reason"] = json!("cancellation_requested");
}

/// The first invoice, and what its payment makes of the subscription.
pub(crate) fn open(
    world: &mut World,
    mut subscription: Value,
    customer: &Value,
    method: Option<Arc<Value>>,
    behavior: Option<&str>,
) -> (Arc<Value>, Paid) {
    let invoice = world.id("in");
    subscription["latest_invoice"] = json!(invoice);
    let trial = subscription["status"] == "trialing";
    let sends = subscription["collection_method"] == "send_invoice";
    let bill = first_bill(&invoice, &subscription, trial);
    if !trial && !sends && billing::draft(world, &bill)["total"].as_i64().unwrap_or_default() > 0 {
        subscription["status"] = json!("incomplete");
    }
    set_customer_currency(world, customer, &subscription["currency"]);
    let stored = world.store.put(Kind::Subscription, subscription);
    let draft = billing::begin(world, &first_bill(&invoice, &stored, trial), false);
    let open = billing::finalize(world, &draft);
    let mut paid = Paid::Yes;
    if open["status"] == "open" && !sends {
        paid = Paid::NoMethod;
        if behavior != Some("default_incomplete") && method.is_some() {
            paid = collection::collect(world, &open, method.as_deref());
        }
    }
    if trial && stored["trial_end"].as_i64().is_some_and(|end| end - due::TRIAL_NOTICE <= world.now) {
        world.store.tell("customer.subscription.trial_will_end", Arc::clone(&stored));
    }
    let id = stored["id"].as_str().unwrap_or_default();
    (world.store.get(Kind::Subscription, id).unwrap_or_default(), paid)
}

/// The same without anybody there to pay: the first invoice can be changed for an hour, like that of a renewal.
pub(crate) fn open_later(world: &mut World, mut subscription: Value, customer: &Value) -> Arc<Value> {
    let invoice = world.id("in");
    subscription["latest_invoice"] = json!(invoice);
    let trial = subscription["status"] == "trialing";
    set_customer_currency(world, customer, &subscription["currency"]);
    let stored = world.store.put(Kind::Subscription, subscription);
    billing::begin(world, &first_bill(&invoice, &stored, trial), true);
    stored
}

fn first_bill<'a>(id: &'a str, subscription: &'a Value, trial: bool) -> Bill<'a> {
    Bill {
        id,
        subscription,
        reason: "subscription_create",
        items: array(&subscription["items"]["data"]).iter().collect(),
        trial,
        usage_since: None,
    }
}

/// What Stripe says when a payment failed that had to succeed.
pub(crate) fn refusal(world: &World, subscription: &Value, paid: &Paid) -> StripeError {
    let invoice = subscription["latest_invoice"].as_str().and_then(|id| world.store.get(Kind::Invoice, id));
    let intent = invoice.and_then(|invoice| collection::payment_of(&world.store, &invoice)).map(|(_, intent)| intent);
    let intent = intent.map_or(Value::Null, |intent| (*intent).clone());
    match paid {
        Paid::Declined(code) => StripeError::declined(code).with("payment_intent", intent),
        _ => StripeError::new(402, "card_error", "Your card was declined. This transaction requires authentication.")
            .code("authentication_required")
            .with("decline_code", json!("authentication_required"))
            .with("payment_intent", intent),
    }
}

fn set_customer_currency(world: &mut World, customer: &Value, currency: &Value) {
    if customer["currency"].is_null() {
        let mut customer = customer.clone();
        customer["currency"] = currency.clone();
        world.store.put(Kind::Customer, customer);
    }
}

/// The method that will be charged: the one asked for, else the customer's default.
pub(super) fn pay_with(
    world: &World,
    asked: Option<&str>,
    customer: &Value,
) -> Result<Option<Arc<Value>>, StripeError> {
    if let Some(id) = asked {
        let method = named(&world.store, Kind::PaymentMethod, id, "default_payment_method")?;
        if method["customer"] != customer["id"] {
            let text = format!(
                "The customer does not have a payment method with the ID {id}. The payment method must be attached to the customer."
            );
            return Err(StripeError::invalid(text).code("resource_missing").param("default_payment_method"));
        }
        return Ok(Some(method));
    }
    Ok(collection::default_of(&world.store, customer))
}

fn trial_end(world: &World, sent: &Params) -> Result<Option<i64>, StripeError> {
    match (sent.get("trial_end"), sent.int("trial_period_days")) {
        (Some(_), Some(_)) => Err(StripeError::exclusive(&["trial_end", "trial_period_days"])),
        (Some(Value::String(_)) | None, None) => Ok(None),
        (Some(end), None) => match end.as_i64().filter(|end| *end > world.now) {
            Some(end) => Ok(Some(end)),
            None => Err(StripeError::invalid("Invalid timestamp: must be an integer Unix timestamp in the future.")
                .param("trial_end")),
        },
        (None, Some(days)) => Ok(Some(world.now + days * DAY)),
    }
}

fn check_payable(
    sent: &Params,
    method: Option<&Value>,
    trial: Option<i64>,
    customer: &Value,
) -> Result<(), StripeError> {
    if sent.text("collection_method") == Some("send_invoice") {
        return match sent.int("days_until_due") {
            Some(_) => Ok(()),
            None => Err(StripeError::missing("days_until_due")),
        };
    }
    if sent.int("days_until_due").is_some() {
        let text = "You can only set `days_until_due` if `collection_method` is `send_invoice`.";
        return Err(StripeError::invalid(text).param("days_until_due"));
    }
    if method.is_none() && trial.is_none() && sent.text("payment_behavior") != Some("default_incomplete") {
        let text = format!(
            "This customer has no attached payment source or default payment method. Please consider adding a default \
             payment method. For more information, visit \
             https://stripe.com/docs/billing/subscriptions/payment-methods-setting#payment-method-priority. ({})",
            customer["id"].as_str().unwrap_or_default()
        );
        return Err(StripeError::invalid(text).code("resource_missing"));
    }
    Ok(())
}

pub(super) fn start_trial(subscription: &mut Value, now: i64, end: i64) {
    subscription["status"] = json!("trialing");
    subscription["trial_start"] = json!(now);
    subscription["trial_end"] = json!(end);
    subscription["billing_cycle_anchor"] = json!(end);
}

pub(super) fn write(subscription: &mut Value, sent: &Params) {
    sent.assign(subscription, &["cancel_at", "cancel_at_period_end", "collection_method", "days_until_due"]);
    sent.assign(subscription, &["default_payment_method", "description", "pause_collection"]);
    sent.merge_metadata(subscription);
    if let Some(settings) = sent.get("trial_settings") {
        super::fill(&mut subscription["trial_settings"]["end_behavior"], settings.get("end_behavior"));
    }
    super::fill(&mut subscription["payment_settings"], sent.get("payment_settings"));
    super::fill(&mut subscription["cancellation_details"], sent.get("cancellation_details"));
    if let (true, Some(pause)) = (subscription["pause_collection"].is_object(), sent.get("pause_collection")) {
        subscription["pause_collection"]["resumes_at"] = pause["resumes_at"].clone();
    }
}
