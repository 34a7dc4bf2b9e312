//! A user's payment methods.

use super::mirror::{self, Mirrored};
use super::users;
use crate::app::App;
use crate::error::Result;
use crate::store::mirror::Resource;
use crate::store::payment_methods::{self, PaymentMethod};
use crate::store::users::User;

/// Every payment method of a user, newest first.
pub async fn list(app: &App, user: &User) -> Result<Mirrored<Vec<PaymentMethod>>> {
    let Some(customer) = users::customer(app, user).await? else {
        return Ok(Mirrored { value: Vec::new(), as_of: None });
    };
    mirror::ensure(app, Resource::PaymentMethods, &customer).await?;
    app.db
        .read(move |tx| {
            let value = payment_methods::of_customer(tx, &customer)?;
            Ok(Mirrored { value, as_of: mirror::as_of(tx, Resource::PaymentMethods, Some(&customer))? })
        })
        .await
}
