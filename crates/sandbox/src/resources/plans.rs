//! Plans: the old view of recurring prices.

use super::{Answer, Call, Reply, currencies, deleted, find, list_where, narrow, prices};
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::params::{Field, Params, Spec, opt, req};
use crate::store::Row;
use crate::world::World;
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) const LIST: &[Field] = &[opt("active", Spec::Bool), opt("product", Spec::Text)];

pub(crate) const CREATE: &[Field] = &[
    req("currency", Spec::Text),
    req("interval", Spec::OneOf(prices::INTERVALS)),
    opt("active", Spec::Bool),
    opt("amount", Spec::Int(0, prices::AMOUNT_MAX)),
    opt("amount_decimal", Spec::Decimal),
    opt("billing_scheme", Spec::OneOf(&["per_unit", "tiered"])),
    opt("id", Spec::Text),
    opt("interval_count", Spec::Int(1, 1095)),
    opt("metadata", Spec::Metadata),
    opt("meter", Spec::Text),
    opt("nickname", Spec::Text),
    opt("product", Spec::Either(prices::PRODUCT_DATA)),
    opt("tiers", Spec::Unsupported),
    opt("tiers_mode", Spec::Unsupported),
    opt("transform_usage", Spec::Hash(prices::TRANSFORM)),
    opt("trial_period_days", Spec::Int(0, 730)),
    opt("usage_type", Spec::OneOf(prices::USAGE)),
];

pub(crate) const UPDATE: &[Field] = &[
    opt("active", Spec::Bool),
    opt("metadata", Spec::Metadata),
    opt("nickname", Spec::Clearable),
    opt("product", Spec::Unsupported),
    opt("trial_period_days", Spec::Int(0, 730)),
];

/// The plan that a recurring price is. Its tiers are a matter of expansion.
pub(crate) fn object(price: &Value) -> Value {
    let recurring = &price["recurring"];
    json!({
        "id": price["id"],
        "object": "plan",
        "active": price["active"],
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        "billing_scheme": price["billing_scheme"],
        "created": price["created"],
        "currency": price["currency"],
        "interval": recurring["interval"],
        "interval_count": recurring["interval_count"],
        "livemode": false,
        "metadata": price["metadata"],
        "meter": recurring["meter"],
        "nickname": price["nickname"],
        "product": price["product"],
        "tiers_mode": price["tiers_mode"],
        "transform_usage": price["transform_quantity"],
        "trial_period_days": recurring["trial_period_days"],
        "usage_type": recurring["usage_type"]
    })
}

fn find_plan(world: &World, id: &str) -> Result<Arc<Value>, StripeError> {
    let recurring = world.store.get(Kind::Price, id).filter(|price| price["type"] == "recurring");
    recurring.ok_or_else(|| StripeError::not_found("plan", id, "plan"))
}

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    let mut query = narrow(call, &[("product", Index::Product), ("active", Index::Active)]);
    query.equal.push((Index::Type, Arc::from("recurring")));
    match list_where(world, Kind::Price, call, query)? {
        Reply::Page { url, rows, has_more } => {
            let rows = rows.iter().map(|row| Row::Made(Arc::new(object(&world.store.made(row))))).collect();
            Ok(Reply::Page { url, rows, has_more })
        }
        other @ Reply::One(_) => Ok(other),
    }
}

pub(crate) fn one(world: &World, call: &Call<'_>) -> Answer {
    find_plan(world, call.id()).map(|price| Reply::One(Arc::new(object(&price))))
}

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let currency = currencies::parse(sent.need("currency")?)?;
    let product = match sent.get("product").filter(|product| product.is_object()) {
        Some(data) => prices::new_product(world, &Params::over(data))?,
        None => sent.need("product")?.to_owned(),
    };
    let product = super::named(&world.store, Kind::Product, &product, "product")?;
    let id = sent.text("id").map_or_else(|| world.id("plan"), str::to_owned);
    if world.store.get(Kind::Price, &id).is_some() {
        return Err(StripeError::invalid("Plan already exists.").code("resource_already_exists").param("id"));
    }
    if sent.text("billing_scheme") == Some("tiered") {
        return Err(StripeError::unsupported("billing_scheme"));
    }
    let product = product["id"].as_str().unwrap_or_default();
    let mut price = prices::object(&id, product, &currency, sent.int("amount"), sent.text("interval"), world.now);
    match (sent.int("amount"), sent.text("amount_decimal")) {
        (None, None) => return Err(StripeError::missing("amount")),
        (None, Some(decimal)) => {
            price["unit_amount"] = json!(decimal.parse::<i64>().ok());
            price["unit_amount_decimal"] = json!(decimal);
        }
        _ => {}
    }
    recur(&mut price, sent);
    sent.assign(&mut price, &["active", "nickname"]);
    if let Some(transform) = sent.get("transform_usage") {
        price["transform_quantity"] = transform.clone();
    }
    sent.merge_metadata(&mut price);
    let plan = object(&price);
    world.store.put(Kind::Price, price);
    Ok(Reply::One(Arc::new(plan)))
}

fn recur(price: &mut Value, sent: &Params) {
    sent.assign(&mut price["recurring"], &["interval_count", "meter", "trial_period_days", "usage_type"]);
}

pub(crate) fn update(world: &mut World, call: &Call<'_>) -> Answer {
    let mut price = (*find_plan(world, call.id())?).clone();
    call.params.assign(&mut price, &["active", "nickname"]);
    recur(&mut price, &call.params);
    call.params.merge_metadata(&mut price);
    prices::refresh_items(world, &price);
    let plan = object(&price);
    world.store.put(Kind::Price, price);
    Ok(Reply::One(Arc::new(plan)))
}

pub(crate) fn delete(world: &mut World, call: &Call<'_>) -> Answer {
    find_plan(world, call.id())?;
    find(&world.store, Kind::Price, call.id())?;
    world.store.delete(Kind::Price, call.id());
    let Reply::One(mut gone) = deleted(Kind::Price, call.id()) else { return Err(StripeError::unknown("plan")) };
    Arc::make_mut(&mut gone)["object"] = json!("plan");
    Ok(Reply::One(gone))
}
