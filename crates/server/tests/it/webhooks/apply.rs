//! Applying: one look for an object at most, none where the event is enough, and what happens when it cannot be done.

use std::sync::atomic::Ordering;
use std::time::Duration;

use billhook::clock::Clock;
use billhook::ops;
use billhook::ops::readings::{Look, Written};
use billhook::store::mirror::Resource;
use billhook::store::readings;
use billhook::store::webhooks::State;
use serde_json::{Value, json};

use super::account::{Account, Road, Told, VERSION};
use super::{deliver, differences, drain, event, in_front_of, mirrored, now, on, patiently_in_front_of, state, take};
use crate::harness::{Database, World};

/// Lets both clocks go on.
fn later(world: &World, account: &Account, seconds: u64) {
    world.clock.advance(Duration::from_secs(seconds));
    account.inside().now += i64::try_from(seconds).unwrap();
}

#[tokio::test]
async fn an_event_that_follows_what_is_mirrored_needs_no_question() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    later(&world, &account, 10);
    take(&world, &account.put("customers", "cus_1", &json!({"name": "Ann"}))).await;
    drain(&world).await;
    for name in ["Bea", "Cem", "Dan"] {
        later(&world, &account, 10);
        take(&world, &account.put("customers", "cus_1", &json!({"name": name}))).await;
        assert_eq!(drain(&world).await.applied, 1);
        assert_eq!(mirrored(&world, Resource::Customers, "cus_1").await.unwrap()["name"], name);
    }
    later(&world, &account, 10);
    take(&world, &account.delete("customers", "cus_1")).await;
    drain(&world).await;
    assert_eq!(mirrored(&world, Resource::Customers, "cus_1").await, None);
    assert_eq!(account.take_fetches(), 0, "every event told all");
}

#[tokio::test]
async fn where_stripe_does_not_tell_its_time_no_event_is_enough() {
    let account = Account::open(now());
    account.inside().timeless = true;
    let world = in_front_of(&account).await;
    for name in ["Ann", "Bea"] {
        later(&world, &account, 10);
        take(&world, &account.put("customers", "cus_1", &json!({ "name": name }))).await;
        drain(&world).await;
    }
    assert_eq!(account.take_fetches(), 2);
}

#[tokio::test]
async fn an_event_whose_look_came_too_late_is_known_all_the_same() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    let reading = world.app.db.write(|tx| {
        let look = |ticket, event_created| Look { ticket, cause: "test".to_owned(), event_created, until_s: 7 };
        let (first, second) = (look(readings::take_ticket(tx)?, Some(50)), look(readings::take_ticket(tx)?, Some(40)));
        let product = r#"{"id":"prod_1","object":"product","metadata":{}}"#;
        let mut write = |look| {
            let catalogue = billing::catalogue::Catalogue::built_in();
            ops::readings::apply(tx, look, Resource::Products, product, 1, &catalogue, jiff::Timestamp::UNIX_EPOCH)
        };
        assert_eq!((write(&second)?, write(&first)?), (Written::Changed, Written::Superseded));
        readings::of(tx, Resource::Products, "prod_1")
    });
    assert_eq!(reading.await.expect("written").expect("there").event_created, Some(50));
}

#[tokio::test]
async fn in_doubt_stripe_is_asked_once_for_all_events_of_an_object() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    // Within one second nobody knows which was first.
    let told: Vec<Told> = (0..20)
        .map(|n| account.put("customers", &format!("cus_{}", n % 4), &json!({ "name": format!("n{n}") })))
        .collect();
    for told in told.iter().rev() {
        take(&world, told).await;
    }
    assert_eq!(drain(&world).await.applied, 20);
    assert_eq!(account.take_fetches(), 4);
    assert_eq!(differences(&world, &account).await, Vec::<String>::new());
}

/// Nobody else takes up what somebody is at, however long Stripe takes; what comes meanwhile is due at once.
#[tokio::test]
async fn what_somebody_is_at_is_left_to_them_as_long_as_it_takes() {
    let account = Account::open(now());
    let world = patiently_in_front_of(&account).await;
    let [one, two, three] = ["a", "b", "c"].map(|name| account.put("customers", "cus_1", &json!({ "name": name })));
    take(&world, &one).await;
    take(&world, &two).await;
    let stripe = account.clone();
    let (let_go, held) = std::sync::mpsc::channel::<()>();
    let hanging = tokio::task::spawn_blocking(move || {
        let silent = stripe.inside();
        let _ = held.recv();
        drop(silent);
    });
    let others = async {
        for _ in 0..3 {
            world.clock.advance(Duration::from_millis(1_500));
            let now_ms = world.clock.now().as_millisecond();
            while !matches!(state(&world, &one.id).await, State::Waiting { next_ms, .. } if next_ms > now_ms + 1_900) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(!billhook::ops::webhooks::apply::is_due(&world.app).await.expect("a look"));
        }
        take(&world, &three).await;
        assert!(billhook::ops::webhooks::apply::is_due(&world.app).await.expect("a look"));
        let_go.send(()).expect("it waits");
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), async { tokio::join!(drain(&world), others) });
    assert_eq!(waited.await.expect("in time").0.applied, 3);
    hanging.await.expect("a thread");
    assert_eq!(account.take_fetches(), 2, "one look for the first two, one for what came meanwhile");
}

