//! PostgreSQL: a few connections, each on a thread of its own; serialization conflicts are tried again.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use postgres::config::{Host, SslMode};
use postgres::error::SqlState;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use postgres::{Client, Config, IsolationLevel, Statement, Transaction};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::news::{self, Ear, News};
use super::{Change, DbError, Dialect, Driver, Isolation, Job, Listener, Many, OpenError, Row, Tx, Value, args, tell};
use crate::error::Result;

const CONNECTIONS: usize = 4;
/// How our connections are called; the triggers of migration 0008 know us by it.
const NAME: &str = "billhook";
/// How long work that others keep getting in the way of is tried again, before its caller is told to come back (F-20).
const PATIENCE: Duration = Duration::from_millis(1_500);
/// How long a new connection may take: a caller hears within two seconds that the database is away (F-20).
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_500);

/// How long a transaction of ours may rest. Microseconds lie between two of its statements; what a process that was frozen had
/// locked must not be kept from all others (F-09).
const RESTING: &str = "SET idle_in_transaction_session_timeout = '10s'";

/// How many notifications that are not for it a connection may have taken in.
const STRAY_MAX: usize = 1_000;

pub(super) struct Postgres {
    /// Goes first: it uses the queue.
    news: News,
    queue: Arc<Queue>,
    shared: Arc<OnceLock<Listener>>,
    version: String,
    threads: Vec<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<(VecDeque<Box<dyn Job>>, bool)>,
    filled: Condvar,
    /// Shared by first tries, held alone by a second one: among ourselves nobody loses twice.
    turn: RwLock<()>,
}

impl Queue {
    pub(super) fn push(&self, job: Box<dyn Job>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0.push_back(job);
        self.filled.notify_one();
    }

