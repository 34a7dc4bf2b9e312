//! JSON in and out. A request's body is read strictly: what two readers could understand differently is refused before
//! anybody looks at its meaning (S-32).
//!
//! Two answers are kept apart. A body that is not one JSON document is 400. A document that does not have the shape the
//! endpoint asks for is 422, with a pointer to the place.

use std::borrow::Cow;
use std::collections::HashSet;
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
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::{Error, Fault, Result};

/// Arrays and objects inside each other.
const DEPTH_MAX: u32 = 64;
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

/// Looks whether a text is one unambiguous JSON document.
pub fn strictly(text: &str) -> Result<()> {
    let looked = look_through(text).or_else(|fault| {
        // A number too large for a float is JSON all the same; whether it fits is for its reader to say.
        let too_large = fault.to_string().starts_with("number out of range");
        if too_large { look_through(&without_numbers(text)) } else { Err(fault) }
    });
    looked.map_err(|fault| not_json(&fault))
}

fn look_through(text: &str) -> serde_json::Result<()> {
    let mut reader = serde_json::Deserializer::from_str(text);
    Strict { depth_left: DEPTH_MAX }.deserialize(&mut reader).and_then(|()| reader.end())
}

/// The same text with a zero, and spaces, for every number.
fn without_numbers(text: &str) -> String {
    let is_of_number = |byte: char| byte.is_ascii_digit() || matches!(byte, '-' | '+' | '.' | 'e' | 'E');
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|begin: char| matches!(begin, '"' | '-') || begin.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        let quoted = from.starts_with('"');
        let length =
            if quoted { string_length(from) } else { from.find(|byte| !is_of_number(byte)).unwrap_or(from.len()) };
        let (token, after) = from.split_at(length);
        plain.push_str(before);
        if !quoted && serde_json::from_str::<&RawValue>(token).is_ok() {
            plain.push('0');
            plain.extend(std::iter::repeat_n(' ', length - 1));
        } else {
            plain.push_str(token);
        }
        rest = after;
    }
    plain + rest
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

pub(super) fn not_json(fault: &serde_json::Error) -> Error {
    let what = match fault.to_string() {
        said if said.starts_with(TWICE) => TWICE,
        said if said.starts_with(TOO_DEEP) => TOO_DEEP,
        _ if fault.is_eof() => "the document ends early",
        _ => "this is not JSON",
    };
    malformed("body.malformed", format!("Line {}, column {}: {what}.", fault.line(), fault.column()))
}

const TWICE: &str = "a member is named twice";
const TOO_DEEP: &str = "more than 64 levels deep";

/// Walks a document and keeps nothing: only what serde_json would let pass is of interest.
struct Strict {
    depth_left: u32,
}

impl Strict {
    fn deeper<E: serde::de::Error>(&self) -> Result<Self, E> {
        self.depth_left.checked_sub(1).map(|depth_left| Self { depth_left }).ok_or_else(|| E::custom(TOO_DEEP))
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(self.deeper()?)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut names = Names::default();
        while let Some(Name(name)) = members.next_key()? {
            if !names.insert(name) {
                return Err(A::Error::custom(TWICE));
            }
            members.next_value_seed(self.deeper()?)?;
        }
        Ok(())
    }
}

/// A member's name, out of the text itself where it has no escapes.
#[derive(Deserialize)]
struct Name<'t>(#[serde(borrow)] Cow<'t, str>);

/// The names that an object has had so far. Most objects have few members.
#[derive(Default)]
struct Names<'t> {
    first: Vec<Cow<'t, str>>,
    more: HashSet<Cow<'t, str>>,
}

impl<'t> Names<'t> {
    const FEW: usize = 16;

    /// Whether it is a new one.
    fn insert(&mut self, name: Cow<'t, str>) -> bool {
        if self.first.contains(&name) {
            return false;
        }
        if self.first.len() < Self::FEW {
            self.first.push(name);
            return true;
        }
        self.more.insert(name)
    }
}

