//! Numbers and times as they stand on the wire: printed from integers, never through a float.

use billing::money::Money;
use billing::usage::{Credits, Quantity};
use jiff::Timestamp;
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

/// Money: a JSON number with the decimals of its currency (`49.00`, `4900` yen).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount(pub Money);

/// Credits or a quantity: a JSON number without needless zeros (`585`, `0.5`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number(String);

/// An instant: RFC 3339, UTC, whole seconds, `Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Timestamp);

impl From<Credits> for Number {
    fn from(credits: Credits) -> Self {
        Self(credits.wire())
    }
}

impl From<Quantity> for Number {
    fn from(quantity: Quantity) -> Self {
        Self(quantity.wire())
    }
}

fn number<S: Serializer>(text: String, serializer: S) -> Result<S::Ok, S::Error> {
    RawValue::from_string(text).map_err(S::Error::custom)?.serialize(serializer)
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        number(self.0.wire(), serializer)
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        number(self.0.clone(), serializer)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&billing::time::wire(self.0))
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
        let time = ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .examples([serde_json::json!("2025-09-08T00:00:00Z")]);
        described(time, "RFC 3339, UTC, whole seconds.")
    }
}

fn described(schema: ObjectBuilder, text: &str) -> RefOr<Schema> {
    RefOr::T(Schema::Object(schema.description(Some(text)).build()))
}

impl ToSchema for Amount {}
impl ToSchema for Number {}
impl ToSchema for Time {}
