//! A CloudEvent in binary mode (HTTP protocol binding 1.0.2, section 3.1): its attributes are headers, its data is the body.

use std::borrow::Cow;

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use serde_json::value::RawValue;

use super::Item;
use crate::error::{Error, Fault, Result};
use crate::http::body::{self, Kind};
use crate::http::events::exact::fault;
use crate::http::events::read::{Outcome, Wire};
use crate::ops::usage::Told;

const VERSION: &str = "ce-specversion";

/// Whether it is one: a receiver tells by the content type, and then by this header.
pub fn is_binary(headers: &HeaderMap) -> bool {
    headers.contains_key(VERSION)
}

/// What the body is where its sender does not say, as the official clients do not of data that they wrote themselves.
pub fn kind(headers: &HeaderMap) -> Option<Kind> {
    (is_binary(headers) && !headers.contains_key(CONTENT_TYPE)).then_some(Kind::Json)
}

/// Reads the event.
///
/// # Errors
/// `Malformed` where the body is not JSON, `Invalid` with everything that is wrong, by the header's name or by a pointer into the body.
pub fn one<'a>(headers: &'a HeaderMap, text: &'a str) -> Result<(Cow<'a, str>, Vec<Told>)> {
    let data: &RawValue = serde_json::from_str(text).map_err(|fault| body::not_json(&fault))?;
    let mut faults = Vec::new();
    let mut required = |name| match attribute(headers, name) {
        Ok(Some(text)) => text,
        Ok(None) => unreadable(name, "is required", &mut faults),
        Err(detail) => unreadable(name, detail, &mut faults),
    };
    let (specversion, id, source) = (required(VERSION), required("ce-id"), required("ce-source"));
    let (kind, subject) = (required("ce-type"), required("ce-subject"));
    let time = attribute(headers, "ce-time").unwrap_or_else(|detail| Some(unreadable("ce-time", detail, &mut faults)));
    if !faults.is_empty() {
        return Err(Error::Invalid(faults));
    }
    let mut told = Vec::with_capacity(1);
    match (Item { specversion, id, source, kind, subject, time, data }).judge(&mut told) {
        (_, Outcome::Faulty(faults)) => {
            let placed = |fault: Fault| Fault { pointer: in_headers(&fault.pointer), ..fault };
            Err(Error::Invalid(faults.into_iter().map(placed).collect()))
        }
        (id, _) => Ok((id, told)),
    }
}

fn unreadable(name: &str, detail: &str, faults: &mut Vec<Fault>) -> Cow<'static, str> {
    faults.push(fault(name, detail));
    Cow::Borrowed("")
}

/// Where an event in this mode has what ours has at a pointer.
pub fn place(pointer: &str) -> Cow<'_, str> {
    in_headers(&Item::place(pointer)).into()
}

/// Where the sender finds what a structured event has at a pointer: the body is the data alone.
fn in_headers(pointer: &str) -> String {
    match (pointer.strip_prefix("/data"), pointer.strip_prefix('/')) {
        (Some(in_data), _) => in_data.to_owned(),
        (None, Some(attribute)) => format!("ce-{attribute}"),
        (None, None) => pointer.to_owned(),
    }
}

/// An attribute out of its header: unquoted first, then percent-decoded once (section 3.1.3.2).
fn attribute<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<Cow<'a, str>>, &'static str> {
    let mut values = headers.get_all(name).iter();
    let (value, None) = (values.next(), values.next()) else { return Err("expected it once") };
    let Some(value) = value else { return Ok(None) };
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| "expected UTF-8")?;
    let text = unquoted(text);
    if !text.contains('%') {
        return Ok(Some(text));
    }
    let decoded = percent_encoding::percent_decode_str(&text).decode_utf8().map_err(|_| "expected UTF-8")?;
    Ok(Some(Cow::Owned(decoded.into_owned())))
}

/// A quoted string (RFC 9110, section 5.6.4) without its quotes.
fn unquoted(text: &str) -> Cow<'_, str> {
    let Some(quoted) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else { return text.into() };
    let mut is_escaped = false;
    let kept = quoted.chars().filter(|character| {
        is_escaped = *character == '\\' && !is_escaped;
        !is_escaped
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_unquoted_and_decoded_once() {
        for (header, expected) in [
            ("/gateway", Ok("/gateway")),
            ("\"a b\"", Ok("a b")),
            (r#""a \"b\" \\ c""#, Ok(r#"a "b" \ c"#)),
            ("Euro%20%E2%82%AC", Ok("Euro €")),
            ("100%2525", Ok("100%25")),
            ("\"\"", Ok("")),
            ("%ff", Err("expected UTF-8")),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("ce-id", header.parse().unwrap());
            assert_eq!(attribute(&headers, "ce-id"), expected.map(|text| Some(Cow::Borrowed(text))), "{header}");
        }
        let mut twice = HeaderMap::new();
        twice.append("ce-id", "a".parse().unwrap());
        twice.append("ce-id", "a".parse().unwrap());
        assert_eq!(attribute(&twice, "ce-id"), Err("expected it once"));
        assert_eq!(attribute(&HeaderMap::new(), "ce-id"), Ok(None));
    }
}
