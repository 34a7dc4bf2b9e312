//! Subscription schedules: a subscription that changes by itself, phase by phase.

use super::schedule_phases::{self as phases, PHASE};
use super::{Answer, Call, Reply, fill, find, list_where, named, narrow, subscription_changes, within};
use crate::calendar::DAY;
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::params::{Field, Params, Spec, opt};
use crate::world::{World, array};
use serde_json::{Value, json};
use std::sync::Arc;

/// How long before its end a schedule is announced to expire.
const EXPIRY_NOTICE: i64 = 7 * DAY;

pub(crate) const LIST: &[Field] = &[
    opt("canceled_at", Spec::Range),
    opt("completed_at", Spec::Range),
    opt("customer", Spec::Text),
    opt("customer_account", Spec::Unsupported),
    opt("released_at", Spec::Range),
    opt("scheduled", Spec::Bool),
];

const INVOICE_SETTINGS: &[Field] = &[
    opt("account_tax_ids", Spec::Unsupported),
    opt("custom_fields", Spec::Unsupported),
    opt("days_until_due", Spec::Int(0, 3650)),
    opt("description", Spec::Clearable),
    opt("footer", Spec::Clearable),
    opt("issuer", Spec::Unsupported),
];
const SETTINGS: &[Field] = &[
    opt("application_fee_percent", Spec::Unsupported),
    opt("automatic_tax", Spec::Ignored),
    opt("billing_cycle_anchor", Spec::OneOf(&["automatic"])),
    opt("billing_thresholds", Spec::Unsupported),
    opt("collection_method", Spec::OneOf(&["charge_automatically", "send_invoice"])),
    opt("default_payment_method", Spec::Text),
    opt("description", Spec::Clearable),
    opt("invoice_settings", Spec::Hash(INVOICE_SETTINGS)),
    opt("on_behalf_of", Spec::Unsupported),
    opt("transfer_data", Spec::Unsupported),
];
const COMMON: &[Field] = &[
    opt("default_settings", Spec::Hash(SETTINGS)),
    opt("end_behavior", Spec::OneOf(&["cancel", "release"])),
    opt("metadata", Spec::Metadata),
    opt("pause_schedules", Spec::Unsupported),
    opt("phases", Spec::List(&Spec::Hash(PHASE))),
];
pub(crate) const CREATE: &[&[Field]] = &[
    COMMON,
    &[
        opt("billing_mode", Spec::Ignored),
        opt("customer", Spec::Text),
        opt("customer_account", Spec::Unsupported),
        opt("from_subscription", Spec::Text),
        opt("start_date", Spec::TimeOrNow),
    ],
];
pub(crate) const UPDATE: &[&[Field]] =
    &[COMMON, &[opt("proration_behavior", Spec::OneOf(&["always_invoice", "create_prorations", "none"]))]];
pub(crate) const RELEASE: &[Field] = &[opt("preserve_cancel_date", Spec::Bool)];
pub(crate) const CANCEL: &[Field] = &[opt("invoice_now", Spec::Bool), opt("prorate", Spec::Bool)];

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    let mut query = narrow(call, &[("customer", Index::Customer)]);
    let params = &call.params;
    query.keep = Some(Box::new(move |schedule| {
        let ranges = ["canceled_at", "completed_at", "released_at"];
        let fits = |name: &&str| params.get(name).is_none_or(|range| within(Some(range), schedule[*name].as_i64()));
        let waits = schedule["status"] == "not_started";
        ranges.iter().all(fits) && params.flag("scheduled").is_none_or(|scheduled| scheduled == waits)
    }));
    list_where(world, Kind::SubscriptionSchedule, call, query)
}

