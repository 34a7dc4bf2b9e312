//! The edge: one service around the router, for everything that holds for every request and every answer.
//!
//! It gives the request its id, refuses what no handler should see, holds the number of requests in flight, catches
//! panics, turns errors into problem documents, adds the security headers, and counts. It is written by hand and not
//! stacked from layers because it stands in the way of every request: no boxed futures, no locks, no timers, one
//! allocation for the id.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderValue, Uri};
use axum::response::Response;
use axum::routing::future::RouteFuture;
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::Limited;
use hyper::body::{Frame, Incoming, SizeHint};
use tower::Service;

use super::door::Limits;
use super::error::{self, AsIs, Problem, Raised, UpgradeUrl};
pub use super::hosts::Hosts;
pub use super::house::Settings;
use super::house::{House, Refusal, has_body};
use super::request_id::RequestId;
use super::visit::{Phase, Visit};
use crate::telemetry::HttpMetrics;

/// What a caller is told to wait when too many requests are in flight.
const OVERLOAD_PAUSE: Duration = Duration::from_secs(1);
const DEADLINE_PAUSE: Duration = Duration::from_secs(5);

const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// The service around a router, before it is opened.
#[derive(Debug)]
pub struct Edge {
    router: Router,
    settings: Settings,
    metrics: Arc<HttpMetrics>,
}

impl Edge {
    pub fn new(router: Router, settings: Settings, metrics: Arc<HttpMetrics>) -> Self {
        Self { router, settings, metrics }
    }

    pub(super) fn open(self, limits: Limits) -> Arc<House> {
        Arc::new(House::new(self.router, self.settings, self.metrics, limits))
    }
}

/// The edge at one connection: what hyper calls for each request.
#[derive(Debug)]
pub(super) struct Desk {
    visit: Arc<Visit>,
}

impl Desk {
    pub(super) fn new(visit: &Arc<Visit>) -> Self {
        Self { visit: Arc::clone(visit) }
    }
}

impl hyper::service::Service<Request<Incoming>> for Desk {
    type Response = Response;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        let started = Instant::now();
        let visit = Arc::clone(&self.visit);
        let house = &visit.house;
        let malformed = visit.request_begins(started, has_body(&request));
        let id = house.request_id(started, visit.chance());
        let crowd = house.metrics.in_flight.fetch_add(1, Relaxed);
        let uri = request.uri().clone();
        let refusal = if malformed {
            Some(Refusal::code("request.malformed"))
        } else if usize::try_from(crowd).is_ok_and(|crowd| crowd >= house.limits.in_flight_max) {
            Some(Refusal::code("overloaded").after(OVERLOAD_PAUSE))
        } else {
            house.examine(&request).err()
        };
        let work = match refusal {
            Some(refusal) => Work::Refused { refusal, hang_up: malformed },
            None => Work::Routed(house.router.clone().call(watched(request, &visit))),
        };
        Answer { visit, started, id, uri, work }
    }
}

/// The request as the router sees it. Its body is watched, unless there is none.
fn watched(request: Request<Incoming>, visit: &Arc<Visit>) -> Request {
    let (head, incoming) = request.into_parts();
    let body = if hyper::body::Body::is_end_stream(&incoming) {
        Body::empty()
    } else {
        let most = visit.house.limits.body_max_of(head.uri.path());
        Body::new(Watched { inner: Limited::new(incoming, most), visit: Arc::clone(visit) })
    };
    Request::from_parts(head, body)
}

/// A request body with its limit; it tells the visit when it was read to its end.
struct Watched {
    inner: Limited<Incoming>,
    visit: Arc<Visit>,
}

