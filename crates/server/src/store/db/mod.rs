//! The database: SQLite or PostgreSQL behind one transaction type. Only this folder knows the drivers.
//!
//! A transaction is a synchronous closure that runs on a thread of the database's own. So nothing can wait for the
//! network between begin and commit, a client that goes away leaves no half effect, and on SQLite the one writer thread
//! can commit many closures with one disk flush.

mod news;
mod postgres;
mod serve_lock;
mod sqlite;
mod value;
mod wal;
mod writing;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use tokio::sync::oneshot;

pub use self::serve_lock::{ServeLock, lock_for_serve};
pub use self::value::{Arg, Row, Value};
pub use self::writing::Unwritable;
use self::writing::Writing;
use crate::error::{Cause, Error, Result, Upstream};

/// The values of one statement, in order: `args![id, created]`.
macro_rules! args {
    ($($value:expr),* $(,)?) => { &[$($crate::store::db::Value::from($value)),*] };
}
pub(crate) use args;

/// What a committed transaction changed, so that rendered answers which show it are dropped.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    /// A user's row, session or usage.
    User(String),
    /// Something at Stripe that belongs to this customer.
    Customer(String),
    /// Totals that admins see.
    Totals,
    /// Unknown: everything may have changed (another process wrote).
    Everything,
}

/// The code of an error that goes away when the same work is tried again.
const CONTENTION: &str = "storage.contention";
/// There is no room for what is to be written.
const FULL: &str = "storage.full";
/// The database takes nothing: a standby, a file that is not ours to write.
const READ_ONLY: &str = "storage.read_only";

type Listener = Box<dyn Fn(&[Change]) + Send + Sync>;

/// A handle on the database; cheap to clone.
#[derive(Clone)]
pub struct Db(Arc<Opened>);

struct Opened {
    engine: Engine,
    writing: Arc<Writing>,
}

enum Engine {
    Sqlite(sqlite::Sqlite),
    Postgres(postgres::Postgres),
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0.engine {
            Engine::Sqlite(_) => "Db(sqlite)",
            Engine::Postgres(_) => "Db(postgres)",
        })
    }
}

