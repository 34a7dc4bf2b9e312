//! A subscription as Stripe has it, and what follows from it: its price, its period, its worth a month.

use std::fmt;

use jiff::Timestamp;

use crate::currency::Currency;
use crate::decimal::Decimal;
use crate::discount::{self, Share};
pub use crate::discount::{Discount, DiscountAmount, Duration};
use crate::money::Money;
use crate::pricing;
pub use crate::pricing::{Pricing, Step, TierMode, Transform};
use crate::ratio::{Ratio, TooLarge};
use crate::time::Window;

/// Stripe's status of a subscription. The list is open: a status that Stripe adds is kept as it came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Paid, or not yet due.
    Active,
    /// In its trial.
    Trialing,
    /// A payment failed and is tried again.
    PastDue,
    /// The tries are over.
    Unpaid,
    /// Paused as a whole. (`pause_collection` leaves the status as it is.)
    Paused,
    /// The first payment is missing.
    Incomplete,
    /// The first payment never came. Ended.
    IncompleteExpired,
    /// Ended.
    Canceled,
    /// One that this program does not know.
    Other(String),
}

impl Status {
    /// Reads Stripe's word; any other is kept.
    pub fn parse(text: &str) -> Status {
        match text {
            "active" => Status::Active,
            "trialing" => Status::Trialing,
            "past_due" => Status::PastDue,
            "unpaid" => Status::Unpaid,
            "paused" => Status::Paused,
            "incomplete" => Status::Incomplete,
            "incomplete_expired" => Status::IncompleteExpired,
            "canceled" => Status::Canceled,
            other => Status::Other(other.to_owned()),
        }
    }

    /// Stripe's word.
    pub fn as_str(&self) -> &str {
        match self {
            Status::Active => "active",
            Status::Trialing => "trialing",
            Status::PastDue => "past_due",
            Status::Unpaid => "unpaid",
            Status::Paused => "paused",
            Status::Incomplete => "incomplete",
            Status::IncompleteExpired => "incomplete_expired",
            Status::Canceled => "canceled",
            Status::Other(other) => other,
        }
    }

    /// Over for good?
    pub fn is_ended(&self) -> bool {
        match self {
            Status::Canceled | Status::IncompleteExpired => true,
            Status::Active
            | Status::Trialing
            | Status::PastDue
            | Status::Unpaid
            | Status::Paused
            | Status::Incomplete
            | Status::Other(_) => false,
        }
    }

    /// Counted among the active ones: active, trialing, past due.
    pub fn is_active(&self) -> bool {
        matches!(self, Status::Active | Status::Trialing | Status::PastDue)
    }

    /// Does it bring money every month? Only `active`, and `past_due` until Stripe gives up.
    pub fn earns(&self) -> bool {
        matches!(self, Status::Active | Status::PastDue)
    }

    /// The order in which one of several is chosen, best first.
    pub fn rank(&self) -> u8 {
        match self {
            Status::Active => 0,
            Status::Trialing => 1,
            Status::PastDue => 2,
            Status::Unpaid => 3,
            Status::Paused => 4,
            Status::Incomplete => 5,
            Status::Other(_) => 6,
            Status::IncompleteExpired => 7,
            Status::Canceled => 8,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The unit of a billing period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interval {
    /// A day.
    Day,
    /// Seven days.
    Week,
    /// A calendar month.
    Month,
    /// A calendar year.
    Year,
}

impl Interval {
    /// Reads Stripe's word.
    pub fn parse(text: &str) -> Option<Interval> {
        match text {
            "day" => Some(Interval::Day),
            "week" => Some(Interval::Week),
            "month" => Some(Interval::Month),
            "year" => Some(Interval::Year),
            _ => None,
        }
    }

    /// Stripe's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Interval::Day => "day",
            Interval::Week => "week",
            Interval::Month => "month",
            Interval::Year => "year",
        }
    }
}

/// How often a price is due: every `count` intervals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Recurrence {
    /// The unit.
    pub interval: Interval,
    /// How many of them; a quarter is three months.
    pub count: u32,
}

impl Recurrence {
    /// Every month.
    pub const MONTHLY: Recurrence = Recurrence { interval: Interval::Month, count: 1 };

    /// How many of these a month has: a year is twelve months, 52 weeks, 365 days. None for a count of zero.
    fn per_month(self) -> Option<Ratio> {
        let (top, bottom): (i128, i128) = match self.interval {
            Interval::Day => (365, 12),
            Interval::Week => (52, 12),
            Interval::Month => (1, 1),
            Interval::Year => (1, 12),
        };
        Ratio::new(top, bottom.checked_mul(i128::from(self.count))?).ok()
    }
}

