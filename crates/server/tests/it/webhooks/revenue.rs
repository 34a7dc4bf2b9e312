//! Revenue by its points: whatever is heard late, twice, out of order or with a date in the past, the movements are those
//! that took place, and the last points sum to the statistics (I-07).

use std::time::Duration;

use billhook::error::Error;
use billhook::ops::revenue::history::{self, History};
use billhook::ops::revenue::recount;
use billhook::ops::{derivation, doctor, webhooks};
use billhook::store::totals;
use serde_json::{Value, json};

use super::account::{Account, Dice, Told};
use super::{drain, in_front_of, now, on, take};
use crate::harness::{Database, World};

pub const CUSTOMER: &str = "cus_1";

/// One licensed item of 49.00 USD a month, so many times.
fn items(quantity: u64) -> Value {
    let price = json!({"id": "price_1", "object": "price", "currency": "usd", "unit_amount": 4_900, "type": "recurring",
        "billing_scheme": "per_unit", "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"},
        "product": "prod_1"});
    let item = json!({"id": "si_1", "object": "subscription_item", "quantity": quantity, "discounts": [], "price": price,
        "current_period_start": now(), "current_period_end": now() + 2_592_000});
    json!({"object": "list", "has_more": false, "data": [item]})
}

pub fn active(quantity: u64) -> Value {
    json!({"customer": CUSTOMER, "status": "active", "currency": "usd", "discounts": [], "items": items(quantity)})
}

/// Lets Stripe's clock go on.
pub fn later(account: &Account, seconds: i64) {
    account.inside().now += seconds;
}

pub async fn of(world: &World) -> History {
    history::of_customer(&world.app, CUSTOMER).await.expect("a history")
}

/// `new+4900@10` and so on: seconds after the beginning.
pub async fn movements(world: &World) -> Vec<String> {
    let movements = of(world).await.movements;
    let shown = movements.iter().map(|movement| {
        let about = if movement.exact { '@' } else { '~' };
        let (by, at) = (movement.difference().expect("a difference").minor(), movement.at.as_second() - now());
        format!("{}{by:+}{about}{at}", movement.kind.as_str())
    });
    shown.collect()
}

/// The statistics are the sum of the rows, and each row is what the last point of its subscription says.
pub async fn adds_up(world: &World) {
    let sums = world.app.db.read(|tx| Ok((totals::all(tx)?, totals::recount(tx)?))).await.expect("a read");
    assert_eq!(sums.0, sums.1);
    let points = recount::recount(&world.app).await.expect("a recount");
    assert_eq!(points.named, []);
}

/// A customer who comes, grows, shrinks, leaves and comes back with another subscription.
fn eventful(account: &Account) -> Vec<Told> {
    let mut told = Vec::new();
    for (after, subscription, members) in [
        (10, "sub_1", active(1)),
        (10, "sub_1", active(3)),
        (10, "sub_1", json!({"items": items(2)})),
        (10, "sub_1", json!({"metadata": {"note": "nothing of worth"}})),
        (10, "sub_1", json!({"status": "canceled", "ended_at": now() + 50, "canceled_at": now() + 50})),
        (10, "sub_2", active(1)),
    ] {
        later(account, after);
        told.push(account.put("subscriptions", subscription, &members));
    }
    told
}

const EVENTFUL: [&str; 5] =
    ["new+4900@10", "expansion+9800@20", "contraction-4900@30", "churn-9800@50", "reactivation+4900@60"];

/// Every order of the first four with the rest behind them, each with the program applying in between or not.
#[tokio::test]
async fn i07_the_movements_do_not_depend_on_when_their_causes_are_heard_of() {
    for seed in 0..60 {
        let mut dice = Dice::new(seed);
        let account = Account::open(now());
        let world = in_front_of(&account).await;
        let mut told = eventful(&account);
        dice.shuffle(&mut told);
        world.clock.advance(Duration::from_secs(70));
        for told in &told {
            later(&account, i64::try_from(dice.roll(3)).expect("small"));
            for _ in 0..=dice.roll(2) {
                take(&world, told).await;
            }
            if dice.roll(2) == 0 {
                drain(&world).await;
                adds_up(&world).await;
            }
        }
        drain(&world).await;
        adds_up(&world).await;
        assert_eq!(movements(&world).await, EVENTFUL, "seed {seed}: {:#?}", of(&world).await.points);
    }
}

