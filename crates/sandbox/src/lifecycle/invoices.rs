//! What happens to an invoice by itself: it is finalized after an hour, collected, collected again, or overdue.

use crate::resources::collection::{self, collect, method_of, subscription_of};
use crate::resources::{billing, subscription_status};
use crate::world::World;
use serde_json::Value;
use std::sync::Arc;

pub(super) fn happen(world: &mut World, invoice: &Arc<Value>) {
    match invoice["status"].as_str() {
        Some("draft") => drop(advance(world, invoice)),
        Some("open") if invoice["next_payment_attempt"].as_i64().is_some_and(|at| at <= world.now) => {
            try_to_collect(world, invoice);
        }
        Some("open") => overdue(world, invoice),
        _ => {}
    }
}

/// A draft becomes final and is collected.
pub(crate) fn advance(world: &mut World, draft: &Value) -> Arc<Value> {
    let subscription = subscription_of(&world.store, draft);
    let paused = subscription.as_ref().map(|subscription| subscription["pause_collection"]["behavior"].clone());
    let invoice = billing::finalize(world, draft);
    match paused.as_ref().and_then(Value::as_str).filter(|_| invoice["status"] == "open") {
        Some("void") => return collection::void(world, &invoice),
        Some("mark_uncollectible") => {
            return collection::close(world, &invoice, "uncollectible", "marked_uncollectible_at");
        }
        _ => {}
    }
    if invoice["status"] == "open" && invoice["collection_method"] == "charge_automatically" {
        try_to_collect(world, &invoice);
    }
    invoice
}

fn try_to_collect(world: &mut World, invoice: &Value) {
    let subscription = subscription_of(&world.store, invoice);
    let customer = billing::of_customer(&world.store, invoice);
    let payer = subscription.as_deref().unwrap_or(invoice);
    let method = method_of(&world.store, payer, &customer);
    collect(world, invoice, method.as_deref());
}

fn overdue(world: &mut World, invoice: &Arc<Value>) {
    world.store.tell("invoice.overdue", Arc::clone(invoice));
    let subscription = subscription_of(&world.store, invoice).filter(|subscription| subscription["status"] == "active");
    // Putting the invoice again takes this date off the agenda, because it is over now.
    world.store.renote(crate::kind::Kind::Invoice, invoice);
    if let Some(subscription) = subscription {
        subscription_status::set(world, &subscription, "past_due");
    }
}
