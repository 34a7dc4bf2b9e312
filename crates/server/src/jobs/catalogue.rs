//! Others that would serve by another catalogue are told that we serve by ours.

use tokio::sync::watch;

use super::every;
use crate::app::App;
use crate::ops::catalogue::{self, SAID};

/// Says so until it is told to stop, and then that it is over.
pub async fn run(app: App, mut stop: watch::Receiver<bool>) {
    let mut tick = every(SAID);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stop.changed() => break,
        }
        if let Err(error) = catalogue::serve_by(&app.db, &app.catalogue, &app.holder).await {
            tracing::error!(%error, "others may price by another catalogue than this process");
        }
    }
    if let Err(error) = catalogue::leave(&app).await {
        tracing::debug!(%error, "others take this process for a running one a little longer");
    }
}
