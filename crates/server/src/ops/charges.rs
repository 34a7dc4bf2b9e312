//! Charges as admins list them.

use super::mirror::Mirrored;
use super::page::{Ask, Page};
use crate::app::App;
use crate::error::Result;
use crate::store::charges::{self, Charge};
use crate::store::mirror::Resource;
use crate::store::{After, totals};

/// A page of all charges, newest first.
pub async fn list(app: &App, ask: Ask<'_>) -> Result<Mirrored<Page<Charge>>> {
    let place = |row: &Charge| After::row(row.created, &row.id);
    ask.of_mirror(app, Resource::Charges, place, |tx, after, most| {
        Ok((charges::page(tx, after, most)?, totals::mirrored(tx, Resource::Charges)?))
    })
    .await
}
