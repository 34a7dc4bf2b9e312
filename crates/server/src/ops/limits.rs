//! Limits: what the catalogue allows a user, how that stands, and what holds when it cannot be decided.

use std::sync::Arc;
use std::time::Duration;

use billing::catalogue::{Limit, Overage, Tier, WhenUnknown};
use billing::limit::{Gcra, Refusal};
use billing::usage::{Credits, Quantity};

use super::usage;
use crate::app::App;
use crate::counters::book::Slot;
use crate::counters::{Demand, Numbers};
use crate::error::{Error, LimitState, Refused, Result};
use crate::store::users;

const MINUTE_SECONDS: u64 = 60;
const MINUTE: &str = "minute";
const CREDITS: &str = "credits";
/// A refusal that nobody can decide is worth asking again soon.
const UNKNOWN_RETRY: Duration = Duration::from_secs(1);

/// The account of a user, kept in memory from now on, so that something can be held of it.
pub(super) async fn slot_of(app: &App, user: &str) -> Result<Arc<Slot>> {
    usage::follow_others(app).await?;
    if let Some(slot) = app.book.get(user) {
        return Ok(slot);
    }
    Box::pin(load(app, user)).await
}

async fn load(app: &App, user: &str) -> Result<Arc<Slot>> {
    let id = user.to_owned();
    let known = app.db.read(move |tx| users::get(tx, &id)).await?;
    usage::kept_account(app, &known.ok_or_else(super::users::unknown)?).await
}

/// The tier that an account is in.
fn tier_of<'a>(app: &'a App, slot: &Slot) -> Option<&'a Tier> {
    let state = slot.lock();
    app.catalogue.tier(&state.account.terms().tier)
}

/// A demand of so much of a type by this account, with the limits of its tier.
pub(super) fn demand<'a>(app: &'a App, slot: &Slot, kind: &str, quantity: Quantity) -> Result<Demand<'a>> {
    let (kind, weight) = usage::kind(app, kind)
        .ok_or_else(|| Error::rule("type.unknown", "/type", "expected an event type of the catalogue"))?;
    if quantity > usage::QUANTITY_MAX || quantity < Quantity::ZERO {
        return Err(Error::invalid("/quantity", "expected 0 to 1000000000"));
    }
    // Where no tier limits the type, nobody has to find out in which one the user is.
    let is_limited = app.catalogue.tiers.iter().any(|tier| tier.limits.contains_key(&**kind));
    let tier = if is_limited { tier_of(app, slot) } else { None };
    let limit = tier.and_then(|tier| tier.limits.get(&**kind));
    Ok(Demand { kind, quantity, weight, limit, now: app.clock.now() })
}

/// Whether what cannot be decided is let through: credits where the tier bills whatever goes beyond, caps and rates where the
/// limit says so. All of them have to.
pub(super) fn is_open(slot: &Slot, limit: Option<&Limit>) -> bool {
    let bills_all = {
        let state = slot.lock();
        let terms = state.account.terms();
        terms.overage == Overage::Bill && terms.overage_cap.is_none()
    };
    bills_all && limit.is_none_or(|limit| limit.when_unknown == WhenUnknown::Open)
}

/// It cannot be decided, and the limit is closed then.
pub(super) fn undecidable() -> Error {
    Error::Refused(Box::new(Refused { code: "limit.unknown", retry_after: Some(UNKNOWN_RETRY), limits: Vec::new() }))
}

