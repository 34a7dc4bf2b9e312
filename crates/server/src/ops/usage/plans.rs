//! The terms of an account: what the catalogue and the mirror say now, and the entries that the log gets of it.

use billing::account::Account;
use billing::catalogue::{Catalogue, Overage};
use billing::entry::{PeriodRule, Terms};
use billing::money::Money;
use billing::time;
use billing::usage::Credits;
use jiff::Timestamp;

use super::draft::plan_entry;
use super::moving;
use crate::app::App;
use crate::error::{Error, Result};
use crate::ops::subscriptions;
use crate::ops::users::database_time;
use crate::store::log::Entry;
use crate::store::subscriptions::Subscription;
use crate::store::users::{self, User};
use crate::store::{Tx, plans};

/// How many users are looked at in one transaction.
const BATCH: i64 = 200;

/// What holds for a user now: the tier and the period of the running subscription, else the user's own tier by the calendar, or
/// for as long as a trial goes on.
pub fn terms(tx: &mut Tx<'_>, catalogue: &Catalogue, user: &User, now: Timestamp) -> Result<Terms> {
    let paying = paying(tx, user)?;
    let rule = paying.as_ref().map_or(Ok(PeriodRule::Calendar), |current| period_rule(current, now))?;
    let sold = paying.as_ref().map(|current| &current.tier).filter(|tier| catalogue.tier(tier).is_some());
    let tier = sold.unwrap_or(&user.tier);
    let known = match catalogue.tier(tier) {
        Some(own) if sold.is_none() && own.trial_days.is_some() => trial(catalogue, user),
        Some(known) => Some(Terms::of(known, rule, catalogue.time_zone.clone())),
        None => None,
    };
    if known.is_none() && catalogue.tier(tier).is_some() {
        tracing::warn!(
            user.id = user.id,
            "nobody knows when the trial began: users.created_at holds no time, so nothing is allowed (billhook doctor)"
        );
    }
    // Unknown is not unlimited, and no price is made up.
    Ok(known.unwrap_or_else(|| Terms {
        tier: tier.clone(),
        included: Credits::ZERO,
        overage: Overage::Block,
        overage_cap: None,
        price_per_1k: Money::zero(catalogue.currency),
        period: rule,
        zone: catalogue.time_zone.clone(),
        ends_ms: None,
    }))
}

/// The trial that a user's own tier is, from the user's first day on.
fn trial(catalogue: &Catalogue, user: &User) -> Option<Terms> {
    let tier = catalogue.tier(&user.tier)?;
    Terms::trial(tier, user.created?, tier.trial_days?, catalogue.time_zone.clone())
}

/// Whether a user's own tier is a trial, and their row does not say when it began.
pub fn is_undated(catalogue: &Catalogue, user: &User) -> bool {
    let is_trial = catalogue.tier(&user.tier).is_some_and(|tier| tier.trial_days.is_some());
    is_trial && trial(catalogue, user).is_none()
}

/// The subscription that entitles a user to something now: an unpaid or unfinished one does not (S-46).
fn paying(tx: &mut Tx<'_>, user: &User) -> Result<Option<Subscription>> {
    let current = user.customer.as_deref().map(|id| subscriptions::current_of(tx, id)).transpose()?.flatten();
    Ok(current.filter(|current| current.status.is_active()))
}

/// Writes the tier into the user's row, where the platform reads it. An unknown tier is nobody's.
pub fn show_tier(tx: &mut Tx<'_>, catalogue: &Catalogue, user: &User, now: Timestamp) -> Result<()> {
    let sold = sold(tx, catalogue, user)?;
    users::show_tier(tx, &user.id, sold.as_deref(), &database_time(now))
}

/// The tier that a user subscribes to.
pub fn sold(tx: &mut Tx<'_>, catalogue: &Catalogue, user: &User) -> Result<Option<String>> {
    Ok(paying(tx, user)?.map(|current| current.tier).filter(|tier| catalogue.tier(tier).is_some()))
}

