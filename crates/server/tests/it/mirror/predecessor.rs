//! The defects of the program that came before this one, each with the proof that it cannot occur here.

use billing::money::Money;
use serde_json::{Value, json};

use super::shelf::Shelf;
use super::{in_front_of, price, subscribed, subscription};
use crate::harness::{Plan, World};

fn customer(id: &str, email: &str) -> Value {
    json!({"id": id, "object": "customer", "created": 1_790_000_000, "email": email, "metadata": {"secret": "canary_metadata"}})
}

/// A program that has read these subscriptions of cus_1.
async fn with(subscriptions: Vec<Value>) -> World {
    let shelf =
        Shelf::whole(&[("customers", vec![customer("cus_1", "a@example.com")]), ("subscriptions", subscriptions)]);
    let world = in_front_of(&shelf).await;
    world.sync().await;
    world
}

async fn stats(world: &World) -> Value {
    world.get("/api/v1/admin/billing/stats", &world.admin().await).await.json()
}

async fn own(world: &World, page: &str) -> crate::harness::Answer {
    let token = world.user("a@example.com", Some("cus_1"), false).await.1;
    world.get(&format!("/api/v1/billing/{page}"), &token).await
}

/// The worth a month of one active subscription with these items.
async fn worth(items: &[(Value, i64)]) -> i64 {
    let world = with(vec![subscribed("sub_1", "active", items)]).await;
    subscription(&world.app, "sub_1").await.monthly_minor
}

#[tokio::test]
async fn p4a02_revenue_and_customers_beyond_the_first_hundred_count() {
    let paying = |number: usize| {
        let mut one = subscribed(
            &format!("sub_{number:03}"),
            "active",
            &[(price("price_starter_monthly", 1900, "month", 1, "usd"), 1)],
        );
        one["customer"] = json!(format!("cus_{number:03}"));
        one
    };
    let people = (0..230).map(|number| customer(&format!("cus_{number:03}"), "x@example.com")).collect();
    let shelf = Shelf::whole(&[("customers", people), ("subscriptions", (0..230).map(paying).collect())]);
    let world = in_front_of(&shelf).await;
    world.sync().await;
    let stats = stats(&world).await;
    assert_eq!((&stats["total_customers"], &stats["active_subscriptions"]), (&json!(230), &json!(230)));
    assert_eq!(stats["monthly_revenue"].to_string(), "4370.0");
}

#[tokio::test]
async fn p4a03_every_item_and_every_piece_counts() {
    let items = [(price("price_1", 1000, "month", 1, "usd"), 3), (price("price_2", 250, "month", 1, "usd"), 2)];
    assert_eq!(worth(&items).await, 3500);
    let world = with(vec![subscribed("sub_1", "active", &items)]).await;
    let answer = own(&world, "subscription").await;
    assert!(answer.body.contains("\"amount\":35.00,\"interval\":\"month\""), "{}", answer.body);
}

#[tokio::test]
async fn p4a03_a_price_without_an_amount_empties_no_list() {
    let mut unknown = price("price_tiered", 0, "month", 1, "usd");
    unknown["billing_scheme"] = json!("tiered");
    unknown["tiers_mode"] = json!("volume");
    (unknown["unit_amount"], unknown["unit_amount_decimal"]) = (Value::Null, Value::Null);
    let mut metered = price("price_metered", 1, "month", 1, "usd");
    metered["recurring"]["usage_type"] = json!("metered");
    let world = with(vec![
        subscribed("sub_1", "active", &[(unknown, 1)]),
        subscribed("sub_2", "active", &[(metered, 1)]),
        subscribed("sub_3", "active", &[(price("price_1", 1900, "month", 1, "usd"), 1)]),
    ])
    .await;
    let admin = world.admin().await;
    let list = world.get("/api/v1/admin/billing/subscriptions", &admin).await;
    assert!(list.body.contains("\"total\":3"), "{}", list.body);
    let amount = |id: &str| {
        let list = list.json();
        let row = list["subscriptions"]
            .as_array()
            .expect("a list")
            .iter()
            .find(|row| row["id"] == id)
            .expect("a row")
            .clone();
        row["amount"].clone()
    };
    // Unknown is null, never zero; metered use has no price in advance; the third is what it is.
    assert_eq!(
        (amount("sub_1"), amount("sub_2").to_string(), amount("sub_3").to_string()),
        (Value::Null, "0.0".into(), "19.0".into())
    );
    let stats = world.get("/api/v1/admin/billing/stats", &admin).await.json();
    assert_eq!(
        (stats["monthly_revenue"].to_string(), &stats["unpriced_subscriptions"]),
        ("19.0".to_owned(), &json!(1))
    );
}

