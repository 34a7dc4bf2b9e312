//! What is sold once beside a subscription (`add_invoice_items`): invoice items that go on its next invoice.

use super::{invoiceitems, named, prices, subscription_items, tax_rates};
use crate::error::StripeError;
use crate::kind::Kind;
use crate::params::{Field, Params, Spec, opt, req};
use crate::world::{World, array};
use serde_json::{Value, json};
use std::sync::Arc;

const START: &[Field] = &[
    req("type", Spec::OneOf(&["max_item_period_start", "now", "phase_start", "timestamp"])),
    opt("timestamp", Spec::Time),
];
const END: &[Field] =
    &[req("type", Spec::OneOf(&["min_item_period_end", "phase_end", "timestamp"])), opt("timestamp", Spec::Time)];
const PERIOD: &[Field] = &[req("end", Spec::Hash(END)), req("start", Spec::Hash(START))];

const ITEM: &[Field] = &[
    opt("discounts", Spec::Unsupported),
    opt("metadata", Spec::Metadata),
    opt("period", Spec::Hash(PERIOD)),
    opt("price", Spec::Text),
    opt("price_data", Spec::Hash(invoiceitems::PRICE_DATA)),
    opt("quantity", Spec::Int(0, 1_000_000)),
    opt("tax_rates", Spec::ClearableList(&Spec::Text)),
];

/// The parameter, where something can be sold once.
pub(super) const ASKED: Spec = Spec::List(&Spec::Hash(ITEM));

/// All that can be wrong with what is sold once, before anything is made.
pub(super) fn check(world: &World, asked: &[Value]) -> Result<(), StripeError> {
    if asked.len() > 20 {
        let text = "Array add_invoice_items exceeded maximum 20 allowed elements.";
        return Err(StripeError::invalid(text).param("add_invoice_items"));
    }
    for (place, item) in asked.iter().enumerate() {
        let path = format!("add_invoice_items[{place}]");
        match (item["price"].as_str(), item["price_data"]["product"].as_str()) {
            (Some(id), None) => drop(price(world, id, &format!("{path}[price]"))?),
            (None, Some(product)) => {
                named(&world.store, Kind::Product, product, &format!("{path}[price_data][product]"))?;
            }
            (None, None) => return Err(StripeError::missing(&format!("{path}[price]"))),
            (Some(_), Some(_)) => return Err(StripeError::exclusive(&["price", "price_data"])),
        }
        for end in ["start", "end"] {
            let asked = &item["period"][end];
            if asked["type"] == "timestamp" && asked["timestamp"].is_null() {
                return Err(StripeError::missing(&format!("{path}[period][{end}][timestamp]")));
            }
        }
    }
    Ok(())
}

/// A price that is paid once.
pub(super) fn price(world: &World, id: &str, param: &str) -> Result<Arc<Value>, StripeError> {
    let price = named(&world.store, Kind::Price, id, param)?;
    if price["type"] == "one_time" {
        return Ok(price);
    }
    let text =
        "The price specified is set to `type=recurring` but this field only accepts prices with `type=one_time`.";
    Err(StripeError::invalid(text).param(param))
}

/// The price that was named, or a new one that was described.
fn price_of(world: &mut World, asked: &Value, place: usize) -> Result<Arc<Value>, StripeError> {
    if let Some(id) = asked["price"].as_str() {
        return price(world, id, &format!("add_invoice_items[{place}][price]"));
    }
    let product = asked["price_data"]["product"].as_str().unwrap_or_default();
    prices::from_data(world, &asked["price_data"], product).map(Arc::new)
}

/// Puts what was asked for on the next invoice of the subscription.
pub(super) fn sell(world: &mut World, subscription: &Value, asked: &[Value]) -> Result<(), StripeError> {
    for (place, item) in asked.iter().enumerate() {
        let price = price_of(world, item, place)?;
        if price["currency"] != subscription["currency"] {
            let text = "The currency of an added invoice item must be the currency of its subscription.";
            return Err(StripeError::invalid(text).param(format!("add_invoice_items[{place}][price]")));
        }
        let made = item_of(world, subscription, item, &price)?;
        world.store.put(Kind::InvoiceItem, made);
    }
    Ok(())
}

fn item_of(world: &mut World, subscription: &Value, asked: &Value, price: &Value) -> Result<Value, StripeError> {
    let id = world.id("ii");
    let quantity = asked["quantity"].as_i64().unwrap_or(1);
    let mut item = invoiceitems::object(&id, &subscription["customer"], 0, &subscription["currency"], world.now);
    invoiceitems::set_price(world, &mut item, price, quantity);
    item["parent"] =
        json!({"subscription_details": {"subscription": subscription["id"]}, "type": "subscription_details"});
    item["period"] = period(&asked["period"], subscription, world.now);
    item["test_clock"] = subscription["test_clock"].clone();
    Params::over(asked).merge_metadata(&mut item);
    tax_rates::take(&world.store, &mut item, "tax_rates", &Params::over(asked))?;
    Ok(item)
}

fn period(asked: &Value, subscription: &Value, now: i64) -> Value {
    let (began, ends) = subscription_items::current_period(&subscription["items"]);
    let start = match asked["start"]["type"].as_str() {
        Some("timestamp") => asked["start"]["timestamp"].as_i64(),
        Some("now") => Some(now),
        _ => began,
    };
    let end = asked["end"]["timestamp"].as_i64().or(ends);
    let start = start.unwrap_or(now);
    json!({"start": start, "end": end.unwrap_or(now).max(start)})
}

/// What a phase of a schedule remembers of this until it begins.
pub(super) fn shown(world: &mut World, asked: &[Value]) -> Result<Vec<Value>, StripeError> {
    let mut shown = Vec::with_capacity(asked.len());
    for (place, item) in asked.iter().enumerate() {
        let price = price_of(world, item, place)?["id"].clone();
        let mut row = json!({
            "discounts": [], "metadata": item.get("metadata").unwrap_or(&json!({})),
            "period": item.get("period").unwrap_or(&json!({
                "end": {"type": "min_item_period_end"}, "start": {"type": "max_item_period_start"}
            })),
            "price": price, "quantity": item["quantity"].as_i64().unwrap_or(1), "tax_rates": []
        });
        tax_rates::take(&world.store, &mut row, "tax_rates", &Params::over(item))?;
        shown.push(row);
    }
    Ok(shown)
}

/// The same as it is asked for when the phase begins: its dates are known by then.
pub(super) fn of_phase(phase: &Value) -> Vec<Value> {
    let fixed = |row: &Value| {
        let mut row = row.clone();
        for (place, kind, date) in [("start", "phase_start", "start_date"), ("end", "phase_end", "end_date")] {
            if row["period"][place]["type"] == kind {
                row["period"][place] = json!({"type": "timestamp", "timestamp": phase[date]});
            }
        }
        row
    };
    array(&phase["add_invoice_items"]).iter().map(fixed).collect()
}
