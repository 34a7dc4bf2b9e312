//! A process that is killed at any of its writes: everything it had answered for is there once, and what is told again ends there
//! once (F-01, F-13). The kills, and the errors of a full disk, come from `strace`.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use billhook::app::App;
use billhook::error::Error;
use billhook::ops::usage::{self, Told, Verdict};

use super::{add_users, differences, now, one, program, program_with, record, settled, times_recorded, whole_log};
use crate::harness::{Database, database};

/// Where the process of its own finds its database and tells what it was answered.
const FOLDER: &str = "BILLHOOK_PROOF_FOLDER";
pub const ROUNDS: usize = 16;
const ROLE: &str = "log::crash::the_process_that_is_killed";

/// A folder with a database in it, and what the process on it was answered.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("{}_proof", database::unique_name()));
        std::fs::create_dir(&path).expect("a folder");
        Self(path)
    }

    /// A database with three users who have used something, closed in peace.
    pub async fn prepared() -> Self {
        let folder = Self::new();
        let app = program_with(&folder.address(), &now(), &[]).await;
        let users = add_users(&app, 3).await;
        record(&app, users.iter().map(|user| one(&format!("before-{user}"), user)).collect()).await;
        settled(&app).await;
        drop(app);
        folder.connect().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("checkpoint");
        folder
    }

    /// The same once more.
    fn copy(&self) -> Self {
        let other = Self::new();
        std::fs::copy(self.file("proof.db"), other.file("proof.db")).expect("a copy");
        other
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn address(&self) -> String {
        format!("sqlite://{}", self.file("proof.db").display())
    }

    fn connect(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.file("proof.db")).expect("the database")
    }

    /// What the process was answered: id and position.
    fn answered(&self) -> BTreeMap<String, i64> {
        let text = std::fs::read_to_string(self.file("answers")).unwrap_or_default();
        answers(&text)
    }

    /// Runs the process on this folder under `strace` with further words; how it ended.
    pub fn run(&self, words: &[&str]) -> ExitStatus {
        let here = std::env::current_exe().expect("this program");
        let child = Command::new("strace")
            .args(["-f", "-qq"])
            .args(words)
            .arg(here)
            .args(["--exact", ROLE, "--ignored", "--nocapture"])
            .env(FOLDER, &self.0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        child.expect("strace, which this test needs: apt-get install strace")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whole lines only: the last one may have been cut off.
pub fn answers(text: &str) -> BTreeMap<String, i64> {
    let whole = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
    let line = |line: &str| {
        let (id, position) = line.split_once(' ').expect("two words");
        (id.to_owned(), position.parse().expect("a number"))
    };
    whole.lines().map(line).collect()
}

/// Everything that the process tells, round by round: many at once, one alone, and one again.
fn rounds(users: &[String]) -> Vec<Vec<Vec<Told>>> {
    let event = |round: usize, number: usize| one(&format!("{round}-{number}"), &users[number % users.len()]);
    let round = |round: usize| {
        vec![(0..60).map(|number| event(round, number)).collect(), vec![event(round, 60)], vec![event(round / 2, 7)]]
    };
    (0..ROUNDS).map(round).collect()
}

async fn users(app: &App) -> Vec<String> {
    let rows = app.db.read(|tx| tx.rows("SELECT id FROM users ORDER BY id", &[])).await.expect("users");
    rows.iter().map(|row| row.text(0).expect("text")).collect()
}

async fn change_terms(app: &App, user: &str) -> billhook::error::Result<()> {
    let of = user.to_owned();
    app.db
        .write(move |tx| {
            tx.run("UPDATE users SET subscription_tier = 'starter' WHERE id = ?1", &[of.as_str().into()])?;
            billhook::store::plans::mark_user(tx, &of)
        })
        .await?;
    usage::plans::follow(app).await
}

/// Tells everything; what could not be recorded is told again until it is.
async fn tell_all(folder: &Folder) {
    let app = program_with(&folder.address(), &now(), &[]).await;
    let users = users(&app).await;
    let mut journal =
        std::fs::OpenOptions::new().create(true).append(true).open(folder.file("answers")).expect("a journal");
    for (number, round) in rounds(&users).into_iter().enumerate() {
        for batch in round {
            let verdicts = patient(async || usage::record(&app, batch.clone()).await).await;
            let mut lines = String::new();
            for (event, verdict) in batch.iter().zip(verdicts) {
                let (Verdict::Recorded { position, .. } | Verdict::Duplicate { position }) = verdict else {
                    panic!("{verdict:?}")
                };
                lines += &format!("{} {position}\n", event.transaction_id);
            }
            journal.write_all(lines.as_bytes()).expect("told");
        }
        if number % 3 == 1 {
            patient(async || usage::totals::write_down_now(&app).await).await;
        }
        if number == 4 {
            patient(async || change_terms(&app, &users[1]).await).await;
        }
        if number == 2 || number == 6 {
            let _ = folder.connect().execute_batch("PRAGMA wal_checkpoint(PASSIVE)");
        }
    }
}

/// Until it succeeds: an error means that the database could not, and it says so.
async fn patient<T>(work: impl AsyncFn() -> billhook::error::Result<T>) -> T {
    for _ in 0..200 {
        match work().await {
            Ok(done) => return done,
            Err(Error::Upstream { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    panic!("the database did not heal");
}

#[test]
#[ignore = "run by the tests beside it, as a process by itself"]
#[allow(clippy::disallowed_methods, reason = "the test that runs it says where")]
fn the_process_that_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = std::mem::ManuallyDrop::new(Folder(PathBuf::from(folder)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(tell_all(&folder));
}

/// What is wrong with a database for somebody who was answered this; empty when nothing is.
pub async fn complaints(address: &str, answered: &BTreeMap<String, i64>) -> Vec<String> {
    let path = address.strip_prefix("sqlite://").expect("a file");
    let mut wrong = integrity(Path::new(path));
    let app = program_with(address, &now(), &[]).await;
    let log = whole_log(&app).await;
    for (id, position) in answered {
        let there: Vec<i64> =
            log.iter().filter(|entry| entry.transaction_id == *id).map(|entry| entry.position).collect();
        if there != [*position] {
            wrong.push(format!("{id} was answered with {position} and is at {there:?}"));
        }
    }
    wrong.extend(differences(&app).await);
    let users = users(&app).await;
    for batch in rounds(&users).into_iter().flatten() {
        for (event, verdict) in batch.iter().zip(record(&app, batch.clone()).await) {
            let first = answered.get(&event.transaction_id);
            let fits = match verdict {
                Verdict::Recorded { .. } => first.is_none(),
                Verdict::Duplicate { position } => first.is_none_or(|first| *first == position),
                _ => false,
            };
            if !fits {
                wrong.push(format!("{}, told again: {verdict:?}", event.transaction_id));
            }
        }
    }
    let times = times_recorded(&app).await;
    let doubled = times.iter().filter(|(_, times)| **times != 1).map(|(id, times)| format!("{id}: {times} times"));
    wrong.extend(doubled);
    if times.len() != ROUNDS * 61 + users.len() {
        wrong.push(format!("{} events are there", times.len()));
    }
    usage::totals::write_down_now(&app).await.expect("written down");
    wrong.extend(differences(&app).await);
    wrong
}

fn integrity(path: &Path) -> Vec<String> {
    let check = || -> rusqlite::Result<String> {
        rusqlite::Connection::open(path)?.query_row("PRAGMA integrity_check", [], |row| row.get(0))
    };
    match check() {
        Ok(text) if text == "ok" => Vec::new(),
        other => vec![format!("integrity_check: {other:?}")],
    }
}

/// How often each thread of a run makes a call, by the name of the call: `strace` counts for each thread by itself.
fn counted(folder: &Folder) -> BTreeMap<String, usize> {
    let trace = folder.file("trace");
    let place = trace.display().to_string();
    let ended = folder.run(&["-e", "trace=pwrite64,fdatasync,fsync,ftruncate", "-o", &place]);
    assert!(ended.success(), "{ended:?}");
    let mut by_thread: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in std::fs::read_to_string(trace).expect("a trace").lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((call, _)) = rest.trim_start().split_once('(') else { continue };
        *by_thread.entry((call.to_owned(), thread.to_owned())).or_default() += 1;
    }
    let mut most: BTreeMap<String, usize> = BTreeMap::new();
    for ((call, _), count) in by_thread {
        let known = most.entry(call).or_default();
        *known = (*known).max(count);
    }
    most
}

/// How SQLite flushes here: that depends on how it was built.
fn flush(counts: &BTreeMap<String, usize>) -> &'static str {
    if counts.contains_key("fdatasync") { "fdatasync" } else { "fsync" }
}

/// Kills the process at every `step`th call of each kind, beginning with the first; how many kills there were.
async fn sweep(points: usize) -> usize {
    let template = Folder::prepared().await;
    let counts = counted(&template.copy());
    assert!(counts["pwrite64"] > 200 && counts[flush(&counts)] > 20, "{counts:?}");
    let all: usize = counts.values().sum();
    let step = all.div_ceil(points).max(1);
    let every = counts.iter().flat_map(|(call, count)| (1..=*count).map(move |number| (call.as_str(), number)));
    let mut kills = 0;
    for (call, number) in every.step_by(step) {
        let folder = template.copy();
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=KILL:when={number}"));
        let ended = folder.run(&["-e", &trace, "-e", &inject, "-o", "/dev/null"]);
        kills += usize::from(ended.signal() == Some(9));
        let wrong = complaints(&folder.address(), &folder.answered()).await;
        assert_eq!(wrong, Vec::<String>::new(), "killed at {call} {number}");
    }
    kills
}

#[tokio::test]
async fn f01_killed_at_any_write_nothing_is_lost_or_doubled() {
    let kills = sweep(40).await;
    assert!(kills >= 30, "only {kills} kills");
}

#[tokio::test]
#[ignore = "nightly: every write of the run"]
async fn f01_killed_at_every_write_nothing_is_lost_or_doubled() {
    let kills = sweep(usize::MAX).await;
    assert!(kills >= 250, "only {kills} kills");
}

/// The seeded bugs: an answer before the entry is on disk, an answer that is not the entry's, an entry twice, a day too many.
#[tokio::test]
async fn the_sweep_sees_what_is_lost_and_what_is_doubled() {
    let template = Folder::prepared().await;
    assert!(template.run(&["-e", "trace=none", "-o", "/dev/null"]).success());
    let answered = template.answered();
    assert_eq!(answered.len(), ROUNDS * 61);
    template.connect().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("checkpoint");
    assert_eq!(complaints(&template.copy().address(), &answered).await, Vec::<String>::new());
    let mut ahead = answered.clone();
    ahead.insert("never-written".to_owned(), 9_999);
    assert!(!complaints(&template.copy().address(), &ahead).await.is_empty());
    for sql in [
        "DELETE FROM usage_log WHERE position = (SELECT MAX(position) FROM usage_log)",
        "UPDATE usage_ids SET day = day - 1 WHERE position = 40",
        "UPDATE usage_days SET quantity_micro = quantity_micro + 1",
        "UPDATE usage_log SET transaction_id = '0-1' WHERE position = 40",
    ] {
        let spoilt = template.copy();
        assert!(spoilt.connect().execute(sql, []).expect(sql) > 0);
        assert!(!complaints(&spoilt.address(), &answered).await.is_empty(), "{sql}");
    }
}

/// F-13: no room on the disk for a while. Nothing is accepted that is not there, and it goes on by itself when there is room.
#[tokio::test]
async fn f13_a_full_disk_refuses_and_heals() {
    let template = Folder::prepared().await;
    let counts = counted(&template.copy());
    let flush = flush(&counts);
    for (call, error, share, length) in
        [("pwrite64", "ENOSPC", 4, 25), ("pwrite64", "EIO", 3, 5), (flush, "EIO", 3, 2), ("pwrite64", "ENOSPC", 2, 1)]
    {
        let folder = template.copy();
        let from = counts[call] / share;
        let inject = format!("inject={call}:error={error}:when={from}..{}", from + length);
        let (calls, trace) = (format!("trace={call}"), folder.file("trace"));
        let ended = folder.run(&["-e", &calls, "-e", &inject, "-o", &trace.display().to_string()]);
        assert!(ended.success(), "{inject}: {ended:?}");
        let refused = std::fs::read_to_string(trace).expect("a trace").matches("(INJECTED)").count();
        assert!(refused > 0, "{inject}: nothing was refused");
        let answered = folder.answered();
        assert_eq!(answered.len(), ROUNDS * 61, "{inject}: it healed");
        assert_eq!(complaints(&folder.address(), &answered).await, Vec::<String>::new(), "{inject}");
    }
}

/// F-01 on PostgreSQL: the server's process is the one that must not lose anything; ours may be let go of at any time.
#[tokio::test]
async fn f01_a_connection_that_is_cut_at_any_time_loses_and_doubles_nothing() {
    let (database, clock) = (Database::postgres(), now());
    let app = program(&database, &clock).await;
    let users = add_users(&app, 3).await;
    let cut = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let (mut answered, mut unanswered) = (BTreeMap::new(), 0);
    let connections = Arc::new(AtomicI64::new(0));
    for (number, batch) in rounds(&users).into_iter().flatten().enumerate() {
        let cut_off = Arc::clone(&connections);
        let address = database.address();
        let cutting = tokio::task::spawn_blocking(move || {
            std::thread::sleep(std::time::Duration::from_micros(400 * (u64::try_from(number).expect("few") % 9)));
            database::on_server(&address, move |client| {
                let count: i64 = client.query_one(cut, &[]).expect("cut").get(0);
                cut_off.fetch_add(count, Ordering::Relaxed);
            });
        });
        let outcome = usage::record(&app, batch.clone()).await;
        cutting.await.expect("cut");
        let Ok(verdicts) = outcome else {
            unanswered += 1;
            continue;
        };
        for (event, verdict) in batch.iter().zip(verdicts) {
            let (Verdict::Recorded { position, .. } | Verdict::Duplicate { position }) = verdict else {
                panic!("{verdict:?}")
            };
            assert_eq!(*answered.entry(event.transaction_id.clone()).or_insert(position), position);
        }
    }
    let connections = connections.load(Ordering::Relaxed);
    assert!(
        connections >= 20 && unanswered >= 5,
        "{connections} were cut, {unanswered} of them in the middle of something"
    );
    let log = whole_log(&app).await;
    for (id, position) in &answered {
        assert_eq!(
            log.iter().filter(|entry| entry.transaction_id == *id).map(|entry| entry.position).collect::<Vec<_>>(),
            [*position]
        );
    }
    for batch in rounds(&users).into_iter().flatten() {
        patient(async || usage::record(&app, batch.clone()).await).await;
    }
    let times = times_recorded(&app).await;
    assert_eq!((times.len(), times.values().max()), (ROUNDS * 61, Some(&1)));
    patient(async || usage::totals::write_down_now(&app).await).await;
    settled(&app).await;
}
