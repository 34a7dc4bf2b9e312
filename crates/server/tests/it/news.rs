//! Two programs on one database: what one changes, the other shows, and nothing older than that.

use std::time::{Duration, Instant};

use billhook::ops::usage::following;
use billhook::ops::{keys, sessions, users};
use serde_json::json;

use crate::endpoints::use_some;
use crate::harness::database::on_server;
use crate::harness::wire::{Listening, Wire};
use crate::harness::{Database, Plan, World, event};

const SUBSCRIPTION: &str = "/api/v1/billing/subscription";
const METHODS: &str = "/api/v1/billing/payment-methods";
const USAGE: &str = "/api/v1/billing/usage";
const STATS: &str = "/api/v1/admin/billing/stats";
/// How old what a program shows can be when it hears nothing of the other.
const HEARD_FOR: Duration = Duration::from_secs(1);

/// The program that changes things, the little business read to its end.
async fn first(database: Database) -> World {
    let world = World::planned(Plan { database, ..Plan::default() }).await;
    world.sync().await;
    world
}

/// Another program on the same database, seen through `database`.
async fn second(first: &World, database: Database) -> World {
    let stripe_base = first.stripe.as_ref().map(sandbox::Sandbox::base_url);
    World::planned(Plan { database, stripe_base, ..Plan::default() }).await
}

async fn two(database: Database) -> (World, World) {
    let address = database.address();
    let first = first(database).await;
    let second = second(&first, Database::Elsewhere(address)).await;
    (first, second)
}

/// Two programs on PostgreSQL, the second behind a wire.
async fn two_and_a_wire() -> (World, World, Wire) {
    let database = Database::postgres();
    let wire = Wire::to(&database).await;
    let first = first(database).await;
    let second = second(&first, wire.database()).await;
    (first, second, wire)
}