#[tokio::test]
async fn an_answer_that_takes_long_keeps_no_other_object_waiting() {
    let account = Account::open(now());
    let world = patiently_in_front_of(&account).await;
    for name in ["Ann", "Bea"] {
        take(&world, &account.put("customers", "cus_slow", &json!({ "name": name }))).await;
    }
    account.inside().road = Some(Road::closed());
    let meanwhile = async {
        until(async || world.app.webhooks.fetched.load(Ordering::Relaxed) == 1).await;
        let told = account.put("customers", "cus_quick", &json!({"name": "Cem"}));
        take(&world, &told).await;
        // This one is enough alone.
        until(async || matches!(state(&world, &told.id).await, State::Applied { .. })).await;
        assert_eq!(mirrored(&world, Resource::Customers, "cus_slow").await, None, "still on its way");
        account.inside().road = None;
    };
    let ((), drained) = tokio::join!(meanwhile, drain(&world));
    assert_eq!(drained.applied, 3);
    assert_eq!(differences(&world, &account).await, Vec::<String>::new());
}

/// Waits for something that must come soon.
async fn until(mut come: impl AsyncFnMut() -> bool) {
    let start = tokio::time::Instant::now();
    while !come().await {
        assert!(start.elapsed() < Duration::from_secs(20), "it never came");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_legacy_event_and_a_new_one_end_in_the_same_mirror() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    later(&world, &account, 10);
    for (n, version) in
        [Value::Null, json!("2019-12-03"), json!("2024-09-30.acacia"), json!(VERSION)].iter().enumerate()
    {
        let id = format!("in_{n}");
        let told = account.put(
            "invoices",
            &id,
            &json!({"status": "paid", "amount_paid": 4900, "amount_due": 4900, "currency": "usd"}),
        );
        let mut body: Value = serde_json::from_str(&told.body).unwrap();
        body["api_version"] = version.clone();
        // What the old shape says of it must not matter.
        if version != VERSION {
            body["data"]["object"] = json!({"id": id, "object": "invoice", "paid": true, "subscription": "sub_old"});
        }
        deliver(&world, &body.to_string()).await;
    }
    assert_eq!(drain(&world).await.applied, 4);
    assert_eq!(account.take_fetches(), 3, "only the event in our own version could be enough");
    assert_eq!(differences(&world, &account).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_object_in_whose_events_parts_are_missing_is_asked_for() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    let items = json!({"object": "list", "has_more": false, "data": []});
    for (id, members, asked) in [
        ("sub_1", json!({"status": "active", "discounts": [], "items": items}), 0),
        ("sub_2", json!({"status": "active", "discounts": ["di_1"], "items": items}), 1),
        (
            "sub_3",
            json!({"status": "active", "discounts": [], "items": {"object": "list", "has_more": true, "data": []}}),
            1,
        ),
    ] {
        later(&world, &account, 10);
        take(&world, &account.put("subscriptions", id, &members)).await;
        drain(&world).await;
        assert_eq!(account.take_fetches(), asked, "{id}");
    }
}

#[tokio::test]
async fn what_was_replaced_is_kept_with_its_cause() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    let mut causes = Vec::new();
    for n in 0..25 {
        later(&world, &account, 10);
        let told = account.put("customers", "cus_1", &json!({ "name": format!("n{n}") }));
        causes.push(told.id.clone());
        take(&world, &told).await;
        drain(&world).await;
    }
    let history = world.app.db.read(|tx| readings::history(tx, Resource::Customers, "cus_1")).await.unwrap();
    assert_eq!(history.len(), 20, "the newest of them");
    assert_eq!(history[0].cause, causes[24]);
    assert!(history[0].raw.contains("n23") && history[19].raw.contains("n4"), "{history:?}");
}

#[tokio::test]
async fn f57_a_poison_event_becomes_a_dead_letter_and_the_others_flow() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    account.put("customers", "cus_poison", &json!({}));
    // Not the first of its object: it cannot be enough alone.
    let poison = account.put("customers", "cus_poison", &json!({"name": "Poison"}));
    account.inside().trouble_with = Some(("cus_poison".to_owned(), 403));
    take(&world, &poison).await;
    for round in 0..8 {
        let other = account.put("customers", &format!("cus_{round}"), &json!({}));
        take(&world, &other).await;
        let drained = drain(&world).await;
        assert_eq!((drained.applied, drained.failed), (1, 1), "round {round}");
        later(&world, &account, 130);
    }
    let State::Dead { attempts: 8, reason, .. } = state(&world, &poison.id).await else { panic!("not dead") };
    assert!(reason.contains("403"), "{reason}");
    assert_eq!(drain(&world).await, billhook::ops::webhooks::apply::Drained::default());
    account.inside().trouble_with = None;
    assert_eq!(billhook::ops::webhooks::replay::all_dead(&world.app).await.unwrap(), 1);
    assert_eq!(drain(&world).await.applied, 1);
    assert_eq!(differences(&world, &account).await, Vec::<String>::new());
}

