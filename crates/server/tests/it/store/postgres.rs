//! What only PostgreSQL can do to us: end our connections, refuse new ones, and be set up unsafely.

use std::time::{Duration, Instant};

use billhook::error::{Error, Upstream};
use billhook::store::db::{Db, OpenError, Value};
use billhook::store::facts;

use super::{bare, code, counter, increment, open};
use crate::harness::Database;
use crate::harness::database::{on_server, variable};

/// Runs a statement as the administrator, beside the program.
fn administer(sql: String) {
    on_server(&variable("BILLHOOK_TEST_POSTGRES"), move |client| {
        client.batch_execute(&sql).expect("the administrator");
    });
}

fn name(database: &Database) -> String {
    match database {
        Database::Postgres { name, .. } => name.clone(),
        Database::Sqlite(_) | Database::Elsewhere(_) => panic!("not a server"),
    }
}

fn end_all_connections(database: &Database) {
    administer(format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'", name(database)));
}

/// An answer within two seconds, whatever it is (F-20).
async fn within_two_seconds<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let start = Instant::now();
    let outcome = work.await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    outcome
}

fn unavailable(error: &Error) -> bool {
    matches!(error, Error::Upstream { who: Upstream::Database, retry_after, .. } if *retry_after <= Duration::from_secs(5))
}

#[tokio::test]
async fn f20_ended_connections_cost_no_call() {
    let database = Database::postgres();
    let db = open(&database).await;
    for round in 1..=3 {
        // Every connection is in use once, then every one is ended.
        futures_util::future::join_all((0..8).map(|_| db.read(|tx| facts::get(tx, "x")))).await;
        end_all_connections(&database);
        let seen = within_two_seconds(db.write(increment)).await.expect("reconnected");
        assert_eq!(seen, round);
    }
}

/// A process that stops in the middle of a transaction keeps what it has locked for ten seconds, and then it has nothing.
#[tokio::test]
async fn f09_what_a_frozen_process_has_locked_is_free_again() {
    let database = Database::postgres();
    let (frozen, other) = (open(&database).await, open(&Database::Elsewhere(database.address())).await);
    let (has_locked, locked) = tokio::sync::oneshot::channel();
    let mut has_locked = Some(has_locked);
    let freezing = frozen.write(move |tx| {
        increment(tx)?;
        if let Some(locked) = has_locked.take() {
            locked.send(()).expect("the test waits");
            std::thread::sleep(Duration::from_secs(13));
        }
        increment(tx)
    });
    let beside = async {
        locked.await.expect("locked");
        // Had it waited until the frozen one went on, it would count on from there.
        assert_eq!(other.write(increment).await.expect("written"), 1, "nothing of the frozen one");
    };
    let (frozen, ()) = tokio::join!(freezing, beside);
    assert!(unavailable(&frozen.expect_err("it has lost its connection")));
}

#[tokio::test]
async fn f20_a_connection_that_ends_in_the_middle_leaves_nothing_and_says_so() {
    let database = Database::postgres();
    let db = open(&database).await;
    let error = within_two_seconds(db.write(|tx| {
        increment(tx)?;
        tx.run("SELECT pg_terminate_backend(pg_backend_pid())", &[])
    }))
    .await
    .expect_err("ended");
    assert!(unavailable(&error), "{error:?}");
    assert_eq!(counter(&db).await, 0);
    assert_eq!(within_two_seconds(db.write(increment)).await.expect("goes on"), 1);
}

#[tokio::test]
async fn f20_a_server_that_lets_nobody_in_is_said_to_be_away_until_it_does() {
    let database = Database::postgres();
    let db = open(&database).await;
    db.write(increment).await.expect("written");
    administer(format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", name(&database)));
    end_all_connections(&database);
    for _ in 0..6 {
        let error = within_two_seconds(db.read(|tx| facts::get(tx, "counter"))).await.expect_err("refused");
        assert!(unavailable(&error), "{error:?}");
    }
    administer(format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", name(&database)));
    assert_eq!(within_two_seconds(db.write(increment)).await.expect("back again"), 2);
}

#[tokio::test]
async fn f20_a_server_that_became_read_only_is_read_and_refuses_writes_by_name() {
    let database = Database::postgres();
    let db = open(&database).await;
    db.write(increment).await.expect("written");
    administer(format!("ALTER DATABASE {} SET default_transaction_read_only = on", name(&database)));
    end_all_connections(&database);
    let error = within_two_seconds(db.write(increment)).await.expect_err("25006");
    assert!(unavailable(&error), "{error:?}");
    assert_eq!(counter(&db).await, 1);
}

#[tokio::test]
async fn f20_a_deadlock_is_resolved_and_both_writers_succeed() {
    let database = Database::postgres();
    let db = open(&database).await;
    let touch = |tx: &mut billhook::store::Tx<'_>, name: &str| {
        tx.run("UPDATE facts SET value = value || '.' WHERE name = ?1", &[Value::from(name)])
    };
    db.write(|tx| facts::set(tx, "a", "").and(facts::set(tx, "b", ""))).await.expect("two rows");
    let crossing = |first: &'static str, second: &'static str| {
        db.write(move |tx| {
            touch(tx, first)?;
            tx.run("SELECT pg_sleep(0.2)", &[])?;
            touch(tx, second)
        })
    };
    let (one, other) = tokio::join!(crossing("a", "b"), crossing("b", "a"));
    assert_eq!((one.map_err(|e| code(&e)), other.map_err(|e| code(&e))), (Ok(1), Ok(1)));
    let both = db.read(|tx| Ok((facts::get(tx, "a")?, facts::get(tx, "b")?))).await.expect("a read");
    assert_eq!(both, (Some("..".to_owned()), Some("..".to_owned())));
}

#[tokio::test]
async fn f21_a_server_that_forgets_what_it_acknowledged_is_refused_by_the_settings_name() {
    let database = Database::postgres();
    administer(format!("ALTER DATABASE {} SET synchronous_commit = off", name(&database)));
    let address = database.address();
    let refused = tokio::task::spawn_blocking(move || Db::open(&address)).await.expect("a thread").expect_err("unsafe");
    assert!(matches!(&refused, OpenError::Unsafe(what) if what.contains("synchronous_commit")), "{refused}");
    administer(format!("ALTER DATABASE {} RESET synchronous_commit", name(&database)));
    assert!(bare(&database).await.facts().iter().any(|(name, value)| name == "synchronous_commit" && value == "on"));
}

#[tokio::test]
async fn f56_an_address_that_leads_nowhere_fails_at_start_without_showing_the_password() {
    for address in ["postgres://u:canaryCANARY@127.0.0.1:1/x", "postgres://u:canaryCANARY@127.0.0.1:notaport/x"] {
        let refused =
            tokio::task::spawn_blocking(move || Db::open(address)).await.expect("a thread").expect_err("nowhere");
        assert!(!format!("{refused} {refused:?}").contains("canary"), "{refused:?}");
    }
}
