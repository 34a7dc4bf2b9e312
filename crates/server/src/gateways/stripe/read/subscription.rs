//! A subscription with its items and discounts, in the shapes before and after 2025-03-31.basil.

use std::collections::BTreeMap;

use billing::Currency;
use billing::subscription::{Status, Subscription as Core, period};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::coupon::{Found, discounts};
use super::item::{self, SubscriptionItem};
use super::{ReadError, Resolve, fields, parse};

/// A subscription: what the core decides by, and what only the mirror and the API need.
#[derive(Clone, Debug)]
pub struct Subscription {
    pub id: String,
    pub customer: Option<String>,
    pub core: Core,
    /// Stripe embeds the first items only: the rest has to be read from their own list.
    pub items_incomplete: bool,
    /// Coupons that were only named, or that we do not understand: the value is too high by what they take off.
    pub coupon_ids_unresolved: Vec<String>,
    /// Discounts that were only named: read the subscription again with `expand[]=discounts`.
    pub discount_ids_unresolved: Vec<String>,
    pub metadata: BTreeMap<String, String>,
    /// The metadata of the items' products, where it is known, in the order of the items.
    pub product_metadata: Vec<BTreeMap<String, String>>,
    pub currency: Option<Currency>,
    pub latest_invoice: Option<String>,
    pub default_payment_method: Option<String>,
    pub trial_start: Option<Timestamp>,
    pub trial_end: Option<Timestamp>,
    pub start_date: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub canceled_at: Option<Timestamp>,
    pub cancel_at: Option<Timestamp>,
    pub billing_cycle_anchor: Option<Timestamp>,
    pub livemode: Option<bool>,
}

/// Reads a subscription.
///
/// # Errors
/// When there is no id.
pub fn subscription(raw: &str, resolve: &dyn Resolve) -> Result<Subscription, ReadError> {
    subscription_in(&parse(raw)?.1, resolve)
}

/// The same of an object that was read as JSON before.
///
/// # Errors
/// When there is no id.
pub fn subscription_in(value: &Value, resolve: &dyn Resolve) -> Result<Subscription, ReadError> {
    let id = fields::text(&value["id"]).ok_or(ReadError::NoId)?;
    let (items, incomplete) = embedded(&id, value);
    Ok(of(id, value, &items, incomplete, resolve))
}

/// Reads a subscription whose items were read from their own list, all of them.
///
/// # Errors
/// When there is no id, in the subscription or in an item.
pub fn subscription_with_items(raw: &str, items: &[&str], resolve: &dyn Resolve) -> Result<Subscription, ReadError> {
    let (id, value) = parse(raw)?;
    let items = items.iter().map(|raw| parse(raw)).collect::<Result<Vec<_>, _>>()?;
    Ok(of(id, &value, &items, false, resolve))
}

fn of(id: String, value: &Value, items: &[(String, Value)], incomplete: bool, resolve: &dyn Resolve) -> Subscription {
    let currency = fields::currency(&value["currency"]);
    let items = items.iter().map(|(id, value)| item::of(id.clone(), value, currency, resolve));
    let items: Vec<SubscriptionItem> = items.filter(|item| !item.deleted).collect();
    let currency = currency.or_else(|| items.first().map(|item| item.core.currency));
    let mut found = discounts(value, currency, resolve);
    for item in &items {
        let (coupon_ids, discount_ids) = (item.coupon_ids_unresolved.clone(), item.discount_ids_unresolved.clone());
        found.absorb(Found { discounts: Vec::new(), coupon_ids, discount_ids });
    }
    Subscription {
        customer: fields::holder(value),
        items_incomplete: incomplete,
        coupon_ids_unresolved: found.coupon_ids,
        discount_ids_unresolved: found.discount_ids,
        metadata: fields::metadata(&value["metadata"]),
        product_metadata: items.iter().filter_map(|item| item.product_metadata.clone()).collect(),
        currency,
        latest_invoice: fields::reference(&value["latest_invoice"]),
        default_payment_method: fields::reference(&value["default_payment_method"])
            .or_else(|| fields::reference(&value["default_source"])),
        trial_start: fields::instant(&value["trial_start"]),
        trial_end: fields::instant(&value["trial_end"]),
        start_date: fields::instant(&value["start_date"]),
        ended_at: fields::instant(&value["ended_at"]),
        canceled_at: fields::instant(&value["canceled_at"]),
        cancel_at: fields::instant(&value["cancel_at"]),
        billing_cycle_anchor: fields::instant(&value["billing_cycle_anchor"]),
        livemode: value["livemode"].as_bool(),
        core: core(id.clone(), value, items.into_iter().map(|item| item.core).collect(), found.discounts),
        id,
    }
}

fn core(
    id: String,
    value: &Value,
    items: Vec<billing::subscription::Item>,
    discounts: Vec<billing::subscription::Discount>,
) -> Core {
    // Who was created at no known time is the oldest of all and wins over nobody.
    let created = fields::instant(&value["created"]).or_else(|| fields::instant(&value["start_date"]));
    let mut core = Core {
        id,
        status: Status::parse(value["status"].as_str().unwrap_or("unknown")),
        created: created.unwrap_or(Timestamp::UNIX_EPOCH),
        items,
        discounts,
        cancel_at_period_end: false,
        paused_collection: value["pause_collection"].is_object(),
        period: fields::window(&value["current_period_start"], &value["current_period_end"]),
    };
    core.cancel_at_period_end = cancels_at_period_end(value, &core);
    core
}

/// The flag, or where the server does not send it: a cancellation set to the end of the period.
fn cancels_at_period_end(value: &Value, core: &Core) -> bool {
    value["cancel_at_period_end"].as_bool().unwrap_or_else(|| {
        let end = period(core).map(|period| period.end);
        end.is_some() && fields::instant(&value["cancel_at"]) == end
    })
}

/// The embedded items; before there were items, the one plan of the subscription itself.
fn embedded(id: &str, value: &Value) -> (Vec<(String, Value)>, bool) {
    let items = fields::list(&value["items"]);
    let named = items.iter().enumerate().map(|(index, item)| {
        // An item is not read by its id; one that has none must not cost us the subscription.
        (fields::text(&item["id"]).unwrap_or_else(|| format!("{id}#{index}")), item.clone())
    });
    if !items.is_empty() {
        return (named.collect(), fields::flag(&value["items"]["has_more"]));
    }
    if value["plan"].is_null() {
        return (Vec::new(), !value["items"].is_object() || fields::flag(&value["items"]["has_more"]));
    }
    let only = json!({ "plan": value["plan"], "quantity": value["quantity"] });
    (vec![(id.to_owned(), only)], false)
}
