//! Objects that Stripe cannot show, or shows wrongly, are nobody else's trouble: their events end as dead letters, and
//! everything else goes on.

use std::sync::atomic::Ordering;
use std::time::Duration;

use billhook::clock::Clock;
use billhook::gateways::stripe::{BreakerState, Settings};
use billhook::ops::doctor::{self, State as Judged};
use billhook::store::mirror::Resource;
use billhook::store::syncs;
use billhook::store::webhooks::State;
use serde_json::{Value, json};

use super::account::{Account, Told};
use super::{drain, mirrored, now, state, take, with_limits};
use crate::harness::{Database, World, impatient};

/// Whoever has opened this breaker has closed the program for the rest of the test.
fn unforgiving(settings: Settings) -> Settings {
    Settings {
        breaker_pause: Duration::from_hours(1),
        attempts: 2,
        total_deadline: Duration::from_secs(5),
        ..impatient(settings)
    }
}

async fn in_front_of(account: &Account) -> World {
    with_limits(account, Database::sqlite(), unforgiving).await
}

fn later(world: &World, account: &Account, seconds: u64) {
    world.clock.advance(Duration::from_secs(seconds));
    account.inside().now += i64::try_from(seconds).expect("small");
}

/// An event that is not enough alone: the object was there before, and nobody has heard of it.
fn unheard(account: &Account, list: &str, id: &str) -> Told {
    let items = json!({"object": "list", "has_more": false, "data": []});
    account.put(list, id, &json!({"status": "active", "discounts": [], "items": items}));
    account.put(list, id, &json!({"description": "changed"}))
}

fn instead(account: &Account, path: &str, status: u16, body: &str) {
    account.inside().instead.insert(path.to_owned(), (status, body.to_owned()));
}

/// Tries until nothing more is tried; in each round another object has to be applied at once.
async fn until_dead(world: &World, account: &Account, poison: &[&Told]) {
    for round in 0..8 {
        let other = unheard(account, "customers", &format!("cus_other_{round}"));
        take(world, &other).await;
        let drained = drain(world).await;
        assert_eq!((drained.applied, drained.failed, drained.trouble), (1, poison.len() as u64, None), "round {round}");
        let state = world.app.stripe.as_ref().expect("Stripe").state();
        assert!(matches!(state.breaker, BreakerState::Closed { .. }), "round {round}: {:?}", state.breaker);
        let ready = world.get_anonymous("/readyz").await.json();
        assert_eq!(ready["facts"]["stripe"]["answering"], true, "round {round}: {ready}");
        later(world, account, 130);
    }
}

async fn reason(world: &World, told: &Told) -> String {
    match state(world, &told.id).await {
        State::Dead { attempts: 8, reason, .. } => reason,
        other => panic!("{}: {other:?}", told.id),
    }
}

#[tokio::test]
async fn f57_objects_that_stripe_never_shows_become_dead_letters_and_the_others_flow() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    let troubles = [
        ("cus_a", 500, r#"{"error":{"type":"api_error","message":"of this one"}}"#, "500"),
        ("cus_b", 200, "<html>of this one</html>", "not JSON"),
        ("cus_c", 200, r#"{"id":"cus_c","#, "truncated"),
        ("cus_d", 503, "", "503"),
    ];
    let mut poison = Vec::new();
    for (id, status, body, why) in troubles {
        instead(&account, &format!("customers/{id}"), status, body);
        let told = unheard(&account, "customers", id);
        take(&world, &told).await;
        poison.push((told, why));
    }
    until_dead(&world, &account, &poison.iter().map(|(told, _)| told).collect::<Vec<_>>()).await;
    for (told, why) in &poison {
        let reason = reason(&world, told).await;
        assert!(reason.contains(why) && reason.contains("answers other questions"), "{reason}");
    }
    account.inside().instead.clear();
    assert_eq!(billhook::ops::webhooks::replay::all_dead(&world.app).await.expect("again"), 4);
    assert_eq!(drain(&world).await.applied, 4);
}

/// Subscriptions are out of order at Stripe for an hour, and nothing else is: that must not cost their events.
#[tokio::test]
async fn i06_a_kind_of_objects_that_is_away_for_an_hour_costs_no_event() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    let told = unheard(&account, "subscriptions", "sub_1");
    for path in ["subscriptions", "subscriptions/sub_1"] {
        instead(&account, path, 500, "");
    }
    take(&world, &told).await;
    for minute in 0..60 {
        let other = unheard(&account, "customers", &format!("cus_{minute}"));
        take(&world, &other).await;
        assert_eq!(drain(&world).await.applied, 1, "minute {minute}");
        later(&world, &account, 60);
    }
    assert!(matches!(state(&world, &told.id).await, State::Waiting { attempts: 3..8, .. }));
    account.inside().instead.clear();
    later(&world, &account, 9 * 3_600);
    assert_eq!(drain(&world).await.applied, 1);
}

