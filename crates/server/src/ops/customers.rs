//! Customers as admins list them.

use super::mirror::Mirrored;
use super::page::{Ask, Page};
use crate::app::App;
use crate::error::Result;
use crate::store::customers::{self, Customer};
use crate::store::mirror::Resource;
use crate::store::{After, totals};

/// A page of all customers, newest first.
pub async fn list(app: &App, ask: Ask<'_>) -> Result<Mirrored<Page<Customer>>> {
    let place = |row: &Customer| After::row(row.created, &row.id);
    ask.of_mirror(app, Resource::Customers, place, |tx, after, most| {
        Ok((customers::page(tx, after, most)?, totals::mirrored(tx, Resource::Customers)?))
    })
    .await
}
