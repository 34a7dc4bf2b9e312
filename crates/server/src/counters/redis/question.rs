//! A question to the script, and what its answer means to whoever asked.

use std::sync::Arc;

use billing::catalogue::Limit;
use billing::limit::{Gcra, Refusal};
use billing::usage::{Credits, Quantity, UsageError};

use super::group::Line;
use super::notation::{Told, What, hold_of};
use super::publication::cut;
use crate::counters::book::{Book, Slot, State};
use crate::counters::embedded;
use crate::counters::reservations::{Known, Part};
use crate::counters::{Answer, Ask, Demand, Outage, Rate, Verdict};

/// A minute in microseconds, and a little: more than any rate allows.
const NEVER_US: i64 = 60_000_001;

/// A question to the script, of one account.
#[derive(Debug, Clone, Copy)]
pub struct Question<'q> {
    pub book: &'q Book,
    pub slot: &'q Arc<Slot>,
    pub demand: &'q Demand<'q>,
    /// Nothing where it is only asked whether there is room.
    pub ask: Option<&'q Ask<'q>>,
    pub rate: Rate,
    pub cost: Credits,
}

impl Question<'_> {
    /// As the script reads it.
    pub fn line(&self, alone: bool) -> Line {
        let Self { demand, ask, rate, cost, .. } = self;
        let cap = |of: fn(&Limit) -> Option<Quantity>| demand.limit.and_then(of).map(|cap| cut(cap.micro()));
        Line {
            id: ask.map(|ask| Arc::clone(ask.id)),
            kind: Arc::clone(demand.kind),
            quantity: demand.quantity.micro(),
            credits: cost.micro(),
            expires_ms: ask.map_or(0, |ask| ask.expires_ms),
            per_day: cap(|limit| limit.per_day),
            per_month: cap(|limit| limit.per_month),
            rate_us: rate_us(demand),
            takes_rate: ask.is_some() || *rate == Rate::Taken,
            now: demand.now,
            alone,
        }
    }

    /// What the script said, as the port says it; nothing where it has to be asked again.
    pub fn answered(&self, told: &Told) -> Result<Option<Answer>, Outage> {
        if told.tat_us > 0 {
            self.slot.lock().set_rate(self.demand.kind, told.tat_us.saturating_mul(1_000));
        }
        match (&told.what, self.ask) {
            (What::Granted, None) => Ok(Some(Answer { verdict: Verdict::Granted, numbers: told.numbers })),
            (What::Granted, Some(ask)) => self.held(ask, told, None),
            (What::Again(hold), Some(ask)) => self.held(ask, told, Some(hold)),
            _ => {
                let verdict = Verdict::Refused(self.refusal(told)?);
                Ok(Some(Answer { verdict, numbers: told.numbers }))
            }
        }
    }

    /// It is held there. It is remembered here in the same step in which it is seen that the account did not begin anew
    /// meanwhile; where it did, nothing is known.
    fn held(&self, ask: &Ask<'_>, told: &Told, before: Option<&str>) -> Result<Option<Answer>, Outage> {
        let mut part = self.book.reservations.part(ask.id);
        let mut state = self.slot.lock();
        if state.there.life != told.life {
            return Ok(None);
        }
        state.there.seen = state.there.seen.max(told.seen);
        let known = match before {
            None => ask.held(self.slot, &mut state, self.cost),
            Some(hold) => Known { user: Arc::clone(&self.slot.user), ..hold_of(hold)? },
        };
        let verdict = embedded::again(&known, &self.slot.user, self.demand);
        let is_held = matches!(verdict, Verdict::Again(_));
        if is_held && part.get(ask.id).is_none_or(|here| here.is_over(self.demand.now.as_millisecond())) {
            remember(&mut part, &mut state, ask.id, &known);
        }
        Ok(Some(if before.is_none() {
            Answer { verdict: Verdict::Granted, numbers: told.numbers.with_held(self.demand.quantity, self.cost) }
        } else if is_held && ask.is_new {
            // The client of Redis asked twice because an answer was lost: it is the first one all the same.
            Answer { verdict: Verdict::Granted, numbers: told.numbers }
        } else {
            Answer { verdict, numbers: told.numbers }
        }))
    }

    fn refusal(&self, told: &Told) -> Result<Refusal, Outage> {
        let numbers = &told.numbers;
        let room = self.slot.lock().room(self.demand.now.as_millisecond()).map_err(|error| Outage(error.into()))?;
        let limit = |of: fn(&Limit) -> Option<Quantity>| self.demand.limit.and_then(of).unwrap_or_default();
        Ok(match told.what {
            What::Over => Refusal::TrialOver,
            What::Uncountable => Refusal::Uncountable(UsageError::Overflow),
            What::Credits => Refusal::Credits {
                reset_ms: room.period_end_ms,
                remaining: numbers.credits.unwrap_or_default().max(Credits::ZERO),
            },
            What::Day => Refusal::PerDay {
                limit: limit(|limit| limit.per_day),
                used: numbers.today.max(Quantity::ZERO),
                reset_ms: room.day_end_ms,
            },
            What::Month => Refusal::PerMonth {
                limit: limit(|limit| limit.per_month),
                used: numbers.month.max(Quantity::ZERO),
                reset_ms: room.period_end_ms,
            },
            // Microseconds there, nanoseconds here: what is refused there by less than one is allowed with the next.
            What::Minute => self.demand.rate(numbers.tat_ns).err().unwrap_or(Refusal::PerMinute { retry_after_ms: 1 }),
            What::Granted | What::Again(_) | What::Behind => {
                return Err(Outage(format!("the script said {:?}", told.what).into()));
            }
        })
    }
}

/// Remembers here what is held there, so that it can be put back and written down.
fn remember(part: &mut Part, state: &mut State, id: &Arc<str>, known: &Known) {
    state.held.place(Arc::clone(id), known.hold());
    state.there.placed += 1;
    part.insert(id, known.clone());
}

/// What a demand adds to its rate, in microseconds, rounded up.
fn rate_us(demand: &Demand<'_>) -> Option<i64> {
    let per_minute = demand.limit?.per_minute?;
    Some(Gcra::admit(None, 0, demand.quantity, per_minute).map_or(NEVER_US, |ns| ns.saturating_add(999) / 1_000))
}
