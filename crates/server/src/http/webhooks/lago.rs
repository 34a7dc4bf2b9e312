//! `POST /api/v1/webhooks/lago`: verified by its raw bytes, kept, answered. A job applies it.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};

use crate::app::App;
use crate::error::Result;
use crate::http::body;
use crate::ops::lago::notices::{self, Delivery};

/// Takes one webhook of Lago's; the same one again is answered the same.
#[utoipa::path(
    post,
    path = "/api/v1/webhooks/lago",
    tag = "webhooks",
    request_body(content = String, content_type = "application/json", description = "As Lago sends it; signed over its raw bytes."),
    params(
        ("X-Lago-Signature" = String, Header, description = "HMAC-SHA256 in base64, or a JSON web token"),
        ("X-Lago-Signature-Algorithm" = Option<String>, Header, description = "`hmac` or `jwt`, as the operator has configured it"),
        ("X-Lago-Unique-Key" = String, Header, description = "The same on every delivery of one webhook"),
    ),
    responses((status = 200, description = "Kept; it is applied soon"), (status = 404, description = "No webhook can be verified here")),
    extensions(("x-role" = json!("webhook")))
)]
pub async fn receive(State(app): State<App>, headers: HeaderMap, body: Body) -> Result<StatusCode> {
    let body = body::whole(body).await?;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let delivery = Delivery {
        signature: text("x-lago-signature"),
        algorithm: text("x-lago-signature-algorithm"),
        unique_key: text("x-lago-unique-key"),
        body: &body,
    };
    notices::receive(&app, delivery).await?;
    Ok(StatusCode::OK)
}
