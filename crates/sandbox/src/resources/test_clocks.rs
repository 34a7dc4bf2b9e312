//! Test clocks: customers whose time stands still until somebody puts it forward.

use super::{Answer, Call, Reply, deleted, find, list};
use crate::calendar::DAY;
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::lifecycle::run_clock;
use crate::params::{Field, Spec, opt, req};
use crate::world::World;
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) const CREATE: &[Field] = &[req("frozen_time", Spec::Time), opt("name", Spec::Text)];
pub(crate) const ADVANCE: &[Field] = &[req("frozen_time", Spec::Time)];

/// The farthest that one step may go, as Stripe has it for monthly subscriptions and all longer ones.
const FARTHEST: i64 = 2 * 366 * DAY;

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    list(world, Kind::TestClock, call, &[])
}

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let id = world.id("clock");
    let clock = json!({
        "id": id, "object": "test_helpers.test_clock", "created": world.now, "deletes_after": world.now + 30 * DAY,
        "frozen_time": call.params.int("frozen_time"), "livemode": false, "name": call.params.text("name"),
        "status": "ready", "status_details": {}
    });
    super::changed(world, Kind::TestClock, clock)
}

pub(crate) fn delete(world: &mut World, call: &Call<'_>) -> Answer {
    find(&world.store, Kind::TestClock, call.id())?;
    for subscription in world.store.all(Kind::Subscription, Index::Clock, call.id()) {
        if subscription["status"] != "canceled" {
            super::subscription_status::end(world, &subscription, None, "");
        }
    }
    for customer in world.store.all(Kind::Customer, Index::Clock, call.id()) {
        world.store.delete(Kind::Customer, customer["id"].as_str().unwrap_or_default());
    }
    world.store.delete(Kind::TestClock, call.id());
    Ok(deleted(Kind::TestClock, call.id()))
}

/// Answers `advancing`, as Stripe does; everything has happened by then, so that the next look finds it `ready`.
pub(crate) fn advance(world: &mut World, call: &Call<'_>) -> Answer {
    let clock = find(&world.store, Kind::TestClock, call.id())?;
    let from = clock["frozen_time"].as_i64().unwrap_or_default();
    let until = call.params.int("frozen_time").unwrap_or_default();
    if until <= from || until > from + FARTHEST {
        let text = "A test clock can only be put forward, and by no more than two years at once.";
        return Err(StripeError::invalid(text).param("frozen_time"));
    }
    let advancing = set(world, &clock, from, "advancing");
    let id: String = call.id().to_owned();
    world.store.reached = from;
    let begin = |world: &mut World, at: i64| {
        world.now = at;
        world.store.reached = at;
    };
    run_clock(world, &id, until, &mut { begin }, &mut |_| {});
    world.store.reached = until;
    set(world, &clock, until, "ready");
    let mut shown = (*advancing).clone();
    shown["frozen_time"] = json!(until);
    Ok(Reply::One(Arc::new(shown)))
}

fn set(world: &mut World, clock: &Value, frozen: i64, status: &str) -> Arc<Value> {
    let mut clock = clock.clone();
    clock["frozen_time"] = json!(frozen);
    clock["status"] = json!(status);
    world.store.put(Kind::TestClock, clock)
}
