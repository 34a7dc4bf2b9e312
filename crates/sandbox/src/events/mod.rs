//! Events: what happened to an object, said once, kept for thirty days of the sandbox's own time.
//!
//! An event shares the object that it tells of with the store, so it costs a few words; its JSON is made when somebody
//! reads it or when it is delivered, in the shape of whoever that is for.

pub(crate) mod changes;

use crate::calendar::DAY;
use crate::resources::plans;
use crate::shape::reshape;
use crate::store::{Key, Store};
use crate::version::Version;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// How long Stripe lists an event.
const KEPT: i64 = 30 * DAY;

/// The types that Stripe knows.
pub(crate) fn names() -> &'static HashSet<&'static str> {
    static NAMES: OnceLock<HashSet<&'static str>> = OnceLock::new();
    NAMES.get_or_init(|| include_str!("types.txt").lines().collect())
}

/// The request that an event comes from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Cause {
    pub(crate) id: Option<String>,
    pub(crate) idempotency_key: Option<String>,
}

/// One thing that happened.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) id: Arc<str>,
    pub(crate) key: Key,
    /// Its type.
    pub(crate) name: &'static str,
    pub(crate) object: Arc<Value>,
    /// The object as it was, where `previous_attributes` are told.
    pub(crate) before: Option<Arc<Value>>,
    pub(crate) cause: Cause,
    /// The endpoints that it is for.
    pub(crate) to: Vec<Arc<str>>,
    /// How many of them have not taken it yet.
    pub(crate) pending: AtomicUsize,
}

impl Event {
    /// One endpoint fewer waits.
    pub(crate) fn delivered(&self) {
        let _ = self.pending.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |pending| pending.checked_sub(1));
    }

    pub(crate) fn is_delivered(&self) -> bool {
        self.pending.load(Ordering::Relaxed) == 0
    }

    /// The event as an API of this version says it; `label` is how that version is written.
    pub(crate) fn written(&self, store: &Store, version: &Version, label: &str) -> Value {
        let shaped = |object: &Arc<Value>| {
            let mut object = if self.name.starts_with("plan.") { plans::object(object) } else { (**object).clone() };
            reshape(store, &mut object, version);
            object
        };
        let object = shaped(&self.object);
        let previous = self.before.as_ref().and_then(|before| difference(&shaped(before), &object));
        let mut data = Map::new();
        data.insert("object".to_owned(), object);
        data.extend(previous.map(|previous| ("previous_attributes".to_owned(), previous)));
        let mut event = json!({
            "id": &*self.id,
            "object": "event",
            "api_version": label,
            "created": self.key.0,
            "livemode": false,
            "pending_webhooks": self.pending.load(Ordering::Relaxed),
            "request": self.cause,
            "type": self.name
        });
        // Within `json!` the object would be copied once more.
        event["data"] = Value::Object(data);
        event
    }
}

/// The members of `before` that are not so any more: hashes member by member, lists whole, new members as null.
fn difference(before: &Value, after: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        return (before != after).then(|| before.clone());
    };
    let mut out = Map::new();
    for (name, value) in old {
        match new.get(name) {
            Some(now) => out.extend(difference(value, now).map(|part| (name.clone(), part))),
            None => drop(out.insert(name.clone(), value.clone())),
        }
    }
    for name in new.keys().filter(|name| !old.contains_key(*name)) {
        out.insert(name.clone(), Value::Null);
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

/// Which events a list wants.
#[derive(Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) names: Vec<&'a str>,
    pub(crate) delivered: Option<bool>,
    pub(crate) from: Option<i64>,
    pub(crate) before: Option<i64>,
}

impl Wanted<'_> {
    fn fits(&self, event: &Event) -> bool {
        (self.names.is_empty() || self.names.iter().any(|name| fits(name, event.name)))
            && self.delivered.is_none_or(|delivered| delivered == event.is_delivered())
    }
}

/// Whether a type is one that was asked for: `*`, `invoice.*` or the type itself.
pub(crate) fn fits(asked: &str, name: &str) -> bool {
    match asked.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => asked == name,
    }
}

/// The events of the last thirty days.
#[derive(Debug, Default)]
pub(crate) struct Log {
    rows: BTreeMap<Key, Arc<Event>>,
    by_id: HashMap<Arc<str>, Key>,
}

impl Log {
    pub(crate) fn push(&mut self, event: Arc<Event>) {
        self.by_id.insert(Arc::clone(&event.id), event.key);
        self.rows.insert(event.key, event);
    }

    /// Forgets what is too old.
    pub(crate) fn sweep(&mut self, now: i64) {
        while let Some(oldest) = self.rows.first_entry().filter(|row| row.key().0 < now - KEPT) {
            self.by_id.remove(&oldest.remove().id);
        }
    }

    /// Whether there is something too old.
    pub(crate) fn is_stale(&self, now: i64) -> bool {
        self.rows.first_key_value().is_some_and(|(key, _)| key.0 < now - KEPT)
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Arc<Event>> {
        self.rows.get(self.by_id.get(id)?)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Event>> {
        self.rows.values()
    }

    /// One page, newest first, and whether there is more: after a place, before a place, or from the newest on.
    pub(crate) fn page(
        &self,
        wanted: &Wanted<'_>,
        after: Option<Key>,
        before: Option<Key>,
        limit: usize,
    ) -> (Vec<&Arc<Event>>, bool) {
        let low = wanted.from.map_or((i64::MIN, 0), |from| (from, 0));
        let high = wanted.before.map_or((i64::MAX, 0), |until| (until, 0));
        let low = before.map_or(low, |key| low.max((key.0, key.1 + 1)));
        let high = after.map_or(high, |key| high.min(key));
        if low >= high {
            return (Vec::new(), false);
        }
        let range = self.rows.range(low..high).map(|(_, event)| event).filter(|event| wanted.fits(event));
        let mut rows: Vec<&Arc<Event>> =
            if before.is_some() { range.take(limit + 1).collect() } else { range.rev().take(limit + 1).collect() };
        let more = rows.len() > limit;
        rows.truncate(limit);
        if before.is_some() {
            rows.reverse();
        }
        (rows, more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn previous_attributes_are_what_is_not_so_any_more() {
        for (before, after, expected) in [
            (json!({"a": 1, "b": 2}), json!({"a": 1, "b": 3}), json!({"b": 2})),
            (json!({"m": {"x": "1", "y": "2"}}), json!({"m": {"x": "1", "y": "3"}}), json!({"m": {"y": "2"}})),
            (json!({"m": {"x": "1"}}), json!({"m": {}}), json!({"m": {"x": "1"}})),
            (json!({"m": {}}), json!({"m": {"x": "1"}}), json!({"m": {"x": null}})),
            (json!({"l": [1, 2]}), json!({"l": [1]}), json!({"l": [1, 2]})),
            (json!({"d": null}), json!({"d": {"e": 1}}), json!({"d": null})),
        ] {
            assert_eq!(difference(&before, &after), Some(expected), "{before} {after}");
        }
        assert_eq!(difference(&json!({"a": [1]}), &json!({"a": [1]})), None);
    }

    #[test]
    fn types_are_asked_for_by_name_or_prefix() {
        for (asked, name, expected) in [
            ("*", "invoice.paid", true),
            ("invoice.*", "invoice.paid", true),
            ("invoice.*", "invoiceitem.created", false),
            ("invoice.paid", "invoice.paid", true),
            ("invoice.paid", "invoice.payment_failed", false),
        ] {
            assert_eq!(fits(asked, name), expected, "{asked} {name}");
        }
        assert!(names().contains("customer.subscription.trial_will_end"));
    }
}
