//! A subscription's worth and tier follow what it is made of: price, product, coupon, customer, catalogue, time.

use std::sync::Arc;

use billhook::app::App;
use billhook::clock::{Chance, Clock};
use billhook::ops::derivation;
use billhook::store::subscriptions::Subscription;
use serde_json::{Value, json};

use super::shelf::Shelf;
use super::{assert_counts_agree, in_front_of, price, subscribed, subscription};
use crate::harness::{Plan, World};

async fn after_a_sync(world: &World) -> Subscription {
    world.sync().await;
    assert_counts_agree(&world.app).await;
    subscription(&world.app, "sub_1").await
}

#[tokio::test]
async fn a_price_whose_tiers_change_is_valued_anew() {
    let tiered = |minor: i64| {
        let mut price = price("price_1", 0, "month", 1, "usd");
        price["billing_scheme"] = json!("tiered");
        price["tiers_mode"] = json!("graduated");
        for name in ["unit_amount", "unit_amount_decimal"] {
            price[name] = Value::Null;
        }
        let bare = price.clone();
        price["tiers"] = json!([{"up_to": 10, "unit_amount": minor}, {"up_to": null, "unit_amount": 1}]);
        (price, bare)
    };
    let (whole, bare) = tiered(100);
    let shelf =
        Shelf::whole(&[("prices", vec![whole]), ("subscriptions", vec![subscribed("sub_1", "active", &[(bare, 12)])])]);
    let world = in_front_of(&shelf).await;
    assert_eq!(after_a_sync(&world).await.monthly_minor, 1_002, "the tiers stand in the list of prices only");
    shelf.put("prices", vec![tiered(200).0]);
    assert_eq!(after_a_sync(&world).await.monthly_minor, 2_002, "the subscription's own text is the same");
    // A price that is gone still says what is paid for it.
    shelf.put("prices", Vec::new());
    assert_eq!(after_a_sync(&world).await.monthly_minor, 2_002);
}

#[tokio::test]
async fn a_product_whose_metadata_changes_moves_its_subscriptions_to_another_tier() {
    let product = |tier: &str| json!({"id": "prod_1", "object": "product", "name": "P", "metadata": {"tier": tier}});
    let sold = subscribed("sub_1", "active", &[(price("price_own", 500, "month", 1, "usd"), 1)]);
    let shelf = Shelf::whole(&[("products", vec![product("starter")]), ("subscriptions", vec![sold])]);
    let world = in_front_of(&shelf).await;
    assert_eq!(after_a_sync(&world).await.tier, "starter");
    shelf.put("products", vec![product("Enterprise")]);
    assert_eq!(after_a_sync(&world).await.tier, "enterprise");
    shelf.put("products", vec![product("gold")]);
    assert_eq!(after_a_sync(&world).await.tier, "unknown", "and never silently trial");
}

fn coupon(percent: i64, products: Value) -> Value {
    json!({"id": "C", "object": "coupon", "percent_off": percent, "duration": "forever", "applies_to": {"products": products}})
}

#[tokio::test]
async fn a_coupon_that_changes_is_taken_off_anew() {
    let mut discounted = subscribed("sub_1", "active", &[(price("price_1", 1000, "month", 1, "usd"), 1)]);
    discounted["discounts"] = json!([{"id": "di_1", "object": "discount", "source": {"type": "coupon", "coupon": "C"}, "start": 1_790_000_000}]);
    let shelf = Shelf::whole(&[("coupons", vec![coupon(20, json!(["prod_1"]))]), ("subscriptions", vec![discounted])]);
    let world = in_front_of(&shelf).await;
    assert_eq!(after_a_sync(&world).await.monthly_minor, 800);
    shelf.put("coupons", vec![coupon(50, json!(["prod_1"]))]);
    assert_eq!(after_a_sync(&world).await.monthly_minor, 500);
    shelf.put("coupons", vec![coupon(50, json!(["prod_other"]))]);
    assert_eq!(after_a_sync(&world).await.monthly_minor, 1000);
}

