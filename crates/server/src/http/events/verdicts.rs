//! What became of each event, rendered straight into the answer's bytes.

use std::collections::BTreeSet;
use std::io::Write as _;

use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;

use super::read::{Line, Outcome, Places};
use crate::app::App;
use crate::error::{Error, Result};
use crate::http::answer;
use crate::ops::usage::Verdict;

/// Says that the answer was given before (S-36).
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const YES: HeaderValue = HeaderValue::from_static("true");
/// Bytes of an answer for one event, roughly.
const ROOM: usize = 96;

/// The detail of a conflict.
pub const DIFFERS: &str = "differs from what was recorded under this id";

/// The answer for one event.
pub fn single(app: &App, id: &str, verdict: &Verdict, places: Places) -> Result<Response> {
    let (status, word, position, late) = match verdict {
        Verdict::Recorded { position, late } => (StatusCode::CREATED, "recorded", position, *late),
        Verdict::Duplicate { position } => (StatusCode::OK, "duplicate", position, false),
        Verdict::Conflict { member } => {
            return Err(Error::rule("usage.conflict", places(&format!("/{member}")), DIFFERS));
        }
        Verdict::Refused { code, pointer, detail } => return Err(refused(code, &places(pointer), detail)),
    };
    let mut out = Vec::with_capacity(ROOM + id.len());
    out.extend_from_slice(b"{\"transaction_id\":");
    text(&mut out, id);
    let _infallible = write!(out, ",\"status\":\"{word}\",\"position\":{position}");
    out.extend_from_slice(if late { b",\"late\":true}" } else { b"}" });
    let mut response = answer::json(app, status, out);
    if status == StatusCode::OK {
        response.headers_mut().insert(REPLAYED, YES);
    }
    Ok(response)
}

fn refused(code: &'static str, pointer: &str, detail: &str) -> Error {
    if code == "invalid" { Error::invalid(pointer, detail) } else { Error::rule(code, pointer, detail) }
}

/// The answer for a batch: one result for each line, in order. `verdicts` are of the lines that told something.
pub fn batch(app: &App, lines: &[Line<'_>], verdicts: Vec<Verdict>, places: Places) -> Response {
    let mut tally = Tally::default();
    let mut results = Vec::with_capacity(ROOM * lines.len());
    let mut verdicts = verdicts.into_iter();
    for (index, line) in lines.iter().enumerate() {
        results.extend_from_slice(if index == 0 { b"{\"transaction_id\":" } else { b",{\"transaction_id\":" });
        match &line.id {
            Some(id) => text(&mut results, id),
            None => results.extend_from_slice(b"null"),
        }
        match &line.outcome {
            Outcome::Told => match verdicts.next() {
                Some(verdict) => tally.judged(&mut results, index, &verdict, places),
                // The use case answers for each event that it was told.
                None => tally.rejected(&mut results, "rejected", "internal", index, "", "was not judged"),
            },
            Outcome::Ignored(why) => tally.ignored(&mut results, why),
            Outcome::Faulty(faults) => {
                let (pointer, detail) =
                    faults.first().map_or(("", "is not allowed"), |fault| (&fault.pointer, &fault.detail));
                app.usage.refusals.add("invalid", 1);
                tally.rejected(&mut results, "rejected", "invalid", index, pointer, detail);
            }
        }
        results.push(b'}');
    }
    if tally.rejected > 0 {
        // Under a 200, which is all that some senders look at.
        tracing::warn!(rejected = tally.rejected, recorded = tally.recorded, why = ?tally.why, "events of a batch were refused");
    }
    answer::json(app, StatusCode::OK, tally.around(&results))
}

/// How many of each there were.
#[derive(Debug, Default)]
struct Tally {
    recorded: usize,
    duplicates: usize,
    rejected: usize,
    /// Their codes.
    why: BTreeSet<&'static str>,
    ignored: usize,
    /// The last position of the batch, to wait for.
    position: Option<i64>,
}

impl Tally {
    fn judged(&mut self, out: &mut Vec<u8>, index: usize, verdict: &Verdict, places: Places) {
        match verdict {
            Verdict::Recorded { position, late } => {
                self.recorded += 1;
                self.position = self.position.max(Some(*position));
                out.extend_from_slice(b",\"status\":\"recorded\",\"position\":");
                number(out, *position);
                if *late {
                    out.extend_from_slice(b",\"late\":true");
                }
            }
            Verdict::Duplicate { position } => {
                self.duplicates += 1;
                self.position = self.position.max(Some(*position));
                out.extend_from_slice(b",\"status\":\"duplicate\",\"position\":");
                number(out, *position);
            }
            Verdict::Conflict { member } => {
                let pointer = format!("/{member}");
                self.rejected(out, "conflict", "usage.conflict", index, &places(&pointer), DIFFERS);
            }
            Verdict::Refused { code, pointer, detail } => {
                self.rejected(out, "rejected", code, index, &places(pointer), detail);
            }
        }
    }

    fn rejected(
        &mut self,
        out: &mut Vec<u8>,
        word: &str,
        code: &'static str,
        index: usize,
        pointer: &str,
        detail: &str,
    ) {
        self.rejected += 1;
        self.why.insert(code);
        let _infallible = write!(out, ",\"status\":\"{word}\",\"code\":\"{code}\",\"pointer\":");
        text(out, &format!("/{index}{pointer}"));
        out.extend_from_slice(b",\"detail\":");
        text(out, detail);
    }

    fn ignored(&mut self, out: &mut Vec<u8>, why: &str) {
        self.ignored += 1;
        out.extend_from_slice(b",\"status\":\"ignored\",\"detail\":");
        text(out, why);
    }

    /// The whole answer.
    fn around(&self, results: &[u8]) -> Vec<u8> {
        let Self { recorded, duplicates, rejected, ignored, position, .. } = self;
        let mut out = Vec::with_capacity(results.len() + 2 * ROOM);
        let _infallible = write!(
            out,
            "{{\"recorded\":{recorded},\"duplicates\":{duplicates},\"rejected\":{rejected},\"ignored\":{ignored}"
        );
        match position {
            Some(position) => {
                let _infallible = write!(out, ",\"position\":{position}");
            }
            None => out.extend_from_slice(b",\"position\":null"),
        }
        out.extend_from_slice(b",\"results\":[");
        out.extend_from_slice(results);
        out.extend_from_slice(b"]}");
        out
    }
}

/// A text as JSON.
pub fn text(out: &mut Vec<u8>, text: &str) {
    // Text always serialises, and a Vec takes every byte.
    let _infallible = serde_json::to_writer(out, text);
}

/// A whole number as JSON; the formatter of `write!` takes several times as long.
fn number(out: &mut Vec<u8>, number: i64) {
    let _infallible = serde_json::to_writer(out, &number);
}

/// Marks an answer that was given before.
pub fn replayed(mut response: Response, replayed: bool) -> Response {
    if replayed {
        response.headers_mut().insert(REPLAYED, YES);
    }
    response
}
