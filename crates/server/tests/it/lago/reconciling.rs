//! What was delivered against what Lago has counted, and what is there against what the catalogue says.

use std::time::Duration;

use billhook::ops::doctor::{Report, State};
use billhook::ops::lago::examine::examine;
use billhook::ops::lago::reconcile::{self, Which};
use billhook::ops::lago::setup::{self, Mode, Outcome};
use billhook::ops::lago::{again, owed, status};
use sandbox::lago::{Fault, FaultKind, Store};
use serde_json::json;

use super::bench::{Bench, everywhere, units};
use crate::harness::Database;

async fn differences(bench: &Bench, which: Which) -> Vec<String> {
    let compared = reconcile::run(&bench.app, which).await.expect("a comparison");
    compared.iter().flat_map(|one| &one.differences).map(ToString::to_string).collect()
}

async fn faults(bench: &Bench) -> Vec<String> {
    let mut report = Report::default();
    examine(&bench.app, &mut report).await.expect("a report");
    report.0.into_iter().filter(|check| check.state != State::Ok).map(|check| check.detail).collect()
}

#[tokio::test]
async fn both_sides_agree_until_somebody_else_touches_one() {
    for (database, store) in everywhere() {
        let bench = Bench::new(database, store).await;
        let user = bench.user("ada").await;
        bench.use_some(&user, "inference", &["1", "2.5"]).await;
        bench.use_some(&user, "tts", &["0.000001"]).await;
        bench.ship().await;
        bench.later(Duration::from_mins(5));
        assert_eq!(differences(&bench, Which::All).await, [""; 0]);
        assert_eq!(faults(&bench).await, [""; 0]);
        let event = json!({ "events": [{ "transaction_id": "foreign", "external_subscription_id": user,
            "code": "inference_call", "timestamp": bench.app.clock.now().as_second(), "properties": { "units": "4" } }] });
        bench.at_lago("POST", "/events/batch", &event).await;
        let expected = "inference_call: delivered 3.5 units in 2 events, Lago has counted 7.5 units in 3 events";
        assert_eq!(differences(&bench, Which::All).await, [expected]);
        assert_eq!(status(&bench.app).await.unwrap().differing, 1);
        assert!(faults(&bench).await.iter().any(|fault| fault.contains(expected)));
        assert_eq!(differences(&bench, Which::Moved).await, [expected], "a difference is looked at again");
    }
}

#[tokio::test]
async fn events_that_lago_stored_and_does_not_bill_are_found() {
    let bench = Bench::new(Database::sqlite(), Store::Postgres).await;
    let user = bench.user("ada").await;
    bench.trouble(Fault::always("", FaultKind::StaleUsage));
    bench.use_some(&user, "inference", &["1"]).await;
    bench.ship().await;
    let stale = differences(&bench, Which::Moved).await;
    assert_eq!(stale.len(), 1, "{stale:?}");
    bench.lago.faults().clear();
    bench.use_some(&user, "inference", &["1"]).await;
    bench.ship().await;
    assert_eq!(differences(&bench, Which::Moved).await, [""; 0]);
    assert_eq!(status(&bench.app).await.unwrap().differing, 0);
    assert!(reconcile::run(&bench.app, Which::Moved).await.unwrap().len() <= 1);
}

/// What doctor says to do about faults that have these words.
async fn remedies(bench: &Bench, words: &str) -> Vec<&'static str> {
    let mut report = Report::default();
    examine(&bench.app, &mut report).await.expect("a report");
    report.0.into_iter().filter(|check| check.detail.contains(words)).filter_map(|check| check.fix).collect()
}

#[tokio::test]
async fn what_doctor_says_can_help_and_what_cannot_is_not_sent_again() {
    let bench = Bench::bare(Database::sqlite(), Store::Postgres).await;
    let plan = json!({ "plan": { "name": "P", "code": "professional", "interval": "monthly", "amount_cents": 0,
        "amount_currency": "USD", "pay_in_advance": false, "charges": [] } });
    bench.at_lago("POST", "/plans", &plan).await;
    setup::run(&bench.app, Mode::Make).await.expect("a set-up");
    let (user, other) = (bench.user("ada").await, bench.user_of("bob", Some("enterprise")).await);
    bench.use_some(&user, "inference", &["1"]).await;
    bench.use_some(&other, "inference", &["1"]).await;
    bench.ship().await;
    let event = json!({ "events": [{ "transaction_id": "foreign", "external_subscription_id": other,
        "code": "inference_call", "timestamp": bench.app.clock.now().as_second() + 1, "properties": { "units": "4" } }] });
    bench.at_lago("POST", "/events/batch", &event).await;
    bench.later(Duration::from_mins(5));
    for (words, help) in
        [("has no charge for it", "give the plan at Lago a charge"), ("Lago has counted 5 units", "find out")]
    {
        let found = remedies(&bench, words).await;
        assert!(found.len() == 1 && found[0].contains(help), "{words}: {found:?}");
    }
    assert_eq!(again::repair(&bench.app).await.expect("nothing to send"), again::Sent::default());
}

