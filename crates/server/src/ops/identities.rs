//! Who is meant: our users by the ids that we and others use for them.

use std::collections::{BTreeMap, BTreeSet};

use crate::app::App;
use crate::error::{Error, Result};
use crate::store::users::{self, User};
use crate::store::{Tx, identities};

/// The user with this id.
///
/// # Errors
/// `user.unknown` at `pointer`.
pub async fn user(app: &App, id: &str, pointer: &'static str) -> Result<User> {
    if let Some(person) = app.answers.person(id) {
        return Ok(person.user.clone());
    }
    let id = id.to_owned();
    // No text of a database holds the character that ends texts in others.
    let found = if id.contains('\0') { None } else { app.db.read(move |tx| users::get(tx, &id)).await? };
    found.ok_or_else(|| Error::rule("user.unknown", pointer, "expected the id of a user"))
}

/// The users that own these subscriptions at Lago, by its name: that is the user's own id, or the id of their customer at Lago.
pub async fn users_of_subscriptions(app: &App, named: BTreeSet<String>) -> Result<BTreeMap<String, String>> {
    app.db
        .read(move |tx| {
            let found = named.iter().map(|name| Ok((name.clone(), owner(tx, name)?)));
            let found: Result<Vec<(String, Option<String>)>> = found.collect();
            Ok(found?.into_iter().filter_map(|(name, user)| Some((name, user?))).collect())
        })
        .await
}

fn owner(tx: &mut Tx<'_>, name: &str) -> Result<Option<String>> {
    match users::get(tx, name)? {
        Some(user) => Ok(Some(user.id)),
        None => identities::by_lago_customer(tx, name),
    }
}
