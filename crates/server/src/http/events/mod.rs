//! `/api/v1/usage/events` and its relatives: events come in, in four notations, and each gets its verdict.

mod cloud;
pub mod exact;
pub mod lago;
mod lago_errors;
mod list;
pub mod litellm;
mod own;
pub mod read;
pub mod verdicts;

use std::borrow::Cow;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::value::RawValue;
use utoipa::ToSchema;

pub use list::{__path_list, list};

use self::cloud::binary;
use self::litellm::{ByCall, ByTokens, Count};
use self::read::{Places, Wire};
use super::body::{self, Kind};
use super::extract::Writer;
use super::query::Query;
use super::wire::Exact;
use crate::app::App;
use crate::error::{Error, Result};
use crate::ops::usage::{self, Told, Verdict};

/// Something that was used.
#[derive(Debug, ToSchema)]
#[schema(as = Event)]
#[allow(dead_code, reason = "read by hand; this is how it is described")]
pub struct EventBody {
    /// Names the event, together with its time: the same one again is answered and not counted, one with another time of that day
    /// (UTC) or a day beside it is a conflict. Best a UUIDv7 or a ULID.
    ///
    /// 1 to 255 bytes of UTF-8, no control characters among them; so has everything that names something.
    #[schema(max_length = 255, example = "01KAN9SRY0W6V9T0YQW1X2Z3AB")]
    transaction_id: String,
    #[schema(max_length = 255, example = "usr_01KAN9SRY0W6V9T0YQW1X2Z3AB")]
    user_id: String,
    /// An event type of the catalogue.
    #[schema(max_length = 255, example = "inference")]
    r#type: String,
    quantity: Exact,
    /// When it was used: up to 35 days ago, up to 5 minutes ahead. RFC 3339.
    #[schema(format = DateTime, example = "2026-11-22T10:00:00Z")]
    timestamp: String,
    /// Anything else about it, up to 1 KiB; what comes as a CloudEvent's data or in Lago's notation, up to 16.
    #[schema(required = false, value_type = Option<Object>)]
    properties: Option<()>,
}

/// What became of an event.
#[derive(Debug, ToSchema)]
#[schema(as = Verdict)]
#[allow(dead_code, reason = "rendered by hand; this is how it is described")]
pub struct VerdictView {
    #[schema(example = "01KAN9SRY0W6V9T0YQW1X2Z3AB")]
    transaction_id: String,
    /// `recorded`, or `duplicate` where it was recorded before.
    #[schema(example = "recorded")]
    status: String,
    /// Its place in the log.
    #[schema(example = 4711)]
    position: i64,
    /// Its period was closed already, so it counts in the current one.
    #[schema(required = false)]
    late: Option<bool>,
}

/// What became of the events of a batch.
#[derive(Debug, ToSchema)]
#[schema(as = Verdicts)]
#[allow(dead_code, reason = "rendered by hand; this is how it is described")]
pub struct VerdictsView {
    recorded: u64,
    duplicates: u64,
    /// Conflicts included.
    rejected: u64,
    /// Calls that nobody is billed for, such as failed ones.
    ignored: u64,
    /// The last position of the batch, for `at_least`.
    #[schema(example = 4711)]
    position: Option<i64>,
    /// One for each item, in order.
    results: Vec<ResultView>,
}

/// What became of one event of a batch.
#[derive(Debug, ToSchema)]
#[schema(as = VerdictInBatch)]
#[allow(dead_code, reason = "rendered by hand; this is how it is described")]
pub struct ResultView {
    /// Null where none could be read.
    transaction_id: Option<String>,
    /// `recorded`, `duplicate`, `conflict`, `rejected` or `ignored`.
    #[schema(example = "recorded")]
    status: String,
    #[schema(required = false, example = 4711)]
    position: Option<i64>,
    #[schema(required = false)]
    late: Option<bool>,
    /// Why it was not recorded, as in `/docs/errors`.
    #[schema(required = false)]
    code: Option<String>,
    /// The member that is wrong: a JSON pointer into the request.
    #[schema(required = false)]
    pointer: Option<String>,
    #[schema(required = false)]
    detail: Option<String>,
}