/// The fault of a document that is JSON, but not the JSON that was asked for. Names what was expected, and where; never
/// the value that was sent.
pub(super) fn misshapen(text: &str, fault: &serde_json::Error) -> Error {
    Error::Invalid(faults_of(text, fault))
}

pub(super) fn faults_of(text: &str, fault: &serde_json::Error) -> Vec<Fault> {
    let said = fault.to_string();
    let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(said, _)| said);
    let place = pointer(text, offset(text, fault.line(), fault.column()));
    let quoted = |text: &str| text.split('`').nth(1).unwrap_or_default().replace('~', "~0").replace('/', "~1");
    let (pointer, detail) = match said.split_once("expected ") {
        _ if said.starts_with("duplicate field") => (place, "is named twice".to_owned()),
        // `\ud800`: JSON by its grammar, and no text.
        _ if said.ends_with("hex escape") => (place, "expected text without half a surrogate pair".to_owned()),
        _ if said.starts_with("missing field") => (format!("{place}/{}", quoted(said)), "is required".to_owned()),
        Some((before, wanted)) if before.starts_with("unknown field") => {
            (place, format!("is not a member here; expected {wanted}"))
        }
        Some((_, wanted)) => (place, format!("expected {}", in_words(wanted))),
        None if said.starts_with("unknown field") => (place, "is not a member here".to_owned()),
        None => (place, "is not allowed here".to_owned()),
    };
    vec![Fault { pointer, detail }]
}

/// What serde calls by the names of our types, in the words of JSON.
fn in_words(wanted: &str) -> &str {
    match wanted {
        "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number within its range",
        wanted if wanted.starts_with("struct ") => "an object",
        "a sequence" => "an array",
        "a map" => "an object",
        other => other,
    }
}

/// serde_json counts lines from 1 and columns in bytes.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (before + column).min(text.len())
}

/// The JSON pointer (RFC 6901) of the value that ends at, or holds, the byte at `end`. `text` is known to be JSON.
fn pointer(text: &str, end: usize) -> String {
    let mut walk = Walk::default();
    let mut bytes = text.bytes().enumerate().take(end);
    while let Some((at, byte)) = bytes.next() {
        if byte != b'"' {
            walk.step(byte);
            continue;
        }
        let mut escaped = false;
        let last = bytes.find(|(_, byte)| {
            let ends = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            ends
        });
        let Some((last, _)) = last else { break };
        walk.string(text.get(at..=last).unwrap_or_default());
    }
    walk.path.iter().map(Place::token).collect()
}

#[derive(Default)]
struct Walk {
    path: Vec<Place>,
}

enum Place {
    Item(usize),
    Member { name: String, named: bool },
}

impl Place {
    fn token(&self) -> String {
        match self {
            Self::Item(index) => format!("/{index}"),
            Self::Member { name, .. } if name.is_empty() => String::new(),
            Self::Member { name, .. } => format!("/{}", name.replace('~', "~0").replace('/', "~1")),
        }
    }
}

impl Walk {
    fn step(&mut self, byte: u8) {
        match (byte, self.path.last_mut()) {
            (b'[', _) => self.path.push(Place::Item(0)),
            (b'{', _) => self.path.push(Place::Member { name: String::new(), named: false }),
            (b']' | b'}', _) => drop(self.path.pop()),
            (b',', Some(Place::Item(index))) => *index += 1,
            (b',', Some(Place::Member { named, .. })) => *named = false,
            _ => {}
        }
    }

