//! Usage goes to Lago, and what Lago has counted is compared.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::app::App;
use crate::error::{Error, Result};
use crate::ops::lago::{again, is_ours, notices, ship, status, sweep};

/// How long to rest at the end of the log.
const REST: Duration = Duration::from_millis(500);
/// How long to rest while another process ships.
const ELSEWHERE: Duration = Duration::from_secs(10);
/// Between two looks at how far everything has come, whoever ships.
const LOOK: Duration = Duration::from_secs(2);
/// After a fault of ours or of the database's.
const OUR_FAULT: Duration = Duration::from_secs(10);
/// After a start: meanwhile Lago may have become another one.
const FIRST_COMPARISON: Duration = Duration::from_mins(1);
const COMPARISON: Duration = Duration::from_hours(1);

/// Ships and compares until it is told to stop. What is under way goes on from its window at the next start.
pub async fn run(app: App, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        () = shipping(&app) => {}
        () = comparing(&app) => {}
        () = looking(&app) => {}
        _ = stop.changed() => {}
    }
}

/// What waits is a matter of the database: each process shows it, also while another one ships, or nobody.
async fn looking(app: &App) {
    loop {
        if let Err(error) = status(app).await {
            tracing::error!(%error, "how far shipping to Lago has come is not known");
        }
        sleep(LOOK).await;
    }
}

async fn shipping(app: &App) {
    loop {
        let rest = once(app).await.unwrap_or_else(|error| {
            tracing::error!(%error, "shipping to Lago stopped; it goes on from its window");
            OUR_FAULT
        });
        sleep(rest).await;
    }
}

async fn once(app: &App) -> Result<Duration> {
    if !is_ours(app).await? {
        return Ok(ELSEWHERE);
    }
    notices::apply(app).await?;
    let shipped = ship::run(app).await?;
    Ok(shipped.trouble.map_or(REST, |trouble| trouble.wait))
}

async fn comparing(app: &App) {
    let mut rest = FIRST_COMPARISON;
    loop {
        sleep(rest).await;
        rest = COMPARISON;
        match compare(app).await {
            Ok(()) => {}
            Err(Error::Upstream { code, .. }) => tracing::warn!(code, "Lago was not compared with; again in an hour"),
            Err(error) => tracing::error!(%error, "Lago was not compared with; again in an hour"),
        }
    }
}

async fn compare(app: &App) -> Result<()> {
    if !is_ours(app).await? {
        return Ok(());
    }
    for one in again::mend(app).await? {
        for difference in &one.differences {
            tracing::error!(user.id = one.user, %difference, "Lago counts another usage than was delivered");
        }
    }
    sweep(app).await
}
