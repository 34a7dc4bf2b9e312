//! One item of a subscription: a price, how many of it, and for which period.

use std::collections::BTreeMap;

use billing::subscription::{Interval, Item, Pricing, Recurrence};
use billing::{Currency, Decimal};
use serde_json::Value;

use super::coupon::{Found, discounts};
use super::price::Price;
use super::{ReadError, Resolve, fields, parse};

/// An item as a list of its own sends it.
#[derive(Clone, Debug)]
pub struct SubscriptionItem {
    pub id: String,
    pub subscription: Option<String>,
    pub core: Item,
    /// The metadata of the product, where it is known.
    pub product_metadata: Option<BTreeMap<String, String>>,
    pub coupon_ids_unresolved: Vec<String>,
    pub discount_ids_unresolved: Vec<String>,
    pub metadata: BTreeMap<String, String>,
    pub deleted: bool,
}

/// Reads a subscription item.
///
/// # Errors
/// When there is no id.
pub fn subscription_item(raw: &str, resolve: &dyn Resolve) -> Result<SubscriptionItem, ReadError> {
    let (id, value) = parse(raw)?;
    Ok(of(id, &value, None, resolve))
}

/// `currency` is the subscription's: a price may be kept in another one and have options in this.
pub(super) fn of(id: String, value: &Value, currency: Option<Currency>, resolve: &dyn Resolve) -> SubscriptionItem {
    let price = price(value, resolve);
    let metadata = price.product_metadata.clone();
    let product_metadata = metadata.or_else(|| resolve.product_metadata(price.product.as_deref()?));
    let core = core(id.clone(), value, price, currency);
    let Found { discounts, coupon_ids, discount_ids } = discounts(value, Some(core.currency), resolve);
    SubscriptionItem {
        id,
        subscription: fields::reference(&value["subscription"]),
        core: Item { discounts, ..core },
        product_metadata,
        coupon_ids_unresolved: coupon_ids,
        discount_ids_unresolved: discount_ids,
        metadata: fields::metadata(&value["metadata"]),
        deleted: fields::flag(&value["deleted"]),
    }
}

fn core(id: String, value: &Value, price: Price, wanted: Option<Currency>) -> Item {
    let (currency, pricing) = priced(&price, wanted);
    let quantity = quantity(value);
    // Of what has no currency, no interval or no readable quantity we cannot say what it costs: unknown, never a guess.
    let known = currency.is_some() && price.recurrence.is_some() && quantity.is_some();
    Item {
        id,
        price: price.id,
        product: price.product,
        currency: currency.unwrap_or(Currency::USD),
        metered: price.metered,
        pricing: if known { pricing } else { Pricing::Unknown },
        quantity: quantity.unwrap_or(Decimal::from_i64(1)),
        transform: price.transform,
        recurrence: price.recurrence.unwrap_or(Recurrence { interval: Interval::Month, count: 1 }),
        period: fields::window(&value["current_period_start"], &value["current_period_end"]),
        discounts: Vec::new(),
    }
}

/// `price` wins over `plan` where both are there; what was left out (tiers) comes from what is known.
fn price(item: &Value, resolve: &dyn Resolve) -> Price {
    let mut accounts = Vec::new();
    for place in [&item["price"], &item["plan"]] {
        let Some(id) = fields::reference(place) else { continue };
        accounts.push(if place.is_object() { Price::of(id, place) } else { Price::named(id) });
    }
    let mut accounts = accounts.into_iter();
    let Some(first) = accounts.next() else { return Price::named(String::new()) };
    let price = accounts.fold(first, |price, plan| price.or(&plan));
    match resolve.price(&price.id) {
        Some(known) => price.or(&known),
        None => price,
    }
}

/// Currency and price in the subscription's currency; a price that has no option in it is unknown there.
fn priced(price: &Price, wanted: Option<Currency>) -> (Option<Currency>, Pricing) {
    match (wanted, price.currency) {
        (Some(wanted), Some(own)) if wanted != own => {
            (Some(wanted), price.pricing_in.get(&wanted).cloned().unwrap_or(Pricing::Unknown))
        }
        (wanted, own) => (own.or(wanted), price.pricing.clone()),
    }
}

/// Stripe's own default is one. `quantity_decimal` since dahlia.
fn quantity(item: &Value) -> Option<Decimal> {
    let places = [&item["quantity_decimal"], &item["quantity"]];
    match places.into_iter().find(|quantity| !quantity.is_null()) {
        None => Some(Decimal::from_i64(1)),
        Some(quantity) => fields::decimal(quantity),
    }
}