#[tokio::test]
async fn a_customers_own_discount_holds_while_the_subscription_has_none() {
    let customer = |discount: Value| json!({"id": "cus_1", "object": "customer", "created": 5, "metadata": {}, "discount": discount});
    let discount = json!({"id": "di_1", "object": "discount", "coupon": {"id": "C", "object": "coupon", "percent_off": 10, "duration": "forever"}, "start": 1_790_000_000});
    let shelf = Shelf::whole(&[
        ("customers", vec![customer(discount)]),
        ("subscriptions", vec![subscribed("sub_1", "active", &[(price("price_1", 1000, "month", 1, "usd"), 1)])]),
    ]);
    let world = in_front_of(&shelf).await;
    assert_eq!(after_a_sync(&world).await.monthly_minor, 900);
    shelf.put("customers", vec![customer(Value::Null)]);
    assert_eq!(after_a_sync(&world).await.monthly_minor, 1000);
}

#[tokio::test]
async fn another_catalogue_derives_every_subscription_anew() {
    let world = World::new().await;
    assert_eq!(subscription(&world.app, "sub_sandbox_user").await.tier, "professional");
    let text = billing::catalogue::Catalogue::BUILT_IN
        .replace("[tiers.professional]", "[tiers.gold]")
        .replace(r#"name = "Professional""#, r#"name = "Gold""#);
    let mut config = world.app.config.clone();
    config.catalogue = billing::catalogue::Catalogue::parse(&text).expect("a catalogue");
    let clock: Arc<dyn Clock> = Arc::clone(&world.clock) as _;
    let app = App::build(config.clone(), Arc::clone(&clock), Chance::seeded(8)).await.expect("a program");
    assert_eq!(subscription(&app, "sub_sandbox_user").await.tier, "gold");
    assert_counts_agree(&app).await;
    let stats = billhook::ops::revenue::overview(&app).await.expect("statistics").value.stats;
    let gold = stats.tiers.iter().find(|line| line.tier == "gold").expect("a line");
    assert_eq!((gold.count, gold.revenue.minor(), stats.monthly.minor()), (70, 343_000, 499_000));
    // And back again: the same rows as before.
    let again = App::build(world.app.config.clone(), clock, Chance::seeded(9)).await.expect("a program");
    assert_eq!(subscription(&again, "sub_sandbox_user").await.tier, "professional");
}

#[tokio::test]
async fn a_coupon_that_runs_out_changes_the_worth_at_its_second() {
    let world = World::planned(Plan::default()).await;
    world.at_stripe("POST", "/v1/coupons", "id=THREE&duration=repeating&duration_in_months=3&percent_off=50").await;
    let form = "customer=cus_sandbox_130&items[0][price]=price_professional_monthly&discounts[0][coupon]=THREE\
        &collection_method=send_invoice&days_until_due=30";
    let made = world.at_stripe("POST", "/v1/subscriptions", form).await;
    let id = made["id"].as_str().expect("an id");
    world.sync().await;
    let revenue =
        async || billhook::ops::revenue::overview(&world.app).await.expect("statistics").value.stats.monthly.wire();
    assert_eq!((subscription(&world.app, id).await.monthly_minor, revenue().await.as_str()), (2450, "5014.50"));
    for (instant, minor, whole) in
        [("2027-02-22T09:59:59Z", 2450, "5014.50"), ("2027-02-22T10:00:00Z", 4900, "5039.00")]
    {
        world.clock.set(instant.parse().expect("instant"));
        derivation::follow_time(&world.app).await.expect("time");
        let row = subscription(&world.app, id).await;
        assert_eq!((row.monthly_minor, revenue().await.as_str()), (minor, whole), "{instant}");
    }
    assert_eq!(subscription(&world.app, id).await.value_until, None, "nothing else runs out");
    assert_counts_agree(&world.app).await;
}
