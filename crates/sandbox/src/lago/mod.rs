//! A stateful Lago that runs on this machine: real HTTP, real events and usage, scripted trouble.
//!
//! [`start`] opens a listener that speaks Lago's `/api/v1` well enough for the official clients: events and batches with
//! their rules of repetition, customers, metrics, plans, subscriptions that change and renew by the clock, usage in exact
//! decimals, wallets, invoices, and signed webhooks. [`Faults`] makes the next requests go wrong.
//!
//! What Lago has and this has not: `weighted_sum_agg`, recurring metrics, percentage charges, filters on charges, and plans
//! that are paid in advance. The first three are refused by name; usage is shown without filters, and fees come when a
//! period ends.

mod agenda;
mod asked;
mod charges;
mod customers;
mod decimal;
mod desk;
mod events;
mod expression;
mod faults;
mod ingestion;
mod instant;
mod invoices;
mod log;
mod metrics;
mod page;
mod past_usage;
mod periods;
mod plans;
mod post_validation;
mod refusal;
mod router;
mod sender;
mod serve;
mod state;
mod subscriptions;
mod table;
mod taxes;
mod usage;
mod wallet_transactions;
mod wallets;
mod webhook_endpoints;
mod webhooks;
mod world;

pub use faults::{Fault, FaultKind, Faults};
pub use log::Request;
pub use webhooks::{HMAC_KEY, Progress, Webhook};

use crate::Clock;
use desk::Desk;
use sender::Sender;
use serde_json::{Map, Value};
use serve::Shared;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use usage::Seen;

/// Which of Lago's two stores keeps the events; they differ in what they do with an event that comes twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// An id that a subscription has is refused, and the first one stays.
    Postgres,
    /// Everything is accepted; of the same id with the same timestamp the last one counts, with another timestamp both do.
    ClickHouse,
}

/// How a sandbox is to be.
#[derive(Clone)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The one key that is accepted; any that is not empty where none is given.
    pub key: Option<String>,
    /// Which of Lago's stores this is like.
    pub store: Store,
    /// The state file; memory only where none is given. A file that exists is continued, and its store must be the same.
    pub state: Option<PathBuf>,
    /// What time it is. Periods, hourly jobs and webhooks follow it.
    pub now: Clock,
}

impl fmt::Debug for Config {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Config { listen, key: _, store, state, now: _ } = self;
        out.debug_struct("Config")
            .field("listen", listen)
            .field("store", store)
            .field("state", state)
            .finish_non_exhaustive()
    }
}

/// A running Lago. Dropping it stops it; [`Lago::stop`] also waits until it has stopped.
pub struct Lago {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl fmt::Debug for Lago {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Lago").field("address", &self.address).finish_non_exhaustive()
    }
}

/// An event as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its id, unique within a subscription where the store is PostgreSQL.
    pub transaction_id: String,
    /// None where none was sent; such an event never counts.
    pub external_subscription_id: Option<String>,
    /// The code of a metric, known or not.
    pub code: String,
    /// Microseconds since 1970; milliseconds that were sent as seconds are some 50,000 years away.
    pub timestamp_us: i64,
    /// As they were sent, with the result of the metric's expression where it has one.
    pub properties: Map<String, Value>,
}

/// Reads the state file, if there is one, and listens.
///
/// Errors: the address cannot be bound; the state file cannot be read or written, is in use by another sandbox, or was
/// written by another version or with another store.
pub async fn start(config: Config) -> io::Result<Lago> {
    let listener = TcpListener::bind(config.listen).await?;
    let address = listener.local_addr()?;
    let faults = Faults::default();
    let desk = Arc::new(Desk::open(config, faults.clone())?);
    let sender = Sender::new(Arc::clone(&desk), format!("http://{address}"));
    let shared = Arc::new(Shared { desk, faults, log: log::Log::default(), sender });
    let (stop, stopped) = watch::channel(());
    let task = crate::spawn(serve::accept(listener, Arc::clone(&shared), stopped));
    Ok(Lago { address, shared, stop, task })
}

impl Lago {
    /// `http://127.0.0.1:12345`, without `/api/v1` and without a slash at the end.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The fault script; the handle can be kept and cloned.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// The last requests, oldest first, with their bodies.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.log.all()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.shared.log.clear();
    }

    /// What Lago would bill for a metric in the current period of a running subscription: units as Lago writes them (`4.0`)
    /// and the events that count. It is the truth of the store, also while `current_usage` is stale.
    ///
    /// None: there is no such running subscription or no such metric, or the numbers have too many digits.
    pub fn usage(&self, external_subscription_id: &str, code: &str) -> Option<(String, u64)> {
        let world = self.shared.desk.world();
        let place = subscriptions::active(&world, external_subscription_id)?;
        let metric = &world.metrics[world.metrics.find(code)?];
        let period = subscriptions::counted_part(&world, place, subscriptions::period_at(&world, place, world.now));
        let total = usage::total(&world, external_subscription_id, metric, period, Seen::ByAnInvoice).ok()?;
        Some((total.units.text(), total.events_count))
    }

    /// Everything that was stored, in the order of arrival.
    pub fn events(&self) -> Vec<StoredEvent> {
        let world = self.shared.desk.world();
        let stored = |event: &events::Event| StoredEvent {
            transaction_id: event.transaction_id.to_string(),
            external_subscription_id: event.subscription.as_deref().map(str::to_owned),
            code: event.code.to_string(),
            timestamp_us: event.at,
            properties: event.properties(),
        };
        world.events.all().iter().map(stored).collect()
    }

    /// All webhooks so far and how they went, oldest first.
    pub fn webhooks(&self) -> Vec<Webhook> {
        self.shared.desk.world().outbox.all().to_vec()
    }

    /// Runs the job of the full hour now: events that can never be billed are told of in a webhook `events.errors`, which is
    /// delivered before this returns.
    pub async fn run_hourly(&self) {
        post_validation::run(&mut self.shared.desk.world());
        self.deliver_webhooks().await;
    }

    /// Delivers what is due by the clock, and returns when it was answered. It also happens by itself, a little later.
    pub async fn deliver_webhooks(&self) {
        self.shared.sender.deliver().await;
    }

    /// Stops listening, lets open requests finish for half a second, and ends.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}
