//! SQLite: one writer thread with group commit, a few readers, and an eye on other processes.

use std::collections::VecDeque;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ToSql};

use super::wal::{BUSY, Reading, Room, Wal};
use super::{Arg, Change, DbError, Dialect, Driver, Job, Listener, Many, OpenError, Row, Tx, Value, tell};
use crate::error::Result;

/// Older versions can lose a WAL that another process resets (SQLite's own note on 3.51.3).
const OLDEST: (i32, &str) = (3_051_003, "3.51.3");
/// How many waiting transactions share one commit.
const GROUP_MAX: usize = 512;
const READERS: usize = 2;
/// Pages that a connection keeps, in KiB. The writer changes the same few again and again; what a reader wants once more the
/// system has in memory as well. Together they are what a long walk over a large file fills, and they end there.
const WRITERS_PAGES: u32 = 8_192;
const READERS_PAGES: u32 = 2_048;
/// Bytes of a page in a file that is new: what a batch appends are a few of these, and each costs the same whatever is in it.
const PAGE: u32 = 8_192;
/// Bytes of the write-ahead log that are brought into the file at a time.
const CHECKPOINT: u32 = 1_000 * 4_096;
/// So many steps of SQLite's machine lie between two looks at whether a read has to give way.
const STEPS: i32 = 20_000;
/// So long a look for other writers is good for.
const LOOKED_FOR_US: u64 = 100;
/// Ten times that: when it has passed, nobody shows any more what was so before it.
pub(super) const OUTWAITED: Duration = Duration::from_millis(1);

pub(super) struct Sqlite {
    writes: Arc<Queue>,
    reads: Arc<Queue>,
    shared: Arc<Shared>,
    version: String,
    threads: Vec<std::thread::JoinHandle<()>>,
}

/// Where the file lies that was opened.
struct Place {
    path: PathBuf,
    /// Its device and its number there.
    file: (u64, u64),
}

impl Place {
    fn of(path: &Path) -> std::io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: file_at(path)? })
    }

    /// Whether it still lies there. What is written to a file that was removed or replaced is nowhere.
    fn is_kept(&self) -> bool {
        file_at(&self.path).is_ok_and(|file| file == self.file)
    }
}

fn file_at(path: &Path) -> std::io::Result<(u64, u64)> {
    let file = std::fs::metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// What the writer thread and the requests both see.
struct Shared {
    place: Place,
    listener: OnceLock<Listener>,
    wal: Wal,
    /// The count after the last commit that the listener has heard of.
    known: AtomicU32,
    /// When somebody last looked for other writers, in microseconds since `opened`.
    looked: AtomicU64,
    opened: Instant,
    /// Our own writer is at work: it holds the write lock, so nobody else can commit, and it has looked before it began.
    writing: AtomicBool,
}

/// Jobs waiting for a thread.
#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    filled: Condvar,
}

#[derive(Default)]
struct QueueState {
    jobs: VecDeque<Box<dyn Job>>,
    closed: bool,
}

impl Queue {
    fn push(&self, job: Box<dyn Job>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            drop(state);
            job.answer(Some(DbError::Unavailable("the database is closed".into()).into()));
            return;
        }
        state.jobs.push_back(job);
        drop(state);
        self.filled.notify_one();
    }

    /// Waits for work and takes up to `most` jobs; nothing once the queue is closed and empty.
    fn take(&self, most: usize) -> Option<Vec<Box<dyn Job>>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.jobs.is_empty() {
            if state.closed {
                return None;
            }
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let count = state.jobs.len().min(most);
        Some(state.jobs.drain(..count).collect())
    }

    fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.filled.notify_all();
    }
}

