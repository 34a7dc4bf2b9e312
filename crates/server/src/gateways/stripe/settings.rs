//! What the Stripe client has to be told before it may speak: where, as whom, how often and for how long.

use std::fmt;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderValue;
use secrecy::SecretString;

use super::super::transport;

/// Everything the client needs. `Debug` never shows the key.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Base URL without `/v1`; `http` for sandboxes and proxies, may carry a path prefix.
    pub base: String,
    /// `sk_…` or `rk_…`.
    pub key: SecretString,
    /// Pinned `Stripe-Version`, sent with every request so that an account's default never decides a shape.
    pub version: String,
    /// Longest time for one attempt, body included.
    pub attempt_deadline: Duration,
    /// Longest time for a call with all its attempts and waits.
    pub total_deadline: Duration,
    /// Attempts of one call, the first included.
    pub attempts: u32,
    /// Requests a second in the long run. Stripe allows 100 reads a second live and 25 in test mode; stay at 80 %.
    pub rate_per_second: u32,
    /// Requests that may leave at once after a quiet time.
    pub burst: u32,
    /// Largest accepted response body, in bytes.
    pub body_max: usize,
    /// Requests in flight at once: a slow Stripe may hold this many tasks and not one more (F-33).
    pub in_flight: usize,
    /// How long the open breaker refuses before it lets a probe out.
    pub breaker_pause: Duration,
}

impl Settings {
    /// Settings with the usual limits: 10 s an attempt, 30 s a call, 4 attempts, 80 requests a second, 8 MiB, 32 in
    /// flight, and a breaker that probes after 10 s.
    pub fn new(base: impl Into<String>, key: SecretString, version: impl Into<String>) -> Settings {
        Settings {
            base: base.into(),
            key,
            version: version.into(),
            attempt_deadline: Duration::from_secs(10),
            total_deadline: Duration::from_secs(30),
            attempts: 4,
            rate_per_second: 80,
            burst: 80,
            body_max: 8 * 1024 * 1024,
            in_flight: 32,
            breaker_pause: Duration::from_secs(10),
        }
    }

    /// The base URL, or why it cannot be one.
    pub(super) fn base_url(&self) -> Result<Url, SettingsError> {
        transport::base_url(&self.base).map_err(SettingsError::Base)
    }

    /// `Authorization`, marked sensitive so that no layer below prints it.
    pub(super) fn authorization(&self) -> Result<HeaderValue, SettingsError> {
        transport::authorization(&self.key).ok_or(SettingsError::Key)
    }

    pub(super) fn version_header(&self) -> Result<HeaderValue, SettingsError> {
        if self.version.is_empty() || !self.version.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SettingsError::Version);
        }
        HeaderValue::from_str(&self.version).map_err(|_| SettingsError::Version)
    }

    /// A limit of nought would make a client that can never answer: refuse it at start, not at noon.
    pub(super) fn check_limits(&self) -> Result<(), SettingsError> {
        let limits = [
            ("attempt_deadline", self.attempt_deadline.is_zero()),
            ("total_deadline", self.total_deadline.is_zero()),
            ("attempts", self.attempts == 0),
            ("rate_per_second", self.rate_per_second == 0),
            ("burst", self.burst == 0),
            ("body_max", self.body_max == 0),
            ("in_flight", self.in_flight == 0),
        ];
        match limits.into_iter().find(|(_, nought)| *nought) {
            Some((name, _)) => Err(SettingsError::Zero(name)),
            None => Ok(()),
        }
    }
}

/// Why no client can be made of these settings. Names the setting, never its value.
#[derive(Debug)]
pub enum SettingsError {
    /// The base URL is unusable.
    Base(&'static str),
    /// The key is empty or holds what no header may hold.
    Key,
    /// The version is empty or holds what no header may hold.
    Version,
    /// This limit is nought.
    Zero(&'static str),
    /// The TLS or HTTP machinery could not be set up: no trusted root certificates on this machine, for one.
    Client(Box<dyn std::error::Error + Send + Sync>),
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingsError::Base(problem) => write!(f, "the base URL of Stripe {problem}"),
            SettingsError::Key => {
                f.write_str("the secret key of Stripe is empty or holds spaces or control characters")
            }
            SettingsError::Version => f.write_str("the version of Stripe's API is empty or malformed"),
            SettingsError::Zero(name) => write!(f, "the limit {name} of the Stripe client must be above zero"),
            SettingsError::Client(_) => f.write_str("the HTTP client for Stripe cannot be set up"),
        }
    }
}

impl std::error::Error for SettingsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SettingsError::Client(source) => Some(source.as_ref()),
            SettingsError::Base(_) | SettingsError::Key | SettingsError::Version | SettingsError::Zero(_) => None,
        }
    }
}