#[tokio::test]
async fn i07_on_postgres_as_well() {
    let account = Account::open(now());
    let world = on(&account, Database::postgres()).await;
    let mut told = eventful(&account);
    told.reverse();
    world.clock.advance(Duration::from_secs(70));
    for told in told.iter().chain(&told) {
        take(&world, told).await;
        drain(&world).await;
        adds_up(&world).await;
    }
    assert_eq!(movements(&world).await, EVENTFUL);
}

/// Within one second nobody knows which event was first, least of all by their ids; what Stripe shows in the end holds.
#[tokio::test]
async fn events_of_one_second_end_in_what_stripe_shows() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    later(&account, 10);
    world.clock.advance(Duration::from_secs(10));
    let made = account.put("subscriptions", "sub_1", &active(1));
    let grown = account.put("subscriptions", "sub_1", &active(3));
    let renamed =
        |told: &Told, id: &str| Told { id: id.to_owned(), body: told.body.replace(&told.id, id), ..told.clone() };
    for told in [renamed(&grown, "evt_a"), renamed(&made, "evt_z")] {
        take(&world, &told).await;
        drain(&world).await;
        adds_up(&world).await;
    }
    let movements = of(&world).await.movements;
    assert_eq!(movements.last().map(|last| last.after.minor()), Some(14_700), "{movements:?}");
}

#[tokio::test]
async fn a_cause_with_a_date_in_the_past_takes_effect_then() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    world.clock.advance(Duration::from_secs(500));
    later(&account, 100);
    let mut backdated = active(1);
    backdated["start_date"] = json!(now() + 40);
    let mut told = vec![account.put("subscriptions", "sub_1", &backdated)];
    later(&account, 100);
    let ended = json!({"status": "canceled", "canceled_at": now() + 150, "ended_at": now() + 150});
    told.push(account.put("subscriptions", "sub_1", &ended));
    let trial = json!({"customer": CUSTOMER, "status": "trialing", "trial_end": now() + 270, "currency": "usd",
        "discounts": [], "items": items(2)});
    told.push(account.put("subscriptions", "sub_2", &trial));
    later(&account, 100);
    told.push(account.put("subscriptions", "sub_2", &json!({"status": "active"})));
    for told in &told {
        take(&world, told).await;
        drain(&world).await;
    }
    assert_eq!(movements(&world).await, ["new+4900@40", "churn-4900@150", "reactivation+9800@270"]);
    adds_up(&world).await;
}

#[tokio::test]
async fn what_no_event_told_is_concluded_and_says_so() {
    let account = Account::open(now());
    let ended = json!({"status": "canceled", "trial_end": now() + 20, "ended_at": now() + 90});
    account.put("subscriptions", "sub_1", &active(2));
    account.put("subscriptions", "sub_1", &ended);
    later(&account, 30);
    account.put("subscriptions", "sub_2", &active(1));
    account.put(
        "subscriptions",
        "sub_3",
        &json!({"customer": "cus_2", "status": "incomplete_expired", "currency": "usd",
        "ended_at": now() + 50, "discounts": [], "items": items(1)}),
    );
    let world = in_front_of(&account).await;
    assert_eq!(movements(&world).await, ["new+9800~20", "expansion+4900~30", "contraction-9800~90"]);
    let never_paid = history::of_customer(&world.app, "cus_2").await.expect("a history");
    assert_eq!((never_paid.movements.len(), never_paid.points.len()), (0, 1));
    assert!(matches!(history::of_customer(&world.app, "cus_nobody").await, Err(Error::NotFound)));
    adds_up(&world).await;
    // Changed while nobody listened: a full sync sees it, and knows only that it was so when it looked.
    account.put("subscriptions", "sub_2", &json!({"items": items(3)}));
    world.clock.advance(Duration::from_secs(300));
    later(&account, 300);
    world.sync().await;
    let all = movements(&world).await;
    assert!(all.last().is_some_and(|last| last.starts_with("expansion+9800~3")), "{all:?}");
    adds_up(&world).await;
}

