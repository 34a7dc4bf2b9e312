//! The integration tests: one binary, a file for each subject.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so by panicking"
)]

#[macro_use]
mod harness;

mod access;
mod cli;
mod corrections;
mod counters;
mod door;
mod endpoints;
mod input;
mod keys;
mod lago;
mod leaks;
mod log;
mod metering;
mod mirror;
mod news;
mod outage;
mod store;
mod stripe_gateway;
mod usage;
mod verify;
mod webhooks;