impl Sqlite {
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        if path.as_os_str().is_empty() || path.as_os_str() == ":memory:" {
            return Err(OpenError::Address("a SQLite database is a file here: sqlite://PATH".into()));
        }
        if rusqlite::version_number() < OLDEST.0 {
            return Err(OpenError::Unsafe(format!("SQLite {} (needs {} or newer)", rusqlite::version(), OLDEST.1)));
        }
        keep_private(path)?;
        let writer = connect(path, WRITERS_PAGES)?;
        // The WAL index exists only once the write-ahead log was used.
        writer.execute_batch("BEGIN IMMEDIATE; COMMIT").map_err(|error| unusable(path, error))?;
        let wal = Wal::open(path).map_err(|error| OpenError::Unusable(error.into()))?;
        let known = AtomicU32::new(wal.commits().unwrap_or_default());
        let shared = Arc::new(Shared {
            place: Place::of(path).map_err(|error| OpenError::Unusable(error.into()))?,
            listener: OnceLock::new(),
            wal,
            known,
            looked: AtomicU64::new(0),
            opened: Instant::now(),
            writing: AtomicBool::new(false),
        });
        let (writes, reads) = (Arc::new(Queue::default()), Arc::new(Queue::default()));
        let mut threads = Vec::new();
        let (queue, seen) = (Arc::clone(&writes), Arc::clone(&shared));
        threads.push(thread("store-writer", move || write_loop(writer, &queue, &seen))?);
        for _ in 0..READERS {
            let reader = connect(path, READERS_PAGES)?;
            let queue = Arc::clone(&reads);
            threads.push(thread("store-reader", move || read_loop(reader, &queue, wal))?);
        }
        Ok(Self { writes, reads, shared, version: rusqlite::version().to_owned(), threads })
    }

    pub(super) fn write(&self, job: Box<dyn Job>) {
        self.writes.push(job);
    }

    pub(super) fn read(&self, job: Box<dyn Job>) {
        self.reads.push(job);
    }

    pub(super) fn listener(&self) -> &OnceLock<Listener> {
        &self.shared.listener
    }

    pub(super) fn notice_other_writers(&self) {
        self.shared.notice();
    }

    pub(super) fn facts(&self) -> Vec<(String, String)> {
        vec![
            ("database".into(), format!("SQLite {}", self.version)),
            ("journal_mode".into(), "wal".into()),
            ("synchronous".into(), "full".into()),
        ]
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        let here = std::thread::current().id();
        // The last handle may go with the last answer, on one of these threads: that one ends by itself.
        let end = |threads: std::vec::Drain<'_, std::thread::JoinHandle<()>>| {
            threads.filter(|thread| thread.thread().id() != here).for_each(|thread| drop(thread.join()));
        };
        // The writer ends last: connections that are closed at the same time leave the write-ahead log to each other.
        self.reads.close();
        end(self.threads.drain(1..));
        self.writes.close();
        end(self.threads.drain(..));
    }
}

impl Shared {
    /// Drops every rendered answer when the count of commits is not the one that we know. A look is a call of the system's, and
    /// one serves all requests of the next moment.
    fn notice(&self) {
        let now = u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX);
        let next = self.looked.load(Ordering::Relaxed).saturating_add(LOOKED_FOR_US);
        if now < next {
            return;
        }
        // Noted after the look, with the time before it: whoever relies on it looked no earlier than that.
        self.look();
        self.looked.fetch_max(now, Ordering::Relaxed);
    }

    fn look(&self) {
        let seen = self.wal.commits();
        let is_known = || seen == Some(self.known.load(Ordering::SeqCst));
        // While our writer is at work the next count is its own commit's. The last look is for one that has ended meanwhile.
        let is_ours =
            || self.writing.load(Ordering::SeqCst) && seen == Some(self.known.load(Ordering::SeqCst).wrapping_add(1));
        if is_known() || is_ours() || is_known() {
            return;
        }
        self.notice_new(seen);
    }

    fn notice_new(&self, seen: Option<u32>) {
        // Told before the count is taken over: whoever sees the new count finds nothing old.
        tell(&self.listener, &[Change::Everything]);
        if let Some(seen) = seen {
            self.known.store(seen, Ordering::SeqCst);
        }
    }

    /// The same inside the write lock, where nobody else can commit: from here on every new count is ours.
    fn notice_and_write(&self) {
        let seen = self.wal.commits();
        if seen != Some(self.known.load(Ordering::SeqCst)) {
            self.notice_new(seen);
        }
        self.writing.store(true, Ordering::SeqCst);
    }

    /// After our own commit: only what it changed is dropped, unless somebody else has committed as well.
    fn committed(&self, before: Option<u32>, wrote: bool, changes: &[Change]) {
        let after = self.wal.commits();
        let expected = before.map(|count| count.wrapping_add(u32::from(wrote)));
        let ours_alone = after.is_some() && after == expected;
        tell(&self.listener, if ours_alone { changes } else { &[Change::Everything] });
        self.known.store(after.unwrap_or_default(), Ordering::SeqCst);
        self.writing.store(false, Ordering::SeqCst);
    }
}

fn thread(name: &str, body: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>, OpenError> {
    std::thread::Builder::new().name(name.into()).spawn(body).map_err(|error| OpenError::Unusable(error.into()))
}

/// Looks whether there is a file with our schema in it, and changes nothing. Whatever else may be wrong with it, opening it says.
pub(super) fn find(path: &Path) -> Result<(), OpenError> {
    let missing = |what: &str| {
        let make = "billhook serve and billhook migrate make one";
        Err(OpenError::Missing(format!("{}: {what}: {make}", path.display())))
    };
    if std::fs::metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return missing("there is no such database");
    }
    let found = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).and_then(|connection| {
        connection.busy_timeout(BUSY)?;
        connection.query_row("SELECT 1 FROM schema_migrations WHERE name = '0001_foundation'", [], |_| Ok(()))
    });
    match found {
        Err(rusqlite::Error::QueryReturnedNoRows | rusqlite::Error::SqlInputError { .. }) => {
            missing("this is no database of ours")
        }
        // No such table.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::Unknown) => missing("this is no database of ours"),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The file holds money and people: only the account that runs the program may read it.
fn keep_private(path: &Path) -> Result<(), OpenError> {
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| OpenError::Unusable(format!("{}: {error}", path.display()).into()))?;
    let facts = file.metadata().map_err(|error| OpenError::Unusable(error.into()))?;
    if facts.mode() & 0o077 == 0 {
        return Ok(());
    }
    tracing::warn!(
        mode = format!("{:o}", facts.mode() & 0o777),
        "the database file was open to others; it is 0600 now"
    );
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
        .map_err(|_| OpenError::Unsafe(format!("{} is open to others and is not ours: chmod 600", path.display())))
}