fn object(id: &str, customer: &Value, phases: Vec<Value>, now: i64) -> Value {
    json!({
        "id": id,
        "object": "subscription_schedule",
        "application": null,
        "billing_mode": {"flexible": {"proration_discounts": "included"}, "type": "flexible", "updated_at": now},
        "canceled_at": null,
        "completed_at": null,
        "created": now,
        "current_phase": null,
        "customer": customer["id"],
        "customer_account": null,
        "default_settings": {
            "application_fee_percent": null,
            "automatic_tax": {"disabled_reason": null, "enabled": false, "liability": null},
            "billing_cycle_anchor": "automatic", "billing_thresholds": null, "collection_method": "charge_automatically",
            "default_payment_method": null, "description": null,
            "invoice_settings": {
                "account_tax_ids": null, "custom_fields": null, "days_until_due": null, "description": null, "footer": null,
                "issuer": {"type": "self"}
            },
            "on_behalf_of": null, "transfer_data": null
        },
        "end_behavior": "release",
        "livemode": false,
        "metadata": {},
        "pause_schedules": [],
        "phases": phases,
        "released_at": null,
        "released_subscription": null,
        "status": "not_started",
        "subscription": null,
        "test_clock": customer["test_clock"]
    })
}

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    if let Some(id) = sent.text("from_subscription") {
        return adopt(world, call, id);
    }
    let customer = named(&world.store, Kind::Customer, sent.need("customer")?, "customer")?;
    world.follow_clock(&customer);
    if sent.list("phases").is_empty() {
        return Err(StripeError::missing("phases"));
    }
    let start = sent.int("start_date").unwrap_or(world.now);
    let phases = phases::written(world, call, start)?;
    if phases.last().is_some_and(|last| last["end_date"].as_i64() <= Some(world.now)) {
        let text = "The last phase of a schedule must end in the future.";
        return Err(StripeError::invalid(text).param("phases"));
    }
    let id = world.id("sub_sched");
    let mut schedule = object(&id, &customer, phases, world.now);
    write(&mut schedule, sent);
    let stored = world.store.put(Kind::SubscriptionSchedule, schedule);
    if start <= world.now {
        start_or_go_on(world, &stored)?;
    }
    find(&world.store, Kind::SubscriptionSchedule, &id).map(Reply::One)
}

/// A schedule for a subscription that runs already. What is to change is said later.
fn adopt(world: &mut World, call: &Call<'_>, id: &str) -> Answer {
    let sent = &call.params;
    let others = CREATE.concat().into_iter().filter(|field| !["from_subscription", "metadata"].contains(&field.name));
    if let Some(other) = others.into_iter().find(|field| sent.get(field.name).is_some()) {
        let text = format!("You cannot set `{}` if `from_subscription` is set.", other.name);
        return Err(StripeError::invalid(text).param(other.name));
    }
    let subscription = named(&world.store, Kind::Subscription, id, "from_subscription")?;
    world.follow_clock(&subscription);
    if let Some(other) = subscription["schedule"].as_str() {
        let text = format!("You cannot migrate a subscription that is already attached to a schedule: `{other}`.");
        return Err(StripeError::invalid(text).param("from_subscription"));
    }
    if !["active", "trialing", "past_due"].iter().any(|status| subscription["status"] == *status) {
        let text = "Only a subscription that is running can be migrated to a schedule.";
        return Err(StripeError::invalid(text).param("from_subscription"));
    }
    let phase = phases::of_subscription(world, &subscription);
    let own = world.id("sub_sched");
    let customer = json!({"id": subscription["customer"], "test_clock": subscription["test_clock"]});
    let mut schedule = object(&own, &customer, vec![phase], world.now);
    write(&mut schedule, sent);
    schedule["status"] = json!("active");
    schedule["subscription"] = json!(id);
    schedule["current_phase"] = dates(&schedule["phases"][0]);
    attach(world, id, &json!(own));
    Ok(Reply::One(world.store.put(Kind::SubscriptionSchedule, schedule)))
}

fn write(schedule: &mut Value, sent: &Params) {
    sent.assign(schedule, &["end_behavior"]);
    sent.merge_metadata(schedule);
    let Some(settings) = sent.get("default_settings") else { return };
    let mut invoice_settings = schedule["default_settings"]["invoice_settings"].clone();
    fill(&mut invoice_settings, settings.get("invoice_settings"));
    fill(&mut schedule["default_settings"], Some(settings));
    schedule["default_settings"]["invoice_settings"] = invoice_settings;
}

fn dates(phase: &Value) -> Value {
    json!({"end_date": phase["end_date"], "start_date": phase["start_date"]})
}

