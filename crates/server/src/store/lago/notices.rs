//! Webhooks of Lago's, kept until they are applied and a while longer.

use crate::error::Result;
use crate::store::Tx;
use crate::store::db::args;

/// Keeps a webhook under Lago's own key of it; false when it came before.
pub fn keep_notice(tx: &mut Tx<'_>, unique_key: &str, received_ms: i64, body: &str) -> Result<bool> {
    let kept = tx.run(
        "INSERT INTO lago_notices (unique_key, received_ms, body) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        args![unique_key, received_ms, body],
    )?;
    Ok(kept == 1)
}

/// The oldest webhooks that were not applied yet: key and body.
pub fn notices(tx: &mut Tx<'_>, most: i64) -> Result<Vec<(String, String)>> {
    tx.rows(
        "SELECT unique_key, body FROM lago_notices WHERE applied_ms IS NULL ORDER BY received_ms, unique_key LIMIT ?1",
        args![most],
    )?
    .iter()
    .map(|row| Ok((row.text(0)?, row.text(1)?)))
    .collect()
}

pub fn notice_applied(tx: &mut Tx<'_>, unique_key: &str, at_ms: i64) -> Result<()> {
    tx.run("UPDATE lago_notices SET applied_ms = ?2 WHERE unique_key = ?1", args![unique_key, at_ms])?;
    Ok(())
}

/// Removes applied webhooks that nobody will ask for again.
pub fn sweep_notices(tx: &mut Tx<'_>, before_ms: i64) -> Result<()> {
    let sql = "DELETE FROM lago_notices WHERE applied_ms IS NOT NULL AND received_ms < ?1";
    tx.run(sql, args![before_ms]).map(drop)
}
