//! From an object as Stripe sent it to the row that we list and count, and again when what it is made of changes.

use std::cell::RefCell;
use std::collections::BTreeMap;

use billing::catalogue::{Catalogue, TierEvidence};
use billing::money::Currency;
use billing::subscription as core;
use jiff::Timestamp;
use serde_json::Value;

use super::readings::stripe_now;
use super::revenue::points;
use crate::app::App;
use crate::error::{Error, Result};
use crate::gateways::stripe::read::{self, Resolve};
use crate::store::mirror::{self, Resource, Seen};
use crate::store::revenue::Since;
use crate::store::{Tx, parts, plans, readings, subscriptions};

/// How many subscriptions are derived anew in one transaction.
const BATCH: i64 = 200;

/// A subscription read with what the mirror knows of its parts.
#[derive(Debug)]
pub struct Derived {
    pub wire: read::Subscription,
    pub row: subscriptions::Subscription,
    /// Ids of the objects that it is made of.
    parts: Vec<String>,
}

/// Derives and writes a subscription, which brings what it brings `since` then.
pub fn save_subscription(
    tx: &mut Tx<'_>,
    seen: Seen<'_>,
    catalogue: &Catalogue,
    now: Timestamp,
    since: &Since,
) -> Result<()> {
    catch_up(tx, seen.id, catalogue, now)?;
    write(tx, seen, catalogue, now, since)
}

fn write(tx: &mut Tx<'_>, seen: Seen<'_>, catalogue: &Catalogue, now: Timestamp, since: &Since) -> Result<()> {
    let object = read::object(seen.raw).map_err(Error::internal)?;
    let derived = derived(tx, &object, catalogue, now)?;
    let past = || points::past(&derived.wire, catalogue, now);
    subscriptions::save(tx, seen, &derived.row, &derived.parts, &points::dated(&derived, since), &past)
}

/// Where a coupon of a mirrored subscription began or ended since its row was derived, says so before anything else is said.
pub fn catch_up(tx: &mut Tx<'_>, id: &str, catalogue: &Catalogue, now: Timestamp) -> Result<()> {
    let Some(due) = subscriptions::value_until(tx, id)?.filter(|due| *due <= now) else { return Ok(()) };
    let Some((raw, run)) = kept(tx, id)? else { return Ok(()) };
    let object = read::object(&raw).map_err(Error::internal)?;
    let before = derived(tx, &object, catalogue, now)?;
    points::follow(tx, &before, catalogue, due, now)?;
    let since = Since { at: now, cause: format!("value {}", readings::take_ticket(tx)?), exact: false };
    write(tx, Seen { resource: Resource::Subscriptions, id, raw: &raw, run }, catalogue, now, &since)
}

/// Derives a subscription, as it is worth at `at`.
pub fn derived(tx: &mut Tx<'_>, object: &Value, catalogue: &Catalogue, at: Timestamp) -> Result<Derived> {
    let mirror = Mirror { tx: RefCell::new(tx), failure: RefCell::default(), asked: RefCell::default() };
    let mut wire = read::subscription_in(object, &mirror).map_err(Error::internal)?;
    take_customers_discount(&mut wire, &mirror);
    let Mirror { failure, asked, .. } = mirror;
    if let Some(error) = failure.into_inner() {
        return Err(error);
    }
    let row = derive(&wire, catalogue, at);
    let mut parts = asked.into_inner();
    for item in &wire.core.items {
        parts.push(item.price.clone());
        parts.extend(item.product.clone());
    }
    Ok(Derived { wire, row, parts })
}

/// What the mirror knows of objects that a subscription only names.
struct Mirror<'t, 'c> {
    tx: RefCell<&'t mut Tx<'c>>,
    failure: RefCell<Option<Error>>,
    asked: RefCell<Vec<String>>,
}

