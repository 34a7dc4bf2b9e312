//! The phases of a subscription schedule: from when until when, with which items, and how a subscription comes to be like one.

use super::subscription_items::{self as items, recurrence};
use super::{Call, Reply, added_items, discounts, find, subscription_changes, subscriptions, tax_rates};
use crate::calendar::{Recurrence, step};
use crate::error::StripeError;
use crate::kind::Kind;
use crate::params::{Field, Params, Spec, opt, req};
use crate::resources::prices;
use crate::version::CLOVER;
use crate::world::{World, array};
use serde_json::{Value, json};
use std::sync::Arc;

const ITEM: &[Field] = &[
    opt("billing_thresholds", Spec::Unsupported),
    opt("discounts", Spec::Unsupported),
    opt("metadata", Spec::Metadata),
    opt("plan", Spec::Text),
    opt("price", Spec::Text),
    opt("price_data", Spec::Unsupported),
    opt("quantity", Spec::Int(0, 1_000_000_000)),
    opt("tax_rates", Spec::ClearableList(&Spec::Text)),
];
const DURATION: &[Field] =
    &[req("interval", Spec::OneOf(prices::INTERVALS)), opt("interval_count", Spec::Int(1, 1095))];
const DISCOUNT: &[Field] =
    &[opt("coupon", Spec::Text), opt("discount", Spec::Unsupported), opt("promotion_code", Spec::Text)];

pub(super) const PHASE: &[Field] = &[
    req("items", Spec::List(&Spec::Hash(ITEM))),
    opt("add_invoice_items", added_items::ASKED),
    opt("application_fee_percent", Spec::Unsupported),
    opt("automatic_tax", Spec::Ignored),
    opt("billing_cycle_anchor", Spec::Unsupported),
    opt("billing_thresholds", Spec::Unsupported),
    opt("collection_method", Spec::OneOf(&["charge_automatically", "send_invoice"])),
    opt("currency", Spec::Text),
    opt("default_payment_method", Spec::Text),
    opt("default_tax_rates", Spec::ClearableList(&Spec::Text)),
    opt("description", Spec::Clearable),
    opt("discounts", Spec::ClearableList(&Spec::Hash(DISCOUNT))),
    opt("duration", Spec::Hash(DURATION)),
    opt("end_date", Spec::TimeOrNow),
    opt("invoice_settings", Spec::Unsupported),
    opt("iterations", Spec::Int(1, 1095)),
    opt("metadata", Spec::Metadata),
    opt("on_behalf_of", Spec::Unsupported),
    opt("proration_behavior", Spec::OneOf(&["always_invoice", "create_prorations", "none"])),
    opt("start_date", Spec::TimeOrNow),
    opt("transfer_data", Spec::Unsupported),
    opt("trial", Spec::Bool),
    opt("trial_end", Spec::TimeOrNow),
];

/// The phases that were asked for, one after the other from `start` on.
pub(super) fn written(world: &mut World, call: &Call<'_>, start: i64) -> Result<Vec<Value>, StripeError> {
    let mut phases = Vec::new();
    let mut from = start;
    for (place, asked) in call.params.list("phases").iter().enumerate() {
        let path = format!("phases[{place}]");
        if asked["iterations"].is_i64() && call.version.knows(CLOVER) {
            return Err(StripeError::unknown(&format!("{path}[iterations]")));
        }
        items::check_items(world, array(&asked["items"]))?;
        discounts::check(world, &Params::over(asked))?;
        added_items::check(world, array(&asked["add_invoice_items"]))?;
        let until = end(world, asked, from);
        if until <= from {
            let text = "The end date of a phase must be after its start date.";
            return Err(StripeError::invalid(text).param(format!("{path}[end_date]")));
        }
        let mut phase = one(world, asked, from, until);
        phase["add_invoice_items"] = json!(added_items::shown(world, array(&asked["add_invoice_items"]))?);
        tax_rates::take(&world.store, &mut phase, "default_tax_rates", &Params::over(asked))?;
        for (item, asked) in phase["items"].as_array_mut().into_iter().flatten().zip(array(&asked["items"])) {
            tax_rates::take(&world.store, item, "tax_rates", &Params::over(asked))?;
        }
        phases.push(phase);
        from = until;
    }
    Ok(phases)
}

