//! Under which code a type goes to Lago, by place in the log.

use crate::error::Result;
use crate::store::Tx;
use crate::store::db::args;

/// From which position of the log on a type has a code; an empty one keeps it from Lago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    pub event_type: String,
    pub from_position: i64,
    pub code: String,
}

/// The codes of all types, each type's in the order of the log.
pub fn codes(tx: &mut Tx<'_>) -> Result<Vec<Code>> {
    let rows = tx.rows("SELECT type, from_position, code FROM lago_codes ORDER BY type, from_position", args![])?;
    rows.iter()
        .map(|row| Ok(Code { event_type: row.text(0)?, from_position: row.int(1)?, code: row.text(2)? }))
        .collect()
}

pub fn save_code(tx: &mut Tx<'_>, code: &Code) -> Result<()> {
    tx.run(
        "INSERT INTO lago_codes (type, from_position, code) VALUES (?1, ?2, ?3)
         ON CONFLICT (type, from_position) DO UPDATE SET code = excluded.code",
        args![&code.event_type, code.from_position, &code.code],
    )?;
    Ok(())
}
