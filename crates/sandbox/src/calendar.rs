//! Billing periods: steps of an interval from an anchor, in UTC. The 31st clamps to the end of a short month and comes
//! back in the next long one, because every step is counted from the anchor and not from the step before.

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};

/// A month, a year, two weeks: what a price recurs by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Recurrence<'a> {
    pub(crate) interval: &'a str,
    pub(crate) count: i64,
}

/// From (inclusive) and until (exclusive), seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Period {
    pub(crate) start: i64,
    pub(crate) end: i64,
}

pub(crate) const DAY: i64 = 24 * 60 * 60;

/// The instant `steps` intervals after the anchor; before it, when negative.
pub(crate) fn step(anchor: i64, recurrence: Recurrence<'_>, steps: i64) -> i64 {
    let count = recurrence.count * steps;
    let span: Span = match recurrence.interval {
        "year" => count.years(),
        "week" => count.weeks(),
        "day" => count.days(),
        _ => count.months(),
    };
    let moved = Timestamp::from_second(anchor)
        .map(|at| at.to_zoned(TimeZone::UTC))
        .and_then(|at| at.checked_add(span))
        .map(|at| at.timestamp().as_second());
    moved.unwrap_or(anchor)
}

/// The period that an instant lies in.
pub(crate) fn period(anchor: i64, recurrence: Recurrence<'_>, at: i64) -> Period {
    let length = match recurrence.interval {
        "year" => 366,
        "week" => 7,
        "day" => 1,
        _ => 31,
    } * DAY
        * recurrence.count.max(1);
    let mut steps = (at - anchor).div_euclid(length);
    while step(anchor, recurrence, steps + 1) <= at {
        steps += 1;
    }
    Period { start: step(anchor, recurrence, steps), end: step(anchor, recurrence, steps + 1) }
}

/// The calendar year of an instant.
pub(crate) fn year(at: i64) -> i16 {
    Timestamp::from_second(at).map_or(1970, |at| at.to_zoned(TimeZone::UTC).year())
}

/// The value of a `Date` header.
pub(crate) fn http_date(at: i64) -> String {
    let at = Timestamp::from_second(at).unwrap_or_default().to_zoned(TimeZone::UTC);
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONTH: Recurrence<'_> = Recurrence { interval: "month", count: 1 };

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    #[test]
    fn the_31st_clamps_and_comes_back() {
        let anchor = at("2026-01-31T10:00:00Z");
        for (now, start, end) in [
            ("2026-02-10T00:00:00Z", "2026-01-31T10:00:00Z", "2026-02-28T10:00:00Z"),
            ("2026-02-28T10:00:00Z", "2026-02-28T10:00:00Z", "2026-03-31T10:00:00Z"),
            ("2026-01-31T10:00:00Z", "2026-01-31T10:00:00Z", "2026-02-28T10:00:00Z"),
            ("2027-04-30T10:00:00Z", "2027-04-30T10:00:00Z", "2027-05-31T10:00:00Z"),
        ] {
            assert_eq!(period(anchor, MONTH, at(now)), Period { start: at(start), end: at(end) }, "{now}");
        }
    }

    #[test]
    fn years_weeks_and_counts() {
        let anchor = at("2024-02-29T00:00:00Z");
        let show = |interval, count, now| {
            let found = period(anchor, Recurrence { interval, count }, at(now));
            [found.start, found.end].map(|second| Timestamp::from_second(second).unwrap().to_string())
        };
        assert_eq!(show("year", 1, "2025-06-01T00:00:00Z"), ["2025-02-28T00:00:00Z", "2026-02-28T00:00:00Z"]);
        assert_eq!(show("month", 3, "2024-06-01T00:00:00Z"), ["2024-05-29T00:00:00Z", "2024-08-29T00:00:00Z"]);
        assert_eq!(show("week", 2, "2024-03-15T00:00:00Z"), ["2024-03-14T00:00:00Z", "2024-03-28T00:00:00Z"]);
    }

    #[test]
    fn dates_as_http_writes_them() {
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
