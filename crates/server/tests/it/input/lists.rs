//! Lists are whole: pages against a naive model, while rows appear between them (I-15, I-16).

use std::collections::BTreeMap;

use billhook::store::charges::{self, Charge};
use billhook::store::customers::{self, Customer};
use billhook::store::mirror::{Resource, Seen};
use billhook::store::revenue::Since;
use billhook::store::subscriptions::{self, Subscription};
use billing::subscription::Status;
use jiff::Timestamp;
use serde_json::Value;

use super::{STATUSES, SUBSCRIPTIONS};
use crate::harness::{Database, Plan, World};

/// The statuses after which nothing comes.
const ENDED: [&str; 2] = ["canceled", "incomplete_expired"];

/// Numbers that are the same at every run with the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// A row as the model knows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Made {
    created: i64,
    id: String,
    status: &'static str,
}

/// Few seconds for many rows, so that ties are the rule.
fn made(dice: &mut Dice) -> Made {
    Made {
        created: 1_790_000_000 + i64::try_from(dice.below(5)).expect("small"),
        id: format!("{:012x}", dice.below(1 << 48)),
        status: STATUSES[usize::try_from(dice.below(8)).expect("small")],
    }
}

#[derive(Debug, Clone, Copy)]
enum List {
    Customers,
    Charges,
    Subscriptions(Option<&'static str>),
}

impl List {
    fn path(self) -> String {
        match self {
            Self::Customers => "/api/v1/admin/billing/customers?".to_owned(),
            Self::Charges => "/api/v1/admin/billing/recent-charges?".to_owned(),
            Self::Subscriptions(None) => format!("{SUBSCRIPTIONS}?"),
            Self::Subscriptions(Some(status)) => format!("{SUBSCRIPTIONS}?status={status}&"),
        }
    }

    fn key(self) -> &'static str {
        match self {
            Self::Customers => "customers",
            Self::Charges => "charges",
            Self::Subscriptions(_) => "subscriptions",
        }
    }

    fn shows(self, row: &Made) -> bool {
        match self {
            Self::Customers | Self::Charges | Self::Subscriptions(Some("all")) => true,
            Self::Subscriptions(None) => !ENDED.contains(&row.status),
            Self::Subscriptions(Some(status)) => row.status == status,
        }
    }

    /// The ids that the list has, newest first.
    fn model(self, rows: &[Made]) -> Vec<String> {
        let mut rows: Vec<&Made> = rows.iter().filter(|row| self.shows(row)).collect();
        rows.sort_by(|a, b| b.cmp(a));
        rows.into_iter().map(|row| row.id.clone()).collect()
    }
}

/// Writes rows to all three lists, as a sync would.
async fn write(world: &World, rows: &[Made]) {
    let rows = rows.to_vec();
    let work = move |tx: &mut billhook::store::Tx<'_>| {
        for row in &rows {
            let created = Timestamp::from_second(row.created).expect("instant");
            // Ids are unique over all kinds at Stripe; here a letter in front does it.
            let (c, h, s) = (format!("c{}", row.id), format!("h{}", row.id), format!("s{}", row.id));
            let seen = |resource, id| Seen { resource, id, raw: "{}", run: 1 };
            customers::save(tx, seen(Resource::Customers, &c), &customer(&c, created))?;
            charges::save(tx, seen(Resource::Charges, &h), &charge(&h, created))?;
            let since = Since { at: created, cause: "made".to_owned(), exact: true };
            let made = subscription(&s, row.status, created);
            subscriptions::save(tx, seen(Resource::Subscriptions, &s), &made, &[], &since, &Vec::new)?;
        }
        Ok(())
    };
    world.app.db.write(work).await.expect("written");
}

fn customer(id: &str, created: Timestamp) -> Customer {
    Customer { id: id.to_owned(), email: None, name: None, created, metadata: BTreeMap::new() }
}

fn charge(id: &str, created: Timestamp) -> Charge {
    Charge {
        id: id.to_owned(),
        customer: None,
        amount: Some(100),
        amount_refunded: None,
        currency: Some("usd".to_owned()),
        status: None,
        description: None,
        created,
        paid: true,
        refunded: false,
    }
}

