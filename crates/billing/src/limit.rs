//! Limits: what may still be used. One decision for checking, reserving and authorizing alike, and the rate by the minute.

use std::fmt;

use crate::account::Room;
use crate::catalogue::Limit;
use crate::hold::Held;
use crate::usage::{Credits, Quantity, UsageError};

/// Millionths of a unit, and microcredits of a credit.
const MICRO: i128 = 1_000_000;
/// The most units of a type, or credits, of a period, in millionths: half of what the arithmetic can hold.
pub const COUNTED_MOST: i128 = 1 << 60;
/// A minute in nanoseconds.
const MINUTE_NS: i128 = 60_000_000_000;
/// A millisecond in nanoseconds.
const MILLI_NS: i128 = 1_000_000;

/// What is left once the quantity that was asked for is used or held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remaining {
    /// Credits; none: as many as one likes, all of them billed.
    pub credits: Option<Credits>,
    /// Of this type on this day; none: no limit.
    pub today: Option<Quantity>,
    /// Of this type in this period; none: no limit.
    pub month: Option<Quantity>,
}

/// Why a quantity is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Not so many credits are left.
    Credits {
        /// When there are more, if nothing is bought: the end of the period, in milliseconds since 1970.
        reset_ms: i64,
        /// Credits that are neither used nor held.
        remaining: Credits,
    },
    /// The trial has ended.
    TrialOver,
    /// The limit of the day is reached.
    PerDay {
        /// The limit.
        limit: Quantity,
        /// Used and held.
        used: Quantity,
        /// When the day ends.
        reset_ms: i64,
    },
    /// The limit of the period is reached.
    PerMonth {
        /// The limit.
        limit: Quantity,
        /// Used and held.
        used: Quantity,
        /// When the period ends.
        reset_ms: i64,
    },
    /// Too much for this minute.
    PerMinute {
        /// When to try again.
        retry_after_ms: i64,
    },
    /// The quantity is negative, or more than can be counted.
    Uncountable(UsageError),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Credits { remaining, .. } => write!(f, "only {remaining} credits are left"),
            Refusal::TrialOver => f.write_str("the trial is over"),
            Refusal::PerDay { limit, used, .. } => write!(f, "{used} of {limit} a day are used or held"),
            Refusal::PerMonth { limit, used, .. } => write!(f, "{used} of {limit} a month are used or held"),
            Refusal::PerMinute { retry_after_ms } => write!(f, "too fast: try again in {retry_after_ms} ms"),
            Refusal::Uncountable(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Refusal::Uncountable(error) => Some(error),
            Refusal::Credits { .. }
            | Refusal::TrialOver
            | Refusal::PerDay { .. }
            | Refusal::PerMonth { .. }
            | Refusal::PerMinute { .. } => None,
        }
    }
}

/// May so much be used? What is held counts as used: on the day, in the period, and of the credits (I-03).
///
/// Rates by the minute are not decided here, because they have a state of their own ([`Gcra`]).
pub fn decide(
    room: &Room,
    held: &Held,
    limit: Option<&Limit>,
    kind: &str,
    quantity: Quantity,
    weight: Credits,
) -> Result<Remaining, Refusal> {
    if room.expired {
        return Err(Refusal::TrialOver);
    }
    let cost = credits_for(quantity, weight).map_err(Refusal::Uncountable)?;
    if !is_countable(room, held, kind, quantity, cost) {
        return Err(Refusal::Uncountable(UsageError::Overflow));
    }
    let credits = credits_left(room, held, cost)?;
    let held = held.quantity(kind);
    let (per_day, per_month) = limit.map_or((None, None), |limit| (limit.per_day, limit.per_month));
    let today = below(per_day, room.today(kind), held, quantity)?.map_err(|(limit, used)| Refusal::PerDay {
        limit,
        used,
        reset_ms: room.day_end_ms,
    })?;
    let month = below(per_month, room.month(kind), held, quantity)?.map_err(|(limit, used)| Refusal::PerMonth {
        limit,
        used,
        reset_ms: room.period_end_ms,
    })?;
    Ok(Remaining { credits, today, month })
}

/// Whether the account could count so much beside what is held of it: what is promised must count when it comes.
pub fn is_countable(room: &Room, held: &Held, kind: &str, quantity: Quantity, cost: Credits) -> bool {
    let size = quantity.micro().max(cost.micro());
    let held = held.credits().micro().max(held.quantity(kind).micro());
    size == 0 || room.counted().saturating_add(i128::from(held)).saturating_add(i128::from(size)) <= COUNTED_MOST
}

fn credits_left(room: &Room, held: &Held, cost: Credits) -> Result<Option<Credits>, Refusal> {
    let Some(credits) = room.credits else {
        // Without a limit, what is held still has to be a number.
        return held.credits().plus(cost).map(|_| None).map_err(Refusal::Uncountable);
    };
    let free = credits.minus(held.credits()).map_err(Refusal::Uncountable)?;
    let left = free.minus(cost).map_err(Refusal::Uncountable)?;
    if left < Credits::ZERO {
        return Err(Refusal::Credits { reset_ms: room.period_end_ms, remaining: free.max(Credits::ZERO) });
    }
    Ok(Some(left))
}

