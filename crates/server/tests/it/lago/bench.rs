//! A program and a Lago that share a clock. The program can be dropped and built again on the same database.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use billhook::app::App;
use billhook::clock::{Chance, Clock, Manual};
use billhook::config::Config;
use billhook::ops::doctor::{Report, State};
use billhook::ops::lago::examine::examine;
use billhook::ops::lago::reconcile::{self, Which};
use billhook::ops::lago::setup::{self, Mode, Outcome};
use billhook::ops::lago::ship::{self, Shipped};
use billhook::ops::lago::{again, owed, status};
use billhook::ops::usage::{self, Told, Verdict, plans};
use billhook::ops::users;
use billhook::store::db::Value as Column;
use billhook::store::log::{self, Kind};
use billhook::store::{self, Tx};
use billing::catalogue::Catalogue;
use billing::usage::Quantity;
use jiff::Timestamp;
use sandbox::lago::{self, Fault, FaultKind, Lago, Store};
use serde_json::{Value, json};

use crate::harness::{Database, client, event, instant, send};

pub const KEY: &str = "lago_canaryCANARY";
/// Where events go.
pub const BATCHES: &str = "/api/v1/events/batch";
static SEEDS: AtomicU64 = AtomicU64::new(1);

pub struct Bench {
    pub lago: Lago,
    pub clock: Arc<Manual>,
    pub app: App,
    config: Config,
    #[allow(dead_code, reason = "it is thrown away with the bench")]
    pub database: Database,
}

/// Both databases and both of Lago's stores.
pub fn everywhere() -> [(Database, Store); 4] {
    [
        (Database::sqlite(), Store::Postgres),
        (Database::sqlite(), Store::ClickHouse),
        (Database::postgres(), Store::Postgres),
        (Database::postgres(), Store::ClickHouse),
    ]
}

impl Bench {
    /// A program and a Lago in which everything is set up.
    pub async fn new(database: Database, store: Store) -> Self {
        let bench = Self::bare(database, store).await;
        bench.set_up().await;
        bench
    }

