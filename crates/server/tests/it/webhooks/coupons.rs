//! Revenue with coupons: what an event only names is found where it is shown, and each coupon's end moves revenue at its
//! second, whatever was heard when.

use std::time::Duration;

use billhook::ops::derivation;
use billhook::store::totals;
use serde_json::{Value, json};

use super::account::{Account, Dice, Told};
use super::revenue::{active, adds_up, later, movements, of};
use super::{drain, in_front_of, now, take, with_limits};
use crate::harness::{Database, World};

/// So many per cent, for some months that end then.
fn discount(id: &str, percent: u64, end: i64) -> Value {
    let coupon = json!({"id": format!("OFF{percent}"), "object": "coupon", "duration": "repeating", "duration_in_months": 3,
        "percent_off": percent, "applies_to": {"products": []}, "currency": null});
    json!({"id": id, "object": "discount", "start": now(), "end": now() + end, "source": {"type": "coupon", "coupon": coupon},
        "subscription": "sub_1"})
}

fn with(quantity: u64, discounts: &[Value]) -> Value {
    let mut members = active(quantity);
    members["discounts"] = json!(discounts);
    members
}

/// The event as Stripe sends it: it only names discounts.
fn naming(told: &Told) -> Told {
    let mut body: Value = serde_json::from_str(&told.body).expect("JSON");
    for place in ["object", "previous_attributes"] {
        for discount in body["data"][place]["discounts"].as_array_mut().into_iter().flatten() {
            *discount = discount["id"].clone();
        }
    }
    Told { body: body.to_string(), ..told.clone() }
}

/// The event that tells of a discount itself.
fn of_discount(what: &str, discount: &Value, at: i64) -> Told {
    let (id, created) = (format!("evt_{what}_{at}"), now() + at);
    let body = json!({"id": id, "object": "event", "type": format!("customer.discount.{what}"), "created": created,
        "api_version": null, "livemode": false, "data": {"object": discount}});
    Told { id, created, body: body.to_string() }
}

/// Lets the clocks of both sides show so many seconds after the beginning.
fn at(world: &World, account: &Account, seconds: i64) {
    let passed = now() + seconds - world.now().as_second();
    world.clock.advance(Duration::from_secs(u64::try_from(passed).expect("time goes on")));
    account.inside().now = now() + seconds;
}

async fn hear(world: &World, told: &[Told]) {
    for told in told {
        take(world, told).await;
    }
    drain(world).await;
    adds_up(world).await;
}

#[tokio::test]
async fn a_discount_that_an_event_only_names_is_found_where_it_is_shown() {
    let half = discount("di_1", 50, 100_000);
    let changed = |account: &Account, members: &Value| naming(&account.put("subscriptions", "sub_1", members));
    // What was just read shows it.
    let account = Account::open(now());
    account.put("subscriptions", "sub_1", &with(1, &[]));
    let world = in_front_of(&account).await;
    at(&world, &account, 100);
    let told = changed(&account, &with(1, std::slice::from_ref(&half)));
    at(&world, &account, 130);
    hear(&world, &[told]).await;
    assert_eq!(movements(&world).await, ["new+4900~0", "contraction-2450@100"]);

    // It came and went between two looks: its own events show it.
    let account = Account::open(now());
    account.put("subscriptions", "sub_1", &with(1, &[]));
    let world = in_front_of(&account).await;
    at(&world, &account, 100);
    let came = changed(&account, &with(1, std::slice::from_ref(&half)));
    at(&world, &account, 200);
    let went = changed(&account, &with(1, &[]));
    hear(&world, &[came.clone(), of_discount("created", &half, 100), went.clone()]).await;
    assert_eq!(movements(&world).await, ["new+4900~0", "contraction-2450@100", "expansion+2450@200"]);

    // The same, and only that it went is told of it.
    let account = Account::open(now());
    account.put("subscriptions", "sub_1", &with(1, &[]));
    let world = in_front_of(&account).await;
    at(&world, &account, 200);
    let mut gone = half.clone();
    gone["deleted"] = json!(true);
    hear(&world, &[went, came, of_discount("deleted", &gone, 200)]).await;
    assert_eq!(movements(&world).await, ["new+4900~0", "contraction-2450@100", "expansion+2450@200"]);
}

