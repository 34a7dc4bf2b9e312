//! A call as LiteLLM's generic callback logs it (`StandardLoggingPayload`). Much of it is none of our business, prompts and
//! answers for one, and is not kept.

use std::borrow::Cow;

use billing::usage::Quantity;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::exact::{self, fault};
use super::read::{Outcome, Wire, named};
use crate::error::Fault;
use crate::http::body;
use crate::ops::usage::Told;
use crate::store::log::Source;

/// What is read of a logged call. Members that we do not name are passed over.
#[derive(Debug, Deserialize)]
#[allow(clippy::struct_field_names, reason = "LiteLLM's names")]
#[serde(expecting = "an object")]
pub struct Call<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    /// The id that LiteLLM itself gives to the call; the one in `id` is the model's own in many cases.
    #[serde(borrow)]
    call_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    litellm_call_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    call_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    status: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "startTime")]
    start: Option<&'a RawValue>,
    #[serde(borrow, rename = "endTime")]
    end: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    end_user: Option<Cow<'a, str>>,
    #[serde(borrow)]
    total_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Option<Metadata<'a>>,
}

/// Who made the call: the end user before the owner of the key.
#[derive(Debug, Deserialize)]
#[allow(clippy::struct_field_names, reason = "LiteLLM's names")]
#[serde(expecting = "an object")]
struct Metadata<'a> {
    #[serde(borrow)]
    user_api_key_end_user_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    user_api_key_user_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    user_id: Option<Cow<'a, str>>,
}

/// The body as JSON: Python writes `NaN`, `Infinity` and `-Infinity` for numbers that JSON has not, and a model that says `-inf` for a
/// token must not cost anybody their calls.
pub fn as_json(text: &str) -> Cow<'_, str> {
    let has = |word: &str| memchr::memmem::find(text.as_bytes(), word.as_bytes()).is_some();
    if !has("NaN") && !has("Infinity") {
        return Cow::Borrowed(text);
    }
    let mut json = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['"', 'N', '-', 'I']) {
        let (before, from) = rest.split_at(at);
        let number = ["NaN", "-Infinity", "Infinity"].into_iter().find(|number| from.starts_with(number));
        let length = match number {
            Some(number) => number.len(),
            None if from.starts_with('"') => body::string_length(from),
            None => 1,
        };
        let (token, after) = from.split_at(length);
        json.push_str(before);
        json.push_str(if number.is_some() { "null" } else { token });
        rest = after;
    }
    json.push_str(rest);
    Cow::Owned(json)
}

/// Where the user is looked for first.
const END_USER: &str = "/metadata/user_api_key_end_user_id";

/// What a logged call counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// One.
    Calls,
    /// `total_tokens`.
    Tokens,
}

/// A call that counts as one.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct ByCall<'a>(#[serde(borrow)] Call<'a>);

/// A call that counts its tokens.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct ByTokens<'a>(#[serde(borrow)] Call<'a>);

impl<'a> Wire<'a> for ByCall<'a> {
    fn judge(self, told: &mut Vec<Told>) -> (Cow<'a, str>, Outcome) {
        self.0.judge(Count::Calls, told)
    }

    fn id_of(text: &'a str) -> Option<Cow<'a, str>> {
        Call::id_of(text)
    }

    fn place(pointer: &str) -> Cow<'_, str> {
        Call::place(pointer)
    }
}

impl<'a> Wire<'a> for ByTokens<'a> {
    fn judge(self, told: &mut Vec<Told>) -> (Cow<'a, str>, Outcome) {
        self.0.judge(Count::Tokens, told)
    }

    fn id_of(text: &'a str) -> Option<Cow<'a, str>> {
        Call::id_of(text)
    }

    fn place(pointer: &str) -> Cow<'_, str> {
        Call::place(pointer)
    }
}

impl<'a> Call<'a> {
    fn judge(mut self, count: Count, told: &mut Vec<Told>) -> (Cow<'a, str>, Outcome) {
        let known = [self.call_id.take(), self.litellm_call_id.take(), self.id.take()];
        let id = known.into_iter().flatten().find(|id| !id.is_empty()).unwrap_or_default();
        if self.status.as_deref() == Some("failure") {
            return (id, Outcome::Ignored("the call failed"));
        }
        let mut faults = Vec::new();
        named(&id, "/id", &mut faults);
        let user = self.user();
        named(&user, END_USER, &mut faults);
        let kind = self.call_type.as_deref().map(kind_of).unwrap_or_default();
        named(kind, "/call_type", &mut faults);
        let at = self.at(&mut faults);
        let quantity = self.quantity(count, &mut faults);
        let (Some(quantity), true) = (quantity, faults.is_empty()) else { return (id, Outcome::Faulty(faults)) };
        told.push(Told {
            transaction_id: id.clone().into_owned(),
            producer: None,
            user: user.into_owned(),
            kind: kind.to_owned(),
            quantity,
            at,
            properties: self.properties(),
            source: Source::LiteLlm,
        });
        (id, Outcome::Told)
    }

