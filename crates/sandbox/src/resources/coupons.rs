//! Coupons: what they take off, and how often.

use super::{Answer, Call, changed, deleted, find, list};
use crate::error::StripeError;
use crate::kind::Kind;
use crate::params::{Field, Spec, opt};
use crate::world::{World, array};
use serde_json::{Number, Value, json};
use std::sync::Arc;

const APPLIES_TO: &[Field] = &[opt("products", Spec::List(&Spec::Text))];

pub(crate) const CREATE: &[Field] = &[
    opt("amount_off", Spec::Int(1, super::prices::AMOUNT_MAX)),
    opt("applies_to", Spec::Hash(APPLIES_TO)),
    opt("currency", Spec::Text),
    opt("currency_options", Spec::Unsupported),
    opt("duration", Spec::OneOf(&["forever", "once", "repeating"])),
    opt("duration_in_months", Spec::Int(1, 1200)),
    opt("id", Spec::Text),
    opt("max_redemptions", Spec::Int(1, i64::MAX)),
    opt("metadata", Spec::Metadata),
    opt("name", Spec::Text),
    opt("percent_off", Spec::Decimal),
    opt("redeem_by", Spec::Time),
];

pub(crate) const UPDATE: &[Field] =
    &[opt("currency_options", Spec::Unsupported), opt("metadata", Spec::Metadata), opt("name", Spec::Clearable)];

pub(crate) fn object(id: &str, duration: &str, created: i64) -> Value {
    json!({
        "id": id,
        "object": "coupon",
        "amount_off": null,
        "created": created,
        "currency": null,
        "duration": duration,
        "duration_in_months": null,
        "livemode": false,
        "max_redemptions": null,
        "metadata": {},
        "name": null,
        "percent_off": null,
        "redeem_by": null,
        "times_redeemed": 0,
        "valid": true
    })
}

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    list(world, Kind::Coupon, call, &[])
}

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let id = match sent.text("id") {
        Some(id) if world.store.get(Kind::Coupon, id).is_some() => {
            return Err(StripeError::invalid("Coupon already exists.").code("resource_already_exists").param("id"));
        }
        Some(id) => id.to_owned(),
        None => world.id("coupon").trim_start_matches("coupon_").chars().take(8).collect(),
    };
    let mut coupon = object(&id, sent.text("duration").unwrap_or("once"), world.now);
    match (sent.text("percent_off"), sent.int("amount_off")) {
        (Some(percent), None) => coupon["percent_off"] = percent_off(percent)?,
        (None, Some(amount)) => {
            coupon["amount_off"] = json!(amount);
            coupon["currency"] = json!(super::currencies::parse(sent.need("currency")?)?);
        }
        _ => {
            let text = "You must pass either percent_off or amount_off, and not both.";
            return Err(StripeError::invalid(text).param("percent_off"));
        }
    }
    if coupon["duration"] == "repeating" && sent.int("duration_in_months").is_none() {
        return Err(StripeError::missing("duration_in_months"));
    }
    if coupon["duration"] != "repeating" && sent.get("duration_in_months").is_some() {
        let text = "You may only set duration_in_months when duration is repeating.";
        return Err(StripeError::invalid(text).param("duration_in_months"));
    }
    sent.assign(&mut coupon, &["applies_to", "duration_in_months", "max_redemptions", "name", "redeem_by"]);
    sent.merge_metadata(&mut coupon);
    changed(world, Kind::Coupon, coupon)
}

fn percent_off(text: &str) -> Result<Value, StripeError> {
    let number =
        text.parse::<Number>().ok().filter(|_| hundredths(text).is_some_and(|part| (1..=10_000).contains(&part)));
    let bad = || StripeError::invalid(format!("Invalid percent_off: {text}")).param("percent_off");
    number.map(Value::Number).ok_or_else(bad)
}

/// `12.5` is 1250: percent with two decimals, as an integer.
pub(crate) fn hundredths(text: &str) -> Option<i64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 2 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{whole}{part:0<2}").parse().ok()
}

pub(crate) fn update(world: &mut World, call: &Call<'_>) -> Answer {
    let mut coupon = (*find(&world.store, Kind::Coupon, call.id())?).clone();
    call.params.assign(&mut coupon, &["name"]);
    call.params.merge_metadata(&mut coupon);
    changed(world, Kind::Coupon, coupon)
}

pub(crate) fn delete(world: &mut World, call: &Call<'_>) -> Answer {
    find(&world.store, Kind::Coupon, call.id())?;
    world.store.delete(Kind::Coupon, call.id());
    Ok(deleted(Kind::Coupon, call.id()))
}

/// What this coupon takes off an amount, in minor units; percentages are rounded half up.
pub(crate) fn taken_off(coupon: &Value, amount: i64) -> i64 {
    match (coupon["amount_off"].as_i64(), &coupon["percent_off"]) {
        (Some(off), _) => off.min(amount),
        (None, Value::Number(percent)) => {
            let part = hundredths(&percent.to_string()).unwrap_or_default();
            super::shares::share(amount, part.into(), 10_000).min(amount)
        }
        _ => 0,
    }
}

/// Whether the coupon is for this product, and takes something off in this currency: an amount is one of its own.
pub(crate) fn covers(coupon: &Value, product: &Value, currency: &Value) -> bool {
    let is_ours = coupon["currency"].is_null() || coupon["currency"] == *currency;
    is_ours && coupon.get("applies_to").is_none_or(|applies| array(&applies["products"]).contains(product))
}

/// A coupon that can be used now.
pub(super) fn usable(world: &World, id: &str, param: &str) -> Result<Arc<Value>, StripeError> {
    let coupon = super::named(&world.store, Kind::Coupon, id, param)?;
    if coupon["redeem_by"].as_i64().is_some_and(|by| by <= world.now) || coupon["valid"] != true {
        return Err(StripeError::invalid(format!("Coupon expired: {id}")).code("coupon_expired").param(param));
    }
    Ok(coupon)
}

/// Counts one more use, and closes the coupon where that was the last.
pub(crate) fn redeem(world: &mut World, id: &str, param: &str) -> Result<Value, StripeError> {
    let mut coupon = (*usable(world, id, param)?).clone();
    let times = coupon["times_redeemed"].as_i64().unwrap_or_default() + 1;
    coupon["times_redeemed"] = json!(times);
    coupon["valid"] = json!(coupon["max_redemptions"].as_i64().is_none_or(|max| times < max));
    world.store.put(Kind::Coupon, coupon.clone());
    Ok(coupon)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_exact_and_rounded_half_up() {
        for (percent, amount, off) in
            [("10", 4900, 490), ("12.5", 1900, 238), ("33.33", 100, 33), ("100", 1900, 1900), ("0.5", 100, 1)]
        {
            let coupon = json!({"percent_off": percent.parse::<Number>().unwrap(), "amount_off": null});
            assert_eq!(taken_off(&coupon, amount), off, "{percent}% of {amount}");
        }
        assert_eq!(taken_off(&json!({"amount_off": 5000, "percent_off": null}), 4900), 4900);
    }
}
