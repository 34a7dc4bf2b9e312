//! The users of the platform.

use billing::time;
use jiff::Timestamp;

use super::db::{Dialect, Row, Value, args};
use super::{Change, Tx, plans};
use crate::error::{Error, Result};

/// A user as the database knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub id: String,
    pub email: String,
    pub name: Option<String>,
    /// The tier without a subscription.
    pub tier: String,
    /// A `cus_…` id. Whatever else an old row holds in that column is not an identity and is left out.
    pub customer: Option<String>,
    pub admin: bool,
    pub disabled: bool,
    /// Since when they are here; nothing where the row does not say it in a form that we read.
    pub created: Option<Timestamp>,
}

fn user(row: &Row) -> Result<User> {
    Ok(User {
        id: row.text(0)?,
        email: row.text(1)?,
        name: row.text_or_null(2)?,
        tier: row.text_or_null(3)?.unwrap_or_else(|| "trial".to_owned()),
        customer: row.text_or_null(4)?.filter(|id| is_customer_id(id)),
        admin: row.int_or_null(5)? == Some(1),
        disabled: row.int_or_null(6)?.is_some(),
        created: row.text_or_null(7)?.and_then(|text| instant(&text)),
    })
}

/// An instant as a users table holds it: `YYYY-MM-DD HH:MM:SS`, in UTC where it says nothing else.
fn instant(text: &str) -> Option<Timestamp> {
    let text = text.trim().replacen(' ', "T", 1);
    time::parse(&text).or_else(|_| time::parse(&format!("{text}Z"))).ok()
}

/// Whether a text can be a Stripe customer's id (`cus_…`; old accounts have other letters after an underscore).
pub fn is_customer_id(text: &str) -> bool {
    text.strip_prefix("cus_").is_some_and(|rest| {
        (1..=250).contains(&rest.len())
            && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    })
}

pub fn get(tx: &mut Tx<'_>, id: &str) -> Result<Option<User>> {
    tx.row(
        "SELECT id, email, name, COALESCE(own_tier, subscription_tier), stripe_customer_id, is_admin, disabled_at,
             CAST(created_at AS TEXT) FROM users WHERE id = ?1",
        args![id],
    )?
    .as_ref()
    .map(user)
    .transpose()
}

/// Which of these are users, each with whether they are disabled.
pub fn which_are_there<'i>(tx: &mut Tx<'_>, ids: impl Iterator<Item = &'i str>) -> Result<Vec<(String, bool)>> {
    // No text of a database holds the character that ends texts in others.
    let ids = ids.filter(|id| !id.contains('\0'));
    let found = |row: &Row| Ok((row.text(0)?, row.int_or_null(1)?.is_some()));
    if tx.dialect() == Dialect::Postgres {
        let ids = ids.map(|id| Some(id.to_owned())).collect();
        let rows = tx.rows("SELECT id, disabled_at FROM users WHERE id = ANY(?1::TEXT[])", &[Value::Texts(ids)])?;
        return rows.iter().map(found).collect();
    }
    let mut there = Vec::new();
    for id in ids {
        let row = tx.row("SELECT id, disabled_at FROM users WHERE id = ?1", args![id])?;
        there.extend(row.as_ref().map(found).transpose()?);
    }
    Ok(there)
}

/// Every user, oldest id first, for listings of the command line.
pub fn page(tx: &mut Tx<'_>, after: &str, limit: i64) -> Result<Vec<User>> {
    tx.rows(
        "SELECT id, email, name, COALESCE(own_tier, subscription_tier), stripe_customer_id, is_admin, disabled_at,
             CAST(created_at AS TEXT) FROM users
         WHERE id > ?1 ORDER BY id LIMIT ?2",
        args![after, limit],
    )?
    .iter()
    .map(user)
    .collect()
}

/// The tiers that are shown, each with the number of its users.
pub fn tiers(tx: &mut Tx<'_>) -> Result<Vec<(String, u64)>> {
    let sql = "SELECT COALESCE(subscription_tier, 'trial'), COUNT(*) FROM users GROUP BY 1 ORDER BY 1";
    tx.rows(sql, args![])?.iter().map(|row| Ok((row.text(0)?, row.count(1)?))).collect()
}

/// A user to be added.
#[derive(Debug, Clone)]
pub struct NewUser {
    pub id: String,
    pub email: String,
    pub name: String,
    pub tier: String,
    pub customer: Option<String>,
    pub admin: bool,
    /// `YYYY-MM-DD HH:MM:SS`, UTC, as Ops Center writes it.
    pub now: String,
}

/// Adds a user; an e-mail that is taken is a conflict.
pub fn add(tx: &mut Tx<'_>, new: &NewUser) -> Result<()> {
    let added = tx.run(
        "INSERT INTO users (id, email, name, oauth_provider, oauth_id, subscription_tier, stripe_customer_id, is_admin, created_at, updated_at)
         VALUES (?1, ?2, ?3, 'billhook', ?1, ?4, NULL, ?5, ?6, ?6) ON CONFLICT DO NOTHING",
        args![&new.id, &new.email, &new.name, &new.tier, new.admin, &new.now],
    )?;
    if added == 0 {
        let detail = "there is a user with this e-mail already".to_owned();
        return Err(Error::Conflict { code: "user.exists", detail });
    }
    if let Some(customer) = &new.customer {
        link(tx, &new.id, customer, &new.now)?;
    }
    tx.changed(Change::User(new.id.clone()));
    Ok(())
}

