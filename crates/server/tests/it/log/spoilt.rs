//! What can be wrong with a log and with what is kept of it is seen by a recount and named; what can be mended is.

use billhook::app::App;
use billhook::clock::Clock;
use billhook::ops::usage::{self, Told, Verdict};
use billhook::store::log::Kind;
use billing::entry::Pack;
use billing::usage::Credits;
use futures_util::future::FutureExt;
use jiff::SignedDuration;

use super::{add_users, differences, instant, now, one, program, program_with, record, settled, told, whole_log};
use crate::harness::{Database, NOW};

async fn run_sql(app: &App, sql: &'static str) {
    assert!(app.db.write(move |tx| tx.run(sql, &[])).await.expect(sql) > 0, "{sql}");
}

/// I-01, I-04: a lost entry, a doubled one, an id that leads nowhere, an id that is gone.
async fn i01_every_wound_of_the_log_is_named(database: Database) {
    let copy =
        "INSERT INTO usage_log (position, kind, user_id, type, quantity_micro, weight_micro, event_ms, received_ms, id,
         transaction_id, source) SELECT 6, kind, user_id, type, quantity_micro, weight_micro, event_ms, received_ms, id,
         transaction_id, source FROM usage_log WHERE position = 5";
    for (sql, words) in [
        ("DELETE FROM usage_log WHERE position = 4", ["has no entry 4", "entry 4, which is not there"]),
        ("UPDATE usage_ids SET position = 3 WHERE position = 4", ["has the id of the entry 3"; 2]),
        (copy, ["the entry 6 has the id of the entry 5"; 2]),
        ("DELETE FROM usage_ids WHERE position = 4", ["the id of the entry 4 is not known"; 2]),
        ("UPDATE usage_log SET quantity_micro = quantity_micro + 1 WHERE position = 4", ["inference"; 2]),
        ("UPDATE usage_log SET user_id = 'u2' WHERE position = 4", ["u2"; 2]),
        (
            "UPDATE usage_log SET body = REPLACE(body, 'included=', 'included=9') WHERE kind = 6",
            ["entry 1", "included"],
        ),
        (
            "UPDATE usage_log SET body = REPLACE(body, 'price_per_1k_minor=', 'price_per_1k_minor=9') WHERE kind = 6",
            ["entry 1", "price of 1,000 credits beyond, period from"],
        ),
        ("UPDATE usage_log SET weight_micro = weight_micro * 3 WHERE position = 4", ["credits"; 2]),
    ] {
        let app = program(&database, &now()).await;
        if whole_log(&app).await.is_empty() {
            let users = add_users(&app, 1).await;
            let days = (0..4).map(|day| {
                let at = instant(NOW) - SignedDuration::from_hours(24 * (3 - day));
                told(&format!("e{day}"), &users[0], "inference", 1_000_000, at)
            });
            record(&app, days.collect()).await;
            settled(&app).await;
        }
        run_sql(&app, sql).await;
        let named = differences(&app).await;
        for words in words {
            assert!(named.iter().any(|line| line.contains(words)), "{sql}: {words}: {named:?}");
        }
        for sql in ["DELETE FROM usage_log", "DELETE FROM usage_ids", "DELETE FROM accounts", "DELETE FROM usage_days"]
        {
            run_sql(&app, sql).await;
        }
        app.db
            .write(|tx| {
                tx.run("UPDATE usage_head SET position = 0", &[])?;
                tx.run("UPDATE facts SET value = '0' WHERE name = 'accounts_position'", &[])?;
                tx.run("DELETE FROM users", &[])
            })
            .await
            .expect("emptied");
    }
}

on_each_database!(i01_every_wound_of_the_log_is_named);