/// What is left of a limit, or the limit and what is used and held of it.
type Below = Result<Option<Quantity>, (Quantity, Quantity)>;

fn below(limit: Option<Quantity>, used: Quantity, held: Quantity, quantity: Quantity) -> Result<Below, Refusal> {
    let Some(limit) = limit else { return Ok(Ok(None)) };
    let taken = used.plus(held).map_err(Refusal::Uncountable)?;
    let left = limit.minus(taken).and_then(|free| free.minus(quantity)).map_err(Refusal::Uncountable)?;
    Ok(if left.is_negative() { Err((limit, taken.max(Quantity::ZERO))) } else { Ok(Some(left)) })
}

/// What a quantity costs, rounded up to the microcredit: never less than it will have cost.
pub fn credits_for(quantity: Quantity, weight: Credits) -> Result<Credits, UsageError> {
    if quantity.is_negative() || weight < Credits::ZERO {
        return Err(UsageError::Negative);
    }
    let exact = i128::from(quantity.micro()).saturating_mul(i128::from(weight.micro())); // 63 bits times 63
    i64::try_from(up(exact, MICRO)).map(Credits::from_micro).map_err(|_| UsageError::Overflow)
}

/// The quotient of two numbers that are not negative, rounded up.
fn up(number: i128, by: i128) -> i128 {
    let whole = number.checked_div(by).unwrap_or(i128::MAX);
    let odd = number.checked_rem(by).is_none_or(|rest| rest > 0);
    whole.saturating_add(i128::from(odd))
}

/// A rate by the minute: the generic cell rate algorithm. Its state is one number, the instant at which everything that was
/// admitted would have been used up at the allowed rate.
///
/// The burst is one minute's quota: after a pause all of it is there at once. So in a stretch of time `t` no more is
/// admitted than the quota times `t`, and one quota (I-17).
#[derive(Debug, Clone, Copy)]
pub struct Gcra;

/// It was too much for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// When there will be enough, in milliseconds from now, rounded up. Where `never`, when there is all there can be.
    pub retry_after_ms: i64,
    /// What would be admitted now.
    pub remaining: Quantity,
    /// It is more than a minute's quota: waiting does not help.
    pub never: bool,
}

impl Gcra {
    /// Admits a cost at an instant (nanoseconds since 1970), or says when to come again; answers the new state. An amount
    /// below zero counts as nothing.
    pub fn admit(tat_ns: Option<i64>, now_ns: i64, cost: Quantity, per_minute: Quantity) -> Result<i64, Wait> {
        let quota = i128::from(per_minute.micro()).max(0);
        let cost = i128::from(cost.micro()).max(0);
        let debt = debt_ns(tat_ns, now_ns);
        // Rounded up: a thousand small costs weigh no less than the one that they sum to.
        let more = if cost == 0 { 0 } else { up(cost.saturating_mul(MINUTE_NS), quota) };
        let after = debt.saturating_add(more);
        match i64::try_from(i128::from(now_ns).saturating_add(after)) {
            Ok(tat_ns) if after <= MINUTE_NS => Ok(tat_ns),
            Ok(_) | Err(_) => Err(wait(debt, more, quota)),
        }
    }

    /// What would be admitted at an instant.
    pub fn remaining(tat_ns: Option<i64>, now_ns: i64, per_minute: Quantity) -> Quantity {
        left(debt_ns(tat_ns, now_ns), i128::from(per_minute.micro()).max(0))
    }
}

/// How long it would take to use up what was admitted: one burst at most, and a little more where clocks differ. A state
/// that says more than two was made by a clock that has been set back since (F-49). It means nothing any more, and one
/// burst too many is better than an hour without any.
fn debt_ns(tat_ns: Option<i64>, now_ns: i64) -> i128 {
    let debt = tat_ns.map_or(0, |tat_ns| i128::from(tat_ns).saturating_sub(i128::from(now_ns)));
    if debt > MINUTE_NS.saturating_mul(2) { 0 } else { debt.max(0) }
}

fn wait(debt: i128, more: i128, quota: i128) -> Wait {
    let never = more > MINUTE_NS;
    let ns = if never { debt } else { debt.saturating_add(more).saturating_sub(MINUTE_NS) };
    let retry_after_ms = i64::try_from(up(ns.max(0), MILLI_NS)).unwrap_or(i64::MAX);
    Wait { retry_after_ms, remaining: left(debt, quota), never }
}

fn left(debt: i128, quota: i128) -> Quantity {
    let free = MINUTE_NS.saturating_sub(debt).max(0).saturating_mul(quota).div_euclid(MINUTE_NS);
    Quantity::from_micro(i64::try_from(free).unwrap_or(i64::MAX))
}
