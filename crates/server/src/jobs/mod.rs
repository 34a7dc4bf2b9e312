//! Work that nobody waits for: started with the server, ended with it.

mod caps;
mod catalogue;
mod counters;
mod lago;
mod metering;
mod sweep;
mod sync;
mod values;
mod verify;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior};

use crate::app::App;
use crate::counters::Counters;
use crate::ops::sync::Progress;
use crate::store::db::Dialect;

/// Who is told how far a sync is; nothing when it has ended.
pub type Report = Arc<dyn Fn(Option<Progress>) + Send + Sync>;

/// Everything that runs beside the requests.
#[derive(Debug)]
pub struct Jobs {
    running: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Jobs {
    /// Starts every job.
    pub fn start(app: &App, report: Report) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut running = JoinSet::new();
        running.spawn(values::run(app.clone(), stopped.clone()));
        running.spawn(metering::run(app.clone(), stopped.clone()));
        running.spawn(metering::look_after(app.clone(), stopped.clone()));
        running.spawn(counters::write_down(app.clone(), stopped.clone()));
        running.spawn(counters::free(app.clone(), stopped.clone()));
        running.spawn(counters::tidy(app.clone(), stopped.clone()));
        if matches!(app.counters, Counters::Redis(_)) {
            running.spawn(counters::publish(app.clone(), stopped.clone()));
        }
        if app.db.dialect() == Dialect::Postgres {
            running.spawn(catalogue::run(app.clone(), stopped.clone()));
            running.spawn(caps::run(app.clone(), stopped.clone()));
        }
        if app.lago.is_some() {
            running.spawn(lago::run(app.clone(), stopped.clone()));
        }
        if app.stripe.is_some() {
            running.spawn(webhooks::run(app.clone(), stopped.clone()));
            running.spawn(sweep::run(app.clone(), stopped.clone()));
            running.spawn(verify::run(app.clone(), stopped.clone()));
            running.spawn(sync::run(app.clone(), report, stopped));
        }
        Self { running, stop }
    }

    /// Tells the jobs to end and waits for them; what is under way goes on from its checkpoint at the next start.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        let grace = Duration::from_secs(5);
        let ended = tokio::time::timeout(grace, async { while self.running.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            self.running.shutdown().await;
        }
    }
}

/// A tick that comes so long after the one before it was heard.
fn every(period: Duration) -> Interval {
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}
