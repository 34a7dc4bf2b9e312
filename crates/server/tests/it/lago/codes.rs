//! The catalogue changes while a month is open. What went out under one code stays under it (facts 3.8: "with the same
//! transaction_id, timestamp and code on every try").

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use billhook::ops::lago::reconcile::{self, Which};
use billhook::ops::lago::setup::{self, Mode, Outcome};
use billhook::ops::lago::{again, owed};
use billhook::ops::usage::corrections;
use billhook::store::lago;
use sandbox::lago::Store;
use serde_json::{Value, json};

use super::bench::{Bench, everywhere, told};
use crate::harness::Database;

/// A type that nobody uses: the plans of every set-up have a charge for the code that `tts` is given later.
const LATER: (&str, &str) =
    ("[events.stt]", "[events.later]\ncredits = \"1\"\nlago_code = \"tts_new\"\n\n[events.stt]");
const NEW: (&str, &str) = ("lago_code = \"tts_call\"", "lago_code = \"tts_new\"");
const IMAGE: (&str, &str) =
    ("[events.stt]", "[events.image]\ncredits = \"12\"\nlago_code = \"pictures\"\n\n[events.stt]");

async fn bench(database: Database, store: Store, changes: &[(&str, &str)]) -> Bench {
    let mut bench = Bench::bare(database, store).await;
    bench.change_catalogue(changes).await;
    bench.set_up().await;
    bench
}

/// Events whose names begin like this, of now.
async fn use_named(bench: &Bench, user: &str, kind: &str, name: &str, quantities: &[&str]) {
    let now = bench.app.clock.now();
    let named = |(at, quantity): (usize, &&str)| {
        let mut event = told(user, kind, quantity, now);
        event.transaction_id = format!("{name}{at}");
        event
    };
    bench.record(quantities.iter().enumerate().map(named).collect()).await;
}

async fn void(bench: &Bench, name: &str) {
    corrections::void(&bench.app, name, None, false).await.expect("a void");
    bench.ship().await;
}

/// Everything that is noted is forgotten, so that the whole month is sent again; how many events that are.
async fn send_everything_again(bench: &Bench) -> u64 {
    bench.app.db.write(|tx| tx.run("DELETE FROM lago_sums", &[])).await.expect("forgotten");
    again::repair(&bench.app).await.expect("sent again").events
}

/// Units and events at Lago.
fn at_lago(bench: &Bench, user: &str, code: &str) -> (String, u64) {
    bench.lago.usage(user, code).expect("a subscription and a metric")
}

fn units(units: &str, events: u64) -> (String, u64) {
    (units.to_owned(), events)
}

/// Log, notes and Lago agree, and no event was ever sent in two ways.
async fn assert_sound(bench: &Bench) {
    assert_eq!(owed::compare(&bench.app).await.expect("a comparison"), []);
    for one in reconcile::run(&bench.app, Which::All).await.expect("a comparison") {
        assert_eq!(one.differences, [], "{}", one.user);
    }
    let mut sent: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for body in bench.batches() {
        let body: Value = serde_json::from_str(&body).expect("JSON");
        for event in body["events"].as_array().expect("events") {
            sent.entry(event["transaction_id"].to_string()).or_default().insert(event.to_string());
        }
    }
    let twice: Vec<_> = sent.values().filter(|ways| ways.len() > 1).collect();
    assert!(!sent.is_empty() && twice.is_empty(), "{twice:?}");
}