/// Links a user to a Stripe customer; a customer that is somebody else's is a conflict.
pub fn link(tx: &mut Tx<'_>, id: &str, customer: &str, now: &str) -> Result<()> {
    if !is_customer_id(customer) {
        return Err(Error::invalid("/customer", "expected a Stripe customer id (cus_…)"));
    }
    let taken =
        tx.row("SELECT id FROM users WHERE stripe_customer_id = ?1 AND id <> ?2 LIMIT 1", args![customer, id])?;
    if taken.is_some() {
        let detail = "this customer is linked to another user".to_owned();
        return Err(Error::Conflict { code: "customer.already_linked", detail });
    }
    plans::mark_user(tx, id)?;
    let sql = "UPDATE users SET stripe_customer_id = ?2, updated_at = ?3 WHERE id = ?1";
    update(tx, sql, args![id, customer, now], id)
}

/// Takes a user's link to a customer away.
pub fn unlink(tx: &mut Tx<'_>, id: &str, now: &str) -> Result<()> {
    update(tx, "UPDATE users SET stripe_customer_id = NULL, updated_at = ?2 WHERE id = ?1", args![id, now], id)
}

pub fn set_admin(tx: &mut Tx<'_>, id: &str, admin: bool, now: &str) -> Result<()> {
    update(tx, "UPDATE users SET is_admin = ?2, updated_at = ?3 WHERE id = ?1", args![id, admin, now], id)
}

/// Disables a user from `at` on, or enables them again.
pub fn set_disabled(tx: &mut Tx<'_>, id: &str, at: Option<Timestamp>, now: &str) -> Result<()> {
    update(tx, "UPDATE users SET disabled_at = ?2, updated_at = ?3 WHERE id = ?1", args![id, at, now], id)
}

fn update(tx: &mut Tx<'_>, sql: &'static str, args: &[super::db::Value], id: &str) -> Result<()> {
    if tx.run(sql, args)? == 0 {
        return Err(Error::NotFound);
    }
    tx.changed(Change::User(id.to_owned()));
    Ok(())
}

/// What others read of a user's tier: that of the running subscription, or the user's own without one. Nothing is written where
/// it says so already.
pub fn show_tier(tx: &mut Tx<'_>, id: &str, subscribed: Option<&str>, now: &str) -> Result<()> {
    let sql = match subscribed {
        Some(_) => {
            "UPDATE users SET own_tier = COALESCE(own_tier, subscription_tier, 'trial'), subscription_tier = ?2, updated_at = ?3
             WHERE id = ?1 AND (own_tier IS NULL OR subscription_tier <> ?2)"
        }
        None => {
            "UPDATE users SET subscription_tier = COALESCE(own_tier, ?2), own_tier = NULL, updated_at = ?3
             WHERE id = ?1 AND own_tier IS NOT NULL"
        }
    };
    if tx.run(sql, args![id, subscribed.unwrap_or("trial"), now])? > 0 {
        tx.changed(Change::User(id.to_owned()));
    }
    Ok(())
}

/// What a user's row shows of their tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub user: User,
    pub shown: Option<String>,
    /// The tier without a subscription, while there is one.
    pub own: Option<String>,
}

/// What every row shows, page by page.
pub fn shown(tx: &mut Tx<'_>, after: &str, limit: i64) -> Result<Vec<Shown>> {
    tx.rows(
        "SELECT id, email, name, COALESCE(own_tier, subscription_tier), stripe_customer_id, is_admin, disabled_at,
             CAST(created_at AS TEXT), subscription_tier, own_tier FROM users WHERE id > ?1 ORDER BY id LIMIT ?2",
        args![after, limit],
    )?
    .iter()
    .map(|row| Ok(Shown { user: user(row)?, shown: row.text_or_null(8)?, own: row.text_or_null(9)? }))
    .collect()
}

/// The user that a customer at Stripe is linked to.
pub fn of_customer(tx: &mut Tx<'_>, customer: &str) -> Result<Option<String>> {
    tx.row("SELECT id FROM users WHERE stripe_customer_id = ?1 ORDER BY id LIMIT 1", args![customer])?
        .map(|row| row.text(0))
        .transpose()
}

/// What is wrong with the links of users to customers, for `doctor`: (user, what the column holds).
pub fn unusable_links(tx: &mut Tx<'_>) -> Result<Vec<(String, String)>> {
    tx.rows(
        "SELECT id, stripe_customer_id FROM users
         WHERE stripe_customer_id IS NOT NULL AND stripe_customer_id <> '' AND SUBSTR(stripe_customer_id, 1, 4) <> 'cus_'
         ORDER BY id LIMIT 1000",
        args![],
    )?
    .iter()
    .map(|row| Ok((row.text(0)?, row.text(1)?)))
    .collect()
}

/// Customers that more than one user is linked to, for `doctor`.
pub fn shared_customers(tx: &mut Tx<'_>) -> Result<Vec<(String, u64)>> {
    tx.rows(
        "SELECT stripe_customer_id, COUNT(*) FROM users WHERE stripe_customer_id IS NOT NULL AND stripe_customer_id <> ''
         GROUP BY stripe_customer_id HAVING COUNT(*) > 1 ORDER BY stripe_customer_id LIMIT 1000",
        args![],
    )?
    .iter()
    .map(|row| Ok((row.text(0)?, row.count(1)?)))
    .collect()
}

pub fn count(tx: &mut Tx<'_>) -> Result<u64> {
    tx.row("SELECT COUNT(*) FROM users", args![])?.map_or(Ok(0), |row| row.count(0))
}
