//! Usage in credits: what quantities weigh, what is left of a tier's credits, and what the rest costs.

use std::fmt;

use crate::decimal::{self, DecimalError};
use crate::money::Money;

/// Decimals of credits and quantities.
const PLACES: u32 = 6;
/// Millionths of a credit or a unit in a whole one.
pub const MICRO: i64 = 1_000_000;
/// Picocredits in a microcredit. A quantity times its weight is picocredits, exactly.
pub const PICO_IN_MICRO: i128 = 1_000_000;
/// Picocredits in a credit.
pub const PICO_IN_CREDIT: i128 = 1_000_000_000_000;

/// Credits, exact to six decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Credits(i64);

/// A quantity of events, exact to six decimals. What people send is never negative; a sum in the ledger may be, after a
/// correction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Quantity(i64);

/// Why usage could not be read or priced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UsageError {
    /// Not a number of at most six decimals.
    Number(DecimalError),
    /// Below zero where that means nothing.
    Negative,
    /// More than 2^63 millionths.
    Overflow,
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UsageError::Number(error) => error.fmt(f),
            UsageError::Negative => f.write_str("the number is negative"),
            UsageError::Overflow => f.write_str("the number is too large"),
        }
    }
}

impl std::error::Error for UsageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            UsageError::Number(error) => Some(error),
            UsageError::Negative | UsageError::Overflow => None,
        }
    }
}

impl From<DecimalError> for UsageError {
    fn from(error: DecimalError) -> UsageError {
        UsageError::Number(error)
    }
}

impl Credits {
    /// None.
    pub const ZERO: Credits = Credits(0);

    /// Picocredits as credits, rounded half up: what is shown of a cost.
    ///
    /// # Errors
    /// [`UsageError::Overflow`] beyond what credits can be.
    pub fn of_pico(pico: i128) -> Result<Credits, UsageError> {
        let micro = pico.saturating_add(PICO_IN_MICRO / 2).div_euclid(PICO_IN_MICRO);
        i64::try_from(micro).map(Credits).map_err(|_| UsageError::Overflow)
    }

    /// So many microcredits.
    pub const fn from_micro(micro: i64) -> Credits {
        Credits(micro)
    }

    /// Microcredits.
    pub fn micro(self) -> i64 {
        self.0
    }

    /// Reads `500`, `1.5`, `-0.25`: at most six decimals. A correction may be negative.
    pub fn parse(text: &str) -> Result<Credits, UsageError> {
        millionths(text).map(Credits)
    }

    /// The shortest text: `585`, `0.5`.
    pub fn wire(self) -> String {
        shortest(self.0)
    }

    /// The sum.
    pub fn plus(self, other: Credits) -> Result<Credits, UsageError> {
        self.0.checked_add(other.0).map(Credits).ok_or(UsageError::Overflow)
    }

    /// The difference, which may be negative.
    pub fn minus(self, other: Credits) -> Result<Credits, UsageError> {
        self.0.checked_sub(other.0).map(Credits).ok_or(UsageError::Overflow)
    }
}

impl Quantity {
    /// None.
    pub const ZERO: Quantity = Quantity(0);

    /// So many millionths, as they are stored.
    pub const fn from_micro(micro: i64) -> Quantity {
        Quantity(micro)
    }

    /// Millionths.
    pub fn micro(self) -> i64 {
        self.0
    }

    /// Reads `3`, `0.5`: at most six decimals and not negative, since nobody uses less than nothing.
    pub fn parse(text: &str) -> Result<Quantity, UsageError> {
        match millionths(text)? {
            micro if micro < 0 => Err(UsageError::Negative),
            micro => Ok(Quantity(micro)),
        }
    }

    /// The shortest text: `3`, `0.5`.
    pub fn wire(self) -> String {
        shortest(self.0)
    }

    /// The sum.
    pub fn plus(self, other: Quantity) -> Result<Quantity, UsageError> {
        self.0.checked_add(other.0).map(Quantity).ok_or(UsageError::Overflow)
    }

    /// The difference, which may be negative.
    pub fn minus(self, other: Quantity) -> Result<Quantity, UsageError> {
        self.0.checked_sub(other.0).map(Quantity).ok_or(UsageError::Overflow)
    }

    /// As much, taken back.
    pub fn negated(self) -> Result<Quantity, UsageError> {
        self.0.checked_neg().map(Quantity).ok_or(UsageError::Overflow)
    }

    /// Below zero?
    pub fn is_negative(self) -> bool {
        self.0 < 0
    }
}

impl fmt::Display for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.wire())
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.wire())
    }
}

fn millionths(text: &str) -> Result<i64, UsageError> {
    i64::try_from(decimal::read(text, PLACES)?).map_err(|_| UsageError::Overflow)
}

fn shortest(micro: i64) -> String {
    decimal::print(i128::from(micro), PLACES).trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// How an account stands in its credit period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    /// Credits of the tier.
    pub included: Credits,
    /// Credits used.
    pub used: Credits,
    /// What is left of the included ones, never below zero.
    pub remaining: Credits,
    /// What was used beyond them.
    pub overage: Credits,
    /// What that costs; nothing in a tier that does not bill it.
    pub overage_cost: Money,
    /// The tier's price of 1,000 credits.
    pub price_per_1k: Money,
}
