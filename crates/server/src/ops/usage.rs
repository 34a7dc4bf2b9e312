//! Usage: recording events, and what a user has used of what they have.

use std::collections::BTreeMap;

use billing::money::{Currency, Money};
use billing::time::{self, Window};
use billing::usage::{self, Account, Credits, Quantity};
use jiff::{SignedDuration, Timestamp};

use super::mirror::{self, Mirrored};
use super::{subscriptions, users};
use crate::app::App;
use crate::error::{Error, Result};
use crate::store::mirror::Resource;
use crate::store::subscriptions::Subscription;
use crate::store::usage::{self as log, Event, Verdict};
use crate::store::users::User;

/// How old an event may be.
const WINDOW: SignedDuration = SignedDuration::from_hours(35 * 24);
/// How far ahead of our clock an event may be.
const AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// An event as its sender tells it.
#[derive(Debug, Clone)]
pub struct Told {
    pub transaction_id: String,
    pub user: String,
    pub kind: String,
    pub quantity: Quantity,
    pub at: Timestamp,
    pub properties: Option<String>,
}

/// Records events in one transaction: each gets its own verdict, and a good one counts even where others fail.
pub async fn record(app: &App, told: Vec<Told>) -> Result<Vec<Result<Verdict>>> {
    let now = app.clock.now();
    let kinds: Vec<String> = app.catalogue.events.keys().cloned().collect();
    app.db
        .write(move |tx| {
            let mut verdicts = Vec::with_capacity(told.len());
            for event in &told {
                verdicts.push(match check(tx, event, &kinds, now) {
                    Ok(event) => Ok(log::record(tx, &event, now.as_millisecond())?),
                    Err(Error::Invalid(faults)) => Err(Error::Invalid(faults)),
                    Err(other) => return Err(other),
                });
            }
            Ok(verdicts)
        })
        .await
}

fn check(tx: &mut crate::store::Tx<'_>, told: &Told, kinds: &[String], now: Timestamp) -> Result<Event> {
    if told.transaction_id.is_empty() || told.transaction_id.len() > 255 {
        return Err(Error::invalid("/transaction_id", "expected 1 to 255 characters"));
    }
    if !kinds.contains(&told.kind) {
        return Err(Error::invalid("/type", "expected an event type of the catalogue"));
    }
    if told.at < now.saturating_sub(WINDOW).map_err(Error::internal)? {
        return Err(Error::invalid("/timestamp", "too old: expected one of the last 35 days"));
    }
    if told.at > now.saturating_add(AHEAD).map_err(Error::internal)? {
        return Err(Error::invalid("/timestamp", "expected at most 5 minutes ahead"));
    }
    if crate::store::users::get(tx, &told.user)?.is_none() {
        return Err(Error::invalid("/user_id", "expected the id of a user"));
    }
    Ok(Event {
        transaction_id: told.transaction_id.clone(),
        user: told.user.clone(),
        kind: told.kind.clone(),
        quantity: told.quantity,
        event_ms: told.at.as_millisecond(),
        properties: told.properties.clone(),
    })
}

/// What a user has used, and what that costs them.
#[derive(Debug, Clone)]
pub struct Overview {
    pub tier: String,
    pub today: BTreeMap<String, Quantity>,
    pub month: BTreeMap<String, Quantity>,
    pub day: Window,
    pub period: Window,
    pub account: Account,
}

/// Usage of the day and of the credit period, and the credits. Needs neither Stripe nor Redis to answer.
pub async fn overview(app: &App, user: &User) -> Result<Mirrored<Overview>> {
    let now = app.clock.now();
    let customer = users::customer(app, user).await?;
    if let Some(customer) = &customer
        && let Err(error) = mirror::ensure(app, Resource::Subscriptions, customer).await
    {
        // The log is ours: with Stripe away the period falls back to the calendar month, and the answer says how old it is.
        tracing::warn!(user.id = user.id, %error, "usage without a subscription: never mirrored");
    }
    let (user, catalogue) = (user.clone(), app.catalogue.clone());
    app.db
        .read(move |tx| {
            let current = customer.as_deref().map(|id| subscriptions::current_of(tx, id)).transpose()?.flatten();
            let paying = current.filter(|current| current.status.is_active());
            let period = period(paying.as_ref(), &catalogue.time_zone, now)?;
            let day = time::local_day(&catalogue.time_zone, now).map_err(failed)?;
            let today = with_all_types(&catalogue, log::sums(tx, &user.id, &day)?);
            let month = with_all_types(&catalogue, log::sums(tx, &user.id, &period)?);
            let tier = paying
                .map(|current| current.tier)
                .filter(|tier| catalogue.tier(tier).is_some())
                .unwrap_or(user.tier.clone());
            let used = usage::cost(&catalogue, &priced(&catalogue, &month)).map_err(failed)?;
            let account = match catalogue.tier(&tier) {
                Some(tier) => usage::account(tier, used).map_err(failed)?,
                None => without_tier(catalogue.currency, used),
            };
            let as_of =
                customer.as_deref().map(|id| mirror::as_of(tx, Resource::Subscriptions, Some(id))).transpose()?;
            Ok(Mirrored { value: Overview { tier, today, month, day, period, account }, as_of: as_of.flatten() })
        })
        .await
}

/// The account in a tier that the catalogue does not have: nothing is included, and no price is made up.
fn without_tier(currency: Currency, used: Credits) -> Account {
    Account {
        included: Credits::ZERO,
        used,
        remaining: Credits::ZERO,
        overage: used,
        overage_cost: Money::zero(currency),
        price_per_1k: Money::zero(currency),
    }
}

/// Every event type of the catalogue, used or not, and whatever else the log holds.
fn with_all_types(
    catalogue: &billing::catalogue::Catalogue,
    mut sums: BTreeMap<String, Quantity>,
) -> BTreeMap<String, Quantity> {
    for kind in catalogue.events.keys() {
        sums.entry(kind.clone()).or_insert(Quantity::from_micro(0));
    }
    sums
}

/// What has a weight. A type that the operator has taken out of the catalogue is still shown, and weighs nothing.
fn priced(catalogue: &billing::catalogue::Catalogue, sums: &BTreeMap<String, Quantity>) -> BTreeMap<String, Quantity> {
    let known = sums.iter().filter(|(kind, _)| catalogue.events.contains_key(*kind));
    known.map(|(kind, sum)| (kind.clone(), *sum)).collect()
}

/// The credit period: the month of the subscription, or the calendar's without one.
fn period(current: Option<&Subscription>, zone: &jiff::tz::TimeZone, now: Timestamp) -> Result<Window> {
    let Some(current) = current else { return time::calendar_month(zone, now).map_err(failed) };
    let monthly = current.interval.as_deref() == Some("month") && current.interval_count == Some(1);
    let trialing = current.status == billing::subscription::Status::Trialing;
    if let Some(period) = current.period.as_ref().filter(|period| period.start <= now && now < period.end)
        && monthly
        && !trialing
    {
        return Ok(*period);
    }
    let anchor = current.anchor.or(current.period.as_ref().map(|period| period.start)).unwrap_or(current.created);
    time::monthly_window(anchor, now).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::internal(error.to_string())
}
