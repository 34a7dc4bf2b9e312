//! CONTRACT: no retry, however late, counts twice; also not after the window was shorter for a while.

use billhook::clock::Clock;
use billhook::ops::usage::upkeep::Upkeep;
use billhook::ops::usage::{Told, Verdict, history, ids, packs, totals};
use billhook::store::log::{self, Kind};
use billing::entry::Pack;
use billing::usage::Credits;
use jiff::SignedDuration;

use super::{add_users, instant, now, one, program_with, record, settled, whole_log};
use crate::harness::{Database, NOW};

#[tokio::test]
async fn an_event_whose_id_was_forgotten_is_refused_and_not_counted_again() {
    let (database, clock) = (Database::sqlite(), now());
    let app = program_with(&database.address(), &clock, &[]).await;
    let user = add_users(&app, 1).await.remove(0);
    let days_ago = |days: i64| {
        let at = Some(instant(NOW) - SignedDuration::from_hours(24 * days));
        vec![Told { at, ..one(&format!("{days} days ago"), &user) }]
    };
    for days in [20, 3, 2, 1] {
        let verdicts = record(&app, days_ago(days)).await;
        assert!(matches!(verdicts[0], Verdict::Recorded { .. }), "{verdicts:?}");
    }
    drop(app);
    let shorter = program_with(&database.address(), &clock, &[("BILLHOOK_USAGE_WINDOW", "1d")]).await;
    Upkeep::default().once(&shorter).await.expect("ids are forgotten");
    drop(shorter);
    let longer_again = program_with(&database.address(), &clock, &[]).await;
    for days in [20, 10] {
        let verdicts = record(&longer_again, days_ago(days)).await;
        assert!(matches!(verdicts[0], Verdict::Refused { code: "too_old", .. }), "{days}: {verdicts:?}");
    }
    let verdicts = record(&longer_again, days_ago(1)).await;
    assert!(matches!(verdicts[0], Verdict::Duplicate { .. }), "{verdicts:?}");
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Recorded { .. } => "recorded",
        Verdict::Duplicate { .. } => "duplicate",
        Verdict::Conflict { .. } => "conflict",
        Verdict::Refused { code, .. } => code,
    }
}

/// History of a day of which live ids were forgotten may have been counted then: it is not shown or billed a second time. All
/// other history enters as ever.
async fn history_that_may_have_come_live_is_refused(database: Database) {
    let clock = now();
    let window = [("BILLHOOK_USAGE_WINDOW", "7d")];
    let app = program_with(&database.address(), &clock, &window).await;
    let user = add_users(&app, 1).await.remove(0);
    let on = |id: &str, day: &str| Told { at: Some(instant(&format!("{day}T10:00:00Z"))), ..one(id, &user) };
    let backfill = async |told: Vec<Told>| {
        history::backfill(&app, "run", told).await.expect("verdicts").iter().map(word).collect::<Vec<_>>()
    };
    // Its id is forgotten as well; nothing came live on that day.
    assert_eq!(backfill(vec![on("first-file", "2026-09-01")]).await, ["recorded"]);
    Upkeep::default().once(&app).await.expect("ids are forgotten");
    assert_eq!(backfill(vec![on("second-file", "2026-09-01")]).await, ["recorded"]);
    // Of before anything came live, of the first day, and of one that is still known.
    record(&app, vec![on("live", "2026-11-21")]).await;
    assert_eq!(backfill(vec![on("told", "2026-11-21")]).await, ["recorded"]);
    for day in 1..=10 {
        clock.set(clock.now() + SignedDuration::from_hours(24));
        record(&app, vec![Told { at: Some(clock.now()), ..one(&format!("day {day}"), &user) }]).await;
    }
    record(&app, vec![on("known", "2026-11-28")]).await;
    Upkeep::default().once(&app).await.expect("ids are forgotten");
    let file = [
        (on("third-file", "2026-09-01"), "recorded"),
        (on("just-before", "2026-11-20"), "recorded"),
        (on("live", "2026-11-21"), "too_old"),
        (on("never-came", "2026-11-22"), "too_old"),
        (on("told", "2026-11-21"), "duplicate"),
        (on("known", "2026-11-28"), "duplicate"),
        (on("missing", "2026-11-28"), "recorded"),
    ];
    let (told, expected): (Vec<_>, Vec<_>) = file.into_iter().unzip();
    assert_eq!(backfill(told.clone()).await, expected);
    // A database that has forgotten ids before this was looked at knows its first day all the same.
    for sql in
        ["DELETE FROM facts WHERE name = 'ids_lost_from_day'", "DELETE FROM schema_migrations WHERE name LIKE '0017%'"]
    {
        app.db.write(move |tx| tx.run(sql, &[])).await.expect(sql);
    }
    let app = program_with(&database.address(), &clock, &window).await;
    let again = history::backfill(&app, "run", told).await.expect("verdicts");
    let expected: Vec<_> = expected.iter().map(|word| if *word == "recorded" { "duplicate" } else { word }).collect();
    assert_eq!(again.iter().map(word).collect::<Vec<_>>(), expected);
    settled(&app).await;
}

