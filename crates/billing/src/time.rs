//! Billing time: half-open windows that tile the line, in any zone and for any anchor, and the one text form of an instant.
//!
//! Zones come from the database bundled with the program, never from the machine, so that two nodes agree on every month.

use std::fmt;
use std::sync::LazyLock;

use jiff::civil::{Date, DateTime, Time};
use jiff::fmt::temporal::DateTimePrinter;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Span, Timestamp};

/// A half-open stretch of time: `start` belongs to it, `end` to the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// The first instant.
    pub start: Timestamp,
    /// The first instant after it.
    pub end: Timestamp,
}

impl Window {
    /// Does the instant belong to it?
    pub fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && at < self.end
    }
}

/// Why a time could not be read or computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimeError {
    /// Not RFC 3339, or no such date.
    Malformed(String),
    /// Beyond the years -9999 to 9999.
    OutOfRange,
    /// Not a name of the IANA database.
    UnknownZone(String),
}

impl fmt::Display for TimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TimeError::Malformed(text) => write!(f, "{text:?} is not a time by RFC 3339, like 2026-11-22T10:00:00Z"),
            TimeError::OutOfRange => f.write_str("the time is out of range"),
            TimeError::UnknownZone(name) => write!(f, "{name:?} is not a time zone of the IANA database"),
        }
    }
}

impl std::error::Error for TimeError {}

impl From<jiff::Error> for TimeError {
    // Every fallible call below gets well-formed input; what is left to fail is the range of the calendar.
    fn from(_: jiff::Error) -> TimeError {
        TimeError::OutOfRange
    }
}

/// The month around `at` that starts on the anchor's day and time of day in UTC, as Stripe bills. Where a month is too
/// short it starts on its last day, and the next one is counted from the anchor again: Jan 31, Feb 28, Mar 31 (F-48).
/// `at` may lie before the anchor.
pub fn monthly_window(anchor: Timestamp, at: Timestamp) -> Result<Window, TimeError> {
    let anchor = TimeZone::UTC.to_datetime(anchor);
    let now = TimeZone::UTC.to_datetime(at);
    // The anchor's image in the month of `at`: that window, or the one before it, contains `at`.
    let months = months_of(now)?.checked_sub(months_of(anchor)?).ok_or(TimeError::OutOfRange)?;
    let here = months_later(anchor, months)?;
    let first = if here <= at { months } else { months.checked_sub(1).ok_or(TimeError::OutOfRange)? };
    let next = first.checked_add(1).ok_or(TimeError::OutOfRange)?;
    Ok(Window { start: months_later(anchor, first)?, end: months_later(anchor, next)? })
}

fn months_of(time: DateTime) -> Result<i64, TimeError> {
    let years = i64::from(time.year()).checked_mul(12).ok_or(TimeError::OutOfRange)?;
    years.checked_add(i64::from(time.month())).ok_or(TimeError::OutOfRange)
}

fn months_later(anchor: DateTime, months: i64) -> Result<Timestamp, TimeError> {
    Ok(TimeZone::UTC.to_timestamp(anchor.checked_add(Span::new().try_months(months)?)?)?)
}

/// The calendar month around `at` in a zone.
pub fn calendar_month(zone: &TimeZone, at: Timestamp) -> Result<Window, TimeError> {
    let first = zone.to_datetime(at).date().first_of_month();
    around(zone, at, first, Span::new().try_months(1)?)
}

/// The local day around `at` in a zone: 23 or 25 hours where clocks are moved (F-47).
pub fn local_day(zone: &TimeZone, at: Timestamp) -> Result<Window, TimeError> {
    around(zone, at, zone.to_datetime(at).date(), Span::new().try_days(1)?)
}

/// The window around `at` among those that begin at the first instants of `date`, `date` ± `step`, and so on.
///
/// Not simply the window that `date` begins: where clocks fall back across midnight (St. John's until 2011, at 00:01)
/// an instant can carry yesterday's date after today has begun. It belongs to today, so that windows never overlap. (The
/// reverse cannot be: the first instant of a date is the first that carries it.)
fn around(zone: &TimeZone, at: Timestamp, date: Date, step: Span) -> Result<Window, TimeError> {
    let next = date.checked_add(step)?;
    let (start, end) = (first_instant(zone, date)?, first_instant(zone, next)?);
    if at < end {
        return Ok(Window { start, end });
    }
    Ok(Window { start: end, end: first_instant(zone, next.checked_add(step)?)? })
}

