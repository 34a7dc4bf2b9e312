//! Customers as admins list them.

use super::mirror::{self, Mirrored};
use super::page::{Ask, Page};
use crate::app::App;
use crate::error::Result;
use crate::store::customers::{self, Customer};
use crate::store::mirror::Resource;
use crate::store::{After, totals};

/// A page of all customers, newest first.
pub async fn list(app: &App, ask: Ask<'_>) -> Result<Mirrored<Page<Customer>>> {
    let (after, fetch) = (ask.after(&app.cursor_key)?, ask.fetch());
    let configured = app.stripe.is_some();
    let (rows, total, as_of) = app
        .db
        .read(move |tx| {
            let as_of = mirror::as_of(tx, Resource::Customers, None)?;
            if configured && as_of.is_none() {
                return Err(mirror::never_mirrored());
            }
            let total = totals::objects(tx)?.get(Resource::Customers.name()).copied().unwrap_or(0);
            Ok((customers::page(tx, &after, fetch)?, total, as_of))
        })
        .await?;
    let place = |row: &Customer| After { created: row.created.as_second(), id: row.id.clone() };
    Ok(Mirrored { value: ask.page(&app.cursor_key, rows, total, place), as_of })
}
