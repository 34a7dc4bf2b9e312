//! The comparison that never ends: a few objects at a time, each object of the mirror in its turn. What differs is written
//! as Stripe has it, and counted: each one is a change that neither a webhook nor a sweep nor a sync has brought.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::{Looked, Mode, finish_repairs, look};
use crate::app::App;
use crate::error::Result;
use crate::ops::doctor::Report;
use crate::ops::{mirror, places};
use crate::store::mirror::{Resource, unseen};
use crate::store::verification::{self, Progress};
use crate::store::webhooks::{self, Target};

/// Compares the next `most` objects; how many were different.
///
/// # Errors
/// When Stripe or the database does not answer; the next call goes on there.
pub async fn step(app: &App, most: i64) -> Result<u64> {
    let Some(stripe) = &app.stripe else { return Ok(0) };
    let mut progress = app.db.read(verification::progress).await?;
    let (resource, after) = (progress.resource, progress.cursor.clone());
    let ids = app.db.read(move |tx| unseen(tx, resource, i64::MAX, &after, most)).await?;
    if progress.cursor.is_empty() {
        progress.fault = progress.fault.take().filter(|fault| !is_of(resource, fault));
    }
    let mut different = 0;
    for id in &ids {
        let target = Target { resource, id: id.clone() };
        // Its event is under way.
        if app.db.read(move |tx| Ok(!webhooks::waiting_of(tx, &target)?.is_empty())).await? {
            continue;
        }
        match look(app, stripe, resource, id, Mode::Repair).await? {
            Looked::Superseded => {}
            Looked::Compared(found) => {
                progress.compared_at = Some(app.clock.now());
                progress.fault =
                    progress.fault.take().filter(|fault| Resource::ALL.iter().any(|list| is_of(*list, fault)));
                progress.compared += 1;
                app.webhooks.compared.fetch_add(1, Ordering::Relaxed);
                if !found.is_empty() {
                    different += 1;
                    let fields: Vec<&str> = found.iter().map(|difference| difference.field.as_str()).collect();
                    note(app, &mut progress, format!("{} {id}: {}", resource.name(), fields.join(", ")));
                }
            }
            Looked::InVain(error) => {
                app.webhooks.uncompared.fetch_add(1, Ordering::Relaxed);
                if places::is_outage(&error) {
                    progress.fault = Some(error.to_string());
                    app.db.write(move |tx| verification::save_progress(tx, &progress)).await?;
                    return Err(mirror::unavailable(error));
                }
                // The next one may be shown all the same.
                progress.fault = Some(format!("{} {id}: {error}", resource.name()));
            }
        }
        progress.cursor.clone_from(id);
    }
    if different > 0 {
        finish_repairs(app).await?;
    }
    if i64::try_from(ids.len()).is_ok_and(|count| count < most) {
        (progress.resource, progress.cursor) = (after_it(resource), String::new());
    }
    app.db.write(move |tx| verification::save_progress(tx, &progress)).await?;
    Ok(different)
}

/// Whether a fault is of an object of this list: that is told until the list has its turn again.
fn is_of(list: Resource, fault: &str) -> bool {
    fault.strip_prefix(list.name()).is_some_and(|rest| rest.starts_with(' '))
}

fn note(app: &App, progress: &mut Progress, what: String) {
    app.webhooks.different.fetch_add(1, Ordering::Relaxed);
    tracing::error!(object = what, "the mirror was different from Stripe; it is as Stripe has it now");
    progress.different += 1;
    progress.different_at = Some(app.clock.now());
    progress.last_difference = Some(what);
}

/// The list that is compared next.
fn after_it(resource: Resource) -> Resource {
    let place = Resource::ALL.iter().position(|other| *other == resource).unwrap_or_default();
    Resource::ALL[(place + 1) % Resource::ALL.len()]
}

/// What an operator wants to see of it in a probe.
pub async fn facts(app: &App) -> Result<Value> {
    let progress = app.db.read(verification::progress).await?;
    let now = app.clock.now().as_second();
    let age = |at: Option<jiff::Timestamp>| at.map(|at| now - at.as_second());
    Ok(json!({
        "compared": progress.compared,
        "different": progress.different,
        "age_s": age(progress.compared_at),
        "different_age_s": age(progress.different_at),
        "fault": progress.fault,
    }))
}

/// Adds what is to be said of it to the report of `doctor`.
pub async fn examine(app: &App, report: &mut Report) -> Result<()> {
    if app.stripe.is_none() {
        return Ok(());
    }
    let progress = app.db.read(verification::progress).await?;
    let Some(at) = progress.compared_at else {
        report.warn("verify", "nothing was compared yet", "billhook verify");
        return Ok(());
    };
    let (now, compared) = (app.clock.now().as_second(), progress.compared);
    match (progress.last_difference, progress.different_at) {
        (Some(what), Some(when)) if now - when.as_second() < 86_400 => {
            report.warn("verify", format!("was different and is repaired: {what}"), "billhook verify");
        }
        _ => report.ok("verify", format!("{compared} objects compared, the last {} s ago", now - at.as_second())),
    }
    if let Some(fault) = progress.fault {
        report.warn("verify", fault, "it goes on when Stripe answers");
    }
    Ok(())
}
