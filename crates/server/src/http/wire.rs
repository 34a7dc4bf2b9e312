//! Numbers and times as they stand on the wire: printed from integers, never through a float.

use billing::money::Money;
use billing::usage::{Credits, MICRO, Quantity};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};

use super::events::exact;
use crate::error::{Error, Fault, Result};

/// Money: a JSON number with the decimals of its currency (`49.00`, `4900` yen).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount(pub Money);

/// Credits or a quantity: a JSON number without needless zeros (`585`, `0.5`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    micro: i64,
}

/// An instant: RFC 3339, UTC, whole seconds, `Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Timestamp);

/// An instant to the millisecond: RFC 3339, UTC, `Z`, and a fraction only where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instant(Timestamp);

impl Instant {
    /// So many milliseconds after 1970 began.
    pub fn at(millis: i64) -> Result<Self> {
        Timestamp::from_millisecond(millis).map(Self).map_err(Error::internal)
    }
}

/// A quantity in a request: a number or its text, not read yet.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Exact(Box<RawValue>);

impl Exact {
    /// Reads it exactly.
    pub fn read(&self, pointer: &str, faults: &mut Vec<Fault>) -> Option<Quantity> {
        let read = exact::quantity(self.0.get());
        if read.is_none() {
            faults.push(exact::no_quantity(pointer));
        }
        read
    }
}

impl From<Credits> for Number {
    fn from(credits: Credits) -> Self {
        Self { micro: credits.micro() }
    }
}

impl From<Quantity> for Number {
    fn from(quantity: Quantity) -> Self {
        Self { micro: quantity.micro() }
    }
}

fn number<S: Serializer>(text: String, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    RawValue::from_string(text).map_err(serde::ser::Error::custom)?.serialize(serializer)
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        number(self.0.wire(), serializer)
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        if self.micro % MICRO == 0 {
            return serializer.serialize_i64(self.micro / MICRO);
        }
        number(Credits::from_micro(self.micro).wire(), serializer)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&billing::time::wire(self.0))
    }
}

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let whole = self.0.subsec_nanosecond() == 0;
        let format = if whole { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S%.3fZ" };
        serializer.collect_str(&self.0.strftime(format))
    }
}

impl PartialSchema for Exact {
    fn schema() -> RefOr<Schema> {
        described(
            ObjectBuilder::new()
                .schema_type(SchemaType::from_iter([Type::Number, Type::String]))
                .examples([serde_json::json!(3)]),
            "A number or its text: not negative, at most 6 decimals, no exponent.",
        )
    }
}

impl PartialSchema for Instant {
    fn schema() -> RefOr<Schema> {
        described(time(), "RFC 3339, UTC, to the millisecond.")
    }
}

impl PartialSchema for Amount {
    fn schema() -> RefOr<Schema> {
        described(
            ObjectBuilder::new().schema_type(Type::Number).examples([serde_json::json!(49.5)]),
            "Money with the decimals of its currency, exact.",
        )
    }
}

impl PartialSchema for Number {
    fn schema() -> RefOr<Schema> {
        described(
            ObjectBuilder::new().schema_type(Type::Number).examples([serde_json::json!(585)]),
            "Exact to six decimals.",
        )
    }
}

impl PartialSchema for Time {
    fn schema() -> RefOr<Schema> {
        described(time(), "RFC 3339, UTC, whole seconds.")
    }
}

fn time() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .examples([serde_json::json!("2025-09-08T00:00:00Z")])
}

fn described(schema: ObjectBuilder, text: &str) -> RefOr<Schema> {
    RefOr::T(Schema::Object(schema.description(Some(text)).build()))
}

impl ToSchema for Amount {}
impl ToSchema for Exact {}
impl ToSchema for Instant {}
impl ToSchema for Number {}
impl ToSchema for Time {}