    fn take(&self) -> Option<Box<dyn Job>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(job) = state.0.pop_front() {
                return Some(job);
            }
            if state.1 {
                return None;
            }
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Postgres {
    pub(super) fn open(address: &str) -> Result<Self, OpenError> {
        let mut config: tokio_postgres::Config =
            address.parse().map_err(|_| OpenError::Address("not a valid postgres:// address".into()))?;
        if !address.contains("sslmode=") && is_local(&config) {
            config.ssl_mode(SslMode::Disable);
        }
        config.connect_timeout(CONNECT_TIMEOUT).application_name(NAME);
        let (listening, config) = (config.clone(), Config::from(config));
        let unusable = |error: postgres::Error| OpenError::Unusable(said(&error).into());
        let mut first = connect(&config).map_err(unusable)?;
        refuse_unsafe(&mut first)?;
        let version = setting(&mut first, "SHOW server_version").map_err(unusable)?;
        let (queue, shared) = (Arc::new(Queue::default()), Arc::new(OnceLock::new()));
        let news = News::new(listening, Arc::clone(&queue), Arc::clone(&shared));
        let mut clients = vec![Some(first)];
        clients.resize_with(CONNECTIONS, || None);
        let threads = clients
            .into_iter()
            .map(|client| {
                let (queue, shared) = (Arc::clone(&queue), Arc::clone(&shared));
                let (config, ear) = (config.clone(), Arc::clone(news.ear()));
                let connection = Connection { client, statements: HashMap::new(), config, ear };
                std::thread::Builder::new()
                    .name("store-postgres".into())
                    .spawn(move || serve(connection, &queue, &shared))
                    .map_err(|error| OpenError::Unusable(error.into()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { news, queue, shared, version, threads })
    }

    pub(super) fn submit(&self, job: Box<dyn Job>) {
        self.queue.push(job);
    }

    pub(super) fn news(&self) -> &News {
        &self.news
    }

    pub(super) fn listener(&self) -> &OnceLock<Listener> {
        &self.shared
    }

    pub(super) fn facts(&self) -> Vec<(String, String)> {
        vec![
            ("database".into(), format!("PostgreSQL {}", self.version)),
            ("fsync".into(), "on".into()),
            ("full_page_writes".into(), "on".into()),
            ("synchronous_commit".into(), "on".into()),
        ]
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.queue.state.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.queue.filled.notify_all();
        let here = std::thread::current().id();
        // The last handle may go with the last answer, on one of these threads: that one ends by itself.
        for thread in self.threads.drain(..).filter(|thread| thread.thread().id() != here) {
            let _ = thread.join();
        }
    }
}

fn connect(config: &Config) -> Result<Client, postgres::Error> {
    let mut client = match tls() {
        Some(tls) => config.connect(tls)?,
        None => config.connect(postgres::NoTls)?,
    };
    client.batch_execute(RESTING)?;
    Ok(client)
}

/// TLS with the machine's own trust store; a server on this machine is spoken to in the clear unless the address asks.
/// Nothing where this machine has no trust store: then only a server that asks for no TLS will let us in.
pub(super) fn tls() -> Option<MakeRustlsConnect> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(rustls_platform_verifier::BuilderVerifierExt::with_platform_verifier);
    tls.ok().map(|builder| MakeRustlsConnect::new(builder.with_no_client_auth()))
}

/// Whether every host of the address is this machine.
fn is_local(config: &tokio_postgres::Config) -> bool {
    config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => matches!(name.as_str(), "localhost" | "127.0.0.1" | "::1"),
        Host::Unix(_) => true,
    })
}

fn setting(client: &mut Client, sql: &str) -> Result<String, postgres::Error> {
    Ok(client.query_one(sql, &[])?.get(0))
}

/// A setting that acknowledges rows before they are safe would make our promises empty.
fn refuse_unsafe(client: &mut Client) -> Result<(), OpenError> {
    for (name, sql) in [
        ("fsync", "SHOW fsync"),
        ("full_page_writes", "SHOW full_page_writes"),
        ("synchronous_commit", "SHOW synchronous_commit"),
    ] {
        let value = setting(client, sql).map_err(|error| OpenError::Unusable(said(&error).into()))?;
        if value == "off" {
            return Err(OpenError::Unsafe(format!("{name} = off (needs on)")));
        }
    }
    Ok(())
}

struct Connection {
    client: Option<Client>,
    statements: HashMap<&'static str, Statement>,
    config: Config,
    ear: Arc<Ear>,
}

fn serve(mut connection: Connection, queue: &Queue, listener: &OnceLock<Listener>) {
    while let Some(mut job) = queue.take() {
        let failure = match until_nobody_is_in_the_way(&mut connection, queue, job.as_mut()) {
            Ok(changes) => {
                tell(listener, &changes);
                None
            }
            Err(error) => Some(error.into()),
        };
        job.answer(failure);
    }
}

/// Tries once beside the others, then alone: only another process can still be in the way.
fn until_nobody_is_in_the_way(
    connection: &mut Connection,
    queue: &Queue,
    job: &mut dyn Job,
) -> Result<Vec<Change>, DbError> {
    let beside = queue.turn.read().unwrap_or_else(PoisonError::into_inner);
    let start = Instant::now();
    let mut outcome = attempt_once(connection, job);
    drop(beside);
    while matches!(outcome, Err(DbError::Contention(_))) && start.elapsed() < PATIENCE {
        let _alone = queue.turn.write().unwrap_or_else(PoisonError::into_inner);
        outcome = attempt_once(connection, job);
    }
    outcome
}

/// One transaction; what it changed, once it is committed.
fn attempt_once(connection: &mut Connection, job: &mut dyn Job) -> Result<Vec<Change>, DbError> {
    let before = match connection.client.as_mut().and_then(usable) {
        Some(client) => transact(client, &mut connection.statements, job),
        None => Begun::Not(DbError::Unavailable("not connected".into())),
    };
    if let Begun::Done(outcome) = before {
        return outcome;
    }
    // Not connected yet, or ended while it rested, which only BEGIN shows. Nothing was done on it: another takes its place.
    connection.statements.clear();
    if connection.client.take().is_some() {
        connection.ear.doubt();
    }
    let client = connection.client.insert(connect(&connection.config).map_err(DbError::away)?);
    match transact(client, &mut connection.statements, job) {
        Begun::Done(outcome) => outcome,
        Begun::Not(error) => Err(error),
    }
}

/// A pooler may lend us a connection that listens for somebody else. What is heard on it is kept for nobody, and is not to
/// fill our memory.
fn usable(client: &mut Client) -> Option<&mut Client> {
    (!client.is_closed() && client.notifications().len() < STRAY_MAX).then_some(client)
}

/// Whether a transaction was begun, and what became of it.
enum Begun {
    Not(DbError),
    Done(Result<Vec<Change>, DbError>),
}

fn transact(client: &mut Client, statements: &mut HashMap<&'static str, Statement>, job: &mut dyn Job) -> Begun {
    let level = match job.isolation() {
        Isolation::Snapshot => IsolationLevel::RepeatableRead,
        Isolation::Statement => IsolationLevel::ReadCommitted,
    };
    match client.build_transaction().isolation_level(level).start() {
        Ok(transaction) => Begun::Done(work(Session { transaction, statements }, job)),
        Err(error) => Begun::Not(DbError::away(error)),
    }
}

fn work(mut session: Session<'_>, job: &mut dyn Job) -> Result<Vec<Change>, DbError> {
    let mut tx = Tx::on(&mut session);
    let done = job.run(&mut tx);
    let changes = std::mem::take(&mut tx.changes);
    if done {
        say(&mut session, &changes)?;
        session.transaction.commit().map_err(classify)?;
        return Ok(changes);
    }
    session.transaction.rollback().map_err(classify)?;
    if job.contended() {
        return Err(DbError::Contention("serialization conflict".into()));
    }
    Ok(Vec::new())
}

/// Tells all who listen, us as well: with the commit, in the order of the commits, and not without it. Where the answer to our
/// COMMIT is lost on its way, this is how we hear that it was done.
fn say(session: &mut Session<'_>, changes: &[Change]) -> Result<(), DbError> {
    if !changes.is_empty() {
        session.run("SELECT pg_notify(?1, ?2)", args![news::CHANNEL, news::notation::written(changes)])?;
    }
    Ok(())
}

struct Session<'c> {
    transaction: Transaction<'c>,
    statements: &'c mut HashMap<&'static str, Statement>,
}

