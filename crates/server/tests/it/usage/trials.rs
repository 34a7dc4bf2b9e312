//! Tiers that end, and tiers that give shares: what the catalogue says, through the door and with the clock moved.

use billhook::ops::doctor;
use billhook::ops::usage::Verdict;
use billhook::store::{Tx, users};
use serde_json::json;

use super::terms::{asked, credits, faults, period};
use super::{Catalogue, record, recorded, shown, somebody, subscribe, told, upgrade};
use crate::harness::{Answer, Database, Plan, World, instant};

/// The built-in catalogue with a trial of fourteen days.
fn of_fourteen_days() -> Catalogue {
    Catalogue::with(&[("included_credits = \"100\"\n", "included_credits = \"100\"\ntrial_days = 14\n")])
}

fn is_over(authorized: &Answer) {
    let refused = authorized.json();
    assert_eq!((authorized.status, &refused["code"]), (402, &json!("trial.over")), "{refused}");
    let url = refused["upgrade_url"].as_str().expect("where to go");
    assert!(url.ends_with("/billing/upgrade"), "{url}");
    assert_eq!(
        (authorized.header("ratelimit"), authorized.header("retry-after")),
        (None, None),
        "no time gives it back"
    );
}

#[tokio::test]
async fn a_trial_has_its_credits_once_and_nothing_comes_after_it() {
    let catalogue = of_fourteen_days();
    for database in [Database::sqlite(), Database::postgres()] {
        tried(&World::planned(Plan { database, ..catalogue.plan(None) }).await).await;
    }
}

async fn tried(world: &World) {
    let (user, token) = somebody(world, None).await;
    let whole = ("2026-11-22T10:00:00Z", "2026-12-06T10:00:00Z");
    assert_eq!(period(&shown(world, &token).await), whole, "it begins with the user and not with what they use");
    assert_eq!(record(world, vec![told("e1", &user, "inference", "60", "2026-11-22T10:00:00Z")]).await, [recorded(2)]);
    world.clock.set(instant("2026-12-01T00:00:00Z"));
    let answer = shown(world, &token).await;
    assert_eq!(
        (credits(&answer), period(&answer)),
        ((json!(60), json!(40), json!(0.0)), whole),
        "a month gives nothing"
    );

    world.clock.set(instant("2026-12-06T09:59:59.999Z"));
    let (allowed, statuses, authorized) = asked(world, &user).await;
    assert_eq!((allowed, statuses, authorized.status), (json!(true), [200, 201], 200));
    world.clock.set(instant("2026-12-06T10:00:00Z"));
    let (allowed, statuses, authorized) = asked(world, &user).await;
    assert_eq!((allowed, statuses), (json!(false), [200, 402]));
    is_over(&authorized);

    // It happened, so it is counted.
    let verdicts = record(world, vec![told("e2", &user, "inference", "7", "2026-12-06T10:00:00Z")]).await;
    assert!(matches!(verdicts[..], [Verdict::Recorded { late: false, .. }]), "{verdicts:?}");
    let answer = shown(world, &token).await;
    assert_eq!(credits(&answer), (json!(7), json!(0), json!(0.0)));
    assert_eq!(answer["credits"]["included_credits"], 0);
    assert_eq!(period(&answer), ("2026-12-06T10:00:00Z", "2027-01-06T10:00:00Z"));
    world.clock.set(instant("2027-03-01T00:00:00Z"));
    is_over(&asked(world, &user).await.2);
    for check in ["usage", "tiers"] {
        assert_eq!(faults(world, check).await, [""; 0], "{check}");
    }
}

#[tokio::test]
async fn whoever_subscribes_leaves_the_trial_and_finds_it_over_afterwards() {
    let catalogue = of_fourteen_days();
    let world = World::planned(catalogue.plan(Plan::default().stripe)).await;
    let (user, token) = somebody(&world, Some("cus_sandbox_130")).await;
    world.sync().await;
    record(&world, vec![told("e1", &user, "inference", "60", "2026-11-22T10:00:00Z")]).await;
    assert_eq!(period(&shown(&world, &token).await), ("2026-11-22T10:00:00Z", "2026-12-06T10:00:00Z"));
    subscribe(&world, "2026-11-24T08:00:00Z", "price_professional_monthly").await;
    world.sync().await;
    let answer = shown(&world, &token).await;
    assert_eq!(period(&answer), ("2026-11-24T08:00:00Z", "2026-12-24T08:00:00Z"));
    assert_eq!(credits(&answer), (json!(0), json!(500), json!(0.0)), "nothing of the trial is carried");
    assert_eq!(faults(&world, "tiers").await, [""; 0]);

    world.clock.set(instant("2026-12-07T08:00:00Z"));
    assert_eq!(asked(&world, &user).await.0, json!(true), "it is the subscription that holds");
    let subscriptions = world.at_stripe("GET", "/v1/subscriptions?customer=cus_sandbox_130", "").await;
    let id = subscriptions["data"][0]["id"].as_str().expect("a subscription");
    world.at_stripe("DELETE", &format!("/v1/subscriptions/{id}"), "").await;
    world.sync().await;
    is_over(&asked(&world, &user).await.2);
    for check in ["usage", "tiers"] {
        assert_eq!(faults(&world, check).await, [""; 0], "{check}");
    }
}

