//! The wire: reads requests, and plays the fault script on what goes back.

use crate::body::Flow;
use crate::control;
use crate::door::{self, End, Ends, Unreadable};
use crate::error::StripeError;
use crate::faults::{FaultKind, Faults};
use crate::http::{Arrived, Demand, Desk, Reaction};
use crate::log::{Log, Request};
use crate::pages;
use hyper::body::{Bytes, Incoming};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

const BODY_MAX: usize = 1024 * 1024;

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) desk: Desk,
    pub(crate) faults: Faults,
    pub(crate) log: Log,
}

/// Answers until told to stop.
pub(crate) async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: watch::Receiver<()>) {
    let answer = move |request, ends| {
        let shared = Arc::clone(&shared);
        async move { serve(&shared, &ends, request).await }
    };
    door::keep(listener, stop, answer).await;
}

async fn serve(shared: &Shared, ends: &Ends, request: hyper::Request<Incoming>) -> hyper::Response<Flow> {
    let arrived = match arrived(request).await {
        Ok(arrived) => arrived,
        Err(error) => return response(shared.desk.refuse(&error)),
    };
    if arrived.path.starts_with(pages::ROOT) {
        return response(pages::answer(&shared.desk, &arrived));
    }
    if arrived.path.starts_with("/_sandbox/") {
        return response(control::answer(shared, &arrived).await);
    }
    shared.log.push(Request::of(&arrived));
    match shared.faults.take(&arrived.method, &arrived.path) {
        Some(fault) => troubled(shared, ends, &arrived, fault).await,
        None => response(shared.desk.answer(&arrived, Demand::default()).await),
    }
}

async fn arrived(request: hyper::Request<Incoming>) -> Result<Arrived, StripeError> {
    let (head, body) = request.into_parts();
    let body = door::text(body, BODY_MAX).await.map_err(|why| match why {
        Unreadable::TooLarge => StripeError { status: 413, ..StripeError::invalid("The request body is too large.") },
        Unreadable::NotText => StripeError::invalid("The request body is not UTF-8."),
    })?;
    Ok(Arrived {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body,
    })
}

async fn troubled(shared: &Shared, ends: &Ends, arrived: &Arrived, fault: FaultKind) -> hyper::Response<Flow> {
    let usual = || shared.desk.answer(arrived, Demand::default());
    match fault {
        FaultKind::Status { status, retry_after, should_retry } => {
            let mut reaction = failed(shared, arrived, status).await;
            reaction.headers.extend(retry_after.map(|after| ("retry-after", after)));
            reaction.headers.retain(|(name, _)| *name != "stripe-should-retry" || should_retry.is_none());
            reaction.headers.extend(should_retry.map(|retry| ("stripe-should-retry", retry.to_string())));
            response(reaction)
        }
        FaultKind::Reset => ends.end(End::Reset).await,
        FaultKind::Hang => std::future::pending().await,
        FaultKind::EndlessHeaders => ends.end(End::EndlessHeaders).await,
        FaultKind::TimeoutAfterCommit => {
            usual().await;
            std::future::pending().await
        }
        FaultKind::DropAfterCommit => {
            usual().await;
            ends.end(End::Close).await
        }
        FaultKind::Delay { milliseconds } => {
            let wait = Some(Duration::from_millis(milliseconds));
            response(shared.desk.answer(arrived, Demand { wait, ..Demand::default() }).await)
        }
        FaultKind::Html => response(html()),
        FaultKind::HugeBody { bytes } => huge(bytes),
        FaultKind::SlowBody { bytes_per_second } => slow(usual().await, bytes_per_second),
        FaultKind::TruncatedBody => truncated(usual().await),
        FaultKind::CutJson => {
            let mut reaction = usual().await;
            reaction.body.truncate(reaction.body.floor_char_boundary(reaction.body.len() / 2));
            response(reaction)
        }
        FaultKind::HasMoreLie => response(lied(usual().await, |list| {
            list["has_more"] = json!(list["has_more"] != true);
        })),
        FaultKind::DuplicateRows => response(lied(usual().await, |list| {
            if let Some(rows) = list["data"].as_array_mut()
                && let Some(first) = rows.first().cloned()
            {
                rows.insert(0, first);
            }
        })),
    }
}

/// The error of a status; a 500 is an answer that stays with its idempotency key, the others are never begun.
async fn failed(shared: &Shared, arrived: &Arrived, status: u16) -> Reaction {
    let invalid = |message: &str| StripeError { status, ..StripeError::invalid(message) };
    let error = match status {
        401 => invalid("Invalid API Key provided: sk_test_****"),
        403 => invalid("The provided key does not have the required permissions for this endpoint."),
        409 => StripeError::new(
            409,
            "idempotency_error",
            "There is currently another in-progress request using this Idempotent Key.",
        )
        .code("idempotency_key_in_use"),
        429 => invalid(
            "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits.",
        )
        .code("rate_limit"),
        400..=499 => invalid("The fault script says no."),
        _ => StripeError::new(status, "api_error", "An unknown error occurred"),
    };
    if status == 500 {
        return shared.desk.answer(arrived, Demand { fail: Some(error), ..Demand::default() }).await;
    }
    shared.desk.refuse(&error)
}

fn html() -> Reaction {
    let body = "<!doctype html>\n<html><head><title>Be right back</title></head><body><h1>We'll be right back.</h1></body></html>\n";
    Reaction {
        status: 200,
        headers: vec![("content-type", "text/html; charset=utf-8".to_owned())],
        body: body.to_owned(),
    }
}

fn lied(mut reaction: Reaction, lie: impl FnOnce(&mut Value)) -> Reaction {
    if let Ok(mut list) = serde_json::from_str::<Value>(&reaction.body)
        && list["object"] == "list"
    {
        lie(&mut list);
        reaction.body = list.to_string();
    }
    reaction
}

fn slow(reaction: Reaction, bytes_per_second: u32) -> hyper::Response<Flow> {
    let body = Bytes::from(reaction.body.clone());
    door::response(reaction.status, &reaction.headers, Flow::slow(body, bytes_per_second))
}

fn truncated(mut reaction: Reaction) -> hyper::Response<Flow> {
    let length = reaction.body.len();
    reaction.headers.push(("content-length", length.to_string()));
    let mut body = Bytes::from(reaction.body.clone());
    body.truncate(length / 2);
    door::response(reaction.status, &reaction.headers, Flow::Cut(Some(body)))
}

fn huge(bytes: u64) -> hyper::Response<Flow> {
    let headers = vec![("content-type", "application/json".to_owned())];
    door::response(200, &headers, Flow::Huge { left: bytes, fresh: true })
}

fn response(mut reaction: Reaction) -> hyper::Response<Flow> {
    let body = Bytes::from(std::mem::take(&mut reaction.body));
    door::response(reaction.status, &reaction.headers, Flow::whole(body))
}