    fn id_of(text: &'a str) -> Option<Cow<'a, str>> {
        ["call_id", "litellm_call_id", "id"].into_iter().find_map(|name| super::read::member(text, name))
    }

    fn place(pointer: &str) -> Cow<'_, str> {
        Cow::Borrowed(match pointer {
            "/transaction_id" => "/id",
            "/user_id" => END_USER,
            "/type" => "/call_type",
            "/timestamp" => "/endTime",
            "/quantity" => "/total_tokens",
            "/properties" => "",
            same => same,
        })
    }

    fn user(&mut self) -> Cow<'a, str> {
        let metadata = self.metadata.take();
        let (end_user, owner, other) = metadata
            .map(|data| (data.user_api_key_end_user_id, data.user_api_key_user_id, data.user_id))
            .unwrap_or_default();
        let known = [end_user, self.end_user.take(), owner, other];
        known.into_iter().flatten().find(|user| !user.is_empty()).unwrap_or_default()
    }

    /// When the call ended; when it began, for versions that log no end.
    fn at(&self, faults: &mut Vec<Fault>) -> Option<Timestamp> {
        let (json, pointer) = match (self.end, self.start) {
            (Some(end), _) => (end, "/endTime"),
            (None, Some(start)) => (start, "/startTime"),
            (None, None) => return None,
        };
        let text = json.get().trim_matches('"');
        let at = exact::seconds(text).or_else(|| exact::instant(text));
        if at.is_none() {
            faults.push(fault(pointer, "expected seconds since 1970, or a time by RFC 3339"));
        }
        at
    }

    fn quantity(&self, count: Count, faults: &mut Vec<Fault>) -> Option<Quantity> {
        match count {
            Count::Calls => Some(Quantity::from_micro(1_000_000)),
            Count::Tokens => {
                let quantity = self.total_tokens.and_then(|json| exact::quantity(json.get()));
                if quantity.is_none() {
                    faults.push(exact::no_quantity("/total_tokens"));
                }
                quantity
            }
        }
    }

    /// Model, kind of call and tokens, and nothing of what was said.
    fn properties(&self) -> Option<String> {
        #[derive(serde::Serialize)]
        struct Kept<'k> {
            #[serde(skip_serializing_if = "Option::is_none")]
            model: Option<&'k str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            call_type: Option<&'k str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            total_tokens: Option<&'k RawValue>,
        }
        let short = |text: &'_ &str| text.len() <= 255;
        let kept = Kept {
            model: self.model.as_deref().filter(short),
            call_type: self.call_type.as_deref().filter(short),
            total_tokens: self.total_tokens.filter(|json| exact::quantity(json.get()).is_some()),
        };
        serde_json::to_string(&kept).ok()
    }
}

/// The event type of a kind of call: `litellm.acompletion`, `aembedding`, `speech`, `atranscription`, … What is none of the
/// four types goes by its own name, for catalogues that have it.
fn kind_of(call_type: &str) -> &str {
    let call_type = call_type.strip_prefix("litellm.").unwrap_or(call_type);
    match call_type {
        "completion"
        | "acompletion"
        | "text_completion"
        | "atext_completion"
        | "responses"
        | "aresponses"
        | "anthropic_messages"
        | "generate_content"
        | "agenerate_content"
        | "generate_content_stream"
        | "agenerate_content_stream" => "inference",
        "embedding" | "aembedding" => "embedding",
        "speech" | "aspeech" => "tts",
        "transcription" | "atranscription" => "stt",
        other => ASYNC.iter().find(|name| **name == other).map_or(other, |name| &name[1..]),
    }
}

/// Other calls of LiteLLM that have an asynchronous twin: both are one type.
const ASYNC: [&str; 5] = ["aimage_generation", "aimage_edit", "amoderation", "arerank", "asearch"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_calls_are_event_types() {
        for (call, kind) in [
            ("litellm.completion", "inference"),
            ("acompletion", "inference"),
            ("aresponses", "inference"),
            ("aembedding", "embedding"),
            ("aspeech", "tts"),
            ("atranscription", "stt"),
            ("aimage_generation", "image_generation"),
            ("image_generation", "image_generation"),
            ("rerank", "rerank"),
            ("anything", "anything"),
        ] {
            assert_eq!(kind_of(call), kind);
        }
    }

    #[test]
    fn what_json_has_not_is_null_outside_of_strings() {
        for (sent, read) in [
            (r#"[1,-2,"NaN"]"#, r#"[1,-2,"NaN"]"#),
            (r#"[NaN,-Infinity,Infinity,-1,{"a":NaN}]"#, r#"[null,null,null,-1,{"a":null}]"#),
            (r#"{"\\\"NaN":"-Infinity \"","a":-Infinity}"#, r#"{"\\\"NaN":"-Infinity \"","a":null}"#),
            (r#"["NaN"#, r#"["NaN"#),
            ("[NaN", "[null"),
            ("Not-Infinite NaN", "Not-Infinite null"),
        ] {
            assert_eq!(as_json(sent), read, "{sent}");
        }
    }
}
