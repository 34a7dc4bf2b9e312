//! `/healthz`: the process lives. `/readyz`: it can do its work, or what it is missing.

use std::future::Future;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use serde_json::Value;

use super::error::AsIs;

/// Whether the program can do its work now.
#[derive(Debug, Clone, Serialize)]
pub struct Readiness {
    /// True when nothing is missing that requests need.
    pub ready: bool,
    /// What is missing, each with what to do about it.
    pub missing: Vec<Missing>,
    /// What works and not as it should; answers are still right.
    pub degraded: Vec<Missing>,
    /// What an operator wants to see beside it: ages, counts, versions. No secrets, no names of people.
    pub facts: Value,
}

/// One part that is missing.
#[derive(Debug, Clone, Serialize)]
pub struct Missing {
    /// The part: `database`, `write`, `mirror`, `redis`.
    pub part: &'static str,
    /// What is wrong and what to do.
    pub detail: String,
}

/// The two paths. Both are public and tell nothing about customers. `probe` looks at the parts at each `/readyz`, so it
/// must be quick.
pub fn routes<S, F, Looking>(probe: F) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    F: Fn() -> Looking + Clone + Send + Sync + 'static,
    Looking: Future<Output = Readiness> + Send,
{
    let ready = move || {
        let looking = probe();
        async move { answer(&looking.await) }
    };
    Router::new().route("/healthz", get(alive)).route("/readyz", get(ready))
}

async fn alive() -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], r#"{"status":"ok"}"#).into_response()
}

fn answer(readiness: &Readiness) -> Response {
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = (status, axum::Json(readiness)).into_response();
    // The list of missing parts is the answer here; a problem document would hide it.
    response.extensions_mut().insert(AsIs);
    response
}
