//! What Stripe no longer has leaves the mirror; what somebody only fails to show does not.

use billhook::store::mirror::Resource;
use serde_json::{Value, json};

use super::shelf::{self, Shelf};
use super::{assert_mirror_is_stripe, ids, in_front_of, subscription};
use crate::harness::World;

#[tokio::test]
async fn a_deleted_customer_goes_with_the_worth_of_its_subscription() {
    let world = World::new().await;
    let admin = world.admin().await;
    world.at_stripe("DELETE", "/v1/customers/cus_sandbox_110", "").await;
    let outcome = world.sync().await;
    assert_eq!(outcome.deleted, 1);
    assert_mirror_is_stripe(&world).await;
    let stats = world.get("/api/v1/admin/billing/stats", &admin).await.json();
    assert_eq!((&stats["total_customers"], &stats["active_subscriptions"]), (&json!(149), &json!(119)));
    assert_eq!(stats["monthly_revenue"].to_string(), "4891.0");
    assert_eq!(subscription(&world.app, "sub_sandbox_110").await.status.as_str(), "canceled");
}

#[tokio::test]
async fn a_canceled_subscription_is_none_and_worth_nothing() {
    let world = World::new().await;
    let token = world.ada().await;
    world.at_stripe("DELETE", "/v1/subscriptions/sub_sandbox_user", "").await;
    world.sync().await;
    let answer = world.get("/api/v1/billing/subscription", &token).await.json();
    assert_eq!((&answer["status"], &answer["current_period_end"]), (&json!("none"), &Value::Null));
    let stats = world.get("/api/v1/admin/billing/stats", &world.admin().await).await.json();
    assert_eq!(stats["monthly_revenue"].to_string(), "4941.0");
}

#[tokio::test]
async fn a_deleted_coupon_is_gone_and_still_takes_off_where_it_was_applied() {
    let world = World::new().await;
    let before = subscription(&world.app, "sub_sandbox_061").await;
    assert_eq!((before.amount_minor, before.monthly_minor), (Some(7000), 5600), "20 % off for good");
    world.at_stripe("DELETE", "/v1/coupons/FOUNDING20", "").await;
    assert_eq!(world.sync().await.deleted, 1);
    assert!(!ids(&world.app, Resource::Coupons).await.contains("FOUNDING20"));
    assert_eq!(subscription(&world.app, "sub_sandbox_061").await.monthly_minor, 5600);
    assert_mirror_is_stripe(&world).await;
}

#[tokio::test]
async fn a_detached_payment_method_is_no_longer_shown() {
    let world = World::new().await;
    let token = world.ada().await;
    let list = || world.get("/api/v1/billing/payment-methods", &token);
    assert_eq!(list().await.json().as_array().map(Vec::len), Some(1));
    world.at_stripe("POST", "/v1/payment_methods/pm_sandbox_user/detach", "").await;
    world.sync().await;
    assert_eq!(list().await.body, "[]");
    assert_mirror_is_stripe(&world).await;
}

#[tokio::test]
async fn a_deleted_object_that_comes_back_is_there_again() {
    let gone = json!({"id": "cus_1", "object": "customer", "created": 5, "metadata": {}});
    let shelf = Shelf::whole(&[("customers", vec![gone.clone()])]);
    let world = in_front_of(&shelf).await;
    let there = || async { (world.sync().await.deleted, ids(&world.app, Resource::Customers).await.len()) };
    assert_eq!(there().await, (0, 1));
    shelf.put("customers", Vec::new());
    assert_eq!(there().await, (1, 0));
    shelf.put("customers", vec![gone]);
    assert_eq!(there().await, (0, 1));
    super::assert_counts_agree(&world.app).await;
}

#[tokio::test]
async fn a_404_that_is_not_stripes_deletes_nothing() {
    let rows = ["cus_1", "cus_2"].map(|id| json!({"id": id, "object": "customer", "created": 5, "metadata": {}}));
    let shelf = Shelf::whole(&[("customers", rows.to_vec())]);
    let world = in_front_of(&shelf).await;
    world.sync().await;
    let first = rows[0].clone();
    shelf.by_hand(move |asked| match asked.path.as_str() {
        "/v1/customers" => Some((200, shelf::list(&[&first], false))),
        "/v1/customers/cus_2" => Some((404, "<html>the proxy knows no such page</html>".to_owned())),
        _ => None,
    });
    world.sync_result().await.expect_err("nobody knows");
    assert_eq!(ids(&world.app, Resource::Customers).await.len(), 2);
}

/// A server that shows lists and no single objects: what a list leaves out is not there to be asked for, and not gone either.
#[tokio::test]
async fn an_object_that_cannot_be_asked_for_is_not_gone() {
    let rows = ["cus_1", "cus_2"].map(|id| json!({"id": id, "object": "customer", "created": 5, "metadata": {}}));
    let shelf = Shelf::whole(&[("customers", rows.to_vec())]);
    let world = in_front_of(&shelf).await;
    world.sync().await;
    shelf.put("customers", rows[..1].to_vec());
    shelf.by_hand(|asked| {
        let single = asked.path.starts_with("/v1/customers/");
        single.then(|| shelf::refusal("", "Unrecognized request URL (GET: /v1/customers/cus_2).", ""))
    });
    let outcome = world.sync().await;
    assert_eq!((outcome.deleted, ids(&world.app, Resource::Customers).await.len()), (0, 2));
    assert!(outcome.faults.iter().any(|(list, fault)| *list == "customers" && fault.contains("cannot be asked for")));
    // And nobody is told that a customer of such a server has nothing.
    let (_, token) = world.user("new@example.com", Some("cus_9"), false).await;
    world.app.db.write(|tx| tx.run("DELETE FROM syncs WHERE resource = 'subscriptions'", &[])).await.expect("unread");
    assert_eq!(world.get("/api/v1/billing/subscription", &token).await.status, 500);
}
