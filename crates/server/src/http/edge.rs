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
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST,
    REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use axum::response::Response;
use axum::routing::future::RouteFuture;
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::Limited;
use hyper::body::{Frame, Incoming, SizeHint};
use jiff::Timestamp;
use tokio::sync::Notify;
use tower::Service;

use super::door::Limits;
use super::error::{self, AsIs, Problem, Raised, UpgradeUrl};
pub use super::hosts::Hosts;
use super::visit::{Phase, Visit, mixed};
use crate::telemetry::HttpMetrics;

/// Bytes of path and query.
const URI_MAX: usize = 8 * 1024;
/// What a caller is told to wait when too many requests are in flight.
const OVERLOAD_PAUSE: Duration = Duration::from_secs(1);
const DEADLINE_PAUSE: Duration = Duration::from_secs(5);

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const SAME_ORIGIN: HeaderValue = HeaderValue::from_static("same-origin");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");
const DENY: HeaderValue = HeaderValue::from_static("DENY");
const API_POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-store");
const ONE_YEAR: HeaderValue = HeaderValue::from_static("max-age=31536000");
const CLOSE: HeaderValue = HeaderValue::from_static("close");
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");

/// What the operator decides about the edge.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The names under which this server may be called.
    pub hosts: Hosts,
    /// The public address is https: browsers are told to stay there.
    pub https: bool,
    /// The paths of the OpenAPI document, such as `/api/v1/users/{id}`. Logs name these and never the path that was
    /// asked for, which may hold anything.
    pub routes: Vec<String>,
    /// Now, for the time inside request ids.
    pub started: Timestamp,
    /// Chance, for the rest of them.
    pub entropy: u64,
}

/// The id of a request: `req_` and a ULID. In the answer's `X-Request-Id`, in problems
/// and in the log. Always ours: what a caller sends under that name is not taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; 30]);

impl RequestId {
    fn new(at_ms: u64, (high, low): (u64, u64)) -> Self {
        const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let mut text = *b"req_00000000000000000000000000";
        for (part, word) in [(4..14, at_ms), (14..22, high), (22..30, low)] {
            let mut word = word;
            for place in text[part].iter_mut().rev() {
                *place = ALPHABET[usize::try_from(word & 31).unwrap_or_default()];
                word >>= 5;
            }
        }
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("req_")
    }
}

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
        let started_ms = u64::try_from(self.settings.started.as_millisecond()).unwrap_or_default();
        Arc::new(House {
            router: self.router,
            settings: self.settings,
            metrics: self.metrics,
            limits,
            opened: Instant::now(),
            started_ms,
            is_closing: AtomicBool::new(false),
            closing: Notify::new(),
        })
    }
}

/// What all connections of one listener share. Only read, but for the counters.
#[derive(Debug)]
pub(super) struct House {
    router: Router,
    settings: Settings,
    pub(super) metrics: Arc<HttpMetrics>,
    pub(super) limits: Limits,
    opened: Instant,
    started_ms: u64,
    is_closing: AtomicBool,
    pub(super) closing: Notify,
}

impl House {
    /// Milliseconds since this house opened.
    pub(super) fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.opened).as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn instant(&self, millis: u64) -> Instant {
        self.opened + Duration::from_millis(millis)
    }

    pub(super) fn seed_of(&self, connection: u64) -> u64 {
        mixed(self.settings.entropy ^ mixed(connection))
    }

    pub(super) fn close(&self) {
        self.is_closing.store(true, SeqCst);
        self.closing.notify_waiters();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Relaxed)
    }

    /// Puts the answer's own headers over those that every answer carries (S-19); what a handler has set stays.
    fn dress(&self, headers: &mut HeaderMap, id: RequestId) {
        let Ok(id) = HeaderValue::from_bytes(&id.0) else { return };
        if headers.insert(X_REQUEST_ID, id).is_some() {
            return; // it began with them
        }
        let own = std::mem::replace(headers, uniform(self.settings.https));
        let mut last = None;
        for (name, value) in own {
            match (name, &last) {
                (Some(name), _) => {
                    headers.insert(name.clone(), value);
                    last = Some(name);
                }
                (None, Some(name)) => {
                    headers.append(name.clone(), value);
                }
                (None, None) => {}
            }
        }
    }

    /// The template that a path belongs to, for the log.
    fn template(&self, path: &str) -> &str {
        let fits = |template: &str| {
            let mut parts = path.split('/');
            template.split('/').all(|want| parts.next().is_some_and(|part| part == want || want.starts_with('{')))
                && parts.next().is_none()
        };
        self.settings.routes.iter().find(|template| fits(template)).map_or("unmatched", String::as_str)
    }

    /// Judges a request by its head alone.
    fn examine(&self, request: &Request<Incoming>) -> Result<(), Refusal> {
        let (uri, headers) = (request.uri(), request.headers());
        if !is_offered(request.method()) {
            return Err(Refusal { allow: true, ..Refusal::code("method_not_allowed") });
        }
        if uri.path_and_query().is_some_and(|text| text.as_str().len() > URI_MAX) {
            return Err(Refusal::code("uri.too_long"));
        }
        self.examine_host(request)?;
        if !has_body(request) {
            return Ok(());
        }
        if headers.contains_key(CONTENT_ENCODING) {
            return Err(Refusal::code("body.encoding"));
        }
        // The socket has looked for both on one head; this is for heads that it did not see.
        if headers.contains_key(CONTENT_LENGTH) && headers.contains_key(TRANSFER_ENCODING) {
            return Err(Refusal::code("request.malformed"));
        }
        let most = self.limits.body_max_of(uri.path());
        let too_large = |length: u64| usize::try_from(length).map_or(true, |length| length > most);
        if hyper::body::Body::size_hint(request.body()).exact().is_some_and(too_large) {
            return Err(Refusal::code("body.too_large"));
        }
        Ok(())
    }

    fn examine_host(&self, request: &Request<Incoming>) -> Result<(), Refusal> {
        let mut hosts = request.headers().get_all(HOST).iter();
        match (hosts.next(), hosts.next()) {
            (Some(_), Some(_)) => return Err(Refusal::code("request.malformed")),
            (None, _) if request.version() != Version::HTTP_10 => return Err(Refusal::code("request.malformed")),
            (Some(host), None) if !self.settings.hosts.allow(host.as_bytes()) => {
                return Err(Refusal::code("host.unknown"));
            }
            _ => {}
        }
        match request.uri().authority() {
            Some(authority) if !self.settings.hosts.allow(authority.as_str().as_bytes()) => {
                Err(Refusal::code("host.unknown"))
            }
            _ => Ok(()),
        }
    }
}

