//! Revenue: the figures of the business from a hundred rows of totals. Its parts sum to the whole, and currencies are
//! never added up.

use std::collections::BTreeMap;
use std::fmt;

use crate::catalogue::{Catalogue, PastDue, TierId};
use crate::currency::Currency;
use crate::money::{Money, MoneyError};
use crate::subscription::Status;

/// The tier whose subscriptions count as trials even when they are paid for.
const TRIAL: &str = "trial";

/// One row of the stored aggregate: all subscriptions of one currency, tier and status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Total {
    /// Of the subscriptions.
    pub currency: Currency,
    /// A tier's id, or `unknown`.
    pub tier: String,
    /// Of the subscriptions.
    pub status: Status,
    /// How many.
    pub count: u64,
    /// Their monthly values, each rounded before, in minor units.
    pub monthly_minor: i64,
    /// Those of them whose value is not known: they add nothing to the money.
    pub unpriced: u64,
}

/// The business at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Active, trialing and past due, of every currency.
    pub active: u64,
    /// Those of them that are trialing, or of the tier `trial`.
    pub trial: u64,
    /// Those of them that are past due.
    pub past_due: u64,
    /// Subscriptions of any status whose value is not known.
    pub unpriced: u64,
    /// Monthly recurring revenue in the catalogue's currency.
    pub monthly: Money,
    /// All tiers of the catalogue in its order, then `unknown` where it is not empty. Counts are of every currency and sum
    /// to `active`; revenues are of the catalogue's currency and sum to `monthly`.
    pub tiers: Vec<TierLine>,
    /// The other currencies in use, each for itself.
    pub by_currency: BTreeMap<Currency, CurrencyStats>,
}

/// A tier's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierLine {
    /// The tier's id, or `unknown`.
    pub tier: String,
    /// Subscriptions that are active, trialing or past due.
    pub count: u64,
    /// What they bring a month.
    pub revenue: Money,
}

/// The part of one other currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrencyStats {
    /// Monthly recurring revenue.
    pub monthly: Money,
    /// As in [`Stats::tiers`], with the subscriptions of this currency only.
    pub tiers: Vec<TierLine>,
}

/// Why the figures could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RevenueError {
    /// More than fits.
    Overflow,
    /// A stored total says that money comes in without a subscription, or in a status in which none brings any: the
    /// aggregate is damaged.
    Worthless {
        /// The status.
        status: Status,
        /// Of the row.
        tier: String,
        /// What it should not have.
        monthly: Money,
    },
}

impl fmt::Display for RevenueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RevenueError::Overflow => f.write_str("the total is too large"),
            RevenueError::Worthless { status, tier, monthly } => {
                write!(f, "a total of {} {} for {status} subscriptions of {tier}", monthly.wire(), monthly.currency())
            }
        }
    }
}

impl std::error::Error for RevenueError {}

impl From<MoneyError> for RevenueError {
    // Amounts are sorted by currency before they are added, so a sum can only grow too large.
    fn from(_: MoneyError) -> RevenueError {
        RevenueError::Overflow
    }
}

/// The figures from the totals. Totals of a tier that the catalogue no longer has count as `unknown`.
pub fn stats(catalogue: &Catalogue, totals: &[Total]) -> Result<Stats, RevenueError> {
    for total in totals {
        if (!total.status.earns() || total.count == 0) && total.monthly_minor != 0 {
            let monthly = Money::new(total.monthly_minor, total.currency);
            return Err(RevenueError::Worthless { status: total.status.clone(), tier: total.tier.clone(), monthly });
        }
    }
    let active: Vec<&Total> = totals.iter().filter(|total| total.status.is_active() && total.count > 0).collect();
    let count = |wanted: &dyn Fn(&Total) -> bool| {
        let mut counts = active.iter().filter(|total| wanted(total)).map(|total| total.count);
        counts.try_fold(0_u64, u64::checked_add).ok_or(RevenueError::Overflow)
    };
    let unpriced = totals.iter().map(|total| total.unpriced).try_fold(0_u64, u64::checked_add);
    let tiers = lines(catalogue, &active, catalogue.currency)?;
    let mut by_currency = BTreeMap::new();
    for currency in active.iter().map(|total| total.currency).filter(|currency| *currency != catalogue.currency) {
        let own: Vec<&Total> = active.iter().copied().filter(|total| total.currency == currency).collect();
        let tiers = lines(catalogue, &own, currency)?;
        by_currency.insert(currency, CurrencyStats { monthly: sum(&tiers, currency)?, tiers });
    }
    Ok(Stats {
        active: count(&|_| true)?,
        trial: count(&|total| total.status == Status::Trialing || total.tier == TRIAL)?,
        past_due: count(&|total| total.status == Status::PastDue)?,
        unpriced: unpriced.ok_or(RevenueError::Overflow)?,
        monthly: sum(&tiers, catalogue.currency)?,
        tiers,
        by_currency,
    })
}

fn sum(lines: &[TierLine], currency: Currency) -> Result<Money, MoneyError> {
    lines.iter().try_fold(Money::zero(currency), |sum, line| sum.plus(line.revenue))
}

/// A line for each tier of the catalogue, and one for the rest when there is any.
fn lines(catalogue: &Catalogue, totals: &[&Total], currency: Currency) -> Result<Vec<TierLine>, RevenueError> {
    let mut lines = Vec::new();
    for tier in &catalogue.tiers {
        let own = totals.iter().copied().filter(|total| total.tier == tier.id);
        lines.push(line(catalogue, &tier.id, own, currency)?);
    }
    let rest = totals.iter().copied().filter(|total| catalogue.tier(&total.tier).is_none());
    let unknown = line(catalogue, TierId::Unknown.as_str(), rest, currency)?;
    if unknown.count > 0 {
        lines.push(unknown);
    }
    Ok(lines)
}

fn line<'a>(
    catalogue: &Catalogue,
    tier: &str,
    totals: impl Iterator<Item = &'a Total>,
    currency: Currency,
) -> Result<TierLine, RevenueError> {
    let (mut count, mut revenue) = (0_u64, Money::zero(currency));
    for total in totals {
        count = count.checked_add(total.count).ok_or(RevenueError::Overflow)?;
        let excluded = total.status == Status::PastDue && catalogue.past_due == PastDue::Exclude;
        if total.currency == currency && !excluded {
            revenue = revenue.plus(Money::new(total.monthly_minor, currency))?;
        }
    }
    Ok(TierLine { tier: tier.to_owned(), count, revenue })
}
