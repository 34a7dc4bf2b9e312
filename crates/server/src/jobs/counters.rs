//! The counters beside the requests: accounts are published where others decide by them, what has expired is freed, open
//! reservations are written down. Each by itself: publishing a million accounts takes seconds.

use std::time::Duration;

use tokio::sync::watch;

use super::every;
use crate::app::App;
use crate::error::{Error, Result};
use crate::ops::{publishing, reservations};

/// How long what has moved may wait to be published together with what moves next.
const PUBLISH: Duration = Duration::from_millis(5);
/// How often it is looked at whether Redis still has what it was given, and who publishes.
const VERIFY: Duration = Duration::from_secs(1);
const SWEEP: Duration = Duration::from_millis(200);
/// What was reserved since is forgotten by a process that is killed: its work still counts, but others may be given the same room.
const WRITE_DOWN: Duration = Duration::from_millis(100);
/// How often it is looked whether what was written down is old enough to be summed up.
const SUM_UP: Duration = Duration::from_secs(5);
const TIDY: Duration = Duration::from_mins(1);
/// After a failure; Redis is given this long to come back.
const PAUSE: Duration = Duration::from_millis(200);

/// Writes down what is held until it is told to stop, and then a last time. Nobody else's work may keep it waiting.
pub async fn write_down(app: App, mut stop: watch::Receiver<bool>) {
    let mut tick = every(WRITE_DOWN);
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            _ = tick.tick() => {}
        }
        if let Err(error) = reservations::write_down(&app).await {
            tracing::warn!(%error, "open reservations were not written down; it will be tried again");
        }
    }
    if let Err(error) = reservations::write_down(&app).await {
        tracing::warn!(%error, "open reservations were not written down: what was reserved last is free after the next start");
    }
}

/// Publishes what moves, where others decide by it.
pub async fn publish(app: App, mut stop: watch::Receiver<bool>) {
    let (mut verify, mut moved, mut ours) = (every(VERIFY), app.book.watch(), false);
    loop {
        let done = tokio::select! {
            _ = stop.changed() => break,
            _ = moved.changed(), if ours => {
                tokio::time::sleep(PUBLISH).await;
                publishing::once(&app).await
            }
            _ = verify.tick() => look(&app, &mut ours).await,
        };
        if let Err(error) = done {
            const AGAIN: &str = "the counters were not published; it will be tried again";
            // Redis that does not answer is told once where it happens.
            if let Error::Upstream { .. } = error {
                tracing::debug!(%error, "{AGAIN}");
            } else {
                tracing::error!(%error, "{AGAIN}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Frees what has expired.
pub async fn free(app: App, mut stop: watch::Receiver<bool>) {
    let mut tick = every(SWEEP);
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            _ = tick.tick() => {}
        }
        // Redis that does not answer is told once where it happens, not five times a second.
        if let Err(outage) = app.counters.sweep(&app.book, app.clock.now()).await {
            tracing::debug!(%outage, "expired reservations are freed later");
        }
    }
}

/// Sums up what was written down, and forgets what is over.
pub async fn tidy(app: App, mut stop: watch::Receiver<bool>) {
    let (mut sum_up, mut tidy) = (every(SUM_UP), every(TIDY));
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            _ = sum_up.tick() => {
                if let Err(error) = reservations::let_notes_go(&app).await {
                    tracing::debug!(%error, "old notes of reservations will go later");
                }
            }
            _ = tidy.tick() => {
                app.book.tidy(i64::try_from(app.clock.now().as_nanosecond()).unwrap_or(i64::MAX));
                if let Err(error) = reservations::forget_old(&app).await {
                    tracing::debug!(%error, "old reservations will be forgotten later");
                }
            }
        }
    }
}

async fn look(app: &App, ours: &mut bool) -> Result<()> {
    publishing::follow_name(app).await?;
    *ours = publishing::is_ours(app).await?;
    if *ours { publishing::verify(app).await } else { Ok(()) }
}
