//! Invoice items: what waits to be put on an invoice.

use super::{
    Answer, Call, added_items, billing, changed, deleted, discounts, find, invoices, lines, list_where, named, narrow,
    prices, tax_rates, taxes,
};
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::params::{Field, Params, Spec, opt, req};
use crate::world::World;
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) const LIST: &[Field] = &[
    opt("customer", Spec::Text),
    opt("customer_account", Spec::Unsupported),
    opt("invoice", Spec::Text),
    opt("pending", Spec::Bool),
];

const PERIOD: &[Field] = &[req("end", Spec::Time), req("start", Spec::Time)];
const PRICING: &[Field] = &[opt("price", Spec::Text)];
pub(super) const PRICE_DATA: &[Field] = &[
    req("currency", Spec::Text),
    req("product", Spec::Text),
    opt("tax_behavior", Spec::Ignored),
    opt("unit_amount", Spec::Int(-AMOUNT, AMOUNT)),
    opt("unit_amount_decimal", Spec::Decimal),
];
const AMOUNT: i64 = 99_999_999;

const COMMON: &[Field] = &[
    opt("amount", Spec::Int(-AMOUNT, AMOUNT)),
    opt("description", Spec::Clearable),
    opt("discountable", Spec::Bool),
    opt("discounts", Spec::Unsupported),
    opt("metadata", Spec::Metadata),
    opt("period", Spec::Hash(PERIOD)),
    opt("price_data", Spec::Hash(PRICE_DATA)),
    opt("pricing", Spec::Hash(PRICING)),
    opt("quantity", Spec::Int(0, 1_000_000)),
    opt("quantity_decimal", Spec::Unsupported),
    opt("tax_behavior", Spec::Ignored),
    opt("tax_code", Spec::Unsupported),
    opt("tax_rates", Spec::ClearableList(&Spec::Text)),
    opt("unit_amount_decimal", Spec::Decimal),
];

pub(crate) const CREATE: &[&[Field]] = &[
    COMMON,
    &[
        opt("currency", Spec::Text),
        req("customer", Spec::Text),
        opt("customer_account", Spec::Unsupported),
        opt("invoice", Spec::Text),
        opt("subscription", Spec::Text),
    ],
];

pub(crate) const UPDATE: &[&[Field]] = &[COMMON];

/// An item of a plain amount that waits for an invoice.
pub(crate) fn object(id: &str, customer: &Value, amount: i64, currency: &Value, at: i64) -> Value {
    json!({
        "id": id,
        "object": "invoiceitem",
        "amount": amount,
        "currency": currency,
        "customer": customer,
        "customer_account": null,
        "date": at,
        "description": null,
        "discountable": amount >= 0,
        "discounts": [],
        "invoice": null,
        "livemode": false,
        "metadata": {},
        "net_amount": amount,
        "parent": null,
        "period": {"start": at, "end": at},
        "pricing": {
            "price_details": null, "type": "price_details", "unit_amount_decimal": amount.to_string()
        },
        "proration": false,
        "proration_details": null,
        "quantity": 1,
        "quantity_decimal": "1",
        "tax_rates": [],
        "test_clock": null
    })
}

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    let mut query = narrow(call, &[("invoice", Index::Invoice), ("customer", Index::Customer)]);
    if let Some(pending) = call.params.flag("pending") {
        query.keep = Some(Box::new(move |item| item["invoice"].is_null() == pending));
    }
    list_where(world, Kind::InvoiceItem, call, query)
}

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let customer = named(&world.store, Kind::Customer, sent.need("customer")?, "customer")?;
    world.follow_clock(&customer);
    let id = world.id("ii");
    let currency = sent.text("currency").or(customer["currency"].as_str()).unwrap_or("usd");
    let currency = super::currencies::parse(currency)?;
    let mut item = object(&id, &customer["id"], 0, &json!(currency), world.now);
    item["test_clock"] = customer["test_clock"].clone();
    if let Some(id) = sent.text("subscription") {
        named(&world.store, Kind::Subscription, id, "subscription")?;
        item["parent"] = json!({"subscription_details": {"subscription": id}, "type": "subscription_details"});
    }
    if COSTS.iter().all(|name| sent.get(name).is_none()) {
        return Err(StripeError::missing("amount"));
    }
    write(world, &mut item, sent)?;
    if let Some(invoice) = sent.text("invoice") {
        named(&world.store, Kind::Invoice, invoice, "invoice")?;
        let draft = invoices::find_draft(world, invoice)?;
        if draft["customer"] != customer["id"] {
            let text = format!("The invoice {invoice} is not one of this customer's.");
            return Err(StripeError::invalid(text).param("invoice"));
        }
        if draft["currency"] != item["currency"] {
            let text = format!("The invoice {invoice} is in another currency than this item.");
            return Err(StripeError::invalid(text).param("currency"));
        }
        let mut draft = (*draft).clone();
        item["invoice"] = json!(invoice);
        let place = super::array_len(&draft["lines"]["data"]) + 1;
        let line = billing::line_of(&item, invoice, place);
        if let Some(lines) = draft["lines"]["data"].as_array_mut() {
            lines.push(line);
        }
        if draft["parent"]["subscription_details"].is_null() {
            discounts::apply(world, &mut draft);
        }
        taxes::sum_up(&world.store, &mut draft);
        world.store.put(Kind::Invoice, draft);
    }
    changed(world, Kind::InvoiceItem, item)
}

