//! The usage log beside the requests: accounts are written down, other writers are followed, what has expired is entered.

use std::time::Duration;

use tokio::sync::watch;

use super::every;
use crate::app::App;
use crate::ops::usage::upkeep::Upkeep;
use crate::ops::usage::{following, plans, totals};
use crate::store::db::Dialect;

/// How often the accounts are written down.
const WRITE_DOWN: Duration = Duration::from_secs(5);
/// How often the log is looked at where other processes write to it.
const FOLLOW: Duration = Duration::from_millis(20);
/// The same where they can be noticed otherwise.
const FOLLOW_ALONE: Duration = Duration::from_secs(1);
/// How often it is looked for users whose tier others have written.
const TERMS: Duration = Duration::from_secs(1);
/// How often packs and old ids are looked at.
const UPKEEP: Duration = Duration::from_mins(1);

/// Works until it is told to stop, and writes the accounts down a last time.
pub async fn run(app: App, mut stop: watch::Receiver<bool>) {
    let [mut write_down, mut follow, mut terms] = [WRITE_DOWN, following(&app), TERMS].map(every);
    loop {
        let (what, done) = tokio::select! {
            _ = stop.changed() => break,
            _ = write_down.tick() => ("the accounts were not written down", totals::write_down(&app).await.map(drop)),
            () = app.usage.much_unwritten.notified() => {
                ("the accounts were not written down", totals::write_down(&app).await.map(drop))
            }
            _ = follow.tick() => ("the log was not followed", following::follow_log(&app).await),
            () = app.follow_log.notified() => ("the log was not followed", following::follow_log(&app).await),
            _ = terms.tick() => ("the terms of users were not followed", plans::follow(&app).await),
        };
        if let Err(error) = done {
            tracing::error!(%error, what, "will be tried again");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    if let Err(error) = totals::write_down(&app).await {
        tracing::warn!(%error, "the accounts were not written down; the next start counts the rest of the log");
    }
}

/// Sees to what time brings, until it is told to stop: the ids of a day may be millions, and the log is followed meanwhile.
pub async fn look_after(app: App, mut stop: watch::Receiver<bool>) {
    let (mut tick, mut upkeep) = (every(UPKEEP), Upkeep::default());
    let working = async {
        loop {
            tick.tick().await;
            if let Err(error) = upkeep.once(&app).await {
                tracing::error!(%error, "expired packs and ids were not seen to; it will be tried again");
            }
        }
    };
    tokio::select! {
        _ = stop.changed() => {}
        () = working => {}
    }
}

fn following(app: &App) -> Duration {
    match app.db.dialect() {
        Dialect::Sqlite => FOLLOW_ALONE,
        Dialect::Postgres => FOLLOW,
    }
}
