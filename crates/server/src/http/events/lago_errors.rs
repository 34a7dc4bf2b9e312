//! Errors as Lago tells them, for clients that were written for Lago.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::error::Error;
use crate::http::error::{AsIs, KEY_CHALLENGE};

/// What is wrong with the fields of an event: their names with the codes of what is wrong.
pub type Fields = BTreeMap<&'static str, [&'static str; 1]>;

#[derive(Debug, Default, Serialize)]
struct Shape<'a, D> {
    status: u16,
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_details: Option<D>,
}

/// One field with one thing wrong.
pub fn field(name: &'static str, code: &'static str) -> Fields {
    Fields::from([(name, [code])])
}

/// The answer to input that breaks a rule. `details` are fields, or fields by index of the item.
pub fn invalid(details: &impl Serialize) -> Response {
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    let shape = Shape {
        status: status.as_u16(),
        error: "Unprocessable Entity",
        code: Some("validation_errors"),
        error_details: Some(details),
    };
    answer(status, &shape)
}

/// The answer to a body without its root member.
pub fn missing(root: &str) -> Response {
    let error = format!("BadRequest: param is missing or the value is empty or invalid: {root}");
    let shape = Shape::<()> { status: 400, error: &error, ..Shape::default() };
    answer(StatusCode::BAD_REQUEST, &shape)
}

/// The answer where there is no such event.
pub fn not_found() -> Response {
    let shape = Shape::<()> { status: 404, error: "Not Found", code: Some("event_not_found"), ..Shape::default() };
    answer(StatusCode::NOT_FOUND, &shape)
}

/// The answer to everything else. The error travels along to be logged.
pub fn failed(error: Error, action: &'static str) -> Response {
    let code = matches!(error, Error::Forbidden { .. }).then_some(action);
    let raised = error.into_response();
    let status = raised.status();
    let reason = status.canonical_reason().unwrap_or("Error");
    let mut response =
        answer(status, &Shape::<()> { status: status.as_u16(), error: reason, code, error_details: None });
    *response.extensions_mut() = raised.extensions().clone();
    response.extensions_mut().insert(AsIs);
    match status {
        StatusCode::UNAUTHORIZED => drop(response.headers_mut().insert(WWW_AUTHENTICATE, KEY_CHALLENGE)),
        StatusCode::SERVICE_UNAVAILABLE => {
            drop(response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1")));
        }
        _ => {}
    }
    response
}

fn answer<D: Serialize>(status: StatusCode, shape: &Shape<'_, D>) -> Response {
    // Texts and numbers always serialise; an empty body would still carry the status.
    let mut response = Response::new(Body::from(serde_json::to_vec(shape).unwrap_or_default()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.extensions_mut().insert(AsIs);
    response
}
