//! The usage log is the truth: nothing acknowledged is lost or doubled, and what is counted is what a recount says.
//!
//! Each test that proves something has beside it one that spoils the same thing and shows that it would be seen.

mod breaks;
mod crash;
mod first;
mod following;
mod history;
mod many;
mod packs;
mod power;
mod pressure;
mod processes;
mod readers;
mod scale;
mod served;
mod spoilt;
mod unreadable;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;

use billhook::app::App;
use billhook::clock::{Chance, Clock, Manual};
use billhook::config::Config;
use billhook::ops::usage::{self, Told, Verdict};
use billhook::ops::users;
use billhook::store::log::{self, Kind, Logged};
use billing::usage::Quantity;
use jiff::Timestamp;

use crate::harness::{Database, NOW, event, instant};

fn now() -> Arc<Manual> {
    Arc::new(Manual::at(instant(NOW)))
}

/// A program on a database, as a process of its own would be.
async fn program(database: &Database, clock: &Arc<Manual>) -> App {
    program_with(&database.address(), clock, &[]).await
}

async fn program_with(address: &str, clock: &Arc<Manual>, environment: &[(&str, &str)]) -> App {
    program_named(address, clock, environment, 7).await
}

/// Programs of another seed have another name before the others.
async fn program_named(address: &str, clock: &Arc<Manual>, environment: &[(&str, &str)], seed: u64) -> App {
    let mut variables: BTreeMap<String, String> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    variables.insert("DATABASE_URL".to_owned(), address.to_owned());
    let config = Config::read(&variables).expect("a configuration");
    App::build(config, Arc::clone(clock) as Arc<dyn Clock>, Chance::seeded(seed)).await.expect("a program")
}

async fn add_user(app: &App, name: &str) -> String {
    let add = users::Add {
        email: format!("{name}@example.com"),
        name: name.to_owned(),
        tier: Some("professional".to_owned()),
        customer: None,
        admin: false,
    };
    users::add(app, add).await.expect("a user")
}

async fn add_users(app: &App, count: usize) -> Vec<String> {
    let mut users = Vec::new();
    for number in 0..count {
        users.push(add_user(app, &format!("u{number}")).await);
    }
    users
}

fn told(id: &str, user: &str, kind: &str, micro: i64, at: Timestamp) -> Told {
    Told { quantity: Quantity::from_micro(micro), ..event(id, user, kind, "0", at) }
}

/// One inference of now.
fn one(id: &str, user: &str) -> Told {
    told(id, user, "inference", 1_000_000, instant(NOW))
}

async fn record(app: &App, told: Vec<Told>) -> Vec<Verdict> {
    usage::record(app, told).await.expect("recorded")
}

/// What a recount has to complain of.
async fn differences(app: &App) -> Vec<String> {
    let recount = usage::recount::recount(app).await.expect("a recount");
    recount.damage.into_iter().map(|damage| damage.what).chain(recount.differences).collect()
}

/// Everything in memory is counted and written down, and a recount agrees with all of it.
async fn settled(app: &App) {
    usage::following::follow_log(app).await.expect("followed");
    usage::totals::write_down_now(app).await.expect("written down");
    assert_eq!(differences(app).await, Vec::<String>::new());
}

async fn whole_log(app: &App) -> Vec<Logged> {
    app.db.read(|tx| log::read(tx, 0, i64::MAX)).await.expect("the log")
}

/// Usage entries by transaction id: how often each is there.
async fn times_recorded(app: &App) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for entry in whole_log(app).await.into_iter().filter(|entry| entry.kind == Kind::Usage) {
        *times.entry(entry.transaction_id).or_default() += 1;
    }
    times
}

/// The accounts of a book as bytes, by user.
fn accounts(app: &App) -> BTreeMap<String, Vec<u8>> {
    app.book.slots().iter().map(|slot| (slot.user.to_string(), slot.lock().account.encode())).collect()
}

/// A small generator of numbers that can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.roll()).expect("31 bits") % most
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}
