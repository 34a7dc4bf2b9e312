//! The usage log of the first version, as a migration has put it aside.

use super::Tx;
use super::db::{Dialect, Row, args};
use crate::error::Result;

/// Events after a position: position, transaction id, user, type, quantity, time, arrival, properties. Nothing where there is no
/// such log any more.
pub fn events(tx: &mut Tx<'_>, after: i64, most: i64) -> Result<Option<Vec<Row>>> {
    let there = match tx.dialect() {
        Dialect::Sqlite => tx.row("SELECT 1 FROM sqlite_schema WHERE name = 'usage_events_0001'", args![])?,
        Dialect::Postgres => tx.row("SELECT 1 FROM pg_tables WHERE tablename = 'usage_events_0001'", args![])?,
    };
    if there.is_none() {
        return Ok(None);
    }
    tx.rows(
        "SELECT position, transaction_id, user_id, type, quantity_micro, event_ms, received_ms, properties
         FROM usage_events_0001 WHERE position > ?1 ORDER BY position LIMIT ?2",
        args![after, most],
    )
    .map(Some)
}

/// It is taken over.
pub fn forget(tx: &mut Tx<'_>) -> Result<()> {
    for sql in ["DROP TABLE usage_events_0001", "DROP TABLE usage_keys", "DROP TABLE usage_hours"] {
        tx.run(sql, args![])?;
    }
    Ok(())
}
