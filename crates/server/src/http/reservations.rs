//! `/api/v1/usage/check` and `/api/v1/usage/reservations`: may this user use so much, and hold it until it is done.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use billing::usage::{Credits, Quantity};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::{self, Members};
use super::body::Named;
use super::events::read::named;
use super::events::{exact, verdicts};
use super::extract::{Service, Writer};
use super::limits::{self, answered};
use super::wire::{Exact, Number, Time};
use crate::app::App;
use crate::error::{Error, Fault, Refused, Result};
use crate::ops::reservations::{self, Reservation, ReservationStatus, Standing};
use crate::ops::users;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// How long a reservation is held where the caller does not say.
const TTL_SECONDS: u64 = 300;
const TTL_SECONDS_MAX: u64 = 86_400;

/// A question whether a user may use so much.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = Question)]
pub struct Question {
    #[schema(example = "usr_01KAN9SRY0W6V9T0YQW1X2Z3AB")]
    user_id: String,
    #[schema(example = "inference")]
    r#type: String,
    quantity: Exact,
}

/// How a user stands.
#[derive(Debug, ToSchema)]
#[schema(as = Standing)]
pub struct StandingView {
    allowed: bool,
    /// Why not, as in `/docs/errors`; null where it is allowed.
    code: Option<&'static str>,
    /// Credits that are left, with what is reserved taken off; null without a limit, or where it cannot be told
    /// (`Billing-Degraded`).
    remaining: Option<Number>,
    limits: Vec<limits::View>,
}

/// Ask whether a user may use so much now
///
/// Never counts anything, and the answer holds for the moment. To be sure of it, reserve. Nothing is allowed to a user who is
/// disabled (`user.disabled`).
#[utoipa::path(post, path = "/api/v1/usage/check", tag = "usage", operation_id = "check",
    request_body = Question, responses((status = 200, body = StandingView)),
    extensions(("x-role" = json!("service"))), security(("key" = [])))]
