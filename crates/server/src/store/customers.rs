//! Mirrored customers.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::db::args;
use super::mirror::Seen;
use super::{After, Change, Tx};
use crate::error::{Error, Result};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Customer {
    pub id: String,
    pub email: Option<String>,
    pub name: Option<String>,
    pub created: Timestamp,
    pub metadata: BTreeMap<String, String>,
}

pub fn save(tx: &mut Tx<'_>, seen: Seen<'_>, customer: &Customer) -> Result<()> {
    seen.keep(tx)?;
    tx.run(
        "INSERT INTO customers (id, email, name, created, metadata, deleted, run, fingerprint) VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?7)
         ON CONFLICT (id) DO UPDATE SET email = excluded.email, name = excluded.name, created = excluded.created,
             metadata = excluded.metadata, deleted = 0, run = excluded.run, fingerprint = excluded.fingerprint",
        args![
            &customer.id,
            &customer.email,
            &customer.name,
            customer.created,
            metadata_text(&customer.metadata),
            seen.run,
            seen.fingerprint()
        ],
    )?;
    tx.changed(Change::Customer(customer.id.clone()));
    Ok(())
}

/// A page, newest first.
pub fn page(tx: &mut Tx<'_>, after: &After, limit: i64) -> Result<Vec<Customer>> {
    tx.rows(
        "SELECT id, email, name, created, metadata FROM customers WHERE deleted = 0 AND (created, id) < (?1, ?2)
         ORDER BY created DESC, id DESC LIMIT ?3",
        args![after.created, &after.id, limit],
    )?
    .iter()
    .map(|row| {
        Ok(Customer {
            id: row.text(0)?,
            email: row.text_or_null(1)?,
            name: row.text_or_null(2)?,
            created: row.instant(3)?,
            metadata: metadata(&row.text(4)?)?,
        })
    })
    .collect()
}

/// Customers with exactly this e-mail; two are enough to know that it is ambiguous.
pub fn with_email(tx: &mut Tx<'_>, email: &str) -> Result<Vec<String>> {
    tx.rows("SELECT id FROM customers WHERE email = ?1 AND deleted = 0 LIMIT 2", args![email])?
        .iter()
        .map(|row| row.text(0))
        .collect()
}

/// Metadata as it is kept in a column.
pub fn metadata_text(metadata: &BTreeMap<String, String>) -> String {
    serde_json::json!(metadata).to_string()
}

pub fn metadata(text: &str) -> Result<BTreeMap<String, String>> {
    serde_json::from_str(text).map_err(Error::internal)
}

/// Ids in their order, page by page.
pub fn ids(tx: &mut Tx<'_>, after: &str, limit: i64) -> Result<Vec<String>> {
    tx.rows("SELECT id FROM customers WHERE deleted = 0 AND id > ?1 ORDER BY id LIMIT ?2", args![after, limit])?
        .iter()
        .map(|row| row.text(0))
        .collect()
}
