//! Exact fractions for sums that are divided: a year's price by twelve, a week's by twelve fifty-seconds. They live only
//! between a price and the one rounding at the end.

use crate::decimal::Decimal;

/// A fraction in lowest terms; the denominator is above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ratio {
    top: i128,
    bottom: i128,
}

/// The exact value needs more than 128 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLarge;

impl Ratio {
    pub(crate) const ZERO: Ratio = Ratio { top: 0, bottom: 1 };
    pub(crate) const ONE: Ratio = Ratio { top: 1, bottom: 1 };

    /// `top / bottom` in lowest terms. A denominator of zero is refused like any other value that does not fit.
    pub(crate) fn new(top: i128, bottom: i128) -> Result<Ratio, TooLarge> {
        let divisor = gcd(top, bottom);
        let sign = bottom.signum();
        let part = |n: i128| n.checked_div(divisor).and_then(|n| n.checked_mul(sign)).ok_or(TooLarge);
        if sign == 0 { Err(TooLarge) } else { Ok(Ratio { top: part(top)?, bottom: part(bottom)? }) }
    }

    pub(crate) fn whole(n: impl Into<i128>) -> Ratio {
        Ratio { top: n.into(), bottom: 1 }
    }

    pub(crate) fn of(number: Decimal) -> Result<Ratio, TooLarge> {
        Ratio::new(number.units(), Decimal::ONE.units())
    }

    pub(crate) fn plus(self, other: Ratio) -> Result<Ratio, TooLarge> {
        // Over the least common denominator, so that equal denominators (the usual case) do not grow.
        let shared = gcd(self.bottom, other.bottom);
        let mine = other.bottom.checked_div(shared).ok_or(TooLarge)?;
        let theirs = self.bottom.checked_div(shared).ok_or(TooLarge)?;
        let left = self.top.checked_mul(mine).ok_or(TooLarge)?;
        let right = other.top.checked_mul(theirs).ok_or(TooLarge)?;
        let top = left.checked_add(right).ok_or(TooLarge)?;
        Ratio::new(top, self.bottom.checked_mul(mine).ok_or(TooLarge)?)
    }

    pub(crate) fn minus(self, other: Ratio) -> Result<Ratio, TooLarge> {
        self.plus(Ratio { top: other.top.checked_neg().ok_or(TooLarge)?, bottom: other.bottom })
    }

    pub(crate) fn times(self, other: Ratio) -> Result<Ratio, TooLarge> {
        // Reduced crosswise first: the product is then already in lowest terms and as small as it can be.
        let (left, right) = (Ratio::new(self.top, other.bottom)?, Ratio::new(other.top, self.bottom)?);
        let top = left.top.checked_mul(right.top).ok_or(TooLarge)?;
        let bottom = left.bottom.checked_mul(right.bottom).ok_or(TooLarge)?;
        Ok(Ratio { top, bottom })
    }

    pub(crate) fn over(self, other: Ratio) -> Result<Ratio, TooLarge> {
        self.times(Ratio::new(other.bottom, other.top)?)
    }

    pub(crate) fn is_negative(self) -> bool {
        self.top < 0
    }

    pub(crate) fn is_less_than(self, other: Ratio) -> Result<bool, TooLarge> {
        self.minus(other).map(Ratio::is_negative)
    }

    /// The next whole number at or below.
    pub(crate) fn floor(self) -> Result<i128, TooLarge> {
        self.top.checked_div_euclid(self.bottom).ok_or(TooLarge)
    }

    /// The next whole number at or above.
    pub(crate) fn ceiling(self) -> Result<i128, TooLarge> {
        let below = self.floor()?;
        if self.bottom == 1 { Ok(below) } else { below.checked_add(1).ok_or(TooLarge) }
    }

    /// The nearest whole number; a half goes up, towards positive infinity (2.5 -> 3, -2.5 -> -2), so that rounding
    /// keeps the order of any two values.
    pub(crate) fn round_half_up(self) -> Result<i128, TooLarge> {
        self.plus(Ratio { top: 1, bottom: 2 })?.floor()
    }
}

/// The greatest common divisor, above zero unless both are zero.
fn gcd(left: i128, right: i128) -> i128 {
    let (mut left, mut right) = (left, right);
    while right != 0 {
        (left, right) = (right, left.checked_rem(right).unwrap_or(0));
    }
    left.saturating_abs()
}