on_each_database!(history_that_may_have_come_live_is_refused);

/// A clock that was ahead for a while, here with an event that was accepted by it. What the log says of days decides as well: ids
/// that may still come are kept, packs whose time is to come are not over. Once the days have really passed, they are.
async fn i04_a_clock_that_was_ahead_once_forgets_nothing_that_may_come_again(database: Database) {
    let clock = now();
    let app = program_with(&database.address(), &clock, &[]).await;
    let users = add_users(&app, 2).await;
    let event = |id: &str, at| vec![Told { at: Some(at), ..one(id, &users[0]) }];
    let day = SignedDuration::from_hours(24);
    let of_now = ["today", "yesterday", "last month"].into_iter().zip([0, 1, 30]);
    let of_now: Vec<_> = of_now.map(|(id, days)| event(id, instant(NOW) - day * days)).collect();
    for told in &of_now {
        assert_eq!(word(&record(&app, told.clone()).await[0]), "recorded");
    }
    let pack = Pack {
        id: "p".to_owned(),
        amount: Credits::parse("50").expect("credits"),
        priority: 0,
        expires_ms: Some(instant("2026-12-24T00:00:00Z").as_millisecond()),
        granted_ms: instant(NOW).as_millisecond(),
    };
    packs::grant(&app, &users[0], &pack).await.expect("given");
    totals::write_down_now(&app).await.expect("written down");
    drop(app);
    clock.set(instant(NOW) + day * 60);
    let app = program_with(&database.address(), &clock, &[]).await;
    Upkeep::default().once(&app).await.expect("seen to");
    record(&app, vec![Told { at: Some(clock.now()), ..one("ahead", &users[1]) }]).await;
    Upkeep::default().once(&app).await.expect("seen to");
    drop(app);
    clock.set(instant(NOW));
    let app = program_with(&database.address(), &clock, &[]).await;
    for told in &of_now {
        assert_eq!(word(&record(&app, told.clone()).await[0]), "duplicate", "{told:?}");
    }
    let expired = async || whole_log(&app).await.iter().filter(|entry| entry.kind == Kind::Expire).count();
    assert_eq!(expired().await, 0);

    let [of_today, _] = log::days(instant(NOW).as_millisecond());
    for passed in 1..=45 {
        clock.set(instant(NOW) + day * passed);
        record(&app, event(&format!("day {passed}"), clock.now())).await;
    }
    Upkeep::default().once(&app).await.expect("seen to");
    let id = ids::entry_id("", "today");
    let kept = app.db.read(move |tx| log::known(tx, of_today, &id)).await.expect("read");
    assert_eq!((kept, expired().await), (None, 1));
    settled(&app).await;
}

on_each_database!(i04_a_clock_that_was_ahead_once_forgets_nothing_that_may_come_again);
