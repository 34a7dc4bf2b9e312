//! The sandbox through its own door: real HTTP, every promise of its documentation.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod errors;
mod expand;
mod faults;
mod idempotency;
mod lab;
mod pages;
mod persistence;
mod seeds;
mod shapes;
mod subscriptions;
