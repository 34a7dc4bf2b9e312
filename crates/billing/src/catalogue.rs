//! The tier catalogue: what the operator sells, what it includes, and which tier a subscription is of.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::currency::Currency;
use crate::money::Money;
use crate::usage::{Credits, Quantity};

mod file;

/// The event types that every catalogue has.
pub const EVENT_TYPES: [&str; 4] = ["inference", "embedding", "tts", "stt"];
/// The name of the tier that nothing is known about; no tier of a catalogue may be called so.
pub const UNKNOWN: &str = "unknown";
/// Where a subscription's or a product's metadata may name its tier, in order.
const METADATA_KEYS: [&str; 3] = ["tier", "tier_id", "tier_name"];

/// Everything the operator decides about tiers, prices and credits.
#[derive(Debug, Clone, PartialEq)]
pub struct Catalogue {
    /// Of all its prices.
    pub currency: Currency,
    /// For calendar months and days, where no subscription gives a period.
    pub time_zone: TimeZone,
    /// Whether past due subscriptions count as revenue.
    pub past_due: PastDue,
    /// What becomes of the running period's credits when a user changes their tier in it.
    pub plan_change: TierChange,
    /// By name; the four of [`EVENT_TYPES`] always among them.
    pub events: BTreeMap<Arc<str>, EventType>,
    /// In the order of the file.
    pub tiers: Vec<Tier>,
    /// The text that it was read from, to be kept beside what is derived from it.
    pub text: Arc<str>,
}

/// Whether past due subscriptions count as revenue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PastDue {
    /// Until Stripe gives up on them.
    Count,
    /// Never. They are still counted as subscriptions.
    Exclude,
}

/// What becomes of the running period's credits when a user changes their tier in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TierChange {
    /// The new tier's take the place of the old one's.
    KeepUsed,
    /// Each tier gives its share of the period.
    Prorate,
}

/// One type of usage event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventType {
    /// Credits for one unit of quantity.
    pub credits: Credits,
    /// The billable metric at Lago.
    pub lago_code: String,
}

/// One tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tier {
    /// Its id, in lower case.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// A month.
    pub price: Money,
    /// Prices at Stripe that sell it.
    pub stripe_prices: Vec<String>,
    /// Credits of each credit period.
    pub included_credits: Credits,
    /// Of 1,000 credits beyond the included ones.
    pub price_per_1k: Money,
    /// What happens beyond the included credits.
    pub overage: Overage,
    /// The most credits beyond the included ones; none: no limit.
    pub overage_cap: Option<Credits>,
    /// Limits by event type.
    pub limits: BTreeMap<String, Limit>,
    /// For so many days it entitles whoever has it without a subscription; none: for ever.
    pub trial_days: Option<u16>,
}

/// What happens beyond the included credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overage {
    /// It goes on, and is billed.
    Bill,
    /// It stops.
    Block,
}

/// Hard limits of one event type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// In a local day.
    pub per_day: Option<Quantity>,
    /// In a credit period.
    pub per_month: Option<Quantity>,
    /// In any minute.
    pub per_minute: Option<Quantity>,
    /// What holds when it cannot be decided.
    pub when_unknown: WhenUnknown,
}

/// What holds when a limit cannot be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenUnknown {
    /// It is let through.
    Open,
    /// It is refused.
    Closed,
}

/// One thing that is wrong with a catalogue file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueFault {
    /// Where: `tiers.professional.price`; empty where the text is not TOML.
    pub path: String,
    /// What, in words.
    pub problem: String,
    /// The line of the file, from 1.
    pub line: usize,
}

impl fmt::Display for CatalogueFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.path.is_empty() { "" } else { ": " };
        write!(f, "line {}: {}{colon}{}", self.line, self.path, self.problem)
    }
}

impl std::error::Error for CatalogueFault {}

/// What is known about a subscription's tier.
#[derive(Debug, Clone, Copy)]
pub struct TierEvidence<'a> {
    /// Price ids of its items.
    pub prices: &'a [&'a str],
    /// Its own metadata.
    pub subscription: &'a BTreeMap<String, String>,
    /// The metadata of its items' products.
    pub products: &'a [BTreeMap<String, String>],
}

