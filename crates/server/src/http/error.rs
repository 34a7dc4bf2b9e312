//! Errors become answers here, and only here: the one file that knows which kind of error has which status.
//!
//! A handler's error travels to the edge inside the response, because only the edge knows the request's id. There it is
//! written as `application/problem+json` (RFC 9457) and, when it is ours or a neighbour's fault, logged once.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;

use super::codes::{self, CodeDoc};
use super::limits;
use crate::error::{Error, Fault, LimitState, Upstream};

/// Where the documentation of a code lives, relative to the public address.
pub const TYPE_BASE: &str = "/docs/errors/";

const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const CHALLENGE: HeaderValue = HeaderValue::from_static("Cookie realm=\"billhook\", cookie-name=\"session_token\"");
/// What a service is asked for, where a session would not do.
pub(super) const KEY_CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"billhook\"");

/// An error on its way from a handler to the edge.
#[derive(Debug, Clone)]
pub(super) struct Raised(pub(super) Arc<Error>);

/// Marks a response with an error status whose body is meant as it is: the edge adds headers and leaves the rest alone.
/// For answers in somebody else's shape, and for `/readyz`. An error that comes with it is logged.
#[derive(Debug, Clone, Copy)]
pub struct AsIs;

/// Where a user who is refused can get more. Beside the error, because only the handler knows the configuration.
#[derive(Debug, Clone)]
pub(super) struct UpgradeUrl(pub(super) String);

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = Problem::of(&self).status;
        response.extensions_mut().insert(Raised(Arc::new(self)));
        response
    }
}

/// What the router answers where it knows no path.
pub async fn not_found() -> Error {
    Error::NotFound
}

/// What is told to the caller about an error.
#[derive(Debug)]
pub(super) struct Problem<'a> {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    title: &'static str,
    detail: Cow<'a, str>,
    faults: &'a [Fault],
    retry_after: Option<Duration>,
    limits: &'a [LimitState],
    upgrade_url: Option<&'a str>,
}

impl<'a> Problem<'a> {
    /// The problem that an error is. The code decides, by the table; the kind decides for a code that the table misses.
    pub(super) fn of(error: &'a Error) -> Self {
        match error {
            Error::NotFound => Self::coded("not_found", 404),
            Error::Invalid(faults) => Self { faults, ..Self::coded("invalid", 422) },
            Error::Malformed { code, detail } => Self { detail: Cow::Borrowed(detail), ..Self::coded(code, 400) },
            Error::Rule { code, fault } => Self { faults: std::slice::from_ref(fault), ..Self::coded(code, 422) },
            Error::Conflict { code, detail } => Self { detail: Cow::Borrowed(detail), ..Self::coded(code, 409) },
            Error::Unauthenticated { code } => Self::coded(code, 401),
            Error::Forbidden { code } => Self::coded(code, 403),
            Error::LimitReached { code, retry_after } => {
                Self { retry_after: Some(*retry_after), ..Self::coded(code, 429) }
            }
            Error::Refused(refused) => {
                Self { retry_after: refused.retry_after, limits: &refused.limits, ..Self::coded(refused.code, 429) }
            }
            Error::Upstream { who, code, retry_after, .. } => {
                // The seed's own words: a Stripe failure is a 500. Our own stores being away is a 503.
                let status = if *who == Upstream::Stripe { 500 } else { 503 };
                Self { retry_after: Some(*retry_after), ..Self::coded(code, status) }
            }
            Error::Internal(_) => Self::coded("internal", 500),
        }
    }

    /// A problem told by its code alone.
    pub(super) fn coded(code: &'static str, otherwise: u16) -> Self {
        let (status, title, cause) = match codes::find(code) {
            Some(CodeDoc { status, title, cause, .. }) => (*status, *title, *cause),
            None => (otherwise, "The request was not carried out", "The request was not carried out."),
        };
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            code,
            title,
            detail: Cow::Borrowed(cause),
            faults: &[],
            retry_after: None,
            limits: &[],
            upgrade_url: None,
        }
    }

    /// The problem for a bare error answer of the framework's: its text is dropped, its status stays.
    pub(super) fn bare(status: StatusCode) -> Self {
        let code = match status.as_u16() {
            404 => "not_found",
            405 => "method_not_allowed",
            413 => "body.too_large",
            414 => "uri.too_long",
            415 => "body.media_type",
            421 => "host.unknown",
            422 => "invalid",
            431 => "headers.too_large",
            503 => "overloaded",
            400..500 => "request.malformed",
            _ => "internal",
        };
        Self { status, ..Self::coded(code, 500) }
    }

    pub(super) fn after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    pub(super) fn with_upgrade(self, url: Option<&'a UpgradeUrl>) -> Self {
        Self { upgrade_url: url.map(|url| url.0.as_str()), ..self }
    }

    /// The body, with the id under which the log knows this request.
    pub(super) fn body(&self, request_id: &str) -> Bytes {
        // Strings and numbers always serialise; an empty body would still carry the status.
        Bytes::from(serde_json::to_vec(&self.wire(request_id)).unwrap_or_default())
    }

    /// The same for the documentation: for people to read.
    pub(super) fn shown(&self, request_id: &str) -> String {
        serde_json::to_string_pretty(&self.wire(request_id)).unwrap_or_default()
    }

    fn wire<'w>(&'w self, request_id: &'w str) -> Wire<'w> {
        Wire {
            kind: format!("{TYPE_BASE}{}", self.code),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            request_id,
            errors: self
                .faults
                .iter()
                .map(|fault| WireFault { pointer: &fault.pointer, detail: &fault.detail })
                .collect(),
            upgrade_url: self.upgrade_url,
        }
    }

    /// Writes the problem over `response`: status, body and the headers that belong to it. Others (`Allow`) stay.
    pub(super) fn write(&self, response: &mut Response, request_id: &str) {
        *response.status_mut() = self.status;
        *response.body_mut() = Body::from(self.body(request_id));
        let headers = response.headers_mut();
        headers.remove(CONTENT_LENGTH);
        headers.insert(CONTENT_TYPE, PROBLEM);
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, if self.code == "auth.key" { KEY_CHALLENGE } else { CHALLENGE });
        }
        limits::tell(headers, self.limits);
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
    }
}

