//! One credit period: what it includes, what was used, and the overage by the price under which it accrued.
//!
//! Amounts are in picocredits, millionths of a microcredit: the product of a quantity and a weight, exactly.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::AccountError;
use crate::entry::{Terms, first_ms};
use crate::money::Money;
use crate::time::{self, Window};
use crate::usage::{Credits, PICO_IN_MICRO};

/// Picocredits of the thousand credits that have a price.
const PRICED: i128 = 1_000_000_000_000_000;
/// The most that one amount of an account may be, in picocredits; sums of four still fit into the credits that are shown.
pub(super) const MOST: i128 = 2_305_843_009_213_693_951 * PICO_IN_MICRO;
/// The most that overage may cost, in minor units times [`PRICED`]: rounded up to any currency's step it still is money.
const OWED_MOST: i128 = (9_223_372_036_854_775_807 - 1_000) * PRICED;

/// A half-open stretch of whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
}

/// Overage that accrued under one tier and price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The tier's id.
    pub tier: String,
    /// Of 1,000 credits.
    pub price_per_1k: Money,
    /// How much, in picocredits; above zero.
    pub overage_pico: i128,
}

/// One credit period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Period {
    pub(super) terms: Arc<Terms>,
    pub(super) span: Span,
    /// The last change of terms in it, or its start.
    pub(super) since_ms: i64,
    pub(super) included: Credits,
    /// May be below zero after corrections.
    pub(super) used_pico: i128,
    /// The oldest first; none is empty.
    pub(super) segments: Vec<Segment>,
    /// How many of the warnings were given.
    pub(super) warned: u8,
}

/// What a cost does to a period and to the packs; each below zero where it gives back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Charge {
    pub(super) cost: i128,
    pub(super) packs: i128,
    pub(super) overage: i128,
}

impl Span {
    pub(super) fn of(window: Window) -> Result<Span, AccountError> {
        let ms = |at: Timestamp| first_ms(at).ok_or(AccountError::Overflow);
        Ok(Span { start_ms: ms(window.start)?, end_ms: ms(window.end)? })
    }

    pub(super) fn day(zone: &TimeZone, at_ms: i64) -> Result<Span, AccountError> {
        Span::of(time::local_day(zone, instant(at_ms)?)?)
    }

    pub(super) fn day_ending_with(zone: &TimeZone, end_ms: i64) -> Result<Span, AccountError> {
        let found = Span::day(zone, end_ms.saturating_sub(1))?;
        Ok(Span { start_ms: found.start_ms, end_ms })
    }

    pub(super) fn window(self) -> Window {
        // A span is made of a window, so both ends are instants of the calendar.
        let at = |ms: i64| Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
        Window { start: at(self.start_ms), end: at(self.end_ms) }
    }
}

impl Period {
    /// A period of the terms around an instant, with nothing used.
    pub(super) fn around(terms: &Arc<Terms>, at_ms: i64) -> Result<Period, AccountError> {
        let span = Span::of(terms.period_at(instant(at_ms)?)?)?;
        Ok(Period::new(Arc::clone(terms), span))
    }

    /// The period before an instant at which one begins, with nothing used.
    pub(super) fn ending_with(terms: &Arc<Terms>, end_ms: i64) -> Result<Period, AccountError> {
        let mut found = Period::around(terms, end_ms.saturating_sub(1))?;
        found.span.end_ms = end_ms;
        Ok(found)
    }

    pub(super) fn new(terms: Arc<Terms>, span: Span) -> Period {
        let included = terms.included_at(span.start_ms);
        Period { terms, span, since_ms: span.start_ms, included, used_pico: 0, segments: Vec::new(), warned: 0 }
    }

    /// What a cost does, if all of it fits: first the included credits pay, then the packs, then it is overage. What is
    /// given back goes the other way.
    pub(super) fn charge(&self, cost: i128, in_packs: i128, from_packs: i128) -> Result<Charge, AccountError> {
        let used = self.used_pico.checked_add(cost).ok_or(AccountError::Overflow)?;
        if !(MOST.saturating_neg()..=MOST).contains(&used) {
            return Err(AccountError::Overflow);
        }
        // Nothing below can leave 128 bits: each amount is within MOST.
        if cost < 0 {
            let back = cost.saturating_neg();
            let overage = back.min(self.overage_pico());
            let packs = back.saturating_sub(overage).min(from_packs);
            return Ok(Charge { cost, packs: packs.saturating_neg(), overage: overage.saturating_neg() });
        }
        let beyond = cost.saturating_sub(self.left_pico().min(cost));
        let packs = beyond.min(in_packs);
        let overage = beyond.saturating_sub(packs);
        if overage > 0 {
            self.check_owed(overage)?;
        }
        Ok(Charge { cost, packs, overage })
    }

