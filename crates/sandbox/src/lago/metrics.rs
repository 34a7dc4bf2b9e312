//! `/billable_metrics`: what of an event is added up, and how.

use super::asked::{Call, Fields};
use super::decimal::Rounding;
use super::desk::{Answer, Reply};
use super::instant::{self, Micros};
use super::page::Page;
use super::refusal::{Faulty, Refusal};
use super::world::{World, uuid};
use serde_json::{Value, json};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aggregation {
    Count,
    Sum,
    Max,
    Unique,
    Latest,
}

#[derive(Debug)]
pub(super) struct Metric {
    pub(super) lago_id: String,
    pub(super) name: String,
    pub(super) code: String,
    pub(super) aggregation: Aggregation,
    pub(super) field_name: Option<String>,
    pub(super) expression: Option<String>,
    pub(super) rounding: Option<(Rounding, i32)>,
    pub(super) filters: Vec<Filter>,
    sent: Sent,
}

/// A property of which only some values are known; others are told of by the hourly job.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Filter {
    pub(super) key: String,
    #[serde(default)]
    pub(super) values: Vec<String>,
}

/// What is only shown again.
#[derive(Debug)]
struct Sent {
    description: Value,
    rounding_function: Value,
    rounding_precision: Value,
    created_at: Micros,
}

impl Aggregation {
    /// `weighted_sum_agg` is Lago's too; the sandbox does not compute it and so does not take it.
    const ALL: [(&'static str, Aggregation); 5] = [
        ("count_agg", Aggregation::Count),
        ("sum_agg", Aggregation::Sum),
        ("max_agg", Aggregation::Max),
        ("unique_count_agg", Aggregation::Unique),
        ("latest_agg", Aggregation::Latest),
    ];

    fn parse(name: &str) -> Option<Aggregation> {
        Aggregation::ALL.iter().find(|(own, _)| *own == name).map(|(_, aggregation)| *aggregation)
    }

    pub(super) fn name(self) -> &'static str {
        Aggregation::ALL.iter().find(|(_, own)| *own == self).map_or("", |(name, _)| name)
    }
}

impl Metric {
    pub(super) fn view(&self) -> Value {
        json!({
            "lago_id": self.lago_id,
            "name": self.name,
            "code": self.code,
            "description": self.sent.description,
            "aggregation_type": self.aggregation.name(),
            "field_name": self.field_name,
            "expression": self.expression,
            "recurring": false,
            "weighted_interval": null,
            "rounding_function": self.sent.rounding_function,
            "rounding_precision": self.sent.rounding_precision,
            "filters": self.filters,
            "created_at": instant::seconds(self.sent.created_at),
        })
    }
}

/// `POST /billable_metrics`
pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let sent = call.root("billable_metric")?;
    let metric = read(world, sent)?;
    let view = metric.view();
    let code = metric.code.clone();
    world.metrics.push(&code, metric);
    Ok(Reply::Json(json!({"billable_metric": view})))
}

fn read(world: &World, sent: Fields<'_>) -> Result<Metric, Refusal> {
    let mut faulty = Faulty::default();
    let (name, code) = (sent.text("name"), sent.text("code"));
    faulty.add_if(name.is_none(), "name", "value_is_mandatory");
    faulty.add_if(code.is_none(), "code", "value_is_mandatory");
    faulty.add_if(code.as_ref().is_some_and(|code| world.metrics.find(code).is_some()), "code", "value_already_exist");
    let aggregation = sent.text("aggregation_type").and_then(|name| Aggregation::parse(&name));
    faulty.add_if(aggregation.is_none(), "aggregation_type", "value_is_invalid");
    let field_name = sent.text("field_name");
    let needs_field = aggregation.is_some_and(|aggregation| aggregation != Aggregation::Count);
    faulty.add_if(needs_field && field_name.is_none(), "field_name", "value_is_mandatory");
    // A recurring metric carries its units over from period to period; the sandbox begins each at zero.
    faulty.add_if(sent.flag("recurring"), "recurring", "value_is_invalid");
    let rounding = rounding(sent);
    faulty.add_if(rounding.is_err(), "rounding_function", "value_is_invalid");
    let filters: Result<Vec<Filter>, _> = serde_json::from_value(sent.list("filters").into());
    faulty.add_if(filters.is_err(), "filters", "value_is_invalid");
    let expression = sent.text("expression");
    let malformed = |text: &String| super::expression::parse(text).is_err();
    faulty.add_if(expression.as_ref().is_some_and(malformed), "expression", "invalid_expression");
    faulty.verdict()?;
    Ok(Metric {
        lago_id: uuid("billable_metric", world.metrics.len()),
        name: name.unwrap_or_default(),
        code: code.unwrap_or_default(),
        aggregation: aggregation.unwrap_or(Aggregation::Count),
        field_name,
        expression,
        rounding: rounding.unwrap_or_default(),
        filters: filters.unwrap_or_default(),
        sent: Sent {
            description: sent.sent("description"),
            rounding_function: sent.sent("rounding_function"),
            rounding_precision: sent.sent("rounding_precision"),
            created_at: world.now,
        },
    })
}

fn rounding(sent: Fields<'_>) -> Result<Option<(Rounding, i32)>, ()> {
    let Some(function) = sent.text("rounding_function") else { return Ok(None) };
    let precision = sent.text("rounding_precision").map_or(Ok(0), |text| text.parse()).map_err(|_| ())?;
    match function.as_str() {
        "round" => Ok(Some((Rounding::HalfUp, precision))),
        "ceil" => Ok(Some((Rounding::Up, precision))),
        "floor" => Ok(Some((Rounding::Down, precision))),
        _ => Err(()),
    }
}

fn find<'a>(world: &'a World, code: &str) -> Result<&'a Metric, Refusal> {
    let place = world.metrics.find(code).ok_or_else(|| Refusal::not_found("billable_metric"))?;
    Ok(&world.metrics[place])
}

/// `GET /billable_metrics/{code}`
pub(super) fn show(world: &World, code: &str) -> Answer {
    Ok(Reply::Json(json!({"billable_metric": find(world, code)?.view()})))
}

/// `GET /billable_metrics`
pub(super) fn list(world: &World, call: &Call) -> Reply {
    let all: Vec<&Metric> = world.metrics.newest().collect();
    Page::of(call).show("billable_metrics", &all, |metric| metric.view())
}

/// `DELETE /billable_metrics/{code}`: the only way in which Lago ever deletes events.
pub(super) fn delete(world: &mut World, code: &str) -> Answer {
    let view = find(world, code)?.view();
    world.metrics.forget(code);
    world.events.delete_code(code);
    Ok(Reply::Json(json!({"billable_metric": view})))
}
