//! Totals move with the rows they count.

use std::collections::BTreeMap;

use billhook::error::Result;
use billhook::store::mirror::{Resource, Seen};
use billhook::store::parts::{self, Product};
use billhook::store::revenue as points;
use billhook::store::subscriptions::{self, Subscription};
use billhook::store::{Db, Tx, mirror, totals};
use billing::catalogue::Catalogue;
use billing::money::Currency;
use billing::revenue::{self, Total};
use billing::subscription::Status;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::{open, professional, save, since};
use crate::harness::Database;

/// One thing that happens to one of a few subscriptions.
#[derive(Debug, Clone)]
enum Step {
    Save { number: u8, status: usize, tier: usize, currency: usize, minor: i64, fault: bool },
    Delete { number: u8 },
}

const STATUSES: [&str; 9] =
    ["active", "trialing", "past_due", "unpaid", "paused", "incomplete", "incomplete_expired", "canceled", "dunning"];
const TIERS: [&str; 5] = ["trial", "starter", "professional", "enterprise", "unknown"];
const CURRENCIES: [&str; 3] = ["usd", "jpy", "kwd"];

fn step() -> impl Strategy<Value = Step> {
    let save =
        (0..9_u8, 0..STATUSES.len(), 0..TIERS.len(), 0..CURRENCIES.len(), 0..1_000_000_i64, prop::bool::weighted(0.1));
    prop_oneof![
        4 => save.prop_map(|(number, status, tier, currency, minor, fault)| Step::Save { number, status, tier, currency, minor, fault }),
        1 => (0..9_u8).prop_map(|number| Step::Delete { number }),
    ]
}

/// Transactions, each of a few steps.
fn histories() -> impl Strategy<Value = Vec<Vec<Step>>> {
    prop::collection::vec(prop::collection::vec(step(), 1..8), 1..6)
}

fn row(step: &Step) -> Option<Subscription> {
    let Step::Save { number, status, tier, currency, minor, fault } = step else { return None };
    let status = Status::parse(STATUSES[*status]);
    let monthly_minor = if status.earns() && !fault { *minor } else { 0 };
    Some(Subscription {
        status,
        tier: TIERS[*tier].to_owned(),
        currency: CURRENCIES[*currency].to_owned(),
        monthly_minor,
        fault: fault.then(|| "the price is not known".to_owned()),
        ..professional(&format!("sub_{number}"), i64::from(*number))
    })
}

fn apply(tx: &mut Tx<'_>, step: &Step) -> Result<()> {
    match step {
        Step::Save { .. } => save(tx, &row(step).expect("a save"), &[]),
        Step::Delete { number } => {
            let since = since(tx)?;
            subscriptions::delete(tx, &format!("sub_{number}"), &since).map(drop)
        }
    }
}

/// The same in the plainest way: a map of what is there, and a sum over it.
fn naive(history: &[Vec<Step>]) -> BTreeMap<String, Subscription> {
    let mut there = BTreeMap::new();
    for step in history.iter().flatten() {
        match step {
            Step::Save { number, .. } => drop(there.insert(format!("sub_{number}"), row(step).expect("a save"))),
            Step::Delete { number } => drop(there.remove(&format!("sub_{number}"))),
        }
    }
    there
}

fn naive_totals(there: &BTreeMap<String, Subscription>) -> Vec<Total> {
    let mut sums: BTreeMap<(String, String, String), (u64, i64, u64)> = BTreeMap::new();
    for one in there.values() {
        let key = (one.currency.clone(), one.tier.clone(), one.status.as_str().to_owned());
        let sum = sums.entry(key).or_default();
        *sum = (sum.0 + 1, sum.1 + one.monthly_minor, sum.2 + u64::from(one.fault.is_some()));
    }
    sums.into_iter()
        .map(|((currency, tier, status), (count, monthly_minor, unpriced))| Total {
            currency: Currency::parse(&currency).expect("a currency"),
            tier,
            status: Status::parse(&status),
            count,
            monthly_minor,
            unpriced,
        })
        .collect()
}

async fn forget(db: &Db) {
    db.write(|tx| {
        for sql in [
            "DELETE FROM subscriptions",
            "DELETE FROM subscription_totals",
            "DELETE FROM object_counts",
            "DELETE FROM revenue_points",
        ] {
            tx.run(sql, &[])?;
        }
        Ok(())
    })
    .await
    .expect("empty");
}

pub async fn i07_totals_are_the_sums_of_their_rows_after_any_history(database: Database) {
    let db = open(&database).await;
    // The same histories on every run; a failing one is printed whole.
    let mut runner = TestRunner::deterministic();
    for _ in 0..40 {
        let history = histories().new_tree(&mut runner).expect("a history").current();
        forget(&db).await;
        for steps in history.clone() {
            db.write(move |tx| steps.iter().try_for_each(|step| apply(tx, step))).await.expect("written");
        }
        let there = naive(&history);
        let (kept, recounted, points, objects, counted) = db
            .read(|tx| {
                let objects = totals::objects(tx)?.get("subscriptions").copied().unwrap_or(0);
                let counted = mirror::recount(tx, Resource::Subscriptions)?;
                let points = points::standings(tx, "", "sub_9")?;
                Ok((totals::all(tx)?, totals::recount(tx)?, points, objects, counted))
            })
            .await
            .expect("a read");
        assert_eq!(kept, naive_totals(&there), "{history:?}");
        assert_eq!(kept, recounted, "{history:?}");
        let points: BTreeMap<_, _> = points.into_iter().map(|(id, standing)| (id, standing.counted)).collect();
        let rows: BTreeMap<_, _> = there.iter().map(|(id, one)| (id.clone(), one.counted())).collect();
        assert_eq!(points, rows, "the last points are the rows: {history:?}");
        assert_eq!((objects, counted), (there.len() as u64, there.len() as u64), "{history:?}");
        parts_sum_to_the_whole(&kept, &there);
    }
}

