//! Metrics and plans at Lago, made of the catalogue. Nothing that is there is changed: what differs is named.
//!
//! Lago knows no allowance that several metrics share. Each charge of a tier that bills overage leaves the tier's whole allowance
//! free of charge: an invoice of Lago's may ask for less than the account says, never for more.

use std::sync::Arc;

use billing::catalogue::{EventType, Overage, Tier};
use billing::decimal::Decimal;
use serde_json::{Value, json};

use super::codes;
use super::configured;
use super::event::FIELD;
use super::reconcile::unavailable;
use crate::app::App;
use crate::error::{Error, Result};
use crate::gateways::lago::{Lago, LagoError, Remedy, read, segment};

/// One metric or plan, and how it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// `metric` or `plan`.
    pub what: &'static str,
    pub code: String,
    pub outcome: Outcome,
}

/// How it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Created,
    Found,
    /// It is not there; only said where nothing was to be made.
    Missing,
    /// It is there and says something else.
    Differs(String),
    /// Lago does not take it.
    Refused(String),
}

/// Whether what is missing is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Make,
    Look,
}

/// A metric that is there, for which a plan has a charge.
struct Metric {
    id: String,
    event: EventType,
    /// The catalogue says another code by now: what is still counted under this one has the price of its time.
    is_past: bool,
}

/// Goes through the catalogue: a metric for each event type that has a code, and for each code that its events of the open month
/// still have; then a plan for each tier.
///
/// # Errors
/// `Upstream` where Lago cannot be asked.
pub async fn run(app: &App, mode: Mode) -> Result<Vec<Line>> {
    let lago = &configured(app)?.gateway;
    let mut lines = Vec::new();
    let mut metrics: Vec<Metric> = Vec::new();
    for (kind, event) in app.catalogue.events.iter().filter(|(_, event)| !event.lago_code.is_empty()) {
        let (id, outcome) = metric(lago, kind, &event.lago_code, mode).await?;
        lines.push(Line { what: "metric", code: event.lago_code.clone(), outcome });
        // Two types may share a metric; a plan has one charge for it.
        if let Some(id) = id.filter(|id| metrics.iter().all(|known| known.id != *id)) {
            metrics.push(Metric { id, event: event.clone(), is_past: false });
        }
    }
    let (catalogue, now_ms) = (Arc::clone(&app.catalogue), app.clock.now().as_millisecond());
    for (kind, code) in app.db.read(move |tx| codes::past(tx, &catalogue, now_ms)).await? {
        let (id, outcome) = metric(lago, &kind, &code, mode).await?;
        lines.push(Line { what: "metric", code: code.clone(), outcome });
        // Of a type that is gone nobody knows the price: its charges stay as they are.
        if let (Some(id), Some(event)) = (id, app.catalogue.events.get(&*kind)) {
            metrics.push(Metric { id, event: EventType { lago_code: code, ..event.clone() }, is_past: true });
        }
    }
    for tier in &app.catalogue.tiers {
        let outcome = plan(lago, tier, &metrics, mode).await?;
        lines.push(Line { what: "plan", code: tier.id.clone(), outcome });
    }
    Ok(lines)
}

async fn metric(lago: &Lago, kind: &str, code: &str, mode: Mode) -> Result<(Option<String>, Outcome)> {
    let path = format!("/billable_metrics/{}", segment(code));
    if let Some(found) = lago.find(&path).await.map_err(unavailable)? {
        return Ok(judged_metric(&found));
    }
    if mode == Mode::Look {
        return Ok((None, Outcome::Missing));
    }
    let body = json!({ "billable_metric": {
        "name": kind, "code": code, "aggregation_type": "sum_agg", "field_name": FIELD, "recurring": false,
    } });
    match lago.post("/billable_metrics", body.to_string()).await {
        Ok(made) => Ok((read::metric(&made).map(|metric| metric.id), Outcome::Created)),
        Err(error) if is_taken(&error) => match lago.find(&path).await.map_err(unavailable)? {
            Some(found) => Ok(judged_metric(&found)),
            None => Ok((None, Outcome::Refused("the code is taken and not shown".to_owned()))),
        },
        Err(error) => refused(error).map(|outcome| (None, outcome)),
    }
}

/// Only a sum can be corrected: a metric that counts events cannot take one back.
fn judged_metric(found: &Value) -> (Option<String>, Outcome) {
    let Some(metric) = read::metric(found) else { return (None, Outcome::Differs("it has no id".to_owned())) };
    let (aggregation, field) = (metric.aggregation.as_str(), metric.field.as_str());
    if (aggregation, field) == ("sum_agg", FIELD) {
        return (Some(metric.id), Outcome::Found);
    }
    (Some(metric.id.clone()), Outcome::Differs(format!("{aggregation} of {field:?}, expected sum_agg of {FIELD:?}")))
}

