//! The way to Redis: one server or a cluster by the same address, a deadline for every answer, and a pause after failures.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use secrecy::{ExposeSecret, SecretString};

use super::script::{Args, Script};
use crate::counters::Outage;

/// How long an answer may take. Counters decide while somebody waits to do their work.
pub const DEADLINE: Duration = Duration::from_millis(50);
/// How long it may take to connect.
const CONNECT: Duration = Duration::from_millis(300);
/// After so many failures in a row nobody is made to wait any more,
const FAILURES_MAX: u32 = 5;
/// until this has passed; then one tries.
const PAUSE: Duration = Duration::from_millis(500);

/// So often it is said at most that Redis is in trouble: in a short trouble it answers and fails by turns.
const SAID_EVERY: Duration = Duration::from_secs(5);

/// A connection that is made again when it is lost.
#[derive(Debug)]
pub struct Link {
    url: SecretString,
    state: Mutex<State>,
    connecting: tokio::sync::Mutex<()>,
    failures: AtomicU32,
    degraded: AtomicBool,
    /// In milliseconds.
    deadline: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<Connection>,
    /// Somebody else may answer there now: it is connected anew before it is used again, where that can be done.
    is_doubtful: bool,
    /// Nobody asks before this instant.
    paused_until: Option<Instant>,
    /// When it was last said that Redis is in trouble, and whether that is the last word.
    said: Option<Instant>,
    is_said: bool,
}

#[derive(Clone)]
enum Connection {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Single(_) => "Single",
            Self::Cluster(_) => "Cluster",
        })
    }
}

impl Link {
    pub fn new(url: SecretString) -> Self {
        Self {
            url,
            state: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            failures: AtomicU32::new(0),
            degraded: AtomicBool::new(false),
            deadline: AtomicU64::new(u64::try_from(DEADLINE.as_millis()).unwrap_or_default()),
        }
    }

    /// Allows answers another time: on a machine that is busy with other things.
    pub fn allow(&self, deadline: Duration) {
        self.deadline.store(u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline.load(Ordering::Relaxed))
    }

    /// Whether the last question was not answered.
    pub fn is_degraded(&self) -> bool {
        self.degraded.load(Ordering::Relaxed)
    }

    /// What was answered could not be understood.
    pub fn doubt(&self) {
        if !self.degraded.swap(true, Ordering::Relaxed) && self.may_say() {
            tracing::warn!("Redis answers what nobody understands: limits follow their outage policy");
        }
    }

    /// Sends one command.
    pub async fn ask(&self, command: &Cmd) -> Result<Value, Outage> {
        let connection = self.connection().await?;
        let answer = tokio::time::timeout(self.deadline(), send(connection, command)).await;
        self.judged(answer.unwrap_or_else(|_| Err(late())))
    }

    /// Runs a script; a server that does not have it gets it.
    pub async fn run(&self, script: &Script, keys: &Args, args: &Args) -> Result<Value, Outage> {
        self.run_within(self.deadline(), script, keys, args).await
    }

