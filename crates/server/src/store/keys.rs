//! Keys of services. Only the hash of a key is kept.

use jiff::Timestamp;

use super::db::{Row, args};
use super::{Change, Tx};
use crate::error::{Error, Result};

/// A key of a service, as the database knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceKey {
    pub id: String,
    /// What the operator calls it.
    pub name: String,
    /// What it may do, separated by blanks.
    pub scopes: String,
    pub created_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
}

const COLUMNS_OF_ALL: &str =
    "SELECT id, name, scopes, created_at, revoked_at FROM service_keys ORDER BY created_at, id";

fn key(row: &Row) -> Result<ServiceKey> {
    let revoked_at = row.int_or_null(4)?.map(Timestamp::from_second).transpose().map_err(Error::internal)?;
    Ok(ServiceKey {
        id: row.text(0)?,
        name: row.text(1)?,
        scopes: row.text(2)?,
        created_at: row.instant(3)?,
        revoked_at,
    })
}

pub fn add(tx: &mut Tx<'_>, key: &ServiceKey, key_hash: &str) -> Result<()> {
    tx.run(
        "INSERT INTO service_keys (id, name, key_hash, scopes, created_at, revoked_at) VALUES (?1, ?2, ?3, ?4, ?5, NULL)",
        args![&key.id, &key.name, key_hash, &key.scopes, key.created_at],
    )?;
    Ok(())
}

/// The key with this hash, unless it was revoked.
pub fn get(tx: &mut Tx<'_>, key_hash: &str) -> Result<Option<ServiceKey>> {
    tx.row(
        "SELECT id, name, scopes, created_at, revoked_at FROM service_keys WHERE key_hash = ?1 AND revoked_at IS NULL",
        args![key_hash],
    )?
    .as_ref()
    .map(key)
    .transpose()
}

/// Every key, oldest first, revoked ones included. There are as many as there are services.
pub fn all(tx: &mut Tx<'_>) -> Result<Vec<ServiceKey>> {
    tx.rows(COLUMNS_OF_ALL, args![])?.iter().map(key).collect()
}

/// Revokes a key; whether there was one that was not revoked yet.
pub fn revoke(tx: &mut Tx<'_>, id: &str, now: Timestamp) -> Result<bool> {
    let revoked =
        tx.run("UPDATE service_keys SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL", args![id, now])?;
    // Rare, and everything that is kept can be read again.
    tx.changed(Change::Everything);
    Ok(revoked > 0)
}
