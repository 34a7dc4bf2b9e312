//! Small facts about the database itself, by name.

use super::Tx;
use super::db::args;
use crate::error::Result;

/// The catalogue that the mirrored rows were derived with.
pub const CATALOGUE: &str = "catalogue";
/// Its text, for whoever works on this database with no catalogue of their own or another one.
pub const CATALOGUE_TEXT: &str = "catalogue_text";
/// The position of the log that the written accounts belong to.
pub const ACCOUNTS_POSITION: &str = "accounts_position";
/// How often they were thrown away and counted anew.
pub const ACCOUNTS_EDITION: &str = "accounts_edition";
/// The first day whose ids of usage are all kept.
pub const IDS_FROM_DAY: &str = "ids_from_day";
/// The first day of which ids of live usage were forgotten.
pub const IDS_LOST_FROM_DAY: &str = "ids_lost_from_day";
/// Which log this is: a copy that goes its own way gets another name.
pub const USAGE_LOG: &str = "usage_log";
/// The first millisecond that is for Lago.
pub const LAGO_FROM: &str = "lago_from_ms";
/// Where Lago was when something was last sent there.
pub const LAGO_AT: &str = "lago_at";
/// The key that signs page cursors.
pub const CURSOR_KEY: &str = "cursor_key";
/// Written and taken away again, to see whether anything can be.
pub const ROOM: &str = "room";

pub fn get(tx: &mut Tx<'_>, name: &str) -> Result<Option<String>> {
    tx.row("SELECT value FROM facts WHERE name = ?1", args![name])?.map(|row| row.text(0)).transpose()
}

/// Two facts at once.
pub fn both(tx: &mut Tx<'_>, one: &str, other: &str) -> Result<(Option<String>, Option<String>)> {
    let sql = "SELECT (SELECT value FROM facts WHERE name = ?1), (SELECT value FROM facts WHERE name = ?2)";
    tx.row(sql, args![one, other])?.map_or(Ok((None, None)), |row| Ok((row.text_or_null(0)?, row.text_or_null(1)?)))
}

/// What a fact says, after it was given this value unless it had one.
pub fn get_or_set(tx: &mut Tx<'_>, name: &str, value: &str) -> Result<String> {
    tx.run("INSERT INTO facts (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING", args![name, value])?;
    Ok(get(tx, name)?.unwrap_or_else(|| value.to_owned()))
}

pub fn set(tx: &mut Tx<'_>, name: &str, value: &str) -> Result<()> {
    tx.run(
        "INSERT INTO facts (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        args![name, value],
    )?;
    Ok(())
}

pub fn remove(tx: &mut Tx<'_>, name: &str) -> Result<()> {
    tx.run("DELETE FROM facts WHERE name = ?1", args![name])?;
    Ok(())
}
