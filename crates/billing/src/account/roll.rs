//! Time passes: days and periods end, totals are frozen, warnings are due.
//!
//! Nothing runs at midnight. An account turns its pages when the next entry comes, and until then whoever looks at it is
//! shown what it will say ([`Account::at`]).

use std::sync::Arc;

use super::period::{Period, Span, half_up, pico};
use super::{Account, AccountError, ClosedPeriod, Moment, Sums};
use crate::usage::Quantity;

/// The shares of a period's credits at which a warning is due, in percent.
const WARNINGS: [u8; 3] = [50, 80, 100];

impl Account {
    /// Does an entry of this moment turn a page?
    pub(super) fn turns_at(&self, moment: Moment) -> bool {
        moment.now_ms >= self.period.span.end_ms
            || moment.now_ms >= self.day.end_ms
            || (self.before_open && moment.received_ms >= self.grace_ends_ms())
    }

    /// Turns to the day and the period of this moment; answers the periods that are frozen by it.
    pub(super) fn roll(&mut self, moment: Moment) -> Result<Vec<ClosedPeriod>, AccountError> {
        let mut closed = Vec::new();
        if moment.now_ms >= self.day.end_ms {
            self.roll_day(moment.now_ms)?;
        }
        if moment.now_ms >= self.period.span.end_ms {
            closed = self.roll_period(moment.now_ms)?;
        }
        closed.extend(self.end_grace(moment.received_ms));
        Ok(closed)
    }

    fn roll_day(&mut self, now_ms: i64) -> Result<(), AccountError> {
        let zone = &self.period.terms.zone;
        let day = Span::day(zone, now_ms)?;
        let day = Span { start_ms: day.start_ms.max(self.day.end_ms), end_ms: day.end_ms };
        let follows = day.start_ms == self.day.end_ms;
        self.yesterday = if follows { self.day } else { Span::day_ending_with(zone, day.start_ms)? };
        self.day = day;
        for kind in &mut self.kinds {
            kind.yesterday = if follows { kind.day } else { Quantity::ZERO };
            kind.day = Quantity::ZERO;
        }
        Ok(())
    }

    fn roll_period(&mut self, now_ms: i64) -> Result<Vec<ClosedPeriod>, AccountError> {
        let mut next = Period::around(&self.period.terms, now_ms)?;
        next.span.start_ms = next.span.start_ms.max(self.period.span.end_ms);
        next.since_ms = next.span.start_ms;
        if next.span.start_ms == self.period.span.end_ms {
            return Ok(self.succeed(next));
        }
        // Nobody came for a whole period: the running one is beyond its grace too.
        let mut between = Period::ending_with(&self.period.terms, next.span.start_ms)?;
        between.span.start_ms = between.span.start_ms.max(self.period.span.end_ms);
        between.since_ms = between.span.start_ms;
        let mut closed = self.succeed(between);
        closed.append(&mut self.succeed(next));
        Ok(closed)
    }

    /// The next period begins where the running one ends. The one before that is frozen at the latest now.
    pub(super) fn succeed(&mut self, next: Period) -> Vec<ClosedPeriod> {
        let closed = self.freeze_before();
        self.before = std::mem::replace(&mut self.period, next);
        self.before_open = true;
        for kind in &mut self.kinds {
            kind.before = kind.period;
            kind.period = Quantity::ZERO;
        }
        self.packs.roll();
        closed.into_iter().collect()
    }

    pub(super) fn end_grace(&mut self, received_ms: i64) -> Option<ClosedPeriod> {
        if received_ms >= self.grace_ends_ms() { self.freeze_before() } else { None }
    }

    /// The totals of the period before, once, if anything was counted in it.
    fn freeze_before(&mut self) -> Option<ClosedPeriod> {
        if !std::mem::replace(&mut self.before_open, false) {
            return None;
        }
        let by_type = self.sums(|kind| kind.before);
        let period = &self.before;
        if by_type.is_empty() && period.used_pico == 0 && period.segments.is_empty() {
            return None;
        }
        Some(ClosedPeriod {
            window: period.span.window(),
            terms: Arc::clone(&period.terms),
            included: period.included,
            used: period.used(),
            overage: half_up(period.overage_pico()),
            overage_cost: period.overage_cost(),
            by_type,
        })
    }

    /// Sums that are not zero.
    pub(super) fn sums(&self, sum: impl Fn(&super::Kind) -> Quantity) -> Sums {
        let all = self.kinds.iter().map(|kind| (Arc::clone(&kind.name), sum(kind)));
        all.filter(|(_, quantity)| *quantity != Quantity::ZERO).collect()
    }

    /// Warnings that are due and were not given in this period.
    pub(super) fn warnings(&mut self, now_ms: i64) -> Vec<u8> {
        let mut due = Vec::new();
        while let Some(percent) = WARNINGS.get(usize::from(self.period.warned))
            && self.has_used(*percent, now_ms)
        {
            due.push(*percent);
            self.period.warned = self.period.warned.saturating_add(1);
        }
        due
    }

    /// Is so much of the period's credits used: of the included ones and of the packs, as far as they were of use in it?
    fn has_used(&self, percent: u8, now_ms: i64) -> bool {
        let packs = self.packs.left_at(now_ms).saturating_add(self.packs.used_in(false));
        let all = pico(self.period.included).saturating_add(packs);
        all > 0 && self.period.used_pico.saturating_mul(100) >= all.saturating_mul(i128::from(percent))
    }
}
