//! Scripted trouble: the next requests that match are answered the way a bad day would.

use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FaultKind {
    /// This status with an error body of Stripe's form; nothing is executed. A 500 is kept under the idempotency key.
    Status {
        /// HTTP status, 400 to 599.
        status: u16,
        /// Value of `Retry-After`, where there is to be one.
        #[serde(default)]
        retry_after: Option<String>,
        /// Value of `Stripe-Should-Retry`, where there is to be one.
        #[serde(default)]
        should_retry: Option<bool>,
    },
    /// The connection is reset (RST) before anything is executed.
    Reset,
    /// The request is executed, then nothing is ever answered.
    TimeoutAfterCommit,
    /// The request is executed, then the connection is closed without an answer.
    DropAfterCommit,
    /// Nothing is executed and nothing is answered.
    Hang,
    /// The request waits before it is executed; its idempotency key is in use meanwhile.
    Delay {
        /// How long, in milliseconds.
        milliseconds: u64,
    },
    /// The headers of the answer never end.
    EndlessHeaders,
    /// The right answer, this slowly.
    SlowBody {
        /// Bytes a second, at least one.
        bytes_per_second: u32,
    },
    /// The right answer, of which half arrives: `Content-Length` promises more, then the connection ends.
    TruncatedBody,
    /// Half of the right answer with a `Content-Length` that fits: broken JSON.
    CutJson,
    /// Status 200 and a page of HTML.
    Html,
    /// Status 200 and a JSON list that does not end before so many bytes.
    HugeBody {
        /// Size of the body in bytes.
        bytes: u64,
    },
    /// The right page, but `has_more` says the opposite.
    HasMoreLie,
    /// The right page, but its first row stands there twice.
    DuplicateRows,
}

/// A way in which a server can go wrong; each sandbox has its own.
pub trait Trouble: Clone + PartialEq {
    /// Whether this is a way to be, as long as its line stands in the script, and not a mishap of single requests.
    fn is_mode(&self) -> bool {
        false
    }
}

impl Trouble for FaultKind {}

/// One line of the script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault<K = FaultKind> {
    /// Only this method; any where not given.
    #[serde(default)]
    pub method: Option<String>,
    /// Only paths that begin like this; empty matches all.
    #[serde(default)]
    pub path_prefix: String,
    /// This many matching requests pass first.
    #[serde(default)]
    pub after: u32,
    /// How many requests are hit; all that follow where not given.
    #[serde(default)]
    pub times: Option<u32>,
    /// What happens to them.
    #[serde(flatten)]
    pub kind: K,
}

impl<K> Fault<K> {
    /// A fault for the next `times` requests below a path, of any method.
    pub fn new(path_prefix: impl Into<String>, times: u32, kind: K) -> Self {
        Fault { method: None, path_prefix: path_prefix.into(), after: 0, times: Some(times), kind }
    }

    /// A fault for all requests below a path until the script is cleared.
    pub fn always(path_prefix: impl Into<String>, kind: K) -> Self {
        Fault { method: None, path_prefix: path_prefix.into(), after: 0, times: None, kind }
    }

    /// The same, for one method only.
    #[must_use]
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.method = Some(method.into());
        self
    }

    /// The same, after so many matching requests have passed.
    #[must_use]
    pub fn after(mut self, requests: u32) -> Self {
        self.after = requests;
        self
    }

    fn matches(&self, method: &str, path: &str) -> bool {
        self.method.as_ref().is_none_or(|own| own.eq_ignore_ascii_case(method)) && path.starts_with(&self.path_prefix)
    }
}

/// The script, shared with the running sandbox. The handle can be kept and cloned.
#[derive(Debug, Clone)]
pub struct Faults<K = FaultKind> {
    script: Arc<Mutex<Vec<Fault<K>>>>,
}

impl<K> Default for Faults<K> {
    fn default() -> Self {
        Self { script: Arc::default() }
    }
}

impl<K: Trouble> Faults<K> {
    fn script(&self) -> MutexGuard<'_, Vec<Fault<K>>> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line at the end of the script.
    pub fn push(&self, fault: Fault<K>) {
        self.script().push(fault);
    }

    /// Ends all trouble.
    pub fn clear(&self) {
        self.script().clear();
    }

    /// What is still to come.
    pub fn pending(&self) -> Vec<Fault<K>> {
        self.script().clone()
    }

    /// Whether a way to be is on.
    pub(crate) fn is_on(&self, mode: &K) -> bool {
        self.script().iter().any(|fault| fault.kind == *mode)
    }

    /// The first line that hits this request, which is then used up by one.
    pub(crate) fn take(&self, method: &str, path: &str) -> Option<K> {
        let mut script = self.script();
        let place = script.iter_mut().position(|fault| {
            let hit = !fault.kind.is_mode() && fault.times != Some(0) && fault.matches(method, path);
            if hit && fault.after > 0 {
                fault.after -= 1;
                return false;
            }
            hit
        })?;
        let kind = script[place].kind.clone();
        if let Some(times) = &mut script[place].times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                script.remove(place);
            }
        }
        Some(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_used_up_in_order() {
        let faults = Faults::default();
        faults.push(Fault::new("/v1/customers", 2, FaultKind::Reset).method("post").after(1));
        faults.push(Fault::new("/v1/", 1, FaultKind::Html));
        let hit = |method: &str, path: &str| faults.take(method, path);
        assert_eq!(hit("GET", "/v2"), None);
        assert_eq!(hit("POST", "/v1/customers"), Some(FaultKind::Html));
        assert_eq!(hit("GET", "/v1/customers"), None);
        assert_eq!(hit("POST", "/v1/customers"), Some(FaultKind::Reset));
        assert_eq!(hit("POST", "/v1/customers/cus_1"), Some(FaultKind::Reset));
        assert_eq!(hit("POST", "/v1/customers"), None);
    }

    #[test]
    fn a_fault_is_written_as_json() {
        let text = r#"{"path_prefix":"/v1/","times":1,"kind":"status","status":429,"retry_after":"2"}"#;
        let fault: Fault = serde_json::from_str(text).unwrap();
        let kind = FaultKind::Status { status: 429, retry_after: Some("2".into()), should_retry: None };
        assert_eq!(fault, Fault::new("/v1/", 1, kind));
    }
}
