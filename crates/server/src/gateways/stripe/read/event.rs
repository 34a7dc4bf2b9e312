//! The envelope of an event. What it carries is only a hint: the object is rendered in the endpoint's version, and may be
//! older than what was read since.
//!
//! It is read where webhooks arrive, so it looks at the few members that it needs and walks over the rest.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
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
    /// The connected account whose event it is; absent for the account's own.
    pub account: Option<String>,
    /// The object, byte for byte.
    pub object: Option<Box<RawValue>>,
    /// The members that changed, as they were before.
    pub previous: Option<Box<RawValue>>,
    /// `object.object`: its noun.
    pub object_kind: Option<String>,
    pub object_id: Option<String>,
    /// The customer the object belongs to, or is.
    pub customer: Option<String>,
    /// The subscription that the object names: a discount's.
    pub subscription: Option<String>,
    /// The charge that the object names: a dispute's or a refund's.
    pub charge: Option<String>,
    /// The request of ours that caused it, by its idempotency key.
    pub idempotency_key: Option<String>,
    pub livemode: Option<bool>,
}

/// Members as they stand there: whatever is in one, it does not spoil the others.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    object: Option<&'a RawValue>,
    r#type: Option<&'a RawValue>,
    created: Option<&'a RawValue>,
    api_version: Option<&'a RawValue>,
    account: Option<&'a RawValue>,
    data: Option<&'a RawValue>,
    request: Option<&'a RawValue>,
    livemode: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct Data<'a> {
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    previous_attributes: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct Carried<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    object: Option<&'a RawValue>,
    customer: Option<&'a RawValue>,
    customer_account: Option<&'a RawValue>,
    subscription: Option<&'a RawValue>,
    charge: Option<&'a RawValue>,
}

/// Reads the envelope of an event.
///
/// # Errors
/// When there is no id, or the event is a thin one.
pub fn event(raw: &str) -> Result<Event, ReadError> {
    let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(raw) else {
        // What it is instead; a member that is there twice makes two readers see two things, and so nobody reads it.
        return Err(parse(raw).err().unwrap_or(ReadError::NotJson));
    };
    if value(envelope.object) == "v2.core.event" {
        return Err(ReadError::ThinEvent);
    }
    let id = fields::text(&value(envelope.id)).ok_or(ReadError::NoId)?;
    let data: Data<'_> = within(envelope.data);
    let object: Carried<'_> = within(data.object);
    let object_kind = fields::text(&value(object.object));
    let object_id = fields::text(&value(object.id));
    let customer = match object_kind.as_deref() {
        Some("customer") => object_id.clone(),
        _ => reference(object.customer).or_else(|| reference(object.customer_account)),
    };
    Ok(Event {
        id,
        kind: fields::text(&value(envelope.r#type)),
        created: fields::instant(&value(envelope.created)),
        api_version: fields::text(&value(envelope.api_version)),
        account: fields::text(&value(envelope.account)),
        object: data.object.map(ToOwned::to_owned),
        previous: data.previous_attributes.map(ToOwned::to_owned),
        object_kind,
        object_id,
        customer,
        subscription: reference(object.subscription),
        charge: reference(object.charge),
        idempotency_key: fields::text(&value(envelope.request)["idempotency_key"]),
        livemode: value(envelope.livemode).as_bool(),
    })
}

fn value(member: Option<&RawValue>) -> Value {
    member.and_then(|member| serde_json::from_str(member.get()).ok()).unwrap_or_default()
}

fn reference(member: Option<&RawValue>) -> Option<String> {
    fields::reference(&value(member))
}

fn within<'a, T: Deserialize<'a> + Default>(member: Option<&'a RawValue>) -> T {
    member.and_then(|member| serde_json::from_str(member.get()).ok()).unwrap_or_default()
}
