//! How a customer's revenue came about: the points, and the movements that follow from them.

use std::collections::BTreeMap;

use billing::catalogue::PastDue;
use billing::money::{Currency, Money};
use billing::movement::{self, Movement};
use billing::subscription::Status;

use crate::app::App;
use crate::error::{Error, Result};
use crate::store::revenue::{self, Point};

/// A customer's past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Each currency for itself, oldest first.
    pub movements: Vec<Movement>,
    pub points: Vec<Point>,
}

/// Everything that is known of a customer's revenue.
///
/// # Errors
/// `NotFound` for a customer of whom nothing was ever said.
pub async fn of_customer(app: &App, customer: &str) -> Result<History> {
    let customer = customer.to_owned();
    let points = app.db.read(move |tx| revenue::of_customer(tx, &customer)).await?;
    if points.is_empty() {
        return Err(Error::NotFound);
    }
    let mut by_currency: BTreeMap<Currency, Vec<movement::Point>> = BTreeMap::new();
    for point in &points {
        let worth = worth(point, app.catalogue.past_due)?;
        by_currency.entry(worth.currency()).or_default().push(movement::Point {
            subscription: point.subscription.clone(),
            since: point.since.at,
            worth,
            exact: point.since.exact,
        });
    }
    let mut movements = Vec::new();
    for points in by_currency.values() {
        movements.extend(movement::movements(points).map_err(Error::internal)?);
    }
    Ok(History { movements, points })
}

/// As the statistics count it: what is past due counts, or not, as the catalogue says.
fn worth(point: &Point, past_due: PastDue) -> Result<Money> {
    let currency = Currency::parse(&point.currency).map_err(Error::internal)?;
    let excluded = past_due == PastDue::Exclude && point.status == Some(Status::PastDue);
    Ok(Money::new(if excluded { 0 } else { point.monthly_minor }, currency))
}
