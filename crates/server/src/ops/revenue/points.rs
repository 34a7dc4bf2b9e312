//! What subscriptions are worth since when, read from events and from the dates that a subscription carries.
//!
//! An event shows its subscription as it was then, so each event gives a point by itself: which one does not depend on when
//! it is heard, how often, or what was heard before. What no event told is concluded and marked as that.

use billing::catalogue::Catalogue;
use billing::subscription::{self as core, Status};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::discounts::Discounts;
use crate::error::Result;
use crate::gateways::stripe::read;
use crate::ops::derivation::{self, Derived};
use crate::ops::webhooks::carried::Carried;
use crate::store::Tx;
use crate::store::revenue::{self, Point, Since};
use crate::store::subscriptions::Subscription;
use crate::store::webhooks::Event;

/// Adds what an event tells of its subscription, and what becomes of that by itself until `now` or until anything else was said.
/// One that cannot be valued adds nothing: what is read from Stripe afterwards settles it.
pub fn hear(
    tx: &mut Tx<'_>,
    event: &Event,
    carried: &Carried,
    discounts: &mut Discounts<'_>,
    catalogue: &Catalogue,
    now: Timestamp,
) -> Result<()> {
    let Ok(created) = Timestamp::from_second(event.created) else { return Ok(()) };
    if carried.object["object"] != "subscription" {
        return Ok(());
    }
    let object = discounts.shown_in(tx, &carried.object)?;
    let derived = derivation::derived(tx, &object, catalogue, created)?;
    let Derived { wire, row, .. } = &derived;
    if wire.items_incomplete || !discounts.are_only_named(&wire.discount_ids_unresolved) {
        return Ok(());
    }
    // What nobody shows us is left out of the row's worth as well: worth saying, and not exact.
    let exact = wire.discount_ids_unresolved.is_empty() && wire.coupon_ids_unresolved.is_empty();
    let at = took_effect(&derived, &event.kind, carried.previous.as_ref(), created);
    revenue::begin(tx, &row.id, &|| past(wire, catalogue, created))?;
    let told = point(row, Since { at, cause: event.id.clone(), exact });
    revenue::tell(tx, &told, &lapses(wire, catalogue, at, now, exact))
}

/// Since when what an event shows holds: the subscription's own date of what happened where it has one, which may lie before
/// the event (Stripe: `ended_at`, `trial_end`, `start_date` of a backdated subscription); the event's otherwise.
fn took_effect(derived: &Derived, kind: &str, previous: Option<&Value>, created: Timestamp) -> Timestamp {
    let wire = &derived.wire;
    let was_trialing = previous.is_some_and(|previous| previous["status"] == "trialing");
    let own = if wire.core.status.is_ended() {
        wire.ended_at
    } else if kind.ends_with(".created") {
        Some(began(wire))
    } else if was_trialing && wire.core.status.earns() {
        wire.trial_end
    } else {
        None
    };
    own.map_or(created, |own| own.min(created))
}

fn began(wire: &read::Subscription) -> Timestamp {
    let created = wire.core.created;
    wire.start_date.map_or(created, |start| start.min(created))
}

/// What becomes of a mirrored state by itself from `due` on, when a coupon begins or ends.
pub fn follow(tx: &mut Tx<'_>, derived: &Derived, catalogue: &Catalogue, due: Timestamp, now: Timestamp) -> Result<()> {
    let until_then = due.saturating_sub(SignedDuration::from_secs(1)).unwrap_or(due);
    let lapses = lapses(&derived.wire, catalogue, until_then, now, true);
    revenue::lapse(tx, &derived.row.id, until_then, &lapses)
}

/// What changes by itself after `after`, up to `until`: coupons begin and end.
fn lapses(
    wire: &read::Subscription,
    catalogue: &Catalogue,
    after: Timestamp,
    until: Timestamp,
    exact: bool,
) -> Vec<Point> {
    let (mut before, mut at) = (derivation::derive(wire, catalogue, after), after);
    let mut lapses = Vec::new();
    while let Some(next) = core::value_changes_at(&wire.core, at).filter(|next| *next <= until) {
        let row = derivation::derive(wire, catalogue, next);
        if row.counted() != before.counted() {
            lapses.push(point(&row, Since { at: next, cause: revenue::lapse_at(next), exact }));
        }
        (before, at) = (row, next);
    }
    lapses
}

/// Of a subscription that nothing was ever said of: what its own dates tell of its past until then.
pub fn past(wire: &read::Subscription, catalogue: &Catalogue, until: Timestamp) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::new();
    for (at, status, cause) in states(wire) {
        points.retain(|before| before.since.at < at || before.since.cause != revenue::lapse_at(before.since.at));
        // What it was worth while it earned: by its price of today, and the coupons of then.
        let mut wire = wire.clone();
        wire.core.status = status;
        let then = derivation::derive(&wire, catalogue, at);
        points.push(point(&then, Since { at, cause: cause.to_owned(), exact: false }));
        points.extend(lapses(&wire, catalogue, at, until, false));
    }
    points
}

/// Since when what a look found holds: an end that no event told of has Stripe's own date all the same.
pub fn dated(derived: &Derived, since: &Since) -> Since {
    match ended_at(derived) {
        Some(at) if at <= since.at => Since { at, exact: true, ..since.clone() },
        _ => since.clone(),
    }
}

/// When a subscription that has ended did so, as far as Stripe says.
fn ended_at(derived: &Derived) -> Option<Timestamp> {
    let wire = &derived.wire;
    wire.core.status.is_ended().then(|| wire.ended_at.or(wire.canceled_at)).flatten()
}

/// The states through which a subscription must have gone, as far as its dates tell.
fn states(wire: &read::Subscription) -> Vec<(Timestamp, Status, &'static str)> {
    let (status, began) = (wire.core.status.clone(), began(wire));
    let earned = match status {
        Status::Trialing | Status::Incomplete | Status::IncompleteExpired | Status::Other(_) => {
            return vec![(began, status, "began")];
        }
        Status::Active | Status::PastDue | Status::Unpaid | Status::Paused | Status::Canceled => {
            wire.trial_end.map_or(began, |end| end.max(began))
        }
    };
    let ended = (status == Status::Canceled).then(|| wire.ended_at.or(wire.canceled_at).unwrap_or(earned));
    let mut past = Vec::new();
    if earned > began {
        past.push((began, Status::Trialing, "began"));
    }
    if ended.is_none_or(|ended| ended > earned) {
        past.push((earned, Status::Active, "earned"));
    }
    past.extend(ended.map(|ended| (ended.max(began), status, "ended")));
    past
}

fn point(row: &Subscription, since: Since) -> Point {
    Point {
        subscription: row.id.clone(),
        customer: row.customer.clone(),
        since,
        status: Some(row.status.clone()),
        tier: row.tier.clone(),
        currency: row.currency.clone(),
        monthly_minor: row.monthly_minor,
        unpriced: row.fault.is_some(),
    }
}
