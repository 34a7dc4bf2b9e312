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
