//! Shipping rates.

use super::{Answer, Call, changed, currencies, plain, prices};
use crate::error::StripeError;
use crate::kind::Kind;
use crate::params::{Field, Spec, opt, req};
use crate::world::World;
use serde_json::json;

const FIXED: &[Field] = &[
    req("amount", Spec::Int(0, prices::AMOUNT_MAX)),
    req("currency", Spec::Text),
    opt("currency_options", Spec::Unsupported),
];
const UNIT: &[Field] = &[
    req("unit", Spec::OneOf(&["business_day", "day", "hour", "month", "week"])),
    req("value", Spec::Int(1, 1_000_000)),
];
const ESTIMATE: &[Field] = &[opt("maximum", Spec::Hash(UNIT)), opt("minimum", Spec::Hash(UNIT))];
const BEHAVIOR: Spec = Spec::OneOf(&["exclusive", "inclusive", "unspecified"]);
pub(crate) const CREATE: &[Field] = &[
    req("display_name", Spec::Text),
    opt("delivery_estimate", Spec::Hash(ESTIMATE)),
    opt("fixed_amount", Spec::Hash(FIXED)),
    opt("metadata", Spec::Metadata),
    opt("tax_behavior", BEHAVIOR),
    opt("tax_code", Spec::Unsupported),
    opt("type", Spec::OneOf(&["fixed_amount"])),
];
pub(crate) const LIST: &[Field] = &[opt("active", Spec::Bool), opt("currency", Spec::Unsupported)];
pub(crate) const UPDATE: &[Field] = &[
    opt("active", Spec::Bool),
    opt("fixed_amount", Spec::Unsupported),
    opt("metadata", Spec::Metadata),
    opt("tax_behavior", BEHAVIOR),
];

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let amount = call.params.get("fixed_amount").ok_or_else(|| StripeError::missing("fixed_amount"))?;
    let currency = currencies::parse(amount["currency"].as_str().unwrap_or_default())?;
    let id = world.id("shr");
    let mut rate = json!({
        "id": id, "object": "shipping_rate", "active": true, "created": world.now, "delivery_estimate": null,
        "display_name": null, "fixed_amount": {"amount": amount["amount"], "currency": currency}, "livemode": false,
        "metadata": {}, "tax_behavior": "unspecified", "tax_code": null, "type": "fixed_amount"
    });
    plain::write(&mut rate, &call.params);
    rate["fixed_amount"]["currency"] = json!(currency);
    changed(world, Kind::ShippingRate, rate)
}
