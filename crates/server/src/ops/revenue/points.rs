//! What subscriptions are worth since when, read from events and from the dates that a subscription carries.
//!
//! An event shows its subscription as it was then, so each event gives a point by itself: which one does not depend on when
//! it is heard, how often, or what was heard before. What no event told is concluded and marked as that.

use billing::catalogue::Catalogue;
use billing::subscription::Status;
use jiff::Timestamp;
use serde_json::Value;

use crate::app::App;
use crate::error::{Error, Result};
use crate::gateways::stripe::read;
use crate::ops::derivation::{self, Derived};
use crate::store::mirror::Resource;
use crate::store::revenue::{self, Point, Since};
use crate::store::subscriptions::{self, Subscription};
use crate::store::webhooks::Event;
use crate::store::{Tx, mirror, readings};

/// How many subscriptions are settled in one transaction.
const BATCH: i64 = 200;

/// Adds what an event tells of its subscription. One that cannot be valued by the event alone adds nothing: what is read
/// from Stripe afterwards settles it.
pub fn hear(tx: &mut Tx<'_>, event: &Event, body: &str, catalogue: &Catalogue) -> Result<()> {
    let carried = read::event(body).map_err(Error::internal)?;
    let (Some(object), Ok(created)) = (carried.object, Timestamp::from_second(event.created)) else { return Ok(()) };
    let Ok(mut object) = serde_json::from_str::<Value>(object.get()) else { return Ok(()) };
    if object["object"] != "subscription" {
        return Ok(());
    }
    show_discounts(tx, &mut object)?;
    let derived = derivation::derived(tx, &object.to_string(), catalogue, created)?;
    let wire = &derived.wire;
    let whole =
        !wire.items_incomplete && wire.discount_ids_unresolved.is_empty() && wire.coupon_ids_unresolved.is_empty();
    if !whole {
        return Ok(());
    }
    let previous = carried.previous.and_then(|previous| serde_json::from_str::<Value>(previous.get()).ok());
    let at = took_effect(&derived, &event.kind, previous.as_ref(), created);
    conclude(tx, &derived, catalogue)?;
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
fn show_discounts(tx: &mut Tx<'_>, object: &mut Value) -> Result<()> {
    let named =
        |holder: &Value| holder["discounts"].as_array().is_some_and(|discounts| discounts.iter().any(Value::is_string));
    let items = |object: &Value| object["items"]["data"].as_array().cloned().unwrap_or_default();
    if !named(object) && !items(object).iter().any(named) {
        return Ok(());
    }
    let id = object["id"].as_str().unwrap_or_default().to_owned();
    let Some(mirrored) =
        mirror::raw(tx, Resource::Subscriptions, &id)?.and_then(|raw| serde_json::from_str::<Value>(&raw).ok())
    else {
        return Ok(());
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
    show(object);
    object["items"]["data"].as_array_mut().into_iter().flatten().for_each(show);
    Ok(())
}

/// Of a subscription that nothing was ever said of: what its own dates tell of its past.
pub fn conclude(tx: &mut Tx<'_>, derived: &Derived, catalogue: &Catalogue) -> Result<()> {
    if !revenue::is_unknown(tx, &derived.row.id)? {
        return Ok(());
    }
    for (at, status, cause) in past(derived) {
        // What it was worth while it earned: by its price of today, and the coupons of then.
        let mut wire = derived.wire.clone();
        wire.core.status = status;
        let then = derivation::derive(&wire, catalogue, at);
        revenue::conclude(tx, &point(&then, Since { at, cause: cause.to_owned(), exact: false }))?;
    }
    Ok(())
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
fn past(derived: &Derived) -> Vec<(Timestamp, Status, &'static str)> {
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

/// Settles every subscription's points anew.
pub async fn repair(app: &App) -> Result<()> {
    let (mut after, now) = (String::new(), app.clock.now());
    loop {
        let settled = app.db.write(move |tx| {
            let ids = revenue::subscriptions(tx, &after, BATCH)?;
            let Some(last) = ids.last().cloned() else { return Ok(None) };
            let cause = format!("repair {}", readings::take_ticket(tx)?);
            let since = Since { at: now, cause, exact: false };
            ids.iter().try_for_each(|id| subscriptions::settle(tx, id, &since))?;
            Ok(Some(last))
        });
        let Some(last) = settled.await? else { return Ok(()) };
        after = last;
    }
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