fn first_price(world: &World, phase: &Value) -> Arc<Value> {
    let item = &phase["items"][0];
    let id = item["price"].as_str().or(item["plan"].as_str()).unwrap_or_default();
    world.store.get(Kind::Price, id).unwrap_or_default()
}

/// A phase that does not say when it ends lasts for one period of its first price.
fn end(world: &World, asked: &Value, from: i64) -> i64 {
    if let Some(until) = asked["end_date"].as_i64() {
        return until;
    }
    if asked["end_date"] == "now" {
        return world.now;
    }
    if let Some(interval) = asked["duration"]["interval"].as_str() {
        return step(
            from,
            Recurrence { interval, count: 1 },
            asked["duration"]["interval_count"].as_i64().unwrap_or(1),
        );
    }
    step(from, recurrence(&first_price(world, asked)), asked["iterations"].as_i64().unwrap_or(1))
}

fn one(world: &World, asked: &Value, from: i64, until: i64) -> Value {
    let item = |asked: &Value| {
        let price = if asked["price"].is_string() { &asked["price"] } else { &asked["plan"] };
        json!({
            "billing_thresholds": null, "discounts": [], "metadata": asked.get("metadata").unwrap_or(&json!({})), "plan": price,
            "price": price, "quantity": asked["quantity"].as_i64().unwrap_or(1), "tax_rates": []
        })
    };
    let discount =
        |asked: &Value| json!({"coupon": asked["coupon"], "discount": null, "promotion_code": asked["promotion_code"]});
    let trial_end = match (&asked["trial"], &asked["trial_end"]) {
        (Value::Bool(true), _) => json!(until),
        (_, Value::Number(end)) => json!(end),
        _ => Value::Null,
    };
    json!({
        "add_invoice_items": [],
        "application_fee_percent": null,
        "billing_cycle_anchor": null,
        "billing_thresholds": null,
        "collection_method": asked["collection_method"],
        "currency": first_price(world, asked)["currency"],
        "default_payment_method": asked["default_payment_method"],
        "default_tax_rates": [],
        "description": asked["description"],
        "discounts": array(&asked["discounts"]).iter().map(discount).collect::<Vec<_>>(),
        "end_date": until,
        "invoice_settings": null,
        "items": array(&asked["items"]).iter().map(item).collect::<Vec<_>>(),
        "metadata": asked.get("metadata").unwrap_or(&json!({})),
        "on_behalf_of": null,
        "proration_behavior": asked["proration_behavior"].as_str().unwrap_or("create_prorations"),
        "start_date": from,
        "transfer_data": null,
        "trial_end": trial_end
    })
}

/// The phase that a subscription is in already: its running period.
pub(super) fn of_subscription(world: &World, subscription: &Value) -> Value {
    let (start, end) = items::current_period(&subscription["items"]);
    let item = |item: &Value| json!({"price": item["price"]["id"], "quantity": item["quantity"], "metadata": item["metadata"]});
    let asked = json!({
        "items": array(&subscription["items"]["data"]).iter().map(item).collect::<Vec<_>>(),
        "metadata": subscription["metadata"], "trial_end": subscription["trial_end"]
    });
    let mut phase = one(world, &asked, start.unwrap_or(world.now), end.unwrap_or(world.now));
    phase["default_tax_rates"] = subscription["default_tax_rates"].clone();
    for (row, item) in phase["items"].as_array_mut().into_iter().flatten().zip(array(&subscription["items"]["data"])) {
        row["tax_rates"] = item["tax_rates"].clone();
    }
    phase
}

