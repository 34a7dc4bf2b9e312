//! What people do to a subscription that is there: change it, with prorations; cancel, pause and resume it.

use super::billing::{self, Bill};
use super::collection::{self, Paid};
use super::subscriptions::{self as subscriptions, UPDATE, retrieve_one};
use super::{
    Answer, Call, Reply, added_items, discounts, prorations, subscription_items as items, subscription_status,
    tax_rates,
};
use crate::error::StripeError;
use crate::kind::Kind;
use crate::params::{Field, Params, Spec, opt};
use crate::version::ENDIVE;
use crate::world::{World, array};
use serde_json::{Value, json};
use std::sync::Arc;

const UNUSED: &[Field] = &[opt("type", Spec::OneOf(&["item_current_period_start", "none", "now"]))];
const OUTSTANDING: &[Field] = &[opt("type", Spec::OneOf(&["none", "now"]))];
const BILL_FOR: &[Field] =
    &[opt("outstanding_usage_through", Spec::Hash(OUTSTANDING)), opt("unused_time_from", Spec::Hash(UNUSED))];

pub(crate) const PAUSE: &[Field] = &[
    opt("bill_for", Spec::Hash(BILL_FOR)),
    opt("invoicing_behavior", Spec::OneOf(&["invoice", "pending_invoice_item"])),
    opt("type", Spec::OneOf(&["subscription"])),
];

pub(crate) const RESUME: &[Field] = &[
    opt("billing_cycle_anchor", Spec::Anchor),
    opt("payment_behavior", Spec::OneOf(&["resume_on_payment_attempt", "resume_on_payment_success"])),
    opt("proration_behavior", Spec::OneOf(&["always_invoice", "create_prorations", "none"])),
    opt("proration_date", Spec::Time),
];

pub(crate) fn update(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let before = retrieve_one(world, call.id())?;
    world.follow_clock(&before);
    check(world, &before, call)?;
    let mut subscription = (*before).clone();
    items::change_items(world, &mut subscription, sent.list("items"))?;
    let anew = starts_anew(&before, &subscription, call)?;
    end_trial(world, &mut subscription, sent)?;
    subscriptions::write(&mut subscription, sent);
    discounts::set(world, &mut subscription, sent)?;
    tax_rates::take(&world.store, &mut subscription, "default_tax_rates", sent)?;
    match sent.flag("cancel_at_period_end") {
        Some(true) => subscriptions::ask_to_end(&mut subscription, world.now),
        Some(false) => stay(&mut subscription),
        None => note_cancel_at(&mut subscription, sent, world.now),
    }
    added_items::sell(world, &subscription, sent.list("add_invoice_items"))?;
    if anew {
        return begin_anew(world, &before, subscription, sent);
    }
    let prorated = prorate(world, &before, &subscription, sent) || !sent.list("add_invoice_items").is_empty();
    let stored = world.store.put(Kind::Subscription, subscription);
    let ended_trial = before["status"] == "trialing" && stored["status"] == "active";
    if ended_trial || (prorated && sent.text("proration_behavior") == Some("always_invoice")) {
        let items = if ended_trial { array(&stored["items"]["data"]).iter().collect() } else { Vec::new() };
        let reason = if ended_trial { "subscription_cycle" } else { "subscription_update" };
        return bill_now(world, &stored, items, reason, sent.text("payment_behavior"));
    }
    Ok(Reply::One(stored))
}

fn check(world: &World, before: &Value, call: &Call<'_>) -> Result<(), StripeError> {
    let sent = &call.params;
    if before["status"] == "canceled" || before["status"] == "incomplete_expired" {
        let only = ["metadata", "cancellation_details"];
        if UPDATE.concat().iter().any(|field| sent.get(field.name).is_some() && !only.contains(&field.name)) {
            let text = "A canceled subscription can only update its cancellation_details and metadata.";
            return Err(StripeError::invalid(text).code("invalid_canceled_subscription_fields"));
        }
    }
    subscriptions::check_end(sent, world.now)?;
    if sent.flag("cancel_at_period_end") == Some(true) && sent.get("cancel_at").is_some_and(Value::is_i64) {
        return Err(StripeError::exclusive(&["cancel_at", "cancel_at_period_end"]));
    }
    if let (Some(schedule), true) =
        (before["schedule"].as_str(), sent.get("cancel_at").is_some() || sent.get("cancel_at_period_end").is_some())
    {
        let text = format!(
            "The subscription is managed by the subscription schedule `{schedule}`, and updating any cancelation behavior \
             directly is not allowed. Please update the schedule instead."
        );
        return Err(StripeError::invalid(text));
    }
    if sent.text("payment_behavior") == Some("pending_if_incomplete") {
        return Err(StripeError::unsupported("payment_behavior=pending_if_incomplete"));
    }
    if let Some(id) = sent.text("default_payment_method") {
        let customer = json!({"id": before["customer"]});
        subscriptions::pay_with(world, Some(id), &customer)?;
    }
    if let Some(at) = sent.int("proration_date") {
        let (start, end) = items::current_period(&before["items"]);
        if start.is_some_and(|start| at < start) || end.is_some_and(|end| at > end) {
            let text = "You cannot specify a proration date outside of the current period.";
            return Err(StripeError::invalid(text).param("proration_date"));
        }
    }
    added_items::check(world, sent.list("add_invoice_items"))?;
    discounts::check(world, sent)
}

