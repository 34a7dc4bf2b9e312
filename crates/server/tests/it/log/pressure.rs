//! Too much at once, no room on the disk, a backup in the middle, the turn of a month: nothing is lost and nothing counts twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use billhook::app::App;
use billhook::error::Error;
use billhook::ops::usage::{self, Verdict};
use billhook::store::log::{Kind, Logged};
use futures_util::future::join_all;
use jiff::Timestamp;

use super::{add_users, instant, now, one, program, record, settled, times_recorded, told, whole_log};
use crate::harness::Database;

/// F-52: one user is all there is; others are served beside them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f52_one_hot_user_starves_nobody() {
    let database = Database::sqlite();
    let app = program(&database, &now()).await;
    let users = add_users(&app, 2).await;
    let start = Instant::now();
    let hot = (0..200).map(|batch| {
        let events = (0..100).map(|number| one(&format!("hot-{batch}-{number}"), &users[0])).collect();
        record(&app, events)
    });
    let cold = async {
        let mut slowest = Duration::ZERO;
        for number in 0..20 {
            let asked = Instant::now();
            record(&app, vec![one(&format!("cold-{number}"), &users[1])]).await;
            slowest = slowest.max(asked.elapsed());
        }
        slowest
    };
    let (verdicts, slowest) = tokio::join!(join_all(hot), cold);
    assert_eq!(verdicts.iter().flatten().filter(|verdict| matches!(verdict, Verdict::Recorded { .. })).count(), 20_000);
    // A test build on a busy machine: far from the aim, and still a hundred times what starving would be.
    let rate = 20_000.0 / start.elapsed().as_secs_f64();
    assert!(rate > 500.0, "{rate} events a second");
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    settled(&app).await;
}

/// A queue that is full says so; what was accepted before and after it is there once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_is_told_and_loses_nothing() {
    let database = Database::sqlite();
    let app = program(&database, &now()).await;
    let users = add_users(&app, 1).await;
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let slow = app.db.write(move |_| Ok(held.recv().is_ok()));
    let batches = (0..106).map(|batch| {
        usage::record(&app, (0..1_000).map(|number| one(&format!("{batch}-{number}"), &users[0])).collect())
    });
    let release = async {
        while app.usage.waiting() < 100_000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        hold.send(()).expect("it waits");
    };
    let (_, outcomes, ()) = tokio::join!(slow, join_all(batches), release);
    let mut full = Vec::new();
    for (batch, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Ok(verdicts) => assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Recorded { .. }))),
            Err(Error::LimitReached { code: "usage.queue_full", .. }) => full.push(batch),
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!((1..=6).contains(&full.len()), "{full:?}");
    let recorded = times_recorded(&app).await;
    assert_eq!((recorded.len(), recorded.values().max()), ((106 - full.len()) * 1_000, Some(&1)));
    for batch in full {
        assert!(!recorded.keys().any(|id| id.starts_with(&format!("{batch}-"))), "refused, so not there");
        record(&app, (0..1_000).map(|number| one(&format!("{batch}-{number}"), &users[0])).collect()).await;
    }
    assert_eq!(times_recorded(&app).await.len(), 106_000);
    settled(&app).await;
}

