//! A stateful Stripe that runs on this machine: real HTTP, real objects, scripted trouble.
//!
//! [`start`] opens a listener that speaks Stripe's protocol well enough for the official clients: keys, form parameters,
//! pages both ways, `expand`, idempotency keys, errors in Stripe's shape, and objects in the shape of whatever
//! `Stripe-Version` the caller asks for. State lives in memory, and in one file if a path is given. [`Faults`] makes the
//! next requests go wrong.
//!
//! Time passes in it. The clock that it is given moves it, and [`Sandbox::advance`] puts it ahead of that: trials end,
//! periods renew, invoices are finalized and collected, cards fail and are tried again, coupons run out. Every change is an
//! event, and goes to the webhook endpoints that want it: signed, in their version's shape, again after growing pauses where
//! it is not taken, and through a bad network where [`Chaos`] is set.

#![recursion_limit = "512"] // the templates of Stripe's larger objects have many members

mod agenda;
mod body;
mod calendar;
mod clock;
mod control;
mod door;
mod error;
mod events;
mod expand;
mod faults;
mod http;
mod idempotency;
mod journal;
mod kind;
pub mod lago;
mod lifecycle;
mod log;
mod pages;
mod params;
pub mod remote;
mod resources;
mod router;
mod seed;
mod serve;
mod shape;
mod store;
mod version;
mod webhooks;
mod world;

pub use faults::{Fault, FaultKind, Faults, Trouble};
pub use lifecycle::Dunning;
pub use log::Request;
pub use seed::{Seed, USER_CUSTOMER};
pub use webhooks::Delivery;
pub use webhooks::chaos::Chaos;

use http::Desk;
use jiff::Timestamp;
use journal::{Header, Hold, Journal, Memory};
use serve::Shared;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use world::World;

/// Tells the time; the sandbox never asks the machine.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How a sandbox is to be.
#[derive(Clone)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The one key that is accepted; any well-formed test key where none is given.
    pub key: Option<String>,
    /// The state file; memory only where none is given. A file that exists is continued and `seed` is not planted again.
    /// One sandbox at a time: a `.lock` file beside it says which.
    pub state: Option<PathBuf>,
    /// What a new state begins with.
    pub seed: Seed,
    /// What time it is.
    pub now: Clock,
}

impl fmt::Debug for Config {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Config { listen, key: _, state, seed, now: _ } = self;
        out.debug_struct("Config")
            .field("listen", listen)
            .field("state", state)
            .field("seed", seed)
            .finish_non_exhaustive()
    }
}

/// A running sandbox. Dropping it stops it; [`Sandbox::stop`] also waits until it has stopped.
pub struct Sandbox {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Sandbox").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Reads or plants the state, then listens.
///
/// Errors: the address cannot be bound; the state file cannot be read or written, is in use by another sandbox, or was
/// written by another version.
pub async fn start(config: Config) -> io::Result<Sandbox> {
    let mut world = open(&config)?;
    let listener = TcpListener::bind(config.listen).await?;
    let address = listener.local_addr()?;
    world.base = format!("http://{address}");
    let desk = Desk::new(world, config.key, config.now);
    let shared = Arc::new(Shared { desk, faults: Faults::default(), log: log::Log::default() });
    let (stop, stopped) = watch::channel(());
    let accepting = serve::accept(listener, Arc::clone(&shared), stopped.clone());
    let delivering = webhooks::courier::run(Arc::clone(&shared), stopped);
    let task = spawn(async {
        tokio::join!(accepting, delivering);
    });
    Ok(Sandbox { address, shared, stop, task })
}

#[allow(
    clippy::disallowed_methods,
    reason = "accepting and delivering are this crate's only task, and Sandbox::stop waits for it"
)]
fn spawn(work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(work)
}

fn open(config: &Config) -> io::Result<World> {
    let now = (config.now)().as_second();
    let Some(path) = &config.state else {
        let mut world = World::new(now);
        seed::plant(&mut world, config.seed);
        world.store.take_changes();
        return Ok(world);
    };
    let hold = Hold::of(path)?;
    match journal::header(path)? {
        Some(header) => resume(path, &header, hold),
        None => begin(path, config.seed, now, hold),
    }
}

fn begin(path: &Path, seed: Seed, now: i64, hold: Hold) -> io::Result<World> {
    let mut world = World::new(now);
    seed::plant(&mut world, seed);
    let unfinished = path.with_extension("planting");
    world.keep_in(Journal::create(&unfinished, &Header::new(&seed.text(), now))?, hold);
    if let Seed::Scale { .. } = seed {
        world.store.take_changes();
    }
    world.commit_quietly()?;
    std::fs::rename(&unfinished, path)?;
    Ok(world)
}

fn resume(path: &Path, header: &Header, hold: Hold) -> io::Result<World> {
    let seed = Seed::parse(&header.seed)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "sandbox state: unknown seed"))?;
    let mut world = World::new(header.born);
    if let Seed::Scale { .. } = seed {
        seed::plant(&mut world, seed);
        world.store.take_changes();
    }
    let mut memory = Memory::new(&mut world.store, &mut world.idempotency, &mut world.events);
    let journal = journal::replay(path, &mut memory)?;
    let journal = journal.compacted(path, header, &memory)?;
    let delivered = std::mem::take(&mut memory.delivered);
    world.keep_in(journal, hold);
    world.recount_invoices();
    world.store.plan();
    world.resume_deliveries(&delivered);
    Ok(world)
}

impl Sandbox {
    /// `http://127.0.0.1:12345`, without a slash at the end.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The fault script; the handle can be kept and cloned.
    pub fn faults(&self) -> Faults {
        self.shared.faults.clone()
    }

    /// The instant on the sandbox's clock.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_second(self.shared.desk.now()).unwrap_or_default()
    }

    /// Puts the sandbox's clock forward. Everything that is due on the way happens at its own instant and in order, and its
    /// webhooks are delivered (or tried) before time goes on.
    pub async fn advance(&self, by: Duration) {
        self.shared.desk.advance(by).await;
    }

    /// Waits until everything that is due by now has happened and every webhook that is due has been tried.
    pub async fn settle(&self) {
        self.shared.desk.catch_up();
        self.shared.desk.quiet().await;
    }

    /// What happens to webhooks on their way from now on.
    pub fn set_chaos(&self, chaos: Chaos) {
        self.shared.desk.set_chaos(chaos);
    }

    /// What becomes of a subscription whose invoice could not be collected.
    pub fn set_dunning(&self, then: Dunning) {
        if let Err(error) = self.shared.desk.set_dunning(then) {
            tracing::error!(error = error.message, "the sandbox cannot keep what dunning ends in");
        }
    }

    /// The last 20,000 tries to deliver a webhook, oldest first.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.shared.desk.deliveries()
    }

    /// The last 5,000 requests, oldest first.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.log.all()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.shared.log.clear();
    }

    /// Stops listening, lets open requests finish for half a second, and ends.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}
