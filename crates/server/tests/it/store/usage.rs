//! The usage log and its sums.

use std::collections::BTreeMap;

use billhook::store::usage::{self, Event, Verdict};
use billing::time::Window;
use billing::usage::Quantity;
use futures_util::future::join_all;
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::open;
use crate::harness::Database;

/// A whole hour.
const HOUR: i64 = 1_795_341_600_000;
const HOUR_MS: i64 = 3_600_000;

fn event(id: &str, micro: i64, event_ms: i64) -> Event {
    Event {
        transaction_id: id.to_owned(),
        user: "u1".to_owned(),
        kind: "inference".to_owned(),
        quantity: Quantity::from_micro(micro),
        event_ms,
        properties: None,
    }
}

fn window(start: i64, end: i64) -> Window {
    let instant = |ms| Timestamp::from_millisecond(ms).expect("instant");
    Window { start: instant(start), end: instant(end) }
}

pub async fn an_event_told_again_is_a_duplicate_or_names_what_differs(database: Database) {
    let db = open(&database).await;
    let first = Event { properties: Some(r#"{"model":"m"}"#.to_owned()), ..event("t1", 3_000_000, HOUR) };
    let tell = |event: Event| db.write(move |tx| usage::record(tx, &event, HOUR));
    assert_eq!(tell(first.clone()).await.expect("recorded"), Verdict::Recorded { position: 1 });
    assert_eq!(tell(event("t2", 1, HOUR)).await.expect("recorded"), Verdict::Recorded { position: 2 });
    for (again, expected) in [
        (first.clone(), Verdict::Duplicate { position: 1 }),
        (Event { user: "u2".to_owned(), ..first.clone() }, Verdict::Conflict { member: "user_id" }),
        (Event { kind: "tts".to_owned(), ..first.clone() }, Verdict::Conflict { member: "type" }),
        (
            Event { quantity: Quantity::from_micro(3_000_001), ..first.clone() },
            Verdict::Conflict { member: "quantity" },
        ),
        (Event { event_ms: HOUR + 1, ..first.clone() }, Verdict::Conflict { member: "timestamp" }),
        (Event { properties: None, ..first.clone() }, Verdict::Conflict { member: "properties" }),
        // Another day is another event, as the log's key says.
        (Event { event_ms: HOUR + 24 * HOUR_MS, ..first.clone() }, Verdict::Recorded { position: 3 }),
    ] {
        assert_eq!(tell(again.clone()).await.expect("a verdict"), expected, "{again:?}");
    }
    let sums = db.read(|tx| usage::sums(tx, "u1", &window(HOUR, HOUR + HOUR_MS))).await.expect("sums");
    assert_eq!(sums, BTreeMap::from([("inference".to_owned(), Quantity::from_micro(3_000_001))]), "counted once each");
    assert_eq!(db.read(usage::check).await.expect("a check"), (3, Vec::new()));
}

fn told() -> impl Strategy<Value = Vec<(i64, usize, i64)>> {
    prop::collection::vec((-3 * HOUR_MS..4 * HOUR_MS, 0..3_usize, 0..5_000_000_i64), 0..25)
}

fn edges() -> impl Strategy<Value = (i64, i64)> {
    // Ragged edges, and whole hours as often.
    let edge = || prop_oneof![-4 * HOUR_MS..5 * HOUR_MS, (-4..5_i64).prop_map(|hour| hour * HOUR_MS)];
    (edge(), edge()).prop_map(|(one, other)| (one.min(other), one.max(other)))
}

pub async fn sums_of_any_window_are_the_naive_sums(database: Database) {
    let db = open(&database).await;
    let mut runner = TestRunner::deterministic();
    for case in 0..30 {
        let user = format!("u{case}");
        let events: Vec<Event> = told()
            .new_tree(&mut runner)
            .expect("events")
            .current()
            .into_iter()
            .enumerate()
            .map(|(number, (offset, kind, micro))| Event {
                user: user.clone(),
                kind: ["inference", "tts", "stt"][kind].to_owned(),
                ..event(&format!("{case}-{number}"), micro, HOUR + offset)
            })
            .collect();
        let all = events.clone();
        db.write(move |tx| all.iter().try_for_each(|event| usage::record(tx, event, HOUR).map(drop)))
            .await
            .expect("recorded");
        for _ in 0..8 {
            let (start, end) = edges().new_tree(&mut runner).expect("a window").current();
            let window = window(HOUR + start, HOUR + end);
            let mut naive: BTreeMap<String, i64> = BTreeMap::new();
            for event in events.iter().filter(|event| (HOUR + start..HOUR + end).contains(&event.event_ms)) {
                *naive.entry(event.kind.clone()).or_default() += event.quantity.micro();
            }
            let (of, within) = (user.clone(), window);
            let sums = db.read(move |tx| usage::sums(tx, &of, &within)).await.expect("sums");
            // A type whose hours hold nothing in the window may be absent or zero.
            let sums: BTreeMap<String, i64> = sums.into_iter().map(|(kind, sum)| (kind, sum.micro())).collect();
            assert_eq!(sums, naive, "{window:?} of {events:?}");
        }
    }
    assert_eq!(db.read(usage::check).await.expect("a check").1, Vec::<String>::new());
}

pub async fn sums_that_are_wrong_are_found_and_mended(database: Database) {
    let db = open(&database).await;
    db.write(|tx| {
        usage::record(tx, &event("t1", 5, HOUR), HOUR)?;
        tx.run("UPDATE usage_hours SET quantity_micro = 6", &[])?;
        tx.run("INSERT INTO usage_hours (user_id, hour, type, quantity_micro) VALUES ('u9', 1, 'tts', 1)", &[])
    })
    .await
    .expect("spoilt");
    let (events, wrong) = db.read(usage::check).await.expect("a check");
    assert_eq!((events, wrong.len()), (1, 2), "{wrong:?}");
    db.write(usage::rebuild).await.expect("mended");
    assert_eq!(db.read(usage::check).await.expect("a check"), (1, Vec::new()));
}

pub async fn i04_an_event_told_by_many_at_once_counts_once(database: Database) {
    let (one, other) = (open(&database).await, open(&database).await);
    let tellings = (0..20).map(|number| {
        let db = if number % 2 == 0 { &one } else { &other };
        db.write(|tx| usage::record(tx, &event("t1", 1, HOUR), HOUR))
    });
    let verdicts: Vec<Verdict> =
        join_all(tellings).await.into_iter().map(|verdict| verdict.expect("a verdict")).collect();
    let recorded = verdicts.iter().filter(|verdict| **verdict == Verdict::Recorded { position: 1 }).count();
    let duplicates = verdicts.iter().filter(|verdict| **verdict == Verdict::Duplicate { position: 1 }).count();
    assert_eq!((recorded, duplicates), (1, 19));
    assert_eq!(one.read(usage::check).await.expect("a check"), (1, Vec::new()));
}

pub async fn i04_many_different_events_at_once_all_count(database: Database) {
    let (one, other) = (open(&database).await, open(&database).await);
    let tellings = (0..40).map(|number| {
        let db = if number % 2 == 0 { &one } else { &other };
        db.write(move |tx| usage::record(tx, &event(&format!("t{number}"), 1, HOUR + number), HOUR))
    });
    let mut positions: Vec<i64> = join_all(tellings)
        .await
        .into_iter()
        .map(|verdict| match verdict.expect("a verdict") {
            Verdict::Recorded { position } => position,
            other => panic!("{other:?}"),
        })
        .collect();
    positions.sort_unstable();
    assert_eq!(positions, (1..=40).collect::<Vec<_>>(), "a log without gaps");
    let sums = one.read(|tx| usage::sums(tx, "u1", &window(HOUR, HOUR + HOUR_MS))).await.expect("sums");
    assert_eq!(sums["inference"].micro(), 40);
}
