//! Reservations that were open when they were last written down: for a restart, and for commits that come after it.

use super::Tx;
use super::db::{Row, args};
use crate::error::Result;

/// How long one is kept after it has expired: a commit may still come, and counts.
const KEPT_MS: i64 = 86_400_000;

/// An open reservation, written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    pub id: String,
    pub user: String,
    pub kind: String,
    /// Millionths.
    pub quantity: i64,
    /// Microcredits.
    pub credits: i64,
    pub expires_ms: i64,
}

fn reservation(row: &Row) -> Result<Reservation> {
    Ok(Reservation {
        id: row.text(0)?,
        user: row.text(1)?,
        kind: row.text(2)?,
        quantity: row.int(3)?,
        credits: row.int(4)?,
        expires_ms: row.int(5)?,
    })
}

pub fn get(tx: &mut Tx<'_>, id: &str) -> Result<Option<Reservation>> {
    let sql = "SELECT id, user_id, type, quantity_micro, credits_micro, expires_ms FROM reservations WHERE id = ?1";
    tx.row(sql, args![id])?.map(|row| reservation(&row)).transpose()
}

/// Those that have not expired.
pub fn open(tx: &mut Tx<'_>, now_ms: i64) -> Result<Vec<Reservation>> {
    let sql =
        "SELECT id, user_id, type, quantity_micro, credits_micro, expires_ms FROM reservations WHERE expires_ms > ?1
               ORDER BY id";
    tx.rows(sql, args![now_ms])?.iter().map(reservation).collect()
}

/// Writes down what has been opened, removes what was resolved.
pub fn save(tx: &mut Tx<'_>, opened: &[Reservation], closed: &[String]) -> Result<()> {
    for row in opened {
        tx.run(
            "INSERT INTO reservations (id, user_id, type, quantity_micro, credits_micro, expires_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO UPDATE SET user_id = excluded.user_id, type = excluded.type,
             quantity_micro = excluded.quantity_micro, credits_micro = excluded.credits_micro, expires_ms = excluded.expires_ms",
            args![&row.id, &row.user, &row.kind, row.quantity, row.credits, row.expires_ms],
        )?;
    }
    for id in closed {
        tx.run("DELETE FROM reservations WHERE id = ?1", args![id])?;
    }
    Ok(())
}

/// Removes what is long over.
pub fn forget_old(tx: &mut Tx<'_>, now_ms: i64) -> Result<()> {
    tx.run("DELETE FROM reservations WHERE expires_ms <= ?1", args![now_ms - KEPT_MS]).map(drop)
}
