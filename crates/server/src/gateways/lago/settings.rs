//! What the Lago client has to be told before it may speak.

use std::fmt;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderValue;
use secrecy::SecretString;

use super::super::transport;

/// Everything the client needs. `Debug` never shows the key.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Base URL without `/api/v1`; may carry a path prefix.
    pub base: String,
    /// The organisation's API key.
    pub key: SecretString,
    /// Longest time for one request, body included.
    pub deadline: Duration,
    /// Requests a second. Lago Cloud allows 50 where it promises no more; a Lago of one's own has no limit.
    pub rate_per_second: u32,
    /// Requests that may leave at once after a quiet time.
    pub burst: u32,
    /// Largest accepted response body, in bytes.
    pub body_max: usize,
}

impl Settings {
    /// Settings with the usual limits: 15 s a request, 50 requests a second, 8 MiB.
    pub fn new(base: impl Into<String>, key: SecretString) -> Settings {
        Settings {
            base: base.into(),
            key,
            deadline: Duration::from_secs(15),
            rate_per_second: 50,
            burst: 10,
            body_max: 8 * 1024 * 1024,
        }
    }

    pub(super) fn base_url(&self) -> Result<Url, SettingsError> {
        transport::base_url(&self.base).map_err(SettingsError::Base)
    }

    /// `Authorization`, marked sensitive so that no layer below prints it.
    pub(super) fn authorization(&self) -> Result<HeaderValue, SettingsError> {
        transport::authorization(&self.key).ok_or(SettingsError::Key)
    }
}

/// Why no client can be made of these settings. Names the setting, never its value.
#[derive(Debug)]
pub enum SettingsError {
    /// The base URL is unusable.
    Base(&'static str),
    /// The key is empty or holds what no header may hold.
    Key,
    /// The TLS or HTTP machinery could not be set up.
    Client(Box<dyn std::error::Error + Send + Sync>),
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingsError::Base(problem) => write!(f, "the base URL of Lago {problem}"),
            SettingsError::Key => f.write_str("the API key of Lago is empty or holds spaces or control characters"),
            SettingsError::Client(_) => f.write_str("the HTTP client for Lago cannot be set up"),
        }
    }
}

impl std::error::Error for SettingsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SettingsError::Client(source) => Some(source.as_ref()),
            SettingsError::Base(_) | SettingsError::Key => None,
        }
    }
}
