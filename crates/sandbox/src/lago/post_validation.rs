//! The hourly job that tells of events which were accepted and can never be billed: the webhook `events.errors`. Events of
//! subscriptions that nobody knows are not among them.

use super::agenda::Due;
use super::decimal::Decimal;
use super::events::Event;
use super::instant::{Micros, SECOND};
use super::metrics::{Aggregation, Metric};
use super::world::World;
use serde_json::json;

const HOUR: Micros = 3600 * SECOND;

/// Plans the next run, at the full hour.
pub(super) fn plan(world: &mut World) {
    let next = (world.now.div_euclid(HOUR) + 1) * HOUR;
    world.agenda.put(next, Due::Validation);
}

/// Looks at all events that arrived since the last run, and tells of those that are wrong.
pub(super) fn run(world: &mut World) {
    let (from, until) = (world.validated_until, world.now);
    world.validated_until = until;
    let mut found: [Vec<&str>; 3] = Default::default();
    for event in world.events.arrived(from, until) {
        for (list, wrong) in found.iter_mut().zip(wrongs(world, event)) {
            if wrong {
                list.push(&event.transaction_id);
            }
        }
    }
    let [invalid_code, missing_aggregation_property, invalid_filter_values] = &found;
    if found.iter().any(|list| !list.is_empty()) {
        let errors = json!({
            "invalid_code": invalid_code,
            "missing_aggregation_property": missing_aggregation_property,
            "invalid_filter_values": invalid_filter_values,
        });
        world.tell("events.errors", "events_errors", &errors);
    }
}

/// Whether its code, its property, its filter values are wrong.
fn wrongs(world: &World, event: &Event) -> [bool; 3] {
    let Some(place) = world.metrics.find(&event.code) else { return [true, false, false] };
    let metric = &world.metrics[place];
    [false, lacks_property(metric, event), has_unknown_value(metric, event)]
}

fn lacks_property(metric: &Metric, event: &Event) -> bool {
    let Some(name) = &metric.field_name else { return false };
    let value = event.property(name).filter(|value| !value.is_null());
    match metric.aggregation {
        Aggregation::Count => false,
        Aggregation::Unique => value.is_none(),
        Aggregation::Sum | Aggregation::Max | Aggregation::Latest => {
            value.is_none_or(|value| Decimal::property(value).is_err())
        }
    }
}

fn has_unknown_value(metric: &Metric, event: &Event) -> bool {
    metric.filters.iter().any(|filter| {
        let sent = event.property(&filter.key).and_then(super::asked::scalar);
        sent.is_some_and(|value| !filter.values.contains(&value))
    })
}
