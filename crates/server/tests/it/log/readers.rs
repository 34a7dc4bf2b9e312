//! Long reads beside a busy writer: SQLite's write-ahead log stays short, and a recount needs no long read (F-17).

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use billhook::app::App;
use billhook::error::Error;
use billhook::ops::{made_up, usage};
use billhook::store::db::Db;
use billhook::store::{Tx, facts};

use super::scale::lengthen;
use super::{add_users, differences, now, one, program, record, settled};
use crate::harness::Database;

const MIB: u64 = 1 << 20;
/// What F-17 allows; each test writes several times as much, or until the read has ended.
const MOST: u64 = 256 * MIB;
const MUCH: u64 = 640 * MIB;

async fn open(database: &Database) -> App {
    program(database, &now()).await
}

/// Another text each time: SQLite does not write a page again that is as before.
async fn write_a_mebibyte(db: &Db) {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let letter = char::from(b'a' + NEXT.fetch_add(1, Ordering::Relaxed) % 16);
    let text = letter.to_string().repeat(usize::try_from(MIB).expect("small"));
    db.write(move |tx| facts::set(tx, "bulk", &text)).await.expect("written");
}

fn length(database: &Database) -> u64 {
    std::fs::metadata(format!("{}-wal", database.path().display())).map_or(0, |file| file.len())
}

/// Writes until the work has ended; what came of it.
async fn beside_a_busy_writer<T>(db: &Db, database: &Database, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = write_a_mebibyte(db) => {}
        }
        assert!(length(database) <= MOST, "{}", length(database));
    }
}

/// A transaction of many small reads, and one statement: neither has an end.
fn small_reads(tx: &mut Tx<'_>) -> Result<(), Error> {
    let born = Instant::now();
    while born.elapsed() < Duration::from_mins(2) {
        facts::get(tx, "schema")?;
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn one_statement(tx: &mut Tx<'_>) -> Result<(), Error> {
    let sql = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT MAX(x) FROM n, facts";
    tx.row(sql, &[]).map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f17_a_read_without_an_end_is_ended_before_the_log_is_too_long() {
    let database = Database::sqlite();
    let app = open(&database).await;
    let db = &app.db;
    for endless in [small_reads, one_statement] {
        let read = beside_a_busy_writer(db, &database, db.read(endless)).await;
        let ended = read.expect_err("ended");
        assert!(matches!(ended, Error::Upstream { code: "storage.contention", .. }), "{ended:?}");
        // Nobody is in the way any more: the log begins anew.
        for _ in 0..150 {
            write_a_mebibyte(db).await;
        }
        assert!(length(&database) < 80 * MIB, "{}", length(&database));
    }
}

/// No single one lasts, and there is never a moment without one: a log that waits for such a moment would grow for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f17_reads_that_overlap_without_a_pause_do_not_keep_the_log_from_beginning_anew() {
    let database = Database::sqlite();
    let app = open(&database).await;
    let db = &app.db;
    let (done, is_done) = tokio::sync::watch::channel(false);
    let reads = async |from: u64| {
        tokio::time::sleep(Duration::from_millis(from)).await;
        while !*is_done.borrow() {
            let slow = |tx: &mut Tx<'_>| {
                facts::get(tx, "schema")?;
                std::thread::sleep(Duration::from_millis(30));
                Ok(())
            };
            db.read(slow).await.expect("a short read is not ended");
        }
    };
    let writes = async {
        for _ in 0..MUCH / MIB {
            write_a_mebibyte(db).await;
            assert!(length(&database) <= MOST, "{}", length(&database));
        }
        done.send(true).expect("somebody reads");
    };
    tokio::join!(reads(0), reads(15), writes);
}

/// Counts how often the log could begin anew, until it is told to stop: each time nobody read what lay in it.
fn begin_anew(database: &Path, stop: &AtomicBool, times: &AtomicUsize) {
    let file = rusqlite::Connection::open(database).expect("the file");
    file.busy_timeout(Duration::from_mins(1)).expect("patience");
    while !stop.load(Ordering::SeqCst) {
        file.execute("INSERT OR REPLACE INTO facts VALUES ('times', ?1)", [times.load(Ordering::SeqCst).to_string()])
            .expect("written");
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let is_busy: bool = file.query_row(sql, [], |row| row.get(0)).expect("a checkpoint");
        times.fetch_add(usize::from(!is_busy), Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f17_a_recount_of_a_long_log_lets_the_write_ahead_log_begin_anew_many_times() {
    let database = Database::sqlite();
    let app = open(&database).await;
    let user = add_users(&app, 1).await.remove(0);
    record(&app, vec![one("e1", &user)]).await;
    lengthen(&app, 200_000).await;
    let (path, stop, times) =
        (database.path().clone(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (until, counted) = (Arc::clone(&stop), Arc::clone(&times));
    let beginning = tokio::task::spawn_blocking(move || begin_anew(&path, &until, &counted));
    while times.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let before = times.load(Ordering::SeqCst);
    let wrong = differences(&app).await;
    let meanwhile = times.load(Ordering::SeqCst) - before;
    stop.store(true, Ordering::SeqCst);
    beginning.await.expect("a thread");
    // The made-up entries have no ids that lead to them, and nothing else is wrong with them.
    assert!(wrong.iter().all(|line| line.contains("is not known: it could come again")), "{wrong:?}");
    // One snapshot over all of it would allow it at its beginning and at its end only.
    assert!(meanwhile > 6, "{meanwhile}");
}

/// A recount beside everything that goes on: entries, new users, accounts that are written down in the middle of it.
async fn a_recount_under_load_finds_nothing_that_is_not_there(database: Database) {
    const USERS: usize = 2_600;
    let app = open(&database).await;
    made_up::fill(&app, 0, USERS as u64).await.expect("users");
    let told = |round: usize, number: usize| {
        let user = number * 7_919 % (USERS / 2 + round * 40).min(USERS);
        one(&format!("{round}-{number}"), &format!("{}_{user}", made_up::USER))
    };
    record(&app, (0..3_000).map(|number| told(0, number)).collect()).await;
    let load = async {
        for round in 1..40 {
            record(&app, (0..100).map(|number| told(round, number)).collect()).await;
            usage::totals::write_down_now(&app).await.expect("written down");
        }
    };
    let mut load = std::pin::pin!(load);
    let (mut recounts, mut is_over) = (0, false);
    while !is_over {
        let (wrong, over) = tokio::join!(differences(&app), async {
            tokio::time::timeout(Duration::from_millis(40), &mut load).await.is_ok()
        });
        assert_eq!(wrong, Vec::<String>::new(), "{recounts}");
        (recounts, is_over) = (recounts + 1, over);
    }
    settled(&app).await;
}

on_each_database!(a_recount_under_load_finds_nothing_that_is_not_there, flavor = "multi_thread", worker_threads = 2);
