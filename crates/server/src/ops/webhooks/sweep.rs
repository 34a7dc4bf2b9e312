//! Reads Stripe's list of events, so that a webhook which was lost is only late: from where the last sweep stopped, forward,
//! into the same inbox. Where the list no longer reaches back that far, everything is read anew (F-36).

use std::collections::VecDeque;

use jiff::Timestamp;
use serde_json::value::RawValue;

use super::targets;
use crate::app::App;
use crate::error::Result;
use crate::gateways::stripe::{Pages, Stripe, StripeError, read};
use crate::ops::mirror::{self, FRESH};
use crate::ops::{readings, sync};
use crate::store::mirror::Resource;
use crate::store::webhooks::{self, Event, Source};
use crate::store::{Change, Tx, syncs};

const LIST: &str = "/v1/events";
/// Stripe lists events for 30 days. A day less, so that none ends while we read.
const RETENTION_S: i64 = 29 * 86_400;
/// An event may appear in the list after one that is younger: so much is read again each time, and costs nothing.
const OVERLAP_S: i64 = 60;
/// The age of the mirror moves in such steps.
const STEP_S: i64 = 120;
/// How far two clocks may be apart.
const CLOCKS_S: i64 = 900;

/// What a sweep came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swept {
    /// The mirror was never read to its end: there is nothing yet to keep up to date.
    NotYet,
    /// The server has no list of events; the full sync is all there is.
    NoSuchList,
    /// Every event of the list is in the inbox.
    ToTheEnd { read: u64, new: u64 },
}

/// Brings the inbox up to the end of Stripe's list. What was read before an error stays, and the next sweep goes on there.
pub async fn run(app: &App) -> Result<Swept> {
    let Some(stripe) = &app.stripe else { return Ok(Swept::NotYet) };
    let began = app.clock.now();
    match walk(app, stripe).await? {
        Ok(swept @ Swept::ToTheEnd { .. }) => {
            settle(app, Some(began), None).await?;
            freshen(app, began).await?;
            Ok(swept)
        }
        Ok(other) => Ok(other),
        Err(error) if error.is_not_found() => {
            settle(app, None, Some(sync::NO_SUCH_LIST.to_owned())).await?;
            Ok(Swept::NoSuchList)
        }
        Err(error) => {
            settle(app, None, Some(error.to_string())).await?;
            Err(mirror::unavailable(error))
        }
    }
}

async fn settle(app: &App, swept_at: Option<Timestamp>, fault: Option<String>) -> Result<()> {
    app.db
        .write(move |tx| {
            let mut sweep = webhooks::sweep(tx)?;
            sweep.swept_at = swept_at.or(sweep.swept_at);
            sweep.fault.clone_from(&fault);
            webhooks::save_sweep(tx, &sweep)
        })
        .await
}

/// Whether a full sync is not needed yet, because sweeps come to the end of the list.
pub async fn keeps_up(app: &App) -> Result<bool> {
    let sweep = app.db.read(webhooks::sweep).await?;
    let now = app.clock.now();
    Ok(sweep.fault.is_none() && sweep.swept_at.is_some_and(|at| now.duration_since(at).unsigned_abs() <= FRESH))
}

/// Whatever happened before the sweep began is in the inbox now. So each list that was ever read whole is as new as that, or
/// as the oldest of its events that could not be applied yet.
async fn freshen(app: &App, began: Timestamp) -> Result<()> {
    let skew = readings::stripe_second(app) - began.as_second();
    app.db
        .write(move |tx| {
            for resource in Resource::ALL {
                let Some(mut list) = syncs::get(tx, resource.name())? else { continue };
                let Some(known) = list.as_of else { continue };
                let all = began.as_second() - OVERLAP_S;
                let oldest = webhooks::oldest_unapplied(tx, resource, known.as_second() + skew)?;
                let until = oldest.map_or(all, |created| all.min(created - skew - 1));
                // What is kept rendered shows the time: it is made anew now and then, not at every sweep.
                if until >= known.as_second() + STEP_S {
                    list.as_of = Timestamp::from_second(until).ok().or(list.as_of);
                    syncs::save(tx, &list)?;
                    tx.changed(Change::Everything);
                }
            }
            Ok(())
        })
        .await
}

/// The inner error is Stripe's.
async fn walk(app: &App, stripe: &Stripe) -> Result<Result<Swept, StripeError>> {
    let known = app.db.read(webhooks::sweep).await?;
    if let Some((cursor, created)) = known.cursor {
        if created > readings::stripe_second(app) - RETENTION_S {
            let pages = stripe.newer_pages(LIST, &[], cursor.clone());
            match forward(app, pages, (cursor, created)).await? {
                Err(error) if error.is_missing_cursor() => {}
                other => return Ok(other),
            }
        }
        close_gap(app).await?;
    }
    first(app, stripe).await
}

