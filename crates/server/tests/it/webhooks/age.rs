//! How old the mirror says that it is: a sweep makes it as new as a full sync would, and what could not be applied keeps it old.

use std::sync::Arc;
use std::time::Duration;

use billhook::ops::doctor;
use billhook::ops::webhooks::status;
use billhook::ops::webhooks::sweep::{self, Swept};
use billhook::store::mirror::Resource;
use billhook::store::syncs;
use billhook::telemetry::Metrics;
use serde_json::json;

use super::account::{Account, SECRET, signature};
use super::{differences, drain, event, in_front_of, now, post, take};
use crate::harness::World;

const PAGE: &str = "/api/v1/billing/invoices";

/// Both clocks go on.
fn later(world: &World, account: &Account, seconds: u64) {
    world.clock.advance(Duration::from_secs(seconds));
    account.inside().now += i64::try_from(seconds).unwrap();
}

async fn swept(world: &World) {
    assert!(matches!(sweep::run(&world.app).await.expect("a sweep"), Swept::ToTheEnd { .. }));
    drain(world).await;
}

/// How many seconds old a list says that it is.
async fn age(world: &World, resource: Resource) -> i64 {
    let list = world.app.db.read(move |tx| syncs::get(tx, resource.name())).await.expect("a read").expect("read once");
    world.now().as_second() - list.as_of.expect("an age").as_second()
}

async fn keeps_up(world: &World) -> bool {
    sweep::keeps_up(&world.app).await.expect("a read")
}

#[tokio::test]
async fn sweeps_alone_keep_the_mirror_right_and_fresh_for_hours() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    let (_, ann) = world.user("ann@example.com", Some("cus_0"), false).await;
    account.take_fetches();
    for minute in 0..6 * 60 {
        later(&world, &account, 60);
        if minute % 60 == 30 {
            account.put("customers", "cus_0", &json!({ "name": format!("n{minute}") }));
        }
        swept(&world).await;
        if minute % 60 == 31 {
            let page = world.get(PAGE, &ann).await;
            assert_eq!((page.status, page.header("billing-stale")), (200, None), "minute {minute}");
            assert!(age(&world, Resource::Invoices).await <= 300, "minute {minute}");
            assert_eq!(differences(&world, &account).await, Vec::<String>::new(), "minute {minute}");
        }
    }
    assert!(keeps_up(&world).await);
    let listed = account.inside().requests.iter().filter(|request| request.ends_with("/v1/customers")).count();
    assert_eq!((listed, account.take_fetches()), (1, 6), "one full sync, and one look for each change");
    // Nobody sweeps any more: that is seen, in the answers and where the next full sync is decided.
    later(&world, &account, 601);
    assert_eq!(world.get(PAGE, &ann).await.header("billing-stale"), Some("?1"));
    assert!(!keeps_up(&world).await);
}

#[tokio::test]
async fn an_event_that_cannot_be_applied_keeps_its_list_old_and_no_other() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    later(&world, &account, 600);
    account.inside().trouble_with = Some(("cus_0".to_owned(), 503));
    account.put("customers", "cus_0", &json!({"name": "Ann"}));
    swept(&world).await;
    later(&world, &account, 600);
    swept(&world).await;
    assert!(age(&world, Resource::Customers).await > 600, "since the change nothing is known of them");
    assert!(age(&world, Resource::Products).await <= 180);
    account.inside().trouble_with = None;
    later(&world, &account, 60);
    swept(&world).await;
    later(&world, &account, 60);
    swept(&world).await;
    assert!(age(&world, Resource::Customers).await <= 300);
}

