//! The wire: reads requests, and plays the fault script on what goes back.

use super::asked::Arrived;
use super::desk::{Desk, Reaction};
use super::faults::{Fault, FaultKind, Faults};
use super::log::{Log, Request};
use super::post_validation;
use super::refusal::Refusal;
use super::sender::Sender;
use crate::body::Flow;
use crate::door::{self, End, Ends, Unreadable};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

const BODY_MAX: usize = 10 * 1024 * 1024;

/// What all connections share.
pub(super) struct Shared {
    pub(super) desk: Arc<Desk>,
    pub(super) faults: Faults,
    pub(super) log: Log,
    pub(super) sender: Sender,
}

/// Answers until told to stop. Webhooks go out meanwhile.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: watch::Receiver<()>) {
    let answering = Arc::clone(&shared);
    let answer = move |request, ends| {
        let shared = Arc::clone(&answering);
        async move { serve(&shared, &ends, request).await }
    };
    tokio::join!(door::keep(listener, stop.clone(), answer), shared.sender.run(stop));
}

async fn serve(shared: &Shared, ends: &Ends, request: hyper::Request<Incoming>) -> hyper::Response<Flow> {
    let arrived = match arrived(request).await {
        Ok(arrived) => arrived,
        Err(refusal) => return response(refusal.into()),
    };
    if arrived.path.starts_with("/_sandbox/") {
        return response(control(shared, &arrived).await);
    }
    shared.log.push(Request {
        at: Timestamp::from_microsecond(shared.desk.now()).unwrap_or_default(),
        method: arrived.method.clone(),
        path: arrived.path.clone(),
        query: arrived.query.clone(),
        body: arrived.body.clone(),
    });
    match shared.faults.take(&arrived.method, &arrived.path) {
        Some(fault) => troubled(shared, ends, &arrived, fault).await,
        None => response(shared.desk.answer(&arrived)),
    }
}

async fn arrived(request: hyper::Request<Incoming>) -> Result<Arrived, Refusal> {
    let (head, body) = request.into_parts();
    let body = door::text(body, BODY_MAX).await.map_err(|why| match why {
        Unreadable::TooLarge => Refusal { status: 413, ..Refusal::bad_request("the body is too large") },
        Unreadable::NotText => Refusal::bad_request("Invalid encoding for parameter"),
    })?;
    Ok(Arrived {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        authorization: text(&head.headers, AUTHORIZATION).map(str::to_owned),
        is_json: text(&head.headers, CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json")),
        body,
    })
}

fn text(headers: &HeaderMap, name: hyper::header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

async fn troubled(shared: &Shared, ends: &Ends, arrived: &Arrived, fault: FaultKind) -> hyper::Response<Flow> {
    match fault {
        FaultKind::Status { status, code, headers } => {
            let mut reaction = failed(status, code.as_deref());
            reaction.headers.extend(headers);
            response(reaction)
        }
        FaultKind::Answered { status, body } => response(Reaction { status, headers: Vec::new(), body }),
        FaultKind::Hang => std::future::pending().await,
        FaultKind::Close => ends.end(End::Close).await,
        FaultKind::CommitThenClose => {
            shared.desk.answer(arrived);
            ends.end(End::Close).await
        }
        FaultKind::CommitThenHang => {
            shared.desk.answer(arrived);
            std::future::pending().await
        }
        FaultKind::CommitThenStatus { status } => {
            shared.desk.answer(arrived);
            response(failed(status, None))
        }
        FaultKind::CommitThenCut => cut(shared.desk.answer(arrived)),
        FaultKind::Slow { milliseconds } => {
            let reaction = shared.desk.answer(arrived);
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            response(reaction)
        }
        // Ways to be are never taken out of the script; see `Faults::take`.
        FaultKind::LegacyPartialStore | FaultKind::BatchMax { .. } | FaultKind::StaleUsage => {
            response(shared.desk.answer(arrived))
        }
    }
}

/// The answer of a status. What stands before Lago answers its own 502 and 503, in HTML.
fn failed(status: u16, code: Option<&str>) -> Reaction {
    let error = match status {
        401 => return Refusal::unauthorized().into(),
        403 => return Refusal::forbidden(code.unwrap_or("feature_unavailable")).into(),
        502..=504 => {
            let kind = ("content-type".to_owned(), "text/html".to_owned());
            let body = format!("<html><head><title>{status}</title></head><body>nginx</body></html>\n");
            return Reaction { status, headers: vec![kind], body };
        }
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        _ => "The fault script says no",
    };
    let mut body = json!({"status": status, "error": error});
    if let Some(code) = code {
        body["code"] = code.into();
    }
    Reaction::json(status, body.to_string())
}

/// The whole length is promised, and half of it comes.
fn cut(mut reaction: Reaction) -> hyper::Response<Flow> {
    reaction.headers.push(("content-length".to_owned(), reaction.body.len().to_string()));
    let mut half = Bytes::from(reaction.body);
    half.truncate(half.len() / 2);
    door::response(reaction.status, &reaction.headers, Flow::Cut(Some(half)))
}

fn response(reaction: Reaction) -> hyper::Response<Flow> {
    door::response(reaction.status, &reaction.headers, Flow::whole(reaction.body))
}

/// The sandbox's own paths, for tests that are not in this process. JSON only, which no foreign web page can send.
async fn control(shared: &Shared, arrived: &Arrived) -> Reaction {
    let answer = |status: u16, body: Value| Reaction::json(status, body.to_string());
    match (arrived.method.as_str(), arrived.path.as_str()) {
        ("GET", "/_sandbox/faults") => answer(200, json!({"faults": shared.faults.pending()})),
        ("POST", _) if !arrived.is_json => answer(415, json!({"error": "send application/json"})),
        ("POST", "/_sandbox/faults") => {
            let one = || serde_json::from_str::<Fault>(&arrived.body).map(|fault| vec![fault]);
            match serde_json::from_str::<Vec<Fault>>(&arrived.body).or_else(|_| one()) {
                Ok(script) => {
                    for fault in script {
                        shared.faults.push(fault);
                    }
                    answer(201, json!({"faults": shared.faults.pending()}))
                }
                Err(error) => answer(422, json!({"error": error.to_string()})),
            }
        }
        ("DELETE", "/_sandbox/faults") => {
            shared.faults.clear();
            answer(200, json!({"faults": []}))
        }
        ("POST", "/_sandbox/hourly") => {
            post_validation::run(&mut shared.desk.world());
            answer(200, json!({}))
        }
        ("POST", "/_sandbox/webhooks") => {
            shared.sender.deliver().await;
            answer(200, json!({}))
        }
        ("GET", "/_sandbox/requests") => answer(200, json!({"requests": shared.log.all()})),
        _ => answer(404, json!({"error": "no such path"})),
    }
}