fn stay(subscription: &mut Value) {
    subscription["cancel_at"] = Value::Null;
    subscription["canceled_at"] = Value::Null;
    subscription["cancellation_details"]["reason"] = Value::Null;
}

/// A fixed day to end on is a request to cancel as well.
fn note_cancel_at(subscription: &mut Value, sent: &Params, now: i64) {
    match sent.get("cancel_at") {
        Some(Value::Null) => stay(subscription),
        Some(_) => {
            subscription["canceled_at"] = json!(now);
            subscription["cancellation_details"]["reason"] = json!("cancellation_requested");
        }
        None => {}
    }
}

/// Whether the billing cycle begins anew: asked for, or because the interval is another one.
fn starts_anew(before: &Value, after: &Value, call: &Call<'_>) -> Result<bool, StripeError> {
    let asked = anchor(call)?;
    let interval = |object: &Value| {
        let item = &object["items"]["data"][0]["price"]["recurring"];
        (item["interval"].clone(), item["interval_count"].clone())
    };
    let running = ["active", "past_due", "unpaid"].iter().any(|status| before["status"] == *status);
    Ok(running && (asked == Some("now") || interval(before) != interval(after)))
}

/// `billing_cycle_anchor`, in the form of the caller's age.
fn anchor<'a>(call: &'a Call<'_>) -> Result<Option<&'a str>, StripeError> {
    match call.params.get("billing_cycle_anchor") {
        None => Ok(None),
        Some(Value::String(_)) if call.version.knows(ENDIVE) => {
            Err(StripeError::invalid("Invalid object").param("billing_cycle_anchor"))
        }
        Some(Value::String(word)) => Ok(Some(word)),
        Some(given) => Ok(given["type"].as_str()),
    }
}

fn begin_anew(world: &mut World, before: &Value, mut subscription: Value, sent: &Params) -> Answer {
    subscription["billing_cycle_anchor"] = json!(world.now);
    items::set_periods(&mut subscription, world.now);
    if sent.text("proration_behavior") != Some("none") {
        prorations::give_back(world, before, sent.int("proration_date").unwrap_or(world.now));
    }
    let stored = world.store.put(Kind::Subscription, subscription);
    let items = array(&stored["items"]["data"]).iter().collect();
    bill_now(world, &stored, items, "subscription_update", sent.text("payment_behavior"))
}

/// Writes the prorations of changed items; returns whether there were any.
fn prorate(world: &mut World, before: &Value, after: &Value, sent: &Params) -> bool {
    let running = before["status"] == "active" || before["status"] == "past_due";
    if !running || sent.text("proration_behavior") == Some("none") || sent.list("items").is_empty() {
        return false;
    }
    let at = sent.int("proration_date").unwrap_or(world.now);
    prorations::note(world, before, after, at) > 0
}

/// An invoice at once, for these items and all that waits.
fn bill_now(world: &mut World, stored: &Value, items: Vec<&Value>, reason: &str, behavior: Option<&str>) -> Answer {
    let id = world.id("in");
    let bill = Bill { id: &id, subscription: stored, reason, items, trial: false, usage_since: None };
    let draft = billing::begin(world, &bill, false);
    let mut subscription = stored.clone();
    subscription["latest_invoice"] = json!(id);
    let subscription = world.store.put(Kind::Subscription, subscription);
    let open = billing::finalize(world, &draft);
    let mut paid = Paid::Yes;
    if open["status"] == "open" && open["collection_method"] == "charge_automatically" {
        let customer = billing::of_customer(&world.store, &subscription);
        let method = collection::method_of(&world.store, &subscription, &customer);
        paid = collection::collect(world, &open, method.as_deref());
    }
    if paid != Paid::Yes && behavior == Some("error_if_incomplete") {
        return Err(subscriptions::refusal(world, &subscription, &paid));
    }
    let id = subscription["id"].as_str().unwrap_or_default();
    Ok(Reply::One(world.store.get(Kind::Subscription, id).unwrap_or_default()))
}

