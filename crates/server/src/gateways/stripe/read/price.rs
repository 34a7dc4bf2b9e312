//! A price, or the plan that it was called before 2020: the same thing under other names.

use std::collections::BTreeMap;

use billing::subscription::{Interval, Pricing, Recurrence, Step, TierMode, Transform};
use billing::{Currency, Decimal};
use jiff::Timestamp;
use serde_json::Value;

use super::{ReadError, fields, parse};

/// A price or a legacy plan.
#[derive(Clone, Debug)]
pub struct Price {
    pub id: String,
    pub product: Option<String>,
    /// The metadata of the product, where the product was expanded.
    pub product_metadata: Option<BTreeMap<String, String>>,
    pub currency: Option<Currency>,
    /// Unknown where Stripe did not send it: tiers only come when they are expanded.
    pub pricing: Pricing,
    /// The price in further currencies, where they were expanded.
    pub pricing_in: BTreeMap<Currency, Pricing>,
    /// None for a price that is paid once.
    pub recurrence: Option<Recurrence>,
    pub metered: bool,
    pub transform: Option<Transform>,
    pub active: Option<bool>,
    pub nickname: Option<String>,
    pub lookup_key: Option<String>,
    pub created: Option<Timestamp>,
    pub metadata: BTreeMap<String, String>,
    pub livemode: Option<bool>,
    pub deleted: bool,
}

/// Under which names the data stand.
struct Words<'a> {
    /// The object that holds interval, interval_count and usage_type.
    recurring: &'a Value,
    amount: [&'static str; 2],
    transform: &'static str,
}

/// Reads a price or a plan.
///
/// # Errors
/// When there is no id.
pub fn price(raw: &str) -> Result<Price, ReadError> {
    let (id, value) = parse(raw)?;
    Ok(Price::of(id, &value))
}

impl Price {
    /// A price of which nothing but the id is known.
    pub(super) fn named(id: String) -> Price {
        Price::of(id, &Value::Null)
    }

    pub(super) fn of(id: String, value: &Value) -> Price {
        let words = words(value);
        let transform = transform(&value[words.transform]);
        // A quantity that is to be divided by who knows what has no known price.
        let known = transform.is_ok();
        let pricing = |value: &Value| if known { pricing(value, words.amount) } else { Pricing::Unknown };
        let options = value["currency_options"].as_object().into_iter().flatten();
        let option = |(code, option): (&String, &Value)| {
            Some((Currency::parse(&code.to_ascii_lowercase()).ok()?, pricing(&with_mode(option, value))))
        };
        Price {
            id,
            product: fields::reference(&value["product"]),
            product_metadata: value["product"]["metadata"]
                .is_object()
                .then(|| fields::metadata(&value["product"]["metadata"])),
            currency: fields::currency(&value["currency"]),
            pricing: pricing(value),
            pricing_in: options.filter_map(option).collect(),
            recurrence: recurrence(words.recurring),
            metered: words.recurring["usage_type"] == "metered",
            transform: transform.unwrap_or(None),
            active: value["active"].as_bool(),
            nickname: fields::text(&value["nickname"]),
            lookup_key: fields::text(&value["lookup_key"]),
            created: fields::instant(&value["created"]),
            metadata: fields::metadata(&value["metadata"]),
            livemode: value["livemode"].as_bool(),
            deleted: fields::flag(&value["deleted"]),
        }
    }

    /// Fills what this price does not say from another account of the same price.
    pub(super) fn or(mut self, other: &Price) -> Price {
        if self.id != other.id {
            return self;
        }
        let same_currency = self.currency.is_none() || self.currency == other.currency;
        if matches!(self.pricing, Pricing::Unknown) && same_currency {
            self.pricing = other.pricing.clone();
            self.transform.clone_from(&other.transform);
        }
        if self.recurrence.is_none() {
            self.recurrence.clone_from(&other.recurrence);
            self.metered = other.metered;
        }
        if self.pricing_in.is_empty() {
            self.pricing_in.clone_from(&other.pricing_in);
        }
        self.currency = self.currency.or(other.currency);
        self.product = self.product.or_else(|| other.product.clone());
        self.product_metadata = self.product_metadata.or_else(|| other.product_metadata.clone());
        self
    }
}

