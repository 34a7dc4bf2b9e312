//! The Stripe client: thin, because Stripe's shapes change with its versions and ours must not break with them.
//!
//! It puts a request on the wire and brings the JSON back as it was. Deadlines, retries, the rate limit, the breaker and
//! the cap on bodies are here; what the JSON means is read in [`read`], tolerantly, in the shapes of every age.

mod breaker;
mod error;
mod exchange;
mod pages;
pub mod read;
mod retry;
mod settings;
pub mod signature;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Url};
use secrecy::SecretString;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout_at};

pub use breaker::BreakerState;
pub use error::{BodyFault, Place, Refusal, StripeError};
pub use pages::{ListFault, Page, Pages};
pub use settings::{Settings, SettingsError};

use super::bucket::Bucket;
use super::transport;
pub use super::transport::segment;
use breaker::{Breaker, Pass};
use exchange::{Call, Outcome, attempt};
use pages::Way;
use retry::Failure;

/// A write gets this many attempts and this long, then its caller is told that the outcome is unknown (F-28).
const WRITE_ATTEMPTS: u32 = 3;
const WRITE_DEADLINE: Duration = Duration::from_secs(8);
/// What is asked to find out whether Stripe is there at all, and how long that may take: lists that are never long to read.
/// One of them may be out of order itself.
const ELSEWHERE: [&str; 2] = ["/v1/events", "/v1/customers"];
const ELSEWHERE_DEADLINE: Duration = Duration::from_secs(3);
/// Stripe's own limit for an idempotency key.
const KEY_MAX: usize = 255;

/// Where the jitter comes from, passed in so that a test can repeat it.
pub type Random = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A client of Stripe's API. Cheap to clone; clones share connections, rate, breaker and all.
#[derive(Clone)]
pub struct Stripe {
    inside: Arc<Inside>,
}

struct Inside {
    client: Client,
    base: Url,
    key: SecretString,
    attempt_deadline: Duration,
    total_deadline: Duration,
    attempts: u32,
    body_max: usize,
    bulkhead: Semaphore,
    bucket: Bucket,
    breaker: Breaker,
    random: Random,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    last_error: Option<LastError>,
    clock: Option<(jiff::Timestamp, Instant)>,
}

/// What Stripe answered.
pub struct Answer {
    /// The object, byte for byte.
    pub body: Box<RawValue>,
    /// `Request-Id`.
    pub request_id: Option<String>,
}

/// How things stand with Stripe, for `/readyz` and `doctor`.
#[derive(Clone, Debug)]
pub struct State {
    /// Whether requests leave at all.
    pub breaker: BreakerState,
    /// Our own rate at this moment, in requests a second; below the configured one after a 429.
    pub rate_per_second: u32,
    /// The trouble with the last call; none when it was answered. A refusal of one question is no trouble.
    pub last_error: Option<LastError>,
    /// The clock of the server, from the last answer.
    pub clock: Option<ServerClock>,
}

/// The last call's trouble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastError {
    /// As [`StripeError::code`].
    pub code: &'static str,
    /// In words, without secrets.
    pub text: String,
}

/// What the `Date` header said, and how long ago.
#[derive(Clone, Copy, Debug)]
pub struct ServerClock {
    /// The header, whole seconds.
    pub date: jiff::Timestamp,
    /// Since it came.
    pub age: Duration,
}

impl ServerClock {
    /// How far the server's clock is ahead of ours (negative: behind), exact to about a second.
    pub fn skew(&self, now: jiff::Timestamp) -> jiff::SignedDuration {
        let age = jiff::SignedDuration::try_from(self.age).unwrap_or(jiff::SignedDuration::MAX);
        self.date.duration_since(now).saturating_add(age)
    }
}

impl Stripe {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// Names the first setting that cannot work.
    pub fn new(settings: Settings, random: Random) -> Result<Stripe, SettingsError> {
        settings.check_limits()?;
        let base = settings.base_url()?;
        let client = client(&settings, &base)?;
        let inside = Inside {
            client,
            base,
            attempt_deadline: settings.attempt_deadline,
            total_deadline: settings.total_deadline,
            attempts: settings.attempts,
            body_max: settings.body_max,
            bulkhead: Semaphore::new(settings.in_flight),
            bucket: Bucket::new(settings.rate_per_second, settings.burst, Instant::now()),
            breaker: Breaker::new(settings.breaker_pause),
            key: settings.key,
            random,
            seen: Mutex::default(),
        };
        Ok(Stripe { inside: Arc::new(inside) })
    }

