//! What an account says at an instant, without being changed by the question.

use std::borrow::Cow;
use std::sync::Arc;

use super::period::{Period, Span, down, half_down, half_up, pico};
use super::{Account, AccountError, Kind, Segment, Sums};
use crate::catalogue::Overage;
use crate::entry::{Pack, Terms};
use crate::money::Money;
use crate::time::Window;
use crate::usage::{Credits, Quantity};

/// What holds at an instant. Numbers are rounded here, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The terms.
    pub terms: Arc<Terms>,
    /// The period that holds the instant.
    pub period: Window,
    /// The local day that holds it.
    pub day: Window,
    /// From this instant on (milliseconds since 1970) the numbers differ even if nothing is used.
    pub until_ms: i64,
    /// Quantities of the period by type; a sum may be below zero after a correction.
    pub in_period: Sums,
    /// Quantities of the day by type.
    pub in_day: Sums,
    /// Credits of the tier in this period.
    pub included: Credits,
    /// Credits used, half up; never below zero.
    pub used: Credits,
    /// What is left of included credits and packs; `used + remaining = included` as long as there is no overage and no
    /// pack (I-10). Nothing where the terms have ended.
    pub remaining: Credits,
    /// Packs that are worth something, in the order in which they are used.
    pub packs: Vec<PackLeft>,
    /// Credits beyond included ones and packs, half up.
    pub overage: Credits,
    /// The same, by the price under which it accrued.
    pub segments: Vec<Segment>,
    /// What it costs, half up once.
    pub overage_cost: Money,
    /// The terms have ended: nothing is allowed any more.
    pub expired: bool,
}

/// A pack and what is left of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackLeft {
    /// The pack.
    pub pack: Pack,
    /// Credits, rounded down.
    pub left: Credits,
}

/// What may still be used at an instant. Rounded against the user, so that what is given out never exceeds what there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// Credits; none: as many as one likes, all of them billed.
    pub credits: Option<Credits>,
    /// From this instant on the numbers differ even if nothing is used.
    pub until_ms: i64,
    /// The first millisecond of the day.
    pub day_start_ms: i64,
    /// The end of the day.
    pub day_end_ms: i64,
    /// The first millisecond of the period.
    pub period_start_ms: i64,
    /// The end of the period.
    pub period_end_ms: i64,
    /// The credits of the whole period: those included, and as many beyond them as the terms allow.
    pub quota: Credits,
    /// The terms have ended.
    pub expired: bool,
    used: Vec<(Arc<str>, Quantity, Quantity)>,
    counted: i128,
}

/// What a period gives, with what may go beyond it.
fn quota(period: &Period) -> Credits {
    let beyond = match period.terms.overage {
        Overage::Bill => period.terms.overage_cap.unwrap_or(Credits::ZERO),
        Overage::Block => Credits::ZERO,
    };
    period.included.plus(beyond).unwrap_or(period.included)
}

/// Which of the slots speaks for an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Before,
    Running,
    /// The entry that will turn to it has not come yet.
    Next,
}

/// The slots that speak for an instant.
struct Standing<'a> {
    period: Cow<'a, Period>,
    period_slot: Slot,
    day: Span,
    day_slot: Slot,
}

impl Room {
    /// The most that is counted in the period, of credits or of any type, in millionths.
    pub fn counted(&self) -> i128 {
        self.counted
    }

    /// How much of a type was used on the day.
    pub fn today(&self, kind: &str) -> Quantity {
        self.of(kind).map_or(Quantity::ZERO, |(_, today, _)| *today)
    }

    /// How much of a type was used in the period.
    pub fn month(&self, kind: &str) -> Quantity {
        self.of(kind).map_or(Quantity::ZERO, |(_, _, month)| *month)
    }

    fn of(&self, kind: &str) -> Option<&(Arc<str>, Quantity, Quantity)> {
        self.used.iter().find(|(name, _, _)| **name == *kind)
    }
}

impl Standing<'_> {
    fn in_day(&self, kind: &Kind) -> Quantity {
        match self.day_slot {
            Slot::Before => kind.yesterday,
            Slot::Running => kind.day,
            Slot::Next => Quantity::ZERO,
        }
    }

    fn in_period(&self, kind: &Kind) -> Quantity {
        match self.period_slot {
            Slot::Before => kind.before,
            Slot::Running => kind.period,
            Slot::Next => Quantity::ZERO,
        }
    }
}

