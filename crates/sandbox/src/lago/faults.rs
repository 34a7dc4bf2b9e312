//! Scripted trouble: the next requests that match are answered the way Lago answers on a bad day.

use crate::faults::Trouble;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FaultKind {
    /// This status with a body of Lago's form; nothing is executed.
    Status {
        /// HTTP status, 400 to 599.
        status: u16,
        /// `code` in the body, where there is to be one: `write_action_not_allowed_for_event` beside a 403.
        #[serde(default)]
        code: Option<String>,
        /// Headers of the answer, such as `x-ratelimit-reset`.
        #[serde(default)]
        headers: BTreeMap<String, String>,
    },
    /// Nothing is executed and nothing is answered.
    Hang,
    /// Nothing is executed, and something before Lago answers a success of its own.
    Answered {
        /// HTTP status, 200 to 299.
        status: u16,
        /// The body.
        body: String,
    },
    /// The connection is closed before anything is executed.
    Close,
    /// The request is executed, then the connection is closed without an answer: the reply is lost.
    CommitThenClose,
    /// The request is executed, then nothing is ever answered.
    CommitThenHang,
    /// The request is executed, then this status is answered as if it had failed.
    CommitThenStatus {
        /// HTTP status, 400 to 599.
        status: u16,
    },
    /// The request is executed, and half of its answer arrives before the connection ends.
    CommitThenCut,
    /// The request is executed at once and answered late.
    Slow {
        /// How long, in milliseconds.
        milliseconds: u64,
    },
    /// How Lago before 1.39 stored a batch, for as long as this line stands in the script: a refused batch leaves its other
    /// events behind, and an id that is twice in one batch is a 500. `times` and `after` mean nothing here.
    LegacyPartialStore,
    /// `LAGO_EVENTS_BATCH_MAX_LENGTH` of this Lago, for as long as this line stands in the script. `times` and `after` mean
    /// nothing here.
    BatchMax {
        /// So many events at most.
        events: usize,
    },
    /// The jobs that follow an event stand still for as long as this line stands in the script: new events are stored, and
    /// `current_usage` does not show them. Invoices do. `times` and `after` mean nothing here.
    StaleUsage,
}

impl FaultKind {
    /// This status with Lago's body.
    pub fn status(status: u16) -> FaultKind {
        FaultKind::Status { status, code: None, headers: BTreeMap::new() }
    }

    /// Lago Cloud's 429: nothing is left of `limit`, until `reset` seconds from now.
    pub fn rate_limited(limit: u32, reset: u32) -> FaultKind {
        let headers = [("limit", limit), ("remaining", 0), ("reset", reset)];
        let headers = headers.map(|(name, value)| (format!("x-ratelimit-{name}"), value.to_string())).into();
        FaultKind::Status { status: 429, code: None, headers }
    }
}

impl Trouble for FaultKind {
    fn is_mode(&self) -> bool {
        matches!(self, FaultKind::LegacyPartialStore | FaultKind::BatchMax { .. } | FaultKind::StaleUsage)
    }
}

/// One line of the script.
pub type Fault = crate::faults::Fault<FaultKind>;
/// The script, shared with the running sandbox.
pub type Faults = crate::faults::Faults<FaultKind>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_used_up_in_order_and_modes_stay() {
        let faults = Faults::default();
        faults.push(Fault::always("", FaultKind::StaleUsage));
        faults.push(Fault::new("/api/v1/events", 1, FaultKind::Hang).method("post").after(1));
        faults.push(Fault::new("/api/v1/", 1, FaultKind::Close));
        let hit = |method: &str, path: &str| faults.take(method, path);
        assert_eq!(hit("GET", "/health"), None);
        assert_eq!(hit("POST", "/api/v1/events"), Some(FaultKind::Close));
        assert_eq!(hit("GET", "/api/v1/events"), None);
        assert_eq!(hit("POST", "/api/v1/events/batch"), Some(FaultKind::Hang));
        assert_eq!(hit("POST", "/api/v1/events/batch"), None);
        assert!(faults.is_on(&FaultKind::StaleUsage) && !faults.is_on(&FaultKind::LegacyPartialStore));
    }

    #[test]
    fn a_fault_is_written_as_json() {
        let text = r#"{"path_prefix":"/api/","times":1,"kind":"status","status":429,
                       "headers":{"x-ratelimit-limit":"50","x-ratelimit-remaining":"0","x-ratelimit-reset":"2"}}"#;
        let fault: Fault = serde_json::from_str(text).unwrap();
        assert_eq!(fault, Fault::new("/api/", 1, FaultKind::rate_limited(50, 2)));
    }
}
