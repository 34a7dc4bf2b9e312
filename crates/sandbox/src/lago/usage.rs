//! Usage and what it costs: the events of a period, added up by the metrics of a plan and priced by its charges.

use super::asked::Call;
use super::charges::decimals;
use super::decimal::{Decimal, TooLong};
use super::desk::{Answer, Reply};
use super::events::Event;
use super::instant;
use super::metrics::{Aggregation, Metric};
use super::periods::Period;
use super::plans::Charge;
use super::refusal::Refusal;
use super::subscriptions;
use super::table::Place;
use super::taxes;
use super::world::World;
use serde_json::{Value, json};
use std::collections::HashSet;

/// What the events of a period come to for one metric.
#[derive(Debug, Clone, Copy)]
pub(super) struct Total {
    pub(super) units: Decimal,
    /// Of the events that counted; one whose property is no number did not.
    pub(super) events_count: u64,
    /// The prices in cents that the events carry themselves.
    carried: Decimal,
}

/// The usage of a period, charge by charge.
#[derive(Debug)]
pub(super) struct Usage {
    pub(super) period: Period,
    pub(super) currency: String,
    pub(super) amount_cents: i64,
    pub(super) taxes_amount_cents: i64,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    charge: usize,
    total: Total,
    amount_cents: i64,
}

/// Which charges to show.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Only<'a> {
    pub(super) charge: Option<&'a str>,
    pub(super) metric: Option<&'a str>,
}

/// Whether usage is shown as the jobs have left it, or as an invoice would count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    ByTheJobs,
    ByAnInvoice,
}

/// Adds up and prices a period of a subscription.
pub(super) fn of(world: &World, place: Place, period: Period, only: Only<'_>, seen: Seen) -> Result<Usage, TooLong> {
    let own = &world.subscriptions[place];
    let plan = &world.plans[own.plan];
    let cents = decimals(&plan.currency).unwrap_or(2);
    let mut lines = Vec::new();
    for (number, charge) in plan.charges.iter().enumerate() {
        let metric = &world.metrics[charge.metric];
        let wanted = |wanted: Option<&str>, own: &str| wanted.is_none_or(|wanted| wanted == own);
        if wanted(only.charge, &charge.code) && wanted(only.metric, &metric.code) {
            let total = total(world, &own.external_id, metric, period, seen)?;
            let amount_cents = charge.model.price(total.units, total.carried)?.cents(cents)?;
            lines.push(Line { charge: number, total, amount_cents });
        }
    }
    lines.sort_by(|one, two| name(world, plan.charges.get(one.charge)).cmp(name(world, plan.charges.get(two.charge))));
    let amount_cents = lines.iter().try_fold(0_i64, |sum, line| sum.checked_add(line.amount_cents)).ok_or(TooLong)?;
    let taxes_amount_cents = taxes::on(world, amount_cents)?;
    Ok(Usage { period, currency: plan.currency.clone(), amount_cents, taxes_amount_cents, lines })
}

fn name<'a>(world: &'a World, charge: Option<&Charge>) -> &'a str {
    charge.map_or("", |charge| &world.metrics[charge.metric].name)
}

/// What the events of a period come to.
pub(super) fn total(
    world: &World,
    external_id: &str,
    metric: &Metric,
    period: Period,
    seen: Seen,
) -> Result<Total, TooLong> {
    let events =
        world.events.counted(external_id, &metric.code, (period.from, period.until), seen == Seen::ByAnInvoice);
    let mut total = Total { units: Decimal::ZERO, events_count: 0, carried: Decimal::ZERO };
    let mut largest: Option<Decimal> = None;
    let mut seen_values = HashSet::new();
    for event in events {
        let Some(counted) = counted(metric, event)? else { continue };
        total.events_count += 1;
        total.carried = total.carried.plus(event.precise_total_amount_cents.unwrap_or_default())?;
        match (metric.aggregation, counted) {
            (Aggregation::Count, _) => total.units = total.units.plus(Decimal::whole(1))?,
            (Aggregation::Sum, Counted::Number(number)) => total.units = total.units.plus(number)?,
            (Aggregation::Latest, Counted::Number(number)) => total.units = number,
            (Aggregation::Max, Counted::Number(number)) => {
                let larger = match largest {
                    Some(largest) => number.compared(largest)?.is_gt(),
                    None => true,
                };
                largest = if larger { Some(number) } else { largest };
            }
            (Aggregation::Unique, Counted::Text(text)) => {
                seen_values.insert(text);
            }
            (_, Counted::Yes | Counted::Number(_) | Counted::Text(_)) => {}
        }
    }
    match metric.aggregation {
        Aggregation::Max => total.units = largest.unwrap_or_default(),
        Aggregation::Unique => total.units = Decimal::whole(seen_values.len() as i128),
        Aggregation::Count | Aggregation::Sum | Aggregation::Latest => {}
    }
    // Corrections may take back more than there was; nobody is paid for usage.
    total.units = total.units.or_zero_if_negative();
    if let Some((rounding, precision)) = metric.rounding {
        total.units = total.units.rounded(precision, rounding)?;
    }
    Ok(total)
}

