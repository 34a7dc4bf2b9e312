//! What a transaction promises, whichever database holds it.

use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use billhook::error::Error;
use billhook::store::db::Unwritable;
use billhook::store::{Change, Db, facts};
use futures_util::future::{FutureExt, join_all};

use super::{bare, code, counter, increment, open};
use crate::harness::Database;

pub async fn readers_see_one_snapshot(database: Database) {
    let db = open(&database).await;
    let (told, was_told) = mpsc::channel();
    let (go, goes) = mpsc::channel();
    let reading = db.read(move |tx| {
        let before = facts::get(tx, "seen")?;
        told.send(()).expect("somebody listens");
        goes.recv().expect("the write is done");
        Ok((before, facts::get(tx, "seen")?))
    });
    let writing = async {
        was_told.recv().expect("the reader has begun");
        db.write(|tx| facts::set(tx, "seen", "yes")).await.expect("a write beside a reader");
        go.send(()).expect("the reader waits");
    };
    let (seen, ()) = tokio::join!(reading, writing);
    assert_eq!(seen.expect("a read"), (None, None));
    assert_eq!(db.read(|tx| facts::get(tx, "seen")).await.expect("a read").as_deref(), Some("yes"));
}

pub async fn f10_a_panic_leaves_nothing_and_the_store_goes_on(database: Database) {
    let db = open(&database).await;
    // More panics than there are connections: not one of them may cost a thread.
    for _ in 0..6 {
        let outcome: Result<(), Error> = db
            .write(|tx| {
                increment(tx)?;
                panic!("a bug in a transaction")
            })
            .await;
        assert_eq!(code(&outcome.expect_err("a panic")), "internal");
    }
    assert_eq!(counter(&db).await, 0);
    assert_eq!(db.write(increment).await.expect("goes on"), 1);
}

pub async fn an_error_leaves_nothing(database: Database) {
    let db = open(&database).await;
    let refused: Result<(), Error> = db
        .write(|tx| {
            increment(tx)?;
            Err(Error::NotFound)
        })
        .await;
    assert_eq!(code(&refused.expect_err("refused")), "not_found");
    // A statement that the database refuses, after one that it took.
    let broken = db
        .write(|tx| {
            increment(tx)?;
            tx.run("INSERT INTO customers (id) VALUES ('cus_1')", &[])
        })
        .await;
    assert_eq!(code(&broken.expect_err("columns are missing")), "internal");
    assert_eq!(counter(&db).await, 0);
}

pub async fn f11_a_caller_who_goes_away_leaves_the_whole_or_nothing(database: Database) {
    let db = open(&database).await;
    for _ in 0..20 {
        // Polled once, so that it is under way, then dropped.
        assert!(db.write(increment).now_or_never().is_none());
    }
    let last = db.write(increment).await.expect("a write");
    // On PostgreSQL another connection may still be at work on one of the abandoned.
    let (mut seen, start) = (counter(&db).await, Instant::now());
    while seen < 21 && start.elapsed() < Duration::from_secs(10) {
        seen = counter(&db).await;
    }
    assert!(seen == 21 && last <= 21, "each once: {seen}, {last}");
}

/// Somebody else holds what must be written: whoever asks is told so, also between two tries, until something was written.
pub async fn f20_a_database_that_hangs_is_not_called_writable_at_the_next_question(database: Database) {
    let elsewhere = open(&database).await;
    let db = bare(&database).await;
    let ((told, holds), (go, goes)) = (tokio::sync::oneshot::channel(), mpsc::channel::<()>());
    let mut told = Some(told);
    let holding = elsewhere.write(move |tx| {
        facts::set(tx, facts::ROOM, "held")?;
        if let Some(told) = told.take() {
            told.send(()).expect("somebody listens");
        }
        goes.recv().expect("somebody lets go");
        Ok(())
    });
    let asking = async {
        holds.await.expect("held");
        let asked = [db.refuses().await, db.refuses().await];
        go.send(()).expect("it waits");
        asked
    };
    let (held, asked) = tokio::join!(holding, asking);
    held.expect("let go");
    assert_eq!(asked, [Some(Unwritable::Slow); 2]);
    db.write(increment).await.expect("written");
    assert_eq!(db.refuses().await, None);
}

async fn fifty(handles: &[&Db]) -> Vec<i64> {
    let writes = (0..50).map(|number| handles[number % handles.len()].write(increment));
    let mut seen: Vec<i64> = join_all(writes).await.into_iter().map(|outcome| outcome.expect("written")).collect();
    seen.sort_unstable();
    seen
}

pub async fn fifty_writers_at_once_lose_no_update(database: Database) {
    let db = open(&database).await;
    assert_eq!(fifty(&[&db]).await, (1..=50).collect::<Vec<_>>());
    assert_eq!(counter(&db).await, 50);
}

pub async fn fifty_writers_over_two_handles_lose_no_update(database: Database) {
    let (one, other) = (open(&database).await, open(&database).await);
    assert_eq!(fifty(&[&one, &other]).await, (1..=50).collect::<Vec<_>>());
    assert_eq!((counter(&one).await, counter(&other).await), (50, 50));
}

pub async fn only_the_changes_of_what_was_committed_are_told(database: Database) {
    let db = open(&database).await;
    let heard: Arc<Mutex<Vec<Change>>> = Arc::default();
    let ear = Arc::clone(&heard);
    db.listen(move |changes| ear.lock().expect("whole").extend_from_slice(changes));
    let change = |name: &str| Change::User(name.to_owned());
    let told = change("ada");
    db.write(move |tx| {
        increment(tx)?;
        tx.changed(told.clone());
        tx.changed(told.clone());
        Ok(())
    })
    .await
    .expect("written");
    let untold = change("bob");
    let failed: Result<(), Error> = db
        .write(move |tx| {
            tx.changed(untold.clone());
            Err(Error::NotFound)
        })
        .await;
    failed.expect_err("refused");
    // Heard before the writer had its answer, once, and nothing of what was undone.
    assert_eq!(*heard.lock().expect("whole"), [change("ada")]);
}
