//! Tax rates: what they say, and where they are named. What they come to is in `taxes`.

use super::{Answer, Call, changed, find, list, named, taxes};
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::params::{Field, Params, Spec, opt, req};
use crate::store::Store;
use crate::world::World;
use serde_json::{Number, Value, json};

pub(crate) const LIST: &[Field] = &[opt("active", Spec::Bool), opt("inclusive", Spec::Bool)];

const COMMON: &[Field] = &[
    opt("active", Spec::Bool),
    opt("country", Spec::Text),
    opt("description", Spec::Text),
    opt("jurisdiction", Spec::Text),
    opt("metadata", Spec::Metadata),
    opt("state", Spec::Text),
    opt("tax_type", Spec::Text),
];
pub(crate) const CREATE: &[&[Field]] =
    &[COMMON, &[req("display_name", Spec::Text), req("inclusive", Spec::Bool), req("percentage", Spec::Decimal)]];
pub(crate) const UPDATE: &[&[Field]] = &[COMMON, &[opt("display_name", Spec::Text)]];

const TEXTS: &[&str] = &["active", "country", "description", "display_name", "jurisdiction", "state", "tax_type"];

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    list(world, Kind::TaxRate, call, &[("active", Index::Active), ("inclusive", Index::Type)])
}

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let text = sent.need("percentage")?;
    let bad = || StripeError::invalid(format!("Invalid percentage: {text}")).param("percentage");
    let percentage = text.parse::<Number>().ok().filter(|_| taxes::is_percentage(text)).ok_or_else(bad)?;
    let id = world.id("txr");
    let mut rate = json!({
        "id": id,
        "object": "tax_rate",
        "active": true,
        "country": null,
        "created": world.now,
        "description": null,
        "display_name": null,
        "effective_percentage": null,
        "flat_amount": null,
        "inclusive": sent.flag("inclusive"),
        "jurisdiction": null,
        "jurisdiction_level": null,
        "livemode": false,
        "metadata": {},
        "percentage": percentage,
        "rate_type": "percentage",
        "state": null,
        "tax_type": null
    });
    sent.assign(&mut rate, TEXTS);
    sent.merge_metadata(&mut rate);
    changed(world, Kind::TaxRate, rate)
}

pub(crate) fn update(world: &mut World, call: &Call<'_>) -> Answer {
    let mut rate = (*find(&world.store, Kind::TaxRate, call.id())?).clone();
    call.params.assign(&mut rate, TEXTS);
    call.params.merge_metadata(&mut rate);
    changed(world, Kind::TaxRate, rate)
}

/// Puts the rates of these ids (or these rates), where any were sent, into the member of the same name.
pub(super) fn take(store: &Store, object: &mut Value, name: &str, sent: &Params) -> Result<(), StripeError> {
    if sent.get(name).is_none() {
        return Ok(());
    }
    let mut rates = Vec::new();
    for id in sent.list(name).iter().filter_map(|rate| rate.as_str().or(rate["id"].as_str())) {
        let rate = named(store, Kind::TaxRate, id, name)?;
        if rate["active"] != true {
            let text = format!("The tax rate {id} is archived and cannot be used.");
            return Err(StripeError::invalid(text).param(name));
        }
        rates.push((*rate).clone());
    }
    object[name] = Value::Array(rates);
    Ok(())
}
