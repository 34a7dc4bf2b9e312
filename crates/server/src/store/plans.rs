//! Users whose terms may have changed, until the log has an entry of it.

use super::db::args;
use super::{Tx, accounts};
use crate::error::Result;

/// A user's own row has changed.
pub fn mark_user(tx: &mut Tx<'_>, user: &str) -> Result<()> {
    tx.run("INSERT INTO stale_plans (user_id) VALUES (?1) ON CONFLICT DO NOTHING", args![user])?;
    Ok(())
}

/// Something at Stripe has changed that belongs to a customer.
pub fn mark_customer(tx: &mut Tx<'_>, customer: &str) -> Result<()> {
    tx.run(
        "INSERT INTO stale_plans (user_id) SELECT id FROM users WHERE stripe_customer_id = ?1 ON CONFLICT DO NOTHING",
        args![customer],
    )?;
    Ok(())
}

/// Everybody who has an account, written down or only in the log so far: the catalogue is another one.
pub fn mark_all(tx: &mut Tx<'_>) -> Result<()> {
    let written = accounts::position(tx)?;
    tx.run(
        "INSERT INTO stale_plans (user_id) SELECT user_id FROM accounts UNION SELECT user_id FROM usage_log WHERE position > ?1
         ON CONFLICT DO NOTHING",
        args![written],
    )?;
    Ok(())
}

/// Everybody who has an account and shows this tier.
pub fn mark_tier(tx: &mut Tx<'_>, tier: &str) -> Result<()> {
    tx.run(
        "INSERT INTO stale_plans (user_id) SELECT id FROM users WHERE COALESCE(subscription_tier, 'trial') = ?1
             AND id IN (SELECT user_id FROM accounts) ON CONFLICT DO NOTHING",
        args![tier],
    )?;
    Ok(())
}

/// Some of the marked users.
pub fn marked(tx: &mut Tx<'_>, most: i64) -> Result<Vec<String>> {
    let rows = tx.rows("SELECT user_id FROM stale_plans ORDER BY user_id LIMIT ?1", args![most])?;
    rows.iter().map(|row| row.text(0)).collect()
}

/// Whether this user is marked.
pub fn is_marked(tx: &mut Tx<'_>, user: &str) -> Result<bool> {
    Ok(tx.row("SELECT 1 FROM stale_plans WHERE user_id = ?1", args![user])?.is_some())
}

/// The log says it now.
pub fn unmark(tx: &mut Tx<'_>, user: &str) -> Result<()> {
    tx.run("DELETE FROM stale_plans WHERE user_id = ?1", args![user])?;
    Ok(())
}
