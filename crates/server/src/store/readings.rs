//! The order of our looks at Stripe, which look each mirrored object comes from, and what it was before.

use super::Tx;
use super::db::args;
use super::mirror::Resource;
use crate::error::{Error, Result};

/// How many earlier texts of one object are kept.
const HISTORY_MAX: i64 = 20;

/// Where the mirrored state of an object comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The place among all looks: a later look has a greater number.
    pub ticket: i64,
    /// Stripe's second in which the look ended at the latest.
    pub until_s: i64,
    /// The newest event that the state includes for sure, in Stripe's seconds.
    pub event_created: Option<i64>,
}

/// A state that was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Previous {
    pub ticket: i64,
    pub replaced_ms: i64,
    /// The event, or `sync`, `customer`, `verify`.
    pub cause: String,
    pub raw: String,
}

/// The number of a look that begins after this transaction. Whoever commits later has a greater one, in all processes.
pub fn take_ticket(tx: &mut Tx<'_>) -> Result<i64> {
    let sql = "UPDATE reading_tickets SET ticket = ticket + 1 WHERE one = 1 RETURNING ticket";
    tx.row(sql, args![])?.ok_or_else(|| Error::internal("reading_tickets is empty"))?.int(0)
}

/// The look that an object's state comes from; nothing where it was never written down.
pub fn of(tx: &mut Tx<'_>, resource: Resource, id: &str) -> Result<Option<Reading>> {
    let sql = "SELECT ticket, until_s, event_created FROM readings WHERE resource = ?1 AND id = ?2";
    let row = tx.row(sql, args![resource.name(), id])?;
    row.map(|row| Ok(Reading { ticket: row.int(0)?, until_s: row.int(1)?, event_created: row.int_or_null(2)? }))
        .transpose()
}

/// Writes down where the state of an object comes from now.
pub fn save(tx: &mut Tx<'_>, resource: Resource, id: &str, reading: &Reading) -> Result<()> {
    tx.run(
        "INSERT INTO readings (resource, id, ticket, until_s, event_created) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (resource, id) DO UPDATE SET
             ticket = excluded.ticket, until_s = excluded.until_s, event_created = excluded.event_created",
        args![resource.name(), id, reading.ticket, reading.until_s, reading.event_created],
    )?;
    Ok(())
}

/// Keeps the text that is about to be replaced, and forgets the oldest where there are many.
pub fn remember(tx: &mut Tx<'_>, resource: Resource, id: &str, previous: &Previous) -> Result<()> {
    tx.run(
        "INSERT INTO object_history (object_id, ticket, resource, replaced_ms, cause, raw) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (resource, object_id, ticket) DO NOTHING",
        args![id, previous.ticket, resource.name(), previous.replaced_ms, &previous.cause, &previous.raw],
    )?;
    tx.run(
        "DELETE FROM object_history WHERE resource = ?1 AND object_id = ?2 AND ticket <=
             (SELECT ticket FROM object_history WHERE resource = ?1 AND object_id = ?2 ORDER BY ticket DESC LIMIT 1 OFFSET ?3)",
        args![resource.name(), id, HISTORY_MAX],
    )?;
    Ok(())
}

/// What an object was before, newest first.
pub fn history(tx: &mut Tx<'_>, resource: Resource, id: &str) -> Result<Vec<Previous>> {
    let sql = "SELECT ticket, replaced_ms, cause, raw FROM object_history WHERE resource = ?1 AND object_id = ?2
         ORDER BY ticket DESC";
    let rows = tx.rows(sql, args![resource.name(), id])?;
    rows.iter()
        .map(|row| {
            Ok(Previous { ticket: row.int(0)?, replaced_ms: row.int(1)?, cause: row.text(2)?, raw: row.text(3)? })
        })
        .collect()
}