/// One item of a subscription: a price, so many times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// `si_…`
    pub id: String,
    /// `price_…`, or the id of a legacy plan.
    pub price: String,
    /// `prod_…`
    pub product: Option<String>,
    /// Of the price.
    pub currency: Currency,
    /// Billed by usage: it has no price in advance and counts for nothing here.
    pub metered: bool,
    /// How the amount follows from the quantity.
    pub pricing: Pricing,
    /// How many.
    pub quantity: Decimal,
    /// Packages, before anything is priced.
    pub transform: Option<Transform>,
    /// How often.
    pub recurrence: Recurrence,
    /// The current billing period, where Stripe puts it since 2025-03-31.
    pub period: Option<Window>,
    /// Coupons of this item alone.
    pub discounts: Vec<Discount>,
}

impl Item {
    /// Priced in advance, by quantity.
    pub fn is_licensed(&self) -> bool {
        !self.metered
    }

    fn per_month(&self) -> Result<Ratio, SubscriptionError> {
        self.recurrence.per_month().ok_or_else(|| SubscriptionError::EmptyInterval { item: self.id.clone() })
    }
}

/// A subscription: who pays what, how often, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// `sub_…`
    pub id: String,
    /// How it stands.
    pub status: Status,
    /// When it was made.
    pub created: Timestamp,
    /// What is paid for.
    pub items: Vec<Item>,
    /// Coupons of the whole, in the order in which they are taken off.
    pub discounts: Vec<Discount>,
    /// It ends with the current period.
    pub cancel_at_period_end: bool,
    /// `pause_collection` is set. Invoices rest, the status stays, and so does the worth.
    pub paused_collection: bool,
    /// The current period where Stripe had it before 2025-03-31.
    pub period: Option<Window>,
}

impl Subscription {
    fn licensed(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| item.is_licensed())
    }

    /// The one currency of the licensed items, none without such items.
    fn currency(&self) -> Result<Option<Currency>, SubscriptionError> {
        let Some(first) = self.licensed().next().map(|item| item.currency) else { return Ok(None) };
        match self.licensed().find(|item| item.currency != first) {
            Some(other) => Err(SubscriptionError::MixedCurrencies { left: first, right: other.currency }),
            None => Ok(Some(first)),
        }
    }
}

/// What it costs and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// All licensed items together, discounts not taken off.
    pub amount: Money,
    /// How often that is due.
    pub recurrence: Recurrence,
}

/// Why a subscription has no price or no worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscriptionError {
    /// There is no item, so there is not even a currency.
    NoItems,
    /// A licensed item whose price is not known.
    UnknownPrice {
        /// The item.
        item: String,
    },
    /// Items of two currencies.
    MixedCurrencies {
        /// The first item's.
        left: Currency,
        /// Another item's.
        right: Currency,
    },
    /// A coupon of another currency.
    DiscountCurrency {
        /// The coupon's.
        discount: Currency,
        /// The subscription's.
        subscription: Currency,
    },
    /// A coupon of less than 0 or more than 100 per cent.
    BadPercent {
        /// Per cent.
        percent: Decimal,
    },
    /// A coupon that would add money.
    NegativeDiscount {
        /// The amount.
        off: Money,
    },
    /// Less than none of something.
    NegativeQuantity {
        /// The item.
        item: String,
    },
    /// Steps of a price that do not ascend, or end below the quantity.
    BadTiers {
        /// The item.
        item: String,
    },
    /// Packages of zero units.
    EmptyPackage {
        /// The item.
        item: String,
    },
    /// A billing period of zero intervals.
    EmptyInterval {
        /// The item.
        item: String,
    },
    /// Beyond exact arithmetic of 128 bits, or beyond 2^63 minor units.
    Overflow,
}

impl fmt::Display for SubscriptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubscriptionError::NoItems => f.write_str("the subscription has no items"),
            SubscriptionError::UnknownPrice { item } => write!(f, "the price of item {item} is not known"),
            SubscriptionError::MixedCurrencies { left, right } => write!(f, "items in {left} and in {right}"),
            SubscriptionError::DiscountCurrency { discount, subscription } => {
                write!(f, "a coupon in {discount} on a subscription in {subscription}")
            }
            SubscriptionError::BadPercent { percent } => write!(f, "a coupon of {percent} per cent"),
            SubscriptionError::NegativeDiscount { off } => {
                write!(f, "a coupon of {} {}", off.wire(), off.currency())
            }
            SubscriptionError::NegativeQuantity { item } => write!(f, "the quantity of item {item} is negative"),
            SubscriptionError::BadTiers { item } => {
                write!(f, "the tiers of item {item} do not ascend or do not reach its quantity")
            }
            SubscriptionError::EmptyPackage { item } => write!(f, "item {item} is sold in packages of zero units"),
            SubscriptionError::EmptyInterval { item } => write!(f, "item {item} is due every zero intervals"),
            SubscriptionError::Overflow => f.write_str("the amount is too large"),
        }
    }
}

impl std::error::Error for SubscriptionError {}