#[tokio::test]
async fn p4a03_currencies_have_their_own_decimals() {
    for (code, minor, wire) in [("jpy", 7000, "7000"), ("kwd", 1234, "1.234"), ("isk", 500, "5"), ("eur", 5, "0.05")] {
        let world = with(vec![subscribed("sub_1", "active", &[(price("price_1", minor, "month", 1, code), 1)])]).await;
        let answer = own(&world, "subscription").await;
        assert!(answer.body.contains(&format!("\"amount\":{wire},")), "{code}: {}", answer.body);
    }
}

#[tokio::test]
async fn p4a04_currencies_are_never_added_up() {
    let one = |id: &str, code: &str| {
        subscribed(id, "active", &[(price(&format!("price_{code}"), 1000, "month", 1, code), 1)])
    };
    let world = with(vec![one("sub_1", "usd"), one("sub_2", "eur"), one("sub_3", "eur"), one("sub_4", "jpy")]).await;
    let stats = stats(&world).await;
    assert_eq!((stats["monthly_revenue"].to_string(), &stats["currency"]), ("10.0".to_owned(), &json!("usd")));
    let others = ["eur", "jpy"].map(|code| stats["by_currency"][code]["monthly_revenue"].to_string());
    assert_eq!(others, ["20.0", "1000"]);
    // Nor inside one subscription: its worth is not known, and doctor names it.
    let mixed = [(price("price_1", 1000, "month", 1, "usd"), 1), (price("price_2", 1000, "month", 1, "eur"), 1)];
    let mut mixed = subscribed("sub_1", "active", &mixed);
    mixed["currency"] = Value::Null;
    let world = with(vec![mixed]).await;
    let row = subscription(&world.app, "sub_1").await;
    assert_eq!((row.amount_minor, row.monthly_minor, row.fault.is_some()), (None, 0, true));
}

#[tokio::test]
async fn p4a05_every_interval_is_brought_to_a_month_exactly() {
    for (minor, interval, count, expected) in [
        (12_000, "year", 1, 1_000),
        (100, "week", 1, 433),
        (1200, "week", 1, 5_200),
        (1200, "week", 2, 2_600),
        (12, "day", 1, 365),
        (1200, "day", 30, 1_217),
        (3_000, "month", 3, 1_000),
        (100, "month", 3, 33),
        (24_000, "year", 2, 1_000),
    ] {
        let items = [(price("price_1", minor, interval, count, "usd"), 1)];
        assert_eq!(worth(&items).await, expected, "{minor} every {count} {interval}");
    }
    let unlike = [(price("price_1", 12_000, "year", 1, "usd"), 1), (price("price_2", 500, "month", 1, "usd"), 1)];
    let world = with(vec![subscribed("sub_1", "active", &unlike)]).await;
    let answer = own(&world, "subscription").await;
    assert!(
        answer.body.contains("\"amount\":15.00,\"interval\":\"month\""),
        "unlike intervals are a month: {}",
        answer.body
    );
}

#[tokio::test]
async fn p4a06_the_tier_is_found_under_every_name_and_never_made_up() {
    for (metadata, expected) in [
        (json!({"tier": "starter"}), "starter"),
        (json!({"tier_id": "professional"}), "professional"),
        (json!({"tier_name": "Enterprise"}), "enterprise"),
        (json!({"tier": "gold", "tier_id": "starter"}), "starter"),
        (json!({"tier": "gold"}), "unknown"),
        (json!({}), "unknown"),
    ] {
        let mut one = subscribed("sub_1", "active", &[(price("price_own", 100, "month", 1, "usd"), 1)]);
        one["metadata"] = metadata.clone();
        let world = with(vec![one]).await;
        assert_eq!(subscription(&world.app, "sub_1").await.tier, expected, "{metadata}");
    }
}

/// What was paid for decides, not what somebody wrote beside it.
#[tokio::test]
async fn s28_the_price_decides_the_tier_before_any_metadata() {
    let mut one = subscribed("sub_1", "active", &[(price("price_starter_monthly", 1900, "month", 1, "usd"), 1)]);
    one["metadata"] = json!({"tier": "enterprise"});
    let world = with(vec![one]).await;
    assert_eq!(subscription(&world.app, "sub_1").await.tier, "starter");
    assert_eq!(own(&world, "subscription").await.json()["tier"], "starter");
}