/// Asks until the program keeps its answers, and once more for this one to be kept.
async fn kept(world: &World, path: &str, token: &str) -> String {
    let start = Instant::now();
    loop {
        let answer = world.get(path, token).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        if world.app.db.notices_other_writers() {
            return world.get(path, token).await.body;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", world.app.db.unnoticed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until the program hears others, or does not.
async fn until(world: &World, hears: bool) {
    let start = Instant::now();
    while world.app.db.notices_other_writers() != hears {
        assert!(start.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A sync, a link, a demotion, an end: what one program writes, the other shows.
async fn what_one_changes_the_other_shows(database: Database) {
    let (here, there) = two(database).await;
    let (ada, token) = here.user("ada@example.com", Some(sandbox::USER_CUSTOMER), false).await;
    let (boss, admin) = here.user("boss@example.com", None, true).await;
    assert_ne!(kept(&there, METHODS, &token).await, "[]");
    let tier = kept(&there, SUBSCRIPTION, &token).await;
    let stats = kept(&there, STATS, &admin).await;

    here.at_stripe("POST", "/v1/payment_methods/pm_sandbox_user/detach", "").await;
    here.clock.advance(Duration::from_secs(60));
    here.sync().await;
    tokio::time::sleep(HEARD_FOR).await;
    assert_eq!(kept(&there, METHODS, &token).await, "[]");
    assert_ne!(kept(&there, STATS, &admin).await, stats, "its age has changed");

    users::link(&here.app, &ada, "cus_of_nobody").await.expect("linked");
    tokio::time::sleep(HEARD_FOR).await;
    assert_ne!(kept(&there, SUBSCRIPTION, &token).await, tier);

    users::set_admin(&here.app, &boss, false).await.expect("demoted");
    assert_eq!(there.get(STATS, &admin).await.status, 403, "S-09");
    users::set_admin(&here.app, &boss, true).await.expect("promoted");
    users::set_disabled(&here.app, &boss, true).await.expect("disabled");
    assert_eq!(there.get(USAGE, &admin).await.status, 401, "S-09");
    assert!(sessions::revoke(&here.app, &token).await.expect("ended"));
    assert_eq!(there.get(USAGE, &token).await.status, 401, "S-07");
}

on_each_database!(what_one_changes_the_other_shows);

/// Usage that another program records shows when this one has counted it, also where the page was kept.
async fn usage_of_another_program_shows_once_it_is_counted(database: Database) {
    let (here, there) = two(database).await;
    let (ada, token) = here.user("ada@example.com", Some(sandbox::USER_CUSTOMER), false).await;
    kept(&there, USAGE, &token).await;
    use_some(&here, &ada).await;
    following::follow_log(&there.app).await.expect("followed");
    let used = async |world: &World| world.get(USAGE, &token).await.json()["usage"].clone();
    let seen = used(&there).await;
    assert_eq!(seen["month"]["inference"], 450);
    assert_eq!(seen, used(&here).await);
}

on_each_database!(usage_of_another_program_shows_once_it_is_counted);

/// Nobody can read a table that is locked: what is answered all the same was asked of no table.
#[tokio::test]
async fn a_kept_answer_asks_the_database_nothing() {
    let database = Database::postgres();
    let address = database.address();
    let world = first(database).await;
    let token = world.ada().await;
    let before = kept(&world, SUBSCRIPTION, &token).await;
    let (locked, is_locked) = std::sync::mpsc::channel();
    let (unlock, unlocked) = std::sync::mpsc::channel::<()>();
    let locking = std::thread::spawn(move || {
        on_server(&address, move |client| {
            let mut lock = client.transaction().expect("a transaction");
            let tables = lock
                .query("SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'", &[])
                .expect("tables");
            for table in tables {
                lock.batch_execute(&format!("LOCK TABLE {}", table.get::<_, String>(0))).expect("a lock");
            }
            locked.send(()).expect("somebody waits");
            let _ = unlocked.recv();
        });
    });
    is_locked.recv().expect("locked");
    for _ in 0..100 {
        let asking = tokio::time::timeout(Duration::from_secs(10), world.get(SUBSCRIPTION, &token));
        assert_eq!(asking.await.expect("without a table").body, before);
    }
    drop(unlock);
    locking.join().expect("unlocked");
}

/// The connection that listens is half open: all that it carries is lost, and nobody says so.
#[tokio::test(flavor = "multi_thread")]
async fn s07_s09_a_right_that_is_taken_is_gone_also_where_nobody_hears_of_it() {
    let (here, there, wire) = two_and_a_wire().await;
    let (boss, admin) = here.user("boss@example.com", None, true).await;
    let (_, gone) = here.user("gone@example.com", None, false).await;
    let key = keys::issue(&here.app, "meter", &[keys::Scope::UsageWrite]).await.expect("a key");
    let bearer = format!("Bearer {key}");
    let record = async || there.send("POST", "/api/v1/usage/events", &[("authorization", &bearer)], "[]").await.status;
    for trouble in [Listening::Stalled, Listening::Deaf] {
        kept(&there, STATS, &admin).await;
        wire.set(trouble);
        users::set_admin(&here.app, &boss, false).await.expect("demoted");
        assert_eq!(there.get(STATS, &admin).await.status, 403, "{trouble:?}");
        wire.set(Listening::Open);
        users::set_admin(&here.app, &boss, true).await.expect("promoted");
    }
    kept(&there, USAGE, &gone).await;
    assert_ne!(record().await, 401);
    wire.set(Listening::Stalled);
    let key = keys::list(&here.app).await.expect("keys").remove(0);
    let (ended, revoked) = tokio::join!(sessions::revoke(&here.app, &gone), keys::revoke(&here.app, &key.id));
    assert!(ended.expect("ended") && revoked.is_ok());
    assert_eq!((there.get(USAGE, &gone).await.status, record().await), (401, 401));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_while_others_are_not_heard_and_everything_again_afterwards() {
    let (here, there, wire) = two_and_a_wire().await;
    let (ada, token) = here.user("ada@example.com", Some(sandbox::USER_CUSTOMER), false).await;
    let linked = kept(&there, SUBSCRIPTION, &token).await;
    end_listeners(&here);
    wire.set(Listening::Cut);
    until(&there, false).await;
    // Nothing is waited for: what is asked now is read now.
    users::link(&here.app, &ada, "cus_of_nobody").await.expect("linked");
    let other = there.get(SUBSCRIPTION, &token).await.body;
    assert_ne!(other, linked);
    users::link(&here.app, &ada, sandbox::USER_CUSTOMER).await.expect("linked");
    assert_eq!(there.get(SUBSCRIPTION, &token).await.body, linked);
    let ready = there.get_anonymous("/readyz").await.json();
    assert_eq!(ready["facts"]["answers"]["kept"], false, "{ready}");
    assert!(ready["facts"]["answers"]["why_not"].as_str().is_some_and(|why| why.contains("lost")), "{ready}");
    assert_eq!(ready["ready"], true);

    wire.set(Listening::Open);
    assert_eq!(kept(&there, SUBSCRIPTION, &token).await, linked);
    users::link(&here.app, &ada, "cus_of_nobody").await.expect("linked");
    tokio::time::sleep(HEARD_FOR).await;
    assert_eq!(there.get(SUBSCRIPTION, &token).await.body, other);
    let ready = there.get_anonymous("/readyz").await.json();
    assert_eq!(ready["facts"]["answers"], json!({ "kept": true, "why_not": null }));
}

/// Ends every connection that listens, as an administrator would.
fn end_listeners(world: &World) {
    on_server(&world.database.address(), |client| {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
             AND pid <> pg_backend_pid() AND (query LIKE '%LISTEN %' OR query LIKE '%pg_notify(''billhook%')";
        let ended = client.query(sql, &[]).expect("an administrator");
        assert!(!ended.is_empty(), "somebody listens");
    });
}

/// A request has read who somebody was, and keeps it after that has changed.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_before_a_change_is_not_kept_after_it() {
    let (here, there, wire) = two_and_a_wire().await;
    let (boss, admin) = here.user("boss@example.com", None, true).await;
    let (_, other) = here.user("other@example.com", None, true).await;
    kept(&there, STATS, &other).await;
    let (is_read, let_go) = wire.hold("boss@example.com");
    let changing = async {
        is_read.await.expect("the row of the user");
        users::set_admin(&here.app, &boss, false).await.expect("demoted");
        let_go.send(()).expect("the answer waits");
    };
    let (asked, ()) = tokio::join!(there.get(STATS, &admin), changing);
    assert_eq!(asked.status, 200, "it began before");
    until(&there, true).await;
    assert_eq!(there.get(STATS, &admin).await.status, 403);
}

/// The same where the change came while nobody listened, and listening began before the answer was there.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_before_listening_began_is_not_kept_after_it() {
    let (here, there, wire) = two_and_a_wire().await;
    let (boss, admin) = here.user("boss@example.com", None, true).await;
    wire.set(Listening::Stalled);
    let (is_read, let_go) = wire.hold("boss@example.com");
    let changing = async {
        is_read.await.expect("the row of the user");
        users::set_admin(&here.app, &boss, false).await.expect("demoted");
        wire.set(Listening::Open);
        until(&there, true).await;
        let_go.send(()).expect("the answer waits");
    };
    let (asked, ()) = tokio::join!(there.get(STATS, &admin), changing);
    assert_eq!(asked.status, 200, "it began before");
    until(&there, true).await;
    assert_eq!(there.get(STATS, &admin).await.status, 403);
}

/// What the platform or somebody at psql writes about people holds within the second.
#[tokio::test]
async fn s09_what_another_program_writes_about_people_holds_on_postgres() {
    let database = Database::postgres();
    let address = database.address();
    let world = first(database).await;
    let (_, admin) = world.user("boss@example.com", None, true).await;
    for (sql, stats, usage) in [
        ("UPDATE users SET is_admin = 0", 403, 200),
        ("UPDATE users SET is_admin = 1", 200, 200),
        ("UPDATE users SET disabled_at = 1", 401, 401),
        ("UPDATE users SET disabled_at = NULL", 200, 200),
        ("DELETE FROM sessions", 401, 401),
    ] {
        on_server(&address, move |client| client.batch_execute(sql).expect("written"));
        tokio::time::sleep(HEARD_FOR).await;
        for _ in 0..2 {
            let told = (world.get(STATS, &admin).await.status, world.get(USAGE, &admin).await.status);
            assert_eq!(told, (stats, usage), "{sql}");
        }
    }
}

/// Who waits for a position sees what it counts, also where the page of before was kept (CONTRACT: read your writes).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_position_never_sees_the_page_of_before() {
    let (here, there) = two(Database::postgres()).await;
    let (ada, token) = here.user("ada@example.com", None, false).await;
    use_some(&here, &ada).await;
    following::follow_log(&there.app).await.expect("followed");
    let started = used(&there, USAGE, &token).await;
    let stop = std::sync::atomic::AtomicBool::new(false);
    let follow = async {
        while !stop.load(std::sync::atomic::Ordering::Acquire) {
            following::follow_log(&there.app).await.expect("followed");
        }
    };
    let write = async {
        for number in 1..=150_u64 {
            kept(&there, USAGE, &token).await;
            let position = one_more(&here, &ada, number).await;
            let page = format!("{USAGE}?at_least={position}");
            let answer = there.get(&page, &token).await;
            assert_eq!(answer.header("billing-position"), None);
            assert_eq!(answer.json()["usage"]["today"]["tts"].as_u64(), Some(started + number), "{position}");
        }
        stop.store(true, std::sync::atomic::Ordering::Release);
    };
    tokio::join!(follow, write);
}

/// How many of speech were used today.
async fn used(world: &World, page: &str, token: &str) -> u64 {
    world.get(page, token).await.json()["usage"]["today"]["tts"].as_u64().expect("a number")
}

/// Records one more; its position.
async fn one_more(world: &World, user: &str, number: u64) -> i64 {
    let told = event(&format!("more-{number}"), user, "tts", "1", None);
    match billhook::ops::usage::record(&world.app, vec![told]).await.expect("recorded")[0] {
        billhook::ops::usage::Verdict::Recorded { position, .. } => position,
        ref other => panic!("{other:?}"),
    }
}
