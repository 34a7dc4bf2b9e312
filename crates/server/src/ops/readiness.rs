//! Whether the program can do its work now, and how old what it knows is.

use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::verify::sampling;
use super::{mirror, webhooks};
use crate::app::App;
use crate::clock::age_s;
use crate::error::Result;
use crate::gateways::stripe::BreakerState;
use crate::store::db::Unwritable;
use crate::store::mirror::Resource;
use crate::store::{syncs, totals};

/// A part that requests need and that is not there, or not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub part: &'static str,
    pub detail: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Readiness {
    pub missing: Vec<Missing>,
    /// Parts that work, and not as they should.
    pub degraded: Vec<Missing>,
    pub facts: Value,
}

/// A server clock that differs by more than this makes signatures and ages doubtful.
const SKEW_MAX_S: i64 = 30;

/// What was accepted later than this from now was accepted by a clock that was ahead, in milliseconds.
pub const AHEAD_MAX_MS: i64 = 60_000;

/// The latest acceptance that this process has counted, where it is to come: the clock was set back since.
fn counted_ahead(app: &App) -> Option<Missing> {
    let latest_ms = app.book.latest_ms();
    let limit_ms = app.clock.now().as_millisecond().saturating_add(AHEAD_MAX_MS);
    let latest = Timestamp::from_millisecond(latest_ms).ok().filter(|_| latest_ms > limit_ms)?;
    Some(Missing {
        part: "clock.was_ahead",
        detail: format!("usage was accepted at {latest}, which is to come: billhook doctor names whose"),
    })
}

/// By how many seconds Stripe's clock is ahead of ours (negative: behind), as far as Stripe has told.
pub fn clock_skew_s(app: &App) -> Option<i64> {
    let clock = app.stripe.as_ref()?.state().clock?;
    Some(clock.skew(app.clock.now()).as_secs())
}

/// The same where it is too much (F-38).
pub fn skewed_by_s(app: &App) -> Option<i64> {
    clock_skew_s(app).filter(|skew| skew.abs() > SKEW_MAX_S)
}

/// Raises the alarm once when the clock begins to be wrong.
pub fn watch_clock(app: &App) {
    let skew = skewed_by_s(app);
    if !app.webhooks.skewed.swap(skew.is_some(), Ordering::Relaxed)
        && let Some(skew_s) = skew
    {
        tracing::error!(code = "clock.skew", skew_s, "this machine's clock is not Stripe's: set it (NTP)");
    }
}

/// How long a probe waits for an answer: a database that is frozen gives none, and neither takes nor breaks a connection (F-20).
const LOOKED_WITHIN: Duration = Duration::from_secs(2);

/// Looks at the parts; quick enough for a probe.
pub async fn look(app: &App) -> Readiness {
    let looked = tokio::time::timeout(LOOKED_WITHIN, look_through(app)).await;
    looked.unwrap_or_else(|_| Readiness {
        missing: vec![Missing { part: "database", detail: "does not answer in time: see billhook doctor".into() }],
        degraded: Vec::new(),
        facts: json!({}),
    })
}

async fn look_through(app: &App) -> Readiness {
    let mut missing = Vec::new();
    let looked = database(app, &mut missing).await;
    let no_write = if looked.is_ok() { app.db.refuses().await } else { Some(Unwritable::Away) };
    match (&looked, no_write) {
        (Err(_), _) => {
            missing.push(Missing { part: "database", detail: "does not answer: see billhook doctor".into() });
        }
        (Ok(_), Some(why)) => {
            missing.push(Missing { part: "write", detail: format!("nothing can be recorded: {why}") });
        }
        (Ok(_), None) => {}
    }
    let facts = looked.unwrap_or_else(|_| json!({}));
    if let Some(foreign) = &app.foreign_sessions
        && foreign.ping().await.is_err()
    {
        missing
            .push(Missing { part: "redis", detail: "does not answer: sessions of Ops Center cannot be read".into() });
    }
    let (lago, unshipped) = super::lago::examine::probe(app).await;
    let webhooks = webhooks::facts(app).await.unwrap_or_else(|_| json!({}));
    let verify = sampling::facts(app).await.unwrap_or_else(|_| json!({}));
    let unnoticed = app.db.unnoticed();
    let answers = json!({ "kept": unnoticed.is_none(), "why_not": unnoticed });
    let (write, why_no_write) = (no_write.is_none(), no_write.map(|why| why.to_string()));
    let facts = json!({ "write": write, "why_no_write": why_no_write, "mirror": facts, "stripe": stripe(app), "lago": lago, "webhooks": webhooks, "verify": verify, "answers": answers });
    let skewed = skewed_by_s(app).map(|skew| Missing {
        part: "clock.skew",
        detail: format!("this machine's clock is {skew} s away from Stripe's: set it (NTP)"),
    });
    let unshipped = unshipped.map(|detail| Missing { part: "lago", detail });
    Readiness { missing, degraded: skewed.into_iter().chain(counted_ahead(app)).chain(unshipped).collect(), facts }
}

async fn database(app: &App, missing: &mut Vec<Missing>) -> Result<Value> {
    let (as_of, counts, faults) = app
        .db
        .read(|tx| {
            let as_of = mirror::as_of(tx, Resource::Subscriptions, None)?;
            let faults: Vec<(String, String)> =
                syncs::all(tx)?.into_iter().filter_map(|list| Some((list.resource, list.fault?))).collect();
            Ok((as_of, totals::objects(tx)?, faults))
        })
        .await?;
    if app.stripe.is_some() && as_of.is_none() {
        let detail = match faults.first() {
            Some((list, fault)) => format!("never read to the end; {list}: {fault}"),
            None => "the first full sync is under way".to_owned(),
        };
        missing.push(Missing { part: "mirror", detail });
    }
    let now = app.clock.now();
    Ok(json!({
        "as_of": as_of.map(billing::time::wire),
        "age_s": as_of.map(|as_of| age_s(now, as_of.as_second())),
        "objects": counts,
        "faults": faults.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
    }))
}

fn stripe(app: &App) -> Value {
    let Some(stripe) = &app.stripe else { return json!({ "configured": false }) };
    let state = stripe.state();
    json!({
        "configured": true,
        "answering": !matches!(state.breaker, BreakerState::Open { .. }) && state.last_error.is_none(),
        "last_error": state.last_error.map(|error| error.code),
        "clock_skew_s": skewed_by_s(app),
    })
}