/// F-19: a copy taken under load is the log up to some entry, and everything that was answered before the copy began is in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f19_a_backup_under_load_is_a_prefix_that_stands_by_itself() {
    let told = include_str!("../../../../../README.md");
    assert!(
        told.contains(r#"sqlite3 billhook.db "VACUUM INTO 'copy.db'""#),
        "what is proved here is what people are told"
    );
    let (database, clock) = (Database::sqlite(), now());
    let app = program(&database, &clock).await;
    let users = add_users(&app, 4).await;
    let copies: Vec<Database> = (0..3).map(|_| Database::sqlite()).collect();
    let load = async {
        for batch in 0..150 {
            let event = |number: usize| one(&format!("{batch}-{number}"), &users[number % 4]);
            record(&app, (0..20).map(event).collect()).await;
            if batch % 11 == 0 {
                usage::totals::write_down(&app).await.expect("written down");
            }
        }
    };
    let backup = async {
        let mut before = Vec::new();
        for copy in &copies {
            before.push(app.book.applied());
            let (from, to) = (database.path().clone(), copy.path().display().to_string());
            let copied = tokio::task::spawn_blocking(move || {
                let file = rusqlite::Connection::open(from)?;
                file.busy_timeout(Duration::from_secs(30))?;
                file.execute("VACUUM INTO ?1", [to])
            });
            copied.await.expect("a thread").expect("a copy");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        before
    };
    let ((), before) = tokio::join!(load, backup);
    settled(&app).await;
    let log = whole_log(&app).await;
    for (copy, before) in copies.iter().zip(before) {
        let restored = program(copy, &clock).await;
        let kept = whole_log(&restored).await;
        assert!(i64::try_from(kept.len()).expect("few") >= before);
        assert_eq!(kept[..], log[..kept.len()], "a prefix");
        settled(&restored).await;
        // Its senders send again what they are not sure of.
        let event = |batch: usize, number: usize| one(&format!("{batch}-{number}"), &users[number % 4]);
        record(&restored, (0..150).flat_map(|batch| (0..20).map(move |number| event(batch, number))).collect()).await;
        assert_eq!(times_recorded(&restored).await, times_recorded(&app).await);
        settled(&restored).await;
    }
}

const BOUNDARY: &str = "2026-12-01T00:00:00Z";

async fn change_tier(app: &App, user: &str, tier: &'static str) {
    let of = user.to_owned();
    app.db
        .write(move |tx| {
            tx.run("UPDATE users SET subscription_tier = ?1 WHERE id = ?2", &[tier.into(), of.as_str().into()])?;
            billhook::store::plans::mark_user(tx, &of)
        })
        .await
        .expect("changed");
    usage::plans::follow(app).await.expect("followed");
}

/// Events on both sides of the month's end, at its last and its first millisecond, told before, at and after it.
async fn across_the_month(app: &App, user: &str, clock: &billhook::clock::Manual, round: usize) {
    let boundary = instant(BOUNDARY);
    let offsets = [-60_000, -1, 0, 1, 60_000];
    let events = offsets.iter().enumerate().map(|(number, offset)| {
        let at = boundary + jiff::SignedDuration::from_millis(*offset);
        told(&format!("{user}-{round}-{number}"), user, "inference", 1 << number, at)
    });
    let now = billhook::clock::Clock::now(clock);
    // Nobody tells of what lies more than five minutes ahead.
    let known = events.filter(|event| event.at.is_some_and(|at| at <= now + jiff::SignedDuration::from_mins(5)));
    for verdict in record(app, known.collect()).await {
        assert!(matches!(verdict, Verdict::Recorded { late: false, .. }), "{verdict:?}");
    }
}

/// What a period holds of a user: the closed ones as they were frozen, the open ones from the account.
async fn periods(app: &App, user: &str) -> BTreeMap<i64, String> {
    let of = user.to_owned();
    let closed = app
        .db
        .read(move |tx| {
            tx.rows("SELECT start_ms, summary FROM usage_periods WHERE user_id = ?1", &[of.as_str().into()])
        })
        .await
        .expect("periods");
    let quantity = |row: &billhook::store::db::Row| {
        let summary: serde_json::Value = serde_json::from_str(&row.text(1).expect("text")).expect("JSON");
        summary["by_type"]["inference"].as_str().expect("a quantity").to_owned()
    };
    closed.iter().map(|row| (row.int(0).expect("a number"), quantity(row))).collect()
}

fn naive(log: &[Logged], user: &str, start: Timestamp, end: Timestamp) -> i64 {
    let inside = |entry: &&Logged| (start.as_millisecond()..end.as_millisecond()).contains(&entry.event_ms);
    let own = log.iter().filter(|entry| entry.user == user && entry.kind == Kind::Usage);
    own.filter(inside).map(|entry| entry.quantity).sum()
}

/// F-46: under load, with other terms coming in between, each event is in exactly one period, that of its own time.
async fn f46_the_turn_of_a_month_under_load(database: Database) {
    let clock = now();
    clock.set(instant("2026-11-30T23:56:00Z"));
    let app = program(&database, &clock).await;
    let users = add_users(&app, 4).await;
    let load = join_all(users.iter().map(|user| {
        let (app, clock) = (&app, Arc::clone(&clock));
        async move {
            for round in 0..40 {
                across_the_month(app, user, &clock, round).await;
            }
        }
    }));
    let time = async {
        for minute in 0..10 {
            clock.advance(Duration::from_mins(1));
            let tier = if minute % 2 == 0 { "enterprise" } else { "professional" };
            change_tier(&app, &users[minute % 4], tier).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::join!(load, time);
    let log = whole_log(&app).await;
    let boundary = instant(BOUNDARY);
    for user in &users {
        let view = app.book.get(user).expect("in memory").lock().account.at(boundary.as_millisecond() + 60_000);
        let running: i64 = view.in_period.iter().map(|(_, quantity)| quantity.micro()).sum();
        assert_eq!(running, naive(&log, user, boundary, instant("2027-01-01T00:00:00Z")), "{user}");
    }
    // After the grace the month before is frozen, by whatever comes next.
    clock.set(instant("2026-12-01T01:00:00Z"));
    record(&app, users.iter().map(|user| told(&format!("next-{user}"), user, "tts", 1, instant(BOUNDARY))).collect())
        .await;
    settled(&app).await;
    for user in &users {
        let start = instant("2026-11-01T00:00:00Z");
        let expected = naive(&log, user, start, boundary);
        let expected = billing::usage::Quantity::from_micro(expected).wire();
        assert_eq!(periods(&app, user).await, BTreeMap::from([(start.as_millisecond(), expected)]), "{user}");
    }
    let again = program(&database, &clock).await;
    settled(&again).await;
}

on_each_database!(f46_the_turn_of_a_month_under_load, flavor = "multi_thread", worker_threads = 2);

/// F-49: a clock that goes back an hour loses nothing, refuses nothing that it should take, and reopens no period.
#[tokio::test]
async fn f49_a_clock_that_steps_back_an_hour_changes_no_sum() {
    let (database, clock) = (Database::sqlite(), now());
    let app = program(&database, &clock).await;
    let users = add_users(&app, 1).await;
    clock.set(instant("2026-12-01T01:30:00Z"));
    record(&app, vec![told("e1", &users[0], "tts", 1, instant("2026-12-01T01:30:00Z"))]).await;
    clock.set(instant("2026-12-01T00:30:00Z"));
    let back = record(
        &app,
        vec![
            told("e1", &users[0], "tts", 1, instant("2026-12-01T01:30:00Z")),
            told("e2", &users[0], "tts", 2, instant("2026-12-01T00:30:00Z")),
            told("e3", &users[0], "tts", 4, instant("2026-11-30T23:30:00Z")),
        ],
    );
    let back = back.await;
    // Its time lies ahead now; a sender who tries again later hears of the first answer.
    assert!(matches!(back[0], Verdict::Refused { code: "too_early", .. }), "{back:?}");
    assert!(matches!(back[1], Verdict::Recorded { late: false, .. }), "{back:?}");
    assert!(matches!(back[2], Verdict::Recorded { .. }), "{back:?}");
    clock.set(instant("2026-12-01T02:00:00Z"));
    assert_eq!(
        record(&app, vec![told("e1", &users[0], "tts", 1, instant("2026-12-01T01:30:00Z"))]).await,
        [Verdict::Duplicate { position: 2 }]
    );
    let view =
        app.book.get(&users[0]).expect("in memory").lock().account.at(instant("2026-12-01T02:00:00Z").as_millisecond());
    assert_eq!(view.used.micro(), 7, "all of it counts in the running period");
    settled(&app).await;
}