impl hyper::body::Body for Watched {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if frame.is_none() || (matches!(frame, Some(Ok(_))) && self.inner.is_end_stream()) {
            self.visit.body_was_read();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer on its way. Dropped when the client goes away, and the handler with it (F-11): whatever changes something
/// is one transaction, or runs in a task of its own.
pub(super) struct Answer {
    visit: Arc<Visit>,
    started: Instant,
    id: RequestId,
    uri: Uri,
    work: Work,
}

#[allow(clippy::large_enum_variant, reason = "the large one is the usual one, and there is one per connection")]
enum Work {
    Routed(RouteFuture<Infallible>),
    Refused { refusal: Refusal, hang_up: bool },
    Done,
}

impl Future for Answer {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let answer = match &mut this.work {
            Work::Routed(handler) => match catch_unwind(AssertUnwindSafe(|| Pin::new(handler).poll(cx))) {
                Ok(Poll::Ready(Ok(response))) => (response, false),
                Ok(Poll::Pending) if this.visit.phase() == Phase::Expired => (this.gave_up(), true),
                Ok(Poll::Pending) => return Poll::Pending,
                Err(_) => (this.panicked(), false),
            },
            Work::Refused { refusal, hang_up } => (refusal.response(this.id), *hang_up),
            Work::Done => return Poll::Pending,
        };
        this.work = Work::Done;
        Poll::Ready(Ok(this.finished(answer.0, answer.1)))
    }
}

impl Answer {
    #[cold]
    fn gave_up(&self) -> Response {
        tracing::warn!(
            request.id = self.id.as_str(),
            http.route = self.route(),
            code = "deadline",
            "request took too long"
        );
        Refusal::code("deadline").after(DEADLINE_PAUSE).response(self.id)
    }

    /// S-61, F-10: this request fails, the process and its other requests do not.
    #[cold]
    fn panicked(&self) -> Response {
        self.visit.house.metrics.panics.fetch_add(1, Relaxed);
        tracing::error!(
            request.id = self.id.as_str(),
            http.route = self.route(),
            code = "internal",
            "handler panicked"
        );
        Refusal::code("internal").response(self.id)
    }

    fn route(&self) -> &str {
        self.visit.house.template(self.uri.path())
    }

    fn finished(&self, mut response: Response, hang_up: bool) -> Response {
        if response.status().as_u16() >= 400 {
            self.explain(&mut response);
        }
        self.visit.house.dress(response.headers_mut(), self.id);
        let now = Instant::now();
        if self.visit.answered(now) || hang_up {
            response.headers_mut().insert(CONNECTION, CLOSE);
        }
        let (status, took) = (response.status().as_u16(), now.saturating_duration_since(self.started));
        self.visit.house.metrics.answered(self.visit.lane, status, took);
        tracing::debug!(
            request.id = self.id.as_str(),
            http.route = self.route(),
            http.status = status,
            duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            "answered"
        );
        response
    }

    /// Makes an error answer a problem document, whoever made it.
    #[cold]
    fn explain(&self, response: &mut Response) {
        let is_problem = |kind: &HeaderValue| kind.as_bytes().starts_with(b"application/problem+json");
        let is_meant = response.extensions().get::<AsIs>().is_some();
        if let Some(Raised(error)) = response.extensions_mut().remove::<Raised>() {
            error::log(&error, self.id.as_str(), self.route());
            let upgrade = response.extensions_mut().remove::<UpgradeUrl>();
            if !is_meant {
                Problem::of(&error).with_upgrade(upgrade.as_ref()).write(response, self.id.as_str());
            }
            return;
        }
        if !is_meant && !response.headers().get(CONTENT_TYPE).is_some_and(is_problem) {
            Problem::bare(response.status()).write(response, self.id.as_str());
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.visit.house.metrics.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Visit {
    /// The whole answer, as bytes, to a head that hyper cannot read: what hyper says by itself is a bare status.
    pub(super) fn refusal(&self, status: u16) -> Bytes {
        let now = Instant::now();
        let id = self.house.request_id(now, self.chance());
        let mut response = Response::new(Body::empty());
        let problem =
            Problem::bare(axum::http::StatusCode::from_u16(status).unwrap_or(axum::http::StatusCode::BAD_REQUEST));
        problem.write(&mut response, id.as_str());
        self.house.dress(response.headers_mut(), id);
        self.house.metrics.answered(self.lane, response.status().as_u16(), Duration::ZERO);
        let body = problem.body(id.as_str());
        let mut bytes = BytesMut::with_capacity(1024);
        bytes.put_slice(
            format!("HTTP/1.1 {}\r\ncontent-length: {}\r\nconnection: close\r\n", problem.status, body.len())
                .as_bytes(),
        );
        for (name, value) in response.headers() {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                bytes.put_slice(part);
            }
        }
        bytes.put_slice(b"\r\n");
        bytes.put_slice(&body);
        bytes.freeze()
    }
}