enum Counted {
    Yes,
    Number(Decimal),
    Text(String),
}

/// What an event adds, or none: a missing property or one that is no plain number is passed over in silence, as Lago does.
fn counted(metric: &Metric, event: &Event) -> Result<Option<Counted>, TooLong> {
    if metric.aggregation == Aggregation::Count {
        return Ok(Some(Counted::Yes));
    }
    let property = metric.field_name.as_deref().and_then(|name| event.property(name));
    let Some(property) = property else { return Ok(None) };
    if metric.aggregation == Aggregation::Unique {
        return Ok(super::asked::scalar(property).map(Counted::Text));
    }
    match Decimal::property(property) {
        Ok(number) => Ok(Some(Counted::Number(number))),
        Err(super::decimal::Unreadable::Malformed) => Ok(None),
        Err(super::decimal::Unreadable::TooLong) => Err(TooLong),
    }
}

/// `GET /customers/{external_id}/current_usage`
pub(super) fn current(world: &World, call: &Call, customer: &str) -> Answer {
    let customer = world.customer(customer)?;
    let place =
        call.query("external_subscription_id").and_then(|external_id| subscriptions::active(world, external_id));
    let place = place.filter(|place| world.subscriptions[*place].customer == customer);
    let place = place.ok_or_else(|| Refusal::not_allowed("no_active_subscription"))?;
    let only = Only { charge: call.query("charge_code"), metric: call.query("billable_metric_code") };
    check(world, place, only)?;
    let period = subscriptions::counted_part(world, place, subscriptions::period_at(world, place, world.now));
    let mut usage = of(world, place, period, only, Seen::ByTheJobs)?;
    if call.query("apply_taxes") == Some("false") {
        usage.taxes_amount_cents = 0;
    }
    Ok(Reply::Json(json!({"customer_usage": view(world, place, &usage, None)})))
}

/// Errors: 404 for a charge or a metric that does not exist.
pub(super) fn check(world: &World, place: Place, only: Only<'_>) -> Result<(), Refusal> {
    let charges = &world.plans[world.subscriptions[place].plan].charges;
    if only.charge.is_some_and(|code| charges.iter().all(|charge| charge.code != code)) {
        return Err(Refusal::not_found("charge"));
    }
    if only.metric.is_some_and(|code| world.metrics.find(code).is_none()) {
        return Err(Refusal::not_found("billable_metric"));
    }
    Ok(())
}

/// As Lago shows it; the last second of the period is its end.
pub(super) fn view(world: &World, place: Place, usage: &Usage, invoice: Option<&str>) -> Value {
    let charges = &world.plans[world.subscriptions[place].plan].charges;
    let line = |line: &Line| line_view(world, &charges[line.charge], line, &usage.currency);
    let zone = &world.customers[world.subscriptions[place].customer].zone;
    json!({
        "from_datetime": instant::seconds(usage.period.from),
        "to_datetime": instant::seconds(usage.period.until - 1),
        "issuing_date": instant::date_in(zone, usage.period.until - 1),
        "currency": usage.currency,
        "amount_cents": usage.amount_cents,
        "taxes_amount_cents": usage.taxes_amount_cents,
        "total_amount_cents": usage.amount_cents.saturating_add(usage.taxes_amount_cents),
        "lago_invoice_id": invoice,
        "charges_usage": usage.lines.iter().map(line).collect::<Value>(),
    })
}

fn line_view(world: &World, charge: &Charge, line: &Line, currency: &str) -> Value {
    let metric = &world.metrics[charge.metric];
    json!({
        "units": line.total.units.text(),
        "total_aggregated_units": line.total.units.text(),
        "events_count": line.total.events_count,
        "amount_cents": line.amount_cents,
        "amount_currency": currency,
        "pricing_unit_details": null,
        "charge": {
            "lago_id": charge.lago_id,
            "charge_model": charge.model.name(),
            "code": charge.code,
            "invoice_display_name": charge.invoice_display_name,
        },
        "billable_metric": {
            "lago_id": metric.lago_id,
            "name": metric.name,
            "code": metric.code,
            "aggregation_type": metric.aggregation.name(),
        },
        "filters": [],
        "grouped_usage": [],
        "presentation_breakdowns": [],
    })
}
