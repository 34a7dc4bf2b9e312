//! Subscription items: they live in their subscription, and the billing periods live in them.

use super::{Answer, Call, Reply, currencies, named, plans, prices, tax_rates};
use crate::calendar::{Recurrence, period};
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::params::{Field, Params, Spec, opt, req};
use crate::world::{World, array};
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) const LIST: &[Field] = &[req("subscription", Spec::Text)];

const PRICE_DATA: &[Field] = &[
    req("currency", Spec::Text),
    req("product", Spec::Text),
    req("recurring", Spec::Hash(PRICE_DATA_RECURRING)),
    opt("tax_behavior", Spec::Ignored),
    opt("unit_amount", Spec::Int(0, prices::AMOUNT_MAX)),
    opt("unit_amount_decimal", Spec::Decimal),
];

const PRICE_DATA_RECURRING: &[Field] =
    &[req("interval", Spec::OneOf(prices::INTERVALS)), opt("interval_count", Spec::Int(1, 1095))];

const RATES: Spec = Spec::ClearableList(&Spec::Text);

/// An item of a new subscription.
pub(crate) const ITEM: &[Field] = &[
    opt("billing_thresholds", Spec::Unsupported),
    opt("discounts", Spec::Unsupported),
    opt("metadata", Spec::Metadata),
    opt("plan", Spec::Text),
    opt("price", Spec::Text),
    opt("price_data", Spec::Hash(PRICE_DATA)),
    opt("quantity", Spec::Int(0, 1_000_000_000)),
    opt("tax_rates", RATES),
];

/// An item that is added, changed or removed.
pub(crate) const ITEM_UPDATE: &[Field] = &[
    opt("clear_usage", Spec::Ignored),
    opt("deleted", Spec::Bool),
    opt("id", Spec::Text),
    opt("metadata", Spec::Metadata),
    opt("plan", Spec::Text),
    opt("price", Spec::Text),
    opt("price_data", Spec::Hash(PRICE_DATA)),
    opt("quantity", Spec::Int(0, 1_000_000_000)),
    opt("tax_rates", RATES),
];

const CHANGE: &[Field] = &[
    opt("metadata", Spec::Metadata),
    opt("off_session", Spec::Ignored),
    opt("payment_behavior", Spec::Text),
    opt("plan", Spec::Text),
    opt("price", Spec::Text),
    opt("price_data", Spec::Hash(PRICE_DATA)),
    opt("proration_behavior", Spec::OneOf(&["always_invoice", "create_prorations", "none"])),
    opt("proration_date", Spec::Time),
    opt("quantity", Spec::Int(0, 1_000_000_000)),
    opt("tax_rates", RATES),
];
pub(crate) const CREATE: &[&[Field]] = &[CHANGE, &[req("subscription", Spec::Text)]];
pub(crate) const UPDATE: &[&[Field]] = &[CHANGE];
pub(crate) const DELETE: &[Field] = &[
    opt("clear_usage", Spec::Ignored),
    opt("payment_behavior", Spec::Text),
    opt("proration_behavior", Spec::OneOf(&["always_invoice", "create_prorations", "none"])),
    opt("proration_date", Spec::Time),
];

/// The same change said to the subscription: an item has no life of its own.
fn through(world: &mut World, call: &Call<'_>, subscription: &str, mut item: Value) -> Answer {
    let mut asked = json!({});
    for name in ["off_session", "payment_behavior", "proration_behavior", "proration_date"] {
        if let Some(value) = call.params.get(name) {
            asked[name] = value.clone();
        }
    }
    for name in ["metadata", "plan", "price", "price_data", "quantity", "tax_rates"] {
        if let Some(value) = call.params.get(name) {
            item[name] = value.clone();
        }
    }
    asked["items"] = json!([item]);
    let change = call.about("subscription", vec![subscription], Params::over(&asked));
    super::subscription_changes::update(world, &change)
}

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let subscription = call.params.need("subscription")?.to_owned();
    named(&world.store, Kind::Subscription, &subscription, "subscription")?;
    through(world, call, &subscription, json!({}))?;
    let after = named(&world.store, Kind::Subscription, &subscription, "subscription")?;
    let made = array(&after["items"]["data"]).last().cloned().unwrap_or_default();
    Ok(Reply::One(Arc::new(made)))
}

