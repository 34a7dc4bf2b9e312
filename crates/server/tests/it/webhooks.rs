//! Stripe's events: proven, kept once, applied in any order, asked for where they were lost.

pub mod account;
mod age;
mod apply;
mod coupons;
mod crash;
mod intake;
mod interleavings;
mod poison;
mod revenue;
mod sandbox;
mod schedules;
mod setup;
mod sweep;
mod unmirrored;

use billhook::gateways::stripe::Settings;
use billhook::store::mirror::{self, Resource};
use billhook::store::webhooks::{self, Event, State};

use self::account::{Account, Dice, SECRET, Told, signature};
use crate::harness::{Answer, Database, NOW, Plan, World, impatient};

/// What the tests' clock shows, in seconds.
pub fn now() -> i64 {
    NOW.parse::<jiff::Timestamp>().expect("instant").as_second()
}

/// A program in front of a small Stripe, with a webhook secret, which has read everything once.
pub async fn in_front_of(account: &Account) -> World {
    on(account, Database::sqlite()).await
}

/// The same where nobody is in a hurry.
pub async fn patiently_in_front_of(account: &Account) -> World {
    with_limits(account, Database::sqlite(), |settings| settings).await
}

pub async fn on(account: &Account, database: Database) -> World {
    with_limits(account, database, impatient).await
}

async fn with_limits(account: &Account, database: Database, limits: fn(Settings) -> Settings) -> World {
    let plan = Plan {
        stripe: None,
        stripe_base: Some(account.base()),
        limits,
        environment: vec![("STRIPE_WEBHOOK_SECRET", SECRET.to_owned())],
        database,
        ..Plan::default()
    };
    let world = World::planned(plan).await;
    world.sync().await;
    world
}

/// Sends a body as Stripe would.
pub async fn deliver(world: &World, body: &str) -> Answer {
    let header = signature(SECRET, world.now().as_second(), body.as_bytes());
    post(world, &header, body).await
}

async fn post(world: &World, header: &str, body: &str) -> Answer {
    let headers = [("stripe-signature", header), ("content-type", "application/json")];
    world.send("POST", "/api/v1/webhooks/stripe", &headers, body).await
}

/// Takes an event in without the way over HTTP.
async fn take(world: &World, told: &Told) {
    let header = signature(SECRET, world.now().as_second(), told.body.as_bytes());
    billhook::ops::webhooks::intake::receive(&world.app, Some(&header), told.body.as_bytes()).await.expect("taken");
}

/// Applies everything that is due.
pub async fn drain(world: &World) -> billhook::ops::webhooks::apply::Drained {
    billhook::ops::webhooks::apply::drain(&world.app).await.expect("drained")
}

/// An event as it is kept.
async fn event(world: &World, id: &str) -> Option<Event> {
    let id = id.to_owned();
    world.app.db.read(move |tx| webhooks::get(tx, &id)).await.expect("a read")
}

async fn state(world: &World, id: &str) -> State {
    event(world, id).await.unwrap_or_else(|| panic!("no {id}")).state
}

/// The mirrored object; nothing when it is not there or deleted.
pub async fn mirrored(world: &World, resource: Resource, id: &str) -> Option<serde_json::Value> {
    let id = id.to_owned();
    let raw = world
        .app
        .db
        .read(move |tx| if mirror::is_there(tx, resource, &id)? { mirror::raw(tx, resource, &id) } else { Ok(None) })
        .await
        .expect("a read");
    raw.map(|raw| serde_json::from_str(&raw).expect("JSON"))
}

/// Every object of the account is mirrored as it is there, and nothing else is. Says what differs.
async fn differences(world: &World, account: &Account) -> Vec<String> {
    let there = account.inside().objects.clone();
    let mut found = Vec::new();
    for resource in Resource::ALL {
        let ids = world.app.db.read(move |tx| mirror::unseen(tx, resource, i64::MAX, "", 1_000_000)).await;
        for id in ids.expect("a read") {
            if !there.iter().any(|(list, object)| list == resource.name() && object["id"] == id) {
                found.push(format!("{} {id}: mirrored, and gone at Stripe", resource.name()));
            }
        }
    }
    for (list, object) in there {
        let resource = Resource::ALL.into_iter().find(|resource| resource.name() == list).expect("a list");
        let id = object["id"].as_str().expect("an id").to_owned();
        let ours = mirrored(world, resource, &id).await;
        if ours.as_ref() != Some(&object) {
            found.push(format!("{list} {id}: {ours:?} is {object} at Stripe"));
        }
    }
    found
}
