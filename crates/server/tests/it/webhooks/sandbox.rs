//! The same against the sandbox: what happens there is found by a sweep and ends in our answers.

use std::collections::BTreeSet;
use std::time::Duration;

use billhook::ops::verify::{self, Mode};
use billhook::ops::webhooks::sweep::{self, Swept};
use billhook::store::mirror::{self, Resource};
use serde_json::{Value, json};

use super::account::{SECRET, VERSION};
use super::{deliver, drain};
use crate::harness::{Plan, World};

/// The little business, which can be told what happens at Stripe.
async fn told() -> World {
    let environment = vec![("STRIPE_WEBHOOK_SECRET", SECRET.to_owned())];
    let world = World::planned(Plan { environment, ..Plan::default() }).await;
    world.sync().await;
    world
}

/// What Stripe was asked while these webhooks came and were applied.
async fn asked(world: &World, bodies: &[String]) -> Vec<String> {
    let stripe = world.stripe.as_ref().expect("a sandbox");
    stripe.clear_requests();
    for body in bodies {
        assert_eq!(deliver(world, body).await.status, 200);
    }
    let drained = drain(world).await;
    let distinct: BTreeSet<&String> = bodies.iter().collect();
    assert_eq!((drained.applied, drained.failed), (distinct.len() as u64, 0));
    stripe.requests().iter().map(|request| format!("{} {}", request.method, request.path)).collect()
}

/// Some mirrored object of a list.
async fn some(world: &World, resource: Resource) -> Option<Value> {
    let found = world.app.db.read(move |tx| {
        let ids = mirror::unseen(tx, resource, i64::MAX, "", 1)?;
        ids.first().map_or(Ok(None), |id| mirror::raw(tx, resource, id))
    });
    found.await.expect("a read").map(|raw| serde_json::from_str(&raw).expect("JSON"))
}

#[tokio::test]
async fn in_doubt_a_webhook_of_any_list_costs_one_question_however_often_it_comes() {
    let world = told().await;
    let mut lists = 0;
    for resource in Resource::ALL {
        let Some(object) = some(&world, resource).await else { continue };
        lists += 1;
        let noun = object["object"].as_str().expect("a noun");
        let family = if noun == "subscription" { "customer.subscription" } else { noun };
        let event = |id: &str| {
            json!({"id": format!("evt_{noun}_{id}"), "object": "event", "type": format!("{family}.updated"),
                "created": world.now().as_second(), "api_version": VERSION, "livemode": false, "data": {"object": object}})
            .to_string()
        };
        let path = object["id"].as_str().expect("an id");
        for bodies in [vec![event("a")], vec![event("b"); 5], vec![event("c"), event("d"), event("e")]] {
            let asked = asked(&world, &bodies).await;
            assert_eq!(asked.len(), 1, "{noun}: {asked:?}");
            assert!(asked[0].starts_with("GET /v1/") && asked[0].ends_with(path), "{asked:?}");
        }
    }
    assert!(lists >= 8, "{lists} lists have objects");
}

#[tokio::test]
async fn what_an_event_proves_is_not_asked_for() {
    let world = told().await;
    for (path, form) in [
        ("/v1/customers/cus_sandbox_110", "name=Another"),
        ("/v1/customers/cus_sandbox_110", "name=Again"),
        ("/v1/customers", "name=New"),
        ("/v1/products", "name=New"),
        ("/v1/subscriptions/sub_sandbox_063", "cancel_at_period_end=true"),
    ] {
        world.clock.advance(Duration::from_secs(10));
        world.at_stripe("POST", path, form).await;
        // Stripe's clock is known from its answers; what was asked last is ten seconds old.
        let key = format!("Bearer {}", crate::harness::KEY);
        let url = format!("{}/v1/events?limit=1", world.stripe.as_ref().expect("a sandbox").base_url());
        let newest = crate::harness::send(&crate::harness::client(), "GET", &url, &[("authorization", &key)], "").await;
        let event = newest.json()["data"][0].clone();
        assert_eq!(asked(&world, &[event.to_string()]).await, Vec::<String>::new(), "{path} {form}: {}", event["type"]);
    }
    let verified = verify::run(&world.app, Mode::Compare, &mut |difference| panic!("{difference:?}")).await;
    assert_eq!(verified.expect("compared").different, 0);
}

#[tokio::test]
async fn what_happens_in_the_sandbox_is_in_our_answers_after_a_sweep() {
    let world = World::new().await;
    let token = world.ada().await;
    sweep::run(&world.app).await.expect("a sweep");
    drain(&world).await;
    for (method, path, form) in [
        ("POST", "/v1/customers/cus_sandbox_110", "name=Another"),
        ("POST", "/v1/subscriptions/sub_sandbox_061", "cancel_at_period_end=true"),
        ("DELETE", "/v1/customers/cus_sandbox_111", ""),
        ("DELETE", "/v1/coupons/FOUNDING20", ""),
        ("POST", "/v1/payment_methods/pm_sandbox_user/detach", ""),
        ("DELETE", "/v1/subscriptions/sub_sandbox_user", ""),
    ] {
        world.at_stripe(method, path, form).await;
    }
    let Swept::ToTheEnd { new, .. } = sweep::run(&world.app).await.expect("a sweep") else { panic!("not to the end") };
    assert!(new >= 6, "{new}");
    drain(&world).await;
    let mut found = Vec::new();
    let verified = verify::run(&world.app, Mode::Compare, &mut |difference| found.push(difference.clone())).await;
    assert_eq!((verified.expect("compared").different, found), (0, Vec::new()));
    let shown = world.get("/api/v1/billing/subscription", &token).await.json();
    assert_eq!(shown["status"], json!("none"));
    assert_eq!(world.get("/api/v1/billing/payment-methods", &token).await.body, "[]");
}