/// Rounded up, at least one: a caller told 0 would come back at once.
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[derive(Serialize)]
struct Wire<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<WireFault<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upgrade_url: Option<&'a str>,
}

#[derive(Serialize)]
struct WireFault<'a> {
    pointer: &'a str,
    detail: &'a str,
}

/// Logs what somebody has to look at, once: never the caller's input, only ids, the route's template and the causes.
pub(super) fn log(error: &Error, request_id: &str, route: &str) {
    let cause = causes(error);
    match error {
        Error::Internal(_) => {
            tracing::error!(request.id = request_id, http.route = route, code = "internal", cause, "request failed");
        }
        Error::Upstream { who, code, .. } => {
            tracing::warn!(request.id = request_id, http.route = route, code, upstream = ?who, cause, "upstream failed");
        }
        Error::LimitReached { code, .. } => {
            tracing::debug!(request.id = request_id, http.route = route, code, "limit reached");
        }
        Error::Refused(refused) => {
            tracing::debug!(request.id = request_id, http.route = route, code = refused.code, "refused by a limit");
        }
        Error::NotFound
        | Error::Invalid(_)
        | Error::Rule { .. }
        | Error::Malformed { .. }
        | Error::Conflict { .. }
        | Error::Unauthenticated { .. }
        | Error::Forbidden { .. } => {}
    }
}

fn causes(error: &Error) -> String {
    let chain = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Refused;

    #[test]
    fn kinds_and_codes_become_statuses() {
        let wait = Duration::from_millis(1500);
        let limit = |code| Error::LimitReached { code, retry_after: wait };
        let upstream = |who, code| Error::Upstream { who, code, retry_after: wait, cause: None };
        let malformed = |code| Error::Malformed { code, detail: "why".to_owned() };
        let refused = |code| Error::Refused(Box::new(Refused { code, retry_after: None, limits: Vec::new() }));
        let fault = Fault { pointer: "/x".to_owned(), detail: "why".to_owned() };
        let rule = |code| Error::Rule { code, fault: fault.clone() };
        for (error, status, code) in [
            (Error::NotFound, 404, "not_found"),
            (Error::invalid("?limit", "a number from 1 to 100"), 422, "invalid"),
            (malformed("body.malformed"), 400, "body.malformed"),
            (malformed("body.too_large"), 413, "body.too_large"),
            (malformed("body.media_type"), 415, "body.media_type"),
            (Error::Conflict { code: "some.conflict", detail: "x".to_owned() }, 409, "some.conflict"),
            (Error::Unauthenticated { code: "auth.required" }, 401, "auth.required"),
            (Error::Forbidden { code: "auth.forbidden" }, 403, "auth.forbidden"),
            (limit("some.rate"), 429, "some.rate"),
            (refused("credits.exhausted"), 402, "credits.exhausted"),
            (refused("trial.over"), 402, "trial.over"),
            (refused("limit.day"), 429, "limit.day"),
            (refused("limit.unknown"), 503, "limit.unknown"),
            (rule("too_old"), 422, "too_old"),
            (rule("usage.conflict"), 409, "usage.conflict"),
            (limit("overloaded"), 503, "overloaded"),
            (limit("storage.busy"), 503, "storage.busy"),
            (upstream(Upstream::Stripe, "stripe.unavailable"), 500, "stripe.unavailable"),
            (upstream(Upstream::Redis, "redis.unavailable"), 503, "redis.unavailable"),
            (upstream(Upstream::Database, "storage.unavailable"), 503, "storage.unavailable"),
            (Error::internal("sk_live_canary"), 500, "internal"),
        ] {
            let problem = Problem::of(&error);
            assert_eq!((problem.status.as_u16(), problem.code), (status, code));
            let text = String::from_utf8(problem.body("req_1").to_vec()).unwrap();
            assert!(!text.contains("sk_live"), "S-56: a cause leaked: {text}");
        }
    }

    #[test]
    fn a_problem_has_the_members_of_the_contract_in_order() {
        let error = Error::invalid("?limit", "a number from 1 to 100");
        let body = String::from_utf8(Problem::of(&error).body("req_1").to_vec()).unwrap();
        assert_eq!(
            body,
            concat!(
                r#"{"type":"/docs/errors/invalid","title":"The input breaks a rule","status":422,"#,
                r#""detail":"The request can be read, but a value in it is not allowed. errors[] names each one with a pointer.","#,
                r#""code":"invalid","request_id":"req_1","errors":[{"pointer":"?limit","detail":"a number from 1 to 100"}]}"#
            )
        );
    }

    #[test]
    fn waiting_is_told_in_whole_seconds_and_never_zero() {
        for (millis, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (5000, 5)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds);
        }
    }
}
