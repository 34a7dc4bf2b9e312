//! Subscriptions as users and admins ask for them.

use std::cmp::Reverse;

use super::mirror::{self, Mirrored};
use super::page::{Ask, Page};
use super::users;
use crate::app::App;
use crate::error::Result;
use crate::store::mirror::Resource;
use crate::store::subscriptions::{self, Filter, Subscription};
use crate::store::users::User;
use crate::store::{After, Tx, totals};

/// The best current subscription of a user; nothing when there is none.
pub async fn current(app: &App, user: &User) -> Result<Mirrored<Option<Subscription>>> {
    let Some(customer) = users::customer(app, user).await? else { return Ok(Mirrored { value: None, as_of: None }) };
    mirror::ensure(app, Resource::Subscriptions, &customer).await?;
    app.db
        .read(move |tx| {
            let value = current_of(tx, &customer)?;
            Ok(Mirrored { value, as_of: mirror::as_of(tx, Resource::Subscriptions, Some(&customer))? })
        })
        .await
}

/// Active comes before trialing, past_due, unpaid, paused and incomplete; then the newest.
pub fn current_of(tx: &mut Tx<'_>, customer: &str) -> Result<Option<Subscription>> {
    let running = subscriptions::running_of(tx, customer)?;
    Ok(running.into_iter().min_by_key(|one| (one.status.rank(), Reverse(one.created), Reverse(one.id.clone()))))
}

/// A page of all subscriptions, newest first.
pub async fn list(app: &App, filter: Filter, ask: Ask<'_>) -> Result<Mirrored<Page<Subscription>>> {
    let place = |row: &Subscription| After::row(row.created, &row.id);
    ask.of_mirror(app, Resource::Subscriptions, place, move |tx, after, most| {
        Ok((subscriptions::page(tx, &filter, after, most)?, count(tx, &filter)?))
    })
    .await
}

/// How many match, from the totals.
fn count(tx: &mut Tx<'_>, filter: &Filter) -> Result<u64> {
    let totals = totals::all(tx)?;
    let matching = totals.iter().filter(|total| match filter {
        Filter::All => true,
        Filter::Running => !total.status.is_ended(),
        Filter::Status(status) => total.status == *status,
    });
    Ok(matching.map(|total| total.count).sum())
}
