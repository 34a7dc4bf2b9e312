//! A window that is open while its month ends. What Lago has is left where it is; what it has not is counted in the next month.

use std::collections::{BTreeMap, BTreeSet};

use billhook::ops::lago::{again, owed, replay};
use billhook::store::lago;
use sandbox::lago::{Fault, FaultKind, Store};
use serde_json::{Value, json};

use super::bench::{Bench, everywhere, units};
use crate::harness::Database;

fn outage(bench: &Bench) {
    bench.trouble(Fault::always("/api/v1", FaultKind::Close));
}

/// One unit that has arrived, and two and four in a window that Lago was not there for.
async fn with_a_window(bench: &Bench, trouble: FaultKind) -> String {
    let user = bench.user("ada").await;
    bench.use_some(&user, "inference", &["1"]).await;
    assert_eq!(bench.ship().await.delivered, 1);
    bench.go_to("2026-11-30T20:00:00Z");
    bench.use_some(&user, "inference", &["2", "4"]).await;
    bench.trouble_with_events(1, trouble);
    assert!(bench.ship().await.trouble.is_some());
    user
}

async fn window(bench: &Bench) -> Vec<Value> {
    let window = bench.app.db.read(lago::window).await.expect("a read").expect("a window");
    window.items.iter().map(|item| serde_json::from_str(&item.event).expect("an event")).collect()
}

/// In how many ways each event was sent, in all requests with events; the fewest first.
fn ways(bench: &Bench) -> Vec<usize> {
    let mut sent: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for body in bench.batches() {
        let body: Value = serde_json::from_str(&body).expect("JSON");
        for event in body["events"].as_array().expect("events") {
            sent.entry(event["transaction_id"].to_string()).or_default().insert(event.to_string());
        }
    }
    let mut ways: Vec<usize> = sent.values().map(BTreeSet::len).collect();
    ways.sort_unstable();
    ways
}

/// Questions about single events.
fn asked(bench: &Bench) -> usize {
    let is_question = |path: &str| path.starts_with("/api/v1/events/bh1-");
    bench.lago.requests().iter().filter(|request| is_question(&request.path)).count()
}

#[tokio::test]
async fn f41_a_window_that_never_arrived_is_billed_in_the_next_month() {
    for (database, store) in everywhere() {
        let bench = Bench::new(database, store).await;
        let user = with_a_window(&bench, FaultKind::Close).await;
        outage(&bench);
        bench.go_to("2026-12-01T09:00:00Z");
        bench.use_some(&user, "inference", &["8"]).await;
        assert!(bench.ship().await.trouble.is_some());
        bench.lago.faults().clear();
        assert_eq!((bench.ship_through().await, asked(&bench) >= 2), (0, true));
        // November's invoice is made: what says November would be taken, and never billed.
        assert_eq!(bench.at_lago_of(&user), units("14.0", 3));
        bench.assert_sound().await;
        // And it is known from where it is counted.
        bench.app.db.write(|tx| tx.run("DELETE FROM lago_sums", &[])).await.expect("forgotten");
        assert_eq!(again::repair(&bench.app).await.expect("sent again").events, 3);
        assert_eq!(bench.at_lago_of(&user), units("14.0", 3));
        // In November the two had another moment, which Lago has never seen.
        assert_eq!(ways(&bench), [1, 1, 2, 2]);
    }
}

#[tokio::test]
async fn f42_a_window_that_arrived_without_an_answer_stays_where_it_is() {
    for (database, store) in everywhere() {
        let bench = Bench::new(database, store).await;
        let user = with_a_window(&bench, FaultKind::CommitThenClose).await;
        outage(&bench);
        assert!(bench.ship().await.trouble.is_some());
        bench.go_to("2026-12-01T09:00:00Z");
        bench.lago.faults().clear();
        bench.use_some(&user, "inference", &["8"]).await;
        assert_eq!((bench.ship().await.delivered, asked(&bench)), (3, 2));
        assert_eq!(bench.at_lago_of(&user), units("8.0", 1), "the others are on November's invoice");
        assert!(ways(&bench).iter().all(|ways| *ways == 1), "{:?}", ways(&bench));
        bench.assert_sound().await;
    }
}

/// A Lago before 1.39 may keep half a batch.
#[tokio::test]
async fn f43_of_a_window_that_arrived_in_part_the_rest_is_sent() {
    for store in [Store::Postgres, Store::ClickHouse] {
        let bench = Bench::new(Database::sqlite(), store).await;
        let user = with_a_window(&bench, FaultKind::Close).await;
        bench.at_lago("POST", "/events/batch", &json!({ "events": [window(&bench).await[0]] })).await;
        bench.go_to("2026-12-01T09:00:00Z");
        assert_eq!((bench.ship().await.delivered, asked(&bench)), (2, 2));
        assert_eq!(bench.at_lago_of(&user), units("4.0", 1));
        bench.assert_sound().await;
    }
}

