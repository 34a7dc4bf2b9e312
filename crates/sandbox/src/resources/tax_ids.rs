//! Tax ids of customers: what an invoice shows of whom it is for.

use super::{Answer, Call, Reply, changed, deleted, find, list_where, narrow};
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::params::{Field, Spec, req};
use crate::store::Store;
use crate::world::World;
use serde_json::{Value, json};
use std::sync::Arc;

/// `eu_vat` and its like are many and grow in number, so any word of that form is taken.
pub(crate) const CREATE: &[Field] = &[req("type", Spec::Text), req("value", Spec::Text)];

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    find(&world.store, Kind::Customer, call.id())?;
    let mut query = narrow(call, &[]);
    query.equal.push((Index::Customer, Arc::from(call.id())));
    list_where(world, Kind::TaxId, call, query)
}

/// One tax id of this customer; another customer's is not found.
fn own(world: &World, call: &Call<'_>) -> Result<Arc<Value>, StripeError> {
    find(&world.store, Kind::Customer, call.id())?;
    let id = call.ids.get(1).copied().unwrap_or_default();
    let found = world.store.get(Kind::TaxId, id).filter(|found| found["customer"] == call.id());
    found.ok_or_else(|| StripeError::not_found(Kind::TaxId.noun(), id, Kind::TaxId.id_param()))
}

pub(crate) fn one(world: &World, call: &Call<'_>) -> Answer {
    own(world, call).map(Reply::One)
}

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let customer = find(&world.store, Kind::Customer, call.id())?;
    let (kind, value) = (call.params.need("type")?, call.params.need("value")?);
    let made = object(world, &customer["id"], kind, value, "type")?;
    changed(world, Kind::TaxId, made)
}

/// A tax id of this customer. The caller stores it.
pub(super) fn object(
    world: &mut World,
    customer: &Value,
    kind: &str,
    value: &str,
    param: &str,
) -> Result<Value, StripeError> {
    let country = kind.split_once('_').map(|(country, _)| country);
    let Some(country) = country.filter(|country| country.len() == 2 && country.bytes().all(|b| b.is_ascii_lowercase()))
    else {
        return Err(StripeError::invalid(format!("Invalid {param}: {kind} is not a type of tax id")).param(param));
    };
    let letters = value.bytes().take_while(u8::is_ascii_alphabetic).count();
    if kind == "eu_vat" && (letters < 2 || value.len() < 8) {
        return Err(StripeError::invalid(format!("Invalid value for {kind}.")).code("tax_id_invalid").param("value"));
    }
    // A European number says itself where it is from.
    let country = if country == "eu" { value.get(..2).unwrap_or_default() } else { country };
    let id = world.id("txi");
    Ok(json!({
        "id": id,
        "object": "tax_id",
        "country": country.to_uppercase(),
        "created": world.now,
        "customer": customer,
        "customer_account": null,
        "livemode": false,
        "owner": {"customer": customer, "type": "customer"},
        "type": kind,
        "value": value,
        "verification": {"status": "unavailable", "verified_address": null, "verified_name": null}
    }))
}

pub(crate) fn delete(world: &mut World, call: &Call<'_>) -> Answer {
    let found = own(world, call)?;
    let id = found["id"].as_str().unwrap_or_default();
    world.store.delete(Kind::TaxId, id);
    Ok(deleted(Kind::TaxId, id))
}

/// What stands on an invoice, oldest first.
pub(super) fn shown(store: &Store, customer: &Value) -> Value {
    let kept = store.all(Kind::TaxId, Index::Customer, customer["id"].as_str().unwrap_or_default());
    kept.iter().rev().map(|found| json!({"type": found["type"], "value": found["value"]})).collect()
}