/// The first instant of a local date: midnight, the earlier of two midnights, or where midnight is skipped the instant
/// at which the clocks jump over it. A date that is skipped whole (Apia, 2011-12-30) is empty: it begins with the next.
fn first_instant(zone: &TimeZone, date: Date) -> Result<Timestamp, TimeError> {
    let midnight = zone.to_ambiguous_timestamp(date.to_datetime(Time::midnight()));
    match midnight.offset() {
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => Ok(midnight.compatible()?),
        AmbiguousOffset::Gap { .. } => {
            let past_the_jump = midnight.later()?.checked_add(SignedDuration::from_nanos(1))?;
            let jump = zone.preceding(past_the_jump).next();
            jump.map(|jump| jump.timestamp()).ok_or(TimeError::OutOfRange)
        }
    }
}

/// RFC 3339 in UTC with whole seconds and `Z`; a fraction is cut off, never rounded into the future.
pub fn wire(at: Timestamp) -> String {
    const SECONDS: DateTimePrinter = DateTimePrinter::new().precision(Some(0));
    SECONDS.timestamp_to_string(&at)
}

/// Reads RFC 3339, strictly: a full date and time with `Z` or an offset. The leap second 23:59:60 (UTC) is accepted and
/// kept as the last instant of 23:59:59 (S-39). Digits below the nanosecond are cut off. What is behind the last instant that there is,
/// on the last days of 9999, is that one.
pub fn parse(text: &str) -> Result<Timestamp, TimeError> {
    parts(text).ok_or_else(|| TimeError::Malformed(text.chars().take(64).collect()))
}

fn parts(text: &str) -> Option<Timestamp> {
    let (date, clock) = (text.get(..10)?, text.get(11..19)?);
    let shaped = matches!(text.get(10..11)?, "T" | "t") && shape(date, "0000-00-00") && shape(clock, "00:00:00");
    if !shaped {
        return None;
    }
    let date = Date::new(number(date.get(..4)?)?, number(date.get(5..7)?)?, number(date.get(8..)?)?).ok()?;
    let (hour, minute) = (number(clock.get(..2)?)?, number(clock.get(3..5)?)?);
    let (nanosecond, rest) = fraction(text.get(19..)?)?;
    let (second, nanosecond, leap) = match number::<i8>(clock.get(6..)?)? {
        60 => (59, 999_999_999, true),
        second => (second, nanosecond, false),
    };
    let local = date.to_datetime(Time::new(hour, minute, second, nanosecond).ok()?);
    // The last day of 9999 is a time all the same, and later than any.
    let at = TimeZone::UTC.to_timestamp(local).unwrap_or(Timestamp::MAX);
    let at = at.checked_sub(offset(rest)?).unwrap_or(Timestamp::MAX);
    let utc = TimeZone::UTC.to_datetime(at);
    if leap && (utc.hour(), utc.minute()) != (23, 59) { None } else { Some(at) }
}

/// A fraction of a second in nanoseconds, and what follows it.
fn fraction(text: &str) -> Option<(i32, &str)> {
    let Some(digits) = text.strip_prefix('.') else { return Some((0, text)) };
    let length = digits.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = digits.split_at_checked(length)?;
    let nine: String = digits.chars().chain(std::iter::repeat('0')).take(9).collect();
    if digits.is_empty() { None } else { Some((number(&nine)?, rest)) }
}

/// `Z` or `±hh:mm` as a distance from UTC.
fn offset(text: &str) -> Option<SignedDuration> {
    if matches!(text, "Z" | "z") {
        return Some(SignedDuration::ZERO);
    }
    let (sign, clock) = text.split_at_checked(1)?;
    let sign = match sign {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let (hours, minutes): (i64, i64) = (number(clock.get(..2)?)?, number(clock.get(3..)?)?);
    if !shape(clock, "00:00") || hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = hours.checked_mul(60)?.checked_add(minutes)?.checked_mul(60)?.checked_mul(sign)?;
    Some(SignedDuration::from_secs(seconds))
}

/// Has the text a digit wherever the pattern has a zero, and otherwise the same characters?
fn shape(text: &str, pattern: &str) -> bool {
    let fits = |(byte, wanted): (u8, u8)| if wanted == b'0' { byte.is_ascii_digit() } else { byte == wanted };
    text.len() == pattern.len() && text.bytes().zip(pattern.bytes()).all(fits)
}

fn number<N: std::str::FromStr>(digits: &str) -> Option<N> {
    digits.parse().ok()
}

/// A zone by its IANA name, of the bundled database only.
pub fn zone(name: &str) -> Result<TimeZone, TimeError> {
    static BUNDLED: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);
    BUNDLED.get(name).map_err(|_| TimeError::UnknownZone(name.chars().take(64).collect()))
}
