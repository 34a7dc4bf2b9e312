//! Typed clients of the services Billhook talks to. The only place that may use an HTTP client.

pub mod stripe;
