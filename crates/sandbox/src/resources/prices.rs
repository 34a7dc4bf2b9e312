//! Prices. `tiers` are kept with the price and shown only where they are expanded.

use super::{Answer, Call, changed, currencies, find, list_where, named, narrow, products};
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::params::{Field, Params, Spec, opt, req};
use crate::world::{World, array};
use serde_json::{Value, json};

pub(crate) const AMOUNT_MAX: i64 = 99_999_999_999;

const RECURRING_FILTER: &[Field] =
    &[opt("interval", Spec::OneOf(INTERVALS)), opt("meter", Spec::Text), opt("usage_type", Spec::OneOf(USAGE))];

pub(crate) const LIST: &[Field] = &[
    opt("active", Spec::Bool),
    opt("currency", Spec::Text),
    opt("lookup_keys", Spec::List(&Spec::Text)),
    opt("product", Spec::Text),
    opt("recurring", Spec::Hash(RECURRING_FILTER)),
    opt("type", Spec::OneOf(&["one_time", "recurring"])),
];

pub(crate) const INTERVALS: &[&str] = &["day", "month", "week", "year"];
pub(crate) const USAGE: &[&str] = &["licensed", "metered"];

const RECURRING: &[Field] = &[
    req("interval", Spec::OneOf(INTERVALS)),
    opt("interval_count", Spec::Int(1, 1095)),
    opt("meter", Spec::Text),
    opt("trial_period_days", Spec::Int(0, 730)),
    opt("usage_type", Spec::OneOf(USAGE)),
];

pub(crate) const TIER: &[Field] = &[
    opt("flat_amount", Spec::Int(0, AMOUNT_MAX)),
    opt("flat_amount_decimal", Spec::Decimal),
    opt("unit_amount", Spec::Int(0, AMOUNT_MAX)),
    opt("unit_amount_decimal", Spec::Decimal),
    req("up_to", Spec::Text),
];

pub(crate) const TRANSFORM: &[Field] =
    &[req("divide_by", Spec::Int(1, i64::MAX)), req("round", Spec::OneOf(&["up", "down"]))];

const TAX: &[&str] = &["exclusive", "inclusive", "unspecified"];

/// A price that is described in place, within a subscription or a product.
pub(crate) const DATA: &[Field] = &[
    req("currency", Spec::Text),
    opt("metadata", Spec::Metadata),
    opt("recurring", Spec::Hash(RECURRING)),
    opt("tax_behavior", Spec::OneOf(TAX)),
    opt("unit_amount", Spec::Int(0, AMOUNT_MAX)),
    opt("unit_amount_decimal", Spec::Decimal),
];

pub(super) const PRODUCT_DATA: &[Field] = &[
    req("name", Spec::Text),
    opt("id", Spec::Text),
    opt("active", Spec::Bool),
    opt("metadata", Spec::Metadata),
    opt("statement_descriptor", Spec::Text),
    opt("tax_code", Spec::Unsupported),
    opt("unit_label", Spec::Text),
];

pub(crate) const CREATE: &[Field] = &[
    req("currency", Spec::Text),
    opt("active", Spec::Bool),
    opt("billing_scheme", Spec::OneOf(&["per_unit", "tiered"])),
    opt("currency_options", Spec::Unsupported),
    opt("custom_unit_amount", Spec::Unsupported),
    opt("lookup_key", Spec::Text),
    opt("metadata", Spec::Metadata),
    opt("nickname", Spec::Text),
    opt("product", Spec::Text),
    opt("product_data", Spec::Hash(PRODUCT_DATA)),
    opt("recurring", Spec::Hash(RECURRING)),
    opt("tax_behavior", Spec::OneOf(TAX)),
    opt("tiers", Spec::List(&Spec::Hash(TIER))),
    opt("tiers_mode", Spec::OneOf(&["graduated", "volume"])),
    opt("transfer_lookup_key", Spec::Bool),
    opt("transform_quantity", Spec::Hash(TRANSFORM)),
    opt("unit_amount", Spec::Int(0, AMOUNT_MAX)),
    opt("unit_amount_decimal", Spec::Decimal),
];

pub(crate) const UPDATE: &[Field] = &[
    opt("active", Spec::Bool),
    opt("currency_options", Spec::Unsupported),
    opt("lookup_key", Spec::Clearable),
    opt("metadata", Spec::Metadata),
    opt("nickname", Spec::Clearable),
    opt("tax_behavior", Spec::OneOf(TAX)),
    opt("transfer_lookup_key", Spec::Bool),
];

