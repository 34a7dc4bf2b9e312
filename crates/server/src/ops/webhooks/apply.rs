//! Applies the events that wait, object by object. All events of one object that wait together cost one look at Stripe at
//! most, and none where an event alone is enough.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use billing::catalogue::Catalogue;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use tokio::time::MissedTickBehavior;

use super::alone::{self, Found, Image};
use super::carried::Carried;
use crate::app::App;
use crate::error::{Error, Result};
use crate::gateways::stripe::{Stripe, StripeError};
use crate::ops::readings::{self, Look, Written};
use crate::ops::revenue::discounts::Discounts;
use crate::ops::revenue::points;
use crate::ops::usage::plans;
use crate::ops::{derivation, metadata, places};
use crate::store::mirror::Resource;
use crate::store::webhooks::{self, Event, State, Target};
use crate::store::{Tx, mirror, readings as looks, subscriptions, syncs};

/// How many objects are looked at at once.
const ABREAST: usize = 16;
/// Events are taken up in such portions: the next when half of one is done.
const PORTION: usize = ABREAST / 2;
/// How often is looked whether anything has come, while answers are on their way.
const LOOK: Duration = Duration::from_millis(200);
/// After so many failures an event is a dead letter (F-57).
const ATTEMPTS: u32 = 8;
/// Until the attempt after so many, in milliseconds: two minutes in all, or half a day.
type Pauses = fn(u32) -> i64;
const SHORT: Pauses = |attempts| 500 << attempts;
const LONG: Pauses = |attempts| 2_000 << (2 * attempts);
/// For how long nobody else takes up what we are at. Said again while we are, so what a process that was killed was at is taken
/// up soon, by whichever comes first (F-03).
const HELD_MS: i64 = 2_000;
const SAID_AGAIN: Duration = Duration::from_millis(500);
/// An object that Stripe could not show is asked for again after this time.
const OUTAGE_MS: i64 = 5_000;
/// How many objects may change before what hangs on them is derived anew.
const FOLLOW_AFTER: u64 = 64;

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drained {
    /// Events that are applied now.
    pub applied: u64,
    /// Events that will be tried again, or never more.
    pub failed: u64,
    /// Stripe did not answer; worth waiting so long.
    pub trouble: Option<Duration>,
}

/// An object with everything that waits for it, taken up by us.
#[derive(Debug)]
struct Claim {
    target: Target,
    events: Vec<Event>,
    look: Look,
    /// Known without asking.
    found: Option<Found>,
    /// Of the one event that could have been enough: it was read to see that.
    carried: Option<Carried>,
}

/// What became of a claim.
enum Settled {
    Applied { events: u64, changed: bool },
    Failed { events: u64 },
    Outage { wait: Duration },
}

/// Applies events until none is due, or Stripe does not answer.
pub async fn drain(app: &App) -> Result<Drained> {
    let Some(stripe) = &app.stripe else { return Ok(Drained::default()) };
    let mut drained = Drained::default();
    let mut busy: HashSet<Target> = HashSet::new();
    let mut running: FuturesUnordered<BoxFuture<'_, (Target, Result<Settled>)>> = FuturesUnordered::new();
    let mut changed = 0;
    let mut held = tokio::time::interval(SAID_AGAIN);
    held.set_missed_tick_behavior(MissedTickBehavior::Delay);
    held.reset();
    loop {
        // Somebody may have come meanwhile, for the object that was just looked at as well.
        if drained.trouble.is_none() && running.len() <= PORTION {
            for claim in claim(app, &busy).await? {
                busy.insert(claim.target.clone());
                running.push(Box::pin(async move {
                    let target = claim.target.clone();
                    (target, settle(app, stripe, claim).await)
                }));
            }
        }
        let settled = tokio::select! {
            settled = running.next() => settled,
            _ = held.tick() => {
                go_on_holding(app, &busy).await?;
                continue;
            }
            // One answer that takes long keeps nobody waiting who comes meanwhile.
            () = tokio::time::sleep(LOOK) => continue,
        };
        let Some((target, settled)) = settled else { break };
        busy.remove(&target);
        match settled? {
            Settled::Applied { events, changed: new } => {
                drained.applied += events;
                changed += u64::from(new);
            }
            Settled::Failed { events } => drained.failed += events,
            Settled::Outage { wait } => drained.trouble = Some(wait),
        }
        if changed >= FOLLOW_AFTER {
            changed = 0;
            follow(app).await?;
        }
    }
    // What hangs on the objects may be left over from a process that was stopped.
    follow(app).await?;
    Ok(drained)
}

async fn go_on_holding(app: &App, busy: &HashSet<Target>) -> Result<()> {
    let (now_ms, busy) = (app.clock.now().as_millisecond(), busy.clone());
    let until_ms = now_ms.saturating_add(HELD_MS);
    app.db
        .write(move |tx| busy.iter().try_for_each(|target| webhooks::go_on_holding(tx, target, now_ms, until_ms)))
        .await
}

