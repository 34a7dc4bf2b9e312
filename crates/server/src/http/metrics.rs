//! `/metrics`, on a listener of its own: the public one answers 404 there (S-62).

use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use super::door::{self, Limits};
use super::edge::{Edge, Hosts, Settings};
use super::error::not_found;
use crate::error::Error;
use crate::telemetry::{HttpMetrics, Metrics};

const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Answers `GET /metrics` on `listener`, and nothing else, until `shutdown`. A scraper may use any name for us here, and
/// its visits are not counted among the API's.
pub async fn serve_metrics(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let router = Router::new().route("/metrics", get(move || async move { scrape(&metrics) })).fallback(not_found);
    let settings = Settings { hosts: Hosts::Any, ..Settings::default() };
    let edge = Edge::new(router, settings, Arc::new(HttpMetrics::default()));
    let limits = Limits { connections_max: 64, in_flight_max: 16, ..Limits::default() };
    door::serve(listener, edge, limits, shutdown).await
}

fn scrape(metrics: &Metrics) -> Response {
    match metrics.render() {
        Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(cause) => Error::internal(cause).into_response(),
    }
}
