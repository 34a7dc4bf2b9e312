//! `POST /api/v1/webhooks/stripe`: proven by its raw bytes, kept, answered. A job applies it.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};

use crate::app::App;
use crate::error::Result;
use crate::http::body;
use crate::ops::webhooks::intake;

/// Takes one event of Stripe's; the same one again is answered the same.
#[utoipa::path(
    post,
    path = "/api/v1/webhooks/stripe",
    tag = "webhooks",
    request_body(content = String, content_type = "application/json", description = "An event as Stripe sends it; signed over its raw bytes."),
    params(("Stripe-Signature" = String, Header, description = "`t=…,v1=…`, at most five minutes old")),
    responses(
        (status = 200, description = "Kept; it is applied soon"),
        (status = 400, description = "Not signed with a secret that is known here (`webhook.signature`), a thin event (`webhook.thin`), or no event; nothing is kept"),
        (status = 404, description = "No secret is known here")
    ),
    extensions(("x-role" = json!("webhook")))
)]
pub async fn receive(State(app): State<App>, headers: HeaderMap, body: Body) -> Result<StatusCode> {
    let body = body::whole(body).await?;
    let mut given = headers.get_all("stripe-signature").iter();
    // Two headers are two opinions: none of them counts.
    let header = match (given.next(), given.next()) {
        (Some(one), None) => one.to_str().ok(),
        _ => None,
    };
    intake::receive(&app, header, &body).await?;
    Ok(StatusCode::OK)
}