/// Stripe keeps events for thirty days. What ended meanwhile ended when it says, not when we looked.
#[tokio::test]
async fn an_end_that_no_event_told_of_is_dated_as_stripe_dates_it() {
    let account = Account::open(now());
    for subscription in ["sub_1", "sub_2"] {
        account.put("subscriptions", subscription, &active(1));
    }
    let world = in_front_of(&account).await;
    later(&account, 31 * 86_400);
    world.clock.advance(Duration::from_hours(31 * 24));
    let ended = json!({"status": "canceled", "canceled_at": now() + 50, "ended_at": now() + 100});
    account.put("subscriptions", "sub_1", &ended);
    // Without a date all that is known is that it was so when it was looked at.
    account.put("subscriptions", "sub_2", &json!({"status": "canceled"}));
    world.sync().await;
    let all = movements(&world).await;
    assert_eq!(&all[..all.len() - 1], ["new+9800~0", "contraction-4900@100"]);
    let last = all.last().and_then(|last| last.strip_prefix("churn-4900~")?.parse::<i64>().ok());
    assert!(last.is_some_and(|at| at >= 31 * 86_400), "{all:?}");
    adds_up(&world).await;
}

#[tokio::test]
async fn a_coupon_that_runs_out_moves_revenue_at_its_end() {
    let account = Account::open(now());
    let coupon = json!({"id": "HALF", "object": "coupon", "duration": "repeating", "duration_in_months": 3,
        "percent_off": 50, "applies_to": {"products": []}, "currency": null});
    let mut members = active(1);
    members["discounts"] = json!([{"id": "di_1", "object": "discount", "start": now(), "end": now() + 600,
        "source": {"type": "coupon", "coupon": coupon}}]);
    account.put("subscriptions", "sub_1", &members);
    let world = in_front_of(&account).await;
    // An event names the discount only; the mirror shows it.
    later(&account, 100);
    world.clock.advance(Duration::from_secs(100));
    let told = account.put("subscriptions", "sub_1", &json!({"items": items(2)}));
    let mut body: Value = serde_json::from_str(&told.body).expect("JSON");
    body["data"]["object"]["discounts"] = json!(["di_1"]);
    take(&world, &Told { body: body.to_string(), ..told }).await;
    drain(&world).await;
    world.clock.advance(Duration::from_secs(900));
    derivation::follow_time(&world.app).await.expect("followed");
    assert_eq!(movements(&world).await, ["new+2450~0", "expansion+2450@100", "expansion+4900@600"]);
    adds_up(&world).await;
}

#[tokio::test]
async fn a_subscription_that_stripe_no_longer_has_brings_nothing_more() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    later(&account, 10);
    world.clock.advance(Duration::from_secs(20));
    take(&world, &account.put("subscriptions", "sub_1", &active(1))).await;
    drain(&world).await;
    account.inside().objects.clear();
    world.sync().await;
    assert_eq!(movements(&world).await[1].split(['@', '~']).next(), Some("churn-4900"));
    adds_up(&world).await;
}

#[tokio::test]
async fn with_an_event_its_point_is_forgotten_unless_it_moved_something() {
    let account = Account::open(now());
    let world = in_front_of(&account).await;
    world.clock.advance(Duration::from_secs(70));
    for told in eventful(&account) {
        take(&world, &told).await;
        drain(&world).await;
    }
    let before = of(&world).await.points.len();
    world.clock.advance(Duration::from_secs(41 * 86_400));
    assert_eq!(webhooks::forget_old(&world.app).await.expect("forgotten"), 6);
    let history = of(&world).await;
    assert!(history.points.len() < before, "{:#?}", history.points);
    assert_eq!(movements(&world).await, EVENTFUL);
    adds_up(&world).await;
}

/// What `doctor` finds wrong with points and totals.
async fn faults(world: &World) -> Vec<String> {
    let report = doctor::examine(&world.app).await.expect("a report");
    let wrong =
        |check: &doctor::Check| check.state == doctor::State::Fault && ["revenue", "totals"].contains(&check.check);
    report.0.into_iter().filter(wrong).map(|check| format!("{} {}", check.check, check.detail)).collect()
}