/// An id that is not known lets its event count twice: it is known again, whichever day it is of. An event that is too old to come
/// again needs none.
async fn i04_ids_that_are_gone_are_known_again(database: Database) {
    let clock = now();
    let app = program(&database, &clock).await;
    let users = add_users(&app, 1).await;
    let days = |day: i64| {
        told(&format!("e{day}"), &users[0], "tts", 1_000_000, instant(NOW) - SignedDuration::from_hours(24 * day))
    };
    let told = || (0..4).map(days).chain([usage::Told { at: None, ..one("timeless", &users[0]) }]).collect::<Vec<_>>();
    record(&app, told()).await;
    usage::history::backfill(&app, "run", vec![one("history", &users[0])]).await.expect("history");
    settled(&app).await;
    for sql in [
        "DELETE FROM usage_ids",
        "DELETE FROM usage_ids WHERE day = (SELECT MIN(day) FROM usage_ids)",
        "DELETE FROM usage_ids WHERE day < 1000000 AND position = 7",
        "UPDATE usage_ids SET position = 3 WHERE position = 4",
    ] {
        run_sql(&app, sql).await;
        assert_ne!(differences(&app).await, [""; 0], "{sql}");
        usage::recount::repair(&app).await.expect("mended");
        settled(&app).await;
        let again = record(&app, told()).await;
        assert!(again.iter().all(|verdict| matches!(verdict, Verdict::Duplicate { .. })), "{sql}: {again:?}");
        let live = record(&app, vec![one("history", &users[0])]).await;
        assert_eq!(live, [Verdict::Duplicate { position: 7 }], "{sql}");
    }
    run_sql(&app, "DELETE FROM usage_ids WHERE position = 5 AND day < 1000000").await;
    clock.set(instant("2027-02-01T00:00:00Z"));
    settled(&app).await;
}

on_each_database!(i04_ids_that_are_gone_are_known_again);

/// An event whose id was lost came again and counts as often as it is in the log: it is named until no more than one of them counts,
/// whichever of them are taken back.
async fn an_event_that_counts_twice(database: Database) {
    let app = program(&database, &now()).await;
    let users = add_users(&app, 1).await;
    for _ in 0..3 {
        record(&app, vec![one("again", &users[0])]).await;
        settled_or_not(&app).await;
        run_sql(&app, "DELETE FROM usage_ids WHERE id IN (SELECT id FROM usage_log WHERE kind = 0)").await;
    }
    usage::recount::repair(&app).await.expect("known again");
    let void = async |position| {
        let which = usage::naming::Which::Position(position);
        usage::corrections::void(&app, "again", which, false).await.expect("a void");
        settled_or_not(&app).await;
        usage::recount::repair(&app).await.expect("mended");
        differences(&app).await
    };
    let twice = |position| format!("the entry {position} has the id of the entry 2");
    assert_eq!(differences(&app).await, [twice(3), twice(4)]);
    assert_eq!(void(2).await, [twice(4)], "two of three still count");
    assert_eq!(void(2).await, [twice(4)], "one is taken back once");
    assert_eq!(void(4).await, [""; 0], "one of three counts");
    assert_eq!(void(3).await, [""; 0], "none of them does, as somebody wanted it");
}

/// What is recorded is written down, whatever there is to complain of.
async fn settled_or_not(app: &App) {
    usage::following::follow_log(app).await.expect("followed");
    usage::totals::write_down_now(app).await.expect("written down");
}

#[tokio::test]
async fn an_event_that_counts_twice_is_named_until_one_is_taken_back_on_sqlite() {
    an_event_that_counts_twice(Database::sqlite()).await;
}

#[tokio::test]
async fn an_event_that_counts_twice_is_named_until_one_is_taken_back_on_postgres() {
    an_event_that_counts_twice(Database::postgres()).await;
}