fn owner(world: &World, id: &str) -> Result<String, StripeError> {
    let owner = world.store.newest(Kind::Subscription, Index::Item, id);
    let owner = owner.and_then(|subscription| subscription["id"].as_str().map(str::to_owned));
    owner.ok_or_else(|| StripeError::not_found("subscription_item", id, "item"))
}

pub(crate) fn update(world: &mut World, call: &Call<'_>) -> Answer {
    let subscription = owner(world, call.id())?;
    through(world, call, &subscription, json!({"id": call.id()}))?;
    one(world, call)
}

pub(crate) fn delete(world: &mut World, call: &Call<'_>) -> Answer {
    let subscription = owner(world, call.id())?;
    through(world, call, &subscription, json!({"id": call.id(), "deleted": true}))?;
    Ok(Reply::One(Arc::new(json!({"id": call.id(), "object": "subscription_item", "deleted": true}))))
}

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    let subscription = named(&world.store, Kind::Subscription, call.params.need("subscription")?, "subscription")?;
    let items = array(&subscription["items"]["data"]).iter().map(|item| Arc::new(item.clone()));
    super::in_place(call, "subscription_item", items.collect())
}

pub(crate) fn one(world: &World, call: &Call<'_>) -> Answer {
    let missing = || StripeError::not_found("subscription_item", call.id(), "item");
    let subscription = world.store.newest(Kind::Subscription, Index::Item, call.id()).ok_or_else(missing)?;
    let item = array(&subscription["items"]["data"]).iter().find(|item| item["id"] == call.id());
    item.map(|item| Reply::One(Arc::new(item.clone()))).ok_or_else(missing)
}

/// One item; a metered price has no quantity.
pub(crate) fn object(id: &str, subscription: &str, price: &Value, quantity: i64, created: i64) -> Value {
    let mut item = json!({
        "id": id,
        "object": "subscription_item",
        "billed_until": null,
        "billing_thresholds": null,
        "created": created,
        "current_period_end": created,
        "current_period_start": created,
        "discounts": [],
        "metadata": {},
        "plan": plans::object(price),
        "price": prices::shown(price),
        "quantity": quantity,
        "subscription": subscription,
        "tax_rates": []
    });
    if let (true, Some(members)) = (price["recurring"]["usage_type"] == "metered", item.as_object_mut()) {
        members.remove("quantity");
    }
    item
}

pub(crate) fn recurrence(price: &Value) -> Recurrence<'_> {
    Recurrence {
        interval: price["recurring"]["interval"].as_str().unwrap_or("month"),
        count: price["recurring"]["interval_count"].as_i64().unwrap_or(1),
    }
}

/// The billing period that counts for the whole: the latest start and the earliest end, as Stripe's own filters say.
pub(crate) fn current_period(items: &Value) -> (Option<i64>, Option<i64>) {
    let items = array(&items["data"]);
    let start = items.iter().filter_map(|item| item["current_period_start"].as_i64()).max();
    let end = items.iter().filter_map(|item| item["current_period_end"].as_i64()).min();
    (start, end)
}

/// Sets the period of every item to the one that `at` lies in, or to the trial.
pub(crate) fn set_periods(subscription: &mut Value, at: i64) {
    let anchor = subscription["billing_cycle_anchor"].as_i64().unwrap_or(at);
    let trial = match (subscription["trial_start"].as_i64(), subscription["trial_end"].as_i64()) {
        (Some(start), Some(end)) if at < end => Some((start, end)),
        _ => None,
    };
    for item in subscription["items"]["data"].as_array_mut().into_iter().flatten() {
        match trial {
            Some((start, end)) => {
                item["current_period_start"] = json!(start);
                item["current_period_end"] = json!(end);
            }
            None => set_period(item, anchor, at),
        }
    }
}

/// Sets the period of one item to the one that `at` lies in.
pub(crate) fn set_period(item: &mut Value, anchor: i64, at: i64) {
    let found = period(anchor, recurrence(&item["price"]), at);
    item["current_period_start"] = json!(found.start);
    item["current_period_end"] = json!(found.end);
}