fn connect(path: &Path, pages_kib: u32) -> Result<Connection, OpenError> {
    let unusable = |error| unusable(path, error);
    let connection = Connection::open(path).map_err(unusable)?;
    connection.busy_timeout(BUSY).map_err(unusable)?;
    connection.set_prepared_statement_cache_capacity(256);
    // A file that has something in it keeps its own.
    connection.pragma_update(None, "page_size", PAGE).map_err(unusable)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(unusable)?;
    if mode != "wal" {
        return Err(OpenError::Unsafe(format!("journal_mode = {mode} (needs wal; is this a network disk?)")));
    }
    connection
        .execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY;")
        .and_then(|()| connection.pragma_update(None, "cache_size", -i64::from(pages_kib)))
        .map_err(unusable)?;
    let page: u32 = connection.query_row("PRAGMA page_size", [], |row| row.get(0)).map_err(unusable)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT / page).map_err(unusable)?;
    let synchronous: i64 = connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).map_err(unusable)?;
    if synchronous != 2 {
        return Err(OpenError::Unsafe(format!("synchronous = {synchronous} (needs 2, FULL)")));
    }
    Ok(connection)
}

/// SQLite's own words name neither the file nor its folder, where it keeps the write-ahead log.
fn unusable(path: &Path, error: rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => OpenError::Unusable(
            format!("{}: the file, its folder and the files beside it must be ours to write ({error})", path.display())
                .into(),
        ),
        _ => OpenError::Unusable(error.into()),
    }
}

fn read_loop(mut connection: Connection, queue: &Queue, wal: Wal) {
    while let Some(jobs) = queue.take(1) {
        for mut job in jobs {
            let reading = wal.reading();
            let watched = connection.progress_handler(STEPS, Some(move || reading.must_give_way()));
            let failed = match watched.and_then(|()| connection.transaction()) {
                Ok(transaction) => {
                    job.run(&mut Tx::on(&mut Session { connection: &transaction, reading: Some(reading) }));
                    transaction.finish().err()
                }
                Err(error) => Some(error),
            };
            job.answer(failed.map(|error| classify(error).into()));
        }
    }
}

fn write_loop(connection: Connection, queue: &Queue, shared: &Shared) {
    let mut room = Room::new(shared.wal);
    while let Some(mut jobs) = queue.take(GROUP_MAX) {
        match write_group(&connection, &mut jobs, shared) {
            Ok(()) => jobs.into_iter().for_each(|job| job.answer(None)),
            Err(error) => {
                let _ = connection.execute_batch("ROLLBACK");
                shared.writing.store(false, Ordering::SeqCst);
                for job in jobs {
                    job.answer(Some(error.alike().into()));
                }
            }
        }
        room.make(&connection);
    }
}

/// Runs a group of transactions, each in a savepoint of its own, and commits them with one flush. One that is alone needs no
/// savepoint, for which SQLite would keep a copy of each page that it changes.
fn write_group(connection: &Connection, jobs: &mut [Box<dyn Job>], shared: &Shared) -> Result<(), DbError> {
    let say =
        |sql: &'static str| connection.prepare_cached(sql).and_then(|mut said| said.execute([])).map_err(classify);
    if !shared.place.is_kept() {
        let why = "the file of the database was removed or replaced: stop, and start on the one that counts";
        return Err(DbError::Unavailable(why.into()));
    }
    say("BEGIN IMMEDIATE")?;
    // Inside the write lock nobody else can commit: what is new here is somebody else's.
    shared.notice_and_write();
    let before = shared.wal.commits();
    let rows_before = connection.total_changes();
    let mut changes = Vec::new();
    let alone = jobs.len() == 1;
    for job in jobs {
        if !alone {
            say("SAVEPOINT job")?;
        }
        let mut session = Session { connection, reading: None };
        let mut tx = Tx::on(&mut session);
        if job.run(&mut tx) {
            changes.append(&mut tx.changes);
        } else if connection.is_autocommit() {
            // A disk that fails in the middle ends the transaction of all.
            return Err(DbError::Unavailable("the disk failed in the middle of a group".into()));
        } else if alone {
            say("ROLLBACK")?;
            shared.committed(before, false, &[]);
            return Ok(());
        } else {
            say("ROLLBACK TO job")?;
        }
        if !alone {
            say("RELEASE job")?;
        }
    }
    say("COMMIT")?;
    shared.committed(before, connection.total_changes() != rows_before, &changes);
    Ok(())
}

