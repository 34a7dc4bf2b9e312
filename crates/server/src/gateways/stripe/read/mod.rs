//! Readers of Stripe's objects: from JSON text to values we decide by, one file per noun.
//!
//! Every datum is looked for in each place where Stripe has kept it: payloads of a webhook follow the version of their
//! endpoint, and other servers speak older shapes still (F-39). A field that is missing, moved or malformed leaves that
//! datum unknown; an unknown word of an enumeration is kept as it is. Only an object without an id is an error.

mod charge;
mod coupon;
mod customer;
mod event;
mod fields;
mod invoice;
mod item;
mod payment_method;
mod price;
mod product;
mod refund;
mod subscription;

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

pub use charge::{Charge, charge};
pub use coupon::{Coupon, CouponDuration, coupon};
pub use customer::{Customer, customer};
pub use event::{Event, event};
pub use invoice::{Invoice, invoice};
pub use item::{SubscriptionItem, subscription_item};
pub use payment_method::{Card, PaymentMethod, payment_method};
pub use price::{Price, price};
pub use product::{Product, product};
pub use refund::{Refund, refund};
pub use subscription::{Subscription, subscription, subscription_in, subscription_with_items};

/// What is already known of objects that others only name by their id. Answers from the mirror; `()` knows nothing.
pub trait Resolve {
    /// A coupon, with the products it is limited to.
    fn coupon(&self, id: &str) -> Option<Coupon> {
        let _ = id;
        None
    }

    /// A price or legacy plan, with its tiers.
    fn price(&self, id: &str) -> Option<Price> {
        let _ = id;
        None
    }

    /// The metadata of a product.
    fn product_metadata(&self, id: &str) -> Option<BTreeMap<String, String>> {
        let _ = id;
        None
    }
}

impl Resolve for () {}

/// Why a text is no object of Stripe's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The text is not JSON.
    NotJson,
    /// It is JSON, but not an object.
    NotAnObject,
    /// The object has no id, or one that is not a text.
    NoId,
    /// A thin event (`v2.core.event`): it names an object and does not carry it.
    ThinEvent,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReadError::NotJson => "not JSON",
            ReadError::NotAnObject => "not a JSON object",
            ReadError::NoId => "an object without an id",
            ReadError::ThinEvent => "a thin event, which carries no object: the endpoint must send snapshot events",
        })
    }
}

impl std::error::Error for ReadError {}

/// The id of any object. Everything else is only walked over: whoever wants it reads it afterwards.
///
/// # Errors
/// When the text is no object with an id.
pub fn id(raw: &str) -> Result<String, ReadError> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
    }
    // A list of one is no object with one member, though it is read as if.
    let named = raw.trim_start().starts_with('{').then(|| serde_json::from_str::<Named<'_>>(raw).ok()).flatten();
    match named.and_then(|named| named.id) {
        Some(id) => fields::text(&serde_json::from_str(id.get()).unwrap_or_default()).ok_or(ReadError::NoId),
        // What it is instead; or an id that is there twice.
        None => parse(raw).map(|(id, _)| id),
    }
}

/// Any object as JSON.
///
/// # Errors
/// When the text is no object with an id.
pub fn object(raw: &str) -> Result<Value, ReadError> {
    parse(raw).map(|(_, value)| value)
}

/// The id and the object.
fn parse(raw: &str) -> Result<(String, Value), ReadError> {
    let value: Value = serde_json::from_str(raw).map_err(|_| ReadError::NotJson)?;
    if !value.is_object() {
        return Err(ReadError::NotAnObject);
    }
    let id = fields::text(&value["id"]).ok_or(ReadError::NoId)?;
    Ok((id, value))
}