/// Lago knows the two of them as one, and bills them as one.
#[tokio::test]
async fn two_users_who_are_one_customer_at_lago_are_compared_as_one() {
    for (database, store) in everywhere() {
        let bench = Bench::new(database, store).await;
        let (one, other, alone) = (bench.user("ada").await, bench.user("bob").await, bench.user("eve").await);
        let sql = "UPDATE users SET lago_customer_id = 'both' WHERE email <> 'eve@example.com'";
        bench.app.db.write(move |tx| tx.run(sql, &[])).await.expect("one customer");
        bench.use_some(&one, "inference", &["1", "1"]).await;
        bench.use_some(&other, "inference", &["2"]).await;
        bench.use_some(&alone, "inference", &["8"]).await;
        bench.ship().await;
        bench.later(Duration::from_mins(5));
        assert_eq!(bench.at_lago_of("both"), units("4.0", 3));
        let (mut users, found) = ([one.clone(), other.clone()], faults(&bench).await);
        users.sort();
        let named = format!("users {} are one customer at Lago: both", users.join(", "));
        assert!(found.len() == 1 && found[0].starts_with(&named), "{found:?}");
        // Only what was noted of one of them is missing, and both are sent again.
        bench.app.db.write(|tx| tx.run("DELETE FROM lago_sums WHERE external_id = 'both'", &[])).await.expect("lost");
        let lost = owed::compare(&bench.app).await.expect("a comparison");
        assert_eq!(lost.len(), 1, "{lost:?}");
        assert!(lost[0].to_string().contains("4 units in 3 events"), "{lost:?}");
        assert_eq!(again::repair(&bench.app).await.expect("sent again").events, 3);
        assert_eq!(owed::compare(&bench.app).await.expect("a comparison"), []);
        assert_eq!((bench.at_lago_of("both"), faults(&bench).await.len()), (units("4.0", 3), 1));
    }
}

#[tokio::test]
async fn an_outage_is_not_a_difference() {
    let bench = Bench::new(Database::sqlite(), Store::Postgres).await;
    let user = bench.user("ada").await;
    bench.use_some(&user, "inference", &["1"]).await;
    bench.ship().await;
    bench.trouble(Fault::always("/api/v1/customers", FaultKind::status(503)));
    assert!(reconcile::run(&bench.app, Which::All).await.is_err());
    assert_eq!(status(&bench.app).await.unwrap().differing, 0);
    assert!(faults(&bench).await.iter().any(|fault| fault.contains("did not come to its end")));
}

#[tokio::test]
async fn setting_up_twice_makes_everything_once_and_names_what_differs() {
    let bench = Bench::bare(Database::sqlite(), Store::Postgres).await;
    let outcomes = async |mode| -> Vec<Outcome> {
        setup::run(&bench.app, mode).await.unwrap().into_iter().map(|line| line.outcome).collect()
    };
    assert_eq!(outcomes(Mode::Look).await, vec![Outcome::Missing; 8]);
    assert_eq!(outcomes(Mode::Make).await, vec![Outcome::Created; 8]);
    assert_eq!(outcomes(Mode::Make).await, vec![Outcome::Found; 8]);
    let other = Bench::bare(Database::sqlite(), Store::Postgres).await;
    let metric = json!({ "billable_metric": { "name": "tts", "code": "tts_call", "aggregation_type": "count_agg" } });
    other.at_lago("POST", "/billable_metrics", &metric).await;
    let plan = json!({ "plan": { "name": "Trial", "code": "trial", "interval": "monthly", "amount_cents": 100,
        "amount_currency": "USD", "pay_in_advance": false, "charges": [] } });
    other.at_lago("POST", "/plans", &plan).await;
    let lines = setup::run(&other.app, Mode::Make).await.unwrap();
    let of = |code: &str| lines.iter().find(|line| line.code == code).unwrap().outcome.clone();
    assert!(matches!(of("tts_call"), Outcome::Differs(how) if how.contains("count_agg")));
    assert!(matches!(of("trial"), Outcome::Differs(how) if how.contains("amount_cents is 100, expected 0")));
    assert_eq!(of("professional"), Outcome::Created);
}

#[tokio::test]
async fn doctor_names_what_waits_what_is_dead_and_what_is_missing() {
    let bench = Bench::bare(Database::sqlite(), Store::Postgres).await;
    let user = bench.user("ada").await;
    bench.use_some(&user, "inference", &["1"]).await;
    bench.ship().await;
    bench.use_some(&user, "inference", &["1"]).await;
    bench.later(Duration::from_mins(10));
    let faults = faults(&bench).await;
    for words in [
        "1 waiting, the oldest for 600 s",
        "1 dead letters: subscription: plan_not_found",
        "plan professional is missing",
    ] {
        assert!(faults.iter().any(|fault| fault.contains(words)), "{words} in {faults:?}");
    }
}