impl Session<'_> {
    fn statement(&mut self, sql: &'static str) -> Result<Statement, DbError> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.transaction.prepare(&numbered(sql)).map_err(classify)?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }
}

impl Driver for Session<'_> {
    fn rows(&mut self, sql: &'static str, args: &[Value]) -> Result<Vec<Row>, DbError> {
        let statement = self.statement(sql)?;
        let args: Vec<&(dyn ToSql + Sync)> = args.iter().map(|arg| arg as &(dyn ToSql + Sync)).collect();
        let rows = self.transaction.query(&statement, &args).map_err(classify)?;
        rows.iter().map(take).collect()
    }

    fn run(&mut self, sql: &'static str, args: &[Value]) -> Result<u64, DbError> {
        let statement = self.statement(sql)?;
        let args: Vec<&(dyn ToSql + Sync)> = args.iter().map(|arg| arg as &(dyn ToSql + Sync)).collect();
        self.transaction.execute(&statement, &args).map_err(classify)
    }

    fn many(&mut self, sql: &'static str, work: Many<'_>) -> Result<(), DbError> {
        let statement = self.statement(sql)?;
        work(&mut |args| {
            let owned: Vec<Value> = args.iter().map(|arg| Value::from(*arg)).collect();
            let args: Vec<&(dyn ToSql + Sync)> = owned.iter().map(|arg| arg as &(dyn ToSql + Sync)).collect();
            self.transaction.execute(&statement, &args).map_err(classify)
        })
    }

    fn script(&mut self, sql: &str) -> Result<(), DbError> {
        self.transaction.batch_execute(&spoken_here(sql)).map_err(classify)
    }

    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }
}

/// PostgreSQL's placeholders are `$1`; ours are SQLite's `?1`.
fn numbered(sql: &str) -> String {
    sql.replace('?', "$")
}

