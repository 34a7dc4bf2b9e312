//! Other terms begin.
//!
//! Where the period goes on (`keep_used`, `prorate`), it keeps what was counted in it and takes over the end that the new
//! terms give it: an upgrade from a calendar month to an anchored one neither forgets usage nor cuts a period in two. Its
//! overage so far stays overage at the price under which it accrued. Days keep their sums too, should the zone change: a
//! cap for a day is not lifted by moving.
//!
//! A calendar month that comes into another zone ends with the same month there, and never earlier than now.

use std::sync::Arc;

use super::period::{Period, Span, instant};
use super::{Account, AccountError, ClosedPeriod, Moment};
use crate::catalogue::TierChange;
use crate::entry::{CREDITS_MOST, Moved, PeriodRule, PlanChange, Terms, first_ms};
use crate::usage::Credits;

impl Account {
    /// How this account comes to terms that hold from an instant on (milliseconds since 1970). Only an anchor that was moved
    /// and another kind of period begin anew, and only where that period begins later than the running one. Whatever else
    /// changes (tier, price, zone), the period goes on with what was used, and `midway` says what another tier gives in it.
    /// Overage of two currencies cannot be added up.
    ///
    /// A trial has its credits once: a tier that becomes one takes the period as it is, and nobody gets a share of one.
    pub fn change_to(&self, terms: &Terms, midway: TierChange, now_ms: i64) -> Result<PlanChange, AccountError> {
        let before = &*self.period.terms;
        if self.period.currency() != terms.price_per_1k.currency() {
            return Ok(PlanChange::Reset);
        }
        let same_tier = before.tier == terms.tier;
        if before.period != terms.period && !(same_tier && terms.ends_ms.is_some()) {
            let next = Span::of(terms.period_at(instant(now_ms)?)?)?;
            let running = first_ms(self.at(now_ms).period.start).ok_or(AccountError::Overflow)?;
            if next.start_ms > running {
                return Ok(PlanChange::Reset);
            }
        }
        let shares = !same_tier && before.ends_ms.is_none() && terms.ends_ms.is_none();
        Ok(match midway {
            TierChange::Prorate if shares => PlanChange::Prorate,
            TierChange::Prorate | TierChange::KeepUsed => PlanChange::KeepUsed,
        })
    }

    /// Puts other terms in place; equal ones change nothing. Answers the periods that are frozen by it.
    pub(super) fn change_plan(
        &mut self,
        terms: &Terms,
        change: PlanChange,
        moved: &[Moved],
        moment: Moment,
    ) -> Result<Vec<ClosedPeriod>, AccountError> {
        if *self.period.terms == *terms {
            return Ok(Vec::new());
        }
        terms.check().map_err(AccountError::Terms)?;
        if change != PlanChange::Reset && self.period.currency() != terms.price_per_1k.currency() {
            // Written by a version that took another currency for an ordinary change. The period's terms hold on.
            return Ok(Vec::new());
        }
        let terms = Arc::new(terms.clone());
        // An event from a little ahead may have turned a page already: what is turned stays turned (F-46, F-49).
        let turned_ms = self.period.span.start_ms.max(self.day.start_ms);
        let moment = Moment { now_ms: moment.now_ms.max(turned_ms), ..moment };
        let closed = match change {
            PlanChange::KeepUsed => {
                self.go_on(&terms, moment, |_, at_ms, _| Some(terms.included_at(at_ms)))?;
                Vec::new()
            }
            PlanChange::Prorate => {
                self.go_on(&terms, moment, |period, at_ms, end_ms| prorated(period, &terms, at_ms, end_ms))?;
                Vec::new()
            }
            PlanChange::Reset => self.begin_anew(&terms, moved, moment)?,
        };
        self.move_days(&terms, moment.now_ms)?;
        Ok(closed)
    }

    /// The running period goes on under other terms. `included` answers its credits from the period so far, the instant of
    /// the change and the new end.
    fn go_on(
        &mut self,
        terms: &Arc<Terms>,
        moment: Moment,
        included: impl Fn(&Period, i64, i64) -> Option<Credits>,
    ) -> Result<(), AccountError> {
        let end_ms = self.end_under(terms, moment.now_ms)?;
        // A change that is said to lie before the last one, or before the period, takes effect with it.
        let at_ms = moment.event_ms.max(self.period.since_ms);
        let included = included(&self.period, at_ms, end_ms).filter(|included| *included <= CREDITS_MOST);
        self.period.included = included.ok_or(AccountError::Overflow)?;
        self.period.since_ms = at_ms;
        self.period.span.end_ms = end_ms;
        self.period.terms = Arc::clone(terms);
        Ok(())
    }