/// What was given a name for ever is the same again after its id was lost and put back, whenever it is said.
async fn i04_names_that_are_gone_are_known_again(database: Database) {
    let clock = now();
    let app = program(&database, &clock).await;
    let users = add_users(&app, 1).await;
    record(&app, ["e1", "e2"].map(|id| one(id, &users[0])).to_vec()).await;
    let again = async || {
        let granted_ms = clock.now().as_millisecond();
        let amount = Credits::parse("5").expect("credits");
        let pack = Pack { id: "p1".to_owned(), amount, priority: 0, expires_ms: None, granted_ms };
        let granted = usage::packs::grant(&app, &users[0], &pack).await.expect("a pack");
        let told = usage::Told { at: None, ..one("a1", &users[0]) };
        let adjusted = usage::corrections::adjust(&app, told, true, "note", false).await.expect("a correction");
        let voided = usage::corrections::void(&app, "e1", None, false).await.expect("a void");
        [granted, adjusted.verdict, voided.verdict].map(|verdict| verdict.expect("an answer"))
    };
    again().await;
    settled(&app).await;
    for sql in [
        "DELETE FROM usage_ids",
        "UPDATE usage_ids SET fingerprint = fingerprint + 1",
        "UPDATE usage_ids SET fingerprint = 0 WHERE position > 3",
    ] {
        run_sql(&app, sql).await;
        assert_ne!(differences(&app).await, [""; 0], "{sql}");
        usage::recount::repair(&app).await.expect("mended");
        settled(&app).await;
        clock.advance(std::time::Duration::from_mins(1));
        let said = again().await;
        assert!(said.iter().all(|verdict| matches!(verdict, Verdict::Duplicate { .. })), "{sql}: {said:?}");
    }
}

on_each_database!(i04_names_that_are_gone_are_known_again);

/// A user's list goes from entry to entry: a wrong link loses what lies before it, and is put right from the log alone.
#[tokio::test]
async fn links_from_entry_to_entry_are_named_and_put_right() {
    let database = Database::sqlite();
    let app = program(&database, &now()).await;
    let users = add_users(&app, 3).await;
    record(&app, (0..30).map(|number| one(&format!("e{number}"), &users[number % 3])).collect()).await;
    settled(&app).await;
    let whole = whole_log(&app).await;
    let elsewhere =
        whole.iter().filter(|entry| entry.previous.is_some_and(|before| before != entry.position - 1)).count();
    let first = whole.iter().filter(|entry| entry.previous.is_none() && entry.position > 1).count();
    for (sql, links) in [
        ("UPDATE usage_log SET previous = NULL WHERE position = 20", 1),
        ("UPDATE usage_log SET previous = previous - 3 WHERE position = 20", 1),
        ("UPDATE usage_log SET previous = position - 1 WHERE position > 1", elsewhere + first),
        ("UPDATE usage_log SET previous = 999 WHERE position = 33", 1),
    ] {
        run_sql(&app, sql).await;
        let named = differences(&app).await;
        let wrong = |line: &String| line.contains("as the one before it, which is ") && line.starts_with("user usr_");
        assert!(named.len() == links && named.iter().all(wrong), "{sql}: {named:?}");
        usage::recount::repair(&app).await.expect("mended");
        settled(&app).await;
        assert_eq!(whole_log(&app).await, whole, "{sql}");
    }
}

/// Where the next entry would come over one that is there, or leave a gap, nothing may be recorded until it is put right.
#[tokio::test]
async fn the_end_of_the_log_is_put_right() {
    let database = Database::postgres();
    let app = program(&database, &now()).await;
    let users = add_users(&app, 1).await;
    for (number, sql) in [
        "UPDATE usage_head SET position = position - 1",
        "UPDATE usage_head SET position = 1000000",
        "UPDATE usage_head SET position = 0",
        "DELETE FROM usage_head",
    ]
    .into_iter()
    .enumerate()
    {
        record(&app, vec![one(&format!("before-{number}"), &users[0])]).await;
        settled(&app).await;
        let head = whole_log(&app).await.len();
        run_sql(&app, sql).await;
        let named = differences(&app).await;
        assert!(named.len() == 1 && named[0].contains(&format!("the log ends at {head}")), "{sql}: {named:?}");
        usage::recount::repair(&app).await.expect("mended");
        settled(&app).await;
        let next = record(&app, vec![one(&format!("after-{number}"), &users[0])]).await;
        assert_eq!(next, [Verdict::Recorded { position: i64::try_from(head).expect("few") + 1, late: false }], "{sql}");
    }
}

