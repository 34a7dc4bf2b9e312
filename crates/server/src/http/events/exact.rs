//! Quantities and instants from the text of a request: exact, never through a float, and fast where the text is ordinary.

use billing::usage::{MICRO, Quantity};
use jiff::Timestamp;

use crate::error::Fault;

/// Whole units with up to so many digits need no wide arithmetic.
const DIGITS_MAX: usize = 12;

/// Reads a quantity from JSON text: a number or a string, at most six decimals, no exponent, not negative.
pub fn quantity(json: &str) -> Option<Quantity> {
    let text = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(json);
    if text.len() > DIGITS_MAX || text.is_empty() {
        return Quantity::parse(text).ok();
    }
    let mut units = 0_i64;
    for byte in text.bytes() {
        if !byte.is_ascii_digit() {
            return Quantity::parse(text).ok();
        }
        units = units * 10 + i64::from(byte - b'0');
    }
    Some(Quantity::from_micro(units * MICRO))
}

/// What is expected of a quantity.
pub fn no_quantity(pointer: &str) -> Fault {
    fault(pointer, "expected a number that is not negative, with at most 6 decimals and no exponent")
}

/// Reads RFC 3339 (S-39).
pub fn instant(text: &str) -> Option<Timestamp> {
    ordinary(text.as_bytes()).or_else(|| billing::time::parse(text).ok())
}

/// What is expected of an instant.
pub fn no_instant(pointer: &str) -> Fault {
    fault(pointer, "expected a time by RFC 3339, such as 2026-11-22T10:00:00Z")
}

/// `YYYY-MM-DDTHH:MM:SSZ` and the same with milliseconds: what clients write. Everything else, wrong or right, is left to
/// the whole reader.
fn ordinary(text: &[u8]) -> Option<Timestamp> {
    let (whole, millis) = match text {
        [whole @ .., b'.', a, b, c, b'Z'] => (whole, number(&[*a, *b, *c])?),
        [whole @ .., b'Z'] => (whole, 0),
        _ => return None,
    };
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2] = whole else {
        return None;
    };
    let (year, month, day) = (number(&[y1, y2, y3, y4])?, number(&[m1, m2])?, number(&[d1, d2])?);
    let (hour, minute, second) = (number(&[h1, h2])?, number(&[n1, n2])?, number(&[s1, s2])?);
    // Days 29 to 31 are not in every month, and some minutes have 61 seconds.
    if !(1970..=2999).contains(&year)
        || !(1..=12).contains(&month)
        || !(1..=28).contains(&day)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Timestamp::from_millisecond(seconds * 1_000 + millis).ok()
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, counted in years that begin in March.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 719_469
}

/// Reads seconds since 1970 with any fraction from JSON text, a number or its text; kept to the microsecond.
pub fn seconds(json: &str) -> Option<Timestamp> {
    let text = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(json);
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.len() <= 18 && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let micros = fraction.bytes().chain(std::iter::repeat(b'0')).take(6);
    let micros = micros.fold(0_i32, |sum, digit| sum * 10 + i32::from(digit - b'0'));
    Timestamp::new(whole.parse().ok()?, micros * 1_000).ok()
}

/// One thing that is wrong with a member.
pub fn fault(pointer: &str, detail: &str) -> Fault {
    Fault { pointer: pointer.to_owned(), detail: detail.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_exact_or_refused() {
        for (json, micro) in [
            ("3", Some(3_000_000)),
            ("0", Some(0)),
            ("\"0.5\"", Some(500_000)),
            ("0.000001", Some(1)),
            ("\"3.000000\"", Some(3_000_000)),
            ("999999999999", Some(999_999_999_999_000_000)),
            ("9223372036854.775807", Some(i64::MAX)),
            ("9223372036854.775808", None),
            ("99999999999999999999", None),
            ("0.0000001", None),
            ("1e3", None),
            ("1E0", None),
            ("-1", None),
            ("-0", None),
            ("\"-0.5\"", None),
            ("\"\"", None),
            ("\"1,000\"", None),
            ("\" 3\"", None),
            ("\"+3\"", None),
            ("\"0x10\"", None),
            ("\"1_000\"", None),
            ("\"\u{ff13}\"", None),
            ("\"NaN\"", None),
            ("\"\\u0033\"", None),
            ("null", None),
            ("true", None),
            ("[]", None),
            ("{}", None),
        ] {
            assert_eq!(quantity(json).map(Quantity::micro), micro, "{json}");
        }
    }

    #[test]
    fn s39_the_short_way_reads_what_the_long_way_reads() {
        for text in [
            "2026-11-22T10:00:00Z",
            "2026-11-22T10:00:00.456Z",
            "2024-02-28T23:59:59.999Z",
            "1970-01-01T00:00:00Z",
            "2000-03-01T00:00:00Z",
            "2100-02-28T12:34:56Z",
            "2999-12-28T23:59:59Z",
        ] {
            assert_eq!(ordinary(text.as_bytes()), billing::time::parse(text).ok(), "{text}");
            assert!(instant(text).is_some());
        }
        for (text, read) in [
            ("2024-02-29T00:00:00Z", true),
            ("2026-12-31T23:59:60Z", true),
            ("2026-11-22T10:00:00+01:00", true),
            ("2026-11-22t10:00:00.1z", true),
            ("2026-02-30T00:00:00Z", false),
            ("2026-11-22T24:00:00Z", false),
            ("2026-11-22T10:60:00Z", false),
            ("2026-11-22T10:00:00", false),
            ("2026-11-22 10:00:00Z", false),
            ("2026-13-22T10:00:00Z", false),
            ("2026-00-22T10:00:00Z", false),
            ("2026-11-00T10:00:00Z", false),
            ("1763805600", false),
            ("", false),
        ] {
            assert_eq!(ordinary(text.as_bytes()), None, "{text}");
            assert_eq!(instant(text).is_some(), read, "{text}");
        }
        for day in 0..400 * 366 {
            let at = Timestamp::from_second(day * 86_400).expect("instant");
            let text = billing::time::wire(at);
            assert!(ordinary(text.as_bytes()).is_none_or(|read| read == at), "{text}");
        }
    }

    #[test]
    fn seconds_keep_their_fraction_to_the_microsecond() {
        for (json, read) in [
            ("1780586634", Some("2026-06-04T15:23:54Z")),
            ("1780586634.1", Some("2026-06-04T15:23:54.1Z")),
            ("\"1780586634.123456\"", Some("2026-06-04T15:23:54.123456Z")),
            ("1780586634.1234567", Some("2026-06-04T15:23:54.123456Z")),
            ("\"2026-06-04T15:23:54Z\"", None),
            ("-1", None),
            ("1e9", None),
            ("1.", None),
            ("null", None),
            ("99999999999999", None),
        ] {
            assert_eq!(seconds(json).map(|at| at.to_string()).as_deref(), read, "{json}");
        }
    }
}
