//! The envelope of an event. What it carries is only a hint: the object is rendered in the endpoint's version, and may be
//! older than what was read since.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{ReadError, fields, parse};

/// An event.
#[derive(Clone, Debug)]
pub struct Event {
    pub id: String,
    /// `customer.subscription.updated` and some hundred more, as it was sent.
    pub kind: Option<String>,
    pub created: Option<Timestamp>,
    /// The version in which the object is written; may be absent.
    pub api_version: Option<String>,
    /// The object, byte for byte.
    pub object: Option<Box<RawValue>>,
    /// `object.object`: its noun.
    pub object_kind: Option<String>,
    pub object_id: Option<String>,
    /// The customer the object belongs to, or is.
    pub customer: Option<String>,
    /// The request of ours that caused it, by its idempotency key.
    pub idempotency_key: Option<String>,
    pub livemode: Option<bool>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    data: Option<Data<'a>>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    object: Option<&'a RawValue>,
}

/// Reads the envelope of an event.
///
/// # Errors
/// When there is no id, or the event is a thin one.
pub fn event(raw: &str) -> Result<Event, ReadError> {
    let (id, value) = parse(raw)?;
    if value["object"] == "v2.core.event" {
        return Err(ReadError::ThinEvent);
    }
    let object = &value["data"]["object"];
    let customer = if object["object"] == "customer" { fields::text(&object["id"]) } else { fields::holder(object) };
    Ok(Event {
        id,
        kind: fields::text(&value["type"]),
        created: fields::instant(&value["created"]),
        api_version: fields::text(&value["api_version"]),
        object: carried(raw),
        object_kind: fields::text(&object["object"]),
        object_id: fields::text(&object["id"]),
        customer,
        idempotency_key: fields::text(&value["request"]["idempotency_key"]),
        livemode: value["livemode"].as_bool(),
    })
}

fn carried(raw: &str) -> Option<Box<RawValue>> {
    let envelope: Envelope<'_> = serde_json::from_str(raw).ok()?;
    envelope.data?.object.map(ToOwned::to_owned)
}