/// F-49: what was read by a clock that was ahead is as young as can be, and not younger.
#[tokio::test]
async fn f49_nothing_is_younger_than_now_when_the_clock_has_gone_back() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    later(&world, &account, 3_600);
    swept(&world).await;
    assert_eq!(status(&world.app).await.expect("a status").sweep_age_s, Some(0));
    later(&world, &account, 60);
    assert_eq!(status(&world.app).await.expect("a status").sweep_age_s, Some(60), "it has an age");
    take(&world, &account.put("customers", "cus_0", &json!({"name": "Ann"}))).await;

    let back = world.now() - jiff::SignedDuration::from_hours(1);
    world.clock.set(back);
    assert!(age(&world, Resource::Customers).await < 0, "the list was read in an hour from now");
    let seen = status(&world.app).await.expect("a status");
    assert_eq!((seen.counts.waiting, seen.lag_ms, seen.sweep_age_s), (1, 0, Some(0)));
    let mut metrics = Metrics::new();
    metrics.registry().register_collector(Box::new(Arc::clone(&world.app.webhooks)));
    let page = metrics.render().expect("numbers");
    for line in ["billhook_webhooks_lag_milliseconds 0\n", "billhook_sweep_age_seconds 0\n"] {
        assert!(page.contains(line), "{line} in {page}");
    }
    let ready = world.get_anonymous("/readyz").await.json();
    assert_eq!(ready["facts"]["mirror"]["age_s"], 0, "{ready}");
    let report = doctor::examine(&world.app).await.expect("a report").0;
    let ages: Vec<&str> = report.iter().map(|check| &*check.detail).filter(|detail| detail.contains(" s o")).collect();
    assert!(!ages.is_empty() && ages.iter().all(|age| age.contains(": 0 s old")), "{ages:?}");
}

#[tokio::test]
async fn after_31_days_of_silence_everything_is_right_again() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    account.put("customers", "cus_0", &json!({"name": "Ann"}));
    account.put("customers", "cus_1", &json!({"name": "Bea"}));
    swept(&world).await;
    account.put("customers", "cus_0", &json!({"name": "Cem"}));
    account.delete("customers", "cus_1");
    later(&world, &account, 31 * 86_400);
    let all = account.inside().events.len();
    account.inside().forgotten = all;
    assert!(!keeps_up(&world).await);
    swept(&world).await;
    assert_eq!(differences(&world, &account).await, Vec::<String>::new());
    assert!(age(&world, Resource::Customers).await <= 1);
}

#[tokio::test]
async fn without_a_list_of_events_full_syncs_are_needed() {
    let account = Account::open(now());
    account.inside().no_events_list = true;
    let world = in_front_of(&account).await;
    assert_eq!(sweep::run(&world.app).await.expect("a sweep"), Swept::NoSuchList);
    assert!(!keeps_up(&world).await);
}

/// F-38: Stripe signs with its own time, so nothing is taken; whose clock is wrong is said, and the sweep brings what was refused.
#[tokio::test]
async fn f38_a_clock_that_is_ten_minutes_off_is_named_and_costs_nothing_but_time() {
    for skew in [-600, 600] {
        let account = Account::open(now() + skew);
        let world = in_front_of(&account).await;
        world.sync().await;
        for number in 0..3 {
            let told = account.put("customers", "cus_1", &json!({ "name": format!("at {number}") }));
            let refused = post(&world, &signature(SECRET, now() + skew, told.body.as_bytes()), &told.body).await;
            assert_eq!((refused.status, &refused.json()["code"]), (400, &json!("webhook.signature")), "{skew}");
            assert!(event(&world, &told.id).await.is_none(), "nothing is kept");
        }
        let facts = world.get_anonymous("/readyz").await.json()["facts"]["stripe"].clone();
        let named = facts["clock_skew_s"].as_i64().expect("a skew");
        assert!((named - skew).abs() <= 2, "{skew}: {facts}");
        let report = doctor::examine(&world.app).await.expect("a report");
        let clock = report.0.iter().find(|check| check.check == "clock").expect("a check");
        assert_eq!(clock.state, doctor::State::Fault, "{clock:?}");
        sweep::run(&world.app).await.expect("a sweep");
        drain(&world).await;
        assert_eq!(differences(&world, &account).await, Vec::<String>::new(), "{skew}");
    }
}
