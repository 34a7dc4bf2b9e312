//! Billing meters and what is reported to them; usage is billed when its period is over.

use super::{Answer, Call, Reply, changed, find, lines, list, taxes};
use crate::calendar::DAY;
use crate::error::StripeError;
use crate::kind::{Index, Kind};
use crate::params::{Field, Spec, opt, req};
use crate::store::{Query, Start, Store};
use crate::world::{World, array};
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) const LIST: &[Field] = &[opt("status", Spec::OneOf(&["active", "inactive"]))];

const MAPPING: &[Field] = &[req("event_payload_key", Spec::Text), req("type", Spec::OneOf(&["by_id"]))];
const AGGREGATION: &[Field] = &[req("formula", Spec::OneOf(&["count", "last", "sum"]))];
const VALUE: &[Field] = &[req("event_payload_key", Spec::Text)];

pub(crate) const CREATE: &[Field] = &[
    req("default_aggregation", Spec::Hash(AGGREGATION)),
    req("display_name", Spec::Text),
    req("event_name", Spec::Text),
    opt("customer_mapping", Spec::Hash(MAPPING)),
    opt("event_time_window", Spec::OneOf(&["day", "hour"])),
    opt("value_settings", Spec::Hash(VALUE)),
];

pub(crate) const UPDATE: &[Field] = &[opt("display_name", Spec::Text)];

pub(crate) const EVENT: &[Field] = &[
    req("event_name", Spec::Text),
    req("payload", Spec::Metadata),
    opt("identifier", Spec::Text),
    opt("timestamp", Spec::Time),
];

pub(crate) const SUMMARIES: &[Field] = &[
    req("customer", Spec::Text),
    req("end_time", Spec::Time),
    req("start_time", Spec::Time),
    opt("value_grouping_window", Spec::OneOf(&["day", "hour"])),
];

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    list(world, Kind::Meter, call, &[("status", Index::Status)])
}

pub(crate) fn create(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let name = sent.need("event_name")?;
    if world.store.all(Kind::Meter, Index::EventName, name).iter().any(|meter| meter["status"] == "active") {
        let text = format!("There is already an active meter with the event name {name}.");
        return Err(StripeError::invalid(text).param("event_name"));
    }
    let id = world.id("mtr");
    let mut meter = json!({
        "id": id, "object": "billing.meter", "created": world.now,
        "customer_mapping": {"event_payload_key": "stripe_customer_id", "type": "by_id"},
        "default_aggregation": sent.get("default_aggregation"), "display_name": null, "event_name": null,
        "event_time_window": null, "livemode": false, "status": "active",
        "status_transitions": {"deactivated_at": null}, "updated": world.now,
        "value_settings": {"event_payload_key": "value"}
    });
    sent.assign(&mut meter, &["customer_mapping", "display_name", "event_name", "event_time_window", "value_settings"]);
    changed(world, Kind::Meter, meter)
}

pub(crate) fn update(world: &mut World, call: &Call<'_>) -> Answer {
    let mut meter = (*find(&world.store, Kind::Meter, call.id())?).clone();
    call.params.assign(&mut meter, &["display_name"]);
    meter["updated"] = json!(world.now);
    changed(world, Kind::Meter, meter)
}

pub(crate) fn deactivate(world: &mut World, call: &Call<'_>) -> Answer {
    switch(world, call, "inactive")
}

pub(crate) fn reactivate(world: &mut World, call: &Call<'_>) -> Answer {
    switch(world, call, "active")
}

fn switch(world: &mut World, call: &Call<'_>, status: &str) -> Answer {
    let mut meter = (*find(&world.store, Kind::Meter, call.id())?).clone();
    if meter["status"] == status {
        return Err(StripeError::invalid(format!("This meter is already {status}.")));
    }
    meter["status"] = json!(status);
    meter["updated"] = json!(world.now);
    meter["status_transitions"]["deactivated_at"] = if status == "inactive" { json!(world.now) } else { Value::Null };
    changed(world, Kind::Meter, meter)
}

/// Takes one report of usage. The same identifier counts once.
pub(crate) fn report(world: &mut World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let name = sent.need("event_name")?;
    let meter = world.store.all(Kind::Meter, Index::EventName, name).into_iter().find(|row| row["status"] == "active");
    let missing = || StripeError::no_such("meter with the event name", name, "event_name");
    let meter = meter.ok_or_else(missing)?;
    let payload = sent.get("payload").cloned().unwrap_or_default();
    let key = |name: &str| meter[name]["event_payload_key"].as_str().unwrap_or_default().to_owned();
    let (who, what) = (key("customer_mapping"), key("value_settings"));
    if payload[who.as_str()].as_str().is_none_or(str::is_empty) {
        return Err(StripeError::missing(&format!("payload[{who}]")));
    }
    let counts = meter["default_aggregation"]["formula"] == "count";
    if !counts && payload[what.as_str()].as_str().and_then(|text| text.parse::<i64>().ok()).is_none() {
        let text = format!("The payload must have a whole number under the key {what}.");
        return Err(StripeError::invalid(text).param(format!("payload[{what}]")));
    }
    let at = sent.int("timestamp").unwrap_or(world.now);
    if at < world.now - 35 * DAY || at > world.now + 300 {
        let text = "The timestamp must be within the past 35 calendar days or up to 5 minutes in the future.";
        return Err(StripeError::invalid(text).code("timestamp_too_far_in_past").param("timestamp"));
    }
    let identifier = sent.text("identifier").map_or_else(|| world.id("mtre"), str::to_owned);
    if world.store.get(Kind::MeterEvent, &identifier).is_some() {
        let text = format!("An event already exists with identifier {identifier}.");
        return Err(StripeError::invalid(text).code("duplicate_meter_event").param("identifier"));
    }
    let event = json!({
        "id": identifier, "object": "billing.meter_event", "created": world.now, "event_name": name,
        "identifier": identifier, "livemode": false, "payload": payload, "timestamp": at
    });
    world.store.put(Kind::MeterEvent, event.clone());
    let mut shown = event;
    if let Some(members) = shown.as_object_mut() {
        members.remove("id");
    }
    Ok(Reply::One(Arc::new(shown)))
}

