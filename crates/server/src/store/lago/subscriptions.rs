//! Subscriptions at Lago that are known to exist.

use crate::error::Result;
use crate::store::Tx;
use crate::store::db::{Row, args};

/// A subscription at Lago that is known to exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    pub user: String,
    pub external_id: String,
    /// The plan that was asked for.
    pub tier: String,
    /// Its first millisecond, or one that is surely not before it.
    pub began_ms: i64,
    pub delivered_ms: Option<i64>,
    pub compared_ms: Option<i64>,
    /// What the last comparison found.
    pub difference: Option<String>,
}

fn subscription_of(row: &Row) -> Result<Subscription> {
    Ok(Subscription {
        user: row.text(0)?,
        external_id: row.text(1)?,
        tier: row.text(2)?,
        began_ms: row.int(3)?,
        delivered_ms: row.int_or_null(4)?,
        compared_ms: row.int_or_null(5)?,
        difference: row.text_or_null(6)?,
    })
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT user_id, external_id, tier, began_ms, delivered_ms, compared_ms, difference FROM lago_subscriptions ",
            $rest
        )
    };
}

pub fn subscription(tx: &mut Tx<'_>, user: &str) -> Result<Option<Subscription>> {
    tx.row(select!("WHERE user_id = ?1"), args![user])?.as_ref().map(subscription_of).transpose()
}

/// Subscriptions after this user's, by user.
pub fn subscriptions_after(tx: &mut Tx<'_>, user: &str, most: i64) -> Result<Vec<Subscription>> {
    let sql = select!("WHERE user_id > ?1 ORDER BY user_id LIMIT ?2");
    tx.rows(sql, args![user, most])?.iter().map(subscription_of).collect()
}

/// Whose subscription this is.
pub fn user_of(tx: &mut Tx<'_>, external_id: &str) -> Result<Option<String>> {
    let sql = "SELECT user_id FROM lago_subscriptions WHERE external_id = ?1 ORDER BY user_id LIMIT 1";
    tx.row(sql, args![external_id])?.map(|row| row.text(0)).transpose()
}

/// Whether several users have this subscription.
pub fn is_shared(tx: &mut Tx<'_>, external_id: &str) -> Result<bool> {
    let sql = "SELECT 1 FROM lago_subscriptions WHERE external_id = ?1 LIMIT 2";
    Ok(tx.rows(sql, args![external_id])?.len() > 1)
}

/// Remembers that a subscription exists.
pub fn save_subscription(tx: &mut Tx<'_>, user: &str, external_id: &str, tier: &str, began_ms: i64) -> Result<()> {
    tx.run(
        "INSERT INTO lago_subscriptions (user_id, external_id, tier, began_ms) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (user_id) DO UPDATE SET
             external_id = excluded.external_id, tier = excluded.tier, began_ms = excluded.began_ms",
        args![user, external_id, tier, began_ms],
    )?;
    Ok(())
}

/// What is noted of a subscription that was not there any more and was made again: what went to the one before is to be sent again.
const MADE_AGAIN: &str = "made again at Lago: the open month is sent again";

/// Remembers that a subscription was made again in the place of one that was gone.
pub fn save_made_again(tx: &mut Tx<'_>, user: &str) -> Result<()> {
    tx.run("UPDATE lago_subscriptions SET difference = ?2 WHERE user_id = ?1", args![user, MADE_AGAIN])?;
    Ok(())
}

/// Users whose subscription was made again and to whom nothing was sent again yet.
pub fn made_again(tx: &mut Tx<'_>) -> Result<Vec<String>> {
    let sql =
        "SELECT user_id FROM lago_subscriptions WHERE difference IS NOT NULL AND difference = ?1 ORDER BY user_id";
    tx.rows(sql, args![MADE_AGAIN])?.iter().map(|row| row.text(0)).collect()
}

/// Everything of a user is on its way again.
pub fn forget_made_again(tx: &mut Tx<'_>, user: &str) -> Result<()> {
    let sql = "UPDATE lago_subscriptions SET difference = NULL WHERE user_id = ?1 AND difference = ?2";
    tx.run(sql, args![user, MADE_AGAIN]).map(drop)
}

/// Of no subscription it is certain any more that it is there.
pub fn doubt_subscriptions(tx: &mut Tx<'_>, reason: &str) -> Result<()> {
    tx.run("UPDATE lago_subscriptions SET difference = ?1 WHERE difference IS NULL", args![reason]).map(drop)
}

/// Forgets that a subscription was there.
pub fn forget_subscription(tx: &mut Tx<'_>, user: &str) -> Result<()> {
    tx.run("DELETE FROM lago_subscriptions WHERE user_id = ?1", args![user]).map(drop)
}

/// Notes when something was last delivered to a subscription.
pub fn save_delivered(tx: &mut Tx<'_>, external_id: &str, at_ms: i64) -> Result<()> {
    tx.run("UPDATE lago_subscriptions SET delivered_ms = ?2 WHERE external_id = ?1", args![external_id, at_ms])?;
    Ok(())
}

/// Writes down what a comparison found; nothing when both sides agree. One that was made again differs until what went to the one
/// before is on its way.
pub fn save_difference(tx: &mut Tx<'_>, user: &str, compared_ms: i64, difference: Option<&str>) -> Result<()> {
    tx.run(
        "UPDATE lago_subscriptions SET compared_ms = ?2, difference = ?3
         WHERE user_id = ?1 AND (difference IS NULL OR difference <> ?4)",
        args![user, compared_ms, difference.map(str::to_owned), MADE_AGAIN],
    )?;
    Ok(())
}

pub fn count_subscriptions(tx: &mut Tx<'_>) -> Result<u64> {
    tx.row("SELECT COUNT(*) FROM lago_subscriptions", args![])?.map_or(Ok(0), |row| row.count(0))
}

/// Subscriptions whose last comparison found a difference.
pub fn count_differing(tx: &mut Tx<'_>) -> Result<u64> {
    let sql = "SELECT COUNT(*) FROM lago_subscriptions WHERE difference IS NOT NULL";
    tx.row(sql, args![])?.map_or(Ok(0), |row| row.count(0))
}