    /// The same for work that nobody waits for.
    pub async fn run_within(
        &self,
        deadline: Duration,
        script: &Script,
        keys: &Args,
        args: &Args,
    ) -> Result<Value, Outage> {
        let connection = self.connection().await?;
        let both = async {
            match send(connection.clone(), &script.by_name(keys, args)).await {
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    send(connection, &script.in_full(keys, args)).await
                }
                answer => answer,
            }
        };
        let answer = tokio::time::timeout(deadline, both).await;
        self.judged(answer.unwrap_or_else(|_| Err(late())))
    }

    /// Whether a call may touch the keys of one slot only.
    pub async fn is_cluster(&self) -> Result<bool, Outage> {
        if let Some(connection) = &self.lock().connection {
            return Ok(matches!(connection, Connection::Cluster(_)));
        }
        Ok(matches!(self.connection().await?, Connection::Cluster(_)))
    }

    async fn connection(&self) -> Result<Connection, Outage> {
        {
            let mut state = self.lock();
            if let Some(until) = state.paused_until {
                if Instant::now() < until {
                    return Err(Outage("paused after failures".into()));
                }
                // This one tries; the others still wait.
                state.paused_until = Some(Instant::now() + PAUSE);
            }
        }
        if let Some(connection) = self.sure_connection() {
            return Ok(connection);
        }
        let alone = tokio::time::timeout(self.deadline(), self.connecting.lock()).await;
        let _alone = alone.map_err(|_| Outage("is being connected".into()))?;
        if let Some(connection) = self.sure_connection() {
            return Ok(connection);
        }
        let connected = tokio::time::timeout(CONNECT.max(self.deadline()), connect(self.url.expose_secret())).await;
        let connected = connected.unwrap_or_else(|_| Err(late()));
        let mut state = self.lock();
        state.is_doubtful = false;
        match (connected, &state.connection) {
            (Ok(connection), _) => {
                state.connection = Some(connection.clone());
                Ok(connection)
            }
            // The address that we were given may be that of a node that died; the others of its cluster go on.
            (Err(_), Some(cluster @ Connection::Cluster(_))) => Ok(cluster.clone()),
            (Err(error), _) => {
                state.connection = None;
                state.paused_until = Some(Instant::now() + PAUSE);
                drop(state);
                self.failed();
                Err(Outage(error.into()))
            }
        }
    }

    fn sure_connection(&self) -> Option<Connection> {
        let state = self.lock();
        state.connection.clone().filter(|_| !state.is_doubtful)
    }

    fn judged(&self, answer: redis::RedisResult<Value>) -> Result<Value, Outage> {
        let error = match answer {
            Ok(value) => {
                self.failures.store(0, Ordering::Relaxed);
                let was_degraded = self.degraded.swap(false, Ordering::Relaxed);
                let mut state = self.lock();
                if was_degraded && std::mem::take(&mut state.is_said) {
                    tracing::info!("Redis answers again");
                }
                state.paused_until = None;
                return Ok(value);
            }
            Err(error) => error,
        };
        let failures = self.failed();
        let mut state = self.lock();
        if failures >= FAILURES_MAX {
            state.paused_until = Some(Instant::now() + PAUSE);
        }
        // Somebody else answers there now than the one that was connected: look again who it is.
        if is_foreign(&error) {
            state.is_doubtful = true;
        }
        drop(state);
        Err(Outage(error.into()))
    }

    fn failed(&self) -> u32 {
        if !self.degraded.swap(true, Ordering::Relaxed) && self.may_say() {
            tracing::warn!("Redis does not answer as it should: limits follow their outage policy");
        }
        self.failures.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether trouble is to be said now; it is taken as said then.
    fn may_say(&self) -> bool {
        let (mut state, now) = (self.lock(), Instant::now());
        let may = state.said.is_none_or(|said| now >= said + SAID_EVERY);
        if may {
            (state.said, state.is_said) = (Some(now), true);
        }
        may
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_foreign(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Parse | ErrorKind::ClusterConnectionNotFound => true,
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown
        ),
        _ => false,
    }
}

fn late() -> RedisError {
    RedisError::from((ErrorKind::Io, "no answer in time"))
}

async fn send(connection: Connection, command: &Cmd) -> redis::RedisResult<Value> {
    let answer = match connection {
        Connection::Single(mut connection) => connection.send_packed_command(command).await,
        Connection::Cluster(mut connection) => command.query_async(&mut connection).await,
    };
    answer.and_then(Value::extract_error)
}

/// A server that is part of a cluster is spoken to as a cluster.
async fn connect(url: &str) -> redis::RedisResult<Connection> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(CONNECT))
        .set_number_of_retries(0)
        .set_max_delay(PAUSE);
    let mut single = ConnectionManager::new_with_config(redis::Client::open(url)?, config).await?;
    let info: String = redis::cmd("INFO").arg("cluster").query_async(&mut single).await?;
    if info.contains("cluster_enabled:1") {
        let client = ClusterClient::builder([url])
            .retries(2)
            .min_retry_wait(1)
            .max_retry_wait(20)
            .connection_timeout(CONNECT)
            .response_timeout(CONNECT)
            .build()?;
        return Ok(Connection::Cluster(client.get_async_connection().await?));
    }
    Ok(Connection::Single(single))
}