/// All that can be wrong with items, before anything is made.
pub(crate) fn check_items(world: &World, items: &[Value]) -> Result<(), StripeError> {
    if items.is_empty() {
        return Err(StripeError::missing("items"));
    }
    if items.len() > 20 {
        return Err(StripeError::invalid("A subscription can have at most 20 items.").param("items"));
    }
    let mut currency: Option<String> = None;
    for (place, item) in items.iter().enumerate() {
        let found = match item["price"].as_str().or(item["plan"].as_str()) {
            Some(id) => {
                let price = usable_price(world, id, &format!("items[{place}][price]"))?;
                price["currency"].as_str().unwrap_or_default().to_owned()
            }
            None if item["price_data"].is_object() => {
                let product = item["price_data"]["product"].as_str().unwrap_or_default();
                named(&world.store, Kind::Product, product, &format!("items[{place}][price_data][product]"))?;
                currencies::parse(item["price_data"]["currency"].as_str().unwrap_or_default())?
            }
            None => return Err(StripeError::missing(&format!("items[{place}][price]"))),
        };
        if currency.get_or_insert_with(|| found.clone()) != &found {
            let text = "You cannot combine currencies on a single subscription. Make sure all of its prices have the same currency.";
            return Err(StripeError::invalid(text));
        }
    }
    Ok(())
}

fn usable_price(world: &World, id: &str, param: &str) -> Result<Arc<Value>, StripeError> {
    let price = named(&world.store, Kind::Price, id, param)?;
    if price["type"] != "recurring" {
        let text =
            "The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`.";
        return Err(StripeError::invalid(text).param(param));
    }
    if price["active"] != true {
        let text = "The price specified is inactive. This field only accepts active prices.";
        return Err(StripeError::invalid(text).param(param));
    }
    Ok(price)
}

pub(crate) fn new_items(world: &mut World, subscription: &str, items: &[Value]) -> Result<Vec<Value>, StripeError> {
    items.iter().map(|asked| new_item(world, subscription, asked)).collect()
}

fn new_item(world: &mut World, subscription: &str, asked: &Value) -> Result<Value, StripeError> {
    let price = if let Some(id) = asked["price"].as_str().or(asked["plan"].as_str()) {
        (*usable_price(world, id, "price")?).clone()
    } else {
        let product = asked["price_data"]["product"].as_str().unwrap_or_default();
        prices::from_data(world, &asked["price_data"], product)?
    };
    let id = world.id("si");
    let mut made = object(&id, subscription, &price, asked["quantity"].as_i64().unwrap_or(1), world.now);
    Params::over(asked).merge_metadata(&mut made);
    tax_rates::take(&world.store, &mut made, "tax_rates", &Params::over(asked))?;
    Ok(made)
}

/// Adds, changes and removes items as asked.
pub(crate) fn change_items(world: &mut World, subscription: &mut Value, asked: &[Value]) -> Result<(), StripeError> {
    let id = subscription["id"].as_str().unwrap_or_default().to_owned();
    let mut items = array(&subscription["items"]["data"]).to_vec();
    for (place, change) in asked.iter().enumerate() {
        let Some(item_id) = change["id"].as_str() else {
            check_items(world, std::slice::from_ref(change))?;
            items.push(new_item(world, &id, change)?);
            continue;
        };
        let missing = || StripeError::no_such("subscription_item", item_id, &format!("items[{place}][id]"));
        let at = items.iter().position(|item| item["id"] == item_id).ok_or_else(missing)?;
        if change["deleted"] == true {
            items.remove(at);
            continue;
        }
        if let Some(price) = change["price"].as_str().or(change["plan"].as_str()) {
            let price = usable_price(world, price, &format!("items[{place}][price]"))?;
            items[at]["price"] = prices::shown(&price);
            items[at]["plan"] = plans::object(&price);
        }
        Params::over(change).assign(&mut items[at], &["quantity"]);
        Params::over(change).merge_metadata(&mut items[at]);
        tax_rates::take(&world.store, &mut items[at], "tax_rates", &Params::over(change))?;
    }
    if items.is_empty() {
        return Err(StripeError::invalid("A subscription must have at least one active item.").param("items"));
    }
    if items.iter().any(|item| item["price"]["currency"] != subscription["currency"]) {
        return Err(StripeError::invalid("You cannot combine currencies on a single subscription."));
    }
    subscription["items"]["data"] = Value::Array(items);
    if !asked.is_empty() {
        set_periods(subscription, world.now);
    }
    Ok(())
}