fn attach(world: &mut World, subscription: &str, schedule: &Value) {
    if let Some(subscription) = world.store.get(Kind::Subscription, subscription) {
        let mut subscription = (*subscription).clone();
        subscription["schedule"] = schedule.clone();
        world.store.put(Kind::Subscription, subscription);
    }
}

/// A schedule that is neither over nor given up, or why this cannot be done with it.
fn running(world: &mut World, id: &str, verb: &str) -> Result<Arc<Value>, StripeError> {
    let schedule = find(&world.store, Kind::SubscriptionSchedule, id)?;
    world.follow_clock(&schedule);
    match schedule["status"].as_str() {
        Some("active" | "not_started") => Ok(schedule),
        status => {
            let status = status.unwrap_or_default();
            let text = format!(
                "You cannot {verb} a subscription schedule that is currently in the `{status}` status. \
                 Only subscription schedules that are `not_started` or `active` can be changed."
            );
            Err(StripeError::invalid(text))
        }
    }
}

/// New phases take the place of all; the one that runs now is followed at once.
pub(crate) fn update(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let before = find(&world.store, Kind::SubscriptionSchedule, call.id())?;
    let mut schedule = (*before).clone();
    write(&mut schedule, sent);
    if UPDATE.concat().iter().all(|field| field.name == "metadata" || sent.get(field.name).is_none()) {
        return Ok(Reply::One(world.store.put(Kind::SubscriptionSchedule, schedule)));
    }
    running(world, call.id(), "update")?;
    if sent.list("phases").is_empty() {
        return Ok(Reply::One(world.store.put(Kind::SubscriptionSchedule, schedule)));
    }
    let old = if before["current_phase"].is_object() { &before["current_phase"] } else { &before["phases"][0] };
    let start = match &sent.list("phases")[0]["start_date"] {
        Value::String(_) => world.now,
        given => given.as_i64().or(old["start_date"].as_i64()).unwrap_or(world.now),
    };
    let written = phases::written(world, call, start)?;
    schedule["phases"] = json!(written);
    if before["status"] == "not_started" {
        let stored = world.store.put(Kind::SubscriptionSchedule, schedule);
        return if start <= world.now { start_or_go_on(world, &stored) } else { Ok(Reply::One(stored)) };
    }
    let now = world.now;
    let runs = |phase: &&Value| phase["start_date"].as_i64() <= Some(now) && Some(now) < phase["end_date"].as_i64();
    let Some(current) = written.iter().find(runs) else {
        let text = "The phases must include the one that is running.";
        return Err(StripeError::invalid(text).param("phases"));
    };
    schedule["current_phase"] = dates(current);
    let stored = world.store.put(Kind::SubscriptionSchedule, schedule);
    let mut followed = current.clone();
    if current["start_date"] == before["current_phase"]["start_date"] {
        // What a phase sells is sold when it begins, not each time that it is rewritten.
        followed["add_invoice_items"] = json!([]);
    }
    phases::follow(world, &stored, &followed, sent.text("proration_behavior").unwrap_or("create_prorations"))?;
    Ok(Reply::One(stored))
}

/// The subscription goes on without a schedule.
pub(crate) fn release(world: &mut World, call: &Call<'_>) -> Answer {
    let schedule = running(world, call.id(), "release")?;
    let mut released = (*schedule).clone();
    released["status"] = json!("released");
    released["released_at"] = json!(world.now);
    released["released_subscription"] = schedule["subscription"].clone();
    released["subscription"] = Value::Null;
    released["current_phase"] = Value::Null;
    let stored = world.store.put(Kind::SubscriptionSchedule, released);
    attach(world, schedule["subscription"].as_str().unwrap_or_default(), &Value::Null);
    Ok(Reply::One(stored))
}

