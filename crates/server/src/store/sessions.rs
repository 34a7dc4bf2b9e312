//! Sessions that this program issued.

use jiff::Timestamp;

use super::db::args;
use super::{Change, Tx};
use crate::error::Result;

/// When sessions end that were found to be over: before every clock.
pub const ENDED: Timestamp = Timestamp::UNIX_EPOCH;

/// A session, found by the hash of its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub user: String,
    pub expires_at: Timestamp,
}

pub fn add(tx: &mut Tx<'_>, token_hash: &str, user: &str, now: Timestamp, expires_at: Timestamp) -> Result<()> {
    tx.run(
        "INSERT INTO sessions (token_hash, user_id, created_at, expires_at) VALUES (?1, ?2, ?3, ?4)",
        args![token_hash, user, now, expires_at],
    )?;
    Ok(())
}

pub fn get(tx: &mut Tx<'_>, token_hash: &str) -> Result<Option<Session>> {
    tx.row("SELECT user_id, expires_at FROM sessions WHERE token_hash = ?1", args![token_hash])?
        .map(|row| Ok(Session { user: row.text(0)?, expires_at: row.instant(1)? }))
        .transpose()
}

/// Ends one session; whether there was one.
pub fn remove(tx: &mut Tx<'_>, token_hash: &str) -> Result<bool> {
    let Some(session) = get(tx, token_hash)? else { return Ok(false) };
    tx.run("DELETE FROM sessions WHERE token_hash = ?1", args![token_hash])?;
    tx.changed(Change::User(session.user));
    Ok(true)
}

/// One that was found to be over is over for good, whatever the clock says later (F-49).
pub fn end(tx: &mut Tx<'_>, token_hash: &str) -> Result<()> {
    let Some(session) = get(tx, token_hash)? else { return Ok(()) };
    tx.run("UPDATE sessions SET expires_at = ?2 WHERE token_hash = ?1", args![token_hash, ENDED])?;
    tx.changed(Change::User(session.user));
    Ok(())
}

/// Ends every session of a user; how many there were.
pub fn remove_all(tx: &mut Tx<'_>, user: &str) -> Result<u64> {
    tx.changed(Change::User(user.to_owned()));
    tx.run("DELETE FROM sessions WHERE user_id = ?1", args![user])
}

/// Forgets sessions that are over.
pub fn remove_expired(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64> {
    tx.run("DELETE FROM sessions WHERE expires_at <= ?1", args![now])
}