    /// Where the running period ends by other terms: always after this instant.
    fn end_under(&self, terms: &Arc<Terms>, now_ms: i64) -> Result<i64, AccountError> {
        if (self.period.terms.period, terms.period) != (PeriodRule::Calendar, PeriodRule::Calendar) {
            return Ok(Period::around(terms, now_ms)?.span.end_ms);
        }
        // The same month's end in the other zone: a day away at most, and no other boundary is nearer. Where it has passed
        // already, what was used since then is counted in this month, which ends when it would have.
        let end_ms = self.period.span.end_ms;
        let around = Period::around(terms, end_ms)?.span;
        let (after, until) = (end_ms.saturating_sub(around.start_ms), around.end_ms.saturating_sub(end_ms));
        let same_ms = if after <= until { around.start_ms } else { around.end_ms };
        Ok(if same_ms > now_ms { same_ms } else { end_ms })
    }

    /// The running period ends when the entry says that it happened, and one of the new terms begins. What was counted so far
    /// belongs to the old one, but for what the entry moves.
    fn begin_anew(
        &mut self,
        terms: &Arc<Terms>,
        moved: &[Moved],
        moment: Moment,
    ) -> Result<Vec<ClosedPeriod>, AccountError> {
        let mut next = Period::around(terms, moment.now_ms)?;
        let old = self.period.span;
        let mut start_ms = moment.event_ms.max(next.span.start_ms);
        if start_ms <= old.start_ms && self.is_untouched() {
            // It has just begun, so it begins with the new terms, and the one before keeps its place and its grace.
            next.span.start_ms = old.start_ms;
            next.since_ms = old.start_ms;
            self.period = next;
            return Ok(Vec::new());
        }
        start_ms = start_ms.max(old.start_ms.saturating_add(1)); // every period has a first millisecond
        next.span.start_ms = start_ms;
        next.since_ms = start_ms;
        self.period.span.end_ms = start_ms;
        moved.iter().try_for_each(|moved| self.shift(moved, true, start_ms))?;
        let mut closed = self.succeed(next);
        moved.iter().try_for_each(|moved| self.shift(moved, false, start_ms))?;
        closed.extend(self.end_grace(moment.received_ms));
        Ok(closed)
    }

    fn is_untouched(&self) -> bool {
        let period = &self.period;
        period.used_pico == 0 && period.segments.is_empty() && self.sums(|kind| kind.period).is_empty()
    }

    /// Days of another zone begin at other instants.
    fn move_days(&mut self, terms: &Terms, now_ms: i64) -> Result<(), AccountError> {
        self.day = Span::day(&terms.zone, now_ms)?;
        self.yesterday = Span::day_ending_with(&terms.zone, self.day.start_ms)?;
        Ok(())
    }
}

/// The credits of a period in which the terms change: what the old ones would still have given goes, what the new ones
/// give from here on comes.
///
/// Terms of `I` credits have given `floor(I × elapsed / length)` of them so far. So the parts of any number of changes sum
/// to `floor(I1 × t1 / T) + floor(I2 × t2 / T)` and what the floors left out is given by the later terms: changing to equal
/// credits changes nothing.
fn prorated(period: &Period, terms: &Terms, at_ms: i64, end_ms: i64) -> Option<Credits> {
    let start_ms = period.span.start_ms;
    let elapsed = at_ms.checked_sub(start_ms)?;
    let given = |included: Credits, end_ms: i64| {
        let length = i128::from(end_ms.checked_sub(start_ms)?);
        i128::from(included.micro()).checked_mul(i128::from(elapsed))?.checked_div(length)
    };
    let goes =
        i128::from(period.terms.included.micro()).checked_sub(given(period.terms.included, period.span.end_ms)?)?;
    let comes = i128::from(terms.included.micro()).checked_sub(given(terms.included, end_ms)?)?;
    let included = i128::from(period.included.micro()).checked_sub(goes)?.checked_add(comes)?;
    i64::try_from(included).ok().map(Credits::from_micro)
}
