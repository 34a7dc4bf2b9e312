//! `billhook lago …` with the real binary.

use std::sync::Arc;
use std::time::Duration;

use billhook::clock::Clock as _;
use billhook::clock::{Manual, System};
use billhook::ops::lago::event::open_from;
use billhook::ops::lago::replay;
use sandbox::lago::{Lago, Store};
use serde_json::json;

use super::bench::{Bench, KEY, start};
use crate::harness::Database;
use crate::harness::program::{Done, Program};
use crate::harness::{client, send};

/// A binary whose Lago is this one.
fn at_lago(lago: &Lago) -> Program {
    Program::new().with("LAGO_API_URL", &lago.base_url()).with("LAGO_API_KEY", KEY)
}

async fn run(program: &Arc<Program>, args: &'static [&'static str]) -> Done {
    let program = Arc::clone(program);
    tokio::task::spawn_blocking(move || program.run(args)).await.expect("a run")
}

#[tokio::test]
async fn setup_status_dead_and_reconcile_say_what_they_found() {
    let clock = Arc::new(Manual::at(System.now()));
    let lago = start(Store::Postgres, &clock).await;
    let program = Arc::new(at_lago(&lago));
    let made = run(&program, &["lago", "setup"]).await;
    assert_eq!((made.code, made.stdout.matches("created").count()), (Some(0), 8), "{made:?}");
    let found = run(&program, &["lago", "setup", "--json"]).await.objects();
    assert!(found.len() == 8 && found.iter().all(|line| line["outcome"] == "found"), "{found:?}");
    let status = run(&program, &["lago", "status", "--json"]).await.objects().remove(0);
    assert_eq!((status["waiting"].as_i64(), status["dead_letters"].as_i64()), (Some(0), Some(0)), "{status}");
    assert_eq!(run(&program, &["lago", "dead"]).await.stdout, "");
    assert_eq!(run(&program, &["lago", "reconcile"]).await.line(), "0 subscriptions compared, 0 differ");
    assert_eq!(run(&program, &["lago", "replay", "bh1-u-0-0"]).await.code, Some(1));
    assert_eq!(run(&program, &["lago", "replay"]).await.code, Some(2));
}

#[tokio::test]
async fn reconcile_names_what_is_dead_and_replay_puts_nothing_away_that_can_be_sent() {
    let bench = Bench::bare(Database::sqlite(), Store::Postgres).await;
    let user = bench.user("ada").await;
    bench.use_some(&user, "inference", &["3", "4"]).await;
    bench.ship().await;
    let program = Arc::new(at_lago(&bench.lago).with("DATABASE_URL", &bench.database.address()));
    let done = run(&program, &["lago", "reconcile"]).await;
    let named = format!("user {user}, inference_call: 7 units in 2 events are dead letters");
    assert_eq!((done.code, done.stdout.contains(&named)), (Some(1), true), "{done:?}");
    let done = run(&program, &["lago", "reconcile", "--json"]).await;
    assert!(done.stdout.contains("\"dead\":\"7 units in 2 events\""), "{done:?}");
    let letter = replay::list(&bench.app, "", 1).await.expect("letters").remove(0).transaction_id;
    let letter: &'static str = Box::leak(letter.into_boxed_str());
    let args: &'static [&'static str] = Box::leak(vec!["lago", "replay", "--forget", letter].into_boxed_slice());
    let done = run(&program, args).await;
    assert_eq!((done.code, done.stderr.contains("put the reason right")), (Some(1), true), "{done:?}");
}

