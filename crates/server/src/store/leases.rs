//! Leases: who does work that only one process may do. They run by the time of the database: the clocks of two machines differ.

use super::Tx;
use super::db::{Dialect, args};
use crate::error::{Error, Result};

/// Takes a lease or keeps it, for so long; its token, or nothing while somebody else holds it. A new holder has a greater token.
pub fn take(tx: &mut Tx<'_>, name: &str, holder: &str, length_ms: i64) -> Result<Option<i64>> {
    let now_ms = now_ms(tx)?;
    tx.run(
        "INSERT INTO leases (name, holder, token, until_ms) VALUES (?1, '', 0, 0) ON CONFLICT (name) DO NOTHING",
        args![name],
    )?;
    let taken = tx.row(
        "UPDATE leases SET token = token + CASE WHEN holder = ?2 THEN 0 ELSE 1 END, holder = ?2, until_ms = ?4
         WHERE name = ?1 AND (holder = ?2 OR until_ms <= ?3) RETURNING token",
        args![name, holder, now_ms, now_ms.saturating_add(length_ms)],
    )?;
    taken.map(|row| row.int(0)).transpose()
}

/// Whether work is ours that one process may do at a time: a SQLite file has one that serves, elsewhere it takes the lease.
pub fn is_ours(tx: &mut Tx<'_>, name: &str, holder: &str, length_ms: i64) -> Result<bool> {
    Ok(tx.dialect() == Dialect::Sqlite || take(tx, name, holder, length_ms)?.is_some())
}

/// Gives a lease back.
pub fn release(tx: &mut Tx<'_>, name: &str, holder: &str) -> Result<()> {
    tx.run("UPDATE leases SET until_ms = 0 WHERE name = ?1 AND holder = ?2", args![name, holder])?;
    Ok(())
}

/// A process among those that serve a database, and a word that it says there of itself, such as by which catalogue. Each has a
/// lease of its own, whose holder is its word.
#[derive(Debug, Clone)]
pub struct Presence {
    kind: &'static str,
    lease: String,
    word: String,
}

impl Presence {
    pub fn new(kind: &'static str, process: &str, word: String) -> Self {
        Self { kind, lease: format!("{kind} {process}"), word }
    }

    /// What the others say that run. One after the other asks: of two that start together, the second sees the first.
    pub fn others(&self, tx: &mut Tx<'_>) -> Result<Vec<String>> {
        take(tx, self.kind, &self.word, 0)?;
        let (all, now_ms) = (format!("{} %", self.kind), now_ms(tx)?);
        let over = "DELETE FROM leases WHERE name LIKE ?1 AND name <> ?2 AND until_ms <= ?3";
        tx.run(over, args![&*all, &*self.lease, now_ms])?;
        let rows =
            tx.rows("SELECT holder FROM leases WHERE name LIKE ?1 AND name <> ?2", args![&*all, &*self.lease])?;
        rows.iter().map(|row| row.text(0)).collect()
    }

    /// Says the word, for so long.
    pub fn say(&self, tx: &mut Tx<'_>, length_ms: i64) -> Result<()> {
        take(tx, &self.lease, &self.word, length_ms).map(drop)
    }

    pub fn end(&self, tx: &mut Tx<'_>) -> Result<()> {
        release(tx, &self.lease, &self.word)
    }
}

/// Not that of the transaction, which may have waited since.
fn now_ms(tx: &mut Tx<'_>) -> Result<i64> {
    let sql = match tx.dialect() {
        Dialect::Sqlite => "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)",
        Dialect::Postgres => "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
    };
    tx.row(sql, args![])?.ok_or_else(|| Error::internal("the database does not tell the time"))?.int(0)
}