    /// Books a charge that was found to fit.
    pub(super) fn book(&mut self, charge: Charge) {
        self.used_pico = self.used_pico.saturating_add(charge.cost);
        if charge.overage > 0 {
            self.add_overage(charge.overage);
        } else {
            self.give_back(charge.overage.saturating_neg());
        }
    }

    fn add_overage(&mut self, overage: i128) {
        let price = self.terms.overage_price();
        match self.segments.last_mut() {
            Some(last) if last.price_per_1k == price && last.tier == self.terms.tier => {
                last.overage_pico = last.overage_pico.saturating_add(overage);
            }
            Some(_) | None => self.segments.push(Segment {
                tier: self.terms.tier.clone(),
                price_per_1k: price,
                overage_pico: overage,
            }),
        }
    }

    fn give_back(&mut self, overage: i128) {
        let mut left = overage;
        while left > 0
            && let Some(last) = self.segments.last_mut()
        {
            let part = left.min(last.overage_pico);
            last.overage_pico = last.overage_pico.saturating_sub(part);
            left = left.saturating_sub(part);
            if last.overage_pico == 0 {
                self.segments.pop();
            }
        }
    }

    fn check_owed(&self, more: i128) -> Result<(), AccountError> {
        let price = i128::from(self.terms.overage_price().minor());
        let more = more.checked_mul(price).ok_or(AccountError::Overflow)?;
        let owed = self.owed().and_then(|owed| owed.checked_add(more)).ok_or(AccountError::Overflow)?;
        if owed <= OWED_MOST { Ok(()) } else { Err(AccountError::Overflow) }
    }

    /// What the overage costs, in minor units times [`PRICED`].
    fn owed(&self) -> Option<i128> {
        self.segments.iter().try_fold(0_i128, |owed, segment| {
            owed.checked_add(segment.overage_pico.checked_mul(i128::from(segment.price_per_1k.minor()))?)
        })
    }

    /// The overage of all segments.
    pub(super) fn overage_pico(&self) -> i128 {
        self.segments.iter().fold(0, |sum, segment| sum.saturating_add(segment.overage_pico))
    }

    /// What is left of the included credits; more than them where more was given back than used.
    pub(super) fn left_pico(&self) -> i128 {
        pico(self.included).saturating_sub(self.used_pico).max(0)
    }

    /// Credits used, as they are shown: half up, and not below zero.
    pub(super) fn used(&self) -> Credits {
        half_up(self.used_pico.max(0))
    }

    /// What the overage costs, rounded half up once to what the currency can pay.
    pub(super) fn overage_cost(&self) -> Money {
        let currency = self.currency();
        let step = i128::from(currency.step());
        // Within OWED_MOST, which `charge` has made sure of, none of this can fail.
        let halves = self.owed().unwrap_or(OWED_MOST).saturating_mul(2).saturating_add(PRICED.saturating_mul(step));
        let steps = halves.div_euclid(PRICED.saturating_mul(2).saturating_mul(step));
        Money::new(i64::try_from(steps.saturating_mul(step)).unwrap_or(i64::MAX), currency)
    }

    /// The currency of its overage, or else of its terms.
    pub(super) fn currency(&self) -> crate::currency::Currency {
        self.segments.last().map_or(self.terms.price_per_1k, |segment| segment.price_per_1k).currency()
    }
}

pub(super) fn instant(at_ms: i64) -> Result<Timestamp, AccountError> {
    Timestamp::from_millisecond(at_ms).map_err(|_| AccountError::Time(time::TimeError::OutOfRange))
}

/// Credits in picocredits.
pub(super) fn pico(credits: Credits) -> i128 {
    i128::from(credits.micro()).saturating_mul(PICO_IN_MICRO) // 64 bits times 20 always fit
}

/// Picocredits as credits, half up. Amounts of an account are within [`MOST`], so that four of them fit.
pub(super) fn half_up(amount: i128) -> Credits {
    Credits::of_pico(amount).unwrap_or(Credits::from_micro(i64::MAX))
}

/// Picocredits as credits, half down: what is left then adds up with what is used and rounded half up.
pub(super) fn half_down(amount: i128) -> Credits {
    whole(amount.saturating_add(PICO_IN_MICRO / 2).saturating_sub(1).div_euclid(PICO_IN_MICRO))
}

/// Picocredits as credits, never too many.
pub(super) fn down(amount: i128) -> Credits {
    whole(amount.div_euclid(PICO_IN_MICRO))
}

fn whole(micro: i128) -> Credits {
    Credits::from_micro(i64::try_from(micro).unwrap_or(if micro < 0 { i64::MIN } else { i64::MAX }))
}
