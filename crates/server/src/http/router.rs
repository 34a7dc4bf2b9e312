//! The whole API on one screen.

use axum::Router;
use axum::response::Redirect;
use axum::routing::get;

use super::{admin, docs, error, health, invoices, openapi, payment_methods, subscription, usage};
use crate::app::App;
use crate::ops;

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
        .route("/api/v1/admin/billing/stats", get(admin::stats::show))
        .route("/api/v1/admin/billing/customers", get(admin::customers::list))
        .route("/api/v1/admin/billing/subscriptions", get(admin::subscriptions::list))
        .route("/api/v1/admin/billing/recent-charges", get(admin::charges::list))
        .merge(health::routes(probe))
        .merge(docs::routes(openapi::document()))
        .fallback(error::not_found)
        .with_state(app)
}

impl From<ops::readiness::Readiness> for health::Readiness {
    fn from(readiness: ops::readiness::Readiness) -> Self {
        let missing: Vec<_> = readiness
            .missing
            .into_iter()
            .map(|missing| health::Missing { part: missing.part, detail: missing.detail })
            .collect();
        Self { ready: missing.is_empty(), missing, facts: readiness.facts }
    }
}
