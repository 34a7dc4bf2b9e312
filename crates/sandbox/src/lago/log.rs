//! What was asked, for assertions: the last requests, as many as fit into 64 MiB.

use jiff::Timestamp;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

const BYTES_MAX: usize = 64 * 1024 * 1024;

/// A request as it arrived, before anything was decided about it. The key is never kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Request {
    /// When it arrived, by the sandbox's clock.
    #[serde(serialize_with = "as_text")]
    pub at: Timestamp,
    /// `GET`, `POST`, `PUT`, `DELETE`.
    pub method: String,
    /// Without the query, still encoded.
    pub path: String,
    /// Still encoded; empty where there was none.
    pub query: String,
    /// What was sent, whole.
    pub body: String,
}

fn as_text<S: serde::Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

impl Request {
    fn size(&self) -> usize {
        size_of::<Request>() + self.path.len() + self.query.len() + self.body.len()
    }
}

#[derive(Debug, Default)]
struct Kept {
    requests: VecDeque<Request>,
    bytes: usize,
}

#[derive(Debug, Default)]
pub(super) struct Log {
    kept: Mutex<Kept>,
}

impl Log {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, request: Request) {
        let mut kept = self.kept();
        kept.bytes += request.size();
        kept.requests.push_back(request);
        while kept.bytes > BYTES_MAX {
            let Some(oldest) = kept.requests.pop_front() else { break };
            kept.bytes -= oldest.size();
        }
    }

    pub(super) fn all(&self) -> Vec<Request> {
        self.kept().requests.iter().cloned().collect()
    }

    pub(super) fn clear(&self) {
        *self.kept() = Kept::default();
    }
}
