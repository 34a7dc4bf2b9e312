//! An event is counted: in its period, on its day, against the credits.

use std::sync::Arc;

use super::period::Span;
use super::{Account, AccountError, Folded, GRACE_MS, Kind, Moment};
use crate::entry::{Fact, Moved};
use crate::usage::{Credits, Quantity, UsageError};

/// What an entry counts: a quantity with its sign.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted<'a> {
    kind: &'a str,
    quantity: Quantity,
    cost_pico: i128,
    /// In whose period it counts: its own time decides where there is none.
    in_ms: Option<i64>,
}

/// Where an event counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// In the period before the running one.
    before: bool,
    pub(super) late: bool,
    day: Option<Day>,
}

#[derive(Debug, Clone, Copy)]
enum Day {
    Running,
    Before,
}

impl<'a> Counted<'a> {
    /// What a fact counts; nothing where it is no event.
    pub(super) fn of(fact: &Fact<'a>) -> Result<Option<Counted<'a>>, AccountError> {
        let (kind, quantity, weight, in_ms) = match fact {
            Fact::Usage { quantity, .. } | Fact::Void { quantity, .. } if quantity.is_negative() => {
                return Err(AccountError::Negative);
            }
            Fact::Usage { kind, quantity, weight } | Fact::Adjust { kind, quantity, weight } => {
                (kind, *quantity, weight, None)
            }
            Fact::Void { kind, quantity, weight, counted_ms } => {
                (kind, quantity.negated().map_err(overflow)?, weight, *counted_ms)
            }
            Fact::Grant(_) | Fact::Revoke { .. } | Fact::Expire { .. } | Fact::Plan { .. } | Fact::Roll => {
                return Ok(None);
            }
        };
        if *weight < Credits::ZERO {
            return Err(AccountError::Negative);
        }
        let cost_pico = i128::from(quantity.micro()).saturating_mul(i128::from(weight.micro())); // 63 bits times 63
        Ok(Some(Counted { kind, quantity, cost_pico, in_ms }))
    }
}

fn overflow(_: UsageError) -> AccountError {
    AccountError::Overflow
}

impl Kind {
    fn new(name: &str) -> Kind {
        let zero = Quantity::ZERO;
        Kind { name: Arc::from(name), day: zero, yesterday: zero, period: zero, before: zero }
    }

    /// Its sums with this event, if they all fit.
    fn with(&self, quantity: Quantity, place: Place) -> Result<[Quantity; 4], AccountError> {
        let [mut day, mut yesterday, mut period, mut before] = self.sums();
        match place.day {
            Some(Day::Running) => day = day.plus(quantity).map_err(overflow)?,
            Some(Day::Before) => yesterday = yesterday.plus(quantity).map_err(overflow)?,
            None => {}
        }
        let sum = if place.before { &mut before } else { &mut period };
        *sum = sum.plus(quantity).map_err(overflow)?;
        Ok([day, yesterday, period, before])
    }

    pub(super) fn sums(&self) -> [Quantity; 4] {
        [self.day, self.yesterday, self.period, self.before]
    }

    fn set(&mut self, sums: [Quantity; 4]) {
        [self.day, self.yesterday, self.period, self.before] = sums;
    }
}

impl Account {
    /// Counts an event in slots that hold its moment. All of it is known to fit before any of it is done.
    pub(super) fn count(&mut self, counted: &Counted<'_>, moment: Moment) -> Result<Folded, AccountError> {
        let place = self.place_in(counted.in_ms.unwrap_or(moment.event_ms), moment);
        let day = self.day_of(place, moment)?;
        let period = self.put(counted, place, moment.event_ms)?;
        Ok(Folded { late: place.late, day, period, cost_pico: counted.cost_pico, ..Folded::default() })
    }

    /// The same in the running period and on no day: what another period has counted comes here, or goes from here.
    pub(super) fn shift(&mut self, moved: &Moved, away: bool, at_ms: i64) -> Result<(), AccountError> {
        let (quantity, cost_pico) = if away {
            (moved.quantity.negated().map_err(overflow)?, moved.cost_pico.saturating_neg())
        } else {
            (moved.quantity, moved.cost_pico)
        };
        let counted = Counted { kind: &moved.kind, quantity, cost_pico, in_ms: None };
        self.put(&counted, Place { before: false, late: false, day: None }, at_ms).map(drop)
    }

    /// Books it in its place; answers where that period begins.
    fn put(&mut self, counted: &Counted<'_>, place: Place, at_ms: i64) -> Result<i64, AccountError> {
        let known = self.kinds.iter().position(|kind| &*kind.name == counted.kind);
        let fresh = if known.is_none() { Some(Kind::new(counted.kind)) } else { None };
        let at = known.unwrap_or(self.kinds.len());
        let kind = self.kinds.get(at).or(fresh.as_ref()).ok_or(AccountError::Overflow)?;
        let sums = kind.with(counted.quantity, place)?;
        let period = if place.before { &mut self.before } else { &mut self.period };
        // After a trial nobody may use their packs, so what happened all the same costs nothing of them.
        let in_packs = if period.terms.is_over(at_ms) { 0 } else { self.packs.left_at(at_ms) };
        let from_packs = self.packs.used_in(place.before);
        let charge = period.charge(counted.cost_pico, in_packs, from_packs)?;
        let start_ms = period.span.start_ms;

        period.book(charge);
        if charge.packs > 0 {
            self.packs.take(charge.packs, at_ms, place.before);
        } else if charge.packs < 0 {
            self.packs.give_back(charge.packs.saturating_neg(), place.before);
        }
        self.kinds.extend(fresh);
        if let Some(kind) = self.kinds.get_mut(at) {
            kind.set(sums);
        }
        Ok(start_ms)
    }

    /// What is said of an entry that counts nothing.
    pub(super) fn at_no_cost(&self, moment: Moment) -> Result<Folded, AccountError> {
        let place = self.place(moment);
        let period = if place.before { &self.before } else { &self.period };
        let day = self.day_of(place, moment)?;
        Ok(Folded { day, period: period.span.start_ms, ..Folded::default() })
    }

    pub(super) fn place(&self, moment: Moment) -> Place {
        self.place_in(moment.event_ms, moment)
    }

    /// The same for the period of another instant.
    fn place_in(&self, counted_ms: i64, moment: Moment) -> Place {
        let Moment { event_ms, received_ms, .. } = moment;
        let own = counted_ms >= self.period.span.start_ms;
        let in_before = counted_ms >= self.before.span.start_ms && received_ms < self.grace_ends_ms();
        let before = !own && self.before_open && in_before;
        let day = if event_ms >= self.day.start_ms {
            Some(Day::Running)
        } else if event_ms >= self.yesterday.start_ms {
            Some(Day::Before)
        } else {
            None
        };
        Place { before, late: !own && !before, day }
    }

    /// The first millisecond of the event's own day, whether that is counted here or not.
    fn day_of(&self, place: Place, moment: Moment) -> Result<i64, AccountError> {
        match place.day {
            Some(Day::Running) => Ok(self.day.start_ms),
            Some(Day::Before) => Ok(self.yesterday.start_ms),
            None => Span::day(&self.period.terms.zone, moment.event_ms).map(|day| day.start_ms),
        }
    }

    /// From here on the totals of the period before are frozen.
    pub(super) fn grace_ends_ms(&self) -> i64 {
        self.period.span.start_ms.saturating_add(GRACE_MS)
    }
}