pub async fn check(State(app): State<App>, _: Service, Named(ask): Named<Question>) -> Result<Response> {
    let mut faults = strange(&[(&ask.user_id, "/user_id"), (&ask.r#type, "/type")]);
    let quantity = ask.quantity.read("/quantity", &mut faults);
    let quantity = quantity.filter(|_| faults.is_empty()).ok_or(Error::Invalid(faults))?;
    if users::is_disabled(&app, &ask.user_id).await? {
        return stands(&app, shut_out());
    }
    let standing = reservations::check(&app, &ask.user_id, &ask.r#type, quantity).await?;
    stands(&app, standing)
}

/// How somebody stands who is disabled, whatever is left of their credits.
fn shut_out() -> Standing {
    let refused = Refused { code: users::DISABLED, retry_after: None, limits: Vec::new() };
    Standing { allowed: false, refusal: Some(refused), remaining: Some(Credits::ZERO), limits: Vec::new() }
}

/// The answer to how a user stands.
pub fn stands(app: &App, standing: Standing) -> Result<Response> {
    let view = StandingView {
        allowed: standing.allowed,
        code: standing.refusal.as_ref().map(|refused| refused.code),
        remaining: standing.remaining.map(Number::from),
        limits: standing.limits.iter().map(limits::View::of).collect(),
    };
    let body = Members::begin().with("allowed", &view.allowed)?.with("code", &view.code)?;
    let body = body.with("remaining", &view.remaining)?.with("limits", &view.limits)?.end();
    let mut response = answer::json(app, StatusCode::OK, body);
    limits::tell(response.headers_mut(), &standing.limits);
    Ok(limits::degraded(app, response))
}

/// What is to be held for a user.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = Hold)]
pub struct Hold {
    /// Names the reservation, so that asking again is safe. Without it `Idempotency-Key` does, and without that one is made. 1 to 255
    /// bytes, no control characters among them.
    #[schema(max_length = 255)]
    id: Option<String>,
    #[schema(example = "usr_01KAN9SRY0W6V9T0YQW1X2Z3AB")]
    user_id: String,
    #[schema(example = "inference")]
    r#type: String,
    /// The most that will be used. What the account could not count is a 422: it counts up to 1,152,921,504,606 credits, and units of
    /// a type, in a period. With Redis, what is held of a user at a time is 9,007,199,254 of either at most.
    quantity: Exact,
    /// How long it is held; 300 where it is left out.
    #[schema(minimum = 1, maximum = 86400)]
    ttl_seconds: Option<u64>,
}

/// A reservation.
#[derive(Debug, ToSchema)]
#[schema(as = Reservation)]
pub struct View {
    #[schema(example = "res_01KAN9SRY0W6V9T0YQW1X2Z3AB")]
    id: String,
    /// `held`, `committed` or `released`.
    #[schema(example = "held")]
    status: &'static str,
    quantity: Number,
    /// When it is released by itself.
    expires_at: Time,
    /// Credits that are left beside it; null without a limit, or where it cannot be told (`Billing-Degraded`).
    remaining: Option<Number>,
    /// It could not be decided whether it fits, and the limit lets it through then.
    undecided: bool,
}

/// Hold credits for a user until the work is done
///
/// The same id again is the same answer. What neither is committed nor released is released when its time is over.
#[utoipa::path(post, path = "/api/v1/usage/reservations", tag = "usage", operation_id = "reserve",
    request_body = Hold,
    responses(
        (status = 201, body = View, description = "Held; with `Idempotent-Replayed: true` where it was before"),
        (status = 402, description = "`credits.exhausted` or `trial.over`, with `upgrade_url`"),
        (status = 403, description = "The key was not issued for this, or the user is disabled (`user.disabled`)"),
        (status = 409, description = "The id was used for something else"),
        (status = 429, description = "`limit.day`, `limit.month` or `limit.minute`, with `upgrade_url`, `RateLimit` and `Retry-After`"),
    ),
    extensions(("x-role" = json!("service"))), security(("key" = [])))]
pub async fn create(State(app): State<App>, _: Writer, headers: HeaderMap, Named(hold): Named<Hold>) -> Response {
    let reserved = async {
        let ask = asked(&headers, hold)?;
        users::let_in(&app, &ask.user).await?;
        let reservation = reservations::reserve(&app, ask).await?;
        let replayed = reservation.replayed;
        let response = answer::json(&app, StatusCode::CREATED, View::of(reservation).body()?);
        Ok(verdicts::replayed(limits::degraded(&app, response), replayed))
    };
    answered(&app, reserved.await)
}

fn asked(headers: &HeaderMap, hold: Hold) -> Result<reservations::Ask> {
    let id = id_of(headers, hold.id)?;
    let ttl = hold.ttl_seconds.unwrap_or(TTL_SECONDS);
    let mut faults = strange(&[(&hold.user_id, "/user_id"), (&hold.r#type, "/type")]);
    if let Some(id) = &id {
        named(id, "/id", &mut faults);
    }
    if !(1..=TTL_SECONDS_MAX).contains(&ttl) {
        faults.push(exact::fault("/ttl_seconds", "expected a whole number from 1 to 86400"));
    }
    let quantity = hold.quantity.read("/quantity", &mut faults);
    let quantity = quantity.filter(|_| faults.is_empty()).ok_or(Error::Invalid(faults))?;
    Ok(reservations::Ask { id, user: hold.user_id, kind: hold.r#type, quantity, ttl: Duration::from_secs(ttl) })
}

/// The id in the body, or the one in the header (S-36): a structured string, or the bare text that most clients send.
fn id_of(headers: &HeaderMap, id: Option<String>) -> Result<Option<String>> {
    let mut keys = headers.get_all(KEY).iter();
    let key = match (keys.next(), keys.next()) {
        (None, _) => return Ok(id),
        (Some(key), None) => key.to_str().ok(),
        (Some(_), Some(_)) => None,
    };
    let key = key.map(|key| key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key));
    match (id, key) {
        (None, Some(key)) => Ok(Some(key.to_owned())),
        (Some(id), Some(key)) if id == key => Ok(Some(id)),
        (Some(_), Some(_)) => Err(Error::invalid("Idempotency-Key", "expected the same as /id, or nothing")),
        (_, None) => Err(Error::invalid("Idempotency-Key", "expected one text")),
    }
}

/// What was really used.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = Used)]
pub struct Used {
    /// More or less than was held.
    quantity: Exact,
    /// When; now where it is left out.
    #[schema(value_type = Option<Time>)]
    timestamp: Option<String>,
    /// Whose; needed where the reservation may have been forgotten.
    user_id: Option<String>,
    r#type: Option<String>,
}

/// A commit.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Commit)]
pub struct CommitView {
    id: String,
    #[schema(example = "committed")]
    status: &'static str,
    quantity: Number,
    /// Its place in the log.
    #[schema(example = 4711)]
    position: i64,
    /// The reservation was over already. It counts all the same.
    late: bool,
    /// Credits that are left; null without a limit, or where it cannot be told (`Billing-Degraded`).
    remaining: Option<Number>,
}

/// Count what was used of a reservation
///
/// It is on disk when the answer comes. The same commit again is the same answer.
#[utoipa::path(post, path = "/api/v1/usage/reservations/{id}/commit", tag = "usage", operation_id = "commit",
    params(("id" = String, Path, description = "The reservation")),
    request_body = Used,
    responses(
        (status = 200, body = CommitView, description = "Counted; with `Idempotent-Replayed: true` where it was before"),
        (status = 409, description = "It was resolved in another way"),
    ),
    extensions(("x-role" = json!("service"))), security(("key" = [])))]
pub async fn commit(
    State(app): State<App>,
    _: Writer,
    Path(id): Path<String>,
    Named(used): Named<Used>,
) -> Result<Response> {
    known(&id)?;
    let committed = reservations::commit(&app, &id, really(used)?).await?;
    let view = CommitView {
        id: committed.id,
        status: "committed",
        quantity: committed.quantity.into(),
        position: committed.position,
        late: committed.late,
        remaining: committed.remaining.map(Number::from),
    };
    let response = limits::degraded(&app, answer::view(&app, StatusCode::OK, &view)?);
    Ok(verdicts::replayed(response, committed.replayed))
}

/// What cannot name a reservation names none.
fn known(id: &str) -> Result<()> {
    if strange(&[(id, "")]).is_empty() { Ok(()) } else { Err(Error::NotFound) }
}

fn really(used: Used) -> Result<reservations::Commit> {
    let mut faults = Vec::new();
    for (name, pointer) in [(&used.user_id, "/user_id"), (&used.r#type, "/type")] {
        if let Some(name) = name {
            named(name, pointer, &mut faults);
        }
    }
    let at = used.timestamp.as_deref().map(exact::instant);
    if at == Some(None) {
        faults.push(exact::no_instant("/timestamp"));
    }
    let quantity = used.quantity.read("/quantity", &mut faults);
    let quantity = quantity.filter(|_| faults.is_empty()).ok_or(Error::Invalid(faults))?;
    Ok(reservations::Commit { quantity, at: at.flatten(), user: used.user_id, kind: used.r#type })
}

/// Release a reservation
///
/// Nothing is counted. Released twice is released; committed stays committed.
#[utoipa::path(delete, path = "/api/v1/usage/reservations/{id}", tag = "usage", operation_id = "release",
    params(("id" = String, Path, description = "The reservation")),
    responses(
        (status = 204, description = "Released"),
        (status = 404, description = "There is no such reservation"),
        (status = 409, description = "It was committed"),
    ),
    extensions(("x-role" = json!("service"))), security(("key" = [])))]
pub async fn release(State(app): State<App>, _: Writer, Path(id): Path<String>) -> Result<Response> {
    known(&id)?;
    reservations::release(&app, &id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl View {
    fn of(reservation: Reservation) -> Self {
        Self {
            id: reservation.id,
            status: match reservation.status {
                ReservationStatus::Held => "held",
                ReservationStatus::Committed => "committed",
                ReservationStatus::Released => "released",
            },
            quantity: reservation.quantity.into(),
            expires_at: Time(reservation.expires_at),
            remaining: reservation.remaining.map(Number::from),
            undecided: reservation.undecided,
        }
    }

    fn body(&self) -> Result<Vec<u8>> {
        let body =
            Members::begin().with("id", &self.id)?.with("status", &self.status)?.with("quantity", &self.quantity)?;
        let body = body.with("expires_at", &self.expires_at)?.with("remaining", &self.remaining)?;
        Ok(body.with("undecided", &self.undecided)?.end())
    }
}

/// A quantity in the text of a header or a query.
pub fn quantity(text: &str, pointer: &str) -> Result<Quantity> {
    let read = if text.starts_with('"') { None } else { exact::quantity(text) };
    read.ok_or_else(|| Error::Invalid(vec![exact::no_quantity(pointer)]))
}

/// Refuses texts that cannot name anything.
pub fn all_named(names: &[(&str, &str)]) -> Result<()> {
    let faults = strange(names);
    if faults.is_empty() { Ok(()) } else { Err(Error::Invalid(faults)) }
}

fn strange(names: &[(&str, &str)]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (text, pointer) in names {
        named(text, pointer, &mut faults);
    }
    faults
}