/// A migration in PostgreSQL's words: what SQLite calls its row id is a big integer here, and bytes have another name.
fn spoken_here(sql: &str) -> String {
    sql.replace("-- only postgres: ", "")
        .replace("INTEGER PRIMARY KEY", "BIGINT PRIMARY KEY")
        .replace(" BLOB", " BYTEA")
        .replace(") WITHOUT ROWID", ")")
}

fn take(row: &postgres::Row) -> Result<Row, DbError> {
    let mut values = Vec::with_capacity(row.len());
    for (column, facts) in row.columns().iter().enumerate() {
        let value = match *facts.type_() {
            Type::INT8 => row.try_get::<_, Option<i64>>(column).map(|value| value.map(Value::Int)),
            Type::INT4 => row.try_get::<_, Option<i32>>(column).map(|value| value.map(|v| Value::Int(i64::from(v)))),
            Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(column).map(|value| value.map(Value::Bytes)),
            _ => row.try_get::<_, Option<String>>(column).map(|value| value.map(Value::Text)),
        };
        values.push(value.map_err(|error| DbError::Fault(error.into()))?.unwrap_or(Value::Null));
    }
    Ok(Row(values))
}

impl ToSql for Value {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(value) if *kind == Type::INT4 => i32::try_from(*value)?.to_sql(kind, out),
            Self::Int(value) => value.to_sql(kind, out),
            // PostgreSQL's text cannot hold NUL; it is kept as the visible mark of a character that cannot be shown.
            Self::Text(value) if value.contains('\0') => value.replace('\0', "\u{fffd}").to_sql(kind, out),
            Self::Text(value) => value.to_sql(kind, out),
            Self::Bytes(value) => value.to_sql(kind, out),
            Self::Ints(values) => values.to_sql(kind, out),
            Self::Texts(values) => {
                let visible = |text: &Option<String>| text.as_ref().map(|text| text.replace('\0', "\u{fffd}"));
                values.iter().map(visible).collect::<Vec<_>>().to_sql(kind, out)
            }
            Self::Blobs(values) => values.to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        let one = matches!(*kind, Type::INT4 | Type::INT8 | Type::TEXT | Type::VARCHAR | Type::BYTEA);
        one || matches!(*kind, Type::INT8_ARRAY | Type::TEXT_ARRAY | Type::BYTEA_ARRAY)
    }

    to_sql_checked!();
}

/// Why the server lets us do nothing, in its own words. No password is in them, nor any value of a row: those are in what a statement
/// runs into, which is said without its words.
fn said(error: &postgres::Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(told), _) => format!("{} ({})", told.message(), told.code().code()),
        (None, Some(cause)) => format!("{error}: {cause}"),
        (None, None) => error.to_string(),
    }
}

impl DbError {
    /// Whatever keeps us out: no code of a failed connection says that a statement was wrong.
    fn away(error: postgres::Error) -> Self {
        Self::Unavailable(said(&error).into())
    }
}

fn classify(error: postgres::Error) -> DbError {
    let Some(code) = error.code().cloned() else { return DbError::Unavailable(error.into()) };
    // A key that is taken although our snapshot does not show it: somebody else has just written it.
    let in_the_way = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::UNIQUE_VIOLATION];
    if in_the_way.contains(&code) {
        return DbError::Contention(error.into());
    }
    let class = code.code().get(..2).unwrap_or_default();
    if code == SqlState::DISK_FULL {
        return DbError::Full(error.into());
    }
    if code == SqlState::READ_ONLY_SQL_TRANSACTION {
        return DbError::ReadOnly(error.into());
    }
    // 08 connection, 25 read-only, 53 resources, 57 operator intervention, 58 system error.
    if matches!(class, "08" | "25" | "53" | "57" | "58") {
        return DbError::Unavailable(said(&error).into());
    }
    if code == SqlState::INSUFFICIENT_PRIVILEGE {
        return DbError::Fault(said(&error).into());
    }
    let mut text = String::new();
    let _ = write!(text, "{error} ({})", code.code());
    DbError::Fault(text.into())
}