/// Whether anything is to be done.
pub async fn is_due(app: &App) -> Result<bool> {
    let now_ms = app.clock.now().as_millisecond();
    app.db.read(move |tx| webhooks::any_due(tx, now_ms)).await
}

/// Subscriptions whose parts have changed, and the terms of whoever they belong to.
async fn follow(app: &App) -> Result<()> {
    derivation::follow_parts(app).await?;
    plans::follow(app).await
}

/// Takes some objects up, with one ticket: each of their events had arrived before it, so whatever is read from now on
/// includes them.
async fn claim(app: &App, busy: &HashSet<Target>) -> Result<Vec<Claim>> {
    let (now_ms, until_s, busy) = (app.clock.now().as_millisecond(), readings::stripe_second(app), busy.clone());
    // Before Stripe has told its time nobody knows what is younger than what: no event is enough alone.
    let clock = app.stripe.as_ref().and_then(|stripe| stripe.state().clock);
    let version = clock.and(app.config.stripe.as_ref()).map(|stripe| stripe.version.clone());
    app.db
        .write(move |tx| {
            let mut due = webhooks::due(tx, now_ms, PORTION + busy.len())?;
            due.retain(|target| !busy.contains(target));
            due.truncate(PORTION);
            if due.is_empty() {
                return Ok(Vec::new());
            }
            let ticket = looks::take_ticket(tx)?;
            due.into_iter().map(|target| take_up(tx, target, ticket, until_s, now_ms, version.as_deref())).collect()
        })
        .await
}

fn take_up(
    tx: &mut Tx<'_>,
    target: Target,
    ticket: i64,
    until_s: i64,
    now_ms: i64,
    version: Option<&str>,
) -> Result<Claim> {
    let events = webhooks::waiting_of(tx, &target)?;
    webhooks::hold(tx, &target, now_ms.saturating_add(HELD_MS))?;
    let newest = events.iter().max_by_key(|event| event.created);
    let mut look = Look {
        ticket,
        cause: newest.map(|event| event.id.clone()).unwrap_or_default(),
        event_created: newest.map(|event| event.created),
        until_s,
    };
    let (mut found, mut carried) = (alone::is_final(&events).then_some(Found::Gone), None);
    if let (None, Some(event)) = (&found, alone::candidate(&events, version)) {
        let there = mirror::is_there(tx, target.resource, &target.id)?;
        let raw = if there { mirror::raw(tx, target.resource, &target.id)? } else { None };
        let image = Image { reading: looks::of(tx, target.resource, &target.id)?, raw };
        carried = carried_by(tx, event)?;
        found = carried.as_ref().and_then(|carried| alone::proven(target.resource, event, carried, &image));
        if found.is_some() {
            look = alone::as_told(look, event);
        }
    }
    Ok(Claim { target, events, look, found, carried })
}

fn carried_by(tx: &mut Tx<'_>, event: &Event) -> Result<Option<Carried>> {
    Ok(webhooks::raw(tx, &event.id)?.as_deref().and_then(Carried::by))
}

async fn settle(app: &App, stripe: &Stripe, mut claim: Claim) -> Result<Settled> {
    if claim.found.is_none() {
        app.webhooks.fetched.fetch_add(1, Ordering::Relaxed);
        match places::object(stripe, claim.target.resource, &claim.target.id).await {
            Ok(raw) => claim.found = Some(alone::found(raw)),
            Err(error) if places::is_missing(&error) => claim.found = Some(Found::Gone),
            Err(error) if places::is_outage(&error) => return postpone(app, claim, &error).await,
            Err(error) => {
                if matches!(error, StripeError::OtherObject { .. }) {
                    crate::ops::mirror::refused(app, claim.target.resource, &claim.target.id);
                }
                // A whole kind of objects may come back after an hour; one object seldom does.
                let pause =
                    if matches!(error, StripeError::OnlyThere { list_answers: false, .. }) { LONG } else { SHORT };
                return fail(app, claim.events, error.to_string(), pause).await;
            }
        }
        claim.look = claim.look.ended(app);
    }
    let (events, count) = (claim.events.clone(), claim.events.len() as u64);
    let (catalogue, now) = (app.catalogue.clone(), app.clock.now());
    match app.db.write(move |tx| write(tx, &claim, &catalogue, now)).await {
        Ok(written) => {
            app.webhooks.applied.fetch_add(count, Ordering::Relaxed);
            Ok(Settled::Applied { events: count, changed: written == Written::Changed })
        }
        // The object cannot be understood: trying again seldom helps, and must not keep others waiting.
        Err(Error::Internal(cause)) => fail(app, events, cause.to_string(), SHORT).await,
        Err(error) => Err(error),
    }
}