#[tokio::test]
async fn i06_an_outage_is_no_attempt_and_afterwards_everything_is_applied() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    let put = |n: i32, name: &str| account.put("customers", &format!("cus_{n}"), &json!({ "name": name }));
    (0..40).for_each(|n| drop(put(n, "first")));
    let told: Vec<Told> = (0..40).map(|n| put(n, "second")).collect();
    for status in [500, 429, 401, 503] {
        account.inside().trouble = Some(status);
        for told in &told {
            take(&world, told).await;
        }
        for _ in 0..10 {
            let drained = drain(&world).await;
            assert_eq!((drained.applied, drained.failed), (0, 0), "{status}");
            later(&world, &account, 6);
        }
    }
    account.inside().trouble = None;
    let mut applied = 0;
    // The breaker asks once before it lets everybody out.
    for _ in 0..20 {
        applied += drain(&world).await.applied;
        later(&world, &account, 6);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(applied, 40);
    assert_eq!(differences(&world, &account).await, Vec::<String>::new());
}

#[tokio::test]
async fn only_stripes_own_words_delete() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    later(&world, &account, 10);
    take(&world, &account.put("products", "prod_1", &json!({"name": "Pro"}))).await;
    drain(&world).await;
    later(&world, &account, 10);
    let deleted = account.delete("products", "prod_1");
    // Made anew under the same id before anybody has heard of the deletion.
    let again = account.put("products", "prod_1", &json!({"name": "Pro, again"}));
    take(&world, &again).await;
    drain(&world).await;
    take(&world, &deleted).await;
    drain(&world).await;
    assert_eq!(mirrored(&world, Resource::Products, "prod_1").await.unwrap()["name"], "Pro, again");
    account.delete("products", "prod_1");
    account.inside().trouble_with = Some(("prod_1".to_owned(), 404));
    later(&world, &account, 10);
    let mut body: Value = serde_json::from_str(&deleted.body).unwrap();
    body["id"] = json!("evt_proxy");
    deliver(&world, &body.to_string()).await;
    drain(&world).await;
    assert!(
        mirrored(&world, Resource::Products, "prod_1").await.is_some()
            || account.object("products", "prod_1").is_none()
    );
}

#[tokio::test]
async fn s46_a_checkout_that_is_not_paid_grants_nothing() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    let (user, token) = world.user("ann@example.com", Some("cus_1"), false).await;
    let body = json!({"id": "evt_1", "object": "event", "type": "checkout.session.completed", "created": now(),
        "livemode": false, "api_version": VERSION, "data": {"object": {"id": "cs_1", "object": "checkout.session",
        "customer": "cus_1", "subscription": "sub_1", "payment_status": "unpaid", "client_reference_id": user}}});
    deliver(&world, &body.to_string()).await;
    drain(&world).await;
    let shown = world.get("/api/v1/billing/subscription?success=1", &token).await;
    assert!(shown.status == 422 || shown.json()["status"] == "none", "{}", shown.body);
    assert_eq!(world.get("/api/v1/billing/subscription", &token).await.json()["status"], "none");
}

#[tokio::test]
async fn s27_metadata_that_names_another_user_gives_them_nothing() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    let (_, ann) = world.user("ann@example.com", Some("cus_a"), false).await;
    let (bob_id, bob) = world.user("bob@example.com", Some("cus_b"), false).await;
    for customer in ["cus_a", "cus_b"] {
        account.put("customers", customer, &json!({}));
    }
    let items = json!({"object": "list", "has_more": false, "data": []});
    let told = account.put("subscriptions", "sub_1",
        &json!({"status": "active", "customer": "cus_a", "metadata": {"user_id": bob_id}, "discounts": [], "items": items}));
    take(&world, &told).await;
    drain(&world).await;
    for (token, status) in [(ann, "active"), (bob, "none")] {
        assert_eq!(world.get("/api/v1/billing/subscription", &token).await.json()["status"], status);
    }
}

#[tokio::test]
async fn postgres_takes_and_applies_the_same() {
    let account = Account::open(now());
    let world = on(&account, Database::postgres()).await;
    account.inside().road = Some(Road::open(super::Dice::new(3), Duration::from_millis(50)));
    let told: Vec<Told> = (0..60)
        .map(|n| account.put("customers", &format!("cus_{}", n % 12), &json!({ "name": format!("n{n}") })))
        .collect();
    let bodies = told.iter().chain(told.iter()).map(|told| deliver(&world, &told.body));
    assert!(futures_util::future::join_all(bodies).await.iter().all(|answer| answer.status == 200));
    let (one, two) = tokio::join!(drain(&world), drain(&world));
    assert!(one.applied + two.applied >= 60);
    assert!(event(&world, &told[0].id).await.is_some());
    assert_eq!(differences(&world, &account).await, Vec::<String>::new());
}
