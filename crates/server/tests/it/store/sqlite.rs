//! What only SQLite promises: commits are shared, and a commit by another process is noticed at once.

use std::fs::File;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};

use billhook::answers::{Answers, Person};
use billhook::error::Error;
use billhook::store::db::{Db, OpenError};
use billhook::store::{Change, facts, users};
use futures_util::future::join_all;

use super::{bare, code, counter, increment, open};
use crate::harness::Database;

/// SQLite's own count of commits, as the file format documents it. The file stays open: closing it would drop SQLite's locks.
fn commits(database: &Database) -> impl Fn() -> u32 + use<> {
    let file = File::open(format!("{}-shm", database.path().display())).expect("the WAL index");
    let file: &'static File = Box::leak(Box::new(file));
    move || {
        let mut bytes = [0_u8; 4];
        file.read_exact_at(&mut bytes, 8).expect("the count");
        u32::from_ne_bytes(bytes)
    }
}

/// Holds the writer until it is told to go on, so that what is written meanwhile waits in one queue.
async fn behind_a_closed_gate<T>(db: &Db, waiting: impl Future<Output = T>) -> T {
    let (open, gate) = mpsc::channel::<()>();
    let gate = db.write(move |tx| {
        gate.recv().expect("somebody opens");
        facts::set(tx, "gate", "open")
    });
    let opening = async {
        tokio::task::yield_now().await;
        open.send(()).expect("the gate waits");
    };
    let (gate, waiting, ()) = tokio::join!(gate, waiting, opening);
    gate.expect("the gate");
    waiting
}

#[tokio::test]
async fn writers_who_wait_share_one_commit() {
    let database = Database::sqlite();
    let db = open(&database).await;
    let (commits, heard) = (commits(&database), Arc::new(Mutex::new(0)));
    let ear = Arc::clone(&heard);
    db.listen(move |_| *ear.lock().expect("whole") += 1);
    let before = commits();
    let outcomes = behind_a_closed_gate(&db, join_all((0..100).map(|_| db.write(increment)))).await;
    assert_eq!(outcomes.into_iter().map(|outcome| outcome.expect("written")).max(), Some(100));
    assert!((1..=2).contains(&(commits() - before)), "the gate's, and one for the hundred: {}", commits() - before);
}

#[tokio::test]
async fn one_who_fails_in_a_shared_commit_takes_nobody_along() {
    let database = Database::sqlite();
    let db = open(&database).await;
    let outcomes = behind_a_closed_gate(
        &db,
        join_all((0..9).map(|number| {
            db.write(move |tx| {
                let count = increment(tx)?;
                match number % 3 {
                    0 => Ok(count),
                    1 => Err(Error::NotFound),
                    _ => panic!("a bug in a transaction"),
                }
            })
        })),
    )
    .await;
    let told: Vec<_> = outcomes.into_iter().map(|outcome| outcome.map_err(|error| code(&error))).collect();
    let three = |count| [Ok(count), Err("not_found"), Err("internal")];
    assert_eq!(told, [three(1), three(2), three(3)].concat());
    assert_eq!(counter(&db).await, 3);
}

fn person(id: &str) -> Arc<Person> {
    let user = users::User {
        id: id.to_owned(),
        email: format!("{id}@example.com"),
        name: None,
        tier: "trial".to_owned(),
        customer: None,
        admin: false,
        disabled: false,
        created: None,
    };
    Arc::new(Person::new(user))
}

/// Kept answers that listen to the database, with the sessions of two users in them.
fn kept(db: &Db) -> Arc<Answers> {
    let answers = Arc::new(Answers::default());
    let ear = Arc::clone(&answers);
    db.listen(move |changes| ear.drop_changed(changes));
    for (id, token) in [("ada", [1; 32]), ("bob", [2; 32])] {
        answers.keep(answers.epoch(), &person(id), Some((token, i64::MAX)));
    }
    answers
}

fn still_kept(answers: &Answers) -> (bool, bool) {
    (answers.session(&[1; 32]).is_some(), answers.session(&[2; 32]).is_some())
}