    /// The same without metrics and plans at Lago.
    pub async fn bare(database: Database, store: Store) -> Self {
        let clock = Arc::new(Manual::at("2026-11-20T09:00:00.456Z".parse().expect("instant")));
        let lago = start(store, &clock).await;
        let environment: BTreeMap<String, String> = [
            ("DATABASE_URL", database.address()),
            ("LAGO_API_URL", lago.base_url()),
            ("LAGO_API_KEY", KEY.to_owned()),
            ("BILLHOOK_LAGO_RATE", "10000".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let config = Config::read(&environment).expect("a configuration");
        let app = build(&config, &clock).await;
        Self { lago, clock, app, config, database }
    }

    pub async fn set_up(&self) {
        let lines = setup::run(&self.app, Mode::Make).await.expect("a set-up");
        assert!(lines.iter().all(|line| line.outcome == Outcome::Created), "{lines:?}");
    }

    /// The process ends without a word and starts again.
    pub async fn crash(&mut self) {
        self.app = build(&self.config, &self.clock).await;
    }

    /// The same, and chance begins with this seed.
    pub async fn crash_into(&mut self, seed: u64) {
        self.app = build_with(&self.config, &self.clock, seed).await;
    }

    /// The process ends and starts again with another catalogue: the one that is built in, changed like this.
    pub async fn change_catalogue(&mut self, changes: &[(&str, &str)]) {
        let mut text = Catalogue::BUILT_IN.to_owned();
        for (from, to) in changes {
            assert_eq!(text.matches(from).count(), 1, "{from}");
            text = text.replace(from, to);
        }
        self.config.catalogue = Catalogue::parse(&text).expect("a catalogue");
        // Those who crashed before are long gone, by clocks that leases do not run by.
        self.app.db.write(|tx| tx.run("DELETE FROM leases", &[])).await.expect("ended");
        self.crash().await;
    }

    /// The process ends and starts again with another Lago, in which everything is set up and nobody is known.
    pub async fn change_lago(&mut self, store: Store) {
        self.lago = start(store, &self.clock).await;
        self.config.lago.as_mut().expect("a Lago").base = self.lago.base_url();
        self.crash().await;
        self.set_up().await;
    }

    /// The same where it is called as the one before: somebody has put an old copy back.
    pub async fn lose_lago(&mut self, store: Store) {
        self.change_lago(store).await;
        self.app.db.write(|tx| tx.run("DELETE FROM facts WHERE name = 'lago_at'", &[])).await.expect("forgotten");
    }

    /// Another process on the same database.
    pub async fn second_process(&self) -> App {
        build(&self.config, &self.clock).await
    }

    /// A command beside it, whose shell has no catalogue.
    pub async fn visitor(&self) -> App {
        let config = Config { catalogue: Catalogue::built_in(), ..self.config.clone() };
        App::visit(config, Arc::clone(&self.clock) as _, Chance::seeded(0)).await.expect("a command")
    }

    pub async fn user(&self, name: &str) -> String {
        self.user_of(name, Some("professional")).await
    }

    pub async fn user_of(&self, name: &str, tier: Option<&str>) -> String {
        let add = users::Add {
            email: format!("{name}@example.com"),
            name: name.to_owned(),
            tier: tier.map(str::to_owned),
            customer: None,
            admin: false,
        };
        users::add(&self.app, add).await.expect("a user")
    }

    /// Gives a user another tier, as a change at Stripe would.
    pub async fn change_tier(&self, user: &str, tier: &str) {
        let (user, tier) = (user.to_owned(), tier.to_owned());
        let change = move |tx: &mut Tx<'_>| {
            let sql = "UPDATE users SET subscription_tier = ?2 WHERE id = ?1";
            tx.run(sql, &[Column::from(user.clone()), Column::from(tier.clone())])?;
            store::plans::mark_user(tx, &user)
        };
        self.app.db.write(change).await.expect("a tier");
        plans::follow(&self.app).await.expect("followed");
    }

    /// Records usage of now.
    pub async fn use_some(&self, user: &str, kind: &str, quantities: &[&str]) {
        let now = self.clock.now();
        let told = quantities.iter().map(|quantity| told(user, kind, quantity, now)).collect();
        self.record(told).await;
    }

    pub async fn record(&self, told: Vec<Told>) {
        for verdict in usage::record(&self.app, told).await.expect("recorded") {
            assert!(matches!(verdict, Verdict::Recorded { .. }), "{verdict:?}");
        }
    }

    pub async fn ship(&self) -> Shipped {
        ship::run(&self.app).await.expect("a run")
    }

    /// Ships until nothing is left, through whatever trouble there is; how many runs ended in it.
    pub async fn ship_through(&self) -> u32 {
        for troubles in 0..50 {
            if self.ship().await.trouble.is_none() {
                return troubles;
            }
        }
        panic!("it never comes to an end");
    }

    pub fn later(&self, by: Duration) {
        self.clock.advance(by);
    }

    pub fn go_to(&self, instant: &str) {
        self.clock.set(instant.parse().expect("an instant"));
    }

    pub fn trouble(&self, fault: Fault) {
        self.lago.faults().push(fault);
    }

    /// The next requests with events go wrong.
    pub fn trouble_with_events(&self, times: u32, kind: FaultKind) {
        self.trouble(Fault::new(BATCHES, times, kind));
    }

    /// The bodies of all requests with events so far.
    pub fn batches(&self) -> Vec<String> {
        let requests = self.lago.requests();
        requests.into_iter().filter(|request| request.path == BATCHES).map(|request| request.body).collect()
    }

    /// Units and events by user and code, as the log has them.
    pub async fn logged(&self) -> BTreeMap<(String, String), (String, u64)> {
        let mut sums: BTreeMap<(String, String), (i64, u64)> = BTreeMap::new();
        for entry in self.app.db.read(|tx| log::read(tx, 0, 100_000)).await.expect("the log") {
            let sign = match entry.kind {
                Kind::Usage | Kind::Adjust => 1,
                Kind::Void => -1,
                Kind::Grant | Kind::Revoke | Kind::Expire | Kind::Plan => continue,
            };
            let sum = sums.entry((entry.user, format!("{}_call", entry.event_type))).or_default();
            *sum = (sum.0 + sign * entry.quantity, sum.1 + 1);
        }
        sums.into_iter().map(|(key, (units, events))| (key, (in_lagos_words(units), events))).collect()
    }

    /// Lago has what the log has, unit for unit and event for event, and the program knows it.
    pub async fn assert_equal(&self) {
        let status = status(&self.app).await.expect("a status");
        assert_eq!((status.depth, status.dead), (0, 0), "{status:?}");
        assert_eq!(owed::compare(&self.app).await.expect("a comparison"), []);
        let logged = self.logged().await;
        assert!(!logged.is_empty(), "nothing was logged");
        for ((user, code), ours) in logged {
            assert_eq!(self.lago.usage(&user, &code), Some(ours), "{user} {code}");
        }
    }

    /// Log, notes and Lago agree, and `doctor` finds nothing.
    pub async fn assert_sound(&self) {
        assert_eq!(owed::compare(&self.app).await.expect("a comparison"), []);
        for one in reconcile::run(&self.app, Which::All).await.expect("a comparison") {
            assert_eq!(one.differences, [], "{}", one.user);
        }
        assert_eq!(self.faults().await, [""; 0]);
    }

    /// What `doctor` says of Lago's side.
    pub async fn faults(&self) -> Vec<String> {
        let mut report = Report::default();
        examine(&self.app, &mut report).await.expect("a report");
        report.0.into_iter().filter(|check| check.state != State::Ok).map(|check| check.detail).collect()
    }

    /// All notes are lost, so that the whole month is sent again; how many events that are.
    pub async fn send_everything_again(&self) -> u64 {
        self.app.db.write(|tx| tx.run("DELETE FROM lago_sums", &[])).await.expect("forgotten");
        again::repair(&self.app).await.expect("sent again").events
    }

    /// Units and events that Lago has counted; no units at all where it has no such subscription.
    pub fn at_lago_of(&self, external_id: &str) -> (String, u64) {
        self.lago.usage(external_id, "inference_call").unwrap_or_default()
    }

    /// Something that is asked of Lago past the program.
    pub async fn at_lago(&self, method: &str, path: &str, body: &Value) -> Value {
        let url = format!("{}/api/v1{path}", self.lago.base_url());
        let bearer = format!("Bearer {KEY}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let answer = send(&client(), method, &url, &headers, &text).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    /// A metric whose expression needs a property that we do not send: each event of it is refused by itself.
    pub async fn make_refusing_metric(&self, code: &str) {
        let metric = json!({ "billable_metric": {
            "name": code, "code": code, "aggregation_type": "sum_agg", "field_name": "units",
            "expression": "event.properties.seconds * 2",
        } });
        self.at_lago("POST", "/billable_metrics", &metric).await;
    }
}

/// So much of it.
pub fn units(units: &str, events: u64) -> (String, u64) {
    (units.to_owned(), events)
}

/// One event of inference under this id.
pub fn named(id: &str, user: &str, quantity: &str, at: &str) -> Told {
    event(id, user, "inference", quantity, instant(at))
}

/// One event, under an id of its own.
pub fn told(user: &str, kind: &str, quantity: &str, at: Timestamp) -> Told {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    event(&format!("tx-{}", NEXT.fetch_add(1, Ordering::Relaxed)), user, kind, quantity, at)
}

/// `4.0`
fn in_lagos_words(micro: i64) -> String {
    let text = Quantity::from_micro(micro.max(0)).wire();
    if text.contains('.') { text } else { format!("{text}.0") }
}

async fn build(config: &Config, clock: &Arc<Manual>) -> App {
    build_with(config, clock, SEEDS.fetch_add(1, Ordering::Relaxed)).await
}

async fn build_with(config: &Config, clock: &Arc<Manual>, seed: u64) -> App {
    let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
    App::build(config.clone(), clock, Chance::seeded(seed)).await.expect("a program")
}

pub async fn start(store: Store, clock: &Arc<Manual>) -> Lago {
    let clock = Arc::clone(clock);
    let config = lago::Config {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        key: Some(KEY.to_owned()),
        store,
        state: None,
        now: Arc::new(move || clock.now()),
    };
    lago::start(config).await.expect("a Lago")
}
