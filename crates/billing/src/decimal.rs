//! Exact decimal numbers, and the one reader and the one printer of decimal text that money, credits and quantities share.

use std::fmt;

/// Decimals a [`Decimal`] keeps: as many as Stripe allows in `unit_amount_decimal`.
const PLACES: u32 = 12;
/// One, in units of 10^-12.
const ONE: i128 = 1_000_000_000_000;
/// Longer text is no amount of anything, and an error that repeats it stays readable.
const TEXT_MAX: usize = 64;

/// An exact decimal number: an integer count of 10^-12.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Decimal(i128);

/// Why a text is not a number here, or why an operation has no exact answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecimalError {
    /// Not of the form `-?digits(.digits)?`: blank, exponent, sign without digits, foreign digits, too long.
    Malformed(String),
    /// Minus zero says something that no amount can mean (S-35).
    NegativeZero,
    /// More digits after the point than this number keeps.
    TooManyDecimals {
        /// How many are kept.
        allowed: u32,
    },
    /// Larger than the number can hold.
    OutOfRange,
    /// The exact product needs more decimals than are kept.
    Inexact,
}

impl fmt::Display for DecimalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecimalError::Malformed(text) => write!(f, "{text:?} is not a decimal number"),
            DecimalError::NegativeZero => f.write_str("minus zero is not an amount"),
            DecimalError::TooManyDecimals { allowed: 0 } => f.write_str("no decimals are allowed"),
            DecimalError::TooManyDecimals { allowed } => write!(f, "more than {allowed} decimals"),
            DecimalError::OutOfRange => f.write_str("the number is too large"),
            DecimalError::Inexact => f.write_str("the product has more decimals than are kept"),
        }
    }
}

impl std::error::Error for DecimalError {}

impl Decimal {
    /// Nothing.
    pub const ZERO: Decimal = Decimal(0);
    /// One.
    pub const ONE: Decimal = Decimal(ONE);

    /// Reads `12`, `-1`, `0.5`, `12.000000000000`: plain digits, at most 12 decimals, no exponent, no blanks.
    pub fn parse(text: &str) -> Result<Decimal, DecimalError> {
        read(text, PLACES).map(Decimal)
    }

    /// A whole number; all of them fit.
    pub fn from_i64(whole: i64) -> Decimal {
        Decimal(i128::from(whole).saturating_mul(ONE))
    }

    /// The number in units of 10^-12.
    pub fn units(self) -> i128 {
        self.0
    }

    /// Below zero?
    pub fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// The sum.
    pub fn plus(self, other: Decimal) -> Result<Decimal, DecimalError> {
        self.0.checked_add(other.0).map(Decimal).ok_or(DecimalError::OutOfRange)
    }

    /// The difference.
    pub fn minus(self, other: Decimal) -> Result<Decimal, DecimalError> {
        self.0.checked_sub(other.0).map(Decimal).ok_or(DecimalError::OutOfRange)
    }

    /// The product, where twelve decimals hold it exactly; it is never rounded.
    pub fn times(self, other: Decimal) -> Result<Decimal, DecimalError> {
        // Whole parts and fractions are multiplied apart, because the product of two counts of 10^-12 may leave i128.
        let (whole, fraction) = (self.0 / ONE, self.0 % ONE);
        let by_whole = whole.checked_mul(other.0).ok_or(DecimalError::OutOfRange)?;
        let by_fraction = fraction.checked_mul(other.0).ok_or(DecimalError::OutOfRange)?;
        if by_fraction % ONE != 0 {
            return Err(DecimalError::Inexact);
        }
        by_whole.checked_add(by_fraction / ONE).map(Decimal).ok_or(DecimalError::OutOfRange)
    }

    /// The shortest text that reads back as the same number: `0.5`, `12`, `-1`.
    pub fn wire(self) -> String {
        let text = print(self.0, PLACES);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.wire())
    }
}

/// Reads decimal text as an integer count of 10^-`places`.
pub(crate) fn read(text: &str, places: u32) -> Result<i128, DecimalError> {
    let malformed = || DecimalError::Malformed(text.chars().take(TEXT_MAX).collect());
    if text.len() > TEXT_MAX {
        return Err(malformed());
    }
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = match digits.split_once('.') {
        Some((_, "")) => return Err(malformed()),
        Some(parts) => parts,
        None => (digits, ""),
    };
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return Err(malformed());
    }
    let missing = u32::try_from(fraction.len()).ok().and_then(|len| places.checked_sub(len));
    let missing = missing.ok_or(DecimalError::TooManyDecimals { allowed: places })?;
    let zeros = std::iter::repeat_n(b'0', usize::try_from(missing).unwrap_or(0));
    let units =
        whole.bytes().chain(fraction.bytes()).chain(zeros).try_fold(0_i128, |units, digit| {
            units.checked_mul(10)?.checked_add(i128::from(digit.saturating_sub(b'0')))
        });
    match units.ok_or(DecimalError::OutOfRange)? {
        0 if negative => Err(DecimalError::NegativeZero),
        units if negative => Ok(units.saturating_neg()),
        units => Ok(units),
    }
}

/// Prints an integer count of 10^-`places` with exactly that many decimals.
pub(crate) fn print(units: i128, places: u32) -> String {
    let sign = if units < 0 { "-" } else { "" };
    let places = usize::try_from(places).unwrap_or(0);
    let digits = format!("{:0>width$}", units.unsigned_abs(), width = places.saturating_add(1));
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(places));
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}
