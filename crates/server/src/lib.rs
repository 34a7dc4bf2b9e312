//! Billhook's server: the parts of the binary, open to the tests.

pub mod answers;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod counters;
pub mod error;
pub mod gateways;
pub mod http;
pub mod jobs;
pub mod ops;
pub mod sessions;
pub mod store;
pub mod telemetry;
