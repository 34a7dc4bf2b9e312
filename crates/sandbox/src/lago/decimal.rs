//! Exact decimal numbers of up to 38 digits, as Lago computes with them: units, prices, credits. No floats.

use serde_json::Value;
use std::cmp::Ordering;

/// `digits` divided by ten to the power of `places`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Decimal {
    digits: i128,
    places: u32,
}

/// Why a text is no number of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is not a number.
    Malformed,
    /// It has more digits than the sandbox computes with.
    TooLong,
}

/// A result has more digits than the sandbox computes with. Lago has no such bound, so this is never an answer of 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

pub(super) type Result<T = Decimal> = std::result::Result<T, TooLong>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounding {
    HalfUp,
    Down,
    Up,
}

impl Decimal {
    pub(super) const ZERO: Decimal = Decimal { digits: 0, places: 0 };

    pub(super) fn whole(digits: i128) -> Decimal {
        Decimal { digits, places: 0 }
    }

    /// What Lago's PostgreSQL store takes for a number: `-?\d+(\.\d+)?` and nothing around it.
    pub(super) fn plain(text: &str) -> std::result::Result<Decimal, Unreadable> {
        let (minus, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = match rest.split_once('.') {
            Some((_, "")) => return Err(Unreadable::Malformed),
            Some(parts) => parts,
            None => (rest, ""),
        };
        let figures = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !figures(whole) || !figures(fraction) {
            return Err(Unreadable::Malformed);
        }
        let fraction = fraction.trim_end_matches('0');
        let mut digits = 0_i128;
        for byte in whole.bytes().chain(fraction.bytes()) {
            let grown = digits.checked_mul(10).and_then(|tens| tens.checked_add(i128::from(byte - b'0')));
            digits = grown.ok_or(Unreadable::TooLong)?;
        }
        let places = u32::try_from(fraction.len()).map_err(|_| Unreadable::TooLong)?;
        Ok(Decimal { digits: if minus { -digits } else { digits }, places })
    }

    /// A number as JSON writes it, which may have an exponent.
    pub(super) fn number(text: &str) -> std::result::Result<Decimal, Unreadable> {
        let Some((mantissa, exponent)) = text.split_once(['e', 'E']) else {
            return Decimal::plain(text);
        };
        let number = Decimal::plain(mantissa)?;
        let exponent: i32 = exponent.parse().map_err(|_| Unreadable::Malformed)?;
        let shift = exponent.unsigned_abs();
        if exponent < 0 {
            let places = number.places.checked_add(shift).filter(|places| *places <= 400);
            return Ok(Decimal { places: places.ok_or(Unreadable::TooLong)?, ..number }.trimmed());
        }
        let digits = power(shift).and_then(|power| number.digits.checked_mul(power)).ok_or(Unreadable::TooLong)?;
        Ok(Decimal { digits, ..number }.trimmed())
    }

    /// A property of an event as PostgreSQL's `->>` shows it to the aggregation: text stays text, a number is written out.
    pub(super) fn property(value: &Value) -> std::result::Result<Decimal, Unreadable> {
        match value {
            Value::String(text) => Decimal::plain(text),
            Value::Number(number) => Decimal::number(&number.to_string()),
            _ => Err(Unreadable::Malformed),
        }
    }

    /// What people may write for an amount: a decimal string or a JSON number.
    pub(super) fn amount(value: Option<&Value>) -> Option<Decimal> {
        Decimal::property(value?).ok()
    }

    pub(super) fn plus(self, other: Decimal) -> Result {
        let (one, two, places) = aligned(self, other)?;
        Ok(Decimal { digits: one.checked_add(two).ok_or(TooLong)?, places }.trimmed())
    }

    pub(super) fn minus(self, other: Decimal) -> Result {
        self.plus(Decimal { digits: other.digits.checked_neg().ok_or(TooLong)?, ..other })
    }

    pub(super) fn times(self, other: Decimal) -> Result {
        let digits = self.digits.checked_mul(other.digits).ok_or(TooLong)?;
        Ok(Decimal { digits, places: self.places + other.places }.trimmed())
    }

    /// The quotient to so many places; `None` where the divisor is zero.
    pub(super) fn over(self, other: Decimal, places: u32, rounding: Rounding) -> Result<Option<Decimal>> {
        if other.digits == 0 {
            return Ok(None);
        }
        let (one, two, _) = aligned(self, other)?;
        let scaled = power(places).and_then(|power| one.checked_mul(power)).ok_or(TooLong)?;
        Ok(Some(Decimal { digits: divided(scaled, two, rounding).ok_or(TooLong)?, places }.trimmed()))
    }

    /// Rounded to so many places; negative places round to tens and hundreds.
    pub(super) fn rounded(self, places: i32, rounding: Rounding) -> Result {
        let dropped = i64::from(self.places) - i64::from(places);
        let Ok(dropped @ 1..) = u32::try_from(dropped) else {
            return Ok(self);
        };
        // So many places that the divisor has no room: what is left is nothing.
        let Some(divisor) = power(dropped) else {
            return Ok(Decimal::ZERO);
        };
        let digits = divided(self.digits, divisor, rounding).ok_or(TooLong)?;
        let Ok(kept) = u32::try_from(places) else {
            let up = power(places.unsigned_abs()).and_then(|power| digits.checked_mul(power));
            return Ok(Decimal { digits: up.ok_or(TooLong)?, places: 0 });
        };
        Ok(Decimal { digits, places: kept }.trimmed())
    }

    /// This many units of the smallest part of a currency with so many decimals, rounded half up.
    pub(super) fn cents(self, decimals: u32) -> Result<i64> {
        let power = power(decimals).ok_or(TooLong)?;
        let cents = self.times(Decimal::whole(power))?.rounded(0, Rounding::HalfUp)?;
        i64::try_from(cents.digits).map_err(|_| TooLong)
    }

    pub(super) fn or_zero_if_negative(self) -> Decimal {
        if self.digits < 0 { Decimal::ZERO } else { self }
    }

    pub(super) fn is_negative(self) -> bool {
        self.digits < 0
    }

    pub(super) fn is_zero(self) -> bool {
        self.digits == 0
    }

    fn trimmed(mut self) -> Decimal {
        while self.places > 0 && self.digits % 10 == 0 {
            self.digits /= 10;
            self.places -= 1;
        }
        self
    }

    /// As Ruby's `BigDecimal#to_s("F")` writes it: at least one decimal, `4.0`.
    pub(super) fn text(self) -> String {
        let places = usize::try_from(self.places).unwrap_or_default();
        let figures = format!("{:0>width$}", self.digits.unsigned_abs(), width = places + 1);
        let (whole, fraction) = figures.split_at(figures.len() - places);
        let sign = if self.digits < 0 { "-" } else { "" };
        format!("{sign}{whole}.{}", if fraction.is_empty() { "0" } else { fraction })
    }

    /// A JSON number, for the few members that are one on Lago's wire.
    pub(super) fn json(self) -> Value {
        serde_json::from_str(&self.text()).unwrap_or_default()
    }

    /// `self` compared with `other`; numbers that cannot be brought to the same places differ by their size.
    pub(super) fn compared(self, other: Decimal) -> Result<Ordering> {
        let (one, two, _) = aligned(self, other)?;
        Ok(one.cmp(&two))
    }
}

fn power(exponent: u32) -> Option<i128> {
    10_i128.checked_pow(exponent)
}

fn aligned(one: Decimal, two: Decimal) -> Result<(i128, i128, u32)> {
    let places = one.places.max(two.places);
    let up = |number: Decimal| {
        power(places - number.places).and_then(|power| number.digits.checked_mul(power)).ok_or(TooLong)
    };
    Ok((up(one)?, up(two)?, places))
}

fn divided(number: i128, by: i128, rounding: Rounding) -> Option<i128> {
    let (quotient, rest) = (number.checked_div(by)?, number.checked_rem(by)?);
    let away = if number.is_negative() == by.is_negative() { 1 } else { -1 };
    let moved = match rounding {
        _ if rest == 0 => false,
        Rounding::Down => away < 0,
        Rounding::Up => away > 0,
        // Ruby rounds half away from zero.
        Rounding::HalfUp => rest.unsigned_abs() >= by.unsigned_abs() - rest.unsigned_abs(),
    };
    Some(if moved { quotient + away } else { quotient })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Decimal {
        Decimal::plain(text).unwrap()
    }

    #[test]
    fn only_plain_decimals_are_numbers() {
        for good in ["0", "-0", "12", "-12.50", "007", "0.000000000000000001"] {
            assert!(Decimal::plain(good).is_ok(), "{good}");
        }
        for bad in ["", "-", "+1", ".5", "5.", "1e-7", "1,000", " 3", "3 ", "abc", "0x1", "1.2.3", "--1", "NaN"] {
            assert_eq!(Decimal::plain(bad).unwrap_err(), Unreadable::Malformed, "{bad}");
        }
        assert_eq!(Decimal::plain(&"9".repeat(40)).unwrap_err(), Unreadable::TooLong);
    }

    #[test]
    fn numbers_of_json_may_have_an_exponent() {
        for (text, wanted) in
            [("1e-7", "0.0000001"), ("1.5E3", "1500.0"), ("-2e0", "-2.0"), ("1780586634.1", "1780586634.1")]
        {
            assert_eq!(Decimal::number(text).unwrap().text(), wanted);
        }
        assert_eq!(Decimal::number("1e99").unwrap_err(), Unreadable::TooLong);
    }

    #[test]
    fn sums_and_products_are_exact() {
        assert_eq!(number("0.1").plus(number("0.2")).unwrap().text(), "0.3");
        assert_eq!(number("5").minus(number("7.25")).unwrap().text(), "-2.25");
        assert_eq!(number("0.002").times(number("-1500")).unwrap().text(), "-3.0");
        assert_eq!(number("1").over(number("3"), 5, Rounding::HalfUp).unwrap().unwrap().text(), "0.33333");
        assert!(number("1").over(Decimal::ZERO, 5, Rounding::HalfUp).unwrap().is_none());
    }

    #[test]
    fn rounding() {
        for (text, places, rounding, wanted) in [
            ("2.5", 0, Rounding::HalfUp, "3.0"),
            ("-2.5", 0, Rounding::HalfUp, "-3.0"),
            ("2.49", 0, Rounding::HalfUp, "2.0"),
            ("-2.1", 0, Rounding::Down, "-3.0"),
            ("2.1", 0, Rounding::Up, "3.0"),
            ("1.23456", 3, Rounding::HalfUp, "1.235"),
            ("1250", -2, Rounding::HalfUp, "1300.0"),
            ("1.2", 5, Rounding::Up, "1.2"),
        ] {
            assert_eq!(number(text).rounded(places, rounding).unwrap().text(), wanted, "{text} {places} {rounding:?}");
        }
    }

    #[test]
    fn cents_follow_the_currency() {
        for (text, decimals, cents) in [("0.045", 2, 5), ("0.0449", 2, 4), ("12", 0, 12), ("1.2345", 3, 1235)] {
            assert_eq!(number(text).cents(decimals), Ok(cents), "{text}");
        }
        assert_eq!(number(&"9".repeat(30)).cents(2), Err(TooLong));
    }
}
