//! What people ask about events, and events that are to be tried once more.

use super::targets;
use crate::app::App;
use crate::error::{Error, Result};
use crate::gateways::stripe::read;
use crate::store::readings::{self, Previous};
use crate::store::webhooks::{self, Event, Source, State, Which};

/// How many dead letters are looked at in one transaction.
const BATCH: i64 = 200;

/// Everything about one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub event: Event,
    /// The body as it came.
    pub raw: String,
    /// What its object was before, newest first.
    pub history: Vec<Previous>,
}

/// The newest events, `most` at most.
pub async fn list(app: &App, which: Which, most: usize) -> Result<Vec<Event>> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    app.db.read(move |tx| webhooks::page(tx, which, (i64::MAX, ""), most)).await
}

/// One event.
///
/// # Errors
/// `NotFound` where there is no such event.
pub async fn show(app: &App, id: &str) -> Result<Shown> {
    let id = id.to_owned();
    app.db
        .read(move |tx| {
            let event = webhooks::get(tx, &id)?.ok_or(Error::NotFound)?;
            let raw = webhooks::raw(tx, &id)?.ok_or(Error::NotFound)?;
            let history =
                event.target.as_ref().map(|target| readings::history(tx, target.resource, &target.id)).transpose()?;
            Ok(Shown { event, raw, history: history.unwrap_or_default() })
        })
        .await
}

/// Has one event applied once more, as if it came now; a quarantined one only if the reason no longer holds.
///
/// # Errors
/// `NotFound` where there is no such event; a conflict where it is still not to be applied.
pub async fn one(app: &App, id: &str) -> Result<()> {
    let Shown { event, raw, .. } = show(app, id).await?;
    let read = read::event(&raw).map_err(Error::internal)?;
    let judged = targets::judged(&app.config, &read, event.source, app.clock.now());
    let refused = |detail| Err(Error::Conflict { code: "webhook.quarantined", detail });
    match &judged.state {
        State::Waiting { .. } => app.db.write(move |tx| webhooks::judge_again(tx, &judged)).await,
        State::Quarantined { reason } => refused(reason.clone()),
        State::Applied { .. } | State::Dead { .. } => refused("nothing of it is mirrored".to_owned()),
    }
}

/// Has every dead letter tried once more; how many.
pub async fn all_dead(app: &App) -> Result<u64> {
    let (now_ms, mut count) = (app.clock.now().as_millisecond(), 0);
    loop {
        let some = app
            .db
            .write(move |tx| {
                let dead = webhooks::page(tx, Which::Dead, (i64::MAX, ""), BATCH)?;
                for event in &dead {
                    let waiting = State::Waiting { attempts: 0, next_ms: now_ms, reason: None };
                    webhooks::set_state(tx, &event.id, &waiting)?;
                }
                Ok(dead.len() as u64)
            })
            .await?;
        count += some;
        if some == 0 {
            return Ok(count);
        }
    }
}

/// By which way an event came, for people.
pub fn way(source: Source) -> &'static str {
    match source {
        Source::Webhook => "webhook",
        Source::Sweep => "sweep",
    }
}