async fn doctor_names_each_subscription_whose_points_are_wrong(database: Database) {
    let account = Account::open(now());
    for id in ["sub_1", "sub_2"] {
        account.put("subscriptions", id, &active(1));
    }
    let mut unpriced = active(1);
    unpriced["items"]["data"][0]["price"]["unit_amount"] = Value::Null;
    unpriced["items"]["data"][0]["price"]["unit_amount_decimal"] = Value::Null;
    account.put("subscriptions", "sub_4", &unpriced);
    let world = on(&account, database).await;
    assert_eq!(faults(&world).await, Vec::<String>::new());
    let fine = movements(&world).await;
    let right = "unknown active of cus_1, usd, 4900 a month in minor units";
    let unknown = "unknown active of cus_1, usd, of unknown worth";
    let row =
        |id: &str, row: &str, point: &str| format!("revenue {id}: its row says {row}; its last point says {point}");
    for (sql, expected) in [
        (
            "UPDATE revenue_points SET monthly_minor = 1 WHERE subscription = 'sub_1'",
            vec![row("sub_1", right, "unknown active of cus_1, usd, 1 a month in minor units")],
        ),
        ("DELETE FROM revenue_points WHERE subscription = 'sub_2'", vec![row("sub_2", right, "nothing")]),
        (
            "UPDATE revenue_points SET subscription = 'sub_3' WHERE subscription = 'sub_2'",
            vec![row("sub_2", right, "nothing"), row("sub_3", "nothing", right)],
        ),
        (
            "UPDATE revenue_points SET currency = 'eur' WHERE subscription = 'sub_1'",
            vec![row("sub_1", right, "unknown active of cus_1, eur, 4900 a month in minor units")],
        ),
        (
            "UPDATE revenue_points SET unpriced = 0 WHERE subscription = 'sub_4'",
            vec![row("sub_4", unknown, "unknown active of cus_1, usd, 0 a month in minor units")],
        ),
        (
            "UPDATE revenue_points SET customer = 'cus_2' WHERE subscription = 'sub_1'",
            vec![row("sub_1", right, "unknown active of cus_2, usd, 4900 a month in minor units")],
        ),
        (
            "UPDATE subscription_totals SET unpriced = 0",
            vec![
                "totals kept usd unknown active: 3 subscriptions, 9800 a month in minor units, 0 of unknown worth"
                    .to_owned(),
                "totals counted usd unknown active: 3 subscriptions, 9800 a month in minor units, 1 of unknown worth"
                    .to_owned(),
            ],
        ),
    ] {
        world.app.db.write(move |tx| tx.run(sql, &[])).await.expect("spoilt");
        assert_eq!(faults(&world).await, expected, "{sql}");
        doctor::repair(&world.app).await.expect("mended");
        assert_eq!(faults(&world).await, Vec::<String>::new(), "{sql}");
        adds_up(&world).await;
        if sql.starts_with("DELETE") {
            assert_eq!(movements(&world).await, fine, "its own dates say since when it brought that");
        }
    }
}

#[tokio::test]
async fn doctor_finds_points_that_are_not_what_the_rows_say_and_settles_them() {
    doctor_names_each_subscription_whose_points_are_wrong(Database::sqlite()).await;
}

#[tokio::test]
async fn doctor_finds_them_on_postgres_as_well() {
    doctor_names_each_subscription_whose_points_are_wrong(Database::postgres()).await;
}

/// More than one step, and more than are named.
#[tokio::test]
async fn doctor_walks_over_all_points_and_names_the_first_of_many() {
    let account = Account::open(now());
    for number in 0..450 {
        account.put("subscriptions", &format!("sub_{number:03}"), &active(1));
    }
    let world = in_front_of(&account).await;
    let examined = recount::recount(&world.app).await.expect("a recount");
    assert_eq!((examined.subscriptions, examined.wrong), (450, 0));
    let spoil = "UPDATE revenue_points SET monthly_minor = 1 WHERE subscription > 'sub_199'";
    world.app.db.write(move |tx| tx.run(spoil, &[])).await.expect("spoilt");
    let examined = recount::recount(&world.app).await.expect("a recount");
    assert_eq!((examined.subscriptions, examined.wrong, examined.named.len()), (450, 250, 100));
    assert_eq!(faults(&world).await.last().map(String::as_str), Some("revenue and 150 more subscriptions"));
    doctor::repair(&world.app).await.expect("mended");
    adds_up(&world).await;
}