/// What is written down once and not looked at again: periods that are over, and warnings.
async fn what_is_over_is_compared_too(database: Database) {
    let clock = now();
    let app = program(&database, &clock).await;
    let users = add_users(&app, 1).await;
    let five_hundred = |id: &str| told(id, &users[0], "tts", 500_000_000, clock.now());
    record(&app, vec![five_hundred("november")]).await;
    clock.set(instant("2026-12-02T00:00:00Z"));
    record(&app, vec![five_hundred("december")]).await;
    settled(&app).await;
    for (sql, words) in [
        (
            "UPDATE usage_periods SET summary = REPLACE(summary, '500', '999')",
            "closed period from 2026-11-01T00:00:00Z: summary kept",
        ),
        ("UPDATE usage_periods SET end_ms = end_ms + 1", "closed period from 2026-11-01T00:00:00Z: end kept"),
        ("DELETE FROM usage_periods", "closed period from 2026-11-01T00:00:00Z: is not kept"),
        ("UPDATE usage_periods SET start_ms = start_ms - 1", "and the log does not say it"),
        ("DELETE FROM usage_warnings WHERE percent = 80", "warning of 80 per cent, period from 2026-1"),
        ("UPDATE usage_warnings SET percent = 81 WHERE percent = 80", "warning of 81 per cent, period from 2026-1"),
        ("UPDATE usage_warnings SET at_ms = at_ms + 1000", "instant kept"),
        (
            "UPDATE usage_days SET cost_pico = cost_pico + 1 WHERE day = 20779",
            "tts, day 2026-11-22: credits kept 500.000000000001, the log says 500",
        ),
        ("UPDATE usage_days SET quantity_micro = 57000000 WHERE day = 20779", "quantity kept 57, the log says 500"),
    ] {
        run_sql(&app, sql).await;
        let named = differences(&app).await;
        assert!(named.iter().any(|line| line.contains(&users[0]) && line.contains(words)), "{sql}: {named:?}");
        usage::recount::repair(&app).await.expect("mended");
        settled(&app).await;
    }
}

on_each_database!(what_is_over_is_compared_too);

/// A snapshot that cannot be read, be it damaged or of another version, costs nobody their usage and nobody else an answer.
#[tokio::test]
async fn an_account_that_cannot_be_read_is_counted_from_the_log() {
    let (database, clock) = (Database::sqlite(), now());
    let app = program(&database, &clock).await;
    let users = add_users(&app, 2).await;
    record(&app, (0..9).map(|number| one(&format!("e{number}"), &users[number % 2])).collect()).await;
    settled(&app).await;
    drop(app);
    let again = program(&database, &clock).await;
    run_sql(&again, "UPDATE accounts SET state = x'ff'").await;
    let verdicts = record(&again, users.iter().map(|user| one(&format!("after-{user}"), user)).collect()).await;
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Recorded { .. })), "{verdicts:?}");
    for (user, expected) in [(&users[0], 6_000_000), (&users[1], 5_000_000)] {
        let view = again.book.get(user).expect("in memory").lock().account.at(instant(NOW).as_millisecond());
        assert_eq!(view.used.micro(), expected);
    }
    usage::totals::write_down_now(&again).await.expect("written down");
    assert_eq!(differences(&again).await, Vec::<String>::new());
}

/// Nor does one that is not there: the program starts, and the rest of the log is counted on what the log says of before.
async fn accounts_that_are_gone_are_counted_from_the_log(database: Database) {
    let clock = now();
    let app = program(&database, &clock).await;
    let users = add_users(&app, 2).await;
    let both = |id: &str| users.iter().map(|user| one(&format!("{id}-{user}"), user)).collect::<Vec<_>>();
    record(&app, both("a")).await;
    settled(&app).await;
    record(&app, both("b")).await;
    run_sql(&app, "DELETE FROM accounts").await;
    drop(app);
    let again = program(&database, &clock).await;
    for user in &users {
        let view = again.book.get(user).expect("in memory").lock().account.at(instant(NOW).as_millisecond());
        assert_eq!(view.used.micro(), 2_000_000);
    }
    usage::recount::repair(&again).await.expect("mended");
    settled(&again).await;
}

on_each_database!(accounts_that_are_gone_are_counted_from_the_log);

