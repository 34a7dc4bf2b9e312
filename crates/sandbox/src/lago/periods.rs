//! Billing periods in the customer's time zone, by the calendar or from the day a subscription began.

use super::instant::Micros;
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};

/// From (inclusive) and until (exclusive).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Period {
    pub(super) from: Micros,
    pub(super) until: Micros,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interval {
    Weekly,
    Monthly,
    Quarterly,
    Semiannual,
    Yearly,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BillingTime {
    Calendar,
    Anniversary,
}

/// A Monday and the first of a year, so that the calendar's periods are those that are counted from here.
const CALENDAR: Date = date(2001, 1, 1);

impl Interval {
    pub(super) const ALL: [(&'static str, Interval); 5] = [
        ("weekly", Interval::Weekly),
        ("monthly", Interval::Monthly),
        ("quarterly", Interval::Quarterly),
        ("semiannual", Interval::Semiannual),
        ("yearly", Interval::Yearly),
    ];

    pub(super) fn parse(name: &str) -> Option<Interval> {
        Interval::ALL.iter().find(|(own, _)| *own == name).map(|(_, interval)| *interval)
    }

    pub(super) fn per_year(self) -> i128 {
        match self {
            Interval::Weekly => 52,
            Interval::Monthly => 12,
            Interval::Quarterly => 4,
            Interval::Semiannual => 2,
            Interval::Yearly => 1,
        }
    }

    fn times(self, count: i64) -> Span {
        match self {
            Interval::Weekly => count.weeks(),
            Interval::Monthly => count.months(),
            Interval::Quarterly => (3 * count).months(),
            Interval::Semiannual => (6 * count).months(),
            Interval::Yearly => count.years(),
        }
    }

    /// More days than any one interval has, so that the first guess is never too late.
    fn days_max(self) -> i64 {
        match self {
            Interval::Weekly => 7,
            Interval::Monthly => 31,
            Interval::Quarterly => 92,
            Interval::Semiannual => 184,
            Interval::Yearly => 366,
        }
    }
}

impl BillingTime {
    pub(super) fn parse(name: &str) -> Option<BillingTime> {
        match name {
            "calendar" => Some(BillingTime::Calendar),
            "anniversary" => Some(BillingTime::Anniversary),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            BillingTime::Calendar => "calendar",
            BillingTime::Anniversary => "anniversary",
        }
    }
}

/// The period that `at` lies in. Each is counted from the anchor, so the 31st clamps in a short month and comes back.
///
/// Errors: a day beyond the calendar (the years -9999 to 9999).
pub(super) fn period(
    interval: Interval,
    by: BillingTime,
    subscription_at: Micros,
    zone: &TimeZone,
    at: Micros,
) -> Result<Period, jiff::Error> {
    let day = |micros: Micros| Timestamp::from_microsecond(micros).map(|at| at.to_zoned(zone.clone()).date());
    let anchor = match by {
        BillingTime::Calendar => CALENDAR,
        BillingTime::Anniversary => day(subscription_at)?,
    };
    let today = day(at)?;
    let mut steps = i64::from(anchor.until(today)?.get_days()).div_euclid(interval.days_max());
    if steps < 0 {
        // Before the anchor the shortest interval bounds the guess, not the longest.
        steps = 2 * steps - 1;
    }
    while anchor.checked_add(interval.times(steps + 1))? <= today {
        steps += 1;
    }
    let midnight = |steps: i64| -> Result<Micros, jiff::Error> {
        let first = anchor.checked_add(interval.times(steps))?;
        Ok(first.to_zoned(zone.clone())?.timestamp().as_microsecond())
    };
    Ok(Period { from: midnight(steps)?, until: midnight(steps + 1)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lago::instant::{of_text, seconds};

    #[test]
    fn periods() {
        use BillingTime::{Anniversary, Calendar};
        for (interval, by, anchor, zone, at, from, until) in [
            ("monthly", Calendar, "2026-11-22", "UTC", "2026-11-22", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
            ("weekly", Calendar, "2026-11-22", "UTC", "2026-11-22", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"),
            ("quarterly", Calendar, "2026-11-22", "UTC", "2026-11-22", "2026-10-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("semiannual", Calendar, "2026-11-22", "UTC", "2026-06-30", "2026-01-01T00:00:00Z", "2026-07-01T00:00:00Z"),
            ("yearly", Calendar, "2026-11-22", "UTC", "1999-06-30", "1999-01-01T00:00:00Z", "2000-01-01T00:00:00Z"),
            ("monthly", Anniversary, "2026-01-31", "UTC", "2026-02-28", "2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z"),
            ("monthly", Anniversary, "2026-01-31", "UTC", "2026-03-30", "2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z"),
            ("yearly", Anniversary, "2024-02-29", "UTC", "2026-01-01", "2025-02-28T00:00:00Z", "2026-02-28T00:00:00Z"),
            (
                "monthly",
                Calendar,
                "2026-11-22",
                "America/New_York",
                "2026-12-01T04:00:00Z",
                "2026-11-01T04:00:00Z",
                "2026-12-01T05:00:00Z",
            ),
        ] {
            let [anchor, at] = [anchor, at].map(|text| of_text(text).unwrap());
            let zone = TimeZone::get(zone).unwrap();
            let found = period(Interval::parse(interval).unwrap(), by, anchor, &zone, at).unwrap();
            assert_eq!([found.from, found.until].map(seconds), [from, until], "{interval} {by:?} {}", seconds(at));
        }
    }
}
