//! Dead letters: events that Lago does not take.

use crate::error::Result;
use crate::store::Tx;
use crate::store::db::{Row, args};

/// An event that Lago does not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    pub transaction_id: String,
    /// Its entry in the log.
    pub position: i64,
    pub user: String,
    pub reason: String,
    pub dead_ms: i64,
    pub event: String,
    /// Lago has stored it, and finds no use for it.
    pub stored: bool,
    /// Somebody wants it sent again.
    pub replay: bool,
}

fn dead(row: &Row) -> Result<Dead> {
    Ok(Dead {
        transaction_id: row.text(0)?,
        position: row.int(1)?,
        user: row.text(2)?,
        reason: row.text(3)?,
        dead_ms: row.int(4)?,
        event: row.text(5)?,
        stored: row.flag(6)?,
        replay: row.flag(7)?,
    })
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT transaction_id, position, user_id, reason, dead_ms, event, stored, replay FROM lago_dead ",
            $rest
        )
    };
}

pub fn bury(tx: &mut Tx<'_>, dead: &Dead) -> Result<()> {
    tx.run(
        "INSERT INTO lago_dead (transaction_id, position, user_id, reason, dead_ms, event, stored, replay)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (transaction_id)
         DO UPDATE SET reason = excluded.reason, dead_ms = excluded.dead_ms, replay = excluded.replay",
        args![
            &dead.transaction_id,
            dead.position,
            &dead.user,
            &dead.reason,
            dead.dead_ms,
            &dead.event,
            dead.stored,
            dead.replay
        ],
    )?;
    Ok(())
}

/// Dead letters after this one, by transaction id.
pub fn dead_after(tx: &mut Tx<'_>, after: &str, most: i64) -> Result<Vec<Dead>> {
    let sql = select!("WHERE transaction_id > ?1 ORDER BY transaction_id LIMIT ?2");
    tx.rows(sql, args![after, most])?.iter().map(dead).collect()
}

pub fn is_dead(tx: &mut Tx<'_>, transaction_id: &str) -> Result<bool> {
    Ok(tx.row("SELECT 1 FROM lago_dead WHERE transaction_id = ?1", args![transaction_id])?.is_some())
}

/// One dead letter.
pub fn dead_letter(tx: &mut Tx<'_>, transaction_id: &str) -> Result<Option<Dead>> {
    tx.row(select!("WHERE transaction_id = ?1"), args![transaction_id])?.as_ref().map(dead).transpose()
}

/// Those that Lago has, and finds no use for.
pub fn dead_stored(tx: &mut Tx<'_>) -> Result<Vec<Dead>> {
    tx.rows(select!("WHERE stored = 1 ORDER BY position, transaction_id"), args![])?.iter().map(dead).collect()
}

pub fn dead_count(tx: &mut Tx<'_>) -> Result<u64> {
    tx.row("SELECT COUNT(*) FROM lago_dead", args![])?.map_or(Ok(0), |row| row.count(0))
}

/// How many dead letters have each reason, the most frequent first.
pub fn dead_reasons(tx: &mut Tx<'_>, most: i64) -> Result<Vec<(String, u64)>> {
    tx.rows(
        "SELECT reason, COUNT(*) FROM lago_dead GROUP BY reason ORDER BY COUNT(*) DESC, reason LIMIT ?1",
        args![most],
    )?
    .iter()
    .map(|row| Ok((row.text(0)?, row.count(1)?)))
    .collect()
}

/// The dead letters of a user.
pub fn dead_of(tx: &mut Tx<'_>, user: &str) -> Result<Vec<Dead>> {
    tx.rows(select!("WHERE user_id = ?1"), args![user])?.iter().map(dead).collect()
}

/// Marks one dead letter, or all, to be sent again; how many.
pub fn ask_replay(tx: &mut Tx<'_>, transaction_id: Option<&str>) -> Result<u64> {
    match transaction_id {
        Some(id) => tx.run("UPDATE lago_dead SET replay = 1 WHERE transaction_id = ?1", args![id]),
        None => tx.run("UPDATE lago_dead SET replay = 1", args![]),
    }
}

/// Takes the mark off again.
pub fn leave_dead(tx: &mut Tx<'_>, transaction_id: &str) -> Result<()> {
    tx.run("UPDATE lago_dead SET replay = 0 WHERE transaction_id = ?1", args![transaction_id]).map(drop)
}

/// Dead letters that are to be sent again, in the order of the log.
pub fn replays(tx: &mut Tx<'_>, most: i64) -> Result<Vec<Dead>> {
    let sql = select!("WHERE replay = 1 ORDER BY position, transaction_id LIMIT ?1");
    tx.rows(sql, args![most])?.iter().map(dead).collect()
}

/// Takes a dead letter away; false when somebody else has.
pub fn raise(tx: &mut Tx<'_>, transaction_id: &str) -> Result<bool> {
    Ok(tx.run("DELETE FROM lago_dead WHERE transaction_id = ?1 AND replay = 1", args![transaction_id])? == 1)
}