/// Its sender hears of the first answer, however late it is told again.
#[tokio::test]
async fn i04_what_came_in_time_is_a_duplicate_also_where_late_events_are_refused() {
    let (database, clock) = (Database::sqlite(), now());
    let app = program_with(&database.address(), &clock, &[("BILLHOOK_LATE_EVENTS", "reject")]).await;
    let users = add_users(&app, 1).await;
    let first = record(&app, vec![one("e1", &users[0])]).await;
    assert_eq!(first, [Verdict::Recorded { position: 2, late: false }]);
    clock.set(instant("2026-12-01T01:00:00Z"));
    let again = record(&app, vec![one("e1", &users[0]), one("e2", &users[0])]).await;
    assert_eq!(again[0], Verdict::Duplicate { position: 2 });
    assert!(matches!(again[1], Verdict::Refused { code: "too_late", .. }), "{again:?}");
}

/// History that is young enough to come live as well counts once, whichever came first, also long after its id was forgotten.
async fn i04_history_and_live_events_are_one(database: Database) {
    let clock = now();
    let app = program(&database, &clock).await;
    let users = add_users(&app, 1).await;
    record(&app, vec![one("live-first", &users[0])]).await;
    let run = async |id: &str| usage::history::backfill(&app, "run", vec![one(id, &users[0])]).await.expect("a run");
    assert_eq!(run("live-first").await, [Verdict::Duplicate { position: 2 }]);
    assert_eq!(run("history-first").await, [Verdict::Recorded { position: 3, late: false }]);
    assert_eq!(record(&app, vec![one("history-first", &users[0])]).await, [Verdict::Duplicate { position: 3 }]);
    for day in 1..=70 {
        clock.set(instant(NOW) + SignedDuration::from_hours(24 * day));
        record(&app, vec![Told { at: Some(clock.now()), ..one(&format!("day {day}"), &users[0]) }]).await;
    }
    usage::upkeep::Upkeep::default().once(&app).await.expect("forgotten");
    assert_eq!(run("history-first").await, [Verdict::Duplicate { position: 3 }]);
    settled(&app).await;
}

on_each_database!(i04_history_and_live_events_are_one);

/// A wire without times: the days beside are searched as well, also where both wait in one group over midnight.
#[tokio::test]
async fn i04_an_event_without_a_time_counts_once_over_midnight() {
    let (database, clock) = (Database::sqlite(), now());
    let app = program(&database, &clock).await;
    let users = add_users(&app, 1).await;
    let timeless = |id: &str| usage::Told { at: None, ..one(id, &users[0]) };
    clock.set(instant("2026-11-22T23:59:59.999Z"));
    record(&app, vec![timeless("e1")]).await;
    let before = usage::record(&app, vec![timeless("e2")]);
    let mut before = Box::pin(before);
    // It waits in the queue behind a transaction that takes its time.
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let slow = app.db.write(move |_| Ok(held.recv().is_ok()));
    let mut slow = Box::pin(slow);
    assert!((&mut slow).now_or_never().is_none());
    let first_in_line = Box::pin(usage::record(&app, vec![timeless("e3")]));
    let mut first_in_line = first_in_line;
    assert!((&mut first_in_line).now_or_never().is_none());
    assert!((&mut before).now_or_never().is_none());
    clock.set(instant("2026-11-23T00:00:00.001Z"));
    let after = usage::record(&app, vec![timeless("e1"), timeless("e2")]);
    let mut after = Box::pin(after);
    assert!((&mut after).now_or_never().is_none());
    hold.send(()).expect("it waits");
    let (_, _, before, after) = tokio::join!(slow, first_in_line, before, after);
    let (before, after) = (before.expect("recorded"), after.expect("recorded"));
    let Verdict::Recorded { position, .. } = before[0] else { panic!("{before:?}") };
    assert_eq!(after, [Verdict::Duplicate { position: 2 }, Verdict::Duplicate { position }]);
    // The clock is set back over midnight.
    let recorded = record(&app, vec![timeless("e4")]).await;
    let Verdict::Recorded { position, .. } = recorded[0] else { panic!("{recorded:?}") };
    clock.set(instant("2026-11-22T23:59:59.999Z"));
    assert_eq!(record(&app, vec![timeless("e4")]).await, [Verdict::Duplicate { position }]);
    settled(&app).await;
}

