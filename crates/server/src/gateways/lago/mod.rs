//! The Lago client: the dozen calls that shipping usage needs. It sends one request and says what came of it; repeating
//! belongs to whoever knows whether the same bytes may be sent again.
//!
//! There is no breaker: nothing of Lago is on a request's path, and the one job that calls it backs off by itself.

mod error;
pub mod read;
mod settings;
pub mod signature;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Response, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::{Instant, sleep_until, timeout_at};

pub use super::transport::segment;
pub use error::{LagoError, Refusal, Remedy};
pub use settings::{Settings, SettingsError};

use super::bucket::Bucket;
use super::transport::{self, BodyEnd, Broken};

/// An error body is read this far.
const ERROR_BODY_MAX: usize = 256 * 1024;
/// A proxy may ask for more than Lago does.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(5);
/// Lago says in how many seconds its window begins anew; nobody waits longer on its word.
const RESET_MAX: Duration = Duration::from_secs(20);

/// A client of Lago's API. Cheap to clone; clones share connections and rate.
#[derive(Clone)]
pub struct Lago {
    inside: Arc<Inside>,
}

struct Inside {
    client: Client,
    base: Url,
    key: SecretString,
    deadline: Duration,
    body_max: usize,
    bucket: Bucket,
}

impl Lago {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// Names the first setting that cannot work.
    pub fn new(settings: Settings) -> Result<Lago, SettingsError> {
        let base = settings.base_url()?;
        let client = client(&settings, &base)?;
        let bucket = Bucket::new(settings.rate_per_second.max(1), settings.burst.max(1), Instant::now());
        let Settings { key, deadline, body_max, .. } = settings;
        Ok(Lago { inside: Arc::new(Inside { client, base, key, deadline, body_max, bucket }) })
    }

    /// Reads `path` (below `/api/v1`). Ids that are put into a path go through [`segment`].
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, LagoError> {
        self.call(Method::GET, path, query, None).await
    }

    /// Reads an object; nothing where Lago says that there is none.
    pub async fn find(&self, path: &str) -> Result<Option<Value>, LagoError> {
        match self.get(path, &[]).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if matches!(error, LagoError::NotFound { .. }) && error.remedy() == Remedy::Content => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a JSON document.
    pub async fn post(&self, path: &str, body: String) -> Result<Value, LagoError> {
        self.call(Method::POST, path, &[], Some(body)).await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<String>,
    ) -> Result<Value, LagoError> {
        let inside = &self.inside;
        let end = Instant::now() + inside.deadline;
        let busy = |retry_after| LagoError::Busy { retry_after };
        sleep_until(inside.bucket.take(Instant::now(), end).map_err(busy)?).await;
        let mut request = inside.client.request(method, inside.url(path, query));
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let exchange = async {
            let response = request.send().await.map_err(unreachable)?;
            inside.heed(response.headers());
            inside.read(response).await
        };
        timeout_at(end, exchange).await.unwrap_or(Err(LagoError::Timeout { after: inside.deadline }))
    }
}

impl Inside {
    fn url(&self, path: &str, query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/api/v1{path}", self.base.path().trim_end_matches('/')));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// When nothing is left of Lago's window, the next request waits for the next one, whatever our own rate is.
    fn heed(&self, headers: &HeaderMap) {
        if let (Some(0), Some(reset)) = (number(headers, "x-ratelimit-remaining"), reset(headers)) {
            let now = Instant::now();
            self.bucket.hold(now, now + reset);
        }
    }

    async fn read(&self, response: Response) -> Result<Value, LagoError> {
        let status = response.status().as_u16();
        if !response.status().is_success() {
            return Err(self.refused(status, response).await);
        }
        let body = match transport::read_body(response, self.body_max).await {
            Ok(body) => body,
            Err(BodyEnd::TooLarge) => return Err(LagoError::BadBody { fault: "longer than we read" }),
            Err(BodyEnd::Broken(error)) => return Err(unreachable(error)),
        };
        if body.is_empty() {
            return Ok(Value::Null);
        }
        let value: Value = serde_json::from_slice(&body).map_err(|_| LagoError::BadBody { fault: "not JSON" })?;
        if value.is_object() { Ok(value) } else { Err(LagoError::BadBody { fault: "JSON, but not an object" }) }
    }

    async fn refused(&self, status: u16, response: Response) -> LagoError {
        let (reset, retry_after) = (reset(response.headers()), retry_after(response.headers()));
        // The status says enough, except of a 422: a broken or endless error body changes nothing about it.
        let body = transport::read_body(response, ERROR_BODY_MAX).await.unwrap_or_default();
        let refusal = Refusal::read(&body, self.key.expose_secret());
        match status {
            401 | 403 => LagoError::Auth { status, refusal },
            404 => LagoError::NotFound { refusal },
            // Lago says what it refuses: what says nothing has lost it on its way, and the batch may be as it should be.
            422 if refusal == Refusal::default() => LagoError::BadBody { fault: "a refusal that cannot be read" },
            422 => LagoError::Refused { refusal },
            429 => {
                self.bucket.slow_down(Instant::now());
                LagoError::RateLimited { reset: reset.max(retry_after) }
            }
            503 => LagoError::Status { status, refusal, retry_after },
            _ => LagoError::Status { status, refusal, retry_after: None },
        }
    }
}

/// Seconds until Lago's window begins anew.
fn reset(headers: &HeaderMap) -> Option<Duration> {
    number(headers, "x-ratelimit-reset").map(|seconds| Duration::from_secs(seconds).min(RESET_MAX))
}

/// `Retry-After` of whatever stands before Lago: seconds, or a date, which is counted from its own.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let date = |name: &str| {
        let text = headers.get(name)?.to_str().ok()?;
        jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
    };
    let seconds = match number(headers, "retry-after") {
        Some(seconds) => seconds,
        // A date that is over is now.
        None => u64::try_from((date("retry-after")?.as_second() - date("date")?.as_second()).max(0)).ok()?,
    };
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn unreachable(error: reqwest::Error) -> LagoError {
    match transport::broken(error) {
        Broken::Tls(source) => LagoError::Tls { source: Box::new(source) },
        Broken::Unreachable(place, source) => LagoError::Unreachable { place, source: Box::new(source) },
    }
}

impl fmt::Debug for Lago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lago").field("base", &self.inside.base.as_str()).finish_non_exhaustive()
    }
}

fn client(settings: &Settings, base: &Url) -> Result<Client, SettingsError> {
    let headers = HeaderMap::from_iter([
        (AUTHORIZATION, settings.authorization()?),
        (ACCEPT, HeaderValue::from_static("application/json")),
    ]);
    transport::client(base, headers).map_err(|error| SettingsError::Client(Box::new(error)))
}