#[tokio::test]
async fn s30_what_was_not_asked_for_is_not_written() {
    let account = Account::open(now());
    for n in 1..=4 {
        unheard(&account, "subscriptions", &format!("sub_{n}"));
    }
    let world = in_front_of(&account).await;
    let before = mirrored(&world, Resource::Subscriptions, "sub_1").await.expect("mirrored");
    later(&world, &account, 10);
    let mut poison = Vec::new();
    for (n, body) in [
        (1, json!({"id": "sub_1", "object": "customer", "name": "Ann", "status": "active"})),
        (2, json!({"id": "sub_2", "object": "subscription"})),
        (3, json!({"id": "sub_4", "object": "subscription", "status": "active"})),
        (4, json!({"id": "sub_4", "object": "subscription", "customer": "cus_1", "metadata": {}})),
    ] {
        let id = format!("sub_{n}");
        account.put("subscriptions", &id, &json!({"description": "again"}));
        let told = account.put("subscriptions", &id, &json!({"description": "and again"}));
        instead(&account, &format!("subscriptions/{id}"), 200, &body.to_string());
        take(&world, &told).await;
        poison.push(told);
    }
    until_dead(&world, &account, &poison.iter().collect::<Vec<_>>()).await;
    for told in &poison {
        assert!(reason(&world, told).await.contains("another object"));
    }
    assert_eq!(mirrored(&world, Resource::Subscriptions, "sub_1").await, Some(before.clone()));
    assert_eq!(world.app.webhooks.unfit.load(Ordering::Relaxed), 32);
    // A list that does so changes nothing either, and says it.
    let listed =
        json!({"object": "list", "has_more": false, "data": [{"id": "sub_1", "object": "customer", "name": "Ann"}]});
    instead(&account, "subscriptions", 200, &listed.to_string());
    let outcome = world.sync().await;
    assert!(outcome.incomplete && outcome.faults.iter().any(|(list, _)| *list == "subscriptions"), "{outcome:?}");
    assert_eq!(mirrored(&world, Resource::Subscriptions, "sub_1").await, Some(before));
}

#[tokio::test]
async fn one_object_that_is_not_shown_keeps_the_full_sync_from_nothing_else() {
    let account = Account::open(now());
    for n in 0..4 {
        account.put("customers", &format!("cus_{n}"), &json!({}));
    }
    let world = in_front_of(&account).await;
    let began = world.now();
    later(&world, &account, 60);
    let method = json!({"id": "pm_3", "object": "payment_method", "type": "card", "customer": "cus_3"});
    let methods = json!({"object": "list", "has_more": false, "data": [method]});
    instead(&account, "customers/cus_3/payment_methods", 200, &methods.to_string());
    for path in ["customers/cus_1/payment_methods", "customers/cus_2/payment_methods"] {
        instead(&account, path, 500, r#"{"error":{"type":"api_error","message":"of this one"}}"#);
    }
    let outcome = world.sync().await;
    assert!(outcome.incomplete, "{outcome:?}");
    let [(list, fault)] = outcome.faults.as_slice() else { panic!("{outcome:?}") };
    assert!(*list == "payment_methods" && fault.contains("cus_") && fault.contains("500"), "{fault}");
    assert!(mirrored(&world, Resource::PaymentMethods, "pm_3").await.is_some(), "whoever comes after them is read");
    for list in world.app.db.read(syncs::all).await.expect("a read") {
        let expected = if list.resource == "payment_methods" { began } else { world.now() };
        assert_eq!(list.as_of.map(jiff::Timestamp::as_second), Some(expected.as_second()), "{list:?}");
        assert_eq!(list.fault.is_some(), list.resource == "payment_methods", "{list:?}");
    }
    account.inside().instead.clear();
    let outcome = world.sync().await;
    assert!(!outcome.incomplete && outcome.faults.is_empty(), "{outcome:?}");
}

/// The metadata was written by anybody. It gives nothing, and somebody hears of it.
#[tokio::test]
async fn s27_metadata_that_names_another_user_is_told_to_the_operator() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    let (ann, _) = world.user("ann@example.com", Some("cus_a"), false).await;
    let (bob, _) = world.user("bob@example.com", Some("cus_b"), false).await;
    for (customer, user) in [("cus_a", &ann), ("cus_b", &bob)] {
        account.put("customers", customer, &json!({"metadata": {"user_id": user}}));
    }
    let named = async || -> Vec<String> {
        let report = doctor::examine(&world.app).await.expect("a report").0;
        report
            .into_iter()
            .filter(|one| one.check == "metadata" && one.state == Judged::Warn)
            .map(|one| one.detail)
            .collect()
    };
    world.sync().await;
    assert_eq!(named().await, Vec::<String>::new());
    let items = json!({"object": "list", "has_more": false, "data": []});
    let told = account.put(
        "subscriptions",
        "sub_1",
        &json!({"status": "active", "customer": "cus_a",
        "metadata": {"user_id": bob}, "discounts": [], "items": items}),
    );
    take(&world, &told).await;
    drain(&world).await;
    let State::Applied { note: Some(note), .. } = state(&world, &told.id).await else { panic!("not noted") };
    assert!(note.contains(&bob) && note.contains(&ann), "{note}");
    let named = named().await;
    assert_eq!(named.len(), 1, "{named:?}");
    assert!(named[0].starts_with("sub_1: ") && named[0].contains(&bob), "{named:?}");
}

