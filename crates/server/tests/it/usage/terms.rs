//! Other terms: what becomes of usage when the catalogue changes, and when a change at Stripe is heard of late.

use billhook::ops::usage::corrections::Effect;
use billhook::ops::usage::{self, Verdict};
use billhook::ops::{doctor, users};
use billhook::store::Tx;
use serde_json::{Value, json};

use super::{Catalogue, instant, record, recorded, session, shown, somebody, subscribe, told};
use crate::access::key;
use crate::harness::{Answer, Database, Plan, World};

/// The next start of the program on the same database, by another catalogue.
async fn restarted(first: &World, catalogue: &Catalogue) -> World {
    let database = Database::Sqlite(first.database.path().clone());
    World::planned(Plan { database, ..catalogue.plan(None) }).await
}

/// Used, remaining, and the cost of the overage.
pub(super) fn credits(answer: &Value) -> (Value, Value, Value) {
    let credits = &answer["credits"];
    (credits["used"].clone(), credits["remaining"].clone(), credits["overage_cost"].clone())
}

pub(super) fn period(answer: &Value) -> (&str, &str) {
    let text = |name: &str| answer[name].as_str().expect("an instant");
    (text("period_start"), text("period_end"))
}

/// Faults of one check of the doctor's.
pub(super) async fn faults(world: &World, check: &str) -> Vec<String> {
    let report = doctor::examine(&world.app).await.expect("a report").0;
    let bad = report.into_iter().filter(|one| one.check == check && one.state == doctor::State::Fault);
    bad.map(|one| one.detail).collect()
}

