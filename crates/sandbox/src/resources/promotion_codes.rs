//! Promotion codes: words that customers type to get a coupon.

use super::{Answer, Call, changed, coupons, find, list_where, named, narrow};
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::params::{Field, Spec, opt, req};
use crate::version::CLOVER;
use crate::world::World;
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) const LIST: &[Field] = &[
    opt("active", Spec::Bool),
    opt("code", Spec::Text),
    opt("coupon", Spec::Text),
    opt("customer", Spec::Text),
    opt("customer_account", Spec::Unsupported),
];

const PROMOTION: &[Field] = &[req("type", Spec::OneOf(&["coupon"])), opt("coupon", Spec::Text)];
const RESTRICTIONS: &[Field] = &[
    opt("currency_options", Spec::Unsupported),
    opt("first_time_transaction", Spec::Bool),
    opt("minimum_amount", Spec::Int(0, super::prices::AMOUNT_MAX)),
    opt("minimum_amount_currency", Spec::Text),
];

pub(crate) const CREATE: &[Field] = &[
    opt("active", Spec::Bool),
    opt("code", Spec::Text),
    opt("coupon", Spec::Text),
    opt("customer", Spec::Text),
    opt("customer_account", Spec::Unsupported),
    opt("expires_at", Spec::Time),
    opt("max_redemptions", Spec::Int(1, i64::MAX)),
    opt("metadata", Spec::Metadata),
    opt("promotion", Spec::Hash(PROMOTION)),
    opt("restrictions", Spec::Hash(RESTRICTIONS)),
];

pub(crate) const UPDATE: &[Field] =
    &[opt("active", Spec::Bool), opt("metadata", Spec::Metadata), opt("restrictions", Spec::Unsupported)];

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    let filters =
        [("code", Index::Code), ("coupon", Index::Coupon), ("customer", Index::Customer), ("active", Index::Active)];
    list_where(world, Kind::PromotionCode, call, narrow(call, &filters))
}

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let coupon = match (sent.get("promotion"), sent.text("coupon")) {
        (Some(promotion), None) => promotion["coupon"].as_str(),
        (None, Some(coupon)) if !call.version.knows(CLOVER) => Some(coupon),
        (_, Some(_)) => return Err(StripeError::unknown("coupon")),
        (None, None) => None,
    };
    let coupon = coupon.ok_or_else(|| StripeError::missing("promotion[coupon]"))?;
    let coupon = named(&world.store, Kind::Coupon, coupon, "promotion[coupon]")?;
    let id = world.id("promo");
    let code = match sent.text("code") {
        Some(code) => code.to_owned(),
        None => id.trim_start_matches("promo_").chars().take(8).collect::<String>().to_uppercase(),
    };
    let taken = world.store.all(Kind::PromotionCode, Index::Code, &code);
    if taken.iter().any(|other| other["active"] == true) {
        let text = format!("An active promotion code with `code: {code}` already exists.");
        return Err(StripeError::invalid(text).param("code"));
    }
    let mut promotion = json!({
        "id": id, "object": "promotion_code", "active": true, "code": code, "created": world.now,
        "customer": sent.text("customer"), "customer_account": null, "expires_at": sent.int("expires_at"),
        "livemode": false, "max_redemptions": sent.int("max_redemptions"), "metadata": {},
        "promotion": {"coupon": coupon["id"], "type": "coupon"},
        "restrictions": {"first_time_transaction": false, "minimum_amount": null, "minimum_amount_currency": null},
        "times_redeemed": 0
    });
    sent.assign(&mut promotion, &["active"]);
    super::fill(&mut promotion["restrictions"], sent.get("restrictions"));
    sent.merge_metadata(&mut promotion);
    changed(world, Kind::PromotionCode, promotion)
}

pub(crate) fn update(world: &mut World, call: &Call<'_>) -> Answer {
    let mut promotion = (*find(&world.store, Kind::PromotionCode, call.id())?).clone();
    call.params.assign(&mut promotion, &["active"]);
    call.params.merge_metadata(&mut promotion);
    changed(world, Kind::PromotionCode, promotion)
}

/// Whether a code can be used now.
pub(crate) fn check(world: &World, id: &str, param: &str) -> Result<Arc<Value>, StripeError> {
    let promotion = named(&world.store, Kind::PromotionCode, id, param)?;
    let over = promotion["expires_at"].as_i64().is_some_and(|at| at <= world.now);
    if over || promotion["active"] != true {
        let text = "This promotion code cannot be redeemed because it is not active.";
        return Err(StripeError::invalid(text).param(param));
    }
    Ok(promotion)
}

/// Counts one more use of a code, and returns its coupon.
pub(crate) fn redeem(world: &mut World, id: &str) -> Result<Value, StripeError> {
    let mut promotion = (*check(world, id, "discounts")?).clone();
    let times = promotion["times_redeemed"].as_i64().unwrap_or_default() + 1;
    promotion["times_redeemed"] = json!(times);
    if promotion["max_redemptions"].as_i64().is_some_and(|most| times >= most) {
        promotion["active"] = json!(false);
    }
    let coupon = promotion["promotion"]["coupon"].as_str().unwrap_or_default().to_owned();
    world.store.put(Kind::PromotionCode, promotion);
    coupons::redeem(world, &coupon, "discounts")
}
