//! Sources: a customer's cards in the form that they had before payment methods. Each is a payment method too, of the same id.

use super::customers::ADDRESS;
use super::{Answer, Call, Reply, changed, find, list_where, payment_methods, plain};
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::params::{Field, Spec, opt, req};
use crate::store::Query;
use crate::world::World;
use serde_json::{Value, json};
use std::sync::Arc;

const OWNER: &[Field] = &[
    opt("address", Spec::Hash(ADDRESS)),
    opt("email", Spec::Email),
    opt("name", Spec::Text),
    opt("phone", Spec::Text),
];
pub(crate) const CREATE: &[Field] =
    &[req("source", Spec::Text), opt("metadata", Spec::Metadata), opt("validate", Spec::Ignored)];
pub(crate) const LIST: &[Field] = &[opt("object", Spec::OneOf(&["card"]))];
pub(crate) const UPDATE: &[Field] = &[
    opt("address_city", Spec::Clearable),
    opt("address_country", Spec::Clearable),
    opt("address_line1", Spec::Clearable),
    opt("address_line2", Spec::Clearable),
    opt("address_state", Spec::Clearable),
    opt("address_zip", Spec::Clearable),
    opt("exp_month", Spec::Int(1, 12)),
    opt("exp_year", Spec::Int(0, 9999)),
    opt("metadata", Spec::Metadata),
    opt("name", Spec::Clearable),
    opt("owner", Spec::Hash(OWNER)),
];

/// The card in its old form; brands are written for people there.
fn object(id: &str, customer: &str, card: &Value) -> Value {
    let brand = match card["brand"].as_str().unwrap_or_default() {
        "amex" => "American Express",
        "diners" => "Diners Club",
        "discover" => "Discover",
        "jcb" => "JCB",
        "mastercard" => "MasterCard",
        "unionpay" => "UnionPay",
        _ => "Visa",
    };
    json!({
        "id": id, "object": "card", "address_city": null, "address_country": null, "address_line1": null,
        "address_line1_check": null, "address_line2": null, "address_state": null, "address_zip": null,
        "address_zip_check": null, "brand": brand, "country": card["country"], "customer": customer,
        "cvc_check": "pass", "dynamic_last4": null, "exp_month": card["exp_month"], "exp_year": card["exp_year"],
        "fingerprint": card["fingerprint"], "funding": card["funding"], "last4": card["last4"], "metadata": {},
        "name": null, "regulated_status": card["regulated_status"], "tokenization_method": null
    })
}

/// The first card of a customer is the one that is charged.
pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let customer = find(&world.store, Kind::Customer, call.id())?;
    let token = call.params.need("source")?;
    let mut method = (*payment_methods::resolve(world, token, "source")?).clone();
    if method["type"] != "card" || method["customer"].is_string() {
        return Err(StripeError::no_such("token", token, "source"));
    }
    let id = world.id("card");
    method["id"] = json!(id);
    let method = payment_methods::attach_to(world, Arc::new(method), call.id())?;
    let mut source = object(&id, call.id(), &method["card"]);
    call.params.merge_metadata(&mut source);
    if customer["default_source"].is_null() {
        let mut customer = (*customer).clone();
        customer["default_source"] = json!(id);
        world.store.put(Kind::Customer, customer);
    }
    changed(world, Kind::Source, source)
}

/// A source of this customer; another customer's is not found.
fn own(world: &World, call: &Call<'_>) -> Result<Arc<Value>, StripeError> {
    find(&world.store, Kind::Customer, call.id())?;
    let id = call.ids.get(1).copied().unwrap_or_default();
    let found = world.store.get(Kind::Source, id).filter(|source| source["customer"] == call.id());
    found.ok_or_else(|| StripeError::not_found("source", id, "id"))
}

pub(crate) fn one(world: &World, call: &Call<'_>) -> Answer {
    own(world, call).map(Reply::One)
}

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    find(&world.store, Kind::Customer, call.id())?;
    let own = (Index::Customer, Arc::from(call.id()));
    list_where(world, Kind::Source, call, Query { equal: vec![own], ..Query::default() })
}

pub(crate) fn update(world: &mut World, call: &Call<'_>) -> Answer {
    let mut source = (*own(world, call)?).clone();
    plain::write(&mut source, &call.params);
    if let Some(method) = world.store.get(Kind::PaymentMethod, source["id"].as_str().unwrap_or_default()) {
        let mut method = (*method).clone();
        method["card"]["exp_month"] = source["exp_month"].clone();
        method["card"]["exp_year"] = source["exp_year"].clone();
        world.store.put(Kind::PaymentMethod, method);
    }
    changed(world, Kind::Source, source)
}

pub(crate) fn delete(world: &mut World, call: &Call<'_>) -> Answer {
    let source = own(world, call)?;
    let id = source["id"].as_str().unwrap_or_default();
    if let Some(method) = world.store.get(Kind::PaymentMethod, id) {
        payment_methods::detach_from(world, &method);
    }
    let customer = find(&world.store, Kind::Customer, call.id())?;
    if customer["default_source"] == source["id"] {
        let mut customer = (*customer).clone();
        let others = world.store.all(Kind::Source, Index::Customer, call.id());
        let next = others.iter().find(|other| other["id"] != source["id"]).map(|other| other["id"].clone());
        customer["default_source"] = next.unwrap_or_default();
        world.store.put(Kind::Customer, customer);
    }
    world.store.delete(Kind::Source, id);
    Ok(Reply::One(Arc::new(json!({"id": id, "object": "card", "deleted": true}))))
}
