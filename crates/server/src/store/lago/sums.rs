//! What was delivered, in sums: what a comparison with Lago is made by.

use crate::error::{Error, Result};
use crate::store::Tx;
use crate::store::db::args;

/// Periods of all time zones begin with a quarter of an hour.
pub const QUARTER_MS: i64 = 900_000;

/// What was delivered to a subscription under one code in one quarter of an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    pub external_id: String,
    pub code: String,
    pub quarter_ms: i64,
    /// Millionths; less than nothing where events were taken back.
    pub units: i64,
    pub events: i64,
}

/// Adds to the sums, or takes from them.
pub fn add_sum(tx: &mut Tx<'_>, sum: &Sum) -> Result<()> {
    let row = tx.row(
        "SELECT units_micro, events FROM lago_sums WHERE external_id = ?1 AND code = ?2 AND quarter_ms = ?3",
        args![&sum.external_id, &sum.code, sum.quarter_ms],
    )?;
    let (units, events) = row.map_or(Ok((0, 0)), |row| Ok::<_, Error>((row.int(0)?, row.int(1)?)))?;
    // Sums are only compared. Beyond 2^63 millionths they say "very much", and the comparison that there is a difference.
    let (units, events) = (units.saturating_add(sum.units), events.saturating_add(sum.events));
    tx.run(
        "INSERT INTO lago_sums (external_id, code, quarter_ms, units_micro, events) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (external_id, code, quarter_ms) DO UPDATE SET
             units_micro = excluded.units_micro, events = excluded.events",
        args![&sum.external_id, &sum.code, sum.quarter_ms, units, events],
    )?;
    Ok(())
}

/// The sums of a subscription whose quarters touch `from_ms..to_ms`.
pub fn sums(tx: &mut Tx<'_>, external_id: &str, from_ms: i64, to_ms: i64) -> Result<Vec<Sum>> {
    tx.rows(
        "SELECT external_id, code, quarter_ms, units_micro, events FROM lago_sums
         WHERE external_id = ?1 AND quarter_ms > ?2 AND quarter_ms < ?3 ORDER BY code, quarter_ms",
        args![external_id, from_ms.saturating_sub(QUARTER_MS), to_ms],
    )?
    .iter()
    .map(|row| {
        Ok(Sum {
            external_id: row.text(0)?,
            code: row.text(1)?,
            quarter_ms: row.int(2)?,
            units: row.int(3)?,
            events: row.int(4)?,
        })
    })
    .collect()
}

/// Whether anything was delivered under a code since a moment.
pub fn has_sums(tx: &mut Tx<'_>, code: &str, from_ms: i64) -> Result<bool> {
    let sql = "SELECT 1 FROM lago_sums WHERE code = ?1 AND quarter_ms >= ?2 LIMIT 1";
    Ok(tx.row(sql, args![code, from_ms])?.is_some())
}

/// Forgets what was delivered to a subscription from a moment on: all of it is sent again.
pub fn forget_sums(tx: &mut Tx<'_>, external_id: &str, from_ms: i64) -> Result<()> {
    tx.run("DELETE FROM lago_sums WHERE external_id = ?1 AND quarter_ms >= ?2", args![external_id, from_ms])?;
    Ok(())
}

/// Removes sums that nobody will ask for again.
pub fn sweep_sums(tx: &mut Tx<'_>, before_ms: i64) -> Result<()> {
    tx.run("DELETE FROM lago_sums WHERE quarter_ms < ?1", args![before_ms]).map(drop)
}
