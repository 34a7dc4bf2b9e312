//! A document that is JSON, but not the JSON that was asked for: what was expected, and where.

use crate::error::{Error, Fault};

/// The fault of a document that is JSON, but not the JSON that was asked for. Names what was expected, and where; never
/// the value that was sent.
pub fn misshapen(text: &str, fault: &serde_json::Error) -> Error {
    Error::Invalid(faults_of(text, fault))
}

pub fn faults_of(text: &str, fault: &serde_json::Error) -> Vec<Fault> {
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

    use serde::Deserialize;

    use super::super::parse;
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
}