/// Record an event, or up to 1,000 of them
///
/// One object is answered with its verdict: 201 `recorded`, 200 `duplicate`, 409 where its id was used for something else, 422
/// where it cannot count. An array is answered with 200 and one verdict for each item; a bad item never takes a good one with
/// it. Every 2xx is given after the events are on disk. CloudEvents are taken under their own media types, with `subject` as
/// the user and `data.quantity`; one whose attributes are `ce-` headers, too, with `quantity` in its body.
#[utoipa::path(post, path = "/api/v1/usage/events", tag = "usage", operation_id = "record",
    request_body(content = EventBody, content_type = "application/json"),
    responses(
        (status = 201, body = VerdictView, description = "Recorded; it is on disk"),
        (status = 200, body = VerdictsView, description = "The verdicts of a batch; for a single event: it was recorded before"),
        (status = 409, description = "The id was used for something else"),
    ),
    extensions(("x-role" = json!("service"))), security(("key" = [])))]
pub async fn create(State(app): State<App>, _: Writer, headers: HeaderMap, body: Body) -> Result<Response> {
    let kind = body::kind(&headers).or_else(|| binary::kind(&headers)).filter(|kind| *kind != Kind::Lines);
    let kind = noted(&app, kind.ok_or_else(|| body::no_kind(TAKEN)))?;
    let bytes = noted(&app, body::whole(body).await)?;
    let text = noted(&app, read::text(&bytes))?;
    match kind {
        Kind::CloudEvent => one(&app, alone(text).and_then(read::one::<cloud::Item<'_>>), cloud::Item::place).await,
        Kind::CloudEvents => many::<cloud::Item<'_>>(&app, text).await,
        Kind::Json if binary::is_binary(&headers) => {
            one(&app, alone(text).and_then(|text| binary::one(&headers, text)), binary::place).await
        }
        Kind::Json if read::is_array(text) => many::<own::Item<'_>>(&app, text).await,
        Kind::Json | Kind::Lines => one(&app, alone(text).and_then(read::one::<own::Item<'_>>), own::Item::place).await,
    }
}

/// Only a batch may be larger than other bodies.
fn alone(text: &str) -> Result<&str> {
    if text.len() <= ALONE_MAX {
        return Ok(text);
    }
    Err(body::malformed("body.too_large", "One event has at most 1 MiB; an array of them 4."))
}

/// Bytes of a body with one event.
const ALONE_MAX: usize = 1 << 20;

/// Whoever refuses a body has refused one event at least: the operator sees how many such bodies there were.
fn noted<T>(app: &App, read: Result<T>) -> Result<T> {
    read.inspect_err(|error| usage::note_unread(app, error, 1))
}

const TAKEN: &str =
    "Send Content-Type: application/json, application/cloudevents+json or application/cloudevents-batch+json.";

async fn one(app: &App, read: Result<(Cow<'_, str>, Vec<Told>)>, places: Places) -> Result<Response> {
    let (id, told) = noted(app, read)?;
    let verdicts = usage::record(app, told).await?;
    let verdict = verdicts.first().ok_or_else(|| Error::internal("an event without a verdict"))?;
    verdicts::single(app, &id, verdict, places)
}

async fn many<'a, W: Wire<'a>>(app: &App, text: &'a str) -> Result<Response> {
    let read = noted(app, read::many::<W>(text))?;
    let verdicts = if read.told.is_empty() { Vec::new() } else { usage::record(app, read.told).await? };
    Ok(verdicts::batch(app, &read.lines, verdicts, W::place))
}

/// Record calls as LiteLLM's generic callback sends them
///
/// `callback_type: generic_api` with this address as `endpoint` and the key in `headers`. Takes what LiteLLM sends: a list, one
/// call, or one call a line. The user is `metadata.user_api_key_end_user_id`, else `end_user`, else
/// `metadata.user_api_key_user_id`, else `metadata.user_id`. The event type follows from `call_type`: completions and responses
/// are `inference`, embeddings `embedding`, speech `tts`, transcriptions `stt`; other calls go by their own name, without the `a` of
/// asynchronous ones. Each call counts as 1, with `?count=tokens` as its `total_tokens`. Failed calls are ignored, and a call that is
/// sent again is counted once, by its call id. Prompts and answers are not kept.
///
/// Up to 100,000 calls in 32 MiB are recorded, 1,000 at a time. Where that ends on the way, what was recorded stays so, and each
/// of the others is `rejected` with the code of what stood in the way, such as `usage.queue_full`: the same list again records
/// those, and counts nothing twice.
#[utoipa::path(post, path = "/api/v1/usage/litellm", tag = "usage", operation_id = "record_litellm",
    params(("count" = Option<String>, Query, description = "`calls` (the default) or `tokens`")),
    request_body(content = Vec<Object>, content_type = "application/json", description = "Calls, as `StandardLoggingPayload`"),
    responses((status = 200, body = VerdictsView)),
    extensions(("x-role" = json!("service"))), security(("key" = [])))]
pub async fn create_litellm(
    State(app): State<App>,
    _: Writer,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let count = noted(&app, count(&query))?;
    if !matches!(body::kind(&headers), Some(Kind::Json | Kind::Lines)) {
        let taken = "Send Content-Type: application/json or application/x-ndjson.";
        return noted(&app, Err(body::no_kind(taken)));
    }
    let bytes = noted(&app, body::whole(body).await)?;
    let text = &*litellm::as_json(noted(&app, read::text(&bytes))?);
    let items = noted(&app, if read::is_array(text) { read::array(text) } else { body::sequence(text) })?;
    if items.len() > CALLS_MAX {
        return noted(&app, Err(body::malformed("batch.too_large", "The list has more than 100,000 calls.")));
    }
    match count {
        Count::Calls => in_groups::<ByCall<'_>>(&app, &items).await,
        Count::Tokens => in_groups::<ByTokens<'_>>(&app, &items).await,
    }
}

/// Calls of one list: what is said of each is in memory until the last is judged (F-08).
const CALLS_MAX: usize = 100_000;

/// However many there are: LiteLLM sends all that has gathered, once, and forgets it.
async fn in_groups<'a, W: Wire<'a>>(app: &App, items: &[&'a RawValue]) -> Result<Response> {
    let (mut lines, mut verdicts) = (Vec::with_capacity(items.len()), Vec::with_capacity(items.len()));
    let mut in_the_way = None;
    for group in items.chunks(read::ITEMS_MAX) {
        let read = read::one_by_one::<W>(group)?;
        let told = read.told.len();
        lines.extend(read.lines);
        if let Some(refused) = &in_the_way {
            usage::note_refusals(app, std::iter::repeat_n(refused, told));
            verdicts.extend(std::iter::repeat_n(Verdict::clone(refused), told));
            continue;
        }
        match usage::record(app, read.told).await {
            Ok(said) => verdicts.extend(said),
            Err(error) if verdicts.is_empty() => return Err(error),
            Err(error) => {
                tracing::warn!(%error, recorded = verdicts.len(), "a list of calls is recorded in part");
                let refused = unrecorded(&error);
                verdicts.extend(std::iter::repeat_n(refused.clone(), told));
                in_the_way = Some(refused);
            }
        }
    }
    Ok(verdicts::batch(app, &lines, verdicts, W::place))
}

/// What is said of events that others before them have come through, and they have not.
fn unrecorded(error: &Error) -> Verdict {
    let code = match error {
        Error::LimitReached { code, .. } | Error::Upstream { code, .. } => code,
        _ => "internal",
    };
    Verdict::Refused { code, pointer: "", detail: "this is not known to be recorded: send it again, it counts once" }
}

fn count(query: &Query) -> Result<Count> {
    query.only(&["count"])?;
    match query.one("count")? {
        None | Some("calls") => Ok(Count::Calls),
        Some("tokens") => Ok(Count::Tokens),
        Some(_) => Err(Error::invalid("?count", "expected calls or tokens")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_stood_in_the_way_is_named() {
        let full = Error::LimitReached { code: "usage.queue_full", retry_after: Duration::from_secs(1) };
        for (error, expected) in [(full, "usage.queue_full"), (Error::internal("what only the log hears"), "internal")]
        {
            let Verdict::Refused { code, detail, .. } = unrecorded(&error) else { panic!("{error}") };
            assert_eq!(code, expected);
            assert!(!detail.contains("log"));
        }
    }
}
