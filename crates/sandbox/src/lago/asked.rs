//! A request as it is asked: its path in pieces, its query, its JSON.

use super::decimal::Decimal;
use super::refusal::Refusal;
use serde_json::{Map, Value};

/// `LAGO_EVENTS_BATCH_MAX_LENGTH` as it is shipped.
const BATCH_MAX: usize = 100;

/// A request as it came, its body read.
#[derive(Debug, Clone, Default)]
pub(super) struct Arrived {
    pub(super) method: String,
    /// Without the query, still encoded.
    pub(super) path: String,
    pub(super) query: String,
    pub(super) authorization: Option<String>,
    /// Whether the body is said to be JSON; Lago looks at no other.
    pub(super) is_json: bool,
    pub(super) body: String,
}

/// What a handler is given.
#[derive(Debug)]
pub(super) struct Call {
    query: Vec<(String, String)>,
    body: Map<String, Value>,
    /// How Lago before 1.39 stores batches.
    pub(super) legacy: bool,
    /// So many events may be in a batch.
    pub(super) batch_max: usize,
}

impl Call {
    /// Errors: the body is no JSON.
    pub(super) fn of(arrived: &Arrived, legacy: bool) -> Result<Call, Refusal> {
        let pairs = arrived.query.split('&').filter(|pair| !pair.is_empty());
        let query = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let query = query.map(|(name, value)| (decoded(name, true), decoded(value, true))).collect();
        let body = if arrived.is_json && !arrived.body.trim().is_empty() {
            let broken = |_| Refusal::bad_request("error occurred while parsing request parameters");
            match serde_json::from_str(&arrived.body).map_err(broken)? {
                Value::Object(body) => body,
                // Rails puts what is no object aside, under a key that no endpoint reads.
                _ => Map::new(),
            }
        } else {
            Map::new()
        };
        Ok(Call { query, body, legacy, batch_max: BATCH_MAX })
    }

    /// A parameter of the query; one that is empty counts as not given.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// All values of `name[]=a&name[]=b`, or the one of `name=a`.
    pub(super) fn queries(&self, name: &str) -> Vec<&str> {
        let listed = format!("{name}[]");
        self.query.iter().filter(|(own, _)| own == name || *own == listed).map(|(_, value)| value.as_str()).collect()
    }

    /// The object that the body wraps. Errors: 400 where it is missing, empty or something else.
    pub(super) fn root(&self, name: &str) -> Result<Fields<'_>, Refusal> {
        match self.body.get(name) {
            Some(Value::Object(fields)) if !fields.is_empty() => Ok(Fields(fields)),
            _ => Err(Refusal::no_root(name)),
        }
    }

    pub(super) fn list(&self, name: &str) -> &[Value] {
        self.body.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }
}

/// The members of an object that somebody sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a Map<String, Value>);

impl<'a> Fields<'a> {
    pub(super) fn of(value: &'a Value) -> Option<Fields<'a>> {
        value.as_object().map(Fields)
    }

    pub(super) fn has(self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn value(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A scalar as text, which is what Rails makes of it; none where it is null, blank, a list or an object.
    pub(super) fn text(self, name: &str) -> Option<String> {
        scalar(self.value(name)?).filter(|text| !text.trim().is_empty())
    }

    pub(super) fn list(self, name: &str) -> &'a [Value] {
        self.value(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    pub(super) fn flag(self, name: &str) -> bool {
        matches!(self.value(name), Some(Value::Bool(true))) || self.text(name).as_deref() == Some("true")
    }

    pub(super) fn amount(self, name: &str) -> Option<Decimal> {
        Decimal::amount(self.value(name))
    }

    /// As it was sent, or null.
    pub(super) fn sent(self, name: &str) -> Value {
        self.0.get(name).cloned().unwrap_or_default()
    }
}

pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Percent-decoded; what is no escape stays as it is, and so do bytes that are no UTF-8, as the replacement character.
pub(super) fn decoded(text: &str, plus_is_space: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escape = bytes.get(at + 1..at + 3).filter(|_| byte == b'%');
        let escaped =
            escape.and_then(|two| std::str::from_utf8(two).ok()).and_then(|two| u8::from_str_radix(two, 16).ok());
        out.push(match escaped {
            Some(escaped) => escaped,
            None if byte == b'+' && plus_is_space => b' ',
            None => byte,
        });
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        for (text, plus, wanted) in [
            ("a%20b", false, "a b"),
            ("a+b", true, "a b"),
            ("a+b", false, "a+b"),
            ("%zz%", false, "%zz%"),
            ("%2F%c3%a9", false, "/é"),
        ] {
            assert_eq!(decoded(text, plus), wanted);
        }
    }
}