impl Mirror<'_, '_> {
    /// Runs a query; an error is kept for the caller, because a resolver can only say that it does not know.
    fn ask<T>(&self, id: &str, query: impl FnOnce(&mut Tx<'_>) -> Result<Option<T>>) -> Option<T> {
        self.asked.borrow_mut().push(id.to_owned());
        match query(&mut self.tx.borrow_mut()) {
            Ok(found) => found,
            Err(error) => {
                self.failure.borrow_mut().get_or_insert(error);
                None
            }
        }
    }
}

impl Resolve for Mirror<'_, '_> {
    fn coupon(&self, id: &str) -> Option<read::Coupon> {
        read::coupon(&self.ask(id, |tx| mirror::raw(tx, Resource::Coupons, id))?).ok()
    }

    fn price(&self, id: &str) -> Option<read::Price> {
        read::price(&self.ask(id, |tx| mirror::raw(tx, Resource::Prices, id))?).ok()
    }

    fn product_metadata(&self, id: &str) -> Option<BTreeMap<String, String>> {
        self.ask(id, |tx| parts::product_metadata(tx, id))
    }
}

/// A subscription without a discount of its own has its customer's (Stripe: "Discounts on customers").
fn take_customers_discount(wire: &mut read::Subscription, mirror: &Mirror<'_, '_>) {
    let own = !wire.core.discounts.is_empty() || wire.core.items.iter().any(|item| !item.discounts.is_empty());
    let (false, Some(customer)) = (own, wire.customer.as_deref()) else { return };
    let Some(raw) = mirror.ask(customer, |tx| mirror::raw(tx, Resource::Customers, customer)) else { return };
    if let Ok(customer) = read::customer(&raw, mirror) {
        wire.core.discounts.extend(customer.discount);
    }
}

/// The row of a subscription that was read.
pub fn derive(wire: &read::Subscription, catalogue: &Catalogue, now: Timestamp) -> subscriptions::Subscription {
    let prices: Vec<&str> = wire.core.items.iter().map(|item| item.price.as_str()).collect();
    let evidence = TierEvidence { prices: &prices, subscription: &wire.metadata, products: &wire.product_metadata };
    let price = core::price(&wire.core);
    let monthly = core::monthly_value(&wire.core, now);
    let fault = price.as_ref().err().or(monthly.as_ref().err()).map(ToString::to_string);
    let currency = currency_of(wire, price.as_ref().ok().and_then(Option::as_ref), catalogue);
    let recurrence = price
        .as_ref()
        .ok()
        .and_then(Option::as_ref)
        .map(|price| price.recurrence)
        .or_else(|| wire.core.items.first().map(|item| item.recurrence));
    subscriptions::Subscription {
        id: wire.id.clone(),
        customer: wire.customer.clone(),
        status: wire.core.status.clone(),
        tier: catalogue.tier_of(&evidence).as_str().to_owned(),
        currency: currency.code().to_owned(),
        // Without a licensed item nothing is charged ahead of use: that is a zero we know. Without any item we know nothing.
        amount_minor: price
            .as_ref()
            .ok()
            .filter(|_| !wire.core.items.is_empty())
            .map(|price| price.as_ref().map_or(0, |price| price.amount.minor())),
        interval: recurrence.map(|recurrence| recurrence.interval.as_str().to_owned()),
        interval_count: recurrence.map(|recurrence| recurrence.count),
        monthly_minor: monthly.map_or(0, billing::money::Money::minor),
        value_until: core::value_changes_at(&wire.core, now),
        period: core::period(&wire.core),
        anchor: wire.billing_cycle_anchor,
        cancel_at_period_end: wire.core.cancel_at_period_end,
        created: wire.core.created,
        fault,
    }
}

fn currency_of(wire: &read::Subscription, price: Option<&core::Price>, catalogue: &Catalogue) -> Currency {
    price
        .map(|price| price.amount.currency())
        .or(wire.currency)
        .or_else(|| wire.core.items.first().map(|item| item.currency))
        .unwrap_or(catalogue.currency)
}

/// Why subscriptions are derived anew, though Stripe said nothing of them.
#[derive(Debug, Clone)]
enum Why {
    /// Another catalogue.
    Catalogue,
    /// A price, product, coupon or customer that has changed.
    Part(String),
}

/// Derives a mirrored subscription anew from its kept text.
pub(super) fn again(tx: &mut Tx<'_>, id: &str, catalogue: &Catalogue, now: Timestamp, since: &Since) -> Result<()> {
    let Some((raw, run)) = kept(tx, id)? else { return Ok(()) };
    save_subscription(tx, Seen { resource: Resource::Subscriptions, id, raw: &raw, run }, catalogue, now, since)
}

/// The text of a mirrored subscription, and the run that saw it.
fn kept(tx: &mut Tx<'_>, id: &str) -> Result<Option<(String, i64)>> {
    let raw = mirror::raw(tx, Resource::Subscriptions, id)?;
    Ok(raw.zip(subscriptions::run_of(tx, id)?))
}

/// Derives every subscription anew, and has everybody's terms looked at, because the catalogue is another one.
pub async fn follow_catalogue(app: &App) -> Result<()> {
    app.db.write(plans::mark_all).await?;
    let mut after = String::new();
    while let Some(last) = derive_batch(app, Why::Catalogue, move |tx| subscriptions::ids(tx, &after, BATCH)).await? {
        after = last;
    }
    Ok(())
}

/// Derives the subscriptions anew that are made of parts that have changed.
pub async fn follow_parts(app: &App) -> Result<()> {
    while let Some(part) = app.db.read(parts::next_stale).await? {
        let mut after = String::new();
        loop {
            let (of, why) = (part.clone(), Why::Part(part.clone()));
            match derive_batch(app, why, move |tx| parts::subscriptions_with(tx, &of, &after, BATCH)).await? {
                Some(last) => after = last,
                None => break,
            }
        }
        app.db.write(move |tx| parts::unmark_stale(tx, &part)).await?;
    }
    Ok(())
}

/// Derives the subscriptions anew whose value changes by itself about now: a coupon has run out.
pub async fn follow_time(app: &App) -> Result<()> {
    let (now, mut before) = (now(app), Vec::new());
    loop {
        let catalogue = app.catalogue.clone();
        let followed = app.db.write(move |tx| {
            let due = subscriptions::due(tx, now, BATCH)?;
            due.iter().try_for_each(|id| catch_up(tx, id, &catalogue, now))?;
            Ok(due)
        });
        let due = followed.await?;
        // What is due for ever, because its text is lost, is not waited for.
        if due.is_empty() || due == before {
            return Ok(());
        }
        before = due;
    }
}

/// By Stripe's clock, or by ours where that is further: nobody tells Stripe's time while it does not answer.
fn now(app: &App) -> Timestamp {
    stripe_now(app).max(app.clock.now())
}

/// One batch in one transaction; the last id of it, or nothing when the batch was empty.
async fn derive_batch<F>(app: &App, why: Why, mut batch: F) -> Result<Option<String>>
where
    F: FnMut(&mut Tx<'_>) -> Result<Vec<String>> + Send + 'static,
{
    let (catalogue, now) = (app.catalogue.clone(), now(app));
    app.db
        .write(move |tx| {
            let ids = batch(tx)?;
            let Some(last) = ids.last().cloned() else { return Ok(None) };
            let since = since(&why, readings::take_ticket(tx)?, now);
            ids.iter().try_for_each(|id| again(tx, id, &catalogue, now, &since))?;
            Ok(Some(last))
        })
        .await
}

/// Since when what is derived now holds.
fn since(why: &Why, ticket: i64, now: Timestamp) -> Since {
    let (cause, exact) = match why {
        Why::Catalogue => (format!("catalogue {ticket}"), true),
        Why::Part(part) => (format!("{part} {ticket}"), false),
    };
    Since { at: now, cause, exact }
}