#[tokio::test]
async fn f38_a_wrong_clock_is_named_in_readyz_and_takes_nothing_away() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    let ready = async || world.get_anonymous("/readyz").await.json();
    assert_eq!(ready().await["degraded"], json!([]));
    for (ours, theirs) in [(600, 0), (0, 1_200)] {
        world.clock.advance(Duration::from_secs(ours));
        account.inside().now += theirs;
        world.sync().await;
        let ready = ready().await;
        assert_eq!((&ready["ready"], &ready["degraded"][0]["part"]), (&json!(true), &json!("clock.skew")), "{ready}");
    }
    world.clock.advance(Duration::from_secs(600));
    world.sync().await;
    assert_eq!(ready().await["degraded"], json!([]));
}

#[tokio::test]
async fn a_coupon_begins_and_ends_by_stripes_clock() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    let admin = world.admin().await;
    // Forty days ahead of ours, as a sandbox is whose clock was advanced.
    account.inside().now += 40 * 86_400;
    let there = account.inside().now;
    let price = json!({"id": "price_1", "object": "price", "currency": "usd", "unit_amount": 4_900, "type": "recurring",
        "billing_scheme": "per_unit", "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"},
        "product": "prod_1"});
    let item = json!({"id": "si_1", "object": "subscription_item", "quantity": 1, "discounts": [], "price": price});
    let coupon =
        json!({"id": "HALF", "object": "coupon", "duration": "repeating", "duration_in_months": 3, "percent_off": 50});
    let discount = |start: i64, end: i64| {
        json!([{"id": "di_1", "object": "discount", "start": start, "end": end,
        "source": {"type": "coupon", "coupon": coupon}}])
    };
    let mut members = json!({"customer": "cus_1", "status": "active", "currency": "usd",
        "items": {"object": "list", "has_more": false, "data": [item]}});
    let revenue = async || world.get("/api/v1/admin/billing/stats", &admin).await.json()["monthly_revenue"].as_f64();
    for (start, end, expected) in [(there, there + 600, 24.5), (there - 900, there - 300, 49.0)] {
        members["discounts"] = discount(start, end);
        let told: Value = account.put("subscriptions", "sub_1", &members).body.parse().expect("JSON");
        super::deliver(&world, &told.to_string()).await;
        drain(&world).await;
        assert_eq!(revenue().await, Some(expected));
        account.inside().now += 1;
    }
    // What runs out does so by it, too.
    members["discounts"] = discount(there, there + 600);
    let told = account.put("subscriptions", "sub_1", &members);
    take(&world, &told).await;
    drain(&world).await;
    account.inside().now += 601;
    world.clock.advance(Duration::from_secs(601));
    world.sync().await;
    assert_eq!(revenue().await, Some(49.0));
    assert!(world.clock.now().as_second() < there, "ours is far behind all the while");
}
