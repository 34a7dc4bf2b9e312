//! `GET /customers/{external_id}/past_usage`: the periods that are billed, newest first. It is made from invoices only.

use super::asked::Call;
use super::desk::Answer;
use super::invoices::Billed;
use super::page::Page;
use super::refusal::Refusal;
use super::world::World;
use serde_json::Value;

pub(super) fn list(world: &World, call: &Call, customer: &str) -> Answer {
    let customer = world.customer(customer)?;
    let Some(external_id) = call.query("external_subscription_id") else {
        return Err(Refusal::field("external_subscription_id", "value_is_mandatory"));
    };
    let own = world.by_external_id.get(external_id).into_iter().flatten();
    let own = own.filter(|place| world.subscriptions[**place].customer == customer).copied().collect::<Vec<_>>();
    if own.is_empty() {
        return Err(Refusal::not_found("subscription"));
    }
    let metric = call.query("billable_metric_code");
    if metric.is_some_and(|code| world.metrics.find(code).is_none()) {
        return Err(Refusal::not_found("billable_metric"));
    }
    let most = call.query("periods_count").and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
    let periods = world.invoices.newest().filter_map(|invoice| match &invoice.billed {
        Billed::Period { subscription, usage } if own.contains(subscription) => Some(usage),
        Billed::Period { .. } | Billed::Credits { .. } => None,
    });
    let periods: Vec<Value> = periods.take(most).map(|usage| of_metric(usage, metric)).collect();
    Ok(Page::of(call).show("usage_periods", &periods, Value::clone))
}

/// The usage of a period, with the charges on one metric only where one is asked for.
fn of_metric(usage: &Value, metric: Option<&str>) -> Value {
    let mut usage = usage.clone();
    if let (Some(code), Some(charges)) = (metric, usage["charges_usage"].as_array_mut()) {
        charges.retain(|charge| charge["billable_metric"]["code"] == code);
    }
    usage
}