    fn string(&mut self, quoted: &str) {
        if let Some(Place::Member { name, named }) = self.path.last_mut()
            && !*named
        {
            *name = serde_json::from_str(quoted).unwrap_or_default();
            *named = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only its shape matters")]
    struct Ask {
        user: String,
        count: u32,
        #[serde(default)]
        kind: Kind,
        #[serde(default)]
        more: Vec<Part>,
        #[serde(default)]
        map: BTreeMap<String, u8>,
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only its shape matters")]
    struct Part {
        id: String,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        #[default]
        One,
        Two,
    }

    #[test]
    fn s32_what_is_not_one_clear_document_is_malformed() {
        let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels)).into_bytes();
        assert!(parse::<Value>(&deep(64)).is_ok());
        let cases: [(&str, &[u8]); 14] = [
            ("empty", b""),
            ("cut", b"{\"a\":1"),
            ("UTF-8", b"{\"a\":\"\xff\"}"),
            ("deep", &deep(65)),
            ("very deep", &deep(100_000)),
            ("NaN", b"{\"a\":NaN}"),
            ("Infinity", b"[Infinity]"),
            ("twice", b"{\"a\":1,\"a\":1}"),
            ("twice, one escaped", b"{\"a\":1,\"\\u0061\":2}"),
            ("twice, inside", b"[{\"x\":{\"b\":1,\"c\":2,\"b\":3}}]"),
            ("trailing", b"{} {}"),
            ("trailing NUL", b"{}\0"),
            ("comma", b"[1,]"),
            ("lone surrogate", b"\"\\ud800\""),
        ];
        for (name, bytes) in cases {
            let fault = parse::<Value>(bytes).unwrap_err();
            assert!(matches!(fault, Error::Malformed { code: "body.malformed", .. }), "{name}: {fault:?}");
        }
    }

    #[test]
    fn an_object_is_not_read_from_an_array() {
        assert!(parse::<Part>(br#"["x"]"#).is_ok(), "serde does, if nobody asks for an object");
        assert!(parse::<Object<Part>>(br#"{"id":"x"}"#).is_ok());
        let fault = parse::<Object<Part>>(br#"["x"]"#).map(|_| ()).unwrap_err();
        assert!(matches!(&fault, Error::Invalid(faults) if faults[0].detail == "expected an object"), "{fault:?}");
    }

    #[test]
    fn a_document_of_another_shape_is_invalid_and_says_where() {
        for (text, pointer, detail) in [
            (r#"{"count":1}"#, "/user", "is required"),
            (r#"{"user":"SECRET","count":"SECRET"}"#, "/count", "expected a whole number within its range"),
            (r#"{"user":"a","count":-1}"#, "/count", "expected a whole number within its range"),
            ("{\n \"user\": 7,\n \"count\": 1}", "/user", "expected a string"),
            (r#"{"user":"a","count":1,"kind":"SECRET"}"#, "/kind", "expected `one` or `two`"),
            (r#"{"user":"a","count":1,"more":[{"id":"x"},{"id":"y"},{"id":[1]}]}"#, "/more/2/id", "expected a string"),
            (r#"{"user":"a","count":1,"more":[{"id":"x"},{}]}"#, "/more/1/id", "is required"),
            (r#"{"user":"a","count":1,"map":{"x/y~":300}}"#, "/map/x~1y~0", "expected a whole number within its range"),
            (r#"{"user":"\"{[,","count":true}"#, "/count", "expected a whole number within its range"),
            ("[]", "", "expected an object"),
            ("null", "", "expected an object"),
        ] {
            let fault = parse::<Ask>(text.as_bytes()).unwrap_err();
            let Error::Invalid(faults) = &fault else { panic!("{text}: {fault:?}") };
            assert_eq!((faults[0].pointer.as_str(), faults[0].detail.as_str()), (pointer, detail), "{text}");
            assert!(!format!("{fault:?}").contains("SECRET"));
        }
        let fault = parse::<Ask>(br#"{"user":"a","count":1,"cuont":2}"#).unwrap_err();
        let Error::Invalid(faults) = fault else { panic!() };
        assert_eq!(faults[0].pointer, "/cuont");
        assert!(faults[0].detail.starts_with("is not a member here; expected one of `user`, `count`"), "{faults:?}");
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