fn end_trial(world: &World, subscription: &mut Value, sent: &Params) -> Result<(), StripeError> {
    let in_trial = subscription["status"] == "trialing";
    match sent.get("trial_end") {
        Some(Value::String(_)) if in_trial => {
            subscription["trial_end"] = json!(world.now);
            if collection::end_of_trial(world, subscription) == "pause" {
                subscription_status::come_to(subscription, "paused", world.now);
                return Ok(());
            }
            subscription["status"] = json!("active");
            subscription["billing_cycle_anchor"] = json!(world.now);
            items::set_periods(subscription, world.now);
            Ok(())
        }
        None | Some(Value::String(_)) => Ok(()),
        Some(end) => {
            let end = end.as_i64().filter(|end| *end > world.now).ok_or_else(|| {
                StripeError::invalid("Invalid timestamp: must be an integer Unix timestamp in the future.")
                    .param("trial_end")
            })?;
            let began = subscription["trial_start"].as_i64().filter(|_| in_trial).unwrap_or(world.now);
            subscriptions::start_trial(subscription, began, end);
            items::set_periods(subscription, world.now);
            Ok(())
        }
    }
}

pub(crate) fn cancel(world: &mut World, call: &Call<'_>) -> Answer {
    let subscription = retrieve_one(world, call.id())?;
    if subscription["status"] == "canceled" || subscription["status"] == "incomplete_expired" {
        return Err(StripeError::not_found("subscription", call.id(), "id"));
    }
    world.follow_clock(&subscription);
    if call.params.flag("prorate") == Some(true) && subscription["status"] != "trialing" {
        prorations::give_back(world, &subscription, world.now);
    }
    let details = call.params.get("cancellation_details").cloned();
    let ended = subscription_status::end(world, &subscription, details.as_ref(), "cancellation_requested");
    let waits = !billing::pending(&world.store, &ended["customer"], &ended["id"], &ended["currency"]).is_empty();
    if call.params.flag("invoice_now") == Some(true) && waits {
        let last = bill_now(world, &ended, Vec::new(), "subscription_cycle", None)?;
        return Ok(last);
    }
    Ok(Reply::One(ended))
}

/// Nothing is billed while it is paused, and the rest of the period is given back.
pub(crate) fn pause(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let before = retrieve_one(world, call.id())?;
    world.follow_clock(&before);
    if before["status"] != "active" && before["status"] != "past_due" {
        let text = format!("You cannot pause a subscription that is {}.", before["status"].as_str().unwrap_or("gone"));
        return Err(StripeError::invalid(text));
    }
    let (start, _) = items::current_period(&before["items"]);
    match sent.get("bill_for").map(|bill| bill["unused_time_from"]["type"].clone()) {
        Some(Value::String(word)) if word == "none" => {}
        Some(Value::String(word)) if word == "item_current_period_start" => {
            prorations::give_back(world, &before, start.unwrap_or(world.now));
        }
        _ => prorations::give_back(world, &before, world.now),
    }
    let mut paused = (*before).clone();
    paused["status"] = json!("paused");
    paused["status_details"] = json!({"paused": {
        "subscription": {"type": "pause_requested"}, "transitioned_at": world.now, "type": "subscription"
    }});
    let stored = world.store.put(Kind::Subscription, paused);
    if sent.text("invoicing_behavior") == Some("invoice") {
        return bill_now(world, &stored, Vec::new(), "subscription_update", None);
    }
    Ok(Reply::One(stored))
}

/// Starts a new period now, or goes on in the old one, and has it paid.
pub(crate) fn resume(world: &mut World, call: &Call<'_>) -> Answer {
    let before = retrieve_one(world, call.id())?;
    world.follow_clock(&before);
    if before["status"] != "paused" {
        let text = "You can only resume a subscription that is paused.";
        return Err(StripeError::invalid(text));
    }
    let unchanged = anchor(call)? == Some("unchanged");
    let mut subscription = (*before).clone();
    subscription["status"] = json!("active");
    subscription["status_details"] = Value::Null;
    if !unchanged {
        subscription["billing_cycle_anchor"] = json!(world.now);
    }
    items::set_periods(&mut subscription, world.now);
    let stored: Arc<Value> = world.store.put(Kind::Subscription, subscription);
    if unchanged && call.params.text("proration_behavior") == Some("none") {
        return Ok(Reply::One(stored));
    }
    bill_now(world, &stored, array(&stored["items"]["data"]).iter().collect(), "subscription_update", None)
}
