//! Applies Stripe's events as they come.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::app::App;
use crate::error::Result;
use crate::ops::webhooks::{self, apply};

/// How often is looked whether anything has come, here or by another process.
const LOOK: Duration = Duration::from_millis(200);
/// The longest pause while Stripe does not answer; its client asks less often by itself.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How often the numbers are counted.
const COUNT: Duration = Duration::from_secs(5);
const FORGET: Duration = Duration::from_hours(1);

/// Applies until it is told to stop. What is under way then is taken up again at the next start.
pub async fn run(app: App, mut stop: watch::Receiver<bool>) {
    let (mut counted, mut forgotten) = (None, Instant::now());
    loop {
        let rest = tokio::select! {
            rest = once(&app, &mut counted, &mut forgotten) => rest,
            _ = stop.changed() => return,
        };
        let rest = rest.unwrap_or_else(|error| {
            tracing::error!(%error, "events were not applied; they will be");
            PAUSE_MAX
        });
        tokio::select! {
            () = sleep(rest) => {}
            _ = stop.changed() => return,
        }
    }
}

async fn once(app: &App, counted: &mut Option<Instant>, forgotten: &mut Instant) -> Result<Duration> {
    let mut rest = LOOK;
    if apply::is_due(app).await? {
        let drained = apply::drain(app).await?;
        if let (true, Some(wait)) = (drained.is_stuck(), drained.trouble) {
            rest = wait.clamp(LOOK, PAUSE_MAX);
        }
    }
    if counted.is_none_or(|at: Instant| at.elapsed() >= COUNT) {
        *counted = Some(Instant::now());
        webhooks::status(app).await?;
    }
    if forgotten.elapsed() >= FORGET {
        *forgotten = Instant::now();
        webhooks::forget_old(app).await?;
    }
    Ok(rest)
}
