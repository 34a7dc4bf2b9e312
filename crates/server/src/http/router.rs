//! The whole API on one screen.

use axum::Router;
use axum::response::Redirect;
use axum::routing::{delete, get, post};

use super::{
    admin, authorize, docs, error, events, health, invoices, openapi, payment_methods, reservations, subscription,
    usage,
};
use crate::app::App;
use crate::ops;

/// Where many things are sent at once; their bodies may be larger.
pub const BATCHES: [&str; 2] = ["/api/v1/usage/events", "/api/v1/events/batch"];
/// Where a client of Lago's sends one event.
pub const LAGO_EVENT: &str = "/api/v1/events";
/// Where LiteLLM sends what it has gathered.
pub const LITELLM: &str = "/api/v1/usage/litellm";

/// Every route with its handler. A route that is missing in the OpenAPI document fails a test.
pub fn routes(app: App) -> Router {
    let probe = {
        let app = app.clone();
        move || {
            let app = app.clone();
            async move { ops::readiness::look(&app).await.into() }
        }
    };
    Router::new()
        .route("/", get(async || Redirect::to("/docs")))
        .route("/api/v1/billing/subscription", get(subscription::show))
        .route("/api/v1/billing/invoices", get(invoices::list))
        .route("/api/v1/billing/payment-methods", get(payment_methods::list))
        .route("/api/v1/billing/usage", get(usage::show))
        .route("/api/v1/usage/events", post(events::create).get(events::list))
        .route("/api/v1/usage/litellm", post(events::create_litellm))
        .route("/api/v1/usage/check", post(reservations::check))
        .route("/api/v1/usage/reservations", post(reservations::create))
        .route("/api/v1/usage/reservations/{id}/commit", post(reservations::commit))
        .route("/api/v1/usage/reservations/{id}", delete(reservations::release))
        .route("/api/v1/usage/authorize", get(authorize::show))
        .route("/api/v1/events", post(events::lago::create))
        .route("/api/v1/events/batch", post(events::lago::create_batch))
        .route("/api/v1/events/{transaction_id}", get(events::lago::show))
        .route("/api/v1/admin/usage", get(admin::usage::list))
        .route("/api/v1/admin/billing/stats", get(admin::stats::show))
        .route("/api/v1/admin/billing/customers", get(admin::customers::list))
        .route("/api/v1/admin/billing/subscriptions", get(admin::subscriptions::list))
        .route("/api/v1/admin/billing/recent-charges", get(admin::charges::list))
        .route("/api/v1/webhooks/stripe", axum::routing::post(super::webhooks::stripe::receive))
        .route("/api/v1/webhooks/lago", axum::routing::post(super::webhooks::lago::receive))
        .merge(health::routes(probe))
        .merge(docs::routes(openapi::document()))
        .fallback(error::not_found)
        .with_state(app)
}

impl From<ops::readiness::Readiness> for health::Readiness {
    fn from(readiness: ops::readiness::Readiness) -> Self {
        let parts = |parts: Vec<ops::readiness::Missing>| -> Vec<health::Missing> {
            parts.into_iter().map(|one| health::Missing { part: one.part, detail: one.detail }).collect()
        };
        let (missing, degraded) = (parts(readiness.missing), parts(readiness.degraded));
        Self { ready: missing.is_empty(), missing, degraded, facts: readiness.facts }
    }
}