/// A price of one amount per unit and period; one-time where no interval is given.
pub(crate) fn object(
    id: &str,
    product: &str,
    currency: &str,
    amount: Option<i64>,
    interval: Option<&str>,
    created: i64,
) -> Value {
    let recurring = interval.map(|interval| {
        json!({"interval": interval, "interval_count": 1, "meter": null, "trial_period_days": null, "usage_type": "licensed"})
    });
    json!({
        "id": id,
        "object": "price",
        "active": true,
        "billing_scheme": "per_unit",
        "created": created,
        "currency": currency,
        "custom_unit_amount": null,
        "livemode": false,
        "lookup_key": null,
        "metadata": {},
        "nickname": null,
        "product": product,
        "recurring": recurring,
        "tax_behavior": "unspecified",
        "tiers_mode": null,
        "transform_quantity": null,
        "type": if interval.is_some() { "recurring" } else { "one_time" },
        "unit_amount": amount,
        "unit_amount_decimal": amount.map(|amount| amount.to_string())
    })
}

/// The same price as it stands inside other objects: without what is shown on request only.
pub(crate) fn shown(price: &Value) -> Value {
    let mut price = price.clone();
    if let Some(members) = price.as_object_mut() {
        members.remove("tiers");
    }
    price
}

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    let filters =
        [("product", Index::Product), ("type", Index::Type), ("currency", Index::Currency), ("active", Index::Active)];
    let mut query = narrow(call, &filters);
    let keys = call.params.list("lookup_keys");
    let recurring = call.params.get("recurring");
    query.keep = Some(Box::new(move |price| {
        (keys.is_empty() || keys.contains(&price["lookup_key"]))
            && recurring
                .and_then(Value::as_object)
                .is_none_or(|want| want.iter().all(|(name, value)| price["recurring"][name.as_str()] == *value))
    }));
    list_where(world, Kind::Price, call, query)
}

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let currency = currencies::parse(sent.need("currency")?)?;
    let product = match (sent.text("product"), sent.get("product_data")) {
        (Some(id), None) => named(&world.store, Kind::Product, id, "product")?["id"].as_str().unwrap_or(id).to_owned(),
        (None, Some(data)) => new_product(world, &Params::over(data))?,
        (Some(_), Some(_)) => {
            return Err(StripeError::exclusive(&["product", "product_data"]));
        }
        (None, None) => return Err(StripeError::missing("product")),
    };
    check_interval(sent.get("recurring"))?;
    let id = world.id("price");
    let interval = sent.get("recurring").and_then(|recurring| recurring["interval"].as_str());
    let mut price = object(&id, &product, &currency, sent.int("unit_amount"), interval, world.now);
    super::fill(&mut price["recurring"], sent.get("recurring"));
    sent.assign(&mut price, &["active", "lookup_key", "nickname", "tax_behavior", "transform_quantity"]);
    sent.merge_metadata(&mut price);
    amounts(&mut price, sent)?;
    claim_lookup_key(world, &price, sent)?;
    changed(world, Kind::Price, price)
}

pub(super) fn new_product(world: &mut World, data: &Params) -> Result<String, StripeError> {
    let id = data.text("id").map_or_else(|| world.id("prod"), str::to_owned);
    if world.store.get(Kind::Product, &id).is_some() {
        return Err(StripeError::invalid("Product already exists.").code("resource_already_exists"));
    }
    let mut product = products::object(&id, data.need("name")?, world.now);
    data.assign(&mut product, &["active", "statement_descriptor", "unit_label"]);
    data.merge_metadata(&mut product);
    world.store.put(Kind::Product, product);
    Ok(id)
}

/// A price described in place; it is stored like any other.
pub(crate) fn from_data(world: &mut World, data: &Value, product: &str) -> Result<Value, StripeError> {
    let sent = Params::over(data);
    let currency = currencies::parse(sent.need("currency")?)?;
    check_interval(data.get("recurring"))?;
    let id = world.id("price");
    let interval = data["recurring"]["interval"].as_str();
    let mut price = object(&id, product, &currency, sent.int("unit_amount"), interval, world.now);
    super::fill(&mut price["recurring"], data.get("recurring"));
    sent.assign(&mut price, &["tax_behavior"]);
    sent.merge_metadata(&mut price);
    amounts(&mut price, &sent)?;
    world.store.put(Kind::Price, price.clone());
    Ok(price)
}

/// Nothing comes again after more than three years.
fn check_interval(recurring: Option<&Value>) -> Result<(), StripeError> {
    let (interval, count) =
        recurring.map_or((None, None), |every| (every["interval"].as_str(), every["interval_count"].as_i64()));
    let most = match interval {
        Some("year") => 3,
        Some("month") => 36,
        Some("week") => 156,
        _ => 1095,
    };
    if count.is_some_and(|count| count > most) {
        let text = format!(
            "Invalid recurring[interval_count]: the maximum number of {}s is {most}.",
            interval.unwrap_or("day")
        );
        return Err(StripeError::invalid(text).param("recurring[interval_count]"));
    }
    Ok(())
}

