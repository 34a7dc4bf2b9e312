//! How a subscription comes from one status to another, and what its end leaves behind.

use super::{fill, subscription_schedules};
use crate::kind::{Index, Kind};
use crate::world::World;
use serde_json::{Value, json};
use std::sync::Arc;

/// Ends the subscription now. `reason` is Stripe's word for why; empty where nobody asked.
pub(crate) fn end(world: &mut World, subscription: &Value, details: Option<&Value>, reason: &str) -> Arc<Value> {
    let mut subscription = subscription.clone();
    subscription["status"] = json!("canceled");
    subscription["ended_at"] = json!(world.now);
    if subscription["cancel_at"].as_i64().is_none_or(|at| at > world.now) {
        subscription["cancel_at_period_end"] = json!(false);
        subscription["cancel_at"] = Value::Null;
    }
    if subscription["canceled_at"].is_null() {
        subscription["canceled_at"] = json!(world.now);
    }
    fill(&mut subscription["cancellation_details"], details);
    if !reason.is_empty() {
        subscription["cancellation_details"]["reason"] = json!(reason);
    }
    stop_collecting(world, subscription["id"].as_str().unwrap_or_default());
    let ended = world.store.put(Kind::Subscription, subscription);
    subscription_schedules::end_with(world, &ended, reason == "payment_failed");
    ended
}

/// What a subscription that is over has left unpaid is not finalized or collected by itself any more.
fn stop_collecting(world: &mut World, subscription: &str) {
    for invoice in world.store.all(Kind::Invoice, Index::Subscription, subscription) {
        let waits = invoice["status"] == "draft" || invoice["status"] == "open";
        if waits && (invoice["auto_advance"] == true || invoice["next_payment_attempt"].is_i64()) {
            let mut invoice = (*invoice).clone();
            invoice["auto_advance"] = json!(false);
            invoice["automatically_finalizes_at"] = Value::Null;
            invoice["next_payment_attempt"] = Value::Null;
            world.store.put(Kind::Invoice, invoice);
        }
    }
}

/// Moves the subscription to another status, where it is not there already.
pub(crate) fn set(world: &mut World, subscription: &Value, status: &str) {
    if subscription["status"] == status {
        return;
    }
    let mut subscription = subscription.clone();
    come_to(&mut subscription, status, world.now);
    world.store.put(Kind::Subscription, subscription);
}

/// The status, and since when it is paused where it is.
pub(crate) fn come_to(subscription: &mut Value, status: &str, now: i64) {
    subscription["status_details"] = match status {
        "paused" => json!({"paused": {
            "subscription": {"type": "trial_end_without_payment_method"}, "transitioned_at": now, "type": "subscription"
        }}),
        _ => Value::Null,
    };
    subscription["status"] = json!(status);
}
