//! Single data out of a JSON value. Each answers `None` for what is absent and for what is malformed.

use std::collections::BTreeMap;

use billing::Window;
use billing::{Currency, Decimal};
use jiff::Timestamp;
use serde_json::Value;

/// A text that is not empty.
pub fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The id of another object: alone, or the whole object where it was expanded.
pub fn reference(value: &Value) -> Option<String> {
    text(value).or_else(|| text(&value["id"]))
}

/// The customer of anything: `customer`, or `customer_account` since 2025-12-15.clover.
pub fn holder(object: &Value) -> Option<String> {
    reference(&object["customer"]).or_else(|| reference(&object["customer_account"]))
}

/// A whole number, also where it was written as a text.
pub fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// An exact decimal. Stripe writes decimals as texts and percentages as numbers; a number is taken by its digits.
pub fn decimal(value: &Value) -> Option<Decimal> {
    match value {
        Value::String(text) => Decimal::parse(text).ok(),
        Value::Number(number) => Decimal::parse(&number.to_string()).ok(),
        _ => None,
    }
}

/// Unix seconds.
pub fn instant(value: &Value) -> Option<Timestamp> {
    Timestamp::from_second(value.as_i64()?).ok()
}

/// A period, where both ends are there. Stripe's word is taken for it: ends that lie oddly are shown as they are.
pub fn window(start: &Value, end: &Value) -> Option<Window> {
    Some(Window { start: instant(start)?, end: instant(end)? })
}

/// A currency code in either case.
pub fn currency(value: &Value) -> Option<Currency> {
    Currency::parse(&value.as_str()?.to_ascii_lowercase()).ok()
}

/// `metadata`. Stripe's values are texts; others write numbers too.
pub fn metadata(value: &Value) -> BTreeMap<String, String> {
    let plain = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    let entries = value.as_object().into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.clone(), plain(value)?))).collect()
}

/// The elements of a list object, or of a bare array.
pub fn list(value: &Value) -> &[Value] {
    let elements = value.as_array().or_else(|| value["data"].as_array());
    elements.map_or(&[], Vec::as_slice)
}

/// A flag that was not sent is off.
pub fn flag(value: &Value) -> bool {
    value.as_bool().unwrap_or(false)
}