/// What the users table says of a user's first day.
async fn dated(world: &World, user: &str, text: Option<&str>) {
    let args = [user.into(), text.map(str::to_owned).into()];
    let write = move |tx: &mut Tx<'_>| {
        tx.run("UPDATE users SET created_at = ?2 WHERE id = ?1", &args)?;
        // Nobody was told.
        tx.run("DELETE FROM stale_plans", &[])
    };
    world.app.db.write(write).await.expect("another day");
}

#[tokio::test]
async fn a_trial_of_which_nobody_knows_when_it_began_allows_nothing_and_is_named() {
    let catalogue = of_fourteen_days();
    let world = World::planned(catalogue.plan(None)).await;
    let (user, token) = somebody(&world, None).await;
    for (text, created) in [
        (Some("2026-11-20 10:00:00"), Some("2026-11-20T10:00:00Z")),
        (Some("2026-11-20 10:00:00.5"), Some("2026-11-20T10:00:00.5Z")),
        (Some("2026-11-20T12:00:00+02:00"), Some("2026-11-20T10:00:00Z")),
        (Some("1763632800"), None),
        (Some("2026-02-29 10:00:00"), None),
        (Some(""), None),
        (None, None),
        (Some("yesterday"), None),
    ] {
        dated(&world, &user, text).await;
        let id = user.clone();
        let row = world.app.db.read(move |tx| users::get(tx, &id)).await.expect("a row").expect("a user");
        assert_eq!(row.created, created.map(instant), "{text:?}");
    }
    let (allowed, statuses, authorized) = asked(&world, &user).await;
    assert_eq!((allowed, statuses), (json!(false), [200, 402]));
    assert_eq!(authorized.json()["code"], "credits.exhausted");
    record(&world, vec![told("e1", &user, "inference", "5", "2026-11-22T09:00:00Z")]).await;
    assert_eq!(credits(&shown(&world, &token).await), (json!(5), json!(0), json!(0.0)));
    let named = format!("{user}: users.created_at does not say when the trial began");
    assert_eq!(faults(&world, "tiers").await, [named]);

    dated(&world, &user, Some("2026-11-20 10:00:00")).await;
    let named = format!("{user}: usage is counted by another end of the trial");
    assert_eq!(faults(&world, "tiers").await, [named]);
    doctor::repair(&world.app).await.expect("repaired");
    assert_eq!(faults(&world, "tiers").await, [""; 0]);
    let answer = shown(&world, &token).await;
    assert_eq!((credits(&answer), period(&answer).1), ((json!(5), json!(95), json!(0.0)), "2026-12-04T10:00:00Z"));
    assert_eq!(asked(&world, &user).await.0, json!(true));
}

#[tokio::test]
async fn a_change_of_tier_gives_shares_where_the_catalogue_says_so() {
    let catalogue = Catalogue::with(&[("time_zone = \"UTC\"\n", "time_zone = \"UTC\"\nplan_change = \"prorate\"\n")]);
    for database in [Database::sqlite(), Database::postgres()] {
        let world = World::planned(Plan { database, ..catalogue.plan(Plan::default().stripe) }).await;
        world.sync().await;
        shares(&world).await;
    }
}

async fn shares(world: &World) {
    let (user, token) = somebody(world, Some(sandbox::USER_CUSTOMER)).await;
    record(world, vec![told("e1", &user, "inference", "600", "2026-11-22T09:00:00Z")]).await;
    assert_eq!(credits(&shown(world, &token).await), (json!(600), json!(0), json!(0.2)));
    // Half of the thirty days from 12 November on.
    world.clock.set(instant("2026-11-27T10:00:00Z"));
    upgrade(world, "").await;
    world.sync().await;
    let answer = shown(world, &token).await;
    assert_eq!(answer["credits"]["included_credits"], 2_750, "250 of 500 and 2,500 of 5,000");
    assert_eq!(credits(&answer), (json!(600), json!(2_150), json!(0.2)), "what is owed stays owed");
    assert_eq!(faults(world, "usage").await, [""; 0], "the log says the same when it is counted anew");

    // No share lasts in a tier that the catalogue does not have.
    let id = user.clone();
    let sql = "UPDATE users SET own_tier = 'vip_edition' WHERE id = ?1";
    world.app.db.write(move |tx| tx.run(sql, &[id.as_str().into()])).await.expect("another tier");
    world.at_stripe("DELETE", "/v1/subscriptions/sub_sandbox_user", "").await;
    world.sync().await;
    let answer = shown(world, &token).await;
    assert_eq!((&answer["tier"], &answer["credits"]["included_credits"]), (&json!("vip_edition"), &json!(0)));
    assert_eq!(asked(world, &user).await.0, json!(false));
    assert_eq!(faults(world, "usage").await, [""; 0]);
}
