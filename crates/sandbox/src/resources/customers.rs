//! Customers.

use super::{Answer, Call, Reply, address, changed, deleted, fill, find, list_where, named, narrow};
use super::{coupons, discounts, payment_methods, subscription_status, tax_ids};
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::params::{Field, Params, Spec, opt};
use crate::version::BASIL;
use crate::world::{World, opaque};
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) const LIST: &[Field] = &[opt("email", Spec::Text), opt("test_clock", Spec::Text)];

pub(crate) const ADDRESS: &[Field] = &[
    opt("city", Spec::Clearable),
    opt("country", Spec::Clearable),
    opt("line1", Spec::Clearable),
    opt("line2", Spec::Clearable),
    opt("postal_code", Spec::Clearable),
    opt("state", Spec::Clearable),
];

const SHIPPING: &[Field] =
    &[opt("address", Spec::Hash(ADDRESS)), opt("name", Spec::Text), opt("phone", Spec::Clearable)];

const CUSTOM_FIELD: &[Field] = &[opt("name", Spec::Text), opt("value", Spec::Text)];

const INVOICE_SETTINGS: &[Field] = &[
    opt("custom_fields", Spec::ClearableList(&Spec::Hash(CUSTOM_FIELD))),
    opt("default_payment_method", Spec::Clearable),
    opt("footer", Spec::Clearable),
    opt("rendering_options", Spec::Unsupported),
];

/// What creation and update share.
const COMMON: &[Field] = &[
    opt("address", Spec::ClearableHash(ADDRESS)),
    opt("balance", Spec::Int(-99_999_999, 99_999_999)),
    opt("business_name", Spec::Clearable),
    opt("cash_balance", Spec::Unsupported),
    opt("coupon", Spec::Clearable),
    opt("description", Spec::Clearable),
    opt("email", Spec::Email),
    opt("individual_name", Spec::Clearable),
    opt("invoice_prefix", Spec::Text),
    opt("invoice_settings", Spec::Hash(INVOICE_SETTINGS)),
    opt("metadata", Spec::Metadata),
    opt("name", Spec::Clearable),
    opt("next_invoice_sequence", Spec::Int(1, 1_000_000_000)),
    opt("phone", Spec::Clearable),
    opt("preferred_locales", Spec::ClearableList(&Spec::Text)),
    opt("shipping", Spec::ClearableHash(SHIPPING)),
    opt("source", Spec::Text),
    opt("tax", Spec::Unsupported),
    opt("tax_exempt", Spec::OneOf(&["none", "exempt", "reverse"])),
    opt("validate", Spec::Ignored),
];

pub(crate) const CREATE: &[&[Field]] = &[
    COMMON,
    &[
        opt("payment_method", Spec::Text),
        opt("tax_id_data", Spec::List(&Spec::Hash(tax_ids::CREATE))),
        opt("test_clock", Spec::Text),
    ],
];

pub(crate) const UPDATE: &[&[Field]] = &[COMMON, &[opt("default_source", Spec::Text)]];

/// A customer with nothing but a name to it.
pub(crate) fn object(id: &str, created: i64) -> Value {
    json!({
        "id": id,
        "object": "customer",
        "address": null,
        "balance": 0,
        "created": created,
        "currency": null,
        "customer_account": null,
        "default_source": null,
        "delinquent": false,
        "description": null,
        "discount": null,
        "email": null,
        "invoice_prefix": prefix(id),
        "invoice_settings": {"custom_fields": null, "default_payment_method": null, "footer": null, "rendering_options": null},
        "livemode": false,
        "metadata": {},
        "name": null,
        "next_invoice_sequence": 1,
        "phone": null,
        "preferred_locales": [],
        "shipping": null,
        "tax_exempt": "none",
        "test_clock": null
    })
}

fn prefix(id: &str) -> String {
    let sum = id.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(131).wrapping_add(u64::from(byte)));
    opaque(sum, 1, 8).to_uppercase()
}

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    let mut query = narrow(call, &[("email", Index::Email), ("test_clock", Index::Clock)]);
    if call.params.text("test_clock").is_none() {
        query.keep = Some(Box::new(on_no_clock));
    }
    list_where(world, Kind::Customer, call, query)
}

/// Customers of a test clock, and their subscriptions, stand in a list only where it is asked for them.
pub(crate) fn on_no_clock(object: &Value) -> bool {
    object["test_clock"].is_null()
}

/// A deleted customer is still answered, with nothing but the fact.
pub(crate) fn one(world: &World, call: &Call<'_>) -> Answer {
    if world.store.is_gone(Kind::Customer, call.id()) {
        return Ok(deleted(Kind::Customer, call.id()));
    }
    super::retrieve(world, call)
}

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let method = match sent.text("payment_method").or(sent.text("source")) {
        Some(name) => Some(payment_methods::resolve(world, name, "payment_method")?),
        None => None,
    };
    let clock = match sent.text("test_clock") {
        Some(id) => Some(named(&world.store, Kind::TestClock, id, "test_clock")?),
        None => None,
    };
    let id = world.id("cus");
    let mut customer = object(&id, world.now);
    take_coupon(world, &mut customer, call)?;
    if let Some(clock) = clock {
        customer["test_clock"] = clock["id"].clone();
        world.follow_clock(&customer);
        customer["created"] = json!(world.now);
    }
    let mut sent = sent.clone();
    if let Some(method) = method {
        let method = payment_methods::attach_to(world, method, &id)?;
        // The default may be named by the same token that has become a method just now.
        sent.swap("invoice_settings", "default_payment_method", call.params.text("payment_method"), &method["id"]);
        if sent.text("source").is_some() {
            customer["invoice_settings"]["default_payment_method"] = method["id"].clone();
        }
    }
    write(world, &mut customer, &sent)?;
    let stored = world.store.put(Kind::Customer, customer);
    for (place, asked) in sent.list("tax_id_data").iter().enumerate() {
        let part = |name: &str| asked[name].as_str().unwrap_or_default();
        let param = format!("tax_id_data[{place}][type]");
        let made = tax_ids::object(world, &stored["id"], part("type"), part("value"), &param)?;
        world.store.put(Kind::TaxId, made);
    }
    Ok(Reply::One(stored))
}

