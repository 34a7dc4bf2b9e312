//! Ids that other programs use for our users.

use super::Tx;
use super::db::args;
use crate::error::Result;

/// The user of a customer at Lago; nothing where several have the same, because nobody can say who is meant.
pub fn by_lago_customer(tx: &mut Tx<'_>, customer: &str) -> Result<Option<String>> {
    let rows = tx.rows("SELECT id FROM users WHERE lago_customer_id = ?1 LIMIT 2", args![customer])?;
    match rows.as_slice() {
        [one] => one.text(0).map(Some),
        _ => Ok(None),
    }
}