/// The item is so many units of this price.
pub(super) fn set_price(world: &World, item: &mut Value, price: &Value, quantity: i64) {
    item["amount"] = json!(lines::amount(&world.store, price, quantity));
    item["net_amount"] = item["amount"].clone();
    item["currency"] = price["currency"].clone();
    item["pricing"] = lines::pricing(price, price["unit_amount_decimal"].clone());
    item["description"] = json!(lines::product_name(&world.store, price));
    item["quantity"] = json!(quantity);
    item["quantity_decimal"] = json!(quantity.to_string());
}

/// What an item costs is said in one of these ways.
const COSTS: &[&str] = &["amount", "price_data", "pricing", "unit_amount_decimal"];

fn write(world: &mut World, item: &mut Value, sent: &Params) -> Result<(), StripeError> {
    let given: Vec<&str> = COSTS.iter().copied().filter(|name| sent.get(name).is_some()).collect();
    if given.len() > 1 {
        return Err(StripeError::exclusive(&given));
    }
    let quantity = sent.int("quantity").or(item["quantity"].as_i64()).unwrap_or(1);
    if let Some(id) = sent.get("pricing").and_then(|pricing| pricing["price"].as_str()) {
        let price = added_items::price(world, id, "pricing[price]")?;
        set_price(world, item, &price, quantity);
    } else if let Some(data) = sent.get("price_data") {
        let product = data["product"].as_str().unwrap_or_default();
        let product = named(&world.store, Kind::Product, product, "price_data[product]")?["id"].clone();
        let price = prices::from_data(world, data, product.as_str().unwrap_or_default())?;
        set_price(world, item, &price, quantity);
    } else if let Some(amount) = sent.int("amount") {
        item["amount"] = json!(amount);
        item["pricing"]["unit_amount_decimal"] = json!(amount.to_string());
    } else if sent.get("quantity").is_some() || sent.get("unit_amount_decimal").is_some() {
        sent.assign(&mut item["pricing"], &["unit_amount_decimal"]);
        let own = item["pricing"]["price_details"]["price"].as_str().and_then(|id| world.store.get(Kind::Price, id));
        let own = own.filter(|_| sent.get("unit_amount_decimal").is_none());
        let price = own.unwrap_or_else(|| Arc::new(item["pricing"].clone()));
        item["amount"] = json!(lines::amount(&world.store, &price, quantity));
    }
    item["quantity"] = json!(quantity);
    item["quantity_decimal"] = json!(quantity.to_string());
    item["net_amount"] = item["amount"].clone();
    sent.assign(item, &["description", "discountable", "period"]);
    tax_rates::take(&world.store, item, "tax_rates", sent)?;
    sent.merge_metadata(item);
    Ok(())
}

pub(crate) fn update(world: &mut World, call: &Call<'_>) -> Answer {
    let mut item = (*pending(world, call.id())?).clone();
    write(world, &mut item, &call.params)?;
    changed(world, Kind::InvoiceItem, item)
}

fn pending(world: &World, id: &str) -> Result<Arc<Value>, StripeError> {
    let item = find(&world.store, Kind::InvoiceItem, id)?;
    if item["invoice"].is_null() {
        return Ok(item);
    }
    let text = "This invoice item is attached to an invoice and can't be changed any more.";
    Err(StripeError::invalid(text).code("invoice_not_editable"))
}

pub(crate) fn delete(world: &mut World, call: &Call<'_>) -> Answer {
    pending(world, call.id())?;
    world.store.delete(Kind::InvoiceItem, call.id());
    Ok(deleted(Kind::InvoiceItem, call.id()))
}