/// Why a database cannot be used at all; found at start.
#[derive(Debug)]
pub enum OpenError {
    /// The address is not one of a database that we know.
    Address(String),
    /// A setting that can lose acknowledged rows; names the setting and its value.
    Unsafe(String),
    /// There is none of ours, where one was asked for.
    Missing(String),
    /// The database does not answer or is not one of ours.
    Unusable(Cause),
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(what) | Self::Missing(what) => write!(f, "DATABASE_URL: {what}"),
            Self::Unsafe(what) => write!(f, "unsafe database setting: {what}"),
            Self::Unusable(cause) => write!(f, "DATABASE_URL: {cause}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// What a statement ran into. The drivers' texts stay inside as causes; they may quote values and are for the log only.
#[derive(Debug)]
pub enum DbError {
    /// Another transaction was in the way; the same work may succeed when repeated.
    Contention(Cause),
    /// The database cannot be reached or cannot write now.
    Unavailable(Cause),
    /// There is no room on its disk.
    Full(Cause),
    /// It takes nothing that is written.
    ReadOnly(Cause),
    /// A row that the code cannot mean, or a statement that does not fit.
    Fault(Cause),
}

impl DbError {
    /// The same for another who was hit by it.
    fn alike(&self) -> Self {
        match self {
            Self::Contention(cause) => Self::Contention(cause.to_string().into()),
            Self::Unavailable(cause) => Self::Unavailable(cause.to_string().into()),
            Self::Full(cause) => Self::Full(cause.to_string().into()),
            Self::ReadOnly(cause) => Self::ReadOnly(cause.to_string().into()),
            Self::Fault(cause) => Self::Fault(cause.to_string().into()),
        }
    }
}

impl From<DbError> for Error {
    fn from(error: DbError) -> Self {
        let (code, seconds, cause) = match error {
            DbError::Contention(cause) => (CONTENTION, 1, cause),
            DbError::Unavailable(cause) => ("storage.unavailable", 1, cause),
            // Room is made by people.
            DbError::Full(cause) => (FULL, 30, cause),
            DbError::ReadOnly(cause) => (READ_ONLY, 5, cause),
            DbError::Fault(cause) => return Self::Internal(cause),
        };
        let retry_after = std::time::Duration::from_secs(seconds);
        Self::Upstream { who: Upstream::Database, code, retry_after, cause: Some(cause) }
    }
}

/// One driver's open transaction.
trait Driver {
    fn rows(&mut self, sql: &'static str, args: &[Value]) -> Result<Vec<Row>, DbError>;
    fn run(&mut self, sql: &'static str, args: &[Value]) -> Result<u64, DbError>;
    fn many(&mut self, sql: &'static str, work: Many<'_>) -> Result<(), DbError>;
    fn script(&mut self, sql: &str) -> Result<(), DbError>;
    fn dialect(&self) -> Dialect;
}

/// Runs a statement once for the values it is given; how many rows that changed.
type Once<'r> = &'r mut dyn FnMut(&[Arg<'_>]) -> Result<u64, DbError>;
/// Calls `Once` as often as it likes.
type Many<'w> = &'w mut dyn FnMut(Once<'_>) -> Result<(), DbError>;

/// Which SQL is spoken, for the few statements that differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Sqlite,
    Postgres,
}

/// An open transaction. Placeholders are `?1`, `?2`, … on both databases.
pub struct Tx<'c> {
    driver: &'c mut dyn Driver,
    changes: Vec<Change>,
    /// A row was changed.
    wrote: bool,
}

impl std::fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tx({:?})", self.changes)
    }
}

impl<'c> Tx<'c> {
    fn on(driver: &'c mut dyn Driver) -> Self {
        Self { driver, changes: Vec::new(), wrote: false }
    }

    /// All rows of a query.
    pub fn rows(&mut self, sql: &'static str, args: &[Value]) -> Result<Vec<Row>> {
        Ok(self.driver.rows(sql, args)?)
    }

    /// The first row of a query, if there is one.
    pub fn row(&mut self, sql: &'static str, args: &[Value]) -> Result<Option<Row>> {
        Ok(self.driver.rows(sql, args)?.into_iter().next())
    }

    /// Runs a statement; how many rows it changed.
    pub fn run(&mut self, sql: &'static str, args: &[Value]) -> Result<u64> {
        let changed = self.driver.run(sql, args)?;
        self.wrote |= changed > 0;
        Ok(changed)
    }

    /// Prepares a statement once and runs it as often as `work` asks, with borrowed values.
    pub fn many(
        &mut self,
        sql: &'static str,
        mut work: impl FnMut(&mut dyn FnMut(&[Arg<'_>]) -> Result<u64, DbError>) -> Result<(), DbError>,
    ) -> Result<()> {
        let Self { driver, wrote, .. } = self;
        let mut noting = |once: Once<'_>| {
            work(&mut |args| {
                let changed = once(args)?;
                *wrote |= changed > 0;
                Ok(changed)
            })
        };
        Ok(driver.many(sql, &mut noting)?)
    }

    /// Runs the statements of a migration.
    pub(super) fn script(&mut self, sql: &str) -> Result<()> {
        Ok(self.driver.script(sql)?)
    }

    pub fn dialect(&self) -> Dialect {
        self.driver.dialect()
    }

    /// Says what this transaction changes; heard by the listener after the commit and before the caller's answer.
    pub fn changed(&mut self, change: Change) {
        if !self.changes.contains(&change) {
            self.changes.push(change);
        }
    }
}

/// A unit of work on a database thread: runs inside a transaction, is answered after its commit.
trait Job: Send {
    /// Runs the closure; `false` when its effects must be undone.
    fn run(&mut self, tx: &mut Tx<'_>) -> bool;
    /// Whether the closure failed only because another transaction was in the way.
    fn contended(&self) -> bool;
    /// Answers the caller. `commit` is the error of the commit, when that failed.
    fn answer(self: Box<Self>, commit: Option<Error>);
    fn isolation(&self) -> Isolation;
}

struct Call<F, T, D> {
    work: F,
    outcome: Option<Result<T>>,
    done: D,
    isolation: Isolation,
    /// Told how it ended, where it is to write.
    writing: Option<Arc<Writing>>,
    wrote: bool,
}

/// What a transaction sees of others that commit meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// One snapshot, and a conflict where others got in the way.
    Snapshot,
    /// Each statement sees what was committed before it, and waits for rows that others hold. SQLite has one writer: there
    /// this is the same.
    Statement,
}

impl<F, T, D> Job for Call<F, T, D>
where
    F: FnMut(&mut Tx<'_>) -> Result<T> + Send,
    T: Send,
    D: FnOnce(Result<T>) + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> bool {
        let work = &mut self.work;
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(tx)))
            .unwrap_or_else(|_| Err(Error::internal("a transaction panicked")));
        self.wrote = tx.wrote;
        self.outcome.insert(outcome).is_ok()
    }

    fn contended(&self) -> bool {
        matches!(&self.outcome, Some(Err(Error::Upstream { code: CONTENTION, .. })))
    }

    fn answer(self: Box<Self>, commit: Option<Error>) {
        let outcome = match (self.outcome, commit) {
            (Some(Ok(_)), Some(error)) => Err(error),
            (Some(outcome), _) => outcome,
            (None, error) => Err(error.unwrap_or_else(|| Error::internal("a transaction did not run"))),
        };
        if let Some(writing) = &self.writing {
            writing.note(&outcome, self.wrote);
        }
        (self.done)(outcome);
    }

    fn isolation(&self) -> Isolation {
        self.isolation
    }
}

/// Sends the outcome to whoever waits. The caller may have gone away; the work is done all the same.
fn reply<T: Send>() -> (impl FnOnce(Result<T>) + Send, oneshot::Receiver<Result<T>>) {
    let (reply, answer) = oneshot::channel();
    (move |outcome| drop(reply.send(outcome)), answer)
}

impl Db {
    /// Opens the database at `address` (`sqlite://PATH` or `postgres://…`) and refuses unsafe settings.
    pub fn open(address: &str) -> Result<Self, OpenError> {
        if let Some(path) = sqlite_path(address) {
            return Ok(Self::of(Engine::Sqlite(sqlite::Sqlite::open(path)?)));
        }
        if address.starts_with("postgres://") || address.starts_with("postgresql://") {
            return Ok(Self::of(Engine::Postgres(postgres::Postgres::open(address)?)));
        }
        Err(OpenError::Address("expected sqlite://PATH or postgres://…".into()))
    }

    /// The same for a database of ours that is there: none is made. On PostgreSQL the schema itself tells
    /// ([`crate::store::migrations::are_there`]).
    pub fn open_there(address: &str) -> Result<Self, OpenError> {
        if let Some(path) = sqlite_path(address) {
            sqlite::find(path)?;
        }
        Self::open(address)
    }

    fn of(engine: Engine) -> Self {
        Self(Arc::new(Opened { engine, writing: Arc::default() }))
    }

    fn writing(&self) -> &Writing {
        &self.0.writing
    }

    /// Runs `work` on one consistent snapshot, without writing.
    pub async fn read<T, F>(&self, work: F) -> Result<T>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let (done, answer) = reply();
        let isolation = Isolation::Snapshot;
        let job = Box::new(Call { work, outcome: None, done, isolation, writing: None, wrote: false });
        match &self.0.engine {
            Engine::Sqlite(sqlite) => sqlite.read(job),
            Engine::Postgres(postgres) => postgres.submit(job),
        }
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Runs `work` in one transaction; `Ok` means that it is on disk.
    pub async fn write<T, F>(&self, work: F) -> Result<T>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.write_in(Isolation::Snapshot, work).await
    }

    /// The same with another isolation.
    pub async fn write_in<T, F>(&self, isolation: Isolation, work: F) -> Result<T>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let (done, answer) = reply();
        self.write_then(isolation, work, done);
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Runs `work` in one transaction and then `done` with what came of it, on the thread of the database: after the commit,
    /// and before anybody else's next transaction there.
    pub fn write_then<T, F, D>(&self, isolation: Isolation, work: F, done: D)
    where
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
        D: FnOnce(Result<T>) + Send + 'static,
    {
        let writing = Some(Arc::clone(&self.0.writing));
        let job = Box::new(Call { work, outcome: None, done, isolation, writing, wrote: false });
        match &self.0.engine {
            Engine::Sqlite(sqlite) => sqlite.write(job),
            Engine::Postgres(postgres) => postgres.submit(job),
        }
    }

    /// Who is told what each commit changed. Only the first listener is kept.
    pub fn listen(&self, listener: impl Fn(&[Change]) + Send + Sync + 'static) {
        let slot = match &self.0.engine {
            Engine::Sqlite(sqlite) => sqlite.listener(),
            Engine::Postgres(postgres) => postgres.listener(),
        };
        let _ = slot.set(Box::new(listener));
    }

    /// Whether rendered answers may be kept: only where we notice what other processes commit.
    pub fn notices_other_writers(&self) -> bool {
        self.unnoticed().is_none()
    }

    /// Why commits of other processes are not noticed now; nothing where they are.
    pub fn unnoticed(&self) -> Option<&'static str> {
        match &self.0.engine {
            Engine::Sqlite(_) => None,
            Engine::Postgres(postgres) => postgres.news().silence(),
        }
    }

    /// Looks whether another process has written, or may have without our hearing of it; if so, the listener hears
    /// `Everything` before this returns.
    pub fn notice_other_writers(&self) {
        match &self.0.engine {
            Engine::Sqlite(sqlite) => sqlite.notice_other_writers(),
            Engine::Postgres(postgres) => postgres.news().look(),
        }
    }

    /// Waits until no other process can show any more what was so before now. On SQLite a look serves the requests of a moment;
    /// on PostgreSQL a process that has just lost its connection goes on for a while.
    pub async fn outwait_other_readers(&self) {
        tokio::time::sleep(match &self.0.engine {
            Engine::Sqlite(_) => sqlite::OUTWAITED,
            Engine::Postgres(_) => news::HEARD_FOR,
        })
        .await;
    }

    pub fn dialect(&self) -> Dialect {
        match &self.0.engine {
            Engine::Sqlite(_) => Dialect::Sqlite,
            Engine::Postgres(_) => Dialect::Postgres,
        }
    }

    /// The version and the settings that matter for safety, for `doctor`.
    pub fn facts(&self) -> Vec<(String, String)> {
        match &self.0.engine {
            Engine::Sqlite(sqlite) => sqlite.facts(),
            Engine::Postgres(postgres) => postgres.facts(),
        }
    }
}

/// The file of an address that names one.
fn sqlite_path(address: &str) -> Option<&Path> {
    address.strip_prefix("sqlite://").or_else(|| address.strip_prefix("sqlite:")).map(Path::new)
}

fn stopped() -> Error {
    DbError::Unavailable("the database thread has stopped".into()).into()
}

/// Tells the listener, when there is one and there is something to tell.
fn tell(listener: &OnceLock<Listener>, changes: &[Change]) {
    if let (Some(listener), false) = (listener.get(), changes.is_empty()) {
        listener(changes);
    }
}