/// What a meter says about a customer between two instants.
fn measured(store: &Store, meter: &Value, customer: &str, from: i64, until: i64) -> i64 {
    let key = |name: &str| meter[name]["event_payload_key"].as_str().unwrap_or_default();
    let (who, what) = (key("customer_mapping"), key("value_settings"));
    let name = meter["event_name"].as_str().unwrap_or_default();
    let query = Query { equal: vec![(Index::EventName, Arc::from(name))], ..Query::default() };
    let page = store.page(Kind::MeterEvent, &query, Start::Newest, usize::MAX - 1);
    let inside = |event: &Arc<Value>| {
        event["payload"][who] == customer && event["timestamp"].as_i64().is_some_and(|at| from <= at && at < until)
    };
    let mut events: Vec<Arc<Value>> = page.rows.iter().map(|row| store.made(row)).filter(inside).collect();
    let value = |event: &Arc<Value>| event["payload"][what].as_str().and_then(|text| text.parse::<i64>().ok());
    match meter["default_aggregation"]["formula"].as_str() {
        Some("count") => i64::try_from(events.len()).unwrap_or(i64::MAX),
        Some("last") => {
            events.sort_by_key(|event| event["timestamp"].as_i64());
            events.last().and_then(value).unwrap_or_default()
        }
        _ => events.iter().filter_map(value).fold(0, i64::saturating_add),
    }
}

pub(crate) fn summaries(world: &World, call: &Call<'_>) -> Answer {
    let sent = &call.params;
    let meter = find(&world.store, Kind::Meter, call.id())?;
    let customer = sent.need("customer")?;
    let (from, until) = (sent.int("start_time").unwrap_or_default(), sent.int("end_time").unwrap_or_default());
    let step = match sent.text("value_grouping_window") {
        Some("hour") => 3600,
        Some(_) => DAY,
        None => (until - from).max(1),
    };
    let mut rows = Vec::new();
    let mut at = from;
    while at < until && rows.len() < 1_000 {
        let value = measured(&world.store, &meter, customer, at, (at + step).min(until));
        if value != 0 {
            let row = json!({
                "id": format!("mtrusg_{at}"), "object": "billing.meter_event_summary", "aggregated_value": value,
                "end_time": (at + step).min(until), "livemode": false, "meter": meter["id"], "start_time": at
            });
            rows.push(crate::store::Row::Made(Arc::new(row)));
        }
        at += step;
    }
    rows.reverse();
    Ok(Reply::Page { url: call.path.to_owned(), rows, has_more: false })
}

/// The lines of metered items for the usage between two instants, after so many other lines.
pub(crate) fn usage_lines(
    store: &Store,
    subscription: &Value,
    invoice: &str,
    (from, until): (i64, i64),
    others: usize,
) -> Vec<Value> {
    let items = array(&subscription["items"]["data"]).iter();
    let metered = items.filter(|item| item["price"]["recurring"]["usage_type"] == "metered");
    let customer = subscription["customer"].as_str().unwrap_or_default();
    let line = |(place, item): (usize, &Value)| {
        let price = &item["price"];
        let meter = price["recurring"]["meter"].as_str().and_then(|id| store.get(Kind::Meter, id))?;
        let used = measured(store, &meter, customer, from, until);
        let (name, currency) = (lines::product_name(store, price), price["currency"].as_str().unwrap_or("usd"));
        let amount = lines::amount(store, price, used);
        let text = format!("{used} × {name}");
        let mut line = lines::blank(&lines::id(invoice, others + place + 1), invoice, amount, currency, &text);
        line["parent"] = lines::item_parent(&subscription["id"], &item["id"], &Value::Null);
        line["period"] = json!({"start": from, "end": until});
        line["pricing"] = lines::pricing(price, price["unit_amount_decimal"].clone());
        line["quantity"] = json!(used);
        line["quantity_decimal"] = json!(used.to_string());
        line["subscription"] = subscription["id"].clone();
        line["taxes"] = taxes::asked(&item["tax_rates"]);
        Some(line)
    };
    metered.enumerate().filter_map(line).collect()
}
