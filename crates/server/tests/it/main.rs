//! The integration tests: one binary, a file for each subject.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so by panicking"
)]

mod harness;

mod access;
mod cli;
mod door;
mod endpoints;
mod input;
mod leaks;
mod mirror;
mod outage;
mod store;
mod stripe_gateway;
mod usage;