#[tokio::test]
async fn p4a07_every_state_is_shown_and_the_best_of_several_is_chosen() {
    let states = ["active", "trialing", "past_due", "unpaid", "paused", "incomplete"];
    for state in states {
        let world =
            with(vec![subscribed("sub_1", state, &[(price("price_starter_monthly", 1900, "month", 1, "usd"), 1)])])
                .await;
        let answer = own(&world, "subscription").await.json();
        assert_eq!((&answer["status"], &answer["tier"]), (&json!(state), &json!("starter")));
    }
    let all = |states: &[&str]| {
        let one = |(number, state): (usize, &&str)| {
            subscribed(&format!("sub_{number}"), state, &[(price("price_1", 100, "month", 1, "usd"), 1)])
        };
        states.iter().enumerate().map(one).collect::<Vec<_>>()
    };
    for first in 0..states.len() {
        let mut rest: Vec<&str> = states[first..].iter().rev().copied().collect();
        rest.extend(["canceled", "incomplete_expired"]);
        let world = with(all(&rest)).await;
        assert_eq!(own(&world, "subscription").await.json()["status"], states[first], "of {rest:?}");
    }
    let mut two = all(&["active", "active"]);
    two[1]["created"] = json!(1_790_000_001);
    two[1]["items"]["data"][0]["quantity"] = json!(9);
    let world = with(two).await;
    assert_eq!(own(&world, "subscription").await.json()["amount"].to_string(), "9.0", "of equals the newest");
}

#[tokio::test]
async fn p4a07_trials_are_counted_by_their_state() {
    let world = with(vec![
        subscribed("sub_1", "trialing", &[(price("price_professional_monthly", 4900, "month", 1, "usd"), 1)]),
        subscribed("sub_2", "active", &[(price("price_professional_monthly", 4900, "month", 1, "usd"), 1)]),
    ])
    .await;
    let stats = stats(&world).await;
    assert_eq!((&stats["active_subscriptions"], &stats["trial_subscriptions"]), (&json!(2), &json!(1)));
    assert_eq!(stats["monthly_revenue"].to_string(), "49.0", "a trial pays nothing yet");
}

#[tokio::test]
async fn p4a08_every_request_names_its_version() {
    let world = World::planned(Plan { version: "2025-02-24.acacia", ..Plan::default() }).await;
    world.sync().await;
    let token = world.ada().await;
    world.get("/api/v1/billing/subscription", &token).await;
    let requests = world.stripe.as_ref().expect("a sandbox").requests();
    assert!(requests.len() > 150);
    for request in requests {
        assert_eq!(request.stripe_version.as_deref(), Some("2025-02-24.acacia"), "{}", request.path);
    }
}

#[tokio::test]
async fn p4a11_a_customer_is_found_by_its_link_and_by_an_unmistakable_email_only() {
    let people = vec![
        customer("cus_1", "one@example.com"),
        customer("cus_2", "two@example.com"),
        customer("cus_3", "two@example.com"),
        customer("cus_4", "taken@example.com"),
    ];
    let paying = |id: &str, of: &str, tier: &str| {
        let mut one = subscribed(id, "active", &[(price("price_own", 100, "month", 1, "usd"), 1)]);
        (one["customer"], one["metadata"]) = (json!(of), json!({"tier": tier}));
        one
    };
    let sold = vec![
        paying("sub_1", "cus_1", "starter"),
        paying("sub_2", "cus_2", "professional"),
        paying("sub_3", "cus_3", "professional"),
        paying("sub_4", "cus_4", "enterprise"),
    ];
    let shelf = Shelf::whole(&[("customers", people), ("subscriptions", sold)]);
    let world = in_front_of(&shelf).await;
    world.sync().await;
    world.user("owner@example.com", Some("cus_4"), false).await;
    for (email, linked, status) in [
        ("one@example.com", None, "active"),
        // Two customers have this address.
        ("two@example.com", None, "none"),
        // Stripe's addresses are case-sensitive: another case is another address.
        ("ONE@example.com", None, "none"),
        // The customer of this address is another user's.
        ("taken@example.com", None, "none"),
        // A link counts, whatever the address says.
        ("someone@example.com", Some("cus_2"), "active"),
    ] {
        let token = world.user(email, linked, false).await.1;
        let answer = world.get("/api/v1/billing/subscription", &token).await.json();
        assert_eq!(answer["status"], status, "{email}");
    }
}

#[tokio::test]
async fn p4a12_every_kind_of_payment_method_is_shown() {
    let kinds = ["card", "us_bank_account", "sepa_debit", "link", "paypal"];
    let method = |(number, kind): (usize, &&str)| {
        json!({"id": format!("pm_{number}"), "object": "payment_method", "type": kind, "customer": "cus_1", "created": 100 - number,
            "card": {"brand": "visa", "last4": "4242", "exp_month": 1, "exp_year": 2030}})
    };
    let shelf = Shelf::whole(&[
        ("customers", vec![customer("cus_1", "a@example.com")]),
        ("payment_methods", kinds.iter().enumerate().map(method).collect()),
    ]);
    let world = in_front_of(&shelf).await;
    world.sync().await;
    let shown = own(&world, "payment-methods").await.json();
    let shown: Vec<(&str, bool)> = shown
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| (row["type"].as_str().expect("a type"), row["card"].is_null()))
        .collect();
    assert_eq!(shown, kinds.map(|kind| (kind, kind != "card")));
}

