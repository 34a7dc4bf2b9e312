//! A Lago that does not have a customer or a subscription that it had: another one behind the address, an old copy of it, or
//! somebody who ended it by hand. It takes what is sent there and bills none of it, until it is made again.

use std::time::Duration;

use billhook::ops::lago::again;
use billhook::ops::lago::reconcile::{self, Which};
use billhook::ops::lago::replay;
use sandbox::lago::{Fault, FaultKind, Store};
use serde_json::Value;

use super::bench::{Bench, everywhere, units};
use crate::harness::Database;

const HOUR: Duration = Duration::from_hours(1);

/// What the comparison of all finds.
async fn differences(bench: &Bench) -> Vec<String> {
    let compared = reconcile::run(&bench.app, Which::All).await.expect("a comparison");
    compared.iter().flat_map(|one| &one.differences).map(ToString::to_string).collect()
}

/// Somebody who has used so much of inference, and Lago knows of it.
async fn shipped(database: Database, store: Store, quantities: &[&str]) -> (Bench, String) {
    let bench = Bench::new(database, store).await;
    let user = bench.user("ada").await;
    bench.use_some(&user, "inference", quantities).await;
    bench.ship().await;
    (bench, user)
}

#[tokio::test]
async fn another_lago_gets_customer_subscription_and_what_was_used_in_the_open_month() {
    for (database, store) in everywhere() {
        let (mut bench, user) = shipped(database, store, &["1", "2"]).await;
        bench.later(24 * HOUR);
        bench.change_lago(store).await;
        bench.use_some(&user, "inference", &["4"]).await;
        bench.ship_through().await;
        bench.later(HOUR);
        assert_eq!(bench.at_lago_of(&user), units("7.0", 3));
        bench.assert_equal().await;
        bench.assert_sound().await;
    }
}

#[tokio::test]
async fn an_old_copy_of_lago_is_named_and_gets_everything_again() {
    for (database, store) in everywhere() {
        let (mut bench, user) = shipped(database, store, &["1", "2"]).await;
        bench.later(24 * HOUR);
        bench.lose_lago(store).await;
        bench.use_some(&user, "inference", &["4"]).await;
        bench.ship().await;
        bench.later(HOUR);
        for _ in 0..2 {
            let found = differences(&bench).await;
            assert!(found.len() == 1 && found[0].contains("customer_not_found"), "{found:?}");
        }
        let sent = again::repair(&bench.app).await.expect("sent again");
        assert_eq!((sent.users, sent.events, sent.trouble), (1, 3, None));
        assert_eq!(bench.at_lago_of(&user), units("7.0", 3));
        bench.later(HOUR);
        bench.assert_equal().await;
        bench.assert_sound().await;
    }
}

#[tokio::test]
async fn what_somebody_ended_at_lago_is_made_again_with_everything_that_was_not_billed() {
    for (store, path) in [
        (Store::Postgres, "/subscriptions"),
        (Store::Postgres, "/customers"),
        (Store::ClickHouse, "/subscriptions"),
        (Store::ClickHouse, "/customers"),
    ] {
        let (bench, user) = shipped(Database::sqlite(), store, &["1"]).await;
        bench.later(HOUR);
        bench.at_lago("DELETE", &format!("{path}/{user}"), &Value::Null).await;
        bench.later(HOUR);
        bench.use_some(&user, "inference", &["2", "4"]).await;
        bench.ship().await;
        bench.later(HOUR);
        let found = differences(&bench).await;
        assert!(found.len() == 1 && found[0].contains("Lago has no"), "{found:?}");
        assert!(!bench.faults().await.is_empty());
        again::repair(&bench.app).await.expect("sent again");
        bench.use_some(&user, "inference", &["8"]).await;
        bench.ship().await;
        // The first one is on the invoice that Lago made at the end.
        assert_eq!(bench.at_lago_of(&user), units("14.0", 3), "{path}");
        bench.later(HOUR);
        bench.assert_sound().await;
    }
}

/// The next look at Lago mends it, without anybody who says so.
#[tokio::test]
async fn the_hourly_comparison_is_enough() {
    for (database, store) in everywhere() {
        let (mut bench, user) = shipped(database, store, &["1"]).await;
        bench.lose_lago(store).await;
        bench.use_some(&user, "inference", &["2"]).await;
        bench.ship().await;
        again::mend(&bench.app).await.expect("compared");
        bench.ship().await;
        assert_eq!(bench.at_lago_of(&user), units("3.0", 2));
        bench.later(HOUR);
        bench.assert_sound().await;
    }
}

#[tokio::test]
async fn who_cannot_be_made_again_is_named_until_it_is_done() {
    let (mut bench, user) = shipped(Database::sqlite(), Store::Postgres, &["1"]).await;
    bench.lose_lago(Store::Postgres).await;
    bench.trouble(Fault::always("/api/v1/subscriptions", FaultKind::status(422)).method("POST"));
    bench.use_some(&user, "inference", &["2"]).await;
    bench.ship().await;
    for _ in 0..2 {
        again::mend(&bench.app).await.expect("compared");
        bench.ship().await;
        let found = differences(&bench).await;
        assert!(found.len() == 1 && found[0].contains("Lago has no subscription that runs"), "{found:?}");
    }
    bench.lago.faults().clear();
    bench.use_some(&user, "inference", &["4"]).await;
    replay::ask(&bench.app, None).await.expect("asked");
    bench.ship().await;
    assert_eq!(bench.at_lago_of(&user), units("7.0", 3));
    bench.later(HOUR);
    bench.assert_sound().await;
}

#[tokio::test]
async fn a_change_of_tier_makes_what_is_gone_again_with_its_beginning() {
    for store in [Store::Postgres, Store::ClickHouse] {
        let (bench, user) = shipped(Database::sqlite(), store, &["1"]).await;
        bench.later(HOUR);
        bench.at_lago("DELETE", &format!("/subscriptions/{user}"), &Value::Null).await;
        bench.later(HOUR);
        bench.use_some(&user, "inference", &["2"]).await;
        bench.ship().await;
        bench.later(HOUR);
        bench.change_tier(&user, "enterprise").await;
        bench.use_some(&user, "inference", &["4"]).await;
        bench.ship().await;
        assert_eq!(bench.at_lago_of(&user), units("6.0", 2));
        bench.later(HOUR);
        bench.assert_sound().await;
    }
}

/// Somebody who has left and was ended at Lago is nobody's fault.
#[tokio::test]
async fn who_uses_nothing_any_more_may_be_ended_at_lago() {
    let (bench, user) = shipped(Database::sqlite(), Store::Postgres, &["1"]).await;
    bench.go_to("2026-12-05T09:00:00Z");
    bench.at_lago("DELETE", &format!("/subscriptions/{user}"), &Value::Null).await;
    bench.assert_sound().await;
    assert_eq!(again::repair(&bench.app).await.expect("nothing to do"), again::Sent::default());
}