impl Account {
    /// What holds at an instant (milliseconds since 1970): the period and the day that hold it, also where the account has
    /// not turned to them yet, or has turned a little early because a clock was set back (F-49). Before the two periods
    /// that it knows it answers the older one; beyond the end of the calendar, the running one.
    pub fn at(&self, now_ms: i64) -> View {
        let standing = self.standing(now_ms, now_ms < self.period.span.start_ms).unwrap_or_else(|_| self.as_it_is());
        let period = &*standing.period;
        let packs = self.packs.live(now_ms).filter(|kept| kept.left > 0);
        let expired = period.terms.is_over(now_ms);
        let left = if expired { 0 } else { period.left_pico().saturating_add(self.packs.left_at(now_ms)) };
        View {
            terms: Arc::clone(&period.terms),
            period: period.span.window(),
            day: standing.day.window(),
            until_ms: self.holds_until(&standing, now_ms),
            in_period: self.sums(|kind| standing.in_period(kind)),
            in_day: self.sums(|kind| standing.in_day(kind)),
            included: period.included,
            used: period.used(),
            remaining: half_down(left),
            packs: packs.map(|kept| PackLeft { pack: kept.pack.clone(), left: down(kept.left) }).collect(),
            overage: half_up(period.overage_pico()),
            overage_cost: period.overage_cost(),
            segments: period.segments.clone(),
            expired,
        }
    }

    /// What may be used at an instant: where an event of this instant would count.
    pub fn room(&self, now_ms: i64) -> Result<Room, AccountError> {
        // After the grace an event of the period before counts in the running one, so that is whose room it takes.
        let in_grace = self.before_open && self.received_ms < self.grace_ends_ms();
        let standing = self.standing(now_ms, in_grace && now_ms < self.period.span.start_ms)?;
        let period = &*standing.period;
        let expired = period.terms.is_over(now_ms);
        let used = self.kinds.iter();
        let in_period = self.kinds.iter().map(|kind| i128::from(standing.in_period(kind).micro()));
        let credits = i128::from(down(period.used_pico).micro());
        Ok(Room {
            counted: in_period.fold(credits, i128::max),
            credits: if expired { Some(Credits::ZERO) } else { self.credits_left(period, now_ms) },
            until_ms: self.holds_until(&standing, now_ms),
            day_start_ms: standing.day.start_ms,
            day_end_ms: standing.day.end_ms,
            period_start_ms: period.span.start_ms,
            period_end_ms: period.span.end_ms,
            quota: quota(period),
            expired,
            used: used.map(|kind| (Arc::clone(&kind.name), standing.in_day(kind), standing.in_period(kind))).collect(),
        })
    }

    /// The end of the day, of the period, of the terms or of a pack, whichever comes first.
    fn holds_until(&self, standing: &Standing<'_>, now_ms: i64) -> i64 {
        let packs = self.packs.live(now_ms).filter_map(|kept| kept.pack.expires_ms);
        let ends = standing.period.terms.ends_ms.into_iter().chain(packs).filter(|end_ms| *end_ms > now_ms);
        ends.fold(standing.day.end_ms.min(standing.period.span.end_ms), i64::min)
    }

    fn credits_left(&self, period: &Period, now_ms: i64) -> Option<Credits> {
        let beyond = match (period.terms.overage, period.terms.overage_cap) {
            (Overage::Block, _) => 0,
            (Overage::Bill, None) => return None,
            (Overage::Bill, Some(cap)) => pico(cap).saturating_sub(period.overage_pico()).max(0),
        };
        let left = period.left_pico().saturating_add(self.packs.left_at(now_ms));
        Some(down(left.saturating_add(beyond)))
    }

    fn standing(&self, now_ms: i64, in_period_before: bool) -> Result<Standing<'_>, AccountError> {
        let (period, period_slot) = if in_period_before {
            (Cow::Borrowed(&self.before), Slot::Before)
        } else if now_ms < self.period.span.end_ms {
            (Cow::Borrowed(&self.period), Slot::Running)
        } else {
            let mut next = Period::around(&self.period.terms, now_ms)?;
            next.span.start_ms = next.span.start_ms.max(self.period.span.end_ms);
            (Cow::Owned(next), Slot::Next)
        };
        let (day, day_slot) = if now_ms < self.day.start_ms {
            (self.yesterday, Slot::Before)
        } else if now_ms < self.day.end_ms {
            (self.day, Slot::Running)
        } else {
            let day = Span::day(&self.period.terms.zone, now_ms)?;
            (Span { start_ms: day.start_ms.max(self.day.end_ms), end_ms: day.end_ms }, Slot::Next)
        };
        Ok(Standing { period, period_slot, day, day_slot })
    }

    fn as_it_is(&self) -> Standing<'_> {
        Standing {
            period: Cow::Borrowed(&self.period),
            period_slot: Slot::Running,
            day: self.day,
            day_slot: Slot::Running,
        }
    }
}