fn amounts(price: &mut Value, sent: &Params) -> Result<(), StripeError> {
    if sent.text("billing_scheme") == Some("tiered") {
        return tiers(price, sent);
    }
    if !sent.list("tiers").is_empty() {
        let text = "You must set `billing_scheme=tiered` when specifying `tiers`.";
        return Err(StripeError::invalid(text).param("tiers"));
    }
    match (sent.int("unit_amount"), sent.text("unit_amount_decimal")) {
        (Some(_), Some(_)) => Err(StripeError::exclusive(&["unit_amount", "unit_amount_decimal"])),
        (Some(_), None) => Ok(()),
        (None, Some(decimal)) => {
            price["unit_amount"] = json!(decimal.parse::<i64>().ok());
            price["unit_amount_decimal"] = json!(decimal);
            Ok(())
        }
        (None, None) => Err(StripeError::missing("unit_amount")),
    }
}

fn tiers(price: &mut Value, sent: &Params) -> Result<(), StripeError> {
    let mode = sent.need("tiers_mode")?;
    let given = sent.list("tiers");
    if given.is_empty() {
        return Err(StripeError::missing("tiers"));
    }
    let mut out = Vec::with_capacity(given.len());
    for (place, tier) in given.iter().enumerate() {
        let last = place + 1 == given.len();
        let up_to = match tier["up_to"].as_str() {
            Some("inf") if last => None,
            Some(text) if !last => Some(text.parse::<i64>().map_err(|_| {
                StripeError::invalid(format!("Invalid integer: {text}")).param(format!("tiers[{place}][up_to]"))
            })?),
            _ => {
                let text = "The last tier, and only the last, must have `up_to` set to `inf`.";
                return Err(StripeError::invalid(text).param("tiers"));
            }
        };
        out.push(json!({
            "flat_amount": tier.get("flat_amount"),
            "flat_amount_decimal": decimal(tier, "flat_amount"),
            "unit_amount": tier.get("unit_amount"),
            "unit_amount_decimal": decimal(tier, "unit_amount"),
            "up_to": up_to
        }));
    }
    price["billing_scheme"] = json!("tiered");
    price["tiers_mode"] = json!(mode);
    price["tiers"] = Value::Array(out);
    price["unit_amount"] = Value::Null;
    price["unit_amount_decimal"] = Value::Null;
    Ok(())
}

fn decimal(tier: &Value, name: &str) -> Option<String> {
    let whole = tier[name].as_i64().map(|amount| amount.to_string());
    whole.or_else(|| tier[format!("{name}_decimal")].as_str().map(str::to_owned))
}

/// A lookup key belongs to one price; it moves only when asked to.
fn claim_lookup_key(world: &mut World, price: &Value, sent: &Params) -> Result<(), StripeError> {
    let Some(key) = sent.text("lookup_key") else { return Ok(()) };
    for other in world.store.all(Kind::Price, Index::LookupKey, key) {
        if other["id"] == price["id"] {
            continue;
        }
        if sent.flag("transfer_lookup_key") != Some(true) {
            let text =
                format!("A price (`{}`) already uses that lookup key.", other["id"].as_str().unwrap_or_default());
            return Err(StripeError::invalid(text).param("lookup_key"));
        }
        let mut other = (*other).clone();
        other["lookup_key"] = Value::Null;
        world.store.put(Kind::Price, other);
    }
    Ok(())
}

pub(crate) fn update(world: &mut World, call: &Call<'_>) -> Answer {
    let mut price = (*find(&world.store, Kind::Price, call.id())?).clone();
    claim_lookup_key(world, &price, &call.params)?;
    call.params.assign(&mut price, &["active", "lookup_key", "nickname", "tax_behavior"]);
    call.params.merge_metadata(&mut price);
    refresh_items(world, &price);
    changed(world, Kind::Price, price)
}

/// Subscriptions show the price as it is now.
pub(crate) fn refresh_items(world: &mut World, price: &Value) {
    let id = price["id"].as_str().unwrap_or_default();
    for subscription in world.store.all(Kind::Subscription, Index::Price, id) {
        let mut subscription = (*subscription).clone();
        for place in 0..array(&subscription["items"]["data"]).len() {
            let item = &mut subscription["items"]["data"][place];
            if item["price"]["id"] == id {
                item["price"] = shown(price);
                item["plan"] = super::plans::object(price);
            }
        }
        world.store.put(Kind::Subscription, subscription);
    }
}
