//! The terms of an account: what its tier gives and asks for, and when its periods begin.

use std::fmt;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::notation::{self, Line, Members, NotationError};
use crate::catalogue::{Overage, Tier};
use crate::currency::Currency;
use crate::money::Money;
use crate::time::{self, TimeError, Window};
use crate::usage::Credits;

/// The most credits that one number of an account may say: sums of four still fit into 64 bits of microcredits.
pub(crate) const CREDITS_MOST: Credits = Credits::from_micro(i64::MAX / 4);
/// The years in which a window and its neighbours can be computed in every zone: 1 to 9989.
const TIMES: std::ops::Range<i64> = -62_135_596_800_000..253_086_768_000_000;

/// What holds for an account until other terms do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The tier's id.
    pub tier: String,
    /// Credits of each period.
    pub included: Credits,
    /// What happens beyond them.
    pub overage: Overage,
    /// The most credits beyond them; none: no limit.
    pub overage_cap: Option<Credits>,
    /// Of 1,000 credits beyond them.
    pub price_per_1k: Money,
    /// When its periods begin.
    pub period: PeriodRule,
    /// For its days, and for calendar months.
    pub zone: TimeZone,
    /// The end of a trial, in milliseconds since 1970: from here on nothing is allowed.
    pub ends_ms: Option<i64>,
}

/// When an account's periods begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeriodRule {
    /// With the months of the zone.
    Calendar,
    /// A month each, from the anchor's day and time of day on ([`time::monthly_window`]).
    Anchored(Timestamp),
    /// This one as it is; after it, months anchored on its end, and before it, months anchored on its start.
    Fixed(Window),
}

/// Why terms mean nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TermsError {
    /// A number of credits or a price below zero, or more credits than an account can count.
    OutOfRange(&'static str),
    /// The zone has no name, so that nobody could read it back.
    NamelessZone,
    /// The window ends before it begins, or lies outside the years 1 to 9989.
    Window,
}

impl fmt::Display for TermsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TermsError::OutOfRange(member) => write!(f, "{member} is out of range"),
            TermsError::NamelessZone => f.write_str("the time zone has no name"),
            TermsError::Window => f.write_str("the period is no stretch of time within the years 1 to 9989"),
        }
    }
}

impl std::error::Error for TermsError {}

impl Terms {
    /// The terms of a tier, with no end.
    pub fn of(tier: &Tier, period: PeriodRule, zone: TimeZone) -> Terms {
        Terms {
            tier: tier.id.clone(),
            included: tier.included_credits,
            overage: tier.overage,
            overage_cap: tier.overage_cap,
            price_per_1k: tier.price_per_1k,
            period,
            zone,
            ends_ms: None,
        }
    }

    /// The terms of a tier that entitles for so many days of 24 hours: one period, and nothing after it. None where that is
    /// no time that an account can be kept by.
    pub fn trial(tier: &Tier, began: Timestamp, days: u16, zone: TimeZone) -> Option<Terms> {
        let end = began.checked_add(SignedDuration::from_hours(i64::from(days).saturating_mul(24))).ok()?;
        let period = PeriodRule::Fixed(Window { start: began, end });
        let terms = Terms { ends_ms: Some(first_ms(end)?), ..Terms::of(tier, period, zone) };
        terms.check().ok().map(|()| terms)
    }

    /// Are these terms that an account can be kept by?
    pub fn check(&self) -> Result<(), TermsError> {
        let counts = |credits: Credits| (Credits::ZERO..=CREDITS_MOST).contains(&credits);
        if !counts(self.included) {
            return Err(TermsError::OutOfRange("included"));
        }
        if !self.overage_cap.is_none_or(counts) {
            return Err(TermsError::OutOfRange("overage_cap"));
        }
        if self.price_per_1k.minor() < 0 {
            return Err(TermsError::OutOfRange("price_per_1k"));
        }
        if self.zone.iana_name().is_none() {
            return Err(TermsError::NamelessZone);
        }
        if self.period.is_sound() { Ok(()) } else { Err(TermsError::Window) }
    }

    /// What 1,000 credits beyond the included ones cost: nothing where they are blocked, because what is blocked and all
    /// the same happened is not billed.
    pub fn overage_price(&self) -> Money {
        match self.overage {
            Overage::Bill => self.price_per_1k,
            Overage::Block => Money::zero(self.price_per_1k.currency()),
        }
    }

    /// Is nothing allowed any more at this instant?
    pub fn is_over(&self, at_ms: i64) -> bool {
        self.ends_ms.is_some_and(|ends_ms| ends_ms <= at_ms)
    }

    /// The credits of a period at an instant. A trial gives its own once: none before it begins, none after its end.
    pub(crate) fn included_at(&self, at_ms: i64) -> Credits {
        if self.has_begun(at_ms) && !self.is_over(at_ms) { self.included } else { Credits::ZERO }
    }

    /// Whether these terms held at an instant already: a trial begins once, others are taken to have held always.
    pub(crate) fn has_begun(&self, at_ms: i64) -> bool {
        match self.period {
            PeriodRule::Fixed(window) if self.ends_ms.is_some() => first_ms(window.start) <= Some(at_ms),
            PeriodRule::Fixed(_) | PeriodRule::Calendar | PeriodRule::Anchored(_) => true,
        }
    }

