//! Others that serve the same database are told by which counters we decide.

use tokio::sync::watch;

use super::every;
use crate::app::App;
use crate::ops::caps::{self, SAID, Say};

/// Says so until it is told to stop, and then that it is over.
pub async fn run(app: App, mut stop: watch::Receiver<bool>) {
    let mut tick = every(SAID);
    let mut before = None;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stop.changed() => break,
        }
        match caps::say(&app).await {
            Ok(said) => {
                if before.replace(said).is_some_and(|before| before != said) {
                    match said {
                        Say::Decides => tracing::info!("limits are decided here from now on"),
                        Say::Listens => {
                            tracing::warn!("another process decides limits now: they cannot be decided here");
                        }
                        Say::Clashes => tracing::error!(
                            "another process serves this database with another Redis: each gives out every cap"
                        ),
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "others may come to decide limits beside this process"),
        }
    }
    if let Err(error) = caps::leave(&app).await {
        tracing::debug!(%error, "others take this process for a running one a little longer");
    }
}
