//! Users: who they are here and at Stripe.

pub mod merging;

use billing::catalogue::Catalogue;
use jiff::Timestamp;

use super::usage::plans;
use crate::app::App;
use crate::error::{Error, Result};
use crate::store::mirror::Resource;
use crate::store::users::{self, NewUser, User};
use crate::store::{self, Tx, customers};

/// The code of what is refused to a disabled user.
pub const DISABLED: &str = "user.disabled";

/// What is known of a user to be added.
#[derive(Debug, Clone)]
pub struct Add {
    pub email: String,
    pub name: String,
    pub tier: Option<String>,
    pub customer: Option<String>,
    pub admin: bool,
}

/// Adds a user; their id.
pub async fn add(app: &App, ask: Add) -> Result<String> {
    let (local, domain) = ask.email.split_once('@').unwrap_or_default();
    if local.is_empty() || domain.is_empty() || ask.email.len() > 254 || ask.email.chars().any(char::is_whitespace) {
        return Err(Error::invalid("/email", "expected an e-mail address"));
    }
    let tier = ask.tier.unwrap_or_else(|| "trial".to_owned());
    if app.catalogue.tier(&tier).is_none() {
        return Err(Error::invalid("/tier", "expected a tier of the catalogue"));
    }
    let now = app.clock.now();
    let id = billing::id::new("usr_", now, app.chance.bytes()?);
    let new = NewUser {
        id: id.clone(),
        email: ask.email,
        name: ask.name,
        tier,
        customer: ask.customer,
        admin: ask.admin,
        now: database_time(now),
    };
    let catalogue = app.catalogue.clone();
    app.db
        .write(move |tx| {
            users::add(tx, &new)?;
            show_tier(tx, &catalogue, &new.id, now)
        })
        .await?;
    Ok(id)
}

/// What their customer subscribes to is theirs from the moment they are linked.
fn show_tier(tx: &mut Tx<'_>, catalogue: &Catalogue, id: &str, now: Timestamp) -> Result<()> {
    let Some(user) = users::get(tx, id)? else { return Ok(()) };
    plans::show_tier(tx, catalogue, &user, now)
}

pub async fn link(app: &App, id: &str, customer: &str) -> Result<()> {
    let (id, customer, now, catalogue) = (id.to_owned(), customer.to_owned(), app.clock.now(), app.catalogue.clone());
    app.db
        .write(move |tx| {
            users::link(tx, &id, &customer, &database_time(now))?;
            show_tier(tx, &catalogue, &id, now)
        })
        .await
}

/// Makes an admin of a user, or takes that back: then nobody lets them in as one any more when this returns.
pub async fn set_admin(app: &App, id: &str, admin: bool) -> Result<()> {
    let (id, now) = (id.to_owned(), database_time(app.clock.now()));
    app.db.write(move |tx| users::set_admin(tx, &id, admin, &now)).await?;
    if !admin {
        app.db.outwait_other_readers().await;
    }
    Ok(())
}

/// Disables a user: their sessions are good for nothing when this returns, and nothing is let through for them. Or enables them
/// again.
pub async fn set_disabled(app: &App, id: &str, disabled: bool) -> Result<()> {
    let now = app.clock.now();
    let id = id.to_owned();
    app.db.write(move |tx| users::set_disabled(tx, &id, disabled.then_some(now), &database_time(now))).await?;
    if disabled {
        app.db.outwait_other_readers().await;
    }
    Ok(())
}

/// Nobody with this id is a user, or is one any more.
pub(super) fn unknown() -> Error {
    Error::rule("user.unknown", "/user_id", "expected the id of a user")
}

/// Whether a user is disabled, as the database says now.
///
/// # Errors
/// `user.unknown`, also for who was one once.
pub async fn is_disabled(app: &App, id: &str) -> Result<bool> {
    let epoch = match app.answers.disabled.get(id) {
        Ok(disabled) => return Ok(disabled),
        Err(epoch) => epoch,
    };
    let user = id.to_owned();
    let Some(user) = app.db.read(move |tx| users::get(tx, &user)).await? else { return Err(unknown()) };
    if app.db.notices_other_writers() {
        app.answers.disabled.keep(epoch, id, user.disabled);
    }
    Ok(user.disabled)
}

/// For what is let through or held only for a user who is not disabled. What was used is recorded for who is disabled as well.
///
/// # Errors
/// `user.disabled`; `user.unknown`, also for who was one once.
pub async fn let_in(app: &App, id: &str) -> Result<()> {
    if is_disabled(app, id).await? { Err(Error::Forbidden { code: DISABLED }) } else { Ok(()) }
}

pub async fn list(app: &App, after: &str, limit: i64) -> Result<Vec<User>> {
    let after = after.to_owned();
    app.db.read(move |tx| users::page(tx, &after, limit)).await
}

/// The user's customer at Stripe. One without a link is linked by e-mail, once: when exactly one customer has exactly this
/// address and belongs to nobody else. An e-mail proves nothing more than that.
pub async fn customer(app: &App, user: &User) -> Result<Option<String>> {
    if let Some(customer) = &user.customer {
        return Ok(Some(customer.clone()));
    }
    let email = user.email.clone();
    let found = app
        .db
        .read(move |tx| {
            // A part of the list cannot say that there is exactly one.
            if store::syncs::get(tx, Resource::Customers.name())?.and_then(|list| list.as_of).is_none() {
                return Ok(Vec::new());
            }
            customers::with_email(tx, &email)
        })
        .await?;
    match found.as_slice() {
        [] => Ok(None),
        [customer] => match link(app, &user.id, customer).await {
            Ok(()) => Ok(Some(customer.clone())),
            Err(Error::Conflict { .. }) => {
                tracing::warn!(
                    user.id = user.id,
                    customer.id = customer,
                    "not linked by e-mail: the customer is another user's"
                );
                Ok(None)
            }
            Err(error) => Err(error),
        },
        [_, ..] => {
            tracing::warn!(user.id = user.id, "not linked by e-mail: several customers have this address");
            Ok(None)
        }
    }
}

/// An instant as the users table holds it: `YYYY-MM-DD HH:MM:SS`, UTC.
pub(super) fn database_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}
