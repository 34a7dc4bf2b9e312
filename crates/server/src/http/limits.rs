//! How a user's limits stand, told in the headers `RateLimit-Policy` and `RateLimit` (RFC 9651 structured fields), and what
//! is told to a user who is refused (S-37).

use std::fmt::Write as _;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use billing::usage::{Credits, MICRO};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::UpgradeUrl;
use super::wire::Number;
use crate::app::App;
use crate::error::{Error, LimitState, Result};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");
const DEGRADED: HeaderName = HeaderName::from_static("billing-degraded");
/// The largest integer of a structured field.
const INTEGER_MAX: i64 = 999_999_999_999_999;

/// A limit that applies to what was asked for.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Limit)]
pub struct View {
    /// `credits`, or a limit of the event type: `day`, `month`, `minute`.
    #[schema(example = "credits")]
    name: &'static str,
    /// Of `minute`: so much a minute, refilled evenly, and at most so much at once.
    quota: Number,
    /// What is reserved is taken off.
    remaining: Number,
    /// Until it is whole again.
    reset_seconds: u64,
    window_seconds: u64,
}

impl View {
    pub fn of(limit: &LimitState) -> Self {
        Self {
            name: limit.name,
            quota: Credits::from_micro(limit.quota).into(),
            remaining: Credits::from_micro(limit.remaining.max(0)).into(),
            reset_seconds: limit.reset_seconds,
            window_seconds: limit.window_seconds,
        }
    }
}

/// Writes the headers; none where no limit applies.
pub fn tell(headers: &mut HeaderMap, limits: &[LimitState]) {
    if limits.is_empty() {
        return;
    }
    let (mut policy, mut state) = (String::new(), String::new());
    for limit in limits {
        let comma = if policy.is_empty() { "" } else { ", " };
        let LimitState { name, reset_seconds, window_seconds, .. } = limit;
        let _infallible = write!(policy, "{comma}\"{name}\";q={};w={window_seconds}", whole(limit.quota));
        let _infallible = write!(state, "{comma}\"{name}\";r={};t={reset_seconds}", whole(limit.remaining));
    }
    for (name, text) in [(POLICY, policy), (STATE, state)] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    }
}

/// Whole units of a number of millionths. Rounded down: a caller is never promised more than there is.
fn whole(micro: i64) -> i64 {
    (micro.max(0) / MICRO).min(INTEGER_MAX)
}

/// Says that the answer was given without the counters that usually decide.
pub fn degraded(app: &App, mut response: Response) -> Response {
    let elsewhere = || (!app.book.decides()).then_some("counters");
    if let Some(missing) = app.counters.degraded().or_else(elsewhere) {
        response.headers_mut().insert(DEGRADED, HeaderValue::from_static(missing));
    }
    response
}

/// The answer of a use case that limits can refuse: a refusal also says where there is more.
pub fn answered(app: &App, outcome: Result<Response>) -> Response {
    match outcome {
        Ok(response) => response,
        Err(error) => {
            if !matches!(error, Error::Refused(_)) {
                return error.into_response();
            }
            let mut response = degraded(app, error.into_response());
            response.extensions_mut().insert(UpgradeUrl(app.config.upgrade_url.clone()));
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(limits: &[LimitState]) -> [Option<String>; 2] {
        let mut headers = HeaderMap::new();
        tell(&mut headers, limits);
        [POLICY, STATE].map(|name| headers.get(name).map(|value| value.to_str().expect("ascii").to_owned()))
    }

    #[test]
    fn s37_limits_are_structured_fields_and_never_promise_a_fraction() {
        let limit =
            |name, quota, remaining| LimitState { name, quota, remaining, reset_seconds: 60, window_seconds: 86_400 };
        assert_eq!(told(&[]), [None, None]);
        let text = |text: &str| Some(text.to_owned());
        for (limits, policy, state) in [
            (vec![limit("credits", 500 * MICRO, 415 * MICRO)], r#""credits";q=500;w=86400"#, r#""credits";r=415;t=60"#),
            (vec![limit("day", 10 * MICRO, 999_999)], r#""day";q=10;w=86400"#, r#""day";r=0;t=60"#),
            (vec![limit("day", i64::MAX, -5)], r#""day";q=9223372036854;w=86400"#, r#""day";r=0;t=60"#),
            (
                vec![limit("credits", MICRO, MICRO), limit("minute", 600 * MICRO, 0)],
                r#""credits";q=1;w=86400, "minute";q=600;w=86400"#,
                r#""credits";r=1;t=60, "minute";r=0;t=60"#,
            ),
        ] {
            assert_eq!(told(&limits), [text(policy), text(state)]);
        }
    }
}
