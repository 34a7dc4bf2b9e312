//! Properties of an event: kept as the text they came in, after a strict look (S-32).

use std::borrow::Cow;

use serde_json::value::RawValue;

/// Bytes of an event's properties.
pub const OWN_MAX: usize = 1024;
/// The same on a wire that is not ours, whose clients know of no such limit.
pub const FOREIGN_MAX: usize = 16 * 1024;
/// Arrays and objects inside each other, as in every body.
pub const DEPTH_MAX: u32 = 64;

/// Looks at the text of one JSON value, which is known to be JSON, of at most so many bytes.
///
/// # Errors
/// What is expected instead: an object, not too long, not too deep, and each member named once at every depth.
pub fn look(text: &str, most: usize) -> Result<(), &'static str> {
    if !text.starts_with('{') {
        return Err("expected an object");
    }
    if text.len() > most {
        return Err(if most == OWN_MAX { "expected at most 1 KiB" } else { "expected at most 16 KiB" });
    }
    Walk { text, at: 0, depth: 0, objects: 0, names: Vec::new(), at_name: false }.look_through()
}

/// The same of a text of which nothing is known, however it came in.
pub fn judge(text: &str) -> Result<(), &'static str> {
    // Checks the grammar and goes no deeper into it, so it needs no stack.
    serde_json::from_str::<&RawValue>(text).map_err(|_| "expected JSON")?;
    look(text.trim_start(), FOREIGN_MAX)
}

/// One pass over a text. Names are compared with those of the same object only.
struct Walk<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
    /// A bit for each array and object that is open, the innermost last: whether it is an object.
    objects: u64,
    /// The names in objects that are open, with the depth of theirs.
    names: Vec<(u32, Cow<'a, str>)>,
    at_name: bool,
}

impl Walk<'_> {
    fn look_through(mut self) -> Result<(), &'static str> {
        while let Some(byte) = self.text.as_bytes().get(self.at) {
            match byte {
                b'{' => self.enter(true)?,
                b'[' => self.enter(false)?,
                b'}' | b']' => self.leave(),
                b',' => self.at_name = self.objects & 1 == 1,
                b'"' => self.string()?,
                _ => {}
            }
            self.at += 1;
        }
        Ok(())
    }

    fn enter(&mut self, object: bool) -> Result<(), &'static str> {
        if self.depth == DEPTH_MAX {
            return Err("expected at most 64 levels");
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u64::from(object);
        self.at_name = object;
        Ok(())
    }

    fn leave(&mut self) {
        while self.names.pop_if(|(depth, _)| *depth == self.depth).is_some() {}
        self.objects >>= 1;
        self.depth = self.depth.saturating_sub(1);
    }

    /// A string, from its first quote to its last.
    fn string(&mut self) -> Result<(), &'static str> {
        let bytes = self.text.as_bytes();
        let mut end = self.at + 1;
        let mut escaped = false;
        while let Some(byte) = bytes.get(end).filter(|byte| **byte != b'"') {
            escaped |= *byte == b'\\';
            end += if *byte == b'\\' { 2 } else { 1 };
        }
        let quoted = self.text.get(self.at..=end).unwrap_or_default();
        self.at = end;
        let is_name = std::mem::take(&mut self.at_name);
        let name = if escaped {
            // Half a surrogate pair is JSON by its grammar, and text in no other.
            Cow::Owned(serde_json::from_str(quoted).map_err(|_| "expected text in every string")?)
        } else {
            Cow::Borrowed(quoted.trim_matches('"'))
        };
        if is_name {
            // Those of objects inside this one have gone with them.
            let mut own = self.names.iter().rev().take_while(|(depth, _)| *depth == self.depth);
            if own.any(|(_, known)| *known == name) {
                return Err("expected each member once");
            }
            self.names.push((self.depth, name));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s32_properties_of_a_foreign_wire_may_be_longer() {
        let long = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8));
        assert_eq!(look(&long(FOREIGN_MAX), FOREIGN_MAX), Ok(()));
        assert_eq!(look(&long(FOREIGN_MAX + 1), FOREIGN_MAX), Err("expected at most 16 KiB"));
    }

    #[test]
    fn s32_properties_are_one_clear_object() {
        let deep = |levels: usize| format!("{{\"a\":{}1{}}}", "[".repeat(levels), "]".repeat(levels));
        let long = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8));
        for (text, fault) in [
            ("{}", None),
            (r#"{"model":"m","tokens":[1,2,{"a":1}],"b":{"a":1,"model":2}}"#, None),
            (r#"{"a":"a","b":"b, \"a\": 1","c":["a","a"]}"#, None),
            (r#"{"a":[{"x":1},{"x":1}],"b":{"x":1}}"#, None),
            (r#"{"":1,"a\\":2,"a":3}"#, None),
            (r#"{"a":1,"a":2}"#, Some("expected each member once")),
            (r#"{"a":{"b":[],"c":1},"a":2}"#, Some("expected each member once")),
            (r#"{"x":[{"b":1,"b":1}]}"#, Some("expected each member once")),
            (r#"{"a":1,"\u0061":2}"#, Some("expected each member once")),
            (r#"{"":1,"":2}"#, Some("expected each member once")),
            (r#"{"a":"\ud800"}"#, Some("expected text in every string")),
            (r#"{"\udc00":1}"#, Some("expected text in every string")),
            (r#"{"a":"\ud83d\ude00"}"#, None),
            ("[]", Some("expected an object")),
            ("\"a\"", Some("expected an object")),
            (&deep(63), None),
            (&deep(64), Some("expected at most 64 levels")),
            (&long(1024), None),
            (&long(1025), Some("expected at most 1 KiB")),
        ] {
            assert!(serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok(), "{text} is no JSON");
            assert_eq!(look(text, OWN_MAX).err(), fault, "{text}");
        }
    }
}
