//! The Lago sandbox through its own door: real HTTP, and the contract cases one by one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod customers;
mod events;
mod faults;
mod lab;
mod state;
mod subscriptions;
mod usage;
mod wallets;
mod webhooks;
mod wire;
