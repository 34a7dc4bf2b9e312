//! Small facts about the database itself, by name.

use super::Tx;
use super::db::args;
use crate::error::Result;

/// The catalogue that the mirrored rows were derived with.
pub const CATALOGUE: &str = "catalogue";
/// The key that signs page cursors.
pub const CURSOR_KEY: &str = "cursor_key";

pub fn get(tx: &mut Tx<'_>, name: &str) -> Result<Option<String>> {
    tx.row("SELECT value FROM facts WHERE name = ?1", args![name])?.map(|row| row.text(0)).transpose()
}

pub fn set(tx: &mut Tx<'_>, name: &str, value: &str) -> Result<()> {
    tx.run(
        "INSERT INTO facts (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        args![name, value],
    )?;
    Ok(())
}
