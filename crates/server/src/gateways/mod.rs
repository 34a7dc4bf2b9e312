//! Typed clients of the services Billhook talks to. The only place that may use an HTTP client.

pub mod backoff;
mod bucket;
pub mod lago;
pub mod stripe;
mod transport;
