//! The plan of a subscription at Lago follows the tier of its user, also where nothing more is used: the plan has a price.

use std::time::Duration;

use billhook::store::db::Value as Column;
use sandbox::lago::Store;

use super::bench::{Bench, everywhere};
use crate::harness::Database;

/// The orders of subscriptions that Lago got, in order.
fn orders(bench: &Bench) -> Vec<String> {
    let requests = bench.lago.requests().into_iter();
    requests.filter(|request| request.path == "/api/v1/subscriptions").map(|request| request.body).collect()
}

#[tokio::test]
async fn a_user_who_uses_nothing_more_has_the_plan_of_their_new_tier() {
    for (database, store) in everywhere() {
        let bench = Bench::new(database, store).await;
        let user = bench.user("ada").await;
        bench.use_some(&user, "inference", &["1", "2"]).await;
        assert_eq!(bench.ship().await.delivered, 2);
        assert_eq!(orders(&bench).len(), 1);
        for tier in ["enterprise", "starter"] {
            bench.later(Duration::from_hours(1));
            bench.change_tier(&user, tier).await;
            assert_eq!(bench.ship().await.trouble, None);
            assert!(orders(&bench).last().is_some_and(|order| order.contains(tier)), "{:?}", orders(&bench));
        }
        bench.ship().await;
        assert_eq!(orders(&bench).len(), 3, "each is asked for once");
        // A change of terms that is none of the tier is not Lago's.
        bench.change_tier(&user, "starter").await;
        bench.ship().await;
        assert_eq!(orders(&bench).len(), 3);
    }
}

#[tokio::test]
async fn what_was_used_before_goes_first() {
    let bench = Bench::new(Database::sqlite(), Store::Postgres).await;
    let user = bench.user("ada").await;
    bench.use_some(&user, "inference", &["1"]).await;
    bench.change_tier(&user, "enterprise").await;
    bench.change_tier(&user, "starter").await;
    assert_eq!(bench.ship().await.delivered, 1);
    let asked: Vec<bool> = ["professional", "enterprise", "starter"]
        .iter()
        .zip(orders(&bench))
        .map(|(tier, order)| order.contains(tier))
        .collect();
    assert_eq!(asked, [true, true, true]);
    let paths: Vec<String> = bench.lago.requests().into_iter().map(|request| request.path).collect();
    let first = |path: &str| paths.iter().position(|one| one.ends_with(path)).expect("asked");
    let last = paths.iter().rposition(|one| one.ends_with("/subscriptions")).expect("asked");
    assert!(first("/subscriptions") < first("/events/batch") && first("/events/batch") < last, "{paths:?}");
}

#[tokio::test]
async fn whoever_has_used_nothing_gets_no_subscription() {
    let bench = Bench::new(Database::sqlite(), Store::Postgres).await;
    let user = bench.user("ada").await;
    bench.change_tier(&user, "enterprise").await;
    bench.ship().await;
    assert_eq!(orders(&bench), [""; 0]);
}

/// A customer of Lago's whom two users have keeps the plan of the one who uses something.
#[tokio::test]
async fn nobody_changes_the_plan_of_another() {
    let bench = Bench::new(Database::sqlite(), Store::Postgres).await;
    let users = [bench.user("ada").await, bench.user("bob").await];
    for user in &users {
        let user = user.clone();
        let sql = "UPDATE users SET lago_customer_id = 'one' WHERE id = ?1";
        bench.app.db.write(move |tx| tx.run(sql, &[Column::from(user.clone())])).await.expect("one customer");
    }
    bench.use_some(&users[0], "inference", &["1"]).await;
    bench.use_some(&users[1], "inference", &["2"]).await;
    bench.ship().await;
    let before = orders(&bench).len();
    bench.change_tier(&users[0], "starter").await;
    bench.ship().await;
    assert_eq!(orders(&bench).len(), before);
    bench.use_some(&users[0], "inference", &["1"]).await;
    bench.ship().await;
    assert!(orders(&bench).last().is_some_and(|order| order.contains("starter")), "{:?}", orders(&bench));
}

/// What Lago does not sell keeps nobody's usage from it.
#[tokio::test]
async fn a_tier_that_lago_refuses_holds_up_nothing() {
    let mut bench = Bench::new(Database::sqlite(), Store::Postgres).await;
    let (user, other) = (bench.user("ada").await, bench.user("bob").await);
    bench.use_some(&user, "inference", &["1"]).await;
    bench.ship().await;
    // `lago setup` did not run since.
    bench.change_catalogue(&[("[tiers.enterprise]", "[tiers.grand]")]).await;
    bench.change_tier(&user, "grand").await;
    bench.use_some(&other, "inference", &["5"]).await;
    let shipped = bench.ship().await;
    assert_eq!((shipped.delivered, shipped.dead, shipped.trouble), (1, 0, None));
    assert!(orders(&bench).iter().any(|order| order.contains("grand")), "it was asked for");
    bench.assert_equal().await;
}