/// Events are missing between the last sweep and the list: only reading everything finds what they told of.
async fn close_gap(app: &App) -> Result<()> {
    tracing::warn!("Stripe's list of events does not reach back to the last sweep: everything is read anew");
    sync::full(app, &|_| ()).await?;
    app.db
        .write(|tx| {
            let mut sweep = webhooks::sweep(tx)?;
            (sweep.cursor, sweep.resyncs) = (None, sweep.resyncs + 1);
            webhooks::save_sweep(tx, &sweep)
        })
        .await
}

/// The first sweep begins where the oldest list of the mirror was begun to be read: by our clock or by Stripe's, whichever is
/// earlier. Theirs may have been put forward since (a sandbox), and then everything in between has just happened.
async fn first(app: &App, stripe: &Stripe) -> Result<Result<Swept, StripeError>> {
    let Some(mut since) = app.db.read(as_of).await? else { return Ok(Ok(Swept::NotYet)) };
    let latest = app.clock.now().as_second().max(readings::stripe_second(app));
    if latest - since.as_second() > RETENTION_S - CLOCKS_S {
        close_gap(app).await?;
        since = app.db.read(as_of).await?.unwrap_or(since);
    }
    let behind = (readings::stripe_second(app) - app.clock.now().as_second()).min(0);
    let since = (since.as_second() + behind - CLOCKS_S).to_string();
    let mut pages = stripe.pages(LIST, &[("created[gte]", &since)], None);
    let (mut count, mut new, mut newest, mut cursor) = (0, 0, None, None);
    loop {
        let page = match pages.next().await {
            Ok(Some(page)) => page,
            Ok(None) => break,
            Err(error) => return Ok(Err(error)),
        };
        for event in page.objects.iter().filter_map(|raw| place_of(raw)) {
            let head = *newest.get_or_insert(event.1);
            // Newest first: the first that is old enough, or the oldest of all.
            if cursor.as_ref().is_none_or(|(_, created)| *created > head - OVERLAP_S) {
                cursor = Some(event);
            }
        }
        count += page.objects.len() as u64;
        new += keep(app, page.objects, None).await?;
    }
    keep(app, Vec::new(), cursor).await?;
    Ok(Ok(Swept::ToTheEnd { read: count, new }))
}

/// Since when the mirror may be out of date; nothing while any list was never read to its end.
fn as_of(tx: &mut Tx<'_>) -> Result<Option<Timestamp>> {
    let mut oldest: Option<Timestamp> = None;
    for resource in Resource::ALL {
        match syncs::get(tx, resource.name())? {
            Some(list) if list.fault.as_deref() == Some(sync::NO_SUCH_LIST) && list.as_of.is_none() => {}
            Some(list) if list.as_of.is_some() => oldest = oldest.min(list.as_of).or(list.as_of),
            _ => return Ok(None),
        }
    }
    Ok(oldest)
}

/// From the cursor to the newest event, each page with its new cursor in one transaction.
async fn forward(app: &App, mut pages: Pages, start: (String, i64)) -> Result<Result<Swept, StripeError>> {
    let (mut count, mut new) = (0, 0);
    let mut trail = VecDeque::from([start]);
    loop {
        let page = match pages.next().await {
            Ok(Some(page)) => page,
            Ok(None) => return Ok(Ok(Swept::ToTheEnd { read: count, new })),
            Err(error) => return Ok(Err(error)),
        };
        trail.extend(page.objects.iter().rev().filter_map(|raw| place_of(raw)));
        let newest = trail.iter().map(|(_, created)| *created).max().unwrap_or(i64::MIN);
        // The youngest that is old enough to have nothing appear before it any more.
        while trail.get(1).is_some_and(|(_, created)| *created <= newest - OVERLAP_S) {
            trail.pop_front();
        }
        count += page.objects.len() as u64;
        new += keep(app, page.objects, trail.front().cloned()).await?;
    }
}

fn place_of(raw: &RawValue) -> Option<(String, i64)> {
    let event = read::event(raw.get()).ok()?;
    Some((event.id, event.created?.as_second()))
}

/// Puts events into the inbox, and the cursor where it is given; how many were new.
async fn keep(app: &App, events: Vec<Box<RawValue>>, cursor: Option<(String, i64)>) -> Result<u64> {
    let now = app.clock.now();
    let judged: Vec<(Event, String)> = events
        .iter()
        .filter_map(|raw| {
            let event = read::event(raw.get()).ok()?;
            Some((targets::judged(&app.config, &event, Source::Sweep, now), raw.get().to_owned()))
        })
        .collect();
    if judged.is_empty() && cursor.is_none() {
        return Ok(0);
    }
    app.db
        .write(move |tx| {
            let mut new = 0;
            for (event, raw) in &judged {
                // What no webhook of ours may say, as one of a version that we cannot read, the list says in our version.
                new += u64::from(webhooks::keep(tx, event, raw)? || webhooks::take_over(tx, event, raw)?);
            }
            if let Some(cursor) = &cursor {
                let mut sweep = webhooks::sweep(tx)?;
                sweep.cursor = Some(cursor.clone());
                webhooks::save_sweep(tx, &sweep)?;
            }
            Ok(new)
        })
        .await
}
