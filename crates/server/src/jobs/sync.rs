//! The full sync on its schedule.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::app::App;
use crate::error::Error;
use crate::jobs::Report;
use crate::ops::mirror::FRESH;
use crate::ops::sync;
use crate::ops::webhooks::sweep;

/// The longest pause after a failure.
const RETRY_MAX: Duration = Duration::from_mins(1);

/// Syncs at once, then again after each pause, until it is told to stop.
pub async fn run(app: App, report: Report, mut stop: watch::Receiver<bool>) {
    let mut failures = 0_u32;
    loop {
        let pause = tokio::select! {
            pause = once(&app, &report, failures) => pause,
            _ = stop.changed() => return,
        };
        failures = if pause.failed { failures.saturating_add(1) } else { 0 };
        tokio::select! {
            () = rest(&app, &pause) => {}
            _ = stop.changed() => return,
        }
    }
}

/// The whole pause while the sweep keeps the mirror up to date; what is longer than a few minutes ends early where it does not.
async fn rest(app: &App, pause: &Pause) {
    let end = Instant::now() + pause.length;
    while Instant::now() < end {
        tokio::time::sleep(FRESH.min(end - Instant::now())).await;
        match sweep::keeps_up(app).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => tracing::error!(%error, "whether Stripe's events are read is not known"),
        }
    }
}

/// Objects that Stripe cannot show are soon asked for again, then less and less often: it costs reading everything.
fn again_in(failures: u32) -> Duration {
    RETRY_MAX * 2_u32.saturating_pow(failures.min(10))
}

struct Pause {
    length: Duration,
    failed: bool,
}

async fn once(app: &App, report: &Report, failures: u32) -> Pause {
    let started = Instant::now();
    let synced = sync::full(app, &|progress| report(Some(progress))).await;
    report(None);
    match synced {
        Ok(outcome) => {
            let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::info!(objects = outcome.objects, deleted = outcome.deleted, duration_ms, "synced with Stripe");
            for (list, fault) in outcome.faults {
                tracing::warn!(list, fault, "a list of Stripe's is not complete");
            }
            let length = if outcome.incomplete { again_in(failures) } else { app.config.sync_interval };
            Pause { length: length.min(app.config.sync_interval), failed: outcome.incomplete }
        }
        Err(error) => {
            tracing::warn!(%error, "the sync with Stripe did not come to its end");
            let backoff = Duration::from_secs(2_u64.saturating_pow(failures.min(6)));
            let wanted = match error {
                Error::Upstream { retry_after, .. } => retry_after.min(RETRY_MAX),
                _ => Duration::ZERO,
            };
            Pause { length: backoff.max(wanted.min(app.config.sync_interval)).min(RETRY_MAX), failed: true }
        }
    }
}
