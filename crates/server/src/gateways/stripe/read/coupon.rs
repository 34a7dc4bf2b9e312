//! Coupons, and the discounts by which they hang on customers, subscriptions and items.

use std::collections::{BTreeMap, BTreeSet};

use billing::subscription::{Discount, DiscountAmount, Duration};
use billing::{Currency, Decimal, Money};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde_json::Value;

use super::{ReadError, Resolve, fields, parse};

/// A coupon, or what is left of a deleted one.
#[derive(Clone, Debug)]
pub struct Coupon {
    pub id: String,
    pub name: Option<String>,
    pub percent_off: Option<Decimal>,
    /// In each currency for which the coupon takes an amount off, the minor units.
    pub amount_off_minor: BTreeMap<Currency, i64>,
    pub currency: Option<Currency>,
    pub duration: CouponDuration,
    /// The products it is limited to; none: all of them.
    pub products: Option<Vec<String>>,
    /// Whether `products` was sent at all: Stripe leaves it out unless it is expanded.
    pub products_known: bool,
    pub metadata: BTreeMap<String, String>,
    pub deleted: bool,
}

/// How long a coupon takes off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CouponDuration {
    Once,
    Forever,
    /// For so many months; none where the number was not sent.
    Repeating {
        months: Option<i64>,
    },
    /// A word that we do not know, as it was sent.
    Other(String),
}

/// The discounts of an object, and the ids of those of which too little was sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub discounts: Vec<Discount>,
    pub coupon_ids: Vec<String>,
    pub discount_ids: Vec<String>,
}

/// Reads a coupon.
///
/// # Errors
/// When there is no id.
pub fn coupon(raw: &str) -> Result<Coupon, ReadError> {
    let (id, value) = parse(raw)?;
    Ok(Coupon::of(id, &value))
}

impl Coupon {
    fn of(id: String, value: &Value) -> Coupon {
        let currency = fields::currency(&value["currency"]);
        let options = value["currency_options"].as_object().into_iter().flatten();
        let option = |(code, option): (&String, &Value)| {
            Some((Currency::parse(&code.to_ascii_lowercase()).ok()?, fields::whole(&option["amount_off"])?))
        };
        let own = currency.zip(fields::whole(&value["amount_off"]));
        Coupon {
            id,
            name: fields::text(&value["name"]),
            percent_off: fields::decimal(&value["percent_off"]),
            amount_off_minor: options.filter_map(option).chain(own).collect(),
            currency,
            duration: duration(value),
            products: value["applies_to"]["products"]
                .as_array()
                .map(|ids| ids.iter().filter_map(fields::reference).collect()),
            products_known: value.get("applies_to").is_some(),
            metadata: fields::metadata(&value["metadata"]),
            deleted: fields::flag(&value["deleted"]),
        }
    }

    /// What it takes off in this currency; none where it says nothing that we understand.
    fn amount(&self, currency: Option<Currency>) -> Option<DiscountAmount> {
        if let Some(percent) = self.percent_off {
            return Some(DiscountAmount::Percent(percent));
        }
        let currency = currency.filter(|currency| self.amount_off_minor.contains_key(currency)).or(self.currency)?;
        let minor = *self.amount_off_minor.get(&currency)?;
        Some(DiscountAmount::Off(Money::new(minor, currency)))
    }
}

fn duration(value: &Value) -> CouponDuration {
    match value["duration"].as_str().unwrap_or_default() {
        "once" => CouponDuration::Once,
        "forever" => CouponDuration::Forever,
        "repeating" => CouponDuration::Repeating { months: fields::whole(&value["duration_in_months"]) },
        other => CouponDuration::Other(other.to_owned()),
    }
}

/// The discounts of a customer, a subscription or an item: `discounts[]` and the one `discount` of before, each once.
pub(super) fn discounts(holder: &Value, currency: Option<Currency>, resolve: &dyn Resolve) -> Found {
    let many = fields::list(&holder["discounts"]);
    let one = &holder["discount"];
    let expanded: BTreeSet<&str> = many.iter().filter_map(|discount| discount["id"].as_str()).collect();
    // With `discounts` the old `discount` repeats its first; without an id only an empty `discounts` lets it count.
    let repeated = one["id"].as_str().map_or(!many.is_empty(), |id| expanded.contains(id));
    let one = one.is_object() && !repeated;
    let one = one.then_some(&holder["discount"]);

    let mut found = Found::default();
    for discount in many.iter().chain(one).filter(|discount| !fields::flag(&discount["deleted"])) {
        if discount.is_object() {
            found.add(discount, currency, resolve);
        }
    }
    let shown = |id: &str| one.is_some_and(|discount| discount["id"] == *id);
    let named = many.iter().filter_map(Value::as_str).filter(|id| !shown(id));
    found.discount_ids.extend(named.map(str::to_owned));
    found
}

impl Found {
    pub fn absorb(&mut self, other: Found) {
        self.coupon_ids.extend(other.coupon_ids);
        self.discount_ids.extend(other.discount_ids);
    }

    fn add(&mut self, discount: &Value, currency: Option<Currency>, resolve: &dyn Resolve) {
        // `source.coupon` since 2025-09-30.clover, an object or only its id in either place.
        let places = [&discount["source"]["coupon"], &discount["coupon"]];
        let Some(place) = places.into_iter().find(|coupon| !coupon.is_null()) else {
            self.discount_ids.extend(fields::text(&discount["id"]));
            return;
        };
        let Some(id) = fields::reference(place) else { return };
        let read = known(place, &id, resolve).and_then(|coupon| read(discount, &coupon, currency));
        match read {
            Some(discount) => self.discounts.push(discount),
            None => self.coupon_ids.push(id),
        }
    }
}

/// The coupon as it was sent; what was left out of it comes from what is known.
fn known(place: &Value, id: &str, resolve: &dyn Resolve) -> Option<Coupon> {
    // Of a deleted coupon only the fact may be left, and it still takes off where it was applied.
    if !place.is_object() || fields::flag(&place["deleted"]) && place["duration"].is_null() {
        return resolve.coupon(id);
    }
    let mut coupon = Coupon::of(id.to_owned(), place);
    if !coupon.products_known
        && let Some(known) = resolve.coupon(id)
    {
        coupon.products = known.products;
        coupon.products_known = known.products_known;
    }
    Some(coupon)
}

fn read(discount: &Value, coupon: &Coupon, currency: Option<Currency>) -> Option<Discount> {
    let start = fields::instant(&discount["start"]);
    let end = fields::instant(&discount["end"]);
    let (duration, end) = match coupon.duration {
        CouponDuration::Once => (Duration::Once, end),
        CouponDuration::Forever => (Duration::Forever, end),
        CouponDuration::Repeating { months } => (Duration::Repeating, end.or_else(|| months_later(start?, months?))),
        CouponDuration::Other(_) => return None,
    };
    Some(Discount { amount: coupon.amount(currency)?, duration, start, end, products: coupon.products.clone() })
}

fn months_later(start: Timestamp, months: i64) -> Option<Timestamp> {
    let span = Span::new().try_months(months).ok()?;
    Some(start.to_zoned(TimeZone::UTC).checked_add(span).ok()?.timestamp())
}
