//! Under which ids Lago knows a user, and knew them before.

use std::collections::BTreeMap;

use super::subscriptions::subscription;
use crate::error::Result;
use crate::store::Tx;
use crate::store::db::args;

/// A user as Lago is to know them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Of the customer and of the subscription: the Lago id that the user brought along, or the user's own.
    pub external_id: String,
    pub email: Option<String>,
    pub name: Option<String>,
}

/// Who a user is at Lago. Somebody who has been removed here is still who they were: their usage is owed.
pub fn identity(tx: &mut Tx<'_>, user: &str) -> Result<Identity> {
    let row = tx.row("SELECT lago_customer_id, email, name FROM users WHERE id = ?1", args![user])?;
    let Some(row) = row else {
        let known = subscription(tx, user)?.map(|known| known.external_id);
        return Ok(Identity { external_id: known.unwrap_or_else(|| user.to_owned()), email: None, name: None });
    };
    let given = row.text_or_null(0)?.filter(|id| !id.trim().is_empty());
    let external_id = given.unwrap_or_else(|| user.to_owned());
    Ok(Identity { external_id, email: row.text_or_null(1)?, name: row.text_or_null(2)? })
}

/// The ids of Lago's that a user has had, each with the position of the log from which on, in its order.
pub fn names(tx: &mut Tx<'_>, user: &str) -> Result<Vec<(i64, String)>> {
    let sql = "SELECT from_position, external_id FROM lago_names WHERE user_id = ?1 ORDER BY from_position";
    tx.rows(sql, args![user])?.iter().map(|row| Ok((row.int(0)?, row.text(1)?))).collect()
}

/// Ids of Lago's that several users have or had, with those users, in their order.
pub fn shared_names(tx: &mut Tx<'_>) -> Result<BTreeMap<String, Vec<String>>> {
    let sql = "WITH known (external_id, user_id) AS (
             SELECT external_id, user_id FROM lago_names
             UNION SELECT external_id, user_id FROM lago_subscriptions)
         SELECT external_id, user_id FROM known
         WHERE external_id IN (SELECT external_id FROM known GROUP BY external_id HAVING COUNT(*) > 1)
         ORDER BY external_id, user_id";
    let mut shared = BTreeMap::<String, Vec<String>>::new();
    for row in &tx.rows(sql, args![])? {
        shared.entry(row.text(0)?).or_default().push(row.text(1)?);
    }
    Ok(shared)
}

pub fn save_name(tx: &mut Tx<'_>, user: &str, from_position: i64, external_id: &str) -> Result<()> {
    tx.run(
        "INSERT INTO lago_names (user_id, from_position, external_id) VALUES (?1, ?2, ?3)
         ON CONFLICT (user_id, from_position) DO UPDATE SET external_id = excluded.external_id",
        args![user, from_position, external_id],
    )?;
    Ok(())
}