#[tokio::test]
async fn our_own_commit_drops_what_it_changed_and_nothing_else() {
    let database = Database::sqlite();
    let db = open(&database).await;
    let answers = kept(&db);
    for _ in 0..3 {
        db.write(|tx| {
            tx.changed(Change::User("ada".to_owned()));
            increment(tx)
        })
        .await
        .expect("written");
        db.notice_other_writers();
    }
    assert_eq!(still_kept(&answers), (false, true));
    // Not even a transaction that is undone, or one that only looks, makes us forget.
    db.write(|tx| increment(tx).and(Err::<(), _>(Error::NotFound))).await.expect_err("undone");
    db.write(|tx| facts::get(tx, "counter")).await.expect("a look");
    db.read(|tx| facts::get(tx, "counter")).await.expect("a read");
    db.notice_other_writers();
    assert_eq!(still_kept(&answers), (false, true));
}

#[tokio::test]
async fn another_connections_commit_drops_everything_at_once() {
    let database = Database::sqlite();
    let db = open(&database).await;
    let answers = kept(&db);
    let other = rusqlite::Connection::open(database.path()).expect("another connection");
    other.execute("INSERT INTO facts VALUES ('other', 'wrote')", []).expect("written");
    assert_eq!(still_kept(&answers), (true, true), "nobody has looked yet");
    db.notice_other_writers();
    assert_eq!(still_kept(&answers), (false, false));
}

#[tokio::test]
async fn another_connections_commit_is_noticed_when_ours_follows_it() {
    let database = Database::sqlite();
    let db = open(&database).await;
    let answers = kept(&db);
    let other = rusqlite::Connection::open(database.path()).expect("another connection");
    other.execute("INSERT INTO facts VALUES ('other', 'wrote')", []).expect("written");
    db.write(increment).await.expect("written");
    assert_eq!(still_kept(&answers), (false, false));
}

#[tokio::test]
async fn f21_only_a_private_file_with_a_write_ahead_log_is_opened() {
    for address in ["sqlite://", "sqlite://:memory:", "mysql://x", "billhook.db"] {
        assert!(matches!(Db::open(address), Err(OpenError::Address(_))), "{address}");
    }
    let missing = Db::open("sqlite:///nowhere/at/all.db").expect_err("no such folder");
    assert!(matches!(missing, OpenError::Unusable(_)), "{missing}");
    let database = Database::sqlite();
    std::fs::write(database.path(), "").expect("a file");
    std::fs::set_permissions(database.path(), std::fs::Permissions::from_mode(0o644)).expect("open to others");
    let db = bare(&database).await;
    let mode = std::fs::metadata(database.path()).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let facts = db.facts();
    assert!(facts.contains(&("synchronous".to_owned(), "full".to_owned())), "{facts:?}");
    std::fs::write(database.path(), "this is no database, it is a text that is long enough to be looked at".repeat(40))
        .expect("a file");
    assert!(matches!(Db::open(&database.address()), Err(OpenError::Unusable(_))));
}

#[tokio::test]
async fn f15_another_process_that_holds_the_lock_is_waited_for() {
    let database = Database::sqlite();
    let db = open(&database).await;
    let other = rusqlite::Connection::open(database.path()).expect("another connection");
    other.execute_batch("BEGIN IMMEDIATE; INSERT INTO facts VALUES ('other', 'wrote')").expect("the lock");
    let letting_go = async {
        tokio::task::yield_now().await;
        other.execute_batch("COMMIT").expect("let go");
    };
    let (written, ()) = tokio::join!(db.write(increment), letting_go);
    assert_eq!(written.expect("written after it"), 1);
}

/// What was said to be done is there after SIGKILL. (What a power cut may take is SQLite's FULL to answer for.)
#[test]
fn f01_what_was_acknowledged_survives_kill_9() {
    use std::io::{BufRead, BufReader};
    let database = Database::sqlite();
    let mut told = Vec::new();
    for number in 0..4 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_billhook"))
            .env_clear()
            .env("DATABASE_URL", database.address())
            .args(["user", "add", "--name", "N", "--email", &format!("u{number}@example.com")])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the program");
        let mut id = String::new();
        BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut id).expect("an id");
        child.kill().expect("killed");
        child.wait().expect("ended");
        told.push(id.trim().to_owned());
    }
    let file = rusqlite::Connection::open(database.path()).expect("the file");
    let mut statement = file.prepare("SELECT id FROM users ORDER BY id").expect("a statement");
    let found: Vec<String> =
        statement.query_map([], |row| row.get(0)).expect("rows").map(|row| row.expect("a row")).collect();
    told.sort_unstable();
    assert_eq!(found, told);
}