/// sum(tiers) == total, in every currency, and each subscription is counted once (I-07).
fn parts_sum_to_the_whole(kept: &[Total], there: &BTreeMap<String, Subscription>) {
    let stats = revenue::stats(&Catalogue::built_in(), kept).expect("statistics");
    let sum = |lines: &[revenue::TierLine]| {
        lines.iter().map(|line| (line.count, line.revenue.minor())).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    };
    let earned =
        |code: &str| there.values().filter(|one| one.currency == code).map(|one| one.monthly_minor).sum::<i64>();
    let active = there.values().filter(|one| one.status.is_active()).count() as u64;
    assert_eq!(sum(&stats.tiers), (active, stats.monthly.minor()));
    assert_eq!((stats.active, stats.monthly.minor()), (active, earned("usd")));
    for (currency, own) in &stats.by_currency {
        assert_eq!((sum(&own.tiers).1, own.monthly.minor()), (earned(currency.code()), earned(currency.code())));
    }
}

pub async fn totals_that_are_wrong_are_found_and_mended(database: Database) {
    let db = open(&database).await;
    db.write(|tx| save(tx, &professional("sub_1", 1), &[])).await.expect("saved");
    db.write(|tx| tx.run("UPDATE subscription_totals SET monthly_minor = 1, count = 7", &[])).await.expect("spoilt");
    let differs = || db.read(|tx| Ok(totals::all(tx)? != totals::recount(tx)?));
    assert!(differs().await.expect("a read"));
    db.write(totals::rebuild).await.expect("mended");
    assert!(!differs().await.expect("a read"));
}

pub async fn a_subscription_that_is_seen_again_unchanged_moves_nothing(database: Database) {
    let db = open(&database).await;
    let seen = |run| Seen { resource: Resource::Subscriptions, id: "sub_1", raw: "the text", run };
    let (known, touched, unseen) = db
        .write(move |tx| {
            let before = seen(1).unchanged(tx)?;
            let since = since(tx)?;
            subscriptions::save(tx, seen(1), &professional("sub_1", 1), &[], &since, &Vec::new)?;
            let after = seen(2).unchanged(tx)?;
            let other = Seen { raw: "another text", ..seen(3) }.unchanged(tx)?;
            Ok((
                (before, after, other),
                subscriptions::run_of(tx, "sub_1")?,
                mirror::unseen(tx, Resource::Subscriptions, 3, "", 9)?,
            ))
        })
        .await
        .expect("written");
    assert_eq!((known, touched, unseen), ((false, true, false), Some(2), vec!["sub_1".to_owned()]));
    // Deleted, it is no longer known by its text: seen again, it comes back and counts.
    let (known, total) = db
        .write(move |tx| {
            let since = since(tx)?;
            subscriptions::delete(tx, "sub_1", &since)?;
            let known = seen(4).unchanged(tx)?;
            subscriptions::save(tx, seen(4), &professional("sub_1", 1), &[], &since, &Vec::new)?;
            Ok((known, totals::all(tx)?[0].count))
        })
        .await
        .expect("written");
    assert_eq!((known, total), (false, 1));
}

pub async fn parts_that_changed_name_the_subscriptions_made_of_them(database: Database) {
    let db = open(&database).await;
    let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let made_of = [of(&["price_1", "prod_1"]), of(&["price_1", "price_1", "prod_2"]), of(&["price_2"])];
    let found = db
        .write(move |tx| {
            for (number, parts) in made_of.iter().enumerate() {
                save(tx, &professional(&format!("sub_{number}"), 1), parts)?;
            }
            // No longer made of price_1.
            save(tx, &professional("sub_0", 2), &made_of[2])?;
            for part in ["price_1", "price_9"] {
                parts::mark_stale(tx, part)?;
                parts::mark_stale(tx, part)?;
            }
            let stale = parts::next_stale(tx)?;
            parts::unmark_stale(tx, "price_1")?;
            Ok((
                stale,
                parts::next_stale(tx)?,
                parts::subscriptions_with(tx, "price_1", "", 9)?,
                parts::subscriptions_with(tx, "price_2", "sub_0", 9)?,
            ))
        })
        .await
        .expect("written");
    assert_eq!(found, (Some("price_1".to_owned()), None, of(&["sub_1"]), of(&["sub_2"])));
    let metadata = BTreeMap::from([("tier".to_owned(), "starter".to_owned())]);
    let product = Product { id: "prod_1".to_owned(), name: None, metadata: metadata.clone() };
    let kept = db
        .write(move |tx| {
            parts::save_product(tx, Seen { resource: Resource::Products, id: "prod_1", raw: "{}", run: 1 }, &product)?;
            parts::product_metadata(tx, "prod_1")
        })
        .await
        .expect("written");
    assert_eq!(kept, Some(metadata));
}