/// Terms that change back and forth while the clock stands still: each change is an entry, and the last one holds.
#[tokio::test]
async fn plans_that_change_back_and_forth_within_a_millisecond_all_count() {
    let database = Database::sqlite();
    let app = program(&database, &now()).await;
    let users = add_users(&app, 1).await;
    record(&app, vec![one("e1", &users[0])]).await;
    for (number, tier) in ["starter", "professional", "starter", "professional", "starter"].into_iter().enumerate() {
        let user = users[0].clone();
        app.db
            .write(move |tx| {
                tx.run("UPDATE users SET subscription_tier = ?1 WHERE id = ?2", &[tier.into(), user.as_str().into()])?;
                billhook::store::plans::mark_user(tx, &user)
            })
            .await
            .expect("changed");
        usage::plans::follow(&app).await.expect("followed");
        let slot = app.book.get(&users[0]).expect("in memory");
        assert_eq!(slot.lock().account.terms().tier, tier);
        let plans = whole_log(&app).await.iter().filter(|entry| entry.kind == Kind::Plan).count();
        assert_eq!(plans, number + 2);
    }
    settled(&app).await;
}

/// The server's own clock goes ahead over the end of a month and is set back: who counts in the month to come is named.
#[tokio::test]
async fn f49_a_clock_that_was_ahead_is_never_silent() {
    let (database, clock) = (Database::sqlite(), now());
    let app = program(&database, &clock).await;
    let users = add_users(&app, 2).await;
    let used = async |id: &str, user: &str| record(&app, vec![told(id, user, "tts", 1_000_000, clock.now())]).await;
    let named = async || {
        let report = billhook::ops::doctor::examine(&app).await.expect("a report").0;
        let ahead = report.into_iter().filter(|check| check.check == "clock").map(|check| check.detail);
        let degraded = billhook::ops::readiness::look(&app).await.degraded;
        (ahead.collect::<Vec<_>>(), degraded.iter().map(|missing| missing.part).collect::<Vec<_>>())
    };
    clock.set(instant("2026-11-30T20:00:00Z"));
    used("a", &users[0]).await;
    used("b", &users[1]).await;
    assert_eq!(named().await, (vec![], vec![]));
    clock.set(instant("2026-12-01T02:00:00Z"));
    used("c", &users[0]).await;
    clock.set(instant("2026-11-30T20:10:00Z"));
    let late = used("d", &users[0]).await;
    assert!(matches!(late[..], [Verdict::Recorded { late: true, .. }]), "{late:?}");
    let (ahead, degraded) = named().await;
    let of = &users[0];
    assert_eq!(degraded, ["clock.was_ahead"]);
    assert_eq!(
        ahead,
        [
            "1 entries (5 to 5) were accepted at a time to come, the latest at 2026-12-01T02:00:00Z".to_owned(),
            format!(
                "user {of}: the running period begins at 2026-12-01T00:00:00Z, and what is used before counts in it"
            ),
        ]
    );
    clock.set(instant("2026-12-01T02:00:00Z"));
    assert_eq!(named().await, (vec![], vec![]));
    settled(&app).await;
}

/// An event that no account could hold is refused by name: what is accepted counts.
#[tokio::test]
async fn i02_what_would_be_too_much_to_count_is_refused_and_not_lost() {
    let database = Database::sqlite();
    let app = program(&database, &now()).await;
    let users = add_users(&app, 1).await;
    let most = 1_000_000_000 * 1_000_000;
    let mut accepted = 0_i64;
    for batch in 0..4 {
        let events = (0..1_000).map(|number| told(&format!("e{batch}-{number}"), &users[0], "tts", most, instant(NOW)));
        for verdict in record(&app, events.collect()).await {
            match verdict {
                Verdict::Recorded { .. } => accepted += 1,
                Verdict::Refused { code: "invalid", pointer: "/quantity", .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert!((1_000..4_000).contains(&accepted), "{accepted}");
    let view = app.book.get(&users[0]).expect("in memory").lock().account.at(instant(NOW).as_millisecond());
    assert_eq!(view.used.micro(), accepted * most);
    settled(&app).await;
}