#[tokio::test]
async fn what_went_out_under_one_code_stays_under_it() {
    for (database, store) in everywhere() {
        let mut bench = bench(database, store, &[LATER]).await;
        let (ada, bob) = (bench.user("ada").await, bench.user("bob").await);
        use_named(&bench, &ada, "tts", "a", &["2"; 10]).await;
        use_named(&bench, &bob, "tts", "b", &["2"; 10]).await;
        bench.ship().await;

        bench.change_catalogue(&[LATER, NEW]).await;
        use_named(&bench, &ada, "tts", "c", &["2"; 3]).await;
        bench.ship().await;
        bench.later(Duration::from_mins(5));
        assert_sound(&bench).await;
        void(&bench, "b0").await;
        let less = told(&bob, "tts", "1", bench.app.clock.now());
        corrections::adjust(&bench.app, less, true, "a mistake", false).await.expect("an adjustment");
        bench.ship().await;
        assert_eq!(send_everything_again(&bench).await, 25);
        bench.crash().await;
        assert_eq!(bench.ship().await.delivered, 0);
        assert_sound(&bench).await;
        assert_eq!(at_lago(&bench, &ada, "tts_call"), units("20.0", 10));
        assert_eq!(at_lago(&bench, &ada, "tts_new"), units("6.0", 3));
        assert_eq!(at_lago(&bench, &bob, "tts_call"), units("18.0", 11));
        // Less than nothing is nothing at Lago; the adjustment is of no entry, so it has the code of its own place.
        assert_eq!(at_lago(&bench, &bob, "tts_new"), units("0.0", 1));

        bench.change_catalogue(&[LATER]).await;
        use_named(&bench, &ada, "tts", "d", &["0.5"]).await;
        void(&bench, "c1").await;
        void(&bench, "a1").await;
        assert_eq!(send_everything_again(&bench).await, 28);
        assert_sound(&bench).await;
        assert_eq!(at_lago(&bench, &ada, "tts_call"), units("18.5", 12));
        assert_eq!(at_lago(&bench, &ada, "tts_new"), units("4.0", 4));
        assert_eq!(at_lago(&bench, &bob, "tts_call"), units("18.0", 11));
    }
}

/// What was recorded and not sent yet has the code of its place as well, in one window with what came after.
#[tokio::test]
async fn what_waits_while_the_code_changes_goes_out_under_the_code_of_its_time() {
    for database in [Database::sqlite(), Database::postgres()] {
        let mut bench = bench(database, Store::ClickHouse, &[LATER]).await;
        let ada = bench.user("ada").await;
        bench.use_some(&ada, "tts", &["1", "2"]).await;
        bench.change_catalogue(&[LATER, NEW]).await;
        bench.use_some(&ada, "tts", &["4"]).await;
        assert_eq!((bench.ship().await.delivered, bench.batches().len()), (3, 1));
        assert_sound(&bench).await;
        assert_eq!(at_lago(&bench, &ada, "tts_call"), units("3.0", 2));
        assert_eq!(at_lago(&bench, &ada, "tts_new"), units("4.0", 1));
        // Kept away from Lago from here on, and only from here on.
        bench.change_catalogue(&[("lago_code = \"tts_call\"", "lago_code = \"\"")]).await;
        bench.use_some(&ada, "tts", &["8"]).await;
        assert_eq!((bench.ship().await.delivered, send_everything_again(&bench).await), (0, 3));
        assert_sound(&bench).await;
    }
}

/// A version before this one kept no notes of codes: until now everything had those of the catalogue that the database kept.
#[tokio::test]
async fn in_a_database_from_before_what_was_sent_has_the_code_of_then() {
    for database in [Database::sqlite(), Database::postgres()] {
        let mut bench = bench(database, Store::ClickHouse, &[LATER]).await;
        let ada = bench.user("ada").await;
        use_named(&bench, &ada, "tts", "a", &["1", "2"]).await;
        bench.ship().await;
        let as_it_was = async |bench: &Bench| bench.app.db.write(|tx| tx.run("DELETE FROM lago_codes", &[])).await;
        as_it_was(&bench).await.expect("forgotten");
        let known = bench.visitor().await.db.read(lago::codes).await.expect("codes");
        let known: Vec<_> = known.iter().map(|one| (&*one.event_type, one.from_position, &*one.code)).collect();
        assert!(known.contains(&("tts", 0, "tts_call")) && known.contains(&("later", 0, "tts_new")), "{known:?}");
        as_it_was(&bench).await.expect("forgotten again");
        bench.change_catalogue(&[LATER, NEW]).await;
        bench.use_some(&ada, "tts", &["4"]).await;
        bench.ship().await;
        assert_eq!(send_everything_again(&bench).await, 3);
        void(&bench, "a0").await;
        assert_sound(&bench).await;
        assert_eq!(at_lago(&bench, &ada, "tts_call"), units("2.0", 3));
        assert_eq!(at_lago(&bench, &ada, "tts_new"), units("4.0", 1));
    }
}

