//! Events about things of which nothing is mirrored: they are kept, they change only what they are about, and none of them is
//! in anybody's way.

use std::sync::atomic::Ordering;
use std::time::Duration;

use billhook::ops::verify::{self, Mode};
use billhook::store::mirror::Resource;
use billhook::store::webhooks::State;
use serde_json::Value;

use super::account::SECRET;
use super::{deliver, drain, event, mirrored};
use crate::harness::{Plan, World};

async fn in_front_of_the_business() -> World {
    let environment = vec![("STRIPE_WEBHOOK_SECRET", SECRET.to_owned())];
    let world = World::planned(Plan { environment, ..Plan::default() }).await;
    world.sync().await;
    world
}

/// Lets days go by, there and here.
async fn live(world: &World, days: u64) {
    let by = Duration::from_secs(days * 24 * 60 * 60);
    world.clock.advance(by);
    world.stripe.as_ref().expect("a sandbox").settle().await;
}

/// Every event there is, oldest first.
async fn events(world: &World) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let after = all
            .last()
            .map_or(String::new(), |event: &Value| format!("&starting_after={}", event["id"].as_str().expect("an id")));
        let page = world.at_stripe("GET", &format!("/v1/events?limit=100{after}"), "").await;
        all.extend(page["data"].as_array().expect("a list").clone());
        if page["has_more"] == false {
            all.reverse();
            return all;
        }
    }
}

/// Hands everything over as webhooks and applies it.
async fn hear(world: &World, events: &[Value]) {
    for event in events {
        let answer = deliver(world, &event.to_string()).await;
        assert_eq!(answer.status, 200, "{event}: {}", answer.body);
    }
    drain(world).await;
}

/// What became of an event: the note of one that is applied.
async fn became(world: &World, told: &Value) -> String {
    let id = told["id"].as_str().expect("an id");
    match event(world, id).await.unwrap_or_else(|| panic!("{told} was not kept")).state {
        State::Applied { note, .. } => note.unwrap_or_default(),
        other => panic!("{told}: {other:?}"),
    }
}

async fn is_as_there(world: &World) {
    let mut found = Vec::new();
    let verified = verify::run(&world.app, Mode::Compare, &mut |difference| found.push(difference.clone())).await;
    assert_eq!((verified.expect("compared").different, found), (0, Vec::new()));
}

#[tokio::test]
async fn a_dispute_is_news_about_its_charge() {
    let world = in_front_of_the_business().await;
    let mut charges = Vec::new();
    for card in ["createDispute", "createDisputeInquiry"] {
        let form = format!("amount=900&currency=usd&confirm=true&payment_method=pm_card_{card}");
        let intent = world.at_stripe("POST", "/v1/payment_intents", &form).await;
        charges.push(intent["latest_charge"].as_str().expect("a charge").to_owned());
        let id = intent["id"].as_str().expect("an id");
        let found = world.at_stripe("GET", &format!("/v1/disputes?payment_intent={id}"), "").await;
        let place = format!("/v1/disputes/{}", found["data"][0]["id"].as_str().expect("a dispute"));
        world.at_stripe("POST", &place, "evidence[uncategorized_text]=winning_evidence").await;
        world.at_stripe("GET", &place, "").await;
    }
    let told = events(&world).await;
    let disputes: Vec<&Value> = told.iter().filter(|event| event["data"]["object"]["object"] == "dispute").collect();
    assert_eq!(disputes.len(), 4 + 1 + 2 + 1, "{told:?}");
    hear(&world, &told).await;
    for event in &disputes {
        became(&world, event).await;
    }
    for charge in charges {
        let ours = mirrored(&world, Resource::Charges, &charge).await.expect("mirrored");
        assert_eq!(ours["disputed"], true, "{charge}");
    }
    is_as_there(&world).await;
}

#[tokio::test]
async fn what_is_only_announced_is_not_looked_for() {
    let world = in_front_of_the_business().await;
    live(&world, 29).await;
    let told = events(&world).await;
    let announced: Vec<Value> = told.iter().filter(|event| event["type"] == "invoice.upcoming").cloned().collect();
    assert!(announced.len() > 50, "{}", announced.len());
    let looks = || world.app.webhooks.fetched.load(Ordering::Relaxed);
    let before = looks();
    hear(&world, &announced).await;
    for event in &announced {
        assert_eq!(became(&world, event).await, "nothing of it is mirrored");
    }
    assert_eq!(looks(), before);
}

#[tokio::test]
async fn a_schedule_is_seen_in_the_subscription_that_it_changes() {
    let world = in_front_of_the_business().await;
    let now = world.now().as_second();
    let customer =
        world.at_stripe("POST", "/v1/customers", "source=tok_visa").await["id"].as_str().expect("an id").to_owned();
    let form = format!(
        "customer={customer}&start_date=now&phases[0][items][0][price]=price_starter_monthly&phases[0][end_date]={}\
         &phases[1][items][0][price]=price_professional_monthly&phases[1][duration][interval]=month",
        now + 3 * 24 * 60 * 60
    );
    let schedule = world.at_stripe("POST", "/v1/subscription_schedules", &form).await;
    let subscription = schedule["subscription"].as_str().expect("a subscription").to_owned();
    hear(&world, &events(&world).await).await;
    let price = async || {
        let ours = mirrored(&world, Resource::Subscriptions, &subscription).await.expect("mirrored");
        ours["items"]["data"][0]["price"]["id"].as_str().expect("a price").to_owned()
    };
    assert_eq!(price().await, "price_starter_monthly");
    live(&world, 4).await;
    let told = events(&world).await;
    hear(&world, &told).await;
    assert_eq!(price().await, "price_professional_monthly");
    let about = |event: &&Value| event["type"].as_str().is_some_and(|kind| kind.starts_with("subscription_schedule."));
    let of_schedules: Vec<&Value> = told.iter().filter(about).collect();
    assert!(of_schedules.len() >= 3, "{of_schedules:?}");
    for event in of_schedules {
        assert_eq!(became(&world, event).await, "nothing of it is mirrored");
    }
    is_as_there(&world).await;
}
