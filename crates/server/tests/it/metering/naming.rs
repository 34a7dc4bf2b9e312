//! Which event an id names: a producer's ids are its own, and a correction never guesses (I-04).

use billhook::error::Error;
use billhook::ops::usage::naming::Which;
use billhook::ops::usage::{self, Told, Verdict, corrections, history};
use billhook::store::log::Source;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{EVENTS, Meter, fault};
use crate::harness::{Database, Plan, event, instant};

const ONE: &str = "application/cloudevents+json";
const MANY: &str = "application/cloudevents-batch+json";
const ULID: &str = "01KAN9SRY0W6V9T0YQW1X2Z3AB";

async fn meter(database: Database) -> Meter {
    Meter::planned(Plan { stripe: None, database, ..Plan::default() }).await
}

fn cloud_event(meter: &Meter, id: &str, source: &str, quantity: u32) -> Value {
    json!({ "specversion": "1.0", "id": id, "source": source, "type": "tts", "subject": meter.user,
        "time": "2026-11-22T09:59:50Z", "data": { "quantity": quantity } })
}

fn told(meter: &Meter, id: &str, at: &str, source: Source) -> Told {
    let properties = Some(r#"{"quantity":7}"#.to_owned());
    Told { properties, source, ..event(id, &meter.user, "tts", "7", instant(at)) }
}

/// What a void would take back, or what it says instead.
async fn looked(meter: &Meter, id: &str, which: impl Into<Which>) -> Result<String, Error> {
    corrections::void(&meter.world.app, id, which, true).await.map(|found| found.quantity.to_string())
}

async fn producers(database: Database) {
    let meter = meter(database).await;
    for (nth, id) in ["1", ULID].into_iter().enumerate() {
        for (source, quantity) in [("/gateway", 2), ("/embedder", 2), ("/worker", 5)] {
            let event = cloud_event(&meter, id, source, quantity).to_string();
            assert_eq!(meter.post_as(EVENTS, ONE, &event).await.status, 201, "{id} {source}");
            assert_eq!(meter.post_as(EVENTS, ONE, &event).await.status, 200, "{id} {source}: the same again");
            let other = cloud_event(&meter, id, source, quantity + 1).to_string();
            assert_eq!(fault(&meter.post_as(EVENTS, ONE, &other).await).0, 409, "{id} {source}: something else");
        }
        assert_eq!(meter.used("tts").await, json!(9 * (nth + 1)));
    }
    // Our own notation has ids of its own as well; and all of it in one batch.
    assert_eq!(meter.post(EVENTS, &meter.changed("1", "type", json!("tts")).to_string()).await.status, 201);
    let batch = json!([
        cloud_event(&meter, "b", "/x", 1),
        cloud_event(&meter, "b", "/y", 1),
        cloud_event(&meter, "b", "/x", 1)
    ]);
    let answer = meter.post_as(EVENTS, MANY, &batch.to_string()).await.json();
    assert_eq!((&answer["recorded"], &answer["duplicates"]), (&json!(2), &json!(1)), "{answer}");
}

#[tokio::test]
async fn a_cloud_events_id_is_its_own_only_with_its_source() {
    producers(Database::sqlite()).await;
    producers(Database::postgres()).await;
}

/// A version before this one kept a CloudEvent under its id alone.
async fn upgraded(database: Database) {
    let meter = meter(database).await;
    let before = [told(&meter, "old", "2026-11-22T09:59:50Z", Source::CloudEvents)];
    let own = [told(&meter, "own", "2026-11-22T09:59:50Z", Source::Own)];
    usage::record(&meter.world.app, [before, own].concat()).await.expect("recorded");
    let batch = json!([
        cloud_event(&meter, "old", "/a", 7),
        cloud_event(&meter, "old", "/a", 8),
        cloud_event(&meter, "own", "/a", 7)
    ]);
    let answer = meter.post_as(EVENTS, MANY, &batch.to_string()).await.json();
    let words: Vec<_> = answer["results"].as_array().expect("results").iter().map(|one| &one["status"]).collect();
    assert_eq!(words, ["duplicate", "conflict", "recorded"], "{answer}");
    let mut timeless = cloud_event(&meter, "old", "/a", 7);
    timeless.as_object_mut().expect("object").remove("time");
    assert_eq!(meter.post_as(EVENTS, ONE, &timeless.to_string()).await.status, 200);
}

#[tokio::test]
async fn a_cloud_event_that_is_there_from_before_stays_a_duplicate() {
    upgraded(Database::sqlite()).await;
    upgraded(Database::postgres()).await;
}

#[tokio::test]
async fn a_void_finds_whatever_was_counted_under_the_id() {
    let meter = meter(Database::sqlite()).await;
    let app = &meter.world.app;
    // Older than any window, from a reservation, from a producer.
    let old = told(&meter, "bf-5", "2024-06-10T10:00:00Z", Source::Backfill);
    history::backfill(app, "run", vec![old]).await.expect("history");
    let hold = json!({ "id": "only-res-1", "user_id": meter.user, "type": "tts", "quantity": 5, "ttl_seconds": 60 });
    assert_eq!(meter.post("/api/v1/usage/reservations", &hold.to_string()).await.status, 201);
    let commit = "/api/v1/usage/reservations/only-res-1/commit";
    assert_eq!(meter.post(commit, &json!({ "quantity": 4 }).to_string()).await.status, 200);
    meter.post_as(EVENTS, ONE, &cloud_event(&meter, "c-1", "/gateway", 3).to_string()).await;
    for (id, quantity) in [("bf-5", "-7"), ("only-res-1", "-4"), ("c-1", "-3")] {
        assert_eq!(looked(&meter, id, None).await.expect(id), quantity, "{id}");
    }
    let at: Timestamp = "2024-06-10T10:00:00Z".parse().expect("an instant");
    assert_eq!(looked(&meter, "bf-5", Some(at)).await.expect("found"), "-7");
    assert!(matches!(looked(&meter, "only-res-1", Some(at)).await, Err(Error::NotFound)), "not on that day");
    assert!(matches!(looked(&meter, "bf-6", None).await, Err(Error::NotFound)));
    let void = async || corrections::void(app, "only-res-1", None, false).await.expect("a void").verdict;
    assert!(matches!(void().await, Some(Verdict::Recorded { .. })));
    assert!(matches!(void().await, Some(Verdict::Duplicate { .. })), "at most once");
    assert_eq!(meter.used("tts").await, 3);
}

#[tokio::test]
async fn which_of_several_is_said_and_not_guessed() {
    let meter = meter(Database::sqlite()).await;
    for (source, quantity) in [("/gateway", 2), ("/embedder", 5)] {
        meter.post_as(EVENTS, ONE, &cloud_event(&meter, "1", source, quantity).to_string()).await;
    }
    usage::record(&meter.world.app, vec![told(&meter, "1", "2026-11-20T10:00:00Z", Source::Own)]).await.expect("one");
    for which in [Which::Only, Which::At("2026-11-22T00:00:00Z".parse().expect("an instant"))] {
        let Err(Error::Conflict { detail, .. }) = looked(&meter, "1", which).await else { panic!("guessed") };
        for position in ["2 (2 tts of usr_", "3 (5 tts of usr_"] {
            assert!(detail.contains(position), "{detail}");
        }
    }
    let day: Timestamp = "2026-11-20T23:00:00Z".parse().expect("an instant");
    assert_eq!(looked(&meter, "1", Some(day)).await.expect("one that day"), "-7");
    assert_eq!(looked(&meter, "1", Which::Position(3)).await.expect("that one"), "-5");
    assert!(matches!(looked(&meter, "1", Which::Position(1)).await, Err(Error::NotFound)), "another id");
}

/// I-04: a sender that stamps its event anew each time it sends it, over midnight (UTC).
async fn i04_an_event_that_is_stamped_anew_counts_once(database: Database) {
    let meter = meter(database).await;
    for id in ["order-1", ULID, "0193508a-1111-7000-8000-000000000001"] {
        let at = |time: &str| meter.changed(id, "timestamp", json!(time)).to_string();
        assert_eq!(meter.post(EVENTS, &at("2026-11-20T23:59:59Z")).await.status, 201, "{id}");
        for other in ["2026-11-21T00:00:01Z", "2026-11-21T23:59:59Z", "2026-11-19T00:00:00Z", "2026-11-20T00:00:00Z"] {
            let expected = (409, "usage.conflict".into(), vec!["/timestamp".into()]);
            assert_eq!(fault(&meter.post(EVENTS, &at(other)).await), expected, "{id} {other}");
        }
        assert_eq!(meter.post(EVENTS, &at("2026-11-20T23:59:59Z")).await.status, 200, "{id}: the same again");
        assert_eq!(meter.post(EVENTS, &at("2026-11-22T00:00:00Z")).await.status, 201, "{id}: days later it is another");
    }
    let at = |id: &str, time: &str| meter.changed(id, "timestamp", json!(time));
    let batch =
        json!([at("b", "2026-11-21T23:59:59Z"), at("b", "2026-11-22T00:00:01Z"), at("c", "2026-11-22T00:00:01Z")]);
    let answer = meter.post(EVENTS, &batch.to_string()).await.json();
    assert_eq!((&answer["recorded"], &answer["rejected"]), (&json!(2), &json!(1)));
    assert_eq!(answer["results"][1]["status"], "conflict");
    assert_eq!(answer["results"][1]["pointer"], "/1/timestamp");
    assert_eq!(meter.used("inference").await, 3 * (2 * 3 + 2));
}

on_each_database!(i04_an_event_that_is_stamped_anew_counts_once);

/// I-04: the same commit again, with the time at which it is sent, over midnight; the hold is forgotten by then.
#[tokio::test]
async fn i04_a_commit_that_is_stamped_anew_counts_once() {
    let meter = meter(Database::sqlite()).await;
    let commit = async |id: &str, time: &str| {
        let body = json!({ "quantity": 2, "timestamp": time, "user_id": meter.user, "type": "inference" });
        let answer = meter.post(&format!("/api/v1/usage/reservations/{id}/commit"), &body.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.shown());
        answer.json()["position"].clone()
    };
    let [before, after] = ["2026-11-21T23:59:59Z", "2026-11-22T00:00:01Z"];
    assert_eq!(commit("mine-1", before).await, commit("mine-1", after).await);
    let (one, other) = tokio::join!(commit("mine-2", before), commit("mine-2", after));
    assert_eq!(one, other);
    assert_eq!(meter.used("inference").await, 4);
}