impl From<TooLarge> for SubscriptionError {
    fn from(_: TooLarge) -> SubscriptionError {
        SubscriptionError::Overflow
    }
}

/// What the whole subscription costs: all licensed items × quantity, discounts not taken off, metered items left out.
/// Items of unlike intervals are brought to one month. None without a licensed item.
pub fn price(subscription: &Subscription) -> Result<Option<Price>, SubscriptionError> {
    let Some(currency) = subscription.currency()? else { return Ok(None) };
    let mut recurrences = subscription.licensed().map(|item| item.recurrence);
    let first = recurrences.next().unwrap_or(Recurrence::MONTHLY);
    let alike = recurrences.all(|recurrence| recurrence == first);
    let mut sum = Ratio::ZERO;
    for item in subscription.licensed() {
        let periods = item.per_month()?;
        let amount = pricing::amount(item)?;
        sum = sum.plus(if alike { amount } else { amount.times(periods)? })?;
    }
    let recurrence = if alike { first } else { Recurrence::MONTHLY };
    Ok(Some(Price { amount: rounded(sum, currency)?, recurrence }))
}

/// What the subscription is worth a month, the one source of all revenue figures: licensed items × quantity, brought to
/// a month (year/12, week×52/12, day×365/12, every `count`), running coupons taken off, rounded half up once.
///
/// Coupons of an item come first, then those of the subscription in order, each on what is left and never below zero. An
/// amount off counts once per billing period: of its item, or of the first licensed item for the whole subscription.
/// Trialing, paused, unpaid, incomplete, ended and unknown statuses are worth nothing, and so is metered use.
pub fn monthly_value(subscription: &Subscription, at: Timestamp) -> Result<Money, SubscriptionError> {
    let any = subscription.items.first().ok_or(SubscriptionError::NoItems)?;
    if !subscription.status.earns() {
        return Ok(Money::zero(any.currency));
    }
    let (Some(currency), Some(first)) = (subscription.currency()?, subscription.licensed().next()) else {
        return Ok(Money::zero(any.currency));
    };
    let mut shares = Vec::new();
    for item in subscription.licensed() {
        let periods = item.per_month()?;
        let mut share = Share { product: item.product.as_deref(), monthly: pricing::amount(item)?.times(periods)? };
        for discount in item.discounts.iter().filter(|discount| discount.is_running(at)) {
            discount.take_off(std::slice::from_mut(&mut share), periods, currency)?;
        }
        shares.push(share);
    }
    let periods = first.per_month()?;
    let running: Vec<&Discount> = subscription.discounts.iter().filter(|discount| discount.is_running(at)).collect();
    for (place, discount) in running.iter().enumerate() {
        shares = discount::merged(&shares, running.get(place..).unwrap_or_default())?;
        discount.take_off(&mut shares, periods, currency)?;
    }
    let sum = shares.iter().try_fold(Ratio::ZERO, |sum, share| sum.plus(share.monthly))?;
    rounded(sum, currency)
}

/// The one rounding: half up, to the smallest amount that exists in the currency.
fn rounded(minor: Ratio, currency: Currency) -> Result<Money, SubscriptionError> {
    let step = currency.step();
    let steps = minor.over(Ratio::whole(step))?.round_half_up()?;
    let minor = steps.checked_mul(i128::from(step)).and_then(|minor| i64::try_from(minor).ok());
    minor.map(|minor| Money::new(minor, currency)).ok_or(SubscriptionError::Overflow)
}

/// The next instant at which a coupon starts or ends, and with it perhaps the monthly value.
pub fn value_changes_at(subscription: &Subscription, at: Timestamp) -> Option<Timestamp> {
    let of_items = subscription.licensed().flat_map(|item| &item.discounts);
    let lasting = subscription.discounts.iter().chain(of_items).filter(|discount| discount.is_lasting());
    lasting.flat_map(|discount| [discount.start, discount.end]).flatten().filter(|change| *change > at).min()
}

/// The current billing period: latest start and earliest end over the items, which is how Stripe itself filters lists;
/// the place of before 2025-03-31 where no item has one.
pub fn period(subscription: &Subscription) -> Option<Window> {
    let periods = || subscription.items.iter().filter_map(|item| item.period);
    let start = periods().map(|period| period.start).max();
    let end = periods().map(|period| period.end).min();
    start.zip(end).map(|(start, end)| Window { start, end }).or(subscription.period)
}

/// The one that is shown of several: the best status by [`Status::rank`], then the newest, then the greatest id. An
/// ended one is never current.
pub fn current(subscriptions: &[Subscription]) -> Option<&Subscription> {
    let lasting = subscriptions.iter().filter(|subscription| !subscription.status.is_ended());
    lasting.max_by(|left, right| {
        let best_status = right.status.rank().cmp(&left.status.rank());
        best_status.then(left.created.cmp(&right.created)).then(left.id.cmp(&right.id))
    })
}
