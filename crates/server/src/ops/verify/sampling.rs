//! The comparison that never ends: a few objects at a time, each object of the mirror in its turn. What differs is written
//! as Stripe has it, and counted: each one is a change that neither a webhook nor a sweep nor a sync has brought.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::{Mode, finish_repairs, look};
use crate::app::App;
use crate::error::Result;
use crate::ops::doctor::Report;
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
    let mut different = 0;
    for id in &ids {
        let target = Target { resource, id: id.clone() };
        // Its event is under way.
        if app.db.read(move |tx| Ok(!webhooks::waiting_of(tx, &target)?.is_empty())).await? {
            continue;
        }
        match look(app, stripe, resource, id, Mode::Repair).await {
            Ok(None) => {}
            Ok(Some(found)) => {
                progress.compared += 1;
                app.webhooks.compared.fetch_add(1, Ordering::Relaxed);
                if !found.is_empty() {
                    different += 1;
                    let fields: Vec<&str> = found.iter().map(|difference| difference.field.as_str()).collect();
                    note(app, &mut progress, format!("{} {id}: {}", resource.name(), fields.join(", ")));
                }
            }
            Err(error) => {
                progress.fault = Some(error.to_string());
                app.db.write(move |tx| verification::save_progress(tx, &progress)).await?;
                return Err(error);
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
    progress.compared_at = Some(app.clock.now());
    progress.fault = None;
    app.db.write(move |tx| verification::save_progress(tx, &progress)).await?;
    Ok(different)
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