#[tokio::test]
async fn setup_says_from_when_on_usage_is_sent_and_takes_another_day() {
    let clock = Arc::new(Manual::at(System.now()));
    let lago = start(Store::Postgres, &clock).await;
    let program = Arc::new(at_lago(&lago));
    let first = open_from(System.now().as_millisecond());
    let first = jiff::Timestamp::from_millisecond(first).expect("an instant").to_string();
    let made = run(&program, &["lago", "setup"]).await;
    assert!(made.stderr.contains(&first), "{made:?}");
    let chosen = run(&program, &["lago", "setup", "--from", "2026-02-03"]).await;
    assert_eq!((chosen.code, chosen.stderr.contains("2026-02-03T00:00:00Z")), (Some(0), true), "{chosen:?}");
    let status = run(&program, &["lago", "status", "--json"]).await.objects().remove(0);
    assert_eq!(status["from"], "2026-02-03T00:00:00Z", "{status}");
    assert!(run(&program, &["lago", "status"]).await.stdout.contains("2026-02-03T00:00:00Z"));
    assert_eq!(run(&program, &["lago", "setup", "--from", "soon"]).await.code, Some(2));
}

#[tokio::test]
async fn without_lago_the_command_says_what_is_missing() {
    let program = Arc::new(Program::new());
    let done = run(&program, &["lago", "status"]).await;
    assert_eq!(
        (done.code, done.stdout.as_str(), done.stderr.contains("LAGO_API_URL")),
        (Some(78), "", true),
        "{done:?}"
    );
}

#[tokio::test]
async fn a_lago_that_is_away_is_an_error_and_not_an_empty_list() {
    let clock = Arc::new(Manual::at(System.now()));
    let lago = start(Store::Postgres, &clock).await;
    let program = Arc::new(at_lago(&lago));
    lago.stop().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let done = run(&program, &["lago", "setup"]).await;
    assert_eq!((done.code, done.stderr.contains("lago.unavailable")), (Some(1), true), "{done:?}");
}

/// An older database was put back: Lago has counted for somebody whom it does not know.
#[tokio::test]
async fn who_is_known_to_lago_alone_is_a_difference() {
    let clock = Arc::new(Manual::at(System.now()));
    let lago = start(Store::Postgres, &clock).await;
    let program = Arc::new(at_lago(&lago));
    assert_eq!(run(&program, &["lago", "setup"]).await.code, Some(0));
    let hour_ago = clock.now() - jiff::SignedDuration::from_hours(1);
    // The oldest stands on the last page of the list.
    for number in 0..120 {
        let id = format!("usr_only_lago_{number}");
        let subscription = json!({ "subscription": { "external_id": id, "external_customer_id": id,
            "plan_code": "professional", "subscription_at": hour_ago.to_string() } });
        post(&lago, "/subscriptions", &subscription).await;
    }
    assert_eq!(
        run(&program, &["lago", "reconcile"]).await.line(),
        "0 subscriptions compared, 0 differ",
        "nothing is used"
    );
    let event = json!({ "events": [{ "transaction_id": "gone", "external_subscription_id": "usr_only_lago_0",
        "code": "inference_call", "timestamp": clock.now().as_second(), "properties": { "units": "4" } }] });
    post(&lago, "/events/batch", &event).await;
    let done = run(&program, &["lago", "reconcile"]).await;
    let named: Vec<&str> = done.stdout.lines().collect();
    assert_eq!((done.code, named.len()), (Some(1), 2), "{done:?}");
    assert!(named[0].starts_with("usr_only_lago_0  "), "{done:?}");
    let counted = "inference_call: delivered 0 units in 0 events, Lago has counted 4 units in 1 events";
    assert!(named[0].contains(counted), "{done:?}");
    assert_eq!(named[1], "1 subscriptions compared, 1 differ");
    let told = run(&program, &["lago", "reconcile", "--json"]).await.objects();
    assert_eq!((told.len(), &told[0]["external_id"]), (1, &json!("usr_only_lago_0")));
}

/// Something that is asked of Lago past the program.
async fn post(lago: &Lago, path: &str, body: &serde_json::Value) {
    let (url, bearer) = (format!("{}/api/v1{path}", lago.base_url()), format!("Bearer {KEY}"));
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let answer = send(&client(), "POST", &url, &headers, &body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}
