//! Whoever follows the log goes by what is newest, however long they were on their way.

use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use billhook::jobs::Jobs;
use billhook::ops::usage;
use billhook::store::{accounts, users};

use super::{add_user, add_users, now, one, program, program_named, record, settled};
use crate::harness::{Database, Plan, World};

/// Accounts are written down while somebody who is about to follow the log waits for their turn. What they read before that is
/// old by then, and is not taken for a database that was set back.
async fn whoever_follows_the_log_does_not_believe_an_old_snapshot(database: Database) {
    let app = program(&database, &now()).await;
    let users = add_users(&app, 3).await;
    record(&app, users.iter().map(|user| one(&format!("a-{user}"), user)).collect()).await;
    // The thread that has recorded looks at the book once more; nobody may wait for it while the turn is ours.
    app.db.write(|_| Ok(())).await.expect("the writer rests");
    let edition = app.book.edition();
    let mut turn = app.book.turn();
    let mut following = pin!(usage::following::follow_log(&app));
    let waits = tokio::time::timeout(Duration::from_millis(200), &mut following).await;
    assert!(waits.is_err(), "one hand at a time moves the book");
    let taken = turn.take().expect("something to write down");
    let (from, to, page) = (taken.from, taken.to, taken.page.clone());
    assert!(app.db.write(move |tx| accounts::turn(tx, from, to, &page)).await.expect("written down"));
    turn.wrote(&taken);
    drop(turn);
    following.await.expect("followed");
    assert_eq!((app.book.edition(), app.book.applied()), (edition, to), "nothing is counted anew");
    settled(&app).await;
}

on_each_database!(whoever_follows_the_log_does_not_believe_an_old_snapshot);

/// Ids that are too old may take long to remove. What others record is counted meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_followed_while_old_ids_are_forgotten() {
    let (database, clock) = (Database::postgres(), now());
    let app = program(&database, &clock).await;
    let user = add_user(&app, "u").await;
    let old = "INSERT INTO usage_ids (day, id, position, fingerprint) SELECT day, ('old' || day)::bytea, 0, 0 FROM generate_series(1, 60) day";
    database.by_others(old);
    let (release, released) = mpsc::channel::<()>();
    let (hold, held) = tokio::sync::oneshot::channel();
    let address = database.address();
    let holder = std::thread::spawn(move || {
        let mut client = postgres::Client::connect(&address, postgres::NoTls).expect("PostgreSQL");
        client.batch_execute("BEGIN; SELECT * FROM usage_ids WHERE day = 1 FOR UPDATE").expect("held");
        hold.send(()).expect("somebody waits");
        let _ = released.recv();
    });
    held.await.expect("it holds");
    let jobs = Jobs::start(&app, Arc::new(|_| ()));
    // Long enough that somebody waits to remove it.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let other = program_named(&database.address(), &clock, &[], 8).await;
    record(&other, vec![one("a", &user)]).await;
    let is_counted = app.book.wait_for(other.book.applied(), Duration::from_secs(5)).await;
    release.send(()).expect("it holds");
    holder.join().expect("the end");
    jobs.stop().await;
    assert!(is_counted, "nobody follows the log");
}

#[allow(clippy::disallowed_methods, reason = "a request beside the test")]
fn beside<F>(work: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(work)
}

/// F-17: the log may take long to follow. Whoever needs an account waits for it, and the server goes on with everything else.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_server_goes_on_while_requests_wait_for_the_log() {
    let world = World::planned(Plan { stripe: None, ..Plan::default() }).await;
    let (id, token) = world.user("u@example.com", None, false).await;
    assert_eq!(world.get("/api/v1/billing/usage", &token).await.status, 200, "the log is followed to its end");
    let (release, released) = mpsc::channel::<()>();
    let (hold, held) = tokio::sync::oneshot::channel();
    let app = world.app.clone();
    let follower = std::thread::spawn(move || {
        let _turn = app.book.turn();
        hold.send(()).expect("somebody waits");
        // Not for ever: where everybody waits for it, nobody is left who could end that.
        let _ = released.recv_timeout(Duration::from_secs(10));
    });
    held.await.expect("it has the turn");
    let start = Instant::now();
    let user = world.app.db.read(move |tx| users::get(tx, &id)).await.expect("read").expect("a user");
    let app = world.app.clone();
    let waiting = beside(async move { usage::kept_account(&app, &user).await.map(drop) });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let others = world.get("/api/v1/billing/usage", &token).await.status;
    let (took, is_there) = (start.elapsed(), waiting.is_finished());
    drop(release);
    follower.join().expect("the end");
    assert_eq!((others, is_there), (200, false));
    assert!(took < Duration::from_secs(9), "everybody has waited: {took:?}");
    waiting.await.expect("the end").expect("an account");
    assert_eq!(world.app.book.len(), 1);
}
