//! Discounts: a coupon at work on a subscription or customer, from an instant on and until it has run out.

use super::{billing, coupons, lines, promotion_codes};
use crate::calendar::{Recurrence, step};
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::params::{Field, Params, Spec, opt};
use crate::store::Store;
use crate::world::{World, array};
use serde_json::{Value, json};
use std::sync::Arc;

/// A discount that is asked for.
pub(super) const ASKED: &[Field] =
    &[opt("coupon", Spec::Text), opt("discount", Spec::Text), opt("promotion_code", Spec::Text)];

/// A coupon at work on a subscription from `start` on.
pub(crate) fn object(id: &str, coupon: &Value, customer: &str, subscription: &str, start: i64) -> Value {
    let months = coupon["duration_in_months"].as_i64().filter(|_| coupon["duration"] == "repeating");
    let end = months.map(|months| step(start, Recurrence { interval: "month", count: 1 }, months));
    json!({
        "id": id,
        "object": "discount",
        "checkout_session": null,
        "customer": customer,
        "customer_account": null,
        "end": end,
        "invoice": null,
        "invoice_item": null,
        "promotion_code": null,
        "source": {"coupon": coupon["id"], "type": "coupon"},
        "start": start,
        "subscription": subscription,
        "subscription_item": null
    })
}

/// All that can be wrong with discounts, before anything is made.
pub(super) fn check(world: &World, sent: &Params) -> Result<(), StripeError> {
    for (place, asked) in sent.list("discounts").iter().enumerate() {
        if let Some(code) = asked["promotion_code"].as_str() {
            promotion_codes::check(world, code, &format!("discounts[{place}][promotion_code]"))?;
            continue;
        }
        let param = format!("discounts[{place}][coupon]");
        match asked["coupon"].as_str() {
            Some(id) => drop(coupons::usable(world, id, &param)?),
            None if asked["discount"].is_string() => {}
            None => return Err(StripeError::missing(&param)),
        }
    }
    Ok(())
}

/// The sent list replaces the old one of a subscription or invoice; `discount` keeps one that is already there.
pub(super) fn set(world: &mut World, owner: &mut Value, sent: &Params) -> Result<(), StripeError> {
    if sent.get("discounts").is_none() {
        return Ok(());
    }
    let mut ids = Vec::new();
    for asked in sent.list("discounts") {
        if let Some(kept) = asked["discount"].as_str() {
            if !array(&owner["discounts"]).contains(&json!(kept)) {
                return Err(StripeError::no_such("discount", kept, "discounts"));
            }
            ids.push(json!(kept));
            continue;
        }
        let (coupon, code) = match asked["promotion_code"].as_str() {
            Some(code) => (promotion_codes::redeem(world, code)?, json!(code)),
            None => (coupons::redeem(world, asked["coupon"].as_str().unwrap_or_default(), "discounts")?, Value::Null),
        };
        let id = world.id("di");
        let (customer, own) = (owner["customer"].as_str(), owner["id"].as_str());
        let mut discount = object(&id, &coupon, customer.unwrap_or_default(), own.unwrap_or_default(), world.now);
        discount["promotion_code"] = code;
        if owner["object"] == "invoice" {
            discount["subscription"] = Value::Null;
            discount["invoice"] = json!(own);
        }
        world.store.put(Kind::Discount, discount);
        ids.push(json!(id));
    }
    for gone in array(&owner["discounts"]).iter().filter(|old| !ids.contains(old)) {
        if let Some(gone) = world.store.get(Kind::Discount, gone.as_str().unwrap_or_default()) {
            world.store.tell("customer.discount.deleted", gone);
        }
    }
    owner["discounts"] = Value::Array(ids);
    Ok(())
}

/// Takes the discounts of an invoice that nobody's subscription made off its lines, anew.
pub(super) fn apply(world: &World, invoice: &mut Value) {
    let discounts = invoice["discounts"].clone();
    let ids = billing::running(&world.store, array(&discounts), &invoice["id"], world.now);
    let mut rows = array(&invoice["lines"]["data"]).to_vec();
    for row in &mut rows {
        row["discount_amounts"] = json!([]);
    }
    invoice["lines"]["data"] = Value::Array(lines::discounted(&world.store, &ids, rows));
}

/// Whether a `once` coupon has taken something off another invoice than this already.
pub(crate) fn is_used_up(store: &Store, discount: &Value, invoice: &Value) -> bool {
    let coupon = discount["source"]["coupon"].as_str().and_then(|id| store.get(Kind::Coupon, id));
    if coupon.is_none_or(|coupon| coupon["duration"] != "once") {
        return false;
    }
    let used = |other: &Arc<Value>| {
        let parts = array(&other["total_discount_amounts"]);
        other["id"] != *invoice && parts.iter().any(|part| part["discount"] == discount["id"])
    };
    let (index, owner) = match discount["subscription"].as_str() {
        Some(subscription) => (Index::Subscription, subscription),
        None => (Index::Customer, discount["customer"].as_str().unwrap_or_default()),
    };
    store.all(Kind::Invoice, index, owner).iter().any(used)
}

/// Takes the discounts that ran out off a subscription, and says so of each.
pub(crate) fn drop_used_up(world: &mut World, subscription: &mut Value) {
    let mut kept = Vec::new();
    for id in array(&subscription["discounts"]).to_vec() {
        let Some(discount) = world.store.get(Kind::Discount, id.as_str().unwrap_or_default()) else { continue };
        let ended = discount["end"].as_i64().is_some_and(|end| end <= world.now);
        if ended || is_used_up(&world.store, &discount, &Value::Null) {
            world.store.tell("customer.discount.deleted", discount);
        } else {
            kept.push(id);
        }
    }
    subscription["discounts"] = Value::Array(kept);
}