fn subscription(id: &str, status: &str, created: Timestamp) -> Subscription {
    Subscription {
        id: id.to_owned(),
        customer: None,
        status: Status::parse(status),
        tier: "starter".to_owned(),
        currency: "usd".to_owned(),
        amount_minor: None,
        interval: None,
        interval_count: None,
        monthly_minor: 0,
        value_until: None,
        period: None,
        anchor: None,
        cancel_at_period_end: false,
        created,
        fault: None,
    }
}

/// Walks a list to its end while rows appear, and holds every page against the model.
async fn walk(world: &World, token: &str, list: List, rows: &mut Vec<Made>, dice: &mut Dice) {
    let at_start = list.model(rows);
    let limit = usize::try_from(1 + dice.below(20)).expect("small");
    let (mut found, mut path) = (Vec::new(), format!("{}limit={limit}", list.path()));
    loop {
        let page = world.get(&path, token).await.json();
        let ids: Vec<String> = page[list.key()]
            .as_array()
            .unwrap_or_else(|| panic!("{page}"))
            .iter()
            .map(|row| row["id"].as_str().expect("id")[1..].to_owned())
            .collect();
        assert_eq!(page["total"], list.model(rows).len(), "{list:?}: the total is of all that match, at every page");
        assert_eq!(page["has_more"], page["next_cursor"].is_string(), "{list:?}");
        assert!(ids.len() == limit || page["has_more"] == false && ids.len() < limit, "{list:?}");
        found.extend(ids);
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("{}limit={limit}&cursor={cursor}", list.path());
        let appearing: Vec<Made> = (0..dice.below(4)).map(|_| made(dice)).collect();
        write(world, &appearing).await;
        rows.extend(appearing);
    }
    let mut distinct = found.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), found.len(), "{list:?}: a row came twice");
    let known: Vec<String> = found.iter().filter(|id| at_start.contains(id)).cloned().collect();
    assert_eq!(known, at_start, "{list:?} by {limit}: what was there at the start comes once and in order");
    let now = list.model(rows);
    assert!(now.iter().filter(|id| found.contains(id)).eq(found.iter()), "{list:?}: the whole walk is in order");
}

async fn pages_hold_against_the_model(database: Database, seed: u64) {
    let world = World::planned(Plan { database, stripe: None, ..Plan::default() }).await;
    let admin = world.admin().await;
    let mut dice = Dice(seed);
    let mut rows: Vec<Made> = (0..60).map(|_| made(&mut dice)).collect();
    write(&world, &rows).await;
    let filters = STATUSES.into_iter().chain(["all"]).map(|status| List::Subscriptions(Some(status)));
    for list in filters.chain([List::Customers, List::Charges, List::Subscriptions(None)]) {
        walk(&world, &admin, list, &mut rows, &mut dice).await;
    }
}

#[tokio::test]
async fn i15_i16_pages_are_the_naive_list_while_rows_appear() {
    for seed in [1, 7, 2026, 0xb111_4004] {
        pages_hold_against_the_model(Database::sqlite(), seed).await;
    }
}

#[tokio::test]
async fn i15_i16_pages_are_the_naive_list_while_rows_appear_on_postgres() {
    pages_hold_against_the_model(Database::postgres(), 11).await;
}

#[tokio::test]
async fn the_default_of_subscriptions_is_what_has_not_ended() {
    let world = World::new().await;
    let admin = world.admin().await;
    let rows = async |query: &str| {
        let page = world.get(&format!("{SUBSCRIPTIONS}?limit=1000{query}"), &admin).await.json();
        let rows = page["subscriptions"].as_array().expect("rows").clone();
        assert_eq!(page["total"], rows.len(), "{query}");
        rows
    };
    let (running, all) = (rows("").await, rows("&status=all").await);
    let expected: Vec<Value> =
        all.iter().filter(|row| !ENDED.contains(&row["status"].as_str().expect("status"))).cloned().collect();
    assert!(expected.len() < all.len(), "the little business has ended subscriptions");
    assert_eq!(running, expected);
}
