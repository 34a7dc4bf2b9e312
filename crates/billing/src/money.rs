//! Money: an integer of minor units with its currency. Two currencies never meet, and nothing is lost on the way.
//!
//! There is no `Add` for money, because a sum can fail:
//!
//! ```compile_fail,E0369
//! use billing::money::{Currency, Money};
//! let coin = Money::new(1, Currency::USD);
//! let two = coin + coin; // I-11: `plus` answers a Result, and refuses another currency
//! ```
//!
//! ```
//! use billing::money::{Currency, Money};
//! let coin = Money::new(1, Currency::USD);
//! assert_eq!(coin.plus(coin), Ok(Money::new(2, Currency::USD)));
//! ```

use std::fmt;

pub use crate::currency::Currency;
use crate::decimal;
pub use crate::decimal::{Decimal, DecimalError};

/// What people may type: 10^15 minor units, ten thousand times the largest company's revenue (S-35).
const PARSED_MAX: i64 = 1_000_000_000_000_000;

/// An amount in minor units of one currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    minor: i64,
    currency: Currency,
}

/// Which rule of money was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MoneyError {
    /// Not three ASCII letters.
    NotACurrency(String),
    /// Two currencies in one sum.
    CurrencyMismatch {
        /// The amount that was asked.
        left: Currency,
        /// The amount it was given.
        right: Currency,
    },
    /// More than 2^63 minor units.
    Overflow,
    /// Nothing to split by: no weights, or all of them zero.
    NoWeights,
    /// The text is not an amount of this currency.
    Number(DecimalError),
}

impl fmt::Display for MoneyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MoneyError::NotACurrency(text) => write!(f, "{text:?} is not a currency code of three letters"),
            MoneyError::CurrencyMismatch { left, right } => write!(f, "{left} and {right} do not add up"),
            MoneyError::Overflow => f.write_str("the amount is too large"),
            MoneyError::NoWeights => f.write_str("nothing to split by"),
            MoneyError::Number(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for MoneyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            MoneyError::Number(error) => Some(error),
            MoneyError::NotACurrency(_)
            | MoneyError::CurrencyMismatch { .. }
            | MoneyError::Overflow
            | MoneyError::NoWeights => None,
        }
    }
}

impl From<DecimalError> for MoneyError {
    fn from(error: DecimalError) -> MoneyError {
        MoneyError::Number(error)
    }
}

impl Money {
    /// So many minor units as Stripe counts them: 4900 is 49.00 USD, 4900 JPY, 4.900 KWD.
    pub fn new(minor: i64, currency: Currency) -> Money {
        Money { minor, currency }
    }

    /// Nothing, in this currency.
    pub fn zero(currency: Currency) -> Money {
        Money { minor: 0, currency }
    }

    /// Minor units.
    pub fn minor(self) -> i64 {
        self.minor
    }

    /// The currency.
    pub fn currency(self) -> Currency {
        self.currency
    }

    /// The sum, of one currency.
    pub fn plus(self, other: Money) -> Result<Money, MoneyError> {
        self.with(other, i64::checked_add)
    }

    /// The difference, of one currency.
    pub fn minus(self, other: Money) -> Result<Money, MoneyError> {
        self.with(other, i64::checked_sub)
    }

    /// So many times as much.
    pub fn times(self, factor: i64) -> Result<Money, MoneyError> {
        let minor = self.minor.checked_mul(factor).ok_or(MoneyError::Overflow)?;
        Ok(Money { minor, ..self })
    }

    fn with(self, other: Money, sum: fn(i64, i64) -> Option<i64>) -> Result<Money, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::CurrencyMismatch { left: self.currency, right: other.currency });
        }
        Ok(Money { minor: sum(self.minor, other.minor).ok_or(MoneyError::Overflow)?, ..self })
    }

    /// Parts in proportion to the weights that sum to the whole (I-09): each is within one step of its exact share, the
    /// largest remainders get the odd steps, and of equal remainders the earlier one. A negative amount is split as its
    /// mirror image. A step is one minor unit, or a whole unit where only those exist (ISK, UGX).
    pub fn split(self, parts: &[u64]) -> Result<Vec<Money>, MoneyError> {
        let whole_steps = self.minor.checked_rem(self.currency.step()) == Some(0);
        let step = if whole_steps { self.currency.step() } else { 1 };
        let steps = self.minor.unsigned_abs().checked_div(step.unsigned_abs()).ok_or(MoneyError::Overflow)?;
        let part = |steps: u64| {
            let minor =
                i128::from(steps).checked_mul(i128::from(step))?.checked_mul(i128::from(self.minor.signum()))?;
            Some(Money { minor: i64::try_from(minor).ok()?, ..self })
        };
        let shares = shares(steps, parts)?;
        shares.into_iter().map(|steps| part(steps).ok_or(MoneyError::Overflow)).collect()
    }

    /// The amount with the currency's own decimals: `49.00`, `4900` yen, `1.234` KWD, `-0.05`. Hundredths that do not
    /// exist (ISK, UGX) are left out; should Stripe send them all the same, they are shown rather than lost.
    pub fn wire(self) -> String {
        let text = decimal::print(i128::from(self.minor), self.currency.exponent());
        match text.strip_suffix(".00") {
            Some(whole) if self.currency.step() > 1 => whole.to_owned(),
            Some(_) | None => text,
        }
    }

    /// Reads an amount in major units: `49.00` USD is 4900. More decimals than the currency has, more than 10^15 minor
    /// units and `-0` are errors.
    pub fn parse_major(text: &str, currency: Currency) -> Result<Money, MoneyError> {
        let minor = decimal::read(text, currency.exponent())?;
        let minor = i64::try_from(minor).map_err(|_| MoneyError::Number(DecimalError::OutOfRange))?;
        if minor.unsigned_abs() > PARSED_MAX.unsigned_abs() {
            return Err(MoneyError::Number(DecimalError::OutOfRange));
        }
        if minor.checked_rem(currency.step()) != Some(0) {
            return Err(MoneyError::Number(DecimalError::TooManyDecimals { allowed: 0 }));
        }
        Ok(Money { minor, currency })
    }
}

/// Whole shares of `steps` by weight, by the largest remainder.
fn shares(steps: u64, weights: &[u64]) -> Result<Vec<u64>, MoneyError> {
    let total: u128 = weights.iter().copied().map(u128::from).sum();
    let mut shares = Vec::with_capacity(weights.len());
    let mut remainders = Vec::with_capacity(weights.len());
    for (place, weight) in weights.iter().copied().map(u128::from).enumerate() {
        let exact = u128::from(steps).saturating_mul(weight); // two numbers of 64 bits: always fits
        let share = exact.checked_div(total).ok_or(MoneyError::NoWeights)?;
        shares.push(u64::try_from(share).map_err(|_| MoneyError::Overflow)?);
        remainders.push((std::cmp::Reverse(exact.checked_rem(total).ok_or(MoneyError::NoWeights)?), place));
    }
    let given: u64 = shares.iter().sum();
    let odd = steps.checked_sub(given).ok_or(MoneyError::Overflow)?;
    remainders.sort_unstable();
    for (_, place) in remainders.into_iter().take(usize::try_from(odd).map_err(|_| MoneyError::Overflow)?) {
        if let Some(share) = shares.get_mut(place) {
            *share = share.saturating_add(1);
        }
    }
    if weights.is_empty() { Err(MoneyError::NoWeights) } else { Ok(shares) }
}
