//! How far the log has been taken into windows: what was passed by on the way, and to which tier it has brought each user.

use crate::error::{Error, Result};
use crate::store::Tx;
use crate::store::db::args;

/// How far the log has been taken into windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The last entry that is in a window, or was judged not to be for Lago.
    pub position: i64,
    /// Tries in a row that failed.
    pub failures: u32,
    /// What keeps us from going on.
    pub fault: Option<Fault>,
}

/// Why nothing is sent now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub text: String,
    pub since_ms: i64,
}

pub fn cursor(tx: &mut Tx<'_>) -> Result<Cursor> {
    let row = tx.row("SELECT position, failures, fault, fault_ms FROM lago_cursor WHERE one = 1", args![])?;
    let row = row.ok_or_else(|| Error::internal("lago_cursor is empty"))?;
    let fault = match (row.text_or_null(2)?, row.int_or_null(3)?) {
        (Some(text), Some(since_ms)) => Some(Fault { text, since_ms }),
        (None, None) => None,
        _ => return Err(Error::internal("impossible row: a fault of Lago's has a text and a time")),
    };
    Ok(Cursor { position: row.int(0)?, failures: u32::try_from(row.count(1)?).unwrap_or(u32::MAX), fault })
}

/// Moves the cursor, unless somebody else has moved it meanwhile.
pub fn advance(tx: &mut Tx<'_>, from: i64, to: i64) -> Result<bool> {
    let sql = "UPDATE lago_cursor SET position = ?2 WHERE one = 1 AND position = ?1";
    Ok(tx.run(sql, args![from, to])? == 1)
}

pub fn set_failing(tx: &mut Tx<'_>, failures: u32, fault: Option<&Fault>) -> Result<()> {
    tx.run(
        "UPDATE lago_cursor SET failures = ?1, fault = ?2, fault_ms = ?3 WHERE one = 1",
        args![failures, fault.map(|fault| fault.text.clone()), fault.map(|fault| fault.since_ms)],
    )?;
    Ok(())
}

/// The tier that the log gave a user last.
pub fn tier(tx: &mut Tx<'_>, user: &str) -> Result<Option<String>> {
    tx.row("SELECT tier FROM lago_tiers WHERE user_id = ?1", args![user])?.map(|row| row.text(0)).transpose()
}

pub fn save_tier(tx: &mut Tx<'_>, user: &str, tier: &str) -> Result<()> {
    tx.run(
        "INSERT INTO lago_tiers (user_id, tier) VALUES (?1, ?2) ON CONFLICT (user_id) DO UPDATE SET tier = excluded.tier",
        args![user, tier],
    )?;
    Ok(())
}

/// Counts entries that are not for Lago.
pub fn skip(tx: &mut Tx<'_>, reason: &str, entries: i64) -> Result<()> {
    tx.run(
        "INSERT INTO lago_skips (reason, entries) VALUES (?1, ?2)
         ON CONFLICT (reason) DO UPDATE SET entries = lago_skips.entries + excluded.entries",
        args![reason, entries],
    )?;
    Ok(())
}

pub fn skips(tx: &mut Tx<'_>) -> Result<Vec<(String, u64)>> {
    let rows = tx.rows("SELECT reason, entries FROM lago_skips ORDER BY reason", args![])?;
    rows.iter().map(|row| Ok((row.text(0)?, row.count(1)?))).collect()
}
