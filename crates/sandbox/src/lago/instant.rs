//! Instants as microseconds since 1970, read and written the way Lago does. Milliseconds sent as seconds lie in the year
//! 54,000 or so, which Lago accepts, so the calendar here goes past the year 9999.

use super::decimal::{Decimal, Rounding, Unreadable};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::Value;

/// Microseconds since 1970.
pub(super) type Micros = i64;

pub(super) const SECOND: Micros = 1_000_000;
pub(super) const MILLISECOND: Micros = 1_000;

/// An event's `timestamp`: seconds as a number or as text, the fraction kept to the microsecond. `None`: `invalid_format`.
///
/// What lies beyond what 64 bits of microseconds hold (the year 294,000) is refused too; PostgreSQL ends there as well.
pub(super) fn of_event(value: &Value) -> Option<Micros> {
    let seconds = match value {
        Value::String(text) => Decimal::plain(text),
        Value::Number(number) => Decimal::number(&number.to_string()),
        _ => Err(Unreadable::Malformed),
    };
    let micros = seconds.ok()?.rounded(6, Rounding::Down).ok()?.cents(6).ok()?;
    (micros.unsigned_abs() < 9_000_000_000_000_000_000).then_some(micros)
}

/// A date or an instant in ISO 8601, as filters and subscriptions give it. A date is its midnight in UTC.
pub(super) fn of_text(text: &str) -> Option<Micros> {
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Some(instant.as_microsecond());
    }
    if let Ok(moment) = text.parse::<jiff::civil::DateTime>() {
        return Some(moment.in_tz("UTC").ok()?.timestamp().as_microsecond());
    }
    let date: Date = text.parse().ok()?;
    Some(date.in_tz("UTC").ok()?.timestamp().as_microsecond())
}

/// `2026-11-22T10:00:00Z`, as most members are.
pub(super) fn seconds(at: Micros) -> String {
    let (date, second) = parts(at);
    format!("{date}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// `2026-11-22T10:00:00.123Z`, as an event's `timestamp` is.
pub(super) fn milliseconds(at: Micros) -> String {
    let whole = seconds(at);
    format!("{}.{:03}Z", &whole[..whole.len() - 1], at.rem_euclid(SECOND) / MILLISECOND)
}

/// The day that it is in a time zone; in UTC beyond the year 9999.
pub(super) fn date_in(zone: &TimeZone, at: Micros) -> String {
    let there = Timestamp::from_microsecond(at).map(|at| at.to_zoned(zone.clone()).date().to_string());
    there.unwrap_or_else(|_| parts(at).0)
}

/// The date in UTC and the second of that day.
fn parts(at: Micros) -> (String, i64) {
    let second = at.div_euclid(SECOND);
    let (year, month, day) = civil(second.div_euclid(86_400));
    (format!("{year:04}-{month:02}-{day:02}"), second.rem_euclid(86_400))
}

/// Year, month and day of a day since 1970 in the proleptic Gregorian calendar, counted in eras of 400 years from 1 March.
fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn timestamps_of_events() {
        for (sent, wanted) in [
            (json!(1_795_341_600), Some("2026-11-22T10:00:00.000Z")),
            (json!("1795341600.123"), Some("2026-11-22T10:00:00.123Z")),
            (json!("1780586634.1"), Some("2026-06-04T15:23:54.100Z")),
            (json!(1_780_586_634.5), Some("2026-06-04T15:23:54.500Z")),
            (json!(-1), Some("1969-12-31T23:59:59.000Z")),
            (json!(1_795_341_600_000_i64), Some("58862-02-09T16:00:00.000Z")),
            (json!("2026-11-22T10:00:00Z"), None),
            (json!("2026-11-22 10:00:00 UTC"), None),
            (json!("tomorrow"), None),
            (json!(""), None),
            (json!(true), None),
            (json!(1_795_341_600_000_000_000_i64), None),
        ] {
            assert_eq!(of_event(&sent).map(milliseconds).as_deref(), wanted, "{sent}");
        }
    }

    #[test]
    fn dates_as_jiff_knows_them() {
        for second in [-62_135_596_800, -1, 0, 951_782_400, 1_709_164_800, 4_102_444_799, 253_402_207_200_i64] {
            let wanted = Timestamp::from_second(second).map(|at| at.to_string());
            assert_eq!(wanted.ok(), Some(seconds(second * SECOND)), "{second}");
        }
    }

    #[test]
    fn instants_and_dates_in_text() {
        for (text, wanted) in [
            ("2026-11-22", Some("2026-11-22T00:00:00Z")),
            ("2026-11-22T10:00:00Z", Some("2026-11-22T10:00:00Z")),
            ("2026-11-22T10:00:00.5+01:00", Some("2026-11-22T09:00:00Z")),
            ("2026-11-22T10:00:00", Some("2026-11-22T10:00:00Z")),
            ("2026-13-22", None),
            ("soon", None),
        ] {
            assert_eq!(of_text(text).map(seconds).as_deref(), wanted, "{text}");
        }
    }
}