/// Where the credit periods of a subscription begin: at its anchor, and where Stripe's own month is another, at that.
fn period_rule(current: &Subscription, now: Timestamp) -> Result<PeriodRule> {
    let anchor = current.anchor.or(current.period.as_ref().map(|period| period.start)).unwrap_or(current.created);
    let monthly = current.interval.as_deref() == Some("month") && current.interval_count == Some(1);
    let trialing = current.status == billing::subscription::Status::Trialing;
    let month = time::monthly_window(anchor, now).map_err(Error::internal)?;
    Ok(match current.period {
        Some(period) if monthly && !trialing && period.start <= now && now < period.end && period != month => {
            PeriodRule::Fixed(period)
        }
        _ => PeriodRule::Anchored(anchor),
    })
}

/// When the period of a user's terms had begun that holds now: at Stripe, however late it is heard of here. The calendar begins
/// when a subscription no longer holds.
pub fn began(tx: &mut Tx<'_>, user: &User, terms: &Terms, now: Timestamp) -> Result<Timestamp> {
    let Some(current) = paying(tx, user)? else { return Ok(now) };
    let month = terms.period_at(now).map_err(Error::internal)?;
    // The first month of a trial or of a later anchor is a part of one.
    let own = current.period.map_or(current.created, |period| period.start);
    Ok(month.start.max(own).min(now))
}

/// The entry by which an account comes to other terms, whose period began at the first of these instants, and which is heard of at
/// the second.
pub(in crate::ops) fn change_entry(
    tx: &mut Tx<'_>,
    catalogue: &Catalogue,
    (user, account): (&str, &Account),
    terms: &Terms,
    [began_ms, now_ms]: [i64; 2],
) -> Result<Entry> {
    let (body, event_ms) = moving::change(tx, catalogue, (user, account), terms, [began_ms, now_ms])?;
    Ok(plan_entry(user, body, account.position(), [event_ms, now_ms]))
}

/// Users whose tier the catalogue does not have, and those tiers. Nothing is allowed to them until it has.
pub fn unknown(tx: &mut Tx<'_>, catalogue: &Catalogue) -> Result<(u64, Vec<String>)> {
    let mut all = users::tiers(tx)?;
    all.retain(|(tier, _)| catalogue.tier(tier).is_none());
    let count = all.iter().map(|(_, count)| count).sum();
    Ok((count, all.into_iter().map(|(tier, _)| tier).collect()))
}

/// Says so, and holds accounts to it that were opened by a version that allowed them everything.
pub async fn watch_unknown(app: &App) -> Result<()> {
    let catalogue = std::sync::Arc::clone(&app.catalogue);
    let (count, tiers) = app.db.read(move |tx| unknown(tx, &catalogue)).await?;
    if count == 0 {
        return Ok(());
    }
    tracing::warn!(
        users = count,
        tiers = tiers.join(", "),
        "users are in tiers that the catalogue does not have: nothing is allowed to them (billhook doctor names them)"
    );
    app.db.write(move |tx| tiers.iter().try_for_each(|tier| plans::mark_tier(tx, tier))).await?;
    follow(app).await
}

/// Brings the log up to date with everybody's terms that have changed. Called after whatever may change them.
pub async fn follow(app: &App) -> Result<()> {
    loop {
        let users = app.db.read(|tx| plans::marked(tx, BATCH)).await?;
        if users.is_empty() {
            return Ok(());
        }
        app.usage.replan(app, users).await?;
    }
}

/// The same for one user, before an answer is made for them.
pub async fn follow_user(app: &App, user: &str) -> Result<()> {
    let asked = user.to_owned();
    if app.db.read(move |tx| plans::is_marked(tx, &asked)).await? {
        app.usage.replan(app, vec![user.to_owned()]).await?;
    }
    Ok(())
}
