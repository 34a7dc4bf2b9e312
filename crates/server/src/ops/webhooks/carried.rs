//! What an event carries, read once for everybody who goes by it.

use serde_json::Value;

use crate::gateways::stripe::read;

/// The object of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// Byte for byte.
    pub text: String,
    pub object: Value,
    /// The members that changed, as they were before.
    pub previous: Option<Value>,
}

impl Carried {
    /// Nothing where the event carries no object.
    pub fn by(body: &str) -> Option<Self> {
        let event = read::event(body).ok()?;
        let text = String::from(Box::<str>::from(event.object?));
        let object = serde_json::from_str(&text).ok()?;
        let previous = event.previous.and_then(|previous| serde_json::from_str(previous.get()).ok());
        Some(Self { text, object, previous })
    }
}
