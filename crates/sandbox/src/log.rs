//! What was asked, for assertions: the last few thousand requests.

use crate::http::Arrived;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

const KEPT: usize = 5_000;
const BODY_KEPT: usize = 4_096;

/// A request as it arrived, before anything was decided about it. The key is never kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Request {
    /// `GET`, `POST`, `DELETE`.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Still encoded; empty where there was none.
    pub query: String,
    /// The form that was sent, still encoded, cut at 4 KiB.
    pub body: String,
    /// The `Idempotency-Key` header.
    pub idempotency_key: Option<String>,
    /// The `Stripe-Version` header.
    pub stripe_version: Option<String>,
}

impl Request {
    pub(crate) fn of(arrived: &Arrived) -> Request {
        let mut body = arrived.body.clone();
        body.truncate(body.floor_char_boundary(BODY_KEPT));
        Request {
            method: arrived.method.clone(),
            path: arrived.path.clone(),
            query: arrived.query.clone(),
            body,
            idempotency_key: arrived.header("idempotency-key").map(str::to_owned),
            stripe_version: arrived.header("stripe-version").map(str::to_owned),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Log {
    requests: Mutex<VecDeque<Request>>,
}

impl Log {
    pub(crate) fn push(&self, request: Request) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() == KEPT {
            requests.pop_front();
        }
        requests.push_back(request);
    }

    pub(crate) fn all(&self) -> Vec<Request> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    pub(crate) fn clear(&self) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
