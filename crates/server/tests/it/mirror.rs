//! The mirror of Stripe: read whole, gone on with, kept true, and never more than Stripe said.

mod ages;
mod deletions;
mod lists;
mod names;
mod parts;
mod predecessor;
mod shelf;
mod walks;

use std::collections::{BTreeMap, BTreeSet};

use billhook::app::App;
use billhook::error::Result;
use billhook::ops::doctor::{self, State};
use billhook::store::mirror::Resource;
use billhook::store::subscriptions::{self, Filter, Subscription};
use billhook::store::syncs::{self, ListState};
use billhook::store::{After, Tx};
use serde_json::{Value, json};

use crate::harness::{KEY, Plan, World, client, send};

/// The id and the given columns of every row of a mirrored list that is not deleted, by id.
async fn mirrored(app: &App, sql: &'static str) -> BTreeMap<String, Vec<String>> {
    let rows = app.db.read(move |tx| tx.rows(sql, &[])).await.expect("a read");
    let cell = |row: &billhook::store::db::Row, column| match (row.text_or_null(column), row.int_or_null(column)) {
        (Ok(text), _) => text.unwrap_or_else(|| "-".to_owned()),
        (_, number) => number.expect("text or a number").map_or_else(|| "-".to_owned(), |number| number.to_string()),
    };
    let columns = sql.split(" FROM ").next().expect("columns").matches(',').count();
    rows.iter().map(|row| (cell(row, 0), (1..=columns).map(|column| cell(row, column)).collect())).collect()
}

/// The ids of a mirrored list.
async fn ids(app: &App, resource: Resource) -> BTreeSet<String> {
    let sql = match resource {
        Resource::Coupons => "SELECT id FROM coupons WHERE deleted = 0",
        Resource::Products => "SELECT id FROM products WHERE deleted = 0",
        Resource::Prices => "SELECT id FROM prices WHERE deleted = 0",
        Resource::Customers => "SELECT id FROM customers WHERE deleted = 0",
        Resource::Subscriptions => "SELECT id FROM subscriptions WHERE deleted = 0",
        Resource::Invoices => "SELECT id FROM invoices WHERE deleted = 0",
        Resource::Charges => "SELECT id FROM charges WHERE deleted = 0",
        Resource::Refunds => "SELECT id FROM refunds WHERE deleted = 0",
        Resource::PaymentMethods => "SELECT id FROM payment_methods WHERE deleted = 0 AND customer IS NOT NULL",
    };
    mirrored(app, sql).await.into_keys().collect()
}

/// Every object of a list as any client of Stripe's reads it, page by page.
async fn at_stripe(world: &World, path: &str, query: &str) -> Vec<Value> {
    let (http, key) = (client(), format!("Bearer {KEY}"));
    let base = world.stripe.as_ref().expect("a sandbox").base_url();
    let (mut objects, mut after): (Vec<Value>, String) = (Vec::new(), String::new());
    loop {
        let url = format!("{base}{path}?limit=100{query}{after}");
        let page = send(&http, "GET", &url, &[("authorization", &key)], "").await.json();
        objects.extend(page["data"].as_array().expect("a list").iter().cloned());
        if page["has_more"] != true {
            return objects;
        }
        after = format!("&starting_after={}", objects.last().expect("a row")["id"].as_str().expect("an id"));
    }
}

async fn ids_at_stripe(world: &World, resource: Resource) -> BTreeSet<String> {
    let query = if resource == Resource::Subscriptions { "&status=all" } else { "" };
    let list = at_stripe(world, &format!("/v1/{}", resource.name()), query).await;
    let there = |object: &&Value| resource != Resource::PaymentMethods || !object["customer"].is_null();
    list.iter().filter(there).map(|object| object["id"].as_str().expect("an id").to_owned()).collect()
}

/// The mirror holds exactly what Stripe holds, list by list, and every count agrees.
async fn assert_mirror_is_stripe(world: &World) {
    for resource in Resource::ALL {
        let (here, there) = (ids(&world.app, resource).await, ids_at_stripe(world, resource).await);
        let differs: Vec<_> = here.symmetric_difference(&there).collect();
        assert!(differs.is_empty(), "{}: {differs:?} of {}", resource.name(), there.len());
    }
    assert_counts_agree(&world.app).await;
}

/// Every kept count and total is what a recount says.
async fn assert_counts_agree(app: &App) {
    let report = doctor::examine(app).await.expect("a report");
    let wrong: Vec<_> = report
        .0
        .iter()
        .filter(|check| matches!(check.check, "counts" | "totals") && check.state != State::Ok)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// What `doctor` says about the mirror's lists that is not simply well.
async fn doctors_words(app: &App) -> Vec<String> {
    let report = doctor::examine(app).await.expect("a report");
    report
        .0
        .into_iter()
        .filter(|check| check.check == "mirror" && check.state != State::Ok)
        .map(|check| check.detail)
        .collect()
}

async fn list_state(app: &App, resource: Resource) -> Option<ListState> {
    app.db.read(move |tx| syncs::get(tx, resource.name())).await.expect("a read")
}

fn subscription_in(tx: &mut Tx<'_>, id: &str) -> Result<Option<Subscription>> {
    Ok(subscriptions::page(tx, &Filter::All, &After::start(), 10_000)?.into_iter().find(|row| row.id == id))
}

async fn subscription(app: &App, id: &str) -> Subscription {
    let of = id.to_owned();
    app.db.read(move |tx| subscription_in(tx, &of)).await.expect("a read").unwrap_or_else(|| panic!("no {id}"))
}

/// `[id, unit, interval, amount a month, currency]` in one price of a made-up server.
fn price(id: &str, minor: i64, interval: &str, count: i64, currency: &str) -> Value {
    let recurring = json!({"interval": interval, "interval_count": count, "usage_type": "licensed"});
    json!({"id": id, "object": "price", "currency": currency, "unit_amount": minor, "unit_amount_decimal": minor.to_string(),
        "billing_scheme": "per_unit", "recurring": recurring, "product": "prod_1", "type": "recurring", "active": true})
}

/// A subscription of a made-up server, in the newest shape.
fn subscribed(id: &str, status: &str, items: &[(Value, i64)]) -> Value {
    let item = |(number, (price, quantity)): (usize, &(Value, i64))| {
        json!({"id": format!("si_{id}_{number}"), "object": "subscription_item", "price": price, "quantity": quantity,
            "current_period_start": 1_795_000_000, "current_period_end": 1_797_592_000, "subscription": id})
    };
    let data: Vec<Value> = items.iter().enumerate().map(item).collect();
    json!({"id": id, "object": "subscription", "status": status, "customer": "cus_1", "created": 1_790_000_000,
        "currency": items[0].0["currency"], "discounts": [], "metadata": {}, "billing_cycle_anchor": 1_795_000_000,
        "cancel_at_period_end": false, "items": {"object": "list", "data": data, "has_more": false}})
}

/// A program in front of a made-up server that holds these lists and no others.
async fn in_front_of(shelf: &shelf::Shelf) -> World {
    let plan =
        Plan { stripe: None, stripe_base: Some(shelf.base()), limits: crate::harness::impatient, ..Plan::default() };
    World::planned(plan).await
}
