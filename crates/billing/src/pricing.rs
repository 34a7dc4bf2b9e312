//! What one item costs in one of its billing periods, exactly: per unit, graduated, by volume, in packages.

use crate::decimal::Decimal;
use crate::ratio::{Ratio, TooLarge};
use crate::subscription::{Item, SubscriptionError};

/// How the amount follows from the quantity. Prices are in minor units and may be finer than one (`0.05` of a cent).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pricing {
    /// The same for each unit.
    PerUnit {
        /// Minor units for one.
        unit_minor: Decimal,
    },
    /// By steps of the quantity.
    Tiered {
        /// Which step prices which units.
        mode: TierMode,
        /// In ascending order of `up_to`.
        steps: Vec<Step>,
    },
    /// Stripe did not say: tiers that were not expanded, an amount that is null.
    Unknown,
}

/// Which step prices which units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TierMode {
    /// Each unit at the price of the step it falls into, and the flat amount of every step that is entered.
    Graduated,
    /// All units at the price of the step that the whole quantity falls into, and its flat amount.
    Volume,
}

/// One step of a tiered price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The last unit that belongs to it; none for the rest.
    pub up_to: Option<u64>,
    /// Minor units for one unit.
    pub unit_minor: Decimal,
    /// Minor units for entering the step.
    pub flat_minor: Decimal,
}

/// Stripe's `transform_quantity`: packages of so many units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transform {
    /// Units in a package.
    pub divide_by: u64,
    /// A package that is begun counts whole; otherwise not at all.
    pub round_up: bool,
}

/// Minor units for one billing period of the item, discounts not taken off.
pub(crate) fn amount(item: &Item) -> Result<Ratio, SubscriptionError> {
    if item.quantity.is_negative() {
        return Err(SubscriptionError::NegativeQuantity { item: item.id.clone() });
    }
    let quantity = match item.transform {
        Some(transform) => packages(item, transform)?,
        None => Ratio::of(item.quantity)?,
    };
    match &item.pricing {
        Pricing::PerUnit { unit_minor } => Ok(quantity.times(Ratio::of(*unit_minor)?)?),
        Pricing::Tiered { mode, steps } => {
            let sum = match mode {
                TierMode::Graduated => graduated(steps, quantity)?,
                TierMode::Volume => volume(steps, quantity)?,
            };
            sum.filter(|_| ascend(steps)).ok_or_else(|| SubscriptionError::BadTiers { item: item.id.clone() })
        }
        Pricing::Unknown => Err(SubscriptionError::UnknownPrice { item: item.id.clone() }),
    }
}

fn packages(item: &Item, transform: Transform) -> Result<Ratio, SubscriptionError> {
    if transform.divide_by == 0 {
        return Err(SubscriptionError::EmptyPackage { item: item.id.clone() });
    }
    let exact = Ratio::of(item.quantity)?.over(Ratio::whole(transform.divide_by))?;
    Ok(Ratio::whole(if transform.round_up { exact.ceiling()? } else { exact.floor()? }))
}

/// Does each step end above the one before, and none follow one without an end?
fn ascend(steps: &[Step]) -> bool {
    let mut pairs = steps.iter().zip(steps.iter().skip(1));
    pairs.all(|(step, next)| step.up_to.is_some_and(|last| next.up_to.is_none_or(|next| next > last)))
}

/// None where the steps do not reach the quantity. The first step is entered by a quantity of zero too: Stripe charges
/// its flat amount in any case.
fn graduated(steps: &[Step], quantity: Ratio) -> Result<Option<Ratio>, TooLarge> {
    let (mut sum, mut before) = (Ratio::ZERO, Ratio::ZERO);
    for step in steps {
        match step.up_to.map(Ratio::whole) {
            Some(last) if last.is_less_than(quantity)? => {
                sum = sum.plus(charge(step, last.minus(before)?)?)?;
                before = last;
            }
            Some(_) | None => return sum.plus(charge(step, quantity.minus(before)?)?).map(Some),
        }
    }
    Ok(None)
}

/// None where the steps do not reach the quantity.
fn volume(steps: &[Step], quantity: Ratio) -> Result<Option<Ratio>, TooLarge> {
    for step in steps {
        match step.up_to.map(Ratio::whole) {
            Some(last) if last.is_less_than(quantity)? => {}
            Some(_) | None => return charge(step, quantity).map(Some),
        }
    }
    Ok(None)
}

fn charge(step: &Step, units: Ratio) -> Result<Ratio, TooLarge> {
    Ratio::of(step.unit_minor)?.times(units)?.plus(Ratio::of(step.flat_minor)?)
}
