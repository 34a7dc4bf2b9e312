//! Entries that Lago counts from another moment than their own.

use std::collections::HashMap;

use crate::error::Result;
use crate::store::Tx;
use crate::store::db::args;

/// Remembers that an entry is counted from another moment than its own.
pub fn save_moved(tx: &mut Tx<'_>, position: i64, at_ms: i64) -> Result<()> {
    tx.run(
        "INSERT INTO lago_moved (position, at_ms) VALUES (?1, ?2) ON CONFLICT (position) DO UPDATE SET at_ms = excluded.at_ms",
        args![position, at_ms],
    )?;
    Ok(())
}

/// The entries after this one, up to that one, that are counted from another moment than their own.
pub fn moved(tx: &mut Tx<'_>, after: i64, to: i64) -> Result<HashMap<i64, i64>> {
    let rows =
        tx.rows("SELECT position, at_ms FROM lago_moved WHERE position > ?1 AND position <= ?2", args![after, to])?;
    rows.iter().map(|row| Ok((row.int(0)?, row.int(1)?))).collect()
}