async fn plan(lago: &Lago, tier: &Tier, metrics: &[Metric], mode: Mode) -> Result<Outcome> {
    let path = format!("/plans/{}", segment(&tier.id));
    let wanted = wanted(tier, metrics)?;
    if let Some(found) = lago.find(&path).await.map_err(unavailable)? {
        return Ok(judged_plan(&wanted, metrics, &found["plan"]));
    }
    if mode == Mode::Look {
        return Ok(Outcome::Missing);
    }
    match lago.post("/plans", json!({ "plan": wanted }).to_string()).await {
        Ok(_) => Ok(Outcome::Created),
        Err(error) if is_taken(&error) => match lago.find(&path).await.map_err(unavailable)? {
            Some(found) => Ok(judged_plan(&wanted, metrics, &found["plan"])),
            None => Ok(Outcome::Refused("the code is taken and not shown".to_owned())),
        },
        Err(error) => refused(error),
    }
}

fn wanted(tier: &Tier, metrics: &[Metric]) -> Result<Value> {
    let charges = metrics.iter().map(|metric| charge(tier, &metric.id, &metric.event)).collect::<Result<Vec<_>>>()?;
    Ok(json!({
        "name": tier.name,
        "code": tier.id,
        "interval": "monthly",
        "amount_cents": tier.price.minor(),
        "amount_currency": tier.price.currency().code().to_uppercase(),
        "pay_in_advance": false,
        "charges": charges,
    }))
}

fn charge(tier: &Tier, metric: &str, event: &EventType) -> Result<Value> {
    let price = match tier.overage {
        Overage::Block => Decimal::ZERO,
        Overage::Bill => unit_price(tier, event)?,
    };
    let free = free_units(tier, event);
    if price == Decimal::ZERO || free == Some(0) {
        let properties = json!({ "amount": price.wire() });
        return Ok(json!({ "billable_metric_id": metric, "charge_model": "standard", "properties": properties }));
    }
    // A type without weight is free however much is used; it has no price either and does not come here.
    let free = free.ok_or_else(|| Error::internal("a priced event type has a weight"))?;
    let range = |from: i64, to: Option<i64>, price: String| json!({ "from_value": from, "to_value": to, "per_unit_amount": price, "flat_amount": "0" });
    let ranges = [range(0, Some(free), "0".to_owned()), range(free.saturating_add(1), None, price.wire())];
    let properties = json!({ "graduated_ranges": ranges });
    Ok(json!({ "billable_metric_id": metric, "charge_model": "graduated", "properties": properties }))
}

/// What one unit costs beyond the allowance, in units of the currency: `0.002`.
fn unit_price(tier: &Tier, event: &EventType) -> Result<Decimal> {
    let number = |text: &str| Decimal::parse(text).map_err(Error::internal);
    let per_1k = number(&tier.price_per_1k.wire())?;
    per_1k
        .times(number(&event.credits.wire())?)
        .and_then(|price| price.times(number_of("0.001")))
        .map_err(Error::internal)
}

fn number_of(text: &str) -> Decimal {
    Decimal::parse(text).unwrap_or(Decimal::ZERO)
}

/// Whole units that the allowance covers, rounded up; nothing where a unit weighs nothing.
fn free_units(tier: &Tier, event: &EventType) -> Option<i64> {
    let (included, weight) = (tier.included_credits.micro(), event.credits.micro());
    if weight <= 0 { None } else { Some(included.div_euclid(weight) + i64::from(included.rem_euclid(weight) != 0)) }
}

/// What matters to shipping and to what is asked for: price, interval, and a charge for each metric.
fn judged_plan(wanted: &Value, metrics: &[Metric], found: &Value) -> Outcome {
    let mut differences = Vec::new();
    for member in ["interval", "amount_cents", "amount_currency"] {
        if wanted[member] != found[member] {
            differences.push(format!("{member} is {}, expected {}", found[member], wanted[member]));
        }
    }
    let none = Vec::new();
    let charges = found["charges"].as_array().unwrap_or(&none);
    for charge in wanted["charges"].as_array().unwrap_or(&none) {
        let metric = &charge["billable_metric_id"];
        match charges.iter().find(|found| is_of(found, metric)) {
            None => differences.push(format!("there is no charge for the metric {metric}")),
            Some(_) if metrics.iter().any(|known| known.is_past && known.id == *metric) => {}
            Some(found) if found["charge_model"] != charge["charge_model"] => {
                differences.push(format!(
                    "the charge of {metric} is {}, expected {}",
                    found["charge_model"], charge["charge_model"]
                ));
            }
            Some(found) if !same_prices(&charge["properties"], &found["properties"]) => {
                differences.push(format!("the charge of {metric} has other prices"));
            }
            Some(_) => {}
        }
    }
    if differences.is_empty() { Outcome::Found } else { Outcome::Differs(differences.join("; ")) }
}

