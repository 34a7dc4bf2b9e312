//! Revenue and subscription statistics, from totals that move with the rows they count.

pub mod discounts;
pub mod history;
pub mod points;
pub mod recount;

use billing::revenue::{self, Stats};

use super::mirror::{self, Mirrored};
use crate::app::App;
use crate::error::{Error, Result};
use crate::store::mirror::Resource;
use crate::store::totals;

/// The statistics with what the totals alone do not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    pub customers: u64,
    pub stats: Stats,
}

/// Revenue now, as far as the mirror knows.
pub async fn overview(app: &App) -> Result<Mirrored<Overview>> {
    let (catalogue, configured) = (app.catalogue.clone(), app.stripe.is_some());
    app.db
        .read(move |tx| {
            let customers_as_of = mirror::as_of(tx, Resource::Customers, None)?;
            let subscriptions_as_of = mirror::as_of(tx, Resource::Subscriptions, None)?;
            if configured && (customers_as_of.is_none() || subscriptions_as_of.is_none()) {
                return Err(mirror::never_mirrored());
            }
            let stats = revenue::stats(&catalogue, &totals::all(tx)?).map_err(Error::internal)?;
            let customers = totals::mirrored(tx, Resource::Customers)?;
            Ok(Mirrored { value: Overview { customers, stats }, as_of: customers_as_of.min(subscriptions_as_of) })
        })
        .await
}