    /// The period around an instant, by the rule alone.
    pub fn period_at(&self, at: Timestamp) -> Result<Window, TimeError> {
        match self.period {
            PeriodRule::Calendar => time::calendar_month(&self.zone, at),
            PeriodRule::Anchored(anchor) => time::monthly_window(anchor, at),
            PeriodRule::Fixed(window) if at < window.start => time::monthly_window(window.start, at),
            PeriodRule::Fixed(window) if at >= window.end => time::monthly_window(window.end, at),
            PeriodRule::Fixed(window) => Ok(window),
        }
    }

    /// One line of text, the same for equal terms: `1 tier=professional included=500 overage=bill …`.
    pub fn encode(&self) -> String {
        let mut line = Line::new();
        line.text("tier", &self.tier);
        line.plain("included", self.included);
        line.plain("overage", overage_word(self.overage));
        line.optional("overage_cap", self.overage_cap);
        line.plain("price_per_1k_minor", self.price_per_1k.minor());
        line.plain("currency", self.price_per_1k.currency());
        line.plain("period", self.period);
        line.text("zone", self.zone.iana_name().unwrap_or_default());
        line.optional("ends", self.ends_ms);
        line.finish()
    }

    /// Reads the line. What [`Terms::check`] refuses is an error here too.
    pub fn parse(text: &str) -> Result<Terms, NotationError> {
        let mut members = Members::read(text)?;
        let tier = members.text("tier")?;
        let included = members.credits("included")?;
        let overage = overage(members.required("overage")?)?;
        let overage_cap = members.optional_credits("overage_cap")?;
        let price_minor = members.number("price_per_1k_minor")?;
        let code = members.required("currency")?;
        let currency = Currency::parse(code).ok().filter(|currency| currency.code() == code);
        let currency = currency.ok_or_else(|| NotationError::malformed("currency", code))?;
        let period = PeriodRule::read(members.required("period")?)?;
        let name = members.text("zone")?;
        let zone = time::zone(&name).map_err(|cause| NotationError::Time { member: "zone", cause })?;
        if zone.iana_name() != Some(&name) {
            return Err(NotationError::malformed("zone", &name)); // the database finds names in any case
        }
        let ends_ms = members.optional_number("ends")?;
        members.finish()?;
        let price_per_1k = Money::new(price_minor, currency);
        let terms = Terms { tier, included, overage, overage_cap, price_per_1k, period, zone, ends_ms };
        terms.check().map_err(NotationError::Terms)?;
        Ok(terms)
    }
}

impl PeriodRule {
    fn is_sound(&self) -> bool {
        let fits = |at: Timestamp| TIMES.contains(&at.as_millisecond());
        match self {
            PeriodRule::Calendar => true,
            PeriodRule::Anchored(anchor) => fits(*anchor),
            // Shorter than a millisecond, no event could be in it.
            PeriodRule::Fixed(Window { start, end }) => fits(*start) && fits(*end) && first_ms(*start) < first_ms(*end),
        }
    }

    fn read(text: &str) -> Result<PeriodRule, NotationError> {
        let malformed = || NotationError::malformed("period", text);
        if text == "calendar" {
            return Ok(PeriodRule::Calendar);
        }
        if let Some(anchor) = text.strip_prefix("anchored:") {
            return notation::instant("period", anchor).map(PeriodRule::Anchored);
        }
        let window = text.strip_prefix("fixed:").ok_or_else(malformed)?;
        let (start, end) = window.split_once("..").ok_or_else(malformed)?;
        let (start, end) = (notation::instant("period", start)?, notation::instant("period", end)?);
        Ok(PeriodRule::Fixed(Window { start, end }))
    }
}

/// `calendar`, `anchored:2025-09-08T00:00:00Z`, `fixed:2026-11-01T00:00:00Z..2026-11-15T00:00:00Z`.
impl fmt::Display for PeriodRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeriodRule::Calendar => f.write_str("calendar"),
            PeriodRule::Anchored(anchor) => write!(f, "anchored:{anchor}"),
            PeriodRule::Fixed(window) => write!(f, "fixed:{}..{}", window.start, window.end),
        }
    }
}

/// The first whole millisecond at or after an instant: a window that begins and ends between two milliseconds holds the
/// same events as the one from this millisecond to the other's.
pub(crate) fn first_ms(at: Timestamp) -> Option<i64> {
    const NANOS: i128 = 1_000_000;
    let nanos = at.as_nanosecond();
    let odd = i128::from(nanos.checked_rem_euclid(NANOS)? > 0);
    i64::try_from(nanos.checked_div_euclid(NANOS)?.checked_add(odd)?).ok()
}

fn overage_word(overage: Overage) -> &'static str {
    match overage {
        Overage::Bill => "bill",
        Overage::Block => "block",
    }
}

fn overage(word: &str) -> Result<Overage, NotationError> {
    let found = [Overage::Bill, Overage::Block].into_iter().find(|overage| overage_word(*overage) == word);
    found.ok_or_else(|| NotationError::malformed("overage", word))
}