fn words(value: &Value) -> Words<'_> {
    let plan = value["object"] == "plan" || (!value["recurring"].is_object() && value["interval"].is_string());
    if plan {
        Words { recurring: value, amount: ["amount_decimal", "amount"], transform: "transform_usage" }
    } else {
        let amount = ["unit_amount_decimal", "unit_amount"];
        Words { recurring: &value["recurring"], amount, transform: "transform_quantity" }
    }
}

/// A currency's option does not repeat how the tiers work.
fn with_mode(option: &Value, price: &Value) -> Value {
    let mut option = option.clone();
    if let Some(fields) = option.as_object_mut() {
        for name in ["billing_scheme", "tiers_mode"] {
            fields.insert(name.to_owned(), price[name].clone());
        }
    }
    option
}

fn recurrence(value: &Value) -> Option<Recurrence> {
    let interval = Interval::parse(value["interval"].as_str()?)?;
    let count = match &value["interval_count"] {
        Value::Null => 1,
        count => u32::try_from(fields::whole(count)?).ok().filter(|count| *count > 0)?,
    };
    Some(Recurrence { interval, count })
}

fn pricing(value: &Value, amount: [&str; 2]) -> Pricing {
    let known = if value["billing_scheme"] == "tiered" {
        tiers(value)
    } else {
        first(value, amount).map(|unit_minor| Pricing::PerUnit { unit_minor })
    };
    known.unwrap_or(Pricing::Unknown)
}

/// The exact one of the two forms wins. A malformed one is not replaced by the other: who knows which is right?
fn first(value: &Value, names: [&str; 2]) -> Option<Decimal> {
    names.into_iter().map(|name| &value[name]).find(|value| !value.is_null()).and_then(fields::decimal)
}

fn tiers(value: &Value) -> Option<Pricing> {
    let mode = match value["tiers_mode"].as_str()? {
        "graduated" => TierMode::Graduated,
        "volume" => TierMode::Volume,
        _ => return None,
    };
    let steps: Vec<Step> = value["tiers"].as_array()?.iter().map(step).collect::<Option<_>>()?;
    (!steps.is_empty()).then_some(Pricing::Tiered { mode, steps })
}

/// A tier has a price for each unit, a flat price, or both; one that has neither is unknown, not free.
fn step(value: &Value) -> Option<Step> {
    let up_to = match &value["up_to"] {
        Value::Null => None,
        Value::String(text) if text == "inf" => None,
        up_to => Some(u64::try_from(fields::whole(up_to)?).ok()?),
    };
    let amount = |names: [&str; 2]| {
        let absent = names.iter().all(|name| value[*name].is_null());
        if absent { Some(None) } else { first(value, names).map(Some) }
    };
    let unit = amount(["unit_amount_decimal", "unit_amount"])?;
    let unit = if unit.is_none() { amount(["amount_decimal", "amount"])? } else { unit };
    let flat = amount(["flat_amount_decimal", "flat_amount"])?;
    if unit.is_none() && flat.is_none() {
        return None;
    }
    let nought = Decimal::from_i64(0);
    Some(Step { up_to, unit_minor: unit.unwrap_or(nought), flat_minor: flat.unwrap_or(nought) })
}

fn transform(value: &Value) -> Result<Option<Transform>, ()> {
    if value.is_null() {
        return Ok(None);
    }
    let divide_by = fields::whole(&value["divide_by"]).and_then(|by| u64::try_from(by).ok()).filter(|by| *by > 0);
    let round_up = match value["round"].as_str() {
        Some("up") => true,
        Some("down") => false,
        _ => return Err(()),
    };
    divide_by.map(|divide_by| Some(Transform { divide_by, round_up })).ok_or(())
}
