//! What admins may ask: a file per resource.

pub mod charges;
pub mod customers;
pub mod stats;
pub mod subscriptions;
pub mod usage;