/// A type that is taken out of the catalogue, or gets another name or weight, has used what it has used.
#[tokio::test]
async fn what_a_type_has_used_stays_when_the_type_goes() {
    for database in [Database::sqlite(), Database::postgres()] {
        let mut bench = bench(database, Store::ClickHouse, &[IMAGE]).await;
        let ada = bench.user("ada").await;
        use_named(&bench, &ada, "image", "a", &["1", "2"]).await;
        bench.ship().await;
        use_named(&bench, &ada, "image", "b", &["4"]).await;
        for (changes, expected) in [
            (vec![], units("7.0", 3)),
            (
                vec![(IMAGE.0, "[events.picture]\ncredits = \"3\"\nlago_code = \"pictures\"\n\n[events.stt]")],
                units("7.0", 3),
            ),
            (vec![IMAGE], units("7.0", 3)),
        ] {
            bench.change_catalogue(&changes).await;
            bench.ship().await;
            assert_eq!(send_everything_again(&bench).await, 3);
            assert_sound(&bench).await;
            assert_eq!(at_lago(&bench, &ada, "pictures"), expected, "{changes:?}");
        }
        bench.change_catalogue(&[]).await;
        void(&bench, "a1").await;
        assert_sound(&bench).await;
        assert_eq!(at_lago(&bench, &ada, "pictures"), units("5.0", 4));
    }
}

/// Whoever is in a tier that the catalogue has no more goes on being billed by the plan that they have at Lago.
#[tokio::test]
async fn what_is_used_in_a_tier_stays_when_the_tier_goes() {
    for database in [Database::sqlite(), Database::postgres()] {
        let mut bench = bench(database, Store::ClickHouse, &[]).await;
        let ada = bench.user_of("ada", Some("enterprise")).await;
        use_named(&bench, &ada, "tts", "a", &["1", "2"]).await;
        bench.ship().await;
        for changes in [&[("[tiers.enterprise]", "[tiers.grand]")][..], &[]] {
            bench.change_catalogue(changes).await;
            bench.use_some(&ada, "tts", &["4"]).await;
            bench.ship().await;
            assert_sound(&bench).await;
            send_everything_again(&bench).await;
            assert_sound(&bench).await;
        }
        assert_eq!(at_lago(&bench, &ada, "tts_call"), units("11.0", 4));
    }
}

/// Metrics of codes that the catalogue says no more, as `setup` finds them.
async fn found(bench: &Bench, mode: Mode) -> Vec<(String, Outcome)> {
    let lines = setup::run(&bench.app, mode).await.expect("a set-up").into_iter();
    lines.filter(|line| line.code.starts_with("tts")).map(|line| (line.code, line.outcome)).collect()
}

#[tokio::test]
async fn both_metrics_are_wanted_while_the_open_month_has_events_under_the_old_code() {
    let mut bench = bench(Database::sqlite(), Store::Postgres, &[LATER]).await;
    let named = |codes: &[(&str, Outcome)]| -> Vec<(String, Outcome)> {
        codes.iter().map(|(code, outcome)| ((*code).to_owned(), outcome.clone())).collect()
    };
    let ada = bench.user("ada").await;
    bench.use_some(&ada, "tts", &["1"]).await;
    bench.change_catalogue(&[NEW]).await;
    let both = named(&[("tts_new", Outcome::Found), ("tts_call", Outcome::Found)]);
    assert_eq!(found(&bench, Mode::Look).await, both, "not sent yet");
    bench.ship().await;
    assert_eq!(found(&bench, Mode::Look).await, both);
    bench.at_lago("DELETE", "/billable_metrics/tts_call", &json!(null)).await;
    assert_eq!(found(&bench, Mode::Look).await[1].1, Outcome::Missing);
    assert_eq!(found(&bench, Mode::Make).await[1].1, Outcome::Created);
    bench.clock.set("2026-12-02T09:00:00Z".parse().expect("an instant"));
    assert_eq!(found(&bench, Mode::Look).await, named(&[("tts_new", Outcome::Found)]), "that month is billed");
}
