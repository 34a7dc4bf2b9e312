//! What the program remembers: one file per noun, one SQL text for both databases.

pub mod accounts;
pub mod charges;
pub mod customers;
pub mod db;
pub mod facts;
pub mod first_log;
pub mod identities;
pub mod invoices;
pub mod keys;
pub mod lago;
pub mod leases;
pub mod log;
pub mod migrations;
pub mod mirror;
pub mod parts;
pub mod payment_methods;
pub mod plans;
pub mod proof;
pub mod readings;
pub mod refunds;
pub mod reservations;
pub mod revenue;
pub mod sessions;
pub mod subscriptions;
pub mod syncs;
pub mod totals;
pub mod users;
pub mod verification;
pub mod webhooks;

use jiff::Timestamp;

pub use self::db::{Change, Db, Tx};

/// Where a page of a list begins: after this row, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    pub created: i64,
    pub id: String,
}

impl After {
    pub fn row(created: Timestamp, id: &str) -> Self {
        Self { created: created.as_second(), id: id.to_owned() }
    }

    /// Before the newest row.
    pub fn start() -> Self {
        Self { created: i64::MAX, id: String::new() }
    }
}
