//! Stripe's events: taken and kept, applied in any order, asked for where they were lost.
//!
//! An event is a hint that an object has changed. What the object is now is read from Stripe, unless the event alone proves
//! it; [`super::readings`] keeps the order.

pub mod alone;
pub mod apply;
pub mod carried;
pub mod intake;
pub mod replay;
pub mod sweep;
pub mod targets;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::app::App;
use crate::clock::age_s;
use crate::error::Result;
use crate::ops::doctor::Report;
use crate::ops::readiness;
use crate::store::mirror::Resource;
use crate::store::webhooks::{self, Counts, Sweep};
use crate::store::{syncs, verification};

/// How long applied and quarantined events are remembered: longer than Stripe can send them again.
const REMEMBERED: jiff::SignedDuration = jiff::SignedDuration::from_hours(24 * 40);
/// How many are forgotten in one transaction.
const FORGET_BATCH: i64 = 500;
/// An event that waits longer than this is worth a warning.
const LAG_MS: i64 = 60_000;
/// Without a sweep for this long, lost webhooks stay lost.
const SWEEP_AGE_S: i64 = 900;

/// How things stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub counts: Counts,
    pub sweep: Sweep,
    /// Since the event that has waited longest came.
    pub lag_ms: i64,
    /// Since the last whole sweep began.
    pub sweep_age_s: Option<i64>,
}

/// Looks, and tells the numbers.
pub async fn status(app: &App) -> Result<Status> {
    let (counts, sweep, lists, compared) = app
        .db
        .read(|tx| Ok((webhooks::counts(tx)?, webhooks::sweep(tx)?, syncs::all(tx)?, verification::progress(tx)?)))
        .await?;
    let now = app.clock.now();
    let lag_ms = counts.oldest_ms.map_or(0, |oldest| now.as_millisecond().saturating_sub(oldest).max(0));
    let sweep_age_s = sweep.swept_at.map(|at: Timestamp| age_s(now, at.as_second()));
    for (gauge, value) in [
        (&app.webhooks.waiting, whole(counts.waiting)),
        (&app.webhooks.lag_ms, lag_ms),
        (&app.webhooks.quarantined, whole(counts.quarantined)),
        (&app.webhooks.dead, whole(counts.dead)),
        (&app.webhooks.sweep_age_s, sweep_age_s.unwrap_or(-1)),
    ] {
        gauge.note(value);
    }
    let second = |at: Option<Timestamp>| at.map(Timestamp::as_second);
    for (resource, gauge) in Resource::ALL.into_iter().zip(&app.webhooks.mirrored_at_s) {
        let list = lists.iter().find(|list| list.resource == resource.name());
        gauge.note(second(list.and_then(|list| list.as_of)));
    }
    app.webhooks.compared_at_s.note(second(compared.compared_at));
    readiness::watch_clock(app);
    Ok(Status { counts, sweep, lag_ms, sweep_age_s })
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What an operator wants to see of it in a probe.
pub async fn facts(app: &App) -> Result<Value> {
    let status = status(app).await?;
    Ok(json!({
        "configured": !app.config.webhook_secrets.is_empty(),
        "waiting": status.counts.waiting,
        "lag_ms": status.lag_ms,
        "quarantined": status.counts.quarantined,
        "dead": status.counts.dead,
        "sweep_age_s": status.sweep_age_s,
        "sweep_fault": status.sweep.fault,
    }))
}

/// Adds what is to be said of events to the report of `doctor`.
pub async fn examine(app: &App, report: &mut Report) -> Result<()> {
    if app.stripe.is_none() {
        return Ok(());
    }
    let status = status(app).await?;
    let Counts { waiting, quarantined, dead, .. } = status.counts;
    if app.config.webhook_secrets.is_empty() {
        report.warn("webhooks", "not configured: changes are seen by the sweep", "billhook stripe setup");
    }
    if dead > 0 {
        report.fault("webhooks", format!("{dead} events could not be applied"), "billhook webhooks dead");
    }
    if quarantined > 0 {
        let detail = format!("{quarantined} events are not applied on purpose");
        report.warn("webhooks", detail, "billhook webhooks list --state quarantined");
    }
    if status.lag_ms > LAG_MS {
        let detail = format!("{waiting} events wait, the oldest for {} s", status.lag_ms / 1000);
        report.fault("webhooks", detail, "is billhook serve running, and does Stripe answer?");
    } else {
        report.ok("webhooks", format!("{waiting} events wait"));
    }
    match (status.sweep_age_s, status.sweep.fault) {
        (Some(age), None) if age <= SWEEP_AGE_S => report.ok("sweep", format!("{age} s ago")),
        (Some(age), None) => report.warn("sweep", format!("{age} s ago"), "is billhook serve running?"),
        (None, None) => report.warn("sweep", "never", "is billhook serve running?"),
        (_, Some(fault)) => report.warn("sweep", fault, "the full sync finds what was lost, later"),
    }
    Ok(())
}

/// Forgets events that nobody can send again.
pub async fn forget_old(app: &App) -> Result<u64> {
    let before = app.clock.now().saturating_sub(REMEMBERED).map_or(i64::MIN, |instant| instant.as_millisecond());
    let mut all = 0;
    loop {
        let some = app.db.write(move |tx| webhooks::forget(tx, before, FORGET_BATCH)).await?;
        all += some;
        if some == 0 {
            return Ok(all);
        }
    }
}