fn is_of(charge: &Value, metric: &Value) -> bool {
    charge["lago_billable_metric_id"] == *metric || charge["billable_metric_id"] == *metric
}

/// Every member that we set has the same meaning: `0.002` and `0.0020` are one price. Members that Lago adds are its own.
fn same_prices(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            wanted.iter().all(|(name, value)| found.get(name).is_some_and(|found| same_prices(value, found)))
        }
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() == found.len() && wanted.iter().zip(found).all(|(wanted, found)| same_prices(wanted, found))
        }
        _ => wanted == found || number_in(wanted).is_some_and(|number| Some(number) == number_in(found)),
    }
}

fn number_in(value: &Value) -> Option<Decimal> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Decimal::parse(&text).ok()
}

fn is_taken(error: &LagoError) -> bool {
    error.refusal().is_some_and(|refusal| refusal.says("code", "value_already_exist"))
}

/// A refusal is a line of the report; an outage ends it.
fn refused(error: LagoError) -> Result<Outcome> {
    match error.remedy() {
        Remedy::Content => Ok(Outcome::Refused(error.to_string())),
        Remedy::Again | Remedy::Operator => Err(unavailable(error)),
    }
}

#[cfg(test)]
mod tests {
    use billing::catalogue::Catalogue;

    use super::*;

    fn metric(id: &str, event: EventType, is_past: bool) -> Metric {
        Metric { id: id.to_owned(), event, is_past }
    }

    #[test]
    fn a_tier_becomes_charges_in_plain_decimals() {
        let catalogue = Catalogue::built_in();
        let plan = |tier: &str, weight: i64| {
            let event =
                EventType { credits: billing::usage::Credits::from_micro(weight), lago_code: "tts_call".into() };
            wanted(catalogue.tier(tier).unwrap(), &[metric("m", event, false)]).unwrap()["charges"][0].clone()
        };
        let graduated = |free: i64, price: &str| {
            json!([{ "from_value": 0, "to_value": free, "per_unit_amount": "0", "flat_amount": "0" },
                   { "from_value": free + 1, "to_value": null, "per_unit_amount": price, "flat_amount": "0" }])
        };
        assert_eq!(plan("professional", 1_000_000)["properties"]["graduated_ranges"], graduated(500, "0.002"));
        assert_eq!(plan("professional", 3_000_000)["properties"]["graduated_ranges"], graduated(167, "0.006"));
        assert_eq!(plan("professional", 1)["properties"]["graduated_ranges"], graduated(500_000_000, "0.000000002"));
        for (tier, weight) in [("trial", 1_000_000), ("starter", 5), ("professional", 0)] {
            assert_eq!(plan(tier, weight)["properties"], json!({ "amount": "0" }), "{tier}");
        }
    }

    #[test]
    fn a_plan_that_is_there_is_compared_by_meaning() {
        let catalogue = Catalogue::built_in();
        let judged_plan = |wanted: &Value, is_past: bool, found: &Value| {
            judged_plan(wanted, &[metric("m", catalogue.events["tts"].clone(), is_past)], found)
        };
        let current = metric("m", catalogue.events["tts"].clone(), false);
        let wanted = wanted(catalogue.tier("professional").unwrap(), &[current]).unwrap();
        let mut found = wanted.clone();
        found["charges"][0]["lago_billable_metric_id"] = "m".into();
        found["charges"][0]["properties"]["graduated_ranges"][1]["per_unit_amount"] = "0.0020".into();
        assert_eq!(judged_plan(&wanted, false, &found), Outcome::Found);
        found["charges"][0]["properties"]["graduated_ranges"][1]["per_unit_amount"] = "0.003".into();
        assert_eq!(judged_plan(&wanted, true, &found), Outcome::Found, "the price of its time");
        found["amount_cents"] = 1.into();
        let Outcome::Differs(text) = judged_plan(&wanted, false, &found) else { panic!("it differs") };
        assert!(text.contains("amount_cents is 1, expected 4900") && text.contains("other prices"), "{text}");
    }
}