#[tokio::test]
async fn p4a13_a_limit_that_stripe_would_refuse_never_reaches_it_and_is_no_empty_list() {
    let world = World::new().await;
    let (user, admin) = (world.ada().await, world.admin().await);
    world.stripe.as_ref().expect("a sandbox").clear_requests();
    for (path, limit) in [
        ("billing/invoices", "0"),
        ("billing/invoices", "101"),
        ("billing/invoices", "abc"),
        ("admin/billing/customers", "1001"),
    ] {
        let token = if path.starts_with("admin") { &admin } else { &user };
        let answer = world.get(&format!("/api/v1/{path}?limit={limit}"), token).await;
        assert_eq!(
            (answer.status, answer.json()["errors"][0]["pointer"].as_str()),
            (422, Some("?limit")),
            "{path} {limit}"
        );
    }
    assert_eq!(world.stripe.as_ref().expect("a sandbox").requests(), Vec::new());
}

#[tokio::test]
async fn p4a14_the_parts_sum_to_the_whole_to_the_last_cent() {
    let tiers = ["starter", "professional", "enterprise", "gold"];
    let one = |number: usize| {
        let minor = 333 + i64::try_from(number).expect("small") * 7;
        let mut one = subscribed(
            &format!("sub_{number}"),
            "active",
            &[(price(&format!("p{number}"), minor, "week", 1, "usd"), 1)],
        );
        one["metadata"] = json!({"tier": tiers[number % 4]});
        one
    };
    let world = with((0..40).map(one).collect()).await;
    let answer = world.get("/api/v1/admin/billing/stats", &world.admin().await).await;
    let amounts = |text: &str| {
        text.split("\"revenue\":")
            .skip(1)
            .map(|rest| rest.split('}').next().expect("a number").to_owned())
            .collect::<Vec<_>>()
    };
    let minor = |text: &str| Money::parse_major(text, billing::money::Currency::USD).expect("money").minor();
    let parts = amounts(&answer.body);
    assert_eq!(parts.len(), 5, "four tiers and what is unknown: {}", answer.body);
    let whole =
        answer.body.split("\"monthly_revenue\":").nth(1).and_then(|rest| rest.split(',').next()).expect("a number");
    assert_eq!(parts.iter().map(|part| minor(part)).sum::<i64>(), minor(whole));
    // Rounded half up once for each subscription: 52/12 of each price.
    let exact = (0..40).map(|number| ((333 + number * 7) * 52 * 2 + 12) / 24).sum::<i64>();
    assert_eq!(minor(whole), exact);
}

#[tokio::test]
async fn p4a16_nothing_of_stripes_objects_leaks_through_to_a_user() {
    let mut secret = subscribed("sub_1", "active", &[(price("price_starter_monthly", 1900, "month", 1, "usd"), 1)]);
    secret["metadata"] = json!({"note": "canary_subscription"});
    secret["default_payment_method"] = json!("pm_canary");
    let invoice = json!({"id": "in_1", "object": "invoice", "customer": "cus_1", "created": 5, "status": "open", "customer_address": {"line1": "canary_street"}, "account_name": "canary_account"});
    let method = json!({"id": "pm_1", "object": "payment_method", "type": "card", "customer": "cus_1", "created": 5,
        "card": {"brand": "visa", "last4": "4242", "exp_month": 1, "exp_year": 2030, "fingerprint": "canary_finger", "iin": "canary_iin"},
        "billing_details": {"name": "canary_name"}});
    let shelf = Shelf::whole(&[
        ("customers", vec![customer("cus_1", "a@example.com")]),
        ("subscriptions", vec![secret]),
        ("invoices", vec![invoice]),
        ("payment_methods", vec![method]),
    ]);
    let world = in_front_of(&shelf).await;
    world.sync().await;
    let token = world.user("a@example.com", Some("cus_1"), false).await.1;
    for page in ["subscription", "invoices", "payment-methods", "usage"] {
        let answer = world.get(&format!("/api/v1/billing/{page}"), &token).await;
        assert_eq!(answer.status, 200);
        assert!(!answer.body.contains("canary"), "{page}: {}", answer.body);
    }
}