/// A discount for all that the customer buys: until basil it was given by a parameter.
fn take_coupon(world: &mut World, customer: &mut Value, call: &Call<'_>) -> Result<(), StripeError> {
    let Some(asked) = call.params.get("coupon") else { return Ok(()) };
    if call.version.knows(BASIL) {
        return Err(StripeError::unknown("coupon"));
    }
    let Some(coupon) = asked.as_str() else {
        drop_discount(world, customer);
        return Ok(());
    };
    let coupon = coupons::redeem(world, coupon, "coupon")?;
    // Another coupon changes the discount, it does not end it.
    let id = customer["discount"]["id"].as_str().map_or_else(|| world.id("di"), str::to_owned);
    let mut discount = discounts::object(&id, &coupon, customer["id"].as_str().unwrap_or_default(), "", world.now);
    discount["subscription"] = Value::Null;
    world.store.put(Kind::Discount, discount.clone());
    customer["discount"] = discount;
    Ok(())
}

fn drop_discount(world: &mut World, customer: &mut Value) {
    let old = customer["discount"]["id"].as_str().and_then(|id| world.store.get(Kind::Discount, id));
    if let Some(old) = old {
        world.store.tell("customer.discount.deleted", old);
    }
    customer["discount"] = Value::Null;
}

/// Takes the discount off a customer.
pub(crate) fn delete_discount(world: &mut World, call: &Call<'_>) -> Answer {
    let mut customer = (*find(&world.store, Kind::Customer, call.id())?).clone();
    let Some(id) = customer["discount"]["id"].as_str().map(str::to_owned) else {
        return Err(StripeError::not_found("discount", call.id(), "id"));
    };
    drop_discount(world, &mut customer);
    world.store.put(Kind::Customer, customer);
    Ok(Reply::One(Arc::new(json!({"id": id, "object": "discount", "deleted": true, "customer": call.id()}))))
}

pub(crate) fn update(world: &mut World, call: &Call<'_>) -> Answer {
    let mut customer = (*find(&world.store, Kind::Customer, call.id())?).clone();
    write(world, &mut customer, &call.params)?;
    take_coupon(world, &mut customer, call)?;
    if let Some(source) = call.params.text("source").or(call.params.text("default_source")) {
        let method = payment_methods::resolve(world, source, "source")?;
        let method = payment_methods::attach_to(world, method, call.id())?;
        customer["invoice_settings"]["default_payment_method"] = method["id"].clone();
    }
    changed(world, Kind::Customer, customer)
}

fn write(world: &World, customer: &mut Value, sent: &Params) -> Result<(), StripeError> {
    let plain = ["balance", "business_name", "description", "email", "individual_name", "invoice_prefix", "name"];
    sent.assign(customer, &plain);
    sent.assign(customer, &["next_invoice_sequence", "phone", "preferred_locales", "shipping", "tax_exempt"]);
    sent.merge_metadata(customer);
    match sent.get("address") {
        Some(Value::Null) => customer["address"] = Value::Null,
        Some(given) => customer["address"] = address(Some(given)),
        None => {}
    }
    if let Some(given) = sent.get("shipping").filter(|given| given.is_object()) {
        customer["shipping"]["address"] = address(given.get("address"));
    }
    let settings = sent.get("invoice_settings");
    if let Some(method) = settings.and_then(|settings| settings["default_payment_method"].as_str()) {
        let param = "invoice_settings[default_payment_method]";
        let found = named(&world.store, Kind::PaymentMethod, method, param)?;
        if found["customer"] != customer["id"] {
            return Err(StripeError::no_such("PaymentMethod", method, param)
                .with("detail", json!("The customer does not have a payment method with this ID; attach it first.")));
        }
    }
    fill(&mut customer["invoice_settings"], settings);
    Ok(())
}

/// Deleting a customer ends the subscriptions at once.
pub(crate) fn delete(world: &mut World, call: &Call<'_>) -> Answer {
    find(&world.store, Kind::Customer, call.id())?;
    for subscription in world.store.all(Kind::Subscription, Index::Customer, call.id()) {
        if subscription["status"] != "canceled" {
            subscription_status::end(world, &subscription, None, "cancellation_requested");
        }
    }
    for method in world.store.all(Kind::PaymentMethod, Index::Customer, call.id()) {
        payment_methods::detach_from(world, &method);
    }
    world.store.delete(Kind::Customer, call.id());
    Ok(deleted(Kind::Customer, call.id()))
}

pub(crate) fn payment_method_page(world: &World, call: &Call<'_>) -> Answer {
    find(&world.store, Kind::Customer, call.id())?;
    let mut query = super::narrow(call, &[("type", Index::Type)]);
    query.equal.insert(0, (Index::Customer, Arc::from(call.id())));
    super::list_where(world, Kind::PaymentMethod, call, query)
}

/// One payment method of this customer; another customer's is not found.
pub(crate) fn payment_method_one(world: &World, call: &Call<'_>) -> Answer {
    find(&world.store, Kind::Customer, call.id())?;
    let id = call.ids.get(1).copied().unwrap_or_default();
    let method = find(&world.store, Kind::PaymentMethod, id)?;
    if method["customer"] == call.id() {
        Ok(Reply::One(method))
    } else {
        Err(StripeError::not_found("PaymentMethod", id, "payment_method"))
    }
}