/// A refusal as it is told, with all limits that the demand touches.
pub(super) fn refused(slot: &Slot, demand: &Demand<'_>, numbers: &Numbers, refusal: &Refusal) -> Result<Refused> {
    let limits = states(slot, demand, numbers);
    // Whoever comes again when the first limit is whole must not meet the next.
    let others = limits.iter().filter(|limit| limit.name != MINUTE && limit.remaining < demand.asked_of(limit.name));
    let others = others.map(|limit| Duration::from_secs(limit.reset_seconds)).max().unwrap_or_default();
    let until = |reset_ms: i64| millis(reset_ms.saturating_sub(demand.now.as_millisecond())).max(others);
    let (code, retry_after) = match refusal {
        Refusal::Credits { reset_ms, .. } => ("credits.exhausted", Some(until(*reset_ms))),
        Refusal::TrialOver => ("trial.over", None),
        Refusal::PerDay { reset_ms, .. } => ("limit.day", Some(until(*reset_ms))),
        Refusal::PerMonth { reset_ms, .. } => ("limit.month", Some(until(*reset_ms))),
        // More than a whole minute's quota: no pause is long enough, and after this one the limit is whole again.
        Refusal::PerMinute { retry_after_ms: i64::MAX } => ("limit.minute", Some(Duration::from_secs(MINUTE_SECONDS))),
        Refusal::PerMinute { retry_after_ms } => ("limit.minute", Some(millis(*retry_after_ms))),
        Refusal::Uncountable(_) => return Err(Error::invalid("/quantity", "this is more than an account can count")),
    };
    Ok(Refused { code, retry_after, limits })
}

impl Demand<'_> {
    /// What it takes of a limit, in millionths.
    fn asked_of(&self, limit: &str) -> i64 {
        if limit == CREDITS { self.cost().map_or(i64::MAX, Credits::micro) } else { self.quantity.micro() }
    }
}

fn millis(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or_default())
}

/// How the limits stand that a demand touches (S-37). What is held for reservations is taken off.
pub(super) fn states(slot: &Slot, demand: &Demand<'_>, numbers: &Numbers) -> Vec<LimitState> {
    if numbers.credits.is_none() && demand.limit.is_none() {
        return Vec::new();
    }
    let now_ms = demand.now.as_millisecond();
    // Where this cannot be worked out, the demand was refused as uncountable.
    let Ok(room) = slot.lock().room(now_ms) else { return Vec::new() };
    if room.expired {
        // Time gives nothing back after a trial, so nothing may say when it would.
        return Vec::new();
    }
    let (day, period) = ((room.day_start_ms, room.day_end_ms), (room.period_start_ms, room.period_end_ms));
    let state = |name, quota: i64, remaining: i64, (start_ms, end_ms): (i64, i64)| LimitState {
        name,
        quota: quota.max(remaining),
        remaining: remaining.max(0),
        reset_seconds: seconds(now_ms, end_ms),
        window_seconds: seconds(start_ms, end_ms),
    };
    let mut states = Vec::new();
    if let Some(credits) = numbers.credits {
        states.push(state(CREDITS, room.quota.micro(), credits.micro(), period));
    }
    let Some(limit) = demand.limit else { return states };
    let left = |quota: Quantity, taken: Quantity| quota.micro().saturating_sub(taken.micro());
    if let Some(quota) = limit.per_day {
        states.push(state("day", quota.micro(), left(quota, numbers.today), day));
    }
    if let Some(quota) = limit.per_month {
        states.push(state("month", quota.micro(), left(quota, numbers.month), period));
    }
    if let Some(quota) = limit.per_minute {
        states.push(minute(demand, numbers.tat_ns, quota));
    }
    states
}

fn minute(demand: &Demand<'_>, tat_ns: Option<i64>, quota: Quantity) -> LimitState {
    const SECOND_NS: i64 = 1_000_000_000;
    let now_ns = i64::try_from(demand.now.as_nanosecond()).unwrap_or(i64::MAX);
    let debt_ns = tat_ns.map_or(0, |tat_ns| tat_ns.saturating_sub(now_ns).max(0));
    let whole_again = debt_ns.saturating_add(SECOND_NS - 1) / SECOND_NS;
    LimitState {
        name: MINUTE,
        quota: quota.micro(),
        remaining: Gcra::remaining(tat_ns, now_ns, quota).micro(),
        reset_seconds: u64::try_from(whole_again).unwrap_or_default().min(MINUTE_SECONDS),
        window_seconds: MINUTE_SECONDS,
    }
}

/// Whole seconds, rounded up: whoever waits so long does not come too early.
fn seconds(from_ms: i64, to_ms: i64) -> u64 {
    let ms = to_ms.saturating_sub(from_ms).max(0);
    u64::try_from(ms.saturating_add(999) / 1_000).unwrap_or_default()
}