/// What a subscription must be told to be as this phase says, but for its items.
fn terms(schedule: &Value, phase: &Value, now: i64) -> Value {
    let mut terms = json!({});
    for name in ["collection_method", "default_payment_method", "description"] {
        let own = if phase[name].is_null() { &schedule["default_settings"][name] } else { &phase[name] };
        if !own.is_null() {
            terms[name] = own.clone();
        }
    }
    if terms["collection_method"] == "send_invoice" {
        terms["days_until_due"] = schedule["default_settings"]["invoice_settings"]["days_until_due"].clone();
    }
    if phase["metadata"].as_object().is_some_and(|metadata| !metadata.is_empty()) {
        terms["metadata"] = phase["metadata"].clone();
    }
    if !array(&phase["discounts"]).is_empty() {
        terms["discounts"] = phase["discounts"].clone();
    }
    if !array(&phase["default_tax_rates"]).is_empty() {
        terms["default_tax_rates"] = phase["default_tax_rates"].clone();
    }
    terms["add_invoice_items"] = json!(added_items::of_phase(phase));
    if phase["trial_end"].as_i64().is_some_and(|end| end > now) {
        terms["trial_end"] = phase["trial_end"].clone();
    }
    terms
}

/// The subscription that a schedule begins with. Its first invoice can be changed for an hour, like that of a renewal.
pub(super) fn begin(world: &mut World, schedule: &Value, phase: &Value) -> Result<Arc<Value>, StripeError> {
    let customer = find(&world.store, Kind::Customer, schedule["customer"].as_str().unwrap_or_default())?;
    let mut asked = terms(schedule, phase, world.now);
    asked["items"] = phase["items"].clone();
    let mut subscription = subscriptions::compose(world, &Params::over(&asked), &customer)?;
    subscription["schedule"] = schedule["id"].clone();
    Ok(subscriptions::open_later(world, subscription, &customer))
}

/// Changes the subscription to what the phase says: with prorations in the midst of a period, without at its end, where the
/// renewal that is due bills what is new.
pub(super) fn follow(world: &mut World, schedule: &Value, phase: &Value, how: &str) -> Result<(), StripeError> {
    let id = schedule["subscription"].as_str().unwrap_or_default().to_owned();
    let before = find(&world.store, Kind::Subscription, &id)?;
    let mut asked = terms(schedule, phase, world.now);
    let changes = item_changes(&before, phase);
    let (start, end) = items::current_period(&before["items"]);
    if end.is_some_and(|end| end > world.now) {
        asked["items"] = json!(changes);
        asked["proration_behavior"] = json!(how);
        let call = Call::ours("subscription", vec![&id], Params::over(&asked))?;
        let Reply::One(_) = subscription_changes::update(world, &call)? else { return Ok(()) };
        return Ok(());
    }
    let mut subscription = (*before).clone();
    items::change_items(world, &mut subscription, &changes)?;
    let interval = |subscription: &Value| {
        let price = &subscription["items"]["data"][0]["price"]["recurring"];
        (price["interval"].clone(), price["interval_count"].clone())
    };
    if interval(&before) != interval(&subscription) {
        subscription["billing_cycle_anchor"] = json!(world.now);
    }
    for item in subscription["items"]["data"].as_array_mut().into_iter().flatten() {
        item["current_period_start"] = json!(start);
        item["current_period_end"] = json!(end);
    }
    let asked = Params::over(&asked);
    subscriptions::write(&mut subscription, &asked);
    discounts::set(world, &mut subscription, &asked)?;
    tax_rates::take(&world.store, &mut subscription, "default_tax_rates", &asked)?;
    added_items::sell(world, &subscription, asked.list("add_invoice_items"))?;
    world.store.put(Kind::Subscription, subscription);
    Ok(())
}

/// What turns the items of a subscription into those of a phase; an item of the same price is the same item.
fn item_changes(subscription: &Value, phase: &Value) -> Vec<Value> {
    let mut old = array(&subscription["items"]["data"]).to_vec();
    let mut changes = Vec::new();
    for wanted in array(&phase["items"]) {
        let mut change = json!({
            "quantity": wanted["quantity"], "metadata": wanted["metadata"], "tax_rates": wanted["tax_rates"]
        });
        match old.iter().position(|item| item["price"]["id"] == wanted["price"]) {
            Some(place) => change["id"] = old.remove(place)["id"].clone(),
            None => change["price"] = wanted["price"].clone(),
        }
        changes.push(change);
    }
    changes.extend(old.iter().map(|item| json!({"id": item["id"], "deleted": true})));
    changes
}