    /// Reads `path` (`/v1/…`). Ids that are put into a path go through [`segment`].
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Answer, StripeError> {
        let mut url = self.inside.url(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let call = Call { method: Method::GET, url, form: None, key: None };
        self.call(&call, self.inside.attempts, self.inside.total_deadline).await
    }

    /// Reads one object and makes sure that it is the one that was asked for (S-30).
    pub async fn object(&self, list: &str, id: &str, query: &[(&str, &str)]) -> Result<Answer, StripeError> {
        let path = format!("{list}/{}", segment(id));
        let answer = self.get(&path, query).await?;
        match read::id(answer.body.get()) {
            Ok(found) if found == id => Ok(answer),
            Ok(_) | Err(_) => Err(StripeError::OtherObject { path }),
        }
    }

    /// Says of a failed read of an object of `list` whether it is Stripe that fails or only what was asked for: something else
    /// is asked, first the list.
    pub async fn located(&self, error: StripeError, list: &str) -> StripeError {
        if !error.may_be_of_one_object() {
            return error;
        }
        let list_answers = self.inside.answers(list).await;
        if !list_answers && !self.inside.answers_elsewhere().await {
            return error;
        }
        self.inside.breaker.alive();
        self.inside.seen().last_error = None;
        StripeError::OnlyThere { source: Box::new(error), list_answers }
    }

    /// Writes. `key` is the idempotency key, the same on every attempt, so that an answer that got lost cannot make two
    /// objects (F-29). Whoever repeats the call later repeats the key.
    pub async fn post(&self, path: &str, form: &[(&str, &str)], key: &str) -> Result<Answer, StripeError> {
        if key.is_empty() || key.len() > KEY_MAX || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(StripeError::Request("the idempotency key must be 1 to 255 printable characters"));
        }
        let url = self.inside.url(path)?;
        let call = Call { method: Method::POST, form: Some(encode(&url, form)), url, key: Some(key.to_owned()) };
        let deadline = self.inside.total_deadline.min(WRITE_DEADLINE);
        self.call(&call, self.inside.attempts.min(WRITE_ATTEMPTS), deadline).await
    }

    /// Walks the list at `path`, from its beginning or from after the object `after`.
    pub fn pages(&self, path: &str, query: &[(&str, &str)], after: Option<String>) -> Pages {
        Pages::new(self.clone(), path, query, after, Way::Older)
    }

    /// Walks the list at `path` from the object `before` to the newest. Each page still begins with its newest object.
    pub fn newer_pages(&self, path: &str, query: &[(&str, &str)], before: String) -> Pages {
        Pages::new(self.clone(), path, query, Some(before), Way::Newer)
    }

    /// How things stand.
    pub fn state(&self) -> State {
        let now = Instant::now();
        let seen = self.inside.seen();
        State {
            breaker: self.inside.breaker.state(now),
            rate_per_second: self.inside.bucket.rate(now),
            last_error: seen.last_error.clone(),
            clock: seen.clock.map(|(date, at)| ServerClock { date, age: now.saturating_duration_since(at) }),
        }
    }

    async fn call(&self, call: &Call, attempts: u32, deadline: Duration) -> Result<Answer, StripeError> {
        let end = Instant::now() + deadline;
        let answer = self.tries(call, attempts, end, deadline).await;
        self.inside.remember(&answer);
        answer
    }

    /// Tries until there is an answer, or no attempt left, or no time for another.
    async fn tries(&self, call: &Call, attempts: u32, end: Instant, total: Duration) -> Result<Answer, StripeError> {
        let mut last: Option<StripeError> = None;
        for number in 1..=attempts {
            let failure = match self.inside.try_once(call, end, total).await {
                Ok(answer) => return Ok(answer),
                // That nobody asks any more is the consequence; the reason is what the attempt before found.
                Err(Failure { error: StripeError::BreakerOpen { retry_after }, .. }) => {
                    return Err(last.unwrap_or(StripeError::BreakerOpen { retry_after }));
                }
                Err(failure) => failure,
            };
            let again = Instant::now() + retry::wait(number, failure.error.retry_after(), (self.inside.random)());
            if !failure.again() || number == attempts || again >= end {
                return Err(failure.error);
            }
            last = Some(failure.error);
            sleep_until(again).await;
        }
        Err(last.unwrap_or(StripeError::Timeout { after: total }))
    }
}

