//! The sandbox through its own door: real HTTP, every promise of its documentation.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod added_items;
mod balances;
mod currencies;
mod debits;
mod disputes;
mod errors;
mod events;
mod expand;
mod faults;
mod idempotency;
mod invoices;
mod lab;
mod lifecycle;
mod pages;
mod pages_of_stripe;
mod payments;
mod persistence;
mod quotes;
mod receiver;
mod refusals;
mod schedules;
mod seeds;
mod shapes;
mod speed;
mod subscriptions;
mod taxes;
mod test_clocks;
mod webhooks;