struct Session<'c> {
    connection: &'c Connection,
    reading: Option<Reading>,
}

impl Driver for Session<'_> {
    fn rows(&mut self, sql: &'static str, args: &[Value]) -> Result<Vec<Row>, DbError> {
        if self.reading.is_some_and(Reading::must_give_way) {
            return Err(DbError::Contention("a long read gives way to the write-ahead log".into()));
        }
        let mut statement = self.connection.prepare_cached(sql).map_err(classify)?;
        let columns = statement.column_count();
        let mut rows = statement.query(rusqlite::params_from_iter(args)).map_err(classify)?;
        let mut out = Vec::new();
        while let Some(row) = rows.next().map_err(classify)? {
            let values = (0..columns).map(|column| row.get_ref(column).map_err(classify).and_then(take));
            out.push(Row(values.collect::<Result<_, _>>()?));
        }
        Ok(out)
    }

    fn run(&mut self, sql: &'static str, args: &[Value]) -> Result<u64, DbError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(classify)?;
        let changed = statement.execute(rusqlite::params_from_iter(args)).map_err(classify)?;
        Ok(u64::try_from(changed).unwrap_or(u64::MAX))
    }

    fn many(&mut self, sql: &'static str, work: Many<'_>) -> Result<(), DbError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(classify)?;
        // What is bound stays bound: where the row before says the same, nothing is copied.
        let mut bound = Vec::new();
        work(&mut |args| {
            bound.resize_with(args.len(), || None);
            for (at, (arg, bound)) in args.iter().zip(&mut bound).enumerate() {
                if !is_again(bound, arg) {
                    statement.raw_bind_parameter(at + 1, arg).map_err(classify)?;
                }
            }
            let changed = statement.raw_execute().map_err(classify)?;
            Ok(u64::try_from(changed).unwrap_or(u64::MAX))
        })
    }

    fn script(&mut self, sql: &str) -> Result<(), DbError> {
        self.connection.execute_batch(&sql.replace("-- only sqlite: ", "")).map_err(classify)
    }

    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }
}

/// Whether a number or a text is the one that was here last; remembers it.
fn is_again(last: &mut Option<Value>, arg: &Arg<'_>) -> bool {
    match (&mut *last, arg) {
        (Some(Value::Int(last)), Arg::Int(value)) => std::mem::replace(last, *value) == *value,
        (Some(Value::Text(last)), Arg::Text(text)) if last == text => true,
        (Some(Value::Text(last)), Arg::Text(text)) => {
            last.clear();
            last.push_str(text);
            false
        }
        _ => {
            *last = (!matches!(arg, Arg::Bytes(_))).then(|| Value::from(*arg));
            false
        }
    }
}

fn take(value: ValueRef<'_>) -> Result<Value, DbError> {
    match value {
        ValueRef::Null => Ok(Value::Null),
        ValueRef::Integer(value) => Ok(Value::Int(value)),
        ValueRef::Text(bytes) => std::str::from_utf8(bytes)
            .map(|text| Value::Text(text.to_owned()))
            .map_err(|error| DbError::Fault(error.into())),
        ValueRef::Blob(bytes) => Ok(Value::Bytes(bytes.to_vec())),
        ValueRef::Real(_) => Err(DbError::Fault("a column holds a floating point number".into())),
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(value) => ValueRef::Integer(*value),
            Self::Text(value) => ValueRef::Text(value.as_bytes()),
            Self::Bytes(value) => ValueRef::Blob(value),
            Self::Ints(_) | Self::Texts(_) | Self::Blobs(_) => {
                return Err(rusqlite::Error::ToSqlConversionFailure("a whole column is for PostgreSQL".into()));
            }
        }))
    }
}

impl ToSql for Arg<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(value) => ValueRef::Integer(*value),
            Self::Text(value) => ValueRef::Text(value.as_bytes()),
            Self::Bytes(value) => ValueRef::Blob(value),
        }))
    }
}

fn classify(error: rusqlite::Error) -> DbError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::OperationInterrupted) => {
            DbError::Contention(error.into())
        }
        Some(ErrorCode::DiskFull) => DbError::Full(error.into()),
        Some(ErrorCode::ReadOnly) => DbError::ReadOnly(error.into()),
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => DbError::Unavailable(error.into()),
        _ => DbError::Fault(error.into()),
    }
}
