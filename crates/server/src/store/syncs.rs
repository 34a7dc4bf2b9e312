//! How far the full sync has come with each list.

use jiff::Timestamp;

use super::db::{Row, args};
use super::{Change, Tx};
use crate::error::{Error, Result};

/// The state of one list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListState {
    pub resource: String,
    /// The number of the run that is under way, or of the last one.
    pub run: i64,
    /// The last object read, while a run is under way.
    pub cursor: Option<String>,
    /// Objects read in this run.
    pub objects: u64,
    /// When the run that is under way began; nothing between runs.
    pub started_at: Option<Timestamp>,
    /// When the last run that read the list to its end began: what is mirrored is at least as new.
    pub as_of: Option<Timestamp>,
    /// Why the last run did not come to the end, or that the server does not have this list.
    pub fault: Option<String>,
}

fn sync(row: &Row) -> Result<ListState> {
    Ok(ListState {
        resource: row.text(0)?,
        run: row.int(1)?,
        cursor: row.text_or_null(2)?,
        objects: row.count(3)?,
        started_at: row.instant_or_null(4)?,
        as_of: row.instant_or_null(5)?,
        fault: row.text_or_null(6)?,
    })
}

pub fn get(tx: &mut Tx<'_>, resource: &str) -> Result<Option<ListState>> {
    tx.row(
        "SELECT resource, run, cursor, objects, started_at, as_of, fault FROM syncs WHERE resource = ?1",
        args![resource],
    )?
    .as_ref()
    .map(sync)
    .transpose()
}

pub fn all(tx: &mut Tx<'_>) -> Result<Vec<ListState>> {
    tx.rows("SELECT resource, run, cursor, objects, started_at, as_of, fault FROM syncs ORDER BY resource", args![])?
        .iter()
        .map(sync)
        .collect()
}

pub fn save(tx: &mut Tx<'_>, sync: &ListState) -> Result<()> {
    tx.run(
        "INSERT INTO syncs (resource, run, cursor, objects, started_at, as_of, fault)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (resource) DO UPDATE SET
             run = excluded.run, cursor = excluded.cursor, objects = excluded.objects, started_at = excluded.started_at,
             as_of = excluded.as_of, fault = excluded.fault",
        args![
            &sync.resource,
            sync.run,
            &sync.cursor,
            i64::try_from(sync.objects).unwrap_or(i64::MAX),
            sync.started_at,
            sync.as_of,
            &sync.fault
        ],
    )?;
    tx.changed(Change::Totals);
    Ok(())
}

/// A run that another process has brought to its end is not gone on with.
pub fn still_ours(tx: &mut Tx<'_>, state: &ListState) -> Result<()> {
    let known = get(tx, &state.resource)?;
    // The row holds whole seconds; the run that has just begun knows its start more exactly.
    let start = |state: &ListState| state.started_at.map(Timestamp::as_second);
    if known.is_some_and(|known| known.run == state.run && start(&known) == start(state)) {
        return Ok(());
    }
    Err(Error::Conflict { code: "sync.elsewhere", detail: "another process is syncing this database".to_owned() })
}

/// When a customer was last read on their own.
pub fn customer_as_of(tx: &mut Tx<'_>, customer: &str) -> Result<Option<Timestamp>> {
    tx.row("SELECT as_of FROM customer_syncs WHERE customer = ?1", args![customer])?
        .map(|row| row.instant(0))
        .transpose()
}

pub fn complete_customer(tx: &mut Tx<'_>, customer: &str, at: Timestamp) -> Result<()> {
    tx.run(
        "INSERT INTO customer_syncs (customer, as_of) VALUES (?1, ?2)
         ON CONFLICT (customer) DO UPDATE SET as_of = excluded.as_of",
        args![customer, at],
    )?;
    tx.changed(Change::Customer(customer.to_owned()));
    Ok(())
}
