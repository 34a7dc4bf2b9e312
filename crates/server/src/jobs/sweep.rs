//! Reads Stripe's list of events, so that a lost webhook is only late.

use std::time::Duration;

use tokio::sync::watch;

use crate::app::App;
use crate::error::Error;
use crate::ops::webhooks::sweep::{self, Swept};

/// Between two sweeps, unless full syncs are closer together: several may fail before anybody sees something old.
const PAUSE: Duration = Duration::from_mins(1);
/// While the first full sync is under way.
const SOON: Duration = Duration::from_secs(2);
/// A server without a list of events may get one with its next version.
const SELDOM: Duration = Duration::from_hours(1);

/// Sweeps until it is told to stop. What was read stays, and the next start goes on there.
pub async fn run(app: App, mut stop: watch::Receiver<bool>) {
    loop {
        let rest = tokio::select! {
            rest = once(&app) => rest,
            _ = stop.changed() => return,
        };
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            _ = stop.changed() => return,
        }
    }
}

async fn once(app: &App) -> Duration {
    let usual = app.config.sync_interval.min(PAUSE);
    match sweep::run(app).await {
        Ok(Swept::NotYet) => SOON.min(usual),
        Ok(Swept::NoSuchList) => SELDOM,
        Ok(Swept::ToTheEnd { new: 0, .. }) => usual,
        Ok(Swept::ToTheEnd { new, .. }) => {
            tracing::info!(new, "the sweep found events that no webhook had brought");
            usual
        }
        Err(Error::Upstream { retry_after, code, .. }) => {
            tracing::warn!(code, "the sweep did not come to its end");
            retry_after.clamp(SOON, PAUSE)
        }
        Err(error) => {
            tracing::error!(%error, "the sweep did not come to its end");
            usual
        }
    }
}
