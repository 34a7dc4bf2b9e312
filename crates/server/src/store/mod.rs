//! What the program remembers: one file per noun, one SQL text for both databases.

pub mod charges;
pub mod customers;
pub mod db;
pub mod facts;
pub mod invoices;
pub mod migrations;
pub mod mirror;
pub mod parts;
pub mod payment_methods;
pub mod refunds;
pub mod sessions;
pub mod subscriptions;
pub mod syncs;
pub mod totals;
pub mod usage;
pub mod users;

pub use self::db::{Change, Db, Tx};

/// Where a page of a list begins: after this row, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    pub created: i64,
    pub id: String,
}

impl After {
    /// Before the newest row.
    pub fn start() -> Self {
        Self { created: i64::MAX, id: String::new() }
    }
}
