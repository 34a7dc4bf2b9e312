//! Others that would serve with other counters are told that we serve with ours.

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::app::App;
use crate::ops::caps::{self, SAID};

/// Says so until it is told to stop, and then that it is over.
pub async fn run(app: App, mut stop: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(SAID);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_heard = true;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stop.changed() => break,
        }
        match caps::say(&app).await {
            Ok(heard) => {
                if is_heard && !heard {
                    tracing::error!(
                        "another process serves this database with other counters: each gives out every cap"
                    );
                }
                is_heard = heard;
            }
            Err(error) => tracing::warn!(%error, "others may come to serve this database with other counters"),
        }
    }
    if let Err(error) = caps::leave(&app).await {
        tracing::debug!(%error, "others take this process for a running one a little longer");
    }
}
