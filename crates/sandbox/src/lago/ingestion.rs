//! `POST /events` and `/events/batch`: the little that Lago checks at once, and the rules of what is said twice.

use super::Store;
use super::asked::{Call, Fields, scalar};
use super::decimal::Decimal;
use super::desk::{Answer, Reply};
use super::events::{Event, Wanted};
use super::expression;
use super::instant::{self, Micros};
use super::page::Page;
use super::refusal::{Faulty, Refusal};
use super::subscriptions;
use super::world::World;
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::sync::Arc;

/// `POST /events`
pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let event = read(world, call.root("event")?).map_err(Refusal::invalid)?;
    if world.events.is_taken(event.subscription.as_deref(), &event.transaction_id) {
        return Err(Refusal::field("transaction_id", "value_already_exist"));
    }
    let number = world.events.add(event, world.agenda.is_stale);
    Reply::of(&json!({"event": world.events.view(number)}))
}

/// `POST /events/batch`: all or nothing, in two passes.
pub(super) fn create_batch(world: &mut World, call: &Call) -> Answer {
    let sent = call.list("events");
    if sent.is_empty() {
        return Err(Refusal::field("events", "no_events"));
    }
    if sent.len() > call.batch_max {
        return Err(Refusal::field("events", "too_many_events"));
    }
    let nothing = Map::new();
    let read = sent.iter().map(|item| read(world, Fields::of(item).unwrap_or(Fields(&nothing))));
    let events = sorted_out(read.collect())?;
    let doubles = doubles(world, &events);
    if doubles.iter().any(|double| *double) {
        if call.legacy {
            return Err(store_partly(world, events, &doubles));
        }
        return Err(already_exist(&doubles));
    }
    let stale = world.agenda.is_stale;
    let numbers: Vec<_> = events.into_iter().map(|event| world.events.add(event, stale)).collect();
    let views: Vec<_> = numbers.into_iter().map(|number| world.events.view(number)).collect();
    Reply::of(&json!({ "events": views }))
}

/// First pass: the faults of all items, by index, or the events.
fn sorted_out(read: Vec<Result<Event, Value>>) -> Result<Vec<Event>, Refusal> {
    let faults =
        read.iter().enumerate().filter_map(|(index, one)| Some((index.to_string(), one.as_ref().err()?.clone())));
    let faults: Map<String, Value> = faults.collect();
    if faults.is_empty() { Ok(read.into_iter().flatten().collect()) } else { Err(Refusal::invalid(faults.into())) }
}

/// Second pass. Within a batch an id may stand once whatever the subscription; the second and later ones are too many.
fn doubles(world: &World, events: &[Event]) -> Vec<bool> {
    let mut seen = HashSet::new();
    let double = |event: &Event| {
        let again = !seen.insert(Arc::clone(&event.transaction_id));
        world.events.store() == Store::Postgres
            && (again || world.events.is_taken(event.subscription.as_deref(), &event.transaction_id))
    };
    events.iter().map(double).collect()
}

fn already_exist(doubles: &[bool]) -> Refusal {
    let indexes = doubles.iter().enumerate().filter(|(_, double)| **double).map(|(index, _)| index.to_string());
    Refusal::invalid(indexes.map(|index| (index, json!({"transaction_id": ["value_already_exist"]}))).collect())
}

/// Before 1.39 what was refused did not take the rest with it, and an id twice in one batch went wrong altogether.
fn store_partly(world: &mut World, events: Vec<Event>, doubles: &[bool]) -> Refusal {
    let ids: HashSet<&str> = events.iter().map(|event| &*event.transaction_id).collect();
    if ids.len() < events.len() {
        return Refusal { status: 500, body: json!({"status": 500, "error": "Internal Server Error"}) };
    }
    let stale = world.agenda.is_stale;
    for (event, double) in events.into_iter().zip(doubles) {
        if !double {
            world.events.add(event, stale);
        }
    }
    already_exist(doubles)
}

/// Reads an event, or says what `error_details` says of it. Neither code nor subscription is looked up: Lago takes both as
/// they come, and never bills what it does not know.
fn read(world: &World, sent: Fields<'_>) -> Result<Event, Value> {
    let mut faulty = Faulty::default();
    let (transaction_id, code) = (sent.text("transaction_id"), sent.text("code"));
    faulty.add_if(transaction_id.is_none(), "transaction_id", "value_is_mandatory");
    faulty.add_if(code.is_none(), "code", "value_is_mandatory");
    let at = match sent.value("timestamp") {
        None => Some(world.now),
        Some(timestamp) => instant::of_event(timestamp),
    };
    faulty.add_if(at.is_none(), "timestamp", "invalid_format");
    let (Some(transaction_id), Some(code), Some(at)) = (transaction_id, code, at) else {
        return Err(faulty.details());
    };
    let properties = sent.value("properties").and_then(Value::as_object);
    let properties = properties.into_iter().flatten().map(|(name, value)| (name.as_str().into(), value.clone()));
    let mut event = Event {
        transaction_id: transaction_id.into(),
        subscription: sent.value("external_subscription_id").and_then(scalar).map(Into::into),
        code: code.into(),
        at,
        created_at: world.now,
        precise_total_amount_cents: sent.value("precise_total_amount_cents").map(precise),
        properties: properties.collect(),
        deleted: false,
    };
    evaluate(world, &mut event)?;
    Ok(event)
}

/// What is no number is zero here, without an error: so Lago has it.
fn precise(value: &Value) -> Decimal {
    Decimal::property(value).unwrap_or(Decimal::ZERO)
}

/// A metric with an expression writes its result into the property that it aggregates.
fn evaluate(world: &World, event: &mut Event) -> Result<(), Value> {
    let metric = world.metrics.find(&event.code).map(|place| &world.metrics[place]);
    let Some((expression, field)) =
        metric.and_then(|metric| Some((metric.expression.as_ref()?, metric.field_name.as_ref()?)))
    else {
        return Ok(());
    };
    let result = expression::evaluate(expression, event);
    let result = result.map_err(|why| Value::from(format!("expression_evaluation_failed: {why}")))?;
    let others = event.properties.iter().filter(|(name, _)| **name != **field).cloned();
    event.properties = others.chain([(field.as_str().into(), Value::from(result))]).collect();
    Ok(())
}

/// `GET /events/{transaction_id}`
pub(super) fn show(world: &World, transaction_id: &str) -> Answer {
    let number = world.events.find(transaction_id).ok_or_else(|| Refusal::not_found("event"))?;
    Reply::of(&json!({"event": world.events.view(number)}))
}

/// `GET /events`
pub(super) fn list(world: &World, call: &Call) -> Answer {
    let instant = |name: &str, otherwise: Micros| match call.query(name) {
        None => Ok(otherwise),
        Some(text) => instant::of_text(text).ok_or_else(|| Refusal::field(name, "invalid_date")),
    };
    let subscription = call.query("external_subscription_id");
    let mut wanted = Wanted {
        code: call.query("code"),
        subscription,
        from: instant("timestamp_from", Micros::MIN)?,
        to: instant("timestamp_to", Micros::MAX)?,
    };
    if call.query("timestamp_from_started_at") == Some("true") {
        let running = subscription.and_then(|external_id| subscriptions::active(world, external_id));
        wanted.from = running.map_or(wanted.from, |place| world.subscriptions[place].counts_from());
    }
    let found = world.events.listed(&wanted);
    Ok(Page::of(call).show("events", &found, |number| json!(world.events.view(*number))))
}
