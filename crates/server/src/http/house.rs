//! The house: what all connections of one listener share. It judges requests by their heads, dresses answers in the headers that
//! every one carries, and knows the templates of paths.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, HOST, REFERRER_POLICY,
    STRICT_TRANSPORT_SECURITY, TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use axum::response::Response;
use hyper::body::Incoming;
use jiff::Timestamp;
use tokio::sync::Notify;

use super::door::Limits;
use super::error::Problem;
use super::hosts::Hosts;
use super::request_id::RequestId;
use super::router;
use super::visit::mixed;
use crate::telemetry::{Counts, HttpMetrics};

/// Bytes of path and query.
const URI_MAX: usize = 8 * 1024;

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
    /// Events that were not recorded, by code: a body that is refused here holds at least one.
    pub refused: Arc<Counts>,
}

/// What all connections of one listener share. Only read, but for the counters.
#[derive(Debug)]
pub(super) struct House {
    pub(super) router: Router,
    settings: Settings,
    pub(super) metrics: Arc<HttpMetrics>,
    pub(super) limits: Limits,
    opened: Instant,
    started_ms: u64,
    is_closing: AtomicBool,
    pub(super) closing: Notify,
}

impl House {
    pub(super) fn new(router: Router, settings: Settings, metrics: Arc<HttpMetrics>, limits: Limits) -> Self {
        let started_ms = u64::try_from(settings.started.as_millisecond()).unwrap_or_default();
        let (is_closing, closing) = (AtomicBool::new(false), Notify::new());
        Self { router, settings, metrics, limits, opened: Instant::now(), started_ms, is_closing, closing }
    }

    /// The id of a request that begins now.
    pub(super) fn request_id(&self, now: Instant, chance: (u64, u64)) -> RequestId {
        RequestId::new(self.started_ms + self.millis(now), chance)
    }

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
    pub(super) fn dress(&self, headers: &mut HeaderMap, id: RequestId) {
        let Ok(id) = HeaderValue::from_bytes(id.as_bytes()) else { return };
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
    pub(super) fn template(&self, path: &str) -> &str {
        let fits = |template: &str| {
            let mut parts = path.split('/');
            template.split('/').all(|want| parts.next().is_some_and(|part| part == want || want.starts_with('{')))
                && parts.next().is_none()
        };
        self.settings.routes.iter().find(|template| fits(template)).map_or("unmatched", String::as_str)
    }

    /// Judges a request by its head alone.
    pub(super) fn examine(&self, request: &Request<Incoming>) -> Result<(), Refusal> {
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
        if headers
            .get_all(CONTENT_ENCODING)
            .iter()
            .any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
        {
            return Err(self.unread("body.encoding", uri.path()));
        }
        // The socket has looked for both on one head; this is for heads that it did not see.
        if headers.contains_key(CONTENT_LENGTH) && headers.contains_key(TRANSFER_ENCODING) {
            return Err(Refusal::code("request.malformed"));
        }
        let most = self.limits.body_max_of(uri.path());
        let too_large = |length: u64| usize::try_from(length).map_or(true, |length| length > most);
        if hyper::body::Body::size_hint(request.body()).exact().is_some_and(too_large) {
            return Err(self.unread("body.too_large", uri.path()));
        }
        Ok(())
    }

    /// A body that nobody reads, on a path where events come in.
    fn unread(&self, code: &'static str, path: &str) -> Refusal {
        if router::BATCHES.contains(&path) || [router::LITELLM, router::LAGO_EVENT].contains(&path) {
            self.settings.refused.add(code, 1);
        }
        Refusal::code(code)
    }

    fn examine_host(&self, request: &Request<Incoming>) -> Result<(), Refusal> {
        // A probe asks by the address that a machine was given, which nobody knows before, and hears nothing about anybody.
        let is_probe = matches!(request.uri().path(), "/healthz" | "/readyz");
        let mut hosts = request.headers().get_all(HOST).iter();
        match (hosts.next(), hosts.next()) {
            (Some(_), Some(_)) => return Err(Refusal::code("request.malformed")),
            (None, _) if request.version() != Version::HTTP_10 => return Err(Refusal::code("request.malformed")),
            (Some(host), None) if !is_probe && !self.settings.hosts.allow(host.as_bytes()) => {
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

pub(super) fn has_body(request: &Request<Incoming>) -> bool {
    !hyper::body::Body::is_end_stream(request.body())
}

/// A request that no handler sees.
#[derive(Debug)]
pub(super) struct Refusal {
    code: &'static str,
    allow: bool,
    retry_after: Option<Duration>,
}

impl Refusal {
    pub(super) fn code(code: &'static str) -> Self {
        Self { code, allow: false, retry_after: None }
    }

    /// The same, with when to come again.
    pub(super) fn after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    pub(super) fn response(&self, id: RequestId) -> Response {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_names_templates_and_never_what_was_asked_for() {
        let settings = Settings {
            routes: vec!["/docs".into(), "/users/{id}".into(), "/users/{id}/plan".into()],
            ..Settings::default()
        };
        let house = House::new(Router::new(), settings, Arc::default(), Limits::default());
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