#[tokio::test]
async fn a_discount_that_is_gone_is_found_in_what_the_mirror_had_before() {
    let (account, half) = (Account::open(now()), discount("di_1", 50, 100_000));
    account.put("subscriptions", "sub_1", &with(1, std::slice::from_ref(&half)));
    let world = in_front_of(&account).await;
    at(&world, &account, 100);
    let grown = naming(&account.put("subscriptions", "sub_1", &with(2, &[half])));
    at(&world, &account, 200);
    let dearer = naming(&account.put("subscriptions", "sub_1", &with(2, &[])));
    hear(&world, &[dearer]).await;
    at(&world, &account, 300);
    hear(&world, &[grown]).await;
    assert_eq!(movements(&world).await, ["new+2450~0", "expansion+2450@100", "expansion+4900@200"]);
}

/// A coupon that nobody can read is left out of what the row is worth, and of what the event is worth: since when is known,
/// how much is not.
#[tokio::test]
async fn a_coupon_that_nobody_knows_makes_a_point_that_is_not_exact() {
    let mut odd = discount("di_1", 50, 100_000);
    odd["source"]["coupon"]["duration"] = json!("now and then");
    let only_named = json!("di_2");
    for (shown, sent) in [(odd.clone(), odd), (only_named.clone(), only_named)] {
        let account = Account::open(now());
        account.put("subscriptions", "sub_1", &with(1, &[]));
        let world = in_front_of(&account).await;
        at(&world, &account, 100);
        let told = account.put("subscriptions", "sub_1", &with(2, &[shown]));
        let mut body: Value = serde_json::from_str(&told.body).expect("JSON");
        body["data"]["object"]["discounts"] = json!([sent]);
        at(&world, &account, 130);
        hear(&world, &[Told { body: body.to_string(), ..told }]).await;
        assert_eq!(movements(&world).await, ["new+4900~0", "expansion+4900~100"], "{sent}");
    }
    // Neither shown nor named by anybody any more: nothing is said of that time.
    let account = Account::open(now());
    account.put("subscriptions", "sub_1", &with(1, &[]));
    let world = in_front_of(&account).await;
    at(&world, &account, 100);
    let came = naming(&account.put("subscriptions", "sub_1", &with(3, &[discount("di_1", 50, 100_000)])));
    at(&world, &account, 200);
    let went = naming(&account.put("subscriptions", "sub_1", &with(2, &[])));
    hear(&world, &[came, went]).await;
    assert_eq!(movements(&world).await, ["new+4900~0", "expansion+4900@200"]);
}

/// What happens to a subscription: seconds after the beginning, and the subscription from then on.
fn eventful() -> Vec<(i64, Value)> {
    let (half, quarter) = (discount("di_1", 50, 600), discount("di_2", 25, 900));
    vec![
        (10, with(1, std::slice::from_ref(&half))),
        (100, with(2, std::slice::from_ref(&half))),
        (700, with(3, &[half])),
        (800, with(3, &[quarter])),
    ]
}

const EVENTFUL: [&str; 6] = [
    "new+2450@10",
    "expansion+2450@100",
    "expansion+4900@600",
    "expansion+4900@700",
    "contraction-3675@800",
    "expansion+3675@900",
];