#[tokio::test]
async fn what_lago_stored_after_it_had_billed_the_month_is_named_until_somebody_has_seen_to_it() {
    let bench = Bench::new(Database::sqlite(), Store::Postgres).await;
    let user = with_a_window(&bench, FaultKind::Close).await;
    let events = window(&bench).await;
    bench.go_to("2026-12-01T08:00:00Z");
    bench.at_lago("POST", "/events/batch", &json!({ "events": events })).await;
    bench.go_to("2026-12-01T09:00:00Z");
    let shipped = bench.ship().await;
    assert_eq!((shipped.delivered, shipped.dead, shipped.trouble), (0, 2, None));
    assert_eq!(owed::compare(&bench.app).await.expect("a comparison"), []);
    let named = bench.faults().await;
    assert!(named.len() == 1 && named[0].starts_with("2 dead letters: stored at Lago after"), "{named:?}");
    // To send them again bills nothing, so they stay.
    let sent = bench.batches().len();
    assert_eq!(replay::ask(&bench.app, None).await.expect("asked").billed.len(), 2);
    bench.ship().await;
    assert_eq!((bench.batches().len(), bench.faults().await), (sent, named));
    // Billed by hand, and put away.
    for letter in replay::list(&bench.app, "", 10).await.expect("letters") {
        replay::forget(&bench.app, &letter.transaction_id).await.expect("put away");
    }
    assert_eq!(bench.batches().len(), sent);
    assert_eq!(bench.lago.usage(&user, "inference_call").map_or(0, |(_, events)| events), 0);
    bench.assert_sound().await;
}

/// The comparison of the open month ends with it, and Lago may lose something after that.
#[tokio::test]
async fn what_lago_lost_of_the_month_that_ended_last_is_named() {
    for (database, store) in everywhere() {
        let bench = Bench::new(database, store).await;
        let user = bench.user("ada").await;
        bench.use_some(&user, "inference", &["1", "2"]).await;
        bench.ship().await;
        bench.go_to("2026-12-02T09:00:00Z");
        bench.use_some(&user, "inference", &["8"]).await;
        bench.ship().await;
        bench.later(std::time::Duration::from_hours(1));
        bench.assert_sound().await;
        let more = "UPDATE lago_sums SET units_micro = units_micro + 4000000, events = events + 1 WHERE quarter_ms < 1796083200000";
        bench.app.db.write(move |tx| tx.run(more, &[])).await.expect("more was noted");
        let found = bench.faults().await;
        let expected = "2026-11-20T00:00:00Z to 2026-11-30T23:59:59Z: inference_call: delivered 7 units in 3 events, Lago has counted 3 units in 2 events";
        assert!(found.iter().any(|fault| fault.contains(expected)), "{found:?}");
    }
}

/// What was sent in the last minute of the month may still be on its way within Lago.
#[tokio::test]
async fn lago_is_asked_when_everything_that_was_on_its_way_has_arrived() {
    let bench = Bench::new(Database::sqlite(), Store::ClickHouse).await;
    let user = with_a_window(&bench, FaultKind::Close).await;
    bench.go_to("2026-12-01T00:04:59Z");
    bench.trouble_with_events(1, FaultKind::Close);
    assert!(bench.ship().await.trouble.is_some(), "its month is open still");
    let sent = bench.batches().len();
    for instant in ["2026-12-01T00:05:00Z", "2026-12-01T00:09:59Z"] {
        bench.go_to(instant);
        let shipped = bench.ship().await;
        assert_eq!((shipped.trouble, bench.batches().len(), asked(&bench)), (None, sent, 0), "{instant}");
    }
    bench.go_to("2026-12-01T00:10:00Z");
    assert_eq!((bench.ship().await.delivered, asked(&bench)), (2, 2));
    assert_eq!(bench.at_lago_of(&user), units("6.0", 2));
    bench.assert_sound().await;
}

/// Letters that are sent again with the bytes of the first time are no exception.
#[tokio::test]
async fn what_is_sent_again_over_the_end_of_a_month_is_asked_for_as_well() {
    let bench = Bench::new(Database::sqlite(), Store::ClickHouse).await;
    let user = bench.user("ada").await;
    bench.use_some(&user, "inference", &["1", "2"]).await;
    bench.ship().await;
    bench.go_to("2026-11-30T20:00:00Z");
    bench.app.db.write(|tx| tx.run("DELETE FROM lago_sums", &[])).await.expect("forgotten");
    bench.trouble_with_events(1, FaultKind::Close);
    assert!(again::repair(&bench.app).await.expect("sent again").trouble.is_some());
    bench.go_to("2026-12-01T09:00:00Z");
    assert_eq!((bench.ship().await.delivered, asked(&bench)), (2, 2));
    assert_eq!(bench.at_lago_of(&user), units("0.0", 0));
    assert_eq!(ways(&bench), [1, 1]);
    bench.assert_sound().await;
}
