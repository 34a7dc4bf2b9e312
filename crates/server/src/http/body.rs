//! JSON in and out. A request's body is read strictly.
//!
//! Two answers are kept apart. A body that is not one JSON document is 400. A document that does not have the shape the
//! endpoint asks for is 422, with a pointer to the place.

mod shape;
mod strict;

use std::error::Error as _;
use std::fmt;
use std::marker::PhantomData;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub(super) use self::shape::{faults_of, misshapen};
pub use self::strict::{not_json, strictly};
use crate::error::{Error, Result};

/// Bytes of a body for which there is room before they come.
const BELIEVED_MAX: usize = 256 << 10;
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A JSON document: extracted from a request, or the body of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        parse(&document(request).await?).map(|Object(value)| Self(value))
    }
}

/// The same for a type that names each of its members and refuses every other (`deny_unknown_fields`): it refuses what is named twice as
/// well. So a plain object need not be looked through before it is read.
#[derive(Debug, Clone, Copy)]
pub struct Named<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Named<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let bytes = document(request).await?;
        if is_plain(&bytes)
            && let Ok(Object(value)) = serde_json::from_slice(&bytes)
        {
            return Ok(Self(value));
        }
        parse(&bytes).map(|Object(value)| Self(value))
    }
}

/// One object at most, with nothing inside another and no escapes.
fn is_plain(bytes: &[u8]) -> bool {
    memchr::memchr3_iter(b'{', b'[', b'\\', bytes).nth(1).is_none()
}

async fn document(request: Request) -> Result<Bytes> {
    if !is_json(request.headers()) {
        return Err(malformed("body.media_type", "Send Content-Type: application/json."));
    }
    whole(request.into_body()).await
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => ([(CONTENT_TYPE, JSON)], bytes).into_response(),
            Err(cause) => Error::internal(cause).into_response(),
        }
    }
}

/// A `T` that is written as an object, its members by name. A type of ours would be read from an array as well, its members
/// by position, and nobody means that.
#[derive(Debug, Clone, Copy)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_map(Members(PhantomData))
    }
}

struct Members<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members)).map(Object)
    }
}

/// What a body is declared as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `application/json`, or a type that is JSON by its suffix.
    Json,
    /// One JSON document a line.
    Lines,
    CloudEvent,
    CloudEvents,
}

/// The declared kind of a body, where it is one of ours (S-14).
pub fn kind(headers: &HeaderMap) -> Option<Kind> {
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    let (Some(kind), None) = (kinds.next()?.to_str().ok(), kinds.next()) else { return None };
    if kind == "application/json" {
        return Some(Kind::Json);
    }
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" => Some(Kind::Json),
        "application/cloudevents+json" => Some(Kind::CloudEvent),
        "application/cloudevents-batch+json" => Some(Kind::CloudEvents),
        "application/x-ndjson" => Some(Kind::Lines),
        other => (other.starts_with("application/") && other.ends_with("+json")).then_some(Kind::Json),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    kind(headers).is_some_and(|kind| kind != Kind::Lines)
}

/// The answer to a body of another kind.
pub fn no_kind(taken: &str) -> Error {
    malformed("body.media_type", taken)
}

/// Reads a body to its end. The edge has set the limit. Most arrive in one piece, which is taken as it is.
pub async fn whole(mut body: Body) -> Result<Bytes> {
    let Some(frame) = body.frame().await else { return Ok(Bytes::new()) };
    let first = frame.map_err(broken)?.into_data().unwrap_or_default();
    if hyper::body::Body::is_end_stream(&body) {
        return Ok(first);
    }
    // The head says what is to come. It is believed up to a point: whoever only says much is not given much.
    let more = usize::try_from(hyper::body::Body::size_hint(&body).lower()).unwrap_or_default();
    let mut whole = Vec::with_capacity(first.len() + more.min(BELIEVED_MAX));
    whole.extend_from_slice(&first);
    while let Some(frame) = body.frame().await {
        whole.extend_from_slice(&frame.map_err(broken)?.into_data().unwrap_or_default());
    }
    Ok(whole.into())
}

fn broken(fault: axum::Error) -> Error {
    let mut cause = fault.source();
    while cause.is_some_and(|cause| !cause.is::<LengthLimitError>()) {
        cause = cause.and_then(std::error::Error::source);
    }
    if cause.is_some() {
        malformed("body.too_large", "The body has more bytes than this path takes.")
    } else {
        malformed("body.malformed", "The body ended early, or its chunks are broken.")
    }
}

/// Reads one JSON document, strictly, as a `T`.
///
/// # Errors
/// `Malformed` when the bytes are not one unambiguous JSON document; `Invalid` with a pointer when it is not a `T`.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("body.malformed", "The body is not valid UTF-8."))?;
    strictly(text)?;
    serde_json::from_str(text).map_err(|fault| misshapen(text, &fault))
}

/// Bytes of the string that a text begins with, its quotes included.
pub fn string_length(text: &str) -> usize {
    let mut escaped = true;
    let end = text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 1)
}

/// The JSON documents of a text, unread, one after the other.
pub fn sequence(text: &str) -> Result<Vec<&RawValue>> {
    let documents = serde_json::Deserializer::from_str(text).into_iter();
    let documents: Vec<&RawValue> = documents.collect::<Result<_, _>>().map_err(|fault| not_json(&fault))?;
    if documents.is_empty() {
        return Err(malformed("body.malformed", "The body is empty."));
    }
    Ok(documents)
}

pub(super) fn malformed(code: &'static str, detail: impl Into<String>) -> Error {
    Error::Malformed { code, detail: detail.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only its shape matters")]
    struct Part {
        id: String,
    }

    #[test]
    fn an_object_is_not_read_from_an_array() {
        assert!(parse::<Part>(br#"["x"]"#).is_ok(), "serde does, if nobody asks for an object");
        assert!(parse::<Object<Part>>(br#"{"id":"x"}"#).is_ok());
        let fault = parse::<Object<Part>>(br#"["x"]"#).map(|_| ()).unwrap_err();
        assert!(matches!(&fault, Error::Invalid(faults) if faults[0].detail == "expected an object"), "{fault:?}");
    }

    #[test]
    fn only_json_is_json() {
        for (kind, taken) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/cloudevents+json", true),
            ("text/plain", false),
            ("text/json", false),
            ("multipart/form-data", false),
            ("application/jsonx", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
            assert_eq!(is_json(&headers), taken, "{kind}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
