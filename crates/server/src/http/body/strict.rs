//! What two readers could understand differently is refused before anybody looks at its meaning (S-32).

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{malformed, string_length};
use crate::error::{Error, Result};

/// Arrays and objects inside each other.
const DEPTH_MAX: u32 = 64;
const TWICE: &str = "a member is named twice";
const TOO_DEEP: &str = "more than 64 levels deep";

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

/// Why a text is no JSON, and where it ceases to be.
pub fn not_json(fault: &serde_json::Error) -> Error {
    let what = match fault.to_string() {
        said if said.starts_with(TWICE) => TWICE,
        said if said.starts_with(TOO_DEEP) => TOO_DEEP,
        _ if fault.is_eof() => "the document ends early",
        _ => "this is not JSON",
    };
    malformed("body.malformed", format!("Line {}, column {}: {what}.", fault.line(), fault.column()))
}

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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::parse;
    use super::*;

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
}
