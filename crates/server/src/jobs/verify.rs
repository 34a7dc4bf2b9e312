//! Compares the mirror with Stripe, a little at a time, for ever.

use std::time::Duration;

use tokio::sync::watch;

use crate::app::App;
use crate::error::Error;
use crate::ops::verify::sampling;

/// Objects compared in one step, and the pause between two: gentle on Stripe's rate limit, and a hundred thousand objects
/// have their turn about once a day.
const STEP: i64 = 12;
const PAUSE: Duration = Duration::from_secs(10);

/// Compares until it is told to stop.
pub async fn run(app: App, mut stop: watch::Receiver<bool>) {
    loop {
        // First the pause: at the start everything is read anyway.
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = stop.changed() => return,
        }
        let stepped = tokio::select! {
            stepped = sampling::step(&app, STEP) => stepped,
            _ = stop.changed() => return,
        };
        match stepped {
            Ok(_) => {}
            Err(Error::Upstream { code, .. }) => tracing::debug!(code, "nothing was compared"),
            Err(error) => tracing::error!(%error, "the mirror was not compared with Stripe"),
        }
    }
}
