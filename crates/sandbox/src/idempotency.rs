//! Idempotency keys: the same key and parameters again get the first answer, other parameters are refused, and a key
//! whose first request is still running is a conflict. Keys are kept for a day, as Stripe does at least.

use crate::error::StripeError;
use base64::Engine as _;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

const KEPT_SECONDS: i64 = 24 * 60 * 60;

/// An answer that is given again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Saved {
    pub(crate) key: String,
    /// Method, path and parameters in one canonical text, hashed.
    pub(crate) asked: String,
    /// The path alone; empty where an older sandbox has written this.
    #[serde(default)]
    pub(crate) path: String,
    pub(crate) at: i64,
    pub(crate) request_id: String,
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// What a key says about a request.
pub(crate) enum Verdict {
    /// Never seen: go on, and tell [`Idempotency::finish`] when done.
    Fresh,
    /// Seen and answered.
    Again(Saved),
}

#[derive(Debug, Default)]
pub(crate) struct Idempotency {
    saved: HashMap<String, Saved>,
    running: HashSet<String>,
    swept_at: i64,
}

/// The fingerprint of a request.
pub(crate) fn fingerprint(method: &str, path: &str, parameters: &str) -> String {
    let text = format!("{method} {path}\n{parameters}");
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(digest)
}

impl Idempotency {
    pub(crate) fn begin(&mut self, key: &str, path: &str, asked: &str, now: i64) -> Result<Verdict, StripeError> {
        if key.len() > 255 {
            let text = "The idempotency key is too long: keys can have up to 255 characters.";
            return Err(StripeError::new(400, "idempotency_error", text));
        }
        self.sweep(now);
        if self.running.contains(key) {
            let text = format!(
                "There is currently another in-progress request using this Idempotent Key (that probably means you \
                 submitted twice, and the other request is still going through): {key}. Please try again later."
            );
            return Err(StripeError::new(409, "idempotency_error", text).code("idempotency_key_in_use"));
        }
        match self.saved.get(key).filter(|saved| now - saved.at < KEPT_SECONDS) {
            Some(saved) if saved.asked == asked => Ok(Verdict::Again(saved.clone())),
            Some(saved) if !saved.path.is_empty() && saved.path != path => Err(StripeError::new(
                400,
                "idempotency_error",
                format!(
                    "Keys for idempotent requests can only be used for the same endpoint they were first used for \
                     ('{path}' vs '{}'). Try using a key other than '{key}' if you meant to execute a different request.",
                    saved.path
                ),
            )),
            Some(_) => Err(StripeError::new(
                400,
                "idempotency_error",
                format!(
                    "Keys for idempotent requests can only be used with the same parameters they were first used with. \
                     Try using a key other than '{key}' if you meant to execute a different request."
                ),
            )),
            None => {
                self.running.insert(key.to_owned());
                Ok(Verdict::Fresh)
            }
        }
    }

    /// Forgets what is too old, at most once an hour of the sandbox's own time.
    fn sweep(&mut self, now: i64) {
        if now - self.swept_at >= 3600 {
            self.saved.retain(|_, saved| now - saved.at < KEPT_SECONDS);
            self.swept_at = now;
        }
    }

    /// The request is over; its answer is kept where it is worth keeping.
    pub(crate) fn finish(&mut self, key: &str, saved: Option<&Saved>) {
        self.running.remove(key);
        if let Some(saved) = saved {
            self.saved.insert(key.to_owned(), saved.clone());
        }
    }

    pub(crate) fn restore(&mut self, saved: Saved) {
        self.saved.insert(saved.key.clone(), saved);
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Saved> {
        self.saved.values()
    }
}
