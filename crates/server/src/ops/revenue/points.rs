//! What subscriptions are worth since when, read from events and from the dates that a subscription carries.
//!
//! An event shows its subscription as it was then, so each event gives a point by itself: which one does not depend on when
//! it is heard, how often, or what was heard before. What no event told is concluded and marked as that.

use std::borrow::Cow;

use billing::catalogue::Catalogue;
use billing::subscription::Status;
use jiff::Timestamp;
use serde_json::Value;

use crate::error::Result;
use crate::ops::derivation::{self, Derived};
use crate::ops::webhooks::carried::Carried;
use crate::store::mirror::Resource;
use crate::store::revenue::{self, Point, Since};
use crate::store::subscriptions::Subscription;
use crate::store::webhooks::Event;
use crate::store::{Tx, mirror};

/// Adds what an event tells of its subscription. One that cannot be valued by the event alone adds nothing: what is read
/// from Stripe afterwards settles it.
pub fn hear(tx: &mut Tx<'_>, event: &Event, carried: &Carried, catalogue: &Catalogue) -> Result<()> {
    let Ok(created) = Timestamp::from_second(event.created) else { return Ok(()) };
    if carried.object["object"] != "subscription" {
        return Ok(());
    }
    let object = with_discounts_shown(tx, &carried.object)?;
    let derived = derivation::derived(tx, &object, catalogue, created)?;
    let wire = &derived.wire;
    let whole =
        !wire.items_incomplete && wire.discount_ids_unresolved.is_empty() && wire.coupon_ids_unresolved.is_empty();
    if !whole {
        return Ok(());
    }
    let at = took_effect(&derived, &event.kind, carried.previous.as_ref(), created);
    revenue::begin(tx, &derived.row.id, &|| past(&derived, catalogue))?;
    revenue::tell(tx, &point(&derived.row, Since { at, cause: event.id.clone(), exact: true }))
}

/// Since when what an event shows holds: the subscription's own date of what happened where it has one, which may lie before
/// the event (Stripe: `ended_at`, `trial_end`, `start_date` of a backdated subscription); the event's otherwise.
fn took_effect(derived: &Derived, kind: &str, previous: Option<&Value>, created: Timestamp) -> Timestamp {
    let wire = &derived.wire;
    let was_trialing = previous.is_some_and(|previous| previous["status"] == "trialing");
    let own = if wire.core.status.is_ended() {
        wire.ended_at
    } else if kind.ends_with(".created") {
        Some(began(derived))
    } else if was_trialing && wire.core.status.earns() {
        wire.trial_end
    } else {
        None
    };
    own.map_or(created, |own| own.min(created))
}

fn began(derived: &Derived) -> Timestamp {
    let created = derived.wire.core.created;
    derived.wire.start_date.map_or(created, |start| start.min(created))
}

/// An event only names discounts. Those that the mirror shows are put in their place.
fn with_discounts_shown<'o>(tx: &mut Tx<'_>, object: &'o Value) -> Result<Cow<'o, Value>> {
    let named =
        |holder: &Value| holder["discounts"].as_array().is_some_and(|discounts| discounts.iter().any(Value::is_string));
    let items = |object: &Value| object["items"]["data"].as_array().cloned().unwrap_or_default();
    if !named(object) && !items(object).iter().any(named) {
        return Ok(Cow::Borrowed(object));
    }
    let id = object["id"].as_str().unwrap_or_default().to_owned();
    let Some(mirrored) =
        mirror::raw(tx, Resource::Subscriptions, &id)?.and_then(|raw| serde_json::from_str::<Value>(&raw).ok())
    else {
        return Ok(Cow::Borrowed(object));
    };
    let mut known = mirrored["discounts"].as_array().cloned().unwrap_or_default();
    known.extend(items(&mirrored).iter().flat_map(|item| item["discounts"].as_array().cloned().unwrap_or_default()));
    let show = |holder: &mut Value| {
        for discount in holder["discounts"].as_array_mut().into_iter().flatten() {
            if let Some(shown) = known.iter().find(|shown| shown.is_object() && shown["id"] == *discount) {
                *discount = shown.clone();
            }
        }
    };
    let mut object = object.clone();
    show(&mut object);
    object["items"]["data"].as_array_mut().into_iter().flatten().for_each(show);
    Ok(Cow::Owned(object))
}

/// Of a subscription that nothing was ever said of: what its own dates tell of its past.
pub fn past(derived: &Derived, catalogue: &Catalogue) -> Vec<Point> {
    let concluded = states(derived).into_iter().map(|(at, status, cause)| {
        // What it was worth while it earned: by its price of today, and the coupons of then.
        let mut wire = derived.wire.clone();
        wire.core.status = status;
        let then = derivation::derive(&wire, catalogue, at);
        point(&then, Since { at, cause: cause.to_owned(), exact: false })
    });
    concluded.collect()
}

/// The states through which a subscription must have gone, as far as its dates tell.
fn states(derived: &Derived) -> Vec<(Timestamp, Status, &'static str)> {
    let (wire, status, began) = (&derived.wire, derived.wire.core.status.clone(), began(derived));
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
