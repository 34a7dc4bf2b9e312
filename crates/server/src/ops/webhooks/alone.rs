//! When an event alone is enough, so that nobody need ask Stripe what the object is now.
//!
//! Three things must come together, and any doubt is a question to Stripe. The event is younger than everything the mirror
//! is known to include. It carries the object as our own lists would show it. And taking its changes back leads exactly to
//! what is mirrored: nothing lies between.

use serde_json::Value;

use super::super::{places, readings};
use super::carried::Carried;
use crate::store::mirror::Resource;
use crate::store::readings::Reading;
use crate::store::webhooks::{Event, Source};

/// The state of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    There(String),
    Gone,
}

/// The image of an object in the mirror before an event of it is applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    pub reading: Option<Reading>,
    /// The mirrored text; nothing where the object is not mirrored.
    pub raw: Option<String>,
}

/// Events after which an object never comes back: its id is not given twice.
const FINAL: &[&str] = &["customer.deleted", "invoice.deleted"];

/// Whether one of the events says that the object is gone for good.
pub fn is_final(events: &[Event]) -> bool {
    events.iter().any(|event| FINAL.contains(&event.kind.as_str()))
}

/// The one event that could be enough: the only one that waits, in the version of our own lists.
pub fn candidate<'e>(events: &'e [Event], version: Option<&str>) -> Option<&'e Event> {
    let [event] = events else { return None };
    let ours = event.source == Source::Webhook && version.is_some() && event.api_version.as_deref() == version;
    ours.then_some(event)
}

/// The state that the event proves.
pub fn proven(resource: Resource, event: &Event, carried: &Carried, image: &Image) -> Option<Found> {
    let whole = is_whole(resource, &carried.object) && places::shows(resource, &carried.text);
    if !whole || !is_younger(event.created, image.reading) {
        return None;
    }
    let follows = match &image.raw {
        // Never seen before: then it must be the first that there is to see.
        None => image.reading.is_none() && event.kind.ends_with(".created"),
        Some(mirrored) => {
            let mut before = carried.object.clone();
            take_back(&mut before, carried.previous.as_ref()?);
            serde_json::from_str::<Value>(mirrored).is_ok_and(|mirrored| mirrored == before)
        }
    };
    follows.then(|| Found::There(carried.text.clone()))
}

/// Both times are Stripe's. In the same second nobody knows which was first.
fn is_younger(created: i64, reading: Option<Reading>) -> bool {
    reading
        .is_none_or(|reading| created > reading.until_s && reading.event_created.is_none_or(|before| created > before))
}

/// Whether an event shows the object as a list of ours does, which has parts expanded that an event only names.
fn is_whole(resource: Resource, object: &Value) -> bool {
    let none = |list: &Value| list.is_null() || list.as_array().is_some_and(Vec::is_empty);
    match resource {
        Resource::Coupons => false,
        Resource::Prices => object["object"] == "price" && object["billing_scheme"] == "per_unit",
        Resource::Subscriptions => {
            let items = object["items"]["data"].as_array();
            none(&object["discounts"])
                && object["discount"].is_null()
                && object["items"]["has_more"] == false
                && items.is_some_and(|items| items.iter().all(|item| none(&item["discounts"])))
        }
        Resource::Products
        | Resource::Customers
        | Resource::Invoices
        | Resource::Charges
        | Resource::Refunds
        | Resource::PaymentMethods => true,
    }
}

/// `previous_attributes`: objects are told by the members that changed, everything else whole.
fn take_back(object: &mut Value, previous: &Value) {
    let (Value::Object(object), Value::Object(previous)) = (object, previous) else { return };
    for (name, before) in previous {
        match object.get_mut(name) {
            Some(now @ Value::Object(_)) if before.is_object() => take_back(now, before),
            _ => {
                object.insert(name.clone(), before.clone());
            }
        }
    }
}

/// The text of a look, or that the object is gone: some objects are answered with a stub after their deletion.
pub fn found(raw: String) -> Found {
    let deleted = serde_json::from_str::<Value>(&raw).is_ok_and(|object| object["deleted"] == true);
    if deleted { Found::Gone } else { Found::There(raw) }
}

/// A look whose state comes from an event, not from an answer: it includes what the event includes and no more.
pub fn as_told(mut look: readings::Look, event: &Event) -> readings::Look {
    look.until_s = event.created;
    look
}