/// The schedule ends, and the subscription with it.
pub(crate) fn cancel(world: &mut World, call: &Call<'_>) -> Answer {
    let schedule = running(world, call.id(), "cancel")?;
    let stored = give_up(world, &schedule, "subscription_schedule.canceled");
    if let Some(id) = schedule["subscription"].as_str() {
        let flag = |name: &str| call.params.flag(name).unwrap_or(true);
        let params = Params::over(&json!({"invoice_now": flag("invoice_now"), "prorate": flag("prorate")}));
        subscription_changes::cancel(world, &call.about("subscription", vec![id], params))?;
    }
    Ok(Reply::One(stored))
}

fn give_up(world: &mut World, schedule: &Value, name: &'static str) -> Arc<Value> {
    let mut schedule = schedule.clone();
    schedule["status"] = json!("canceled");
    schedule["canceled_at"] = json!(world.now);
    schedule["current_phase"] = Value::Null;
    let stored = world.store.put(Kind::SubscriptionSchedule, schedule);
    world.store.tell(name, Arc::clone(&stored));
    stored
}

/// A subscription that has ended takes its schedule with it.
pub(crate) fn end_with(world: &mut World, subscription: &Value, delinquent: bool) {
    let schedule = subscription["schedule"].as_str().and_then(|id| world.store.get(Kind::SubscriptionSchedule, id));
    if let Some(schedule) = schedule.filter(|schedule| schedule["status"] == "active") {
        let name = if delinquent { "subscription_schedule.aborted" } else { "subscription_schedule.canceled" };
        give_up(world, &schedule, name);
    }
}

fn is_last(schedule: &Value) -> bool {
    array(&schedule["phases"]).last().is_some_and(|last| last["end_date"] == schedule["current_phase"]["end_date"])
}

/// When the next phase begins, or the end is near or there.
pub(crate) fn due(schedule: &Value, since: i64) -> Option<i64> {
    match schedule["status"].as_str()? {
        "not_started" => schedule["phases"][0]["start_date"].as_i64(),
        "active" => {
            let end = schedule["current_phase"]["end_date"].as_i64()?;
            let notice = Some(end - EXPIRY_NOTICE).filter(|notice| *notice > since && is_last(schedule));
            Some(notice.unwrap_or(end))
        }
        _ => None,
    }
}

pub(crate) fn happen(world: &mut World, schedule: &Arc<Value>) {
    if schedule["current_phase"]["end_date"].as_i64().is_some_and(|end| end > world.now) {
        world.store.tell("subscription_schedule.expiring", Arc::clone(schedule));
        world.store.renote(Kind::SubscriptionSchedule, schedule);
    } else if let Err(error) = start_or_go_on(world, schedule) {
        tracing::warn!(error = error.message, "the phase of a subscription schedule cannot begin");
        give_up(world, schedule, "subscription_schedule.canceled");
    }
}

/// The phase that this instant lies in begins; after the last one the schedule is over.
fn start_or_go_on(world: &mut World, schedule: &Arc<Value>) -> Answer {
    let now = world.now;
    let phase = array(&schedule["phases"]).iter().find(|phase| phase["end_date"].as_i64() > Some(now));
    let Some(phase) = phase else { return Ok(Reply::One(complete(world, schedule))) };
    let mut changed = (**schedule).clone();
    changed["current_phase"] = dates(phase);
    if schedule["status"] == "not_started" {
        changed["subscription"] = phases::begin(world, schedule, phase)?["id"].clone();
        changed["status"] = json!("active");
    } else {
        phases::follow(world, schedule, phase, phase["proration_behavior"].as_str().unwrap_or_default())?;
    }
    Ok(Reply::One(world.store.put(Kind::SubscriptionSchedule, changed)))
}

fn complete(world: &mut World, schedule: &Value) -> Arc<Value> {
    let mut over = schedule.clone();
    over["status"] = json!("completed");
    over["completed_at"] = json!(world.now);
    over["current_phase"] = Value::Null;
    let stored = world.store.put(Kind::SubscriptionSchedule, over);
    let id = schedule["subscription"].as_str().unwrap_or_default();
    match world.store.get(Kind::Subscription, id) {
        Some(subscription) if schedule["end_behavior"] == "cancel" && subscription["status"] != "canceled" => {
            super::subscription_status::end(world, &subscription, None, "cancellation_requested");
        }
        _ => attach(world, id, &Value::Null),
    }
    stored
}
