//! The use cases: a file for each noun, called by http, jobs and the command line alike.

pub mod charges;
pub mod customers;
pub mod derivation;
pub mod doctor;
pub mod invoices;
pub mod made_up;
pub mod mirror;
pub mod page;
pub mod payment_methods;
pub mod readiness;
pub mod revenue;
pub mod sessions;
pub mod subscriptions;
pub mod sync;
pub mod usage;
pub mod users;
