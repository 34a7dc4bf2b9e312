//! The door and everything behind it that speaks HTTP.

pub mod admin;
pub mod answer;
pub mod body;
pub mod codes;
pub mod docs;
pub mod door;
pub mod edge;
pub mod error;
pub mod extract;
pub mod health;
pub mod hosts;
pub mod invoices;
pub mod metrics;
pub mod openapi;
pub mod payment_methods;
pub mod query;
mod reference;
pub mod router;
mod socket;
pub mod subscription;
pub mod usage;
mod visit;
pub mod wire;
