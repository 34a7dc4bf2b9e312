//! `/plans`: what a subscription costs, and the charges on its usage.

use super::asked::{Call, Fields};
use super::charges::{Model, decimals};
use super::desk::{Answer, Reply};
use super::instant;
use super::page::Page;
use super::periods::Interval;
use super::refusal::{Faulty, Refusal};
use super::table::Place;
use super::world::{World, uuid};
use serde_json::{Value, json};

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) code: String,
    pub(super) interval: Interval,
    pub(super) amount_cents: i64,
    pub(super) currency: String,
    pub(super) charges: Vec<Charge>,
    pub(super) view: Value,
}

/// A price on a metric.
#[derive(Debug)]
pub(super) struct Charge {
    pub(super) lago_id: String,
    pub(super) code: String,
    pub(super) metric: Place,
    pub(super) model: Model,
    pub(super) invoice_display_name: Value,
}

impl Plan {
    /// What a year of it costs, by which a change of plan is judged.
    pub(super) fn amount_per_year(&self) -> i128 {
        i128::from(self.amount_cents) * self.interval.per_year()
    }
}

/// `POST /plans`
pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let plan = read(world, call.root("plan")?)?;
    let view = plan.view.clone();
    let code = plan.code.clone();
    world.plans.push(&code, plan);
    Ok(Reply::Json(json!({ "plan": view })))
}

fn read(world: &World, sent: Fields<'_>) -> Result<Plan, Refusal> {
    let mut faulty = Faulty::default();
    let (name, code) = (sent.text("name"), sent.text("code"));
    faulty.add_if(name.is_none(), "name", "value_is_mandatory");
    faulty.add_if(code.is_none(), "code", "value_is_mandatory");
    faulty.add_if(code.as_ref().is_some_and(|code| world.plans.find(code).is_some()), "code", "value_already_exist");
    let interval = sent.text("interval").and_then(|name| Interval::parse(&name));
    faulty.add_if(interval.is_none(), "interval", "value_is_invalid");
    let amount_cents = sent.text("amount_cents").and_then(|text| text.parse().ok()).filter(|cents: &i64| *cents >= 0);
    faulty.add_if(amount_cents.is_none(), "amount_cents", "value_is_invalid");
    let currency = sent.text("amount_currency").filter(|code| decimals(code).is_some());
    faulty.add_if(currency.is_none(), "amount_currency", "value_is_invalid");
    faulty.verdict()?;
    let lago_id = uuid("plan", world.plans.len());
    let charges = sent.list("charges").iter().enumerate();
    let charges: Result<Vec<_>, Refusal> = charges.map(|(number, one)| charge(world, &lago_id, number, one)).collect();
    let (charges, views): (Vec<Charge>, Vec<Value>) = charges?.into_iter().unzip();
    let code = code.unwrap_or_default();
    let view = json!({
        "lago_id": lago_id,
        "name": name,
        "invoice_display_name": sent.sent("invoice_display_name"),
        "code": code,
        "interval": sent.sent("interval"),
        "description": sent.sent("description"),
        "amount_cents": amount_cents,
        "amount_currency": currency,
        "trial_period": sent.amount("trial_period").unwrap_or_default().json(),
        "pay_in_advance": sent.flag("pay_in_advance"),
        "bill_charges_monthly": sent.sent("bill_charges_monthly"),
        "bill_fixed_charges_monthly": false,
        "customers_count": 0,
        "active_subscriptions_count": 0,
        "draft_invoices_count": 0,
        "parent_id": null,
        "pending_deletion": false,
        "created_at": instant::seconds(world.now),
        "charges": views,
        "fixed_charges": [],
        "taxes": [],
        "usage_thresholds": [],
        "entitlements": [],
        "minimum_commitment": null,
    });
    Ok(Plan {
        code,
        interval: interval.unwrap_or(Interval::Monthly),
        amount_cents: amount_cents.unwrap_or_default(),
        currency: currency.unwrap_or_default(),
        charges,
        view,
    })
}

/// Errors: 404 for an unknown metric; 422 for what the model does not take.
fn charge(world: &World, plan: &str, number: usize, sent: &Value) -> Result<(Charge, Value), Refusal> {
    let sent = Fields::of(sent).ok_or_else(|| Refusal::not_found("billable_metrics"))?;
    let wanted = sent.text("billable_metric_id").unwrap_or_default();
    let metric = world.metrics.newest().find(|metric| metric.lago_id == wanted);
    let metric = metric.and_then(|metric| world.metrics.find(&metric.code));
    let metric = metric.ok_or_else(|| Refusal::not_found("billable_metrics"))?;
    let model = sent.text("charge_model").unwrap_or_default();
    let model = Model::read(&model, sent.value("properties")).map_err(|(field, code)| Refusal::field(field, code))?;
    let own = &world.metrics[metric];
    let code = sent.text("code").unwrap_or_else(|| own.code.clone());
    let lago_id = uuid(plan, number);
    let view = json!({
        "lago_id": lago_id,
        "lago_billable_metric_id": own.lago_id,
        "billable_metric_code": own.code,
        "code": code,
        "invoice_display_name": sent.sent("invoice_display_name"),
        "created_at": instant::seconds(world.now),
        "charge_model": model.name(),
        "invoiceable": sent.value("invoiceable").is_none_or(|value| *value != false),
        "regroup_paid_fees": null,
        "pay_in_advance": false,
        "prorated": false,
        "min_amount_cents": 0,
        "properties": sent.value("properties").cloned().unwrap_or_else(|| json!({})),
        "applied_pricing_unit": null,
        "lago_parent_id": null,
        "filters": [],
        "taxes": [],
    });
    Ok((Charge { lago_id, code, metric, model, invoice_display_name: sent.sent("invoice_display_name") }, view))
}

/// `GET /plans/{code}`
pub(super) fn show(world: &World, code: &str) -> Answer {
    let place = world.plans.find(code).ok_or_else(|| Refusal::not_found("plan"))?;
    Ok(Reply::Json(json!({"plan": world.plans[place].view})))
}

/// `GET /plans`
pub(super) fn list(world: &World, call: &Call) -> Reply {
    let all: Vec<&Plan> = world.plans.newest().collect();
    Page::of(call).show("plans", &all, |plan| plan.view.clone())
}