/// Headers that every answer carries (S-19), with room for the answer's own. There is no CORS header at all (S-17). A
/// handler that begins with them spares the edge the work of laying its own over them.
pub fn uniform(https: bool) -> HeaderMap {
    static PLAIN: LazyLock<HeaderMap> = LazyLock::new(|| every_answer(false));
    static SECURE: LazyLock<HeaderMap> = LazyLock::new(|| every_answer(true));
    if https { SECURE.clone() } else { PLAIN.clone() }
}

fn every_answer(https: bool) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(24);
    // The edge puts the request's id here.
    headers.insert(X_REQUEST_ID, HeaderValue::from_static("req_"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    headers.insert(REFERRER_POLICY, NO_REFERRER);
    headers.insert(OPENER_POLICY, SAME_ORIGIN);
    headers.insert(RESOURCE_POLICY, SAME_ORIGIN);
    headers.insert(X_FRAME_OPTIONS, DENY);
    headers.insert(CONTENT_SECURITY_POLICY, API_POLICY);
    headers.insert(CACHE_CONTROL, PRIVATE);
    if https {
        headers.insert(STRICT_TRANSPORT_SECURITY, ONE_YEAR);
    }
    headers
}

fn is_offered(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::OPTIONS
    )
}

fn has_body(request: &Request<Incoming>) -> bool {
    !hyper::body::Body::is_end_stream(request.body())
}

/// A request that no handler sees.
#[derive(Debug)]
struct Refusal {
    code: &'static str,
    allow: bool,
    retry_after: Option<Duration>,
}

impl Refusal {
    fn code(code: &'static str) -> Self {
        Self { code, allow: false, retry_after: None }
    }

    fn response(&self, id: RequestId) -> Response {
        let problem = Problem::coded(self.code, 400);
        let problem = self.retry_after.map_or(Problem::coded(self.code, 400), |wait| problem.after(wait));
        let mut response = Response::new(Body::empty());
        problem.write(&mut response, id.as_str());
        if self.allow {
            response.headers_mut().insert(ALLOW, METHODS);
        }
        response
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
        let id = RequestId::new(house.started_ms + house.millis(started), visit.chance());
        let crowd = house.metrics.in_flight.fetch_add(1, Relaxed);
        let uri = request.uri().clone();
        let refusal = if malformed {
            Some(Refusal::code("request.malformed"))
        } else if usize::try_from(crowd).is_ok_and(|crowd| crowd >= house.limits.in_flight_max) {
            Some(Refusal { retry_after: Some(OVERLOAD_PAUSE), ..Refusal::code("overloaded") })
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
        Refusal { retry_after: Some(DEADLINE_PAUSE), ..Refusal::code("deadline") }.response(self.id)
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
        let id = RequestId::new(self.house.started_ms + self.house.millis(now), self.chance());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s22_hosts_are_compared_without_port_and_case() {
        let hosts = Hosts::Only(vec!["billing.example.com".to_owned(), "::1".to_owned(), "127.0.0.1".to_owned()]);
        for (authority, allowed) in [
            ("billing.example.com", true),
            ("Billing.Example.COM:8084", true),
            ("[::1]:8084", true),
            ("[::1]", true),
            ("127.0.0.1:1", true),
            ("evil", false),
            ("billing.example.com.evil", false),
            ("evil@billing.example.com", false),
            ("billing.example.com@evil", false),
            ("[::1].evil", false),
            ("", false),
            (":80", false),
        ] {
            assert_eq!(hosts.allow(authority.as_bytes()), allowed, "{authority}");
        }
    }

    #[test]
    fn a_request_id_is_a_ulid_with_the_time_in_front() {
        let id = RequestId::new(1_763_799_000_000, (u64::MAX, 1));
        assert_eq!(id.as_str(), "req_01KAN9SRY0ZZZZZZZZ00000001");
    }

    #[test]
    fn the_log_names_templates_and_never_what_was_asked_for() {
        let settings = Settings {
            routes: vec!["/docs".into(), "/users/{id}".into(), "/users/{id}/plan".into()],
            ..Settings::default()
        };
        let house = Edge::new(Router::new(), settings, Arc::default()).open(Limits::default());
        for (path, template) in [
            ("/docs", "/docs"),
            ("/users/ann@example.com", "/users/{id}"),
            ("/users/u_1/plan", "/users/{id}/plan"),
            ("/users/u_1/plan/x", "unmatched"),
            ("/", "unmatched"),
            ("/ann@example.com", "unmatched"),
        ] {
            assert_eq!(house.template(path), template, "{path}");
        }
    }
}