impl Inside {
    /// One attempt, with everything that has to be asked before it: breaker, bulkhead, rate.
    async fn try_once(&self, call: &Call, end: Instant, total: Duration) -> Result<Answer, Failure> {
        let open = |retry_after| StripeError::BreakerOpen { retry_after };
        self.breaker.check(Instant::now()).map_err(open)?;
        let busy = |retry_after| StripeError::Busy { retry_after };
        let room = timeout_at(end, self.bulkhead.acquire()).await;
        let Ok(Ok(_room)) = room else { return Err(busy(Duration::from_secs(1)).into()) };
        let leave = self.bucket.take(Instant::now(), end).map_err(busy)?;
        sleep_until(leave).await;

        let pass = self.breaker.admit(Instant::now()).map_err(open)?;
        let start = Instant::now();
        let attempt_end = (start + self.attempt_deadline).min(end);
        let exchange = attempt(&self.client, call, self.body_max, &self.key);
        let Ok(Outcome { date, answer }) = timeout_at(attempt_end, exchange).await else {
            self.count_failure(pass).await;
            let after = if attempt_end == end { total } else { self.attempt_deadline };
            return Err(StripeError::Timeout { after }.into());
        };
        if let Some(date) = date {
            self.seen().clock = Some((date, Instant::now()));
        }
        match &answer {
            Err(failure) if failure.error.is_failure() => self.count_failure(pass).await,
            Ok(_) | Err(_) => pass.alive(),
        }
        if let Err(Failure { error: StripeError::RateLimited { .. }, .. }) = &answer {
            self.bucket.slow_down(Instant::now());
        }
        answer
    }

    /// Before a failure keeps everybody from asking, something else is asked.
    async fn count_failure(&self, mut pass: Pass) {
        if pass.failed() {
            if self.answers_elsewhere().await {
                pass.alive();
            } else {
                pass.dead(Instant::now());
            }
        }
    }

    /// Whether Stripe answers a question that has nothing to do with the last one.
    async fn answers_elsewhere(&self) -> bool {
        for list in ELSEWHERE {
            if self.answers(list).await {
                return true;
            }
        }
        false
    }

    /// Whether Stripe answers for a list, be it with a refusal.
    async fn answers(&self, list: &str) -> bool {
        let Ok(mut url) = self.url(list) else { return false };
        url.query_pairs_mut().append_pair("limit", "1");
        let call = Call { method: Method::GET, url, form: None, key: None };
        let exchange = attempt(&self.client, &call, self.body_max, &self.key);
        let deadline = Instant::now() + self.attempt_deadline.min(ELSEWHERE_DEADLINE);
        match timeout_at(deadline, exchange).await {
            Ok(Outcome { answer: Ok(_), .. }) => true,
            Ok(Outcome { answer: Err(failure), .. }) => failure.error.is_stripes_refusal(),
            Err(_) => false,
        }
    }

    fn url(&self, path: &str) -> Result<Url, StripeError> {
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"/_-.~%:".contains(&byte);
        // A part of dots, written either way, would climb out of its list.
        let climbs = |part: &str| matches!(&*part.to_ascii_lowercase().replace("%2e", "."), "" | "." | "..");
        let climbs = path.split('/').skip(1).any(climbs);
        if !path.starts_with("/v1/") || climbs || !path.bytes().all(sound) {
            return Err(StripeError::Request("the path is not one of Stripe's"));
        }
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        Ok(url)
    }

    /// Keeps what `doctor` and `/readyz` show. That one question was refused says nothing about the next.
    fn remember(&self, answer: &Result<Answer, StripeError>) {
        let last_error = match answer {
            Err(StripeError::BreakerOpen { .. } | StripeError::Busy { .. } | StripeError::Request(_)) => return,
            Err(error) if error.code() != "stripe.refused" => {
                Some(LastError { code: error.code(), text: error.to_string() })
            }
            Ok(_) | Err(_) => None,
        };
        self.seen().last_error = last_error;
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Two independent notes, each written whole: a panic elsewhere cannot have torn them.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Stripe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stripe").field("base", &self.inside.base.as_str()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Answer {
    /// Without the body: it holds names, addresses and whatever a customer wrote into it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.body.get().len();
        f.debug_struct("Answer").field("bytes", &bytes).field("request_id", &self.request_id).finish()
    }
}

/// `application/x-www-form-urlencoded`, which is what a URL's query is too.
fn encode(url: &Url, form: &[(&str, &str)]) -> String {
    let mut url = url.clone();
    url.query_pairs_mut().clear().extend_pairs(form);
    url.query().unwrap_or_default().to_owned()
}

fn client(settings: &Settings, base: &Url) -> Result<Client, SettingsError> {
    let headers = HeaderMap::from_iter([
        (AUTHORIZATION, settings.authorization()?),
        (ACCEPT, HeaderValue::from_static("application/json")),
        (reqwest::header::HeaderName::from_static("stripe-version"), settings.version_header()?),
    ]);
    transport::client(base, headers).map_err(|error| SettingsError::Client(Box::new(error)))
}
