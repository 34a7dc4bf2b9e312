//! Billhook's core: money, time, ids, the tier catalogue, subscriptions, usage and revenue as pure values.
//!
//! Values in, values out: no input or output, no clock, no randomness, no float. Time and random bytes are arguments,
//! arithmetic that does not fit is a named error, and every sum is exact until the one place that rounds it.
#![forbid(unsafe_code)]
#![deny(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::float_arithmetic,
    clippy::wildcard_enum_match_arm,
    missing_docs
)]

pub mod account;
pub mod catalogue;
pub mod currency;
pub mod decimal;
pub mod discount;
pub mod entry;
pub mod hold;
pub mod id;
pub mod limit;
pub mod money;
pub mod movement;
pub mod pricing;
mod ratio;
pub mod revenue;
pub mod subscription;
pub mod time;
pub mod usage;

pub use catalogue::{Catalogue, CatalogueFault, PastDue, Tier, TierEvidence, TierId};
pub use currency::Currency;
pub use decimal::{Decimal, DecimalError};
pub use entry::{Entry, Fact, Moved, Pack, PeriodRule, PlanChange, Terms};
pub use money::{Money, MoneyError};
pub use subscription::{Status, Subscription};
pub use time::Window;
pub use usage::{Credits, Quantity};
