//! Coupons: which ones run, and what they take off a month.

use jiff::Timestamp;

use crate::currency::Currency;
use crate::decimal::Decimal;
use crate::money::Money;
use crate::ratio::{Ratio, TooLarge};
use crate::subscription::SubscriptionError;

/// A coupon as it was applied to a subscription or to one of its items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discount {
    /// How much.
    pub amount: DiscountAmount,
    /// How often.
    pub duration: Duration,
    /// Taken off from here on; none: from ever.
    pub start: Option<Timestamp>,
    /// No longer taken off from here on; none: for ever.
    pub end: Option<Timestamp>,
    /// The products it is limited to; none or empty: all of them.
    pub products: Option<Vec<String>>,
}

/// How much a coupon takes off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiscountAmount {
    /// Per cent, 0 to 100.
    Percent(Decimal),
    /// An amount, once in each billing period.
    Off(Money),
}

/// How often a coupon takes off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duration {
    /// From one invoice only: it says nothing about a usual month and is never counted.
    Once,
    /// From every invoice.
    Forever,
    /// From every invoice until it ends.
    Repeating,
}

/// What is left of one item's month.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share<'a> {
    pub(crate) product: Option<&'a str>,
    pub(crate) monthly: Ratio,
}

/// One share for all that the coupons treat alike. The value stays the same; its fractions stay small, because an amount
/// off one share is a mere subtraction, while among several it leaves the sum of them in every denominator.
pub(crate) fn merged<'a>(shares: &[Share<'a>], coupons: &[&Discount]) -> Result<Vec<Share<'a>>, TooLarge> {
    let mut merged: Vec<Share<'a>> = Vec::new();
    for share in shares {
        let alike = |other: &Share<'_>| coupons.iter().all(|one| one.names(share.product) == one.names(other.product));
        match merged.iter_mut().find(|other| alike(other)) {
            Some(other) => other.monthly = other.monthly.plus(share.monthly)?,
            None => merged.push(*share),
        }
    }
    Ok(merged)
}

impl Discount {
    /// Is it taken off every invoice of this time?
    pub fn is_running(&self, at: Timestamp) -> bool {
        self.is_lasting() && self.start.is_none_or(|start| start <= at) && self.end.is_none_or(|end| at < end)
    }

    /// Anything but `once`.
    pub(crate) fn is_lasting(&self) -> bool {
        match self.duration {
            Duration::Once => false,
            Duration::Forever | Duration::Repeating => true,
        }
    }

    fn names(&self, product: Option<&str>) -> bool {
        match self.products.as_deref() {
            None | Some([]) => true,
            Some(products) => products.iter().any(|named| Some(named.as_str()) == product),
        }
    }

    /// Takes it off the shares it names, never below zero; `periods` is how many billing periods a month has. An
    /// amount is spread over those shares in proportion, so that a later coupon of one product finds its fair part.
    pub(crate) fn take_off(
        &self,
        shares: &mut [Share<'_>],
        periods: Ratio,
        currency: Currency,
    ) -> Result<(), SubscriptionError> {
        let named = |share: &&mut Share<'_>| self.names(share.product);
        let mut before = Ratio::ZERO;
        for share in shares.iter_mut().filter(named) {
            before = before.plus(share.monthly)?;
        }
        let kept = self.kept(before, periods, currency)?;
        for share in shares.iter_mut().filter(named) {
            share.monthly = share.monthly.times(kept)?;
        }
        Ok(())
    }

    /// The part of `before` that stays, 0 to 1.
    fn kept(&self, before: Ratio, periods: Ratio, currency: Currency) -> Result<Ratio, SubscriptionError> {
        match self.amount {
            DiscountAmount::Percent(percent) => {
                let kept = Ratio::ONE.minus(Ratio::of(percent)?.over(Ratio::whole(100_u8))?)?;
                if percent.is_negative() || kept.is_negative() {
                    return Err(SubscriptionError::BadPercent { percent });
                }
                Ok(kept)
            }
            DiscountAmount::Off(off) if off.currency() != currency => {
                Err(SubscriptionError::DiscountCurrency { discount: off.currency(), subscription: currency })
            }
            DiscountAmount::Off(off) if off.minor() < 0 => Err(SubscriptionError::NegativeDiscount { off }),
            DiscountAmount::Off(off) => {
                let off = Ratio::whole(off.minor()).times(periods)?;
                if off.is_less_than(before)? { Ok(before.minus(off)?.over(before)?) } else { Ok(Ratio::ZERO) }
            }
        }
    }
}