/// The object, the events that told of it and what they tell of revenue, in one transaction.
fn write(tx: &mut Tx<'_>, claim: &Claim, catalogue: &Catalogue, now: Timestamp) -> Result<Written> {
    let Target { resource, id } = &claim.target;
    let run = syncs::get(tx, resource.name())?.map_or(0, |state| state.run);
    let is_revenue = *resource == Resource::Subscriptions;
    if is_revenue {
        hear(tx, claim, catalogue, now)?;
    }
    let written = match &claim.found {
        Some(Found::There(raw)) => readings::apply(tx, &claim.look, *resource, raw, run, catalogue, now)?,
        Some(Found::Gone) => readings::delete(tx, &claim.look, *resource, id)?,
        None => return Err(Error::internal("an object was written before it was found")),
    };
    if is_revenue && written != Written::Changed {
        subscriptions::settle(tx, id, &claim.look.since())?;
    }
    let alarm = match &claim.found {
        Some(Found::There(raw)) => metadata::false_owner(tx, *resource, raw)?,
        Some(Found::Gone) | None => None,
    };
    if let Some(alarm) = &alarm {
        tracing::warn!(list = resource.name(), id, alarm, "nothing is given to the user that an object names");
    }
    let applied = State::Applied { at_ms: now.as_millisecond(), note: alarm.or_else(|| note(claim, written)) };
    for event in &claim.events {
        webhooks::set_state(tx, &event.id, &applied)?;
    }
    Ok(written)
}

/// What the events tell of revenue. Of many only one at a time is in memory.
fn hear(tx: &mut Tx<'_>, claim: &Claim, catalogue: &Catalogue, now: Timestamp) -> Result<()> {
    derivation::catch_up(tx, &claim.target.id, catalogue, now)?;
    let found = match &claim.found {
        Some(Found::There(text)) => Some(text.as_str()),
        Some(Found::Gone) | None => None,
    };
    let mut discounts = Discounts::of(found);
    if let ([event], Some(carried)) = (claim.events.as_slice(), &claim.carried) {
        return points::hear(tx, event, carried, &mut discounts, catalogue, now);
    }
    // What a discount takes off is told before the subscription that has it.
    let of_discounts = |event: &&Event| event.kind.starts_with("customer.discount.");
    for event in claim.events.iter().filter(of_discounts) {
        carried_by(tx, event)?.iter().for_each(|carried| discounts.learn(&carried.object));
    }
    for event in claim.events.iter().filter(|event| !of_discounts(event)) {
        if let Some(carried) = carried_by(tx, event)? {
            points::hear(tx, event, &carried, &mut discounts, catalogue, now)?;
        }
    }
    Ok(())
}

fn note(claim: &Claim, written: Written) -> Option<String> {
    let note = match (written, &claim.found) {
        (Written::Superseded, _) => "a later look at the object was written before",
        (Written::Unchanged, _) => "the mirror had it already",
        (Written::Changed, Some(Found::Gone)) => "the object is gone",
        (Written::Changed, _) => return None,
    };
    Some(note.to_owned())
}

async fn postpone(app: &App, claim: Claim, error: &StripeError) -> Result<Settled> {
    let next_ms = app.clock.now().as_millisecond().saturating_add(OUTAGE_MS);
    app.db.write(move |tx| webhooks::hold(tx, &claim.target, next_ms)).await?;
    tracing::debug!(%error, "Stripe did not show an object; it is asked for again");
    Ok(Settled::Outage { wait: error.retry_after().unwrap_or(Duration::from_secs(1)) })
}

async fn fail(app: &App, events: Vec<Event>, reason: String, pause: Pauses) -> Result<Settled> {
    let (count, now_ms) = (events.len() as u64, app.clock.now().as_millisecond());
    app.db
        .write(move |tx| {
            events
                .iter()
                .try_for_each(|event| webhooks::set_state(tx, &event.id, &after(event, &reason, now_ms, pause)))
        })
        .await?;
    Ok(Settled::Failed { events: count })
}

/// The state of an event after one more failure.
fn after(event: &Event, reason: &str, now_ms: i64, pause: Pauses) -> State {
    let attempts = match event.state {
        State::Waiting { attempts, .. } => attempts.saturating_add(1),
        State::Applied { .. } | State::Quarantined { .. } | State::Dead { .. } => 1,
    };
    let reason = reason.to_owned();
    if attempts >= ATTEMPTS {
        tracing::error!(event.id, event.kind, reason, "an event cannot be applied; see billhook webhooks dead");
        return State::Dead { at_ms: now_ms, attempts, reason };
    }
    tracing::warn!(event.id, event.kind, attempts, reason, "an event could not be applied; it is tried again");
    State::Waiting { attempts, next_ms: now_ms.saturating_add(pause(attempts)), reason: Some(reason) }
}

impl Drained {
    /// Whether a pause is due.
    pub fn is_stuck(&self) -> bool {
        self.trouble.is_some() && self.applied == 0
    }
}