#[tokio::test]
async fn another_zone_gives_nobody_their_credits_anew() {
    let zone = |name: &str| Catalogue::with(&[(r#"time_zone = "UTC""#, &format!("time_zone = \"{name}\""))]);
    let utc = Catalogue::with(&[]);
    for (name, end) in [
        ("America/Los_Angeles", "2026-12-01T08:00:00Z"),
        ("Asia/Tokyo", "2026-11-30T15:00:00Z"),
        ("Pacific/Niue", "2026-12-01T11:00:00Z"),
    ] {
        let first = World::planned(utc.plan(None)).await;
        let (user, _) = somebody(&first, None).await;
        record(&first, vec![told("e1", &user, "inference", "60", "2026-11-22T09:00:00Z")]).await;
        let other = zone(name);
        let moved = restarted(&first, &other).await;
        let token = session(&moved, &user).await;
        let there = shown(&moved, &token).await;
        assert_eq!((credits(&there).0, credits(&there).1), (json!(60), json!(40)), "{name}");
        assert_eq!(period(&there), ("2026-11-01T00:00:00Z", end), "{name}");
        let back = restarted(&first, &utc).await;
        let here = shown(&back, &token).await;
        assert_eq!((credits(&here).0, credits(&here).1), (json!(60), json!(40)), "{name} and back");
        assert_eq!(period(&here), ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"), "{name} and back");
        assert_eq!(faults(&back, "usage").await, Vec::<String>::new(), "{name} and back");
    }
}

/// A service asks whether so many inferences are allowed, reserves them, and asks as a gateway.
pub(super) async fn asked(world: &World, user: &str) -> (Value, [u16; 2], Answer) {
    let key = key(world, billhook::ops::keys::Scope::UsageWrite).await;
    let headers = [("authorization", key.as_str()), ("content-type", "application/json"), ("x-billhook-user", user)];
    let body = json!({ "user_id": user, "type": "inference", "quantity": 1 }).to_string();
    let check = world.send("POST", "/api/v1/usage/check", &headers, &body).await;
    let reserved = world.send("POST", "/api/v1/usage/reservations", &headers, &body).await;
    let authorized = world.request("GET", "/api/v1/usage/authorize?type=inference", &headers).await;
    (check.json()["allowed"].clone(), [check.status, reserved.status], authorized)
}

#[tokio::test]
async fn a_tier_that_the_catalogue_does_not_have_allows_nothing() {
    let with = Catalogue::with(&[]);
    let without = Catalogue::with(&[("[tiers.professional]", "[tiers.gold]")]);
    let first = World::planned(with.plan(None)).await;
    let add = users::Add {
        email: "p@example.com".to_owned(),
        name: "P".to_owned(),
        tier: Some("professional".to_owned()),
        customer: None,
        admin: false,
    };
    let user = users::add(&first.app, add).await.expect("a user");
    record(&first, vec![told("e1", &user, "inference", "60", "2026-11-22T09:00:00Z")]).await;
    let (allowed, statuses, authorized) = asked(&first, &user).await;
    assert_eq!((allowed, statuses, authorized.status), (json!(true), [200, 201], 200));

    let second = restarted(&first, &without).await;
    let token = session(&second, &user).await;
    let (allowed, statuses, authorized) = asked(&second, &user).await;
    assert_eq!((allowed, statuses), (json!(false), [200, 402]));
    assert_eq!((authorized.status, &authorized.json()["code"]), (402, &json!("credits.exhausted")));
    // It happened, so it is counted; nobody has agreed to a price for it.
    let verdicts = record(&second, vec![told("e2", &user, "inference", "1000", "2026-11-22T09:00:00Z")]).await;
    assert!(matches!(verdicts[..], [Verdict::Recorded { late: false, .. }]), "{verdicts:?}");
    let answer = shown(&second, &token).await;
    assert_eq!(credits(&answer), (json!(1060), json!(0), json!(0.0)));
    assert_eq!(faults(&second, "tiers").await, [format!("{user}: the catalogue has no tier professional")]);

    let third = restarted(&first, &with).await;
    assert_eq!(credits(&shown(&third, &token).await), (json!(1060), json!(0), json!(0.0)));
    record(&third, vec![told("e3", &user, "inference", "1000", "2026-11-22T09:00:00Z")]).await;
    assert_eq!(credits(&shown(&third, &token).await), (json!(2060), json!(0), json!(2.0)), "and is billed again");
    assert_eq!(faults(&third, "tiers").await, Vec::<String>::new());
}

/// The accounts of a version that gave such users everything are mended by the next start, whatever its catalogue.
#[tokio::test]
async fn whoever_was_taken_over_with_an_unknown_tier_is_found_by_the_next_start() {
    let first = World::planned(Plan { stripe: None, ..Plan::default() }).await;
    let (user, token) = somebody(&first, None).await;
    record(&first, vec![told("e1", &user, "inference", "1", "2026-11-22T09:00:00Z")]).await;
    usage::totals::write_down_now(&first.app).await.expect("written down");
    let id = user.clone();
    let sql = "UPDATE users SET subscription_tier = 'vip_edition' WHERE id = ?1";
    first.app.db.write(move |tx: &mut Tx<'_>| tx.run(sql, &[id.as_str().into()])).await.expect("another tier");
    let same = Catalogue::with(&[]);
    let second = restarted(&first, &same).await;
    assert_eq!(shown(&second, &token).await["credits"]["tier"], "vip_edition");
    assert_eq!(asked(&second, &user).await.0, json!(false));
    assert_eq!(faults(&second, "tiers").await, [format!("{user}: the catalogue has no tier vip_edition")]);
}

/// The closed periods of everybody: start, end and summary.
async fn closed(world: &World) -> Vec<(i64, i64, Value)> {
    usage::totals::write_down_now(&world.app).await.expect("written down");
    let sql = "SELECT start_ms, end_ms, summary FROM usage_periods ORDER BY start_ms";
    let rows = world.app.db.read(move |tx| tx.rows(sql, &[])).await.expect("rows");
    let summary = |text: String| serde_json::from_str(&text).expect("JSON");
    rows.iter()
        .map(|row| (row.int(0).expect("a start"), row.int(1).expect("an end"), summary(row.text(2).expect("text"))))
        .collect()
}

/// F-46: the anchor is moved while nobody listens. What happens after it belongs to the new period, also what came before it
/// was heard of.
#[tokio::test]
async fn f46_a_moved_anchor_that_is_heard_of_late_begins_when_it_was_moved() {
    for database in [Database::sqlite(), Database::postgres()] {
        let world = World::planned(Plan { database, ..Plan::default() }).await;
        world.sync().await;
        moved_anchor(&world).await;
    }
}

async fn moved_anchor(world: &World) {
    let (user, token) = somebody(world, Some(sandbox::USER_CUSTOMER)).await;
    record(world, vec![told("e1", &user, "inference", "490", "2026-11-22T09:00:00Z")]).await;
    let path = "/v1/subscriptions/sub_sandbox_user";
    let found = world.at_stripe("GET", path, "").await;
    let item = found["items"]["data"][0]["id"].as_str().expect("an item").to_owned();
    world.clock.set(instant("2026-11-24T08:00:00Z"));
    let form = format!(
        "billing_cycle_anchor=now&proration_behavior=none&items[0][id]={item}&items[0][price]=price_enterprise_monthly"
    );
    world.at_stripe("POST", path, &form).await;
    world.clock.set(instant("2026-11-24T12:00:00Z"));
    record(world, vec![told("e2", &user, "inference", "30", "2026-11-24T11:00:00Z")]).await;
    record(world, vec![told("e3", &user, "tts", "5", "2026-11-24T07:00:00Z")]).await;
    record(world, vec![told("gone", &user, "inference", "7", "2026-11-24T11:30:00Z")]).await;
    usage::corrections::void(&world.app, "gone", None, false).await.expect("taken back");
    world.clock.set(instant("2026-11-25T20:00:00Z"));
    world.sync().await;
    let verdicts = record(world, vec![told("e4", &user, "inference", "4000", "2026-11-24T12:00:00Z")]).await;
    assert!(matches!(verdicts[..], [Verdict::Recorded { late: false, .. }]), "{verdicts:?}");
    let answer = shown(world, &token).await;
    assert_eq!(period(&answer), ("2026-11-24T08:00:00Z", "2026-12-24T08:00:00Z"));
    let subscription = world.get("/api/v1/billing/subscription", &token).await.json();
    assert_eq!(subscription["current_period_start"], answer["period_start"]);
    assert_eq!(credits(&answer), (json!(4030), json!(970), json!(0.0)), "e2 has come over");
    assert_eq!((&answer["usage"]["month"]["inference"], &answer["usage"]["month"]["tts"]), (&json!(4030), &json!(0)));
    // The old one ends where the new one begins, with what happened in it.
    let (start, end, summary) = &closed(world).await[0];
    let ms = |text: &str| instant(text).as_millisecond();
    assert_eq!((*start, *end), (ms("2026-11-12T10:00:00Z"), ms("2026-11-24T08:00:00Z")));
    assert_eq!((&summary["used"], &summary["overage"]), (&json!("495"), &json!("0")), "{summary}");
    // What has come over is taken back where it is now.
    usage::corrections::void(&world.app, "e2", None, false).await.expect("taken back");
    assert_eq!(credits(&shown(world, &token).await), (json!(4000), json!(1000), json!(0.0)));
    assert_eq!(faults(world, "usage").await, Vec::<String>::new(), "the log says the same when it is counted anew");
}

/// Within the hour in which the old period is still open, by a process that has counted nothing of it. Whatever lies before the
/// period that runs is not read.
#[tokio::test]
async fn f46_what_has_moved_with_a_late_reset_is_taken_back_where_it_counts_now() {
    let world = World::new().await;
    let (user, token) = somebody(&world, Some(sandbox::USER_CUSTOMER)).await;
    record(&world, vec![told("e1", &user, "inference", "490", "2026-11-22T09:00:00Z")]).await;
    let path = "/v1/subscriptions/sub_sandbox_user";
    let found = world.at_stripe("GET", path, "").await;
    let item = found["items"]["data"][0]["id"].as_str().expect("an item").to_owned();
    world.clock.set(instant("2026-11-24T08:00:00Z"));
    let form = format!(
        "billing_cycle_anchor=now&proration_behavior=none&items[0][id]={item}&items[0][price]=price_enterprise_monthly"
    );
    world.at_stripe("POST", path, &form).await;
    world.clock.set(instant("2026-11-24T08:20:00Z"));
    record(&world, vec![told("e2", &user, "inference", "50", "2026-11-24T08:10:00Z")]).await;
    world.clock.set(instant("2026-11-24T08:40:00Z"));
    world.sync().await;
    assert_eq!(credits(&shown(&world, &token).await).0, json!(50), "e2 has come over");
    usage::totals::write_down_now(&world.app).await.expect("written down");

    let database = Database::Sqlite(world.database.path().clone());
    let other = World::planned(Plan { database, ..Plan::default() }).await;
    other.clock.set(instant("2026-11-24T08:50:00Z"));
    let sql = "UPDATE usage_log SET kind = 99 WHERE transaction_id = 'e1'";
    other.app.db.write(move |tx: &mut Tx<'_>| tx.run(sql, &[])).await.expect("an entry that cannot be read");
    for preview in [true, false] {
        let void = usage::corrections::void(&other.app, "e2", None, preview).await.expect("a correction");
        let Some(Effect::In { period, late: false, .. }) = void.effect else { panic!("{void:?}") };
        assert_eq!(period, instant("2026-11-24T08:00:00Z"));
        assert!(preview || matches!(void.verdict, Some(Verdict::Recorded { .. })), "{void:?}");
    }
    usage::following::follow_log(&world.app).await.expect("followed");
    assert_eq!(credits(&shown(&world, &token).await).0, json!(0));
    // The old period has kept what is its own.
    world.clock.set(instant("2026-11-24T10:00:00Z"));
    record(&world, vec![told("e3", &user, "inference", "1", "2026-11-24T09:30:00Z")]).await;
    assert_eq!(closed(&world).await[0].2["used"], "490");
}

#[tokio::test]
async fn f46_a_first_subscription_that_is_heard_of_late_takes_what_was_used_since() {
    let world = World::planned(Plan::default()).await;
    let (user, token) = somebody(&world, Some("cus_sandbox_130")).await;
    world.sync().await;
    assert_eq!(record(&world, vec![told("e1", &user, "inference", "90", "2026-11-22T09:00:00Z")]).await, [recorded(2)]);
    subscribe(&world, "2026-11-24T08:00:00Z", "price_professional_monthly").await;
    world.clock.set(instant("2026-11-25T12:00:00Z"));
    record(&world, vec![told("e2", &user, "inference", "50", "2026-11-24T12:00:00Z")]).await;
    world.clock.set(instant("2026-11-25T20:00:00Z"));
    world.sync().await;
    let answer = shown(&world, &token).await;
    assert_eq!(period(&answer), ("2026-11-24T08:00:00Z", "2026-12-24T08:00:00Z"));
    assert_eq!(credits(&answer), (json!(50), json!(450), json!(0.0)));
    assert_eq!(closed(&world).await[0].2["used"], "90");
    assert_eq!(faults(&world, "usage").await, Vec::<String>::new());
}

/// The rule of an upgrade: whatever was used counts towards the new tier's credits, also what is billed as overage of the old one.
#[tokio::test]
async fn an_upgrade_within_the_period_keeps_what_was_used_and_what_is_owed() {
    let world = World::new().await;
    let (user, token) = somebody(&world, Some(sandbox::USER_CUSTOMER)).await;
    record(&world, vec![told("e1", &user, "inference", "600", "2026-11-22T09:00:00Z")]).await;
    assert_eq!(credits(&shown(&world, &token).await), (json!(600), json!(0), json!(0.2)));
    let path = "/v1/subscriptions/sub_sandbox_user";
    let found = world.at_stripe("GET", path, "").await;
    let item = found["items"]["data"][0]["id"].as_str().expect("an item");
    let form = format!("proration_behavior=none&items[0][id]={item}&items[0][price]=price_enterprise_monthly");
    world.at_stripe("POST", path, &form).await;
    world.sync().await;
    assert_eq!(credits(&shown(&world, &token).await), (json!(600), json!(4400), json!(0.2)));
    record(&world, vec![told("e2", &user, "inference", "4500", "2026-11-22T09:00:00Z")]).await;
    assert_eq!(credits(&shown(&world, &token).await), (json!(5100), json!(0), json!(0.3)));
}