/// Each event is heard at some time after it happened, and others look in between, or nobody does.
async fn heard_in_any_order(seed: u64, database: Database) {
    let mut dice = Dice::new(seed);
    let account = Account::open(now());
    // In no hurry: what a busy machine answers late is not what is asked here.
    let world = with_limits(&account, database, |settings| settings).await;
    let mut agenda: Vec<(i64, usize, bool)> = Vec::new();
    for (number, (happens, _)) in eventful().iter().enumerate() {
        // Never within a second of anything else: nobody could say which was first.
        let delay = if dice.roll(2) == 0 { 3 } else { 5 + 10 * i64::try_from(dice.roll(100)).expect("small") };
        agenda.extend([(*happens, number, false), (happens + delay, number, true)]);
    }
    agenda.sort_unstable();
    let mut told: Vec<Told> = Vec::new();
    for (when, number, is_heard) in agenda {
        at(&world, &account, when);
        if is_heard {
            hear(&world, &told[number..=number]).await;
        } else {
            told.push(naming(&account.put("subscriptions", "sub_1", &eventful()[number].1)));
        }
        if dice.roll(3) == 0 {
            derivation::follow_time(&world.app).await.expect("followed");
            adds_up(&world).await;
        }
    }
    at(&world, &account, 2_000);
    derivation::follow_time(&world.app).await.expect("followed");
    adds_up(&world).await;
    assert_eq!(movements(&world).await, EVENTFUL, "seed {seed}: {:#?}", of(&world).await.points);
}

#[tokio::test]
async fn the_end_of_a_coupon_is_filled_in_whatever_is_heard_when() {
    for seed in 0..40 {
        heard_in_any_order(seed, Database::sqlite()).await;
    }
}

#[tokio::test]
async fn the_end_of_a_coupon_is_filled_in_on_postgres_as_well() {
    for seed in 100..104 {
        heard_in_any_order(seed, Database::postgres()).await;
    }
}

#[tokio::test]
async fn coupons_that_ended_while_nobody_looked_end_each_at_its_second() {
    let account = Account::open(now());
    let both = [discount("di_1", 50, 300), discount("di_2", 50, 600)];
    account.put("subscriptions", "sub_1", &with(4, &both));
    let world = in_front_of(&account).await;
    at(&world, &account, 900);
    derivation::follow_time(&world.app).await.expect("followed");
    assert_eq!(movements(&world).await, ["new+4900~0", "expansion+4900@300", "expansion+9800@600"]);
    adds_up(&world).await;
}

#[tokio::test]
async fn what_is_concluded_of_the_past_has_its_coupons_ends() {
    let account = Account::open(now());
    account.put("subscriptions", "sub_1", &with(2, &[discount("di_1", 50, 300)]));
    later(&account, 1_000);
    account.put("subscriptions", "sub_2", &with(1, &[discount("di_2", 50, 300)]));
    let canceled = json!({"status": "canceled", "ended_at": now() + 400, "created": now()});
    account.put("subscriptions", "sub_2", &canceled);
    let world = Box::pin(late_in_front_of(&account)).await;
    assert_eq!(movements(&world).await, ["new+7350~0", "expansion+7350~300", "contraction-4900~400"]);
    adds_up(&world).await;
}

/// A program that begins long after the account did.
async fn late_in_front_of(account: &Account) -> World {
    let objects = std::mem::take(&mut account.inside().objects);
    let world = in_front_of(account).await;
    account.inside().objects = objects;
    at(&world, account, 1_000);
    world.sync().await;
    world
}

/// Its text is lost, so nothing can be derived from it: that is no reason to try for ever.
#[tokio::test]
async fn a_coupon_of_a_subscription_without_a_text_keeps_nobody_busy() {
    let account = Account::open(now());
    account.put("subscriptions", "sub_1", &with(1, &[discount("di_1", 50, 300)]));
    let world = in_front_of(&account).await;
    world.app.db.write(|tx| tx.run("DELETE FROM raw_objects WHERE id = 'sub_1'", &[])).await.expect("lost");
    at(&world, &account, 400);
    let following = tokio::time::timeout(Duration::from_secs(20), derivation::follow_time(&world.app));
    following.await.expect("an end").expect("followed");
    // A full sync brings the text back, and with it the coupon's end.
    world.app.db.write(|tx| tx.run("UPDATE subscriptions SET fingerprint = 0", &[])).await.expect("unknown");
    world.sync().await;
    let worth = world.app.db.read(totals::all).await.expect("a read");
    assert_eq!(worth[0].monthly_minor, 4_900);
    adds_up(&world).await;
}
