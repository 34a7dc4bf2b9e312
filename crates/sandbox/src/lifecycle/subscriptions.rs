//! What happens to a subscription by itself: its trial ends, its period renews, it is canceled as it was asked to be, or its
//! first payment was waited for too long.

use super::due;
use crate::kind::Kind;
use crate::resources::billing::{self, Bill};
use crate::resources::{collection, discounts, previews, subscription_items as items, subscription_status};
use crate::world::{World, array};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn happen(world: &mut World, subscription: &Arc<Value>) {
    let over = |instant: &Value| instant.as_i64().is_some_and(|at| at <= world.now);
    if subscription["status"] == "incomplete" {
        expire(world, subscription);
    } else if over(&subscription["cancel_at"]) {
        subscription_status::end(world, subscription, None, "cancellation_requested");
    } else if subscription["status"] == "trialing" && over(&subscription["trial_end"]) {
        end_trial(world, subscription);
    } else if over(&subscription["pause_collection"]["resumes_at"]) {
        let mut subscription = (**subscription).clone();
        subscription["pause_collection"] = Value::Null;
        world.store.put(Kind::Subscription, subscription);
    } else if items::current_period(&subscription["items"]).1.is_some_and(|end| end > world.now) {
        announce(world, subscription);
    } else {
        renew(world, subscription);
    }
}

/// Says that the next invoice will come, or that the trial will end. Nothing changes by it but what is due next.
fn announce(world: &mut World, subscription: &Arc<Value>) {
    let trial_end = subscription["trial_end"].as_i64().filter(|_| subscription["status"] == "trialing");
    if trial_end.is_some_and(|end| end - world.now <= due::TRIAL_NOTICE) {
        world.store.tell("customer.subscription.trial_will_end", Arc::clone(subscription));
    } else {
        let invoice = previews::next(world, subscription);
        world.store.tell("invoice.upcoming", Arc::new(invoice));
    }
    world.store.renote(Kind::Subscription, subscription);
}

/// Nobody paid the first invoice in time.
fn expire(world: &mut World, subscription: &Value) {
    let invoice = subscription["latest_invoice"].as_str().and_then(|id| world.store.get(Kind::Invoice, id));
    if let Some(invoice) = invoice.filter(|invoice| invoice["status"] == "open") {
        collection::void(world, &invoice);
    }
    let mut subscription = subscription.clone();
    subscription["status"] = json!("incomplete_expired");
    subscription["ended_at"] = json!(world.now);
    world.store.put(Kind::Subscription, subscription);
}

/// The trial is over: the first period that costs something begins, unless nobody can pay for it.
fn end_trial(world: &mut World, subscription: &Value) {
    match collection::end_of_trial(world, subscription) {
        "cancel" => {
            subscription_status::end(world, subscription, None, "");
            return;
        }
        "pause" => return subscription_status::set(world, subscription, "paused"),
        _ => {}
    }
    let mut subscription = subscription.clone();
    subscription["status"] = json!("active");
    renew(world, &subscription);
}

/// The items whose period is over begin their next one, counted from the anchor so that no month drifts, and are billed.
fn renew(world: &mut World, subscription: &Value) {
    let mut subscription = subscription.clone();
    world.store.warm(Kind::Customer, subscription["customer"].as_str().unwrap_or_default());
    let customer = billing::of_customer(&world.store, &subscription);
    if let Some(method) = customer["invoice_settings"]["default_payment_method"].as_str() {
        world.store.warm(Kind::PaymentMethod, method);
    }
    let anchor = subscription["billing_cycle_anchor"].as_i64().unwrap_or(world.now);
    let mut began = world.now;
    let mut renewed = Vec::new();
    for item in subscription["items"]["data"].as_array_mut().into_iter().flatten() {
        if item["current_period_end"].as_i64().is_some_and(|end| end <= world.now) {
            began = began.min(item["current_period_start"].as_i64().unwrap_or(world.now));
            items::set_period(item, anchor, world.now);
            renewed.push(item["id"].clone());
        }
    }
    let id = world.id("in");
    subscription["latest_invoice"] = json!(id);
    discounts::drop_used_up(world, &mut subscription);
    let stored = world.store.put(Kind::Subscription, subscription);
    let items = array(&stored["items"]["data"]).iter().filter(|item| renewed.contains(&item["id"]));
    let advances = stored["status"] != "unpaid" && stored["pause_collection"]["behavior"] != "keep_as_draft";
    let bill = Bill {
        id: &id,
        subscription: &stored,
        reason: "subscription_cycle",
        items: items.collect(),
        trial: false,
        usage_since: Some(began),
    };
    billing::begin(world, &bill, advances);
}