/// The tier of a subscription, or that it is not known. There is no default: an unknown tier is no trial.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TierId {
    /// A tier of the catalogue.
    Known(String),
    /// None of them.
    Unknown,
}

impl TierId {
    /// The tier's id, or `unknown`.
    pub fn as_str(&self) -> &str {
        match self {
            TierId::Known(id) => id,
            TierId::Unknown => UNKNOWN,
        }
    }
}

impl fmt::Display for TierId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Catalogue {
    /// The catalogue that holds where the operator gives none.
    #[allow(clippy::expect_used, reason = "the file is part of the program and a test reads it")]
    pub fn built_in() -> Catalogue {
        Catalogue::parse(Catalogue::BUILT_IN).expect("the built-in catalogue is well-formed")
    }

    /// The text of the built-in catalogue, for people to copy and change.
    pub const BUILT_IN: &'static str = include_str!("catalogue/built_in.toml");

    /// Reads a catalogue. Everything that is wrong with it is said at once, each fault with its path and line.
    pub fn parse(toml: &str) -> Result<Catalogue, Vec<CatalogueFault>> {
        file::read(toml)
    }

    /// A tier by its id.
    pub fn tier(&self, id: &str) -> Option<&Tier> {
        self.tiers.iter().find(|tier| tier.id == id)
    }

    /// The tier of a subscription: by a price id of the catalogue (S-28; the most expensive tier when several match), else
    /// by the subscription's metadata, else by its products'. Metadata counts where it names a tier of the catalogue.
    pub fn tier_of(&self, evidence: &TierEvidence<'_>) -> TierId {
        let sold = |tier: &&Tier| tier.stripe_prices.iter().any(|price| evidence.prices.contains(&price.as_str()));
        let by_price = || most_expensive(self.tiers.iter().filter(sold));
        let by_metadata = || self.named_in(evidence.subscription);
        let by_product = || most_expensive(evidence.products.iter().filter_map(|product| self.named_in(product)));
        let tier = by_price().or_else(by_metadata).or_else(by_product);
        tier.map_or(TierId::Unknown, |tier| TierId::Known(tier.id.clone()))
    }

    fn named_in(&self, metadata: &BTreeMap<String, String>) -> Option<&Tier> {
        METADATA_KEYS.iter().filter_map(|key| metadata.get(*key)).find_map(|value| self.named(value.trim()))
    }

    /// By id before by name, whatever the case.
    fn named(&self, word: &str) -> Option<&Tier> {
        let by_id = self.tiers.iter().find(|tier| tier.id.eq_ignore_ascii_case(word));
        by_id.or_else(|| self.tiers.iter().find(|tier| tier.name.to_lowercase() == word.to_lowercase()))
    }

    /// Sixteen hex digits that are the same for the same catalogue, on every machine and in every run: whatever was
    /// derived from a catalogue of another fingerprint has to be derived again.
    pub fn fingerprint(&self) -> String {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64; // FNV-1a
        for byte in self.canonical().bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        format!("{hash:016x}")
    }

    /// Every decision in one text, in a fixed order, with strings quoted so that no two catalogues share it.
    fn canonical(&self) -> String {
        let zone = self.time_zone.iana_name().unwrap_or_default();
        // What is as it was before there were words for it adds nothing: an update of the program is no other catalogue.
        let change = match self.plan_change {
            TierChange::KeepUsed => "",
            TierChange::Prorate => " Prorate",
        };
        let head = format!("{} {zone} {:?}{change}", self.currency, self.past_due);
        let events = self.events.iter().map(|(name, event)| format!("{name:?} {event:?}"));
        let tiers = self.tiers.iter().map(|tier| {
            let text = format!("{tier:?}");
            text.strip_suffix(", trial_days: None }").map(|head| format!("{head} }}")).unwrap_or(text)
        });
        std::iter::once(head).chain(events).chain(tiers).collect::<Vec<_>>().join("\n")
    }
}

/// The most expensive; the later one of equals, which stands higher in the file's order.
fn most_expensive<'a>(tiers: impl Iterator<Item = &'a Tier>) -> Option<&'a Tier> {
    tiers.max_by_key(|tier| tier.price.minor())
}
