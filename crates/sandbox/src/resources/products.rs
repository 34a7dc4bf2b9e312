//! Products.

use super::prices;
use super::{Answer, Call, changed, deleted, find, list_where, narrow};
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::params::{Field, Params, Spec, opt, req};
use crate::world::World;
use serde_json::{Value, json};

pub(crate) const LIST: &[Field] = &[
    opt("active", Spec::Bool),
    opt("ids", Spec::List(&Spec::Text)),
    opt("shippable", Spec::Bool),
    opt("type", Spec::OneOf(&["good", "service"])),
    opt("url", Spec::Text),
];

const FEATURE: &[Field] = &[req("name", Spec::Text)];

const COMMON: &[Field] = &[
    opt("active", Spec::Bool),
    opt("description", Spec::Clearable),
    opt("images", Spec::ClearableList(&Spec::Text)),
    opt("marketing_features", Spec::ClearableList(&Spec::Hash(FEATURE))),
    opt("metadata", Spec::Metadata),
    opt("package_dimensions", Spec::Unsupported),
    opt("shippable", Spec::Bool),
    opt("statement_descriptor", Spec::Clearable),
    opt("tax_code", Spec::Unsupported),
    opt("tax_details", Spec::Unsupported),
    opt("unit_label", Spec::Clearable),
    opt("url", Spec::Clearable),
];

pub(crate) const CREATE: &[&[Field]] = &[
    COMMON,
    &[
        req("name", Spec::Text),
        opt("id", Spec::Text),
        opt("type", Spec::OneOf(&["good", "service"])),
        opt("default_price_data", Spec::Hash(prices::DATA)),
    ],
];

pub(crate) const UPDATE: &[&[Field]] = &[COMMON, &[opt("name", Spec::Text), opt("default_price", Spec::Clearable)]];

pub(crate) fn object(id: &str, name: &str, created: i64) -> Value {
    json!({
        "id": id,
        "object": "product",
        "active": true,
        "created": created,
        "default_price": null,
        "description": null,
        "images": [],
        "livemode": false,
        "marketing_features": [],
        "metadata": {},
        "name": name,
        "package_dimensions": null,
        "shippable": null,
        "statement_descriptor": null,
        "tax_code": null,
        "type": "service",
        "unit_label": null,
        "updated": created,
        "url": null
    })
}

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    let mut query = narrow(call, &[("active", Index::Active)]);
    let params = &call.params;
    let ids = params.list("ids");
    query.keep = Some(Box::new(move |product| {
        (ids.is_empty() || ids.contains(&product["id"]))
            && ["shippable", "type", "url"]
                .iter()
                .all(|name| params.get(name).is_none_or(|want| product[*name] == *want))
    }));
    list_where(world, Kind::Product, call, query)
}

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let id = match sent.text("id") {
        Some(id) if world.store.get(Kind::Product, id).is_some() => {
            return Err(StripeError::invalid("Product already exists.").code("resource_already_exists").param("id"));
        }
        Some(id) => id.to_owned(),
        None => world.id("prod"),
    };
    let mut product = object(&id, sent.need("name")?, world.now);
    write(&mut product, sent);
    sent.assign(&mut product, &["type"]);
    if let Some(data) = sent.get("default_price_data") {
        let price = prices::from_data(world, data, &id)?;
        product["default_price"] = price["id"].clone();
    }
    changed(world, Kind::Product, product)
}

pub(crate) fn update(world: &mut World, call: &Call<'_>) -> Answer {
    let mut product = (*find(&world.store, Kind::Product, call.id())?).clone();
    if let Some(price) = call.params.text("default_price") {
        let found = super::named(&world.store, Kind::Price, price, "default_price")?;
        if found["product"] != product["id"] {
            return Err(StripeError::invalid("The price does not belong to this product.").param("default_price"));
        }
    }
    write(&mut product, &call.params);
    call.params.assign(&mut product, &["name", "default_price"]);
    product["updated"] = json!(world.now);
    changed(world, Kind::Product, product)
}

fn write(product: &mut Value, sent: &Params) {
    let plain = ["active", "description", "images", "marketing_features", "shippable", "statement_descriptor"];
    sent.assign(product, &plain);
    sent.assign(product, &["unit_label", "url"]);
    sent.merge_metadata(product);
}

/// A product with prices cannot be deleted.
pub(crate) fn delete(world: &mut World, call: &Call<'_>) -> Answer {
    find(&world.store, Kind::Product, call.id())?;
    if world.store.newest(Kind::Price, Index::Product, call.id()).is_some() {
        let text = "This product cannot be deleted because it has one or more user-created prices.";
        return Err(StripeError::invalid(text));
    }
    world.store.delete(Kind::Product, call.id());
    Ok(deleted(Kind::Product, call.id()))
}
