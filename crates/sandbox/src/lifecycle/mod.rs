//! What happens by itself as time goes by: trials end, periods renew, invoices are finalized and collected, coupons run out.

pub(crate) mod due;
mod invoices;
mod subscriptions;

use crate::agenda::Due;
use crate::events::Cause;
use crate::kind::Kind;
use crate::resources::{checkout_sessions, debits, disputes, plain, subscription_schedules};
use crate::world::World;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

/// What becomes of a subscription whose invoice could not be collected, when all tries are over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dunning {
    /// It is canceled, as Stripe does unless told otherwise.
    #[default]
    Cancel,
    /// It becomes `unpaid`: its next invoices are drafts that nobody collects.
    Unpaid,
    /// It stays `past_due`.
    PastDue,
}

impl Dunning {
    pub(crate) fn of(world: &World) -> Dunning {
        serde_json::from_value(world.setting("dunning")).unwrap_or_default()
    }

    pub(crate) fn keep(self, world: &mut World) {
        world.set("dunning", json!(self));
    }
}

/// Lets everything happen that is due on the sandbox's clock until an instant, each at its own.
pub(crate) fn run(world: &mut World, until: i64) {
    run_clock(world, "", until, &mut |world, at| world.begin(at, Cause::default()), &mut |world| {
        if let Err(error) = world.commit(None) {
            tracing::error!(%error, "the sandbox cannot write its state");
        }
    });
}

/// The same on any clock: `begin` sets the instant before each thing, `end` is called after it.
pub(crate) fn run_clock(
    world: &mut World,
    clock: &str,
    until: i64,
    begin: &mut dyn FnMut(&mut World, i64),
    end: &mut dyn FnMut(&mut World),
) {
    let mut now = world.store.reached;
    while let Some(next) = world.store.next_due(clock).filter(|next| next.at <= until) {
        // What is older than the last restart happens now, not in a past that others have already seen.
        now = now.max(next.at);
        begin(world, now);
        happen(world, next);
        if world.store.next_due(clock) == Some(next) {
            tracing::error!(?next, "the sandbox does not know what happens now");
            world.store.skip(next);
        }
        end(world);
    }
}

fn happen(world: &mut World, due: Due) {
    let Some(object) = world.store.at(due.kind, due.key) else { return };
    match due.kind {
        Kind::Subscription => subscriptions::happen(world, &object),
        Kind::Invoice => invoices::happen(world, &object),
        Kind::Coupon => set(world, due.kind, &object, "valid", json!(false)),
        Kind::PromotionCode => set(world, due.kind, &object, "active", json!(false)),
        Kind::PaymentIntent => debits::settle(world, &object),
        Kind::Charge => disputes::open(world, &object),
        Kind::Dispute => disputes::happen(world, &object),
        Kind::SubscriptionSchedule => subscription_schedules::happen(world, &object),
        Kind::CheckoutSession => drop(checkout_sessions::expire(world, &object)),
        kind => plain::happen(world, kind, &object),
    }
}

fn set(world: &mut World, kind: Kind, object: &Arc<Value>, name: &str, value: Value) {
    let mut object = (**object).clone();
    object[name] = value;
    world.store.put(kind, object);
}
