//! The wire: accepts connections, reads requests, and plays the fault script on what goes back.

use super::asked::Arrived;
use super::desk::{Desk, Reaction};
use super::faults::{Fault, FaultKind, Faults};
use super::log::{Log, Request};
use super::post_validation;
use super::refusal::Refusal;
use super::sender::Sender;
use crate::body::Flow;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

const BODY_MAX: usize = 10 * 1024 * 1024;

/// How long open requests may take when the sandbox stops.
const GRACE: Duration = Duration::from_millis(500);

/// What all connections share.
pub(super) struct Shared {
    pub(super) desk: Arc<Desk>,
    pub(super) faults: Faults,
    pub(super) log: Log,
    pub(super) sender: Sender,
}

/// Accepts until told to stop, then lets open requests finish for a moment. Webhooks go out meanwhile.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stop: watch::Receiver<()>) {
    let mut tasks = JoinSet::new();
    let (sending, stopping) = (Arc::clone(&shared), stop.clone());
    tasks.spawn(async move { sending.sender.run(stopping).await });
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            Some(_) = tasks.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    tasks.spawn(connection(stream, Arc::clone(&shared), stop.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the Lago sandbox cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
    drop(listener);
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, all).await.is_err() {
        tasks.shutdown().await;
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>, mut stop: watch::Receiver<()>) {
    let _ = stream.set_nodelay(true);
    let closing = Arc::new(Notify::new());
    let close = Arc::clone(&closing);
    let service = service_fn(move |request| {
        let (shared, close) = (Arc::clone(&shared), Arc::clone(&close));
        async move { Ok::<_, Infallible>(serve(&shared, &close, request).await) }
    });
    let mut served = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    let mut stopping = false;
    loop {
        tokio::select! {
            _ = &mut served => return,
            _ = stop.changed(), if !stopping => {
                stopping = true;
                std::pin::Pin::new(&mut served).graceful_shutdown();
            }
            () = closing.notified() => return,
        }
    }
}

async fn serve(shared: &Shared, close: &Notify, request: hyper::Request<Incoming>) -> hyper::Response<Flow> {
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
        Some(fault) => troubled(shared, close, &arrived, fault).await,
        None => response(shared.desk.answer(&arrived)),
    }
}

async fn arrived(request: hyper::Request<Incoming>) -> Result<Arrived, Refusal> {
    let (head, body) = request.into_parts();
    let too_large = |_| Refusal { status: 413, ..Refusal::bad_request("the body is too large") };
    let bytes = Limited::new(body, BODY_MAX).collect().await.map_err(too_large)?.to_bytes();
    let body = String::from_utf8(bytes.into());
    let body = body.map_err(|_| Refusal::bad_request("Invalid encoding for parameter"))?;
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

async fn troubled(shared: &Shared, close: &Notify, arrived: &Arrived, fault: FaultKind) -> hyper::Response<Flow> {
    let hung_up = || {
        close.notify_one();
        std::future::pending()
    };
    match fault {
        FaultKind::Status { status, code, headers } => {
            let mut reaction = failed(status, code.as_deref());
            reaction.headers.extend(headers);
            response(reaction)
        }
        FaultKind::Hang => std::future::pending().await,
        FaultKind::Close => hung_up().await,
        FaultKind::CommitThenClose => {
            shared.desk.answer(arrived);
            hung_up().await
        }
        FaultKind::CommitThenHang => {
            shared.desk.answer(arrived);
            std::future::pending().await
        }
        FaultKind::CommitThenStatus { status } => {
            shared.desk.answer(arrived);
            response(failed(status, None))
        }
        FaultKind::Slow { milliseconds } => {
            let reaction = shared.desk.answer(arrived);
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            response(reaction)
        }
        // Ways to be are never taken out of the script; see `Faults::take`.
        FaultKind::LegacyPartialStore | FaultKind::StaleUsage => response(shared.desk.answer(arrived)),
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

fn response(reaction: Reaction) -> hyper::Response<Flow> {
    let mut builder = hyper::Response::builder().status(reaction.status);
    for (name, value) in reaction.headers {
        builder = builder.header(name, value);
    }
    builder.body(Flow::whole(reaction.body)).unwrap_or_else(|_| hyper::Response::new(Flow::whole(Bytes::new())))
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
