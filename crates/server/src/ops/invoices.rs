//! A user's invoices.

use super::mirror::{self, Mirrored};
use super::users;
use crate::app::App;
use crate::error::Result;
use crate::store::After;
use crate::store::invoices::{self, Invoice};
use crate::store::mirror::Resource;
use crate::store::users::User;

/// The newest invoices of a user.
pub async fn newest(app: &App, user: &User, limit: u16) -> Result<Mirrored<Vec<Invoice>>> {
    let Some(customer) = users::customer(app, user).await? else {
        return Ok(Mirrored { value: Vec::new(), as_of: None });
    };
    mirror::ensure(app, Resource::Invoices, &customer).await?;
    app.db
        .read(move |tx| {
            let value = invoices::of_customer(tx, &customer, &After::start(), i64::from(limit))?;
            Ok(Mirrored { value, as_of: mirror::as_of(tx, Resource::Invoices, Some(&customer))? })
        })
        .await
}
