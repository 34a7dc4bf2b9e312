//! Several processes on one database: one order without gaps, and every one of them ends with the same book (I-04, F-12).

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use billhook::app::App;
use billhook::ops::usage::{self, Verdict};
use billhook::store::log;
use billing::account::Account;
use billing::entry::{Entry, Fact};
use futures_util::future::join_all;

use super::{accounts, add_users, instant, now, one, program, program_named, record, settled, times_recorded};
use crate::harness::{Database, NOW};

/// Each process records its own events and some that all of them record.
async fn writes(app: &App, number: usize, users: &[String], rounds: usize) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for round in 0..rounds {
        let mut batch = Vec::new();
        for user in users {
            batch.push(one(&format!("own-{number}-{round}-{user}"), user));
            batch.push(one(&format!("shared-{round}-{user}"), user));
        }
        verdicts.extend(record(app, batch).await);
        if round % 7 == number {
            usage::totals::write_down(app).await.expect("written down or left to others");
        }
    }
    verdicts
}

/// A reader that knows nothing but the last position it has seen.
async fn polls(app: &App, until: i64) -> Vec<i64> {
    let (mut seen, mut last) = (Vec::new(), 0);
    while last < until {
        let rows = app.db.read(move |tx| log::read(tx, last, 100)).await.expect("read");
        seen.extend(rows.iter().map(|row| row.position));
        last = seen.last().copied().unwrap_or(0);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    seen
}

async fn run(database: Database, processes: usize, rounds: usize) {
    let clock = now();
    let mut apps = vec![program(&database, &clock).await];
    let users = add_users(&apps[0], 5).await;
    for _ in 1..processes {
        apps.push(program(&database, &clock).await);
    }
    let entries = i64::try_from(users.len() * (rounds * (processes + 1) + 1)).expect("few");
    let writing = apps.iter().enumerate().map(|(number, app)| writes(app, number, &users, rounds));
    let (verdicts, seen) = tokio::join!(join_all(writing), polls(&apps[processes - 1], entries));
    assert_eq!(seen, (1..=entries).collect::<Vec<_>>(), "no gap, and no reader skips one");
    let mut recorded = BTreeSet::new();
    let mut shared: BTreeMap<usize, i64> = BTreeMap::new();
    for verdicts in &verdicts {
        for (at, verdict) in verdicts.iter().enumerate() {
            let (position, is_new) = match verdict {
                Verdict::Recorded { position, .. } => (*position, true),
                Verdict::Duplicate { position } => (*position, false),
                other => panic!("{other:?}"),
            };
            assert!(!is_new || recorded.insert(position), "{position} was given twice");
            // Every second one is shared: whoever asks hears of the one entry.
            assert!(at % 2 == 0 || *shared.entry(at).or_insert(position) == position);
        }
    }
    assert!(times_recorded(&apps[0]).await.values().all(|times| *times == 1));
    for app in &apps {
        usage::following::follow_log(app).await.expect("followed");
        assert_eq!(app.book.applied(), entries);
    }
    let books: Vec<_> = apps.iter().map(accounts).collect();
    assert!(books.windows(2).all(|two| two[0] == two[1]), "every process has the same accounts");
    for app in &apps {
        settled(app).await;
    }
    let again = program(&database, &clock).await;
    assert_eq!(again.book.applied(), entries);
    settled(&again).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i04_two_processes_on_one_file_have_one_log() {
    run(Database::sqlite(), 2, 40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i04_four_processes_on_one_server_have_one_log() {
    run(Database::postgres(), 4, 40).await;
}

/// The seeded bug: positions that are given out before they are held, as a sequence of the database would.
#[tokio::test]
async fn a_reader_would_see_a_position_that_appears_behind_it() {
    let (database, clock) = (Database::postgres(), now());
    let app = program(&database, &clock).await;
    let users = add_users(&app, 1).await;
    record(&app, vec![one("e1", &users[0]), one("e2", &users[0])]).await;
    let take_out = "UPDATE usage_log SET position = 9 WHERE position = 2";
    app.db.write(move |tx| tx.run(take_out, &[])).await.expect("a gap");
    let before =
        app.db.read(|tx| log::read(tx, 0, 100)).await.expect("read").iter().map(|row| row.position).collect::<Vec<_>>();
    assert_eq!(before, [1, 3, 9]);
    let named = super::differences(&app).await;
    assert!(named.iter().any(|line| line.contains("has no entry 2")), "{named:?}");
}

/// One process mends what is written down while others have accounts in memory: nobody keeps counting on the old ones.
async fn a_repair_beside_a_running_server_is_followed(database: Database) {
    let clock = now();
    let (server, doctor) = (program(&database, &clock).await, program(&database, &clock).await);
    let users = add_users(&server, 3).await;
    let three = |id: &str| users.iter().map(|user| one(&format!("{id}-{user}"), user)).collect::<Vec<_>>();
    record(&server, three("a")).await;
    usage::totals::write_down_now(&server).await.expect("written down");
    for round in 0..4 {
        // Both cases: all of the log is written down, or a rest of it is not.
        if round % 2 == 1 {
            record(&server, three(&format!("b{round}"))).await;
        }
        doctor.db.write(|tx| tx.run("UPDATE usage_days SET events = events + 7", &[])).await.expect("spoilt");
        usage::recount::repair(&doctor).await.expect("mended");
        record(&server, three(&format!("c{round}"))).await;
        usage::totals::write_down_now(&server).await.expect("a try");
        usage::totals::write_down_now(&server).await.expect("written down");
        settled(&server).await;
        settled(&doctor).await;
    }
}

on_each_database!(a_repair_beside_a_running_server_is_followed);

/// An account as nothing of it had ever been used, at the entry where it stands.
async fn spoil(app: &App, user: &str) {
    let id = user.to_owned();
    let kept = app.db.read(move |tx| billhook::store::accounts::get(tx, &id)).await.expect("read").expect("an account");
    let right = Account::decode(&kept).expect("an account");
    let (position, now_ms) = (right.position(), instant(NOW).as_millisecond());
    let mut wrong = Account::new(right.terms().clone(), now_ms).expect("an account");
    wrong.fold(&Entry { position, event_ms: now_ms, received_ms: now_ms, fact: Fact::Roll }).expect("its place");
    let (state, id) = (wrong.encode(), user.to_owned());
    let sql = "UPDATE accounts SET state = ?1 WHERE user_id = ?2";
    app.db.write(move |tx| tx.run(sql, &[state.clone().into(), id.clone().into()])).await.expect("spoilt");
}

/// The server has wrong accounts in memory and writes them down while the log is counted anew, at whatever moment: to the entry up
/// to which that counts.
async fn a_repair_is_not_undone_by_a_server_that_writes_down_meanwhile(database: Database) {
    let clock = now();
    let doctor = program(&database, &clock).await;
    let user = add_users(&doctor, 1).await.remove(0);
    for polls in 0..10 {
        record(&doctor, vec![one(&format!("a{polls}"), &user)]).await;
        usage::totals::write_down_now(&doctor).await.expect("written down");
        spoil(&doctor, &user).await;
        let server = program(&database, &clock).await;
        record(&server, vec![one(&format!("b{polls}"), &user)]).await;
        let mut repair = pin!(usage::recount::repair(&doctor));
        let mut is_over = false;
        for _ in 0..polls {
            if is_over {
                break;
            }
            is_over = poll_fn(|context| Poll::Ready(repair.as_mut().poll(context).is_ready())).await;
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
        usage::totals::write_down_now(&server).await.expect("a try");
        if !is_over {
            repair.await.expect("mended");
        }
        is_right_again(&server, &doctor, &user, &format!("{polls}")).await;
    }
}

on_each_database!(a_repair_is_not_undone_by_a_server_that_writes_down_meanwhile);

/// Two repairs, one after the other: what is written stands where the server left it.
async fn two_repairs_are_not_undone_by_a_server_that_wrote_down_before(database: Database) {
    let clock = now();
    let doctor = program(&database, &clock).await;
    let user = add_users(&doctor, 1).await.remove(0);
    record(&doctor, vec![one("a", &user)]).await;
    usage::totals::write_down_now(&doctor).await.expect("written down");
    spoil(&doctor, &user).await;
    let server = program(&database, &clock).await;
    record(&server, vec![one("b", &user)]).await;
    usage::totals::write_down_now(&server).await.expect("written down");
    for _ in 0..2 {
        usage::recount::repair(&doctor).await.expect("mended");
    }
    is_right_again(&server, &doctor, &user, "twice").await;
}

on_each_database!(two_repairs_are_not_undone_by_a_server_that_wrote_down_before);

/// The server goes on with what was mended, and does not write what it had over it.
async fn is_right_again(server: &App, doctor: &App, user: &str, name: &str) {
    record(server, vec![one(&format!("c{name}"), user)]).await;
    for _ in 0..2 {
        usage::totals::write_down_now(server).await.expect("written down, or begun anew and then written down");
    }
    assert_eq!(super::differences(server).await, Vec::<String>::new(), "{name}");
    settled(doctor).await;
}

/// A process that leaves writing down to another does not keep for ever what it has counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f08_whoever_only_follows_forgets_what_another_has_written_down() {
    let (database, clock) = (Database::postgres(), now());
    let writer = program(&database, &clock).await;
    let users = add_users(&writer, 40).await;
    let follower = program_named(&database.address(), &clock, &[], 8).await;
    for batch in 0..26 {
        let events = (0..1_000).map(|number| one(&format!("{batch}-{number}"), &users[number % users.len()]));
        record(&writer, events.collect()).await;
        usage::following::follow_log(&follower).await.expect("followed");
        if batch % 5 == 0 {
            assert!(usage::totals::write_down(&writer).await.expect("written down"));
            assert!(!usage::totals::write_down(&follower).await.expect("left to the other"));
        }
    }
    assert!(follower.book.unwritten() < 10_000, "{}", follower.book.unwritten());
    settled(&follower).await;
    // It takes over where the other has ended.
    clock.advance(Duration::from_secs(16));
    record(&follower, vec![one("last", &users[0])]).await;
    assert!(usage::totals::write_down(&follower).await.is_ok());
    usage::totals::write_down_now(&follower).await.expect("written down");
    settled(&follower).await;
    settled(&writer).await;
}
