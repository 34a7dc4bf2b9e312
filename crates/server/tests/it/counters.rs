//! Counters and reservations: one suite for both adapters, in memory and in Redis.

mod anew;
mod away;
mod broken;
mod claims;
mod degraded;
mod gone;
mod groups;
mod lines;
mod lost;
mod mended;
mod month_end;
mod noted;
mod rates;
mod remembered;
mod schedules;
pub mod server;
mod set_back;
mod several;
mod slow;
mod storms;
mod trace;
mod trials;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use billhook::app::App;
use billhook::counters::Counters;
use billhook::error::Error;
use billhook::ops::reservations::{self, Ask, Commit, Committed, Reservation, ReservationStatus};
use billhook::ops::usage;
use billing::usage::{Credits, Quantity};

use self::server::Server;
use crate::harness::database::unique_name;
use crate::harness::{Database, Plan, World, event};

/// Trials stop at five credits, `capped` forty beyond what is included; everything else is limited by the type.
const CATALOGUE: &str = r#"
currency = "usd"
[events.inference]
credits = "1"
[events.embedding]
credits = "0.1"
[tiers.trial]
name = "Trial"
price = "0.00"
included_credits = "5"
overage = "block"
[tiers.trial.limits.tts]
per_day = "2"
per_month = "3"
when_unknown = "closed"
[tiers.trial.limits.stt]
per_minute = "60"
when_unknown = "closed"
[tiers.open]
name = "Open"
price = "1.00"
included_credits = "5"
price_per_1k = "2.00"
overage = "bill"
[tiers.open.limits.tts]
per_day = "2"
when_unknown = "open"
[tiers.open.limits.stt]
per_minute = "60"
when_unknown = "closed"
[tiers.capped]
name = "Capped"
price = "1.00"
included_credits = "60"
price_per_1k = "2.00"
overage = "bill"
overage_cap = "40"
[tiers.capped.limits.tts]
per_day = "2.5"
per_month = "3"
when_unknown = "closed"
[tiers.capped.limits.stt]
per_minute = "60"
when_unknown = "closed"
"#;

/// A busy machine is no outage. What the deadline itself does is a test of its own.
const PATIENCE: Duration = Duration::from_secs(2);

/// Programs that share a Redis make ids that differ.
static SEEDS: AtomicU64 = AtomicU64::new(1_000);

/// Who decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adapter {
    Embedded,
    Redis,
    Cluster,
}

const BOTH: [Adapter; 2] = [Adapter::Embedded, Adapter::Redis];

/// A program with a user, and the Redis that decides.
pub struct Rig {
    pub world: World,
    pub user: String,
    pub server: Option<Server>,
    catalogue: std::path::PathBuf,
}

impl Rig {
    pub async fn new(adapter: Adapter) -> Self {
        Self::priced(adapter, CATALOGUE).await
    }

    /// The same by another catalogue.
    pub async fn priced(adapter: Adapter, catalogue: &str) -> Self {
        let server = match adapter {
            Adapter::Embedded => None,
            Adapter::Redis => Some(Server::single()),
            Adapter::Cluster => Some(Server::cluster()),
        };
        let url = server.as_ref().map(Server::url);
        let mut rig = Self::joined(url, Database::sqlite(), catalogue).await;
        rig.server = server;
        rig
    }

    /// A program with this Redis, whoever runs it.
    pub async fn at(redis: Option<String>, database: Database) -> Self {
        Self::joined(redis, database, CATALOGUE).await
    }

    async fn joined(redis: Option<String>, database: Database, text: &str) -> Self {
        let rig = Self::in_a_hurry(redis, database, text).await;
        if let Counters::Redis(shared) = &rig.app().counters {
            shared.allow(PATIENCE);
        }
        rig
    }

    /// A program that waits for Redis no longer than the program itself would.
    pub async fn in_a_hurry(redis: Option<String>, database: Database, text: &str) -> Self {
        let catalogue = std::env::temp_dir().join(format!("{}.toml", unique_name()));
        std::fs::write(&catalogue, text).expect("a catalogue");
        let mut environment = vec![("BILLHOOK_CATALOG", catalogue.display().to_string())];
        environment.extend(redis.map(|url| ("REDIS_URL", url)));
        let seed = SEEDS.fetch_add(1, Ordering::Relaxed);
        let world = World::planned(Plan { stripe: None, database, environment, seed, ..Plan::default() }).await;
        let user = match billhook::ops::users::list(&world.app, "", 1).await.expect("users").pop() {
            Some(user) => user.id,
            None => world.user("u@example.com", None, false).await.0,
        };
        Self { world, user, server: None, catalogue }
    }

    /// The process dies and another one starts on what it has written.
    pub async fn after_a_crash(self) -> Self {
        let (path, server) = (self.world.database.path().clone(), self.server.as_ref().map(Server::url));
        let mut dead = self;
        let kept = dead.server.take();
        let now = dead.world.now();
        std::mem::forget(dead);
        let mut rig = Self::at(server, Database::Sqlite(path)).await;
        rig.world.clock.set(now);
        rig.server = kept;
        rig
    }

    pub fn app(&self) -> &App {
        &self.world.app
    }

    pub fn in_tier(self, tier: &str) -> Self {
        let (user, tier) = (self.user.clone(), tier.to_owned());
        let sql = "UPDATE users SET subscription_tier = ?2 WHERE id = ?1";
        let path = self.world.database.path().clone();
        let database = rusqlite::Connection::open(path).expect("the database");
        database.execute(sql, [&user, &tier]).expect("a tier");
        self
    }

    pub async fn reserve(&self, id: &str, kind: &str, quantity: &str) -> Result<Reservation, Error> {
        self.reserve_for(id, kind, quantity, Duration::from_mins(5)).await
    }

    pub async fn reserve_for(&self, id: &str, kind: &str, amount: &str, ttl: Duration) -> Result<Reservation, Error> {
        let (user, kind) = (self.user.clone(), kind.to_owned());
        reservations::reserve(self.app(), Ask { id: Some(id.to_owned()), user, kind, quantity: quantity(amount), ttl })
            .await
    }

    pub async fn commit(&self, id: &str, amount: &str) -> Result<Committed, Error> {
        let commit = Commit { quantity: quantity(amount), at: None, user: None, kind: None };
        reservations::commit(self.app(), id, commit).await
    }

    pub async fn release(&self, id: &str) -> Result<(), Error> {
        reservations::release(self.app(), id).await
    }

    /// Credits that are left; nothing may be used up by the question.
    pub async fn left(&self) -> String {
        let standing =
            reservations::check(self.app(), &self.user, "inference", Quantity::ZERO).await.expect("a standing");
        standing.remaining.map_or("all".to_owned(), Credits::wire)
    }

    /// Usage that nobody reserved.
    pub async fn record(&self, id: &str, kind: &str, amount: &str) {
        usage::record(self.app(), vec![event(id, &self.user, kind, amount, None)]).await.expect("recorded");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.catalogue);
    }
}

pub fn quantity(text: &str) -> Quantity {
    Quantity::parse(text).expect("a quantity")
}

/// The code of a refusal or a fault, with the pointer where it has one.
pub fn code<T>(outcome: Result<T, Error>) -> String {
    match outcome {
        Ok(_) => "ok".to_owned(),
        Err(Error::Refused(refused)) => refused.code.to_owned(),
        Err(Error::Rule { code, fault }) => format!("{code} {}", fault.pointer),
        Err(Error::Invalid(faults)) => format!("invalid {}", faults[0].pointer),
        Err(Error::NotFound) => "not found".to_owned(),
        Err(error) => panic!("{error:?}"),
    }
}

/// I-03: a thousand at once, and exactly as many as fit are granted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i03_of_a_thousand_parallel_reservations_exactly_fifty_fit() {
    for adapter in [Adapter::Embedded, Adapter::Redis, Adapter::Cluster] {
        let rig = Rig::new(adapter).await;
        let ids: Vec<String> = (0..1_000).map(|number| format!("r{number}")).collect();
        let mut granted = 0;
        for some in ids.chunks(100) {
            let all = some.iter().map(|id| lines::settled(&rig, id, "0.1"));
            granted += futures_util::future::join_all(all).await.into_iter().filter(|code| code == "ok").count();
        }
        assert_eq!((granted, rig.left().await.as_str()), (50, "0"), "{adapter:?}");
    }
}

/// F-49: one burst too many is better than an hour without any.
#[tokio::test]
async fn f49_a_rate_of_a_clock_that_was_ahead_keeps_nobody_waiting() {
    for adapter in BOTH {
        let rig = Rig::new(adapter).await.in_tier("open");
        let begin = rig.world.now();
        rig.world.clock.set(begin + jiff::SignedDuration::from_hours(1));
        assert_eq!(code(rig.reserve("a", "stt", "60").await), "ok", "{adapter:?}");
        assert_eq!(code(rig.reserve("b", "stt", "1").await), "limit.minute", "{adapter:?}");
        rig.world.clock.set(begin);
        assert_eq!(code(rig.reserve("b", "stt", "1").await), "ok", "{adapter:?}");
    }
}

/// I-03: what is being committed is nobody else's, and free again where that comes to nothing.
#[tokio::test]
async fn i03_a_hold_stays_while_its_commit_is_on_the_way() {
    for adapter in [Adapter::Embedded, Adapter::Redis, Adapter::Cluster] {
        let rig = Rig::new(adapter).await;
        let (app, begin) = (rig.app(), rig.world.now());
        let after = |milliseconds| {
            let now = begin + jiff::SignedDuration::from_millis(milliseconds);
            rig.world.clock.set(now);
            now
        };
        rig.reserve_for("a", "inference", "5", Duration::from_secs(10)).await.expect("held");
        let known = app.book.reservations.get("a").expect("known");
        let now = after(9_999);
        assert!(app.book.commit_begins("a", false));
        let attempt = app.counters.new_attempt();
        assert!(app.counters.begin_commit("a", &known, &attempt, now).await.expect("claimed"), "{adapter:?}");
        for now in [after(10_001), after(30_000)] {
            assert_eq!(code(rig.reserve("b", "inference", "1").await), "credits.exhausted", "{adapter:?}");
            app.counters.sweep(&app.book, now).await.expect("swept");
        }
        app.book.commit_failed("a");
        app.counters.give_up_commit("a", &known, &attempt).await;
        after(32_000);
        assert_eq!(code(rig.reserve("b", "inference", "5").await), "ok", "{adapter:?}");
    }
}

#[tokio::test]
async fn a_hold_is_taken_off_until_it_is_committed_released_or_over() {
    for adapter in BOTH {
        let rig = Rig::new(adapter).await;
        let first = rig.reserve("a", "inference", "2").await.expect("held");
        assert_eq!((first.remaining, first.replayed), (Some(Credits::from_micro(3_000_000)), false), "{adapter:?}");
        rig.reserve("b", "inference", "2").await.expect("held");
        assert_eq!(code(rig.reserve("c", "inference", "2").await), "credits.exhausted", "{adapter:?}");

        // Less than was held: the rest is free again, and what was used is counted.
        let committed = rig.commit("a", "0.5").await.expect("committed");
        assert_eq!((committed.late, committed.remaining), (false, Some(Credits::from_micro(2_500_000))), "{adapter:?}");
        rig.release("b").await.expect("released");
        assert_eq!(rig.left().await, "4.5", "{adapter:?}");

        // More than was held counts as well, and a hold that is over is free without anybody's doing.
        rig.reserve_for("d", "inference", "1", Duration::from_secs(10)).await.expect("held");
        rig.commit("d", "1.5").await.expect("committed");
        rig.reserve_for("e", "inference", "3", Duration::from_secs(10)).await.expect("held");
        assert_eq!(rig.left().await, "0", "{adapter:?}");
        rig.world.clock.advance(Duration::from_secs(10));
        assert_eq!(rig.left().await, "3", "{adapter:?}");

        // It still counts, and says so.
        let late = rig.commit("e", "3").await.expect("committed");
        assert_eq!((late.late, rig.left().await.as_str()), (true, "0"), "{adapter:?}");
    }
}

/// What time has freed is not released any more: whoever says afterwards that the work was done is late, and heard.
#[tokio::test]
async fn i04_a_release_after_its_time_forbids_no_commit() {
    for adapter in BOTH {
        let rig = Rig::new(adapter).await;
        rig.reserve_for("a", "inference", "1", Duration::from_secs(10)).await.expect("held");
        rig.world.clock.advance(Duration::from_secs(10));
        rig.release("a").await.expect("nothing is held");
        let late = rig.commit("a", "1").await.expect("committed");
        assert_eq!((late.late, rig.left().await.as_str()), (true, "4"), "{adapter:?}");
    }
}

/// I-04, S-36: the same id again is the same answer; another content is named.
#[tokio::test]
async fn i04_an_id_stands_for_one_thing() {
    for adapter in BOTH {
        let rig = Rig::new(adapter).await;
        let first = rig.reserve("a", "inference", "2").await.expect("held");
        rig.world.clock.advance(Duration::from_secs(1));
        let again = rig.reserve("a", "inference", "2").await.expect("held");
        assert_eq!(again, Reservation { replayed: true, ..first.clone() }, "{adapter:?}");
        assert_eq!(code(rig.reserve("a", "inference", "1").await), "usage.conflict /quantity", "{adapter:?}");
        assert_eq!(code(rig.reserve("a", "embedding", "2").await), "usage.conflict /type", "{adapter:?}");
        let (other, _) = rig.world.user("v@example.com", None, false).await;
        let theirs = Ask {
            id: Some("a".to_owned()),
            user: other,
            kind: "inference".to_owned(),
            quantity: quantity("2"),
            ttl: Duration::from_mins(5),
        };
        assert_eq!(code(reservations::reserve(rig.app(), theirs).await), "usage.conflict /user_id", "{adapter:?}");

        let committed = rig.commit("a", "1").await.expect("committed");
        let twice = rig.commit("a", "1").await.expect("committed");
        assert_eq!(twice, Committed { replayed: true, ..committed.clone() }, "{adapter:?}");
        assert_eq!(code(rig.commit("a", "2").await), "usage.conflict /quantity", "{adapter:?}");
        assert_eq!(code(rig.release("a").await), "usage.conflict /status", "{adapter:?}");
        let resolved = rig.reserve("a", "inference", "2").await.expect("an answer");
        assert_eq!((resolved.status, resolved.replayed), (ReservationStatus::Committed, true), "{adapter:?}");

        rig.reserve("b", "inference", "1").await.expect("held");
        for _ in 0..2 {
            rig.release("b").await.expect("released");
        }
        assert_eq!(code(rig.commit("b", "1").await), "usage.conflict /status", "{adapter:?}");
        assert_eq!(rig.reserve("b", "inference", "1").await.expect("an answer").status, ReservationStatus::Released);
        assert_eq!(code(rig.release("never").await), "not found", "{adapter:?}");
        assert_eq!(code(rig.commit("never", "1").await), "invalid /user_id", "{adapter:?}");
        assert_eq!(rig.left().await, "4", "{adapter:?}");
    }
}

/// What is done under an id that was committed would never count: nobody is told that it is held.
#[tokio::test]
async fn i04_a_committed_id_stays_committed_after_its_time_and_a_restart() {
    for adapter in BOTH {
        let mut rig = Rig::new(adapter).await;
        rig.reserve_for("a", "inference", "2", Duration::from_secs(1)).await.expect("held");
        rig.commit("a", "1").await.expect("committed");
        rig.world.clock.advance(Duration::from_mins(2));
        for _ in 0..2 {
            let again = rig.reserve("a", "inference", "2").await.expect("an answer");
            assert_eq!((again.status, again.replayed), (ReservationStatus::Committed, true), "{adapter:?}");
            assert_eq!(rig.left().await, "4", "{adapter:?}");
            assert_eq!(code(rig.reserve("a", "embedding", "2").await), "usage.conflict /type", "{adapter:?}");
            assert_eq!(code(rig.release("a").await), "usage.conflict /status", "{adapter:?}");
            rig = rig.after_a_crash().await;
        }
    }
}

#[tokio::test]
async fn caps_of_the_day_and_the_month_and_rates_hold_what_is_reserved_too() {
    for adapter in BOTH {
        let rig = Rig::new(adapter).await;
        rig.record("e1", "tts", "0.5").await;
        rig.reserve("a", "tts", "1").await.expect("held");
        let refused = rig.reserve("b", "tts", "1").await;
        let Err(Error::Refused(refused)) = refused else { panic!("{adapter:?}: {refused:?}") };
        assert_eq!(refused.code, "limit.day", "{adapter:?}");
        let told: Vec<_> = refused.limits.iter().map(|limit| (limit.name, limit.quota, limit.remaining)).collect();
        let expected =
            [("credits", 5_000_000, 3_500_000), ("day", 2_000_000, 500_000), ("month", 3_000_000, 1_500_000)];
        assert_eq!(told, expected, "{adapter:?}");
        rig.commit("a", "1.5").await.expect("committed");
        rig.world.clock.advance(Duration::from_hours(24));
        assert_eq!(code(rig.reserve("c", "tts", "2").await), "limit.month", "{adapter:?}");

        // One a second, and all sixty of a minute at once.
        assert_eq!(code(rig.reserve("d", "stt", "61").await), "credits.exhausted", "{adapter:?}");
        let rig = Rig::new(adapter).await.in_tier("open");
        assert_eq!(code(rig.reserve("e", "stt", "61").await), "limit.minute", "{adapter:?}");
        rig.reserve("f", "stt", "60").await.expect("held");
        let refused = rig.reserve("g", "stt", "3").await;
        let Err(Error::Refused(refused)) = refused else { panic!("{adapter:?}: {refused:?}") };
        assert_eq!((refused.code, refused.retry_after), ("limit.minute", Some(Duration::from_secs(3))), "{adapter:?}");
        rig.world.clock.advance(Duration::from_secs(3));
        rig.reserve("g", "stt", "3").await.expect("held");
    }
}

/// F-49: a clock that is set back frees nothing and gives nothing away.
#[tokio::test]
async fn f49_a_clock_that_steps_back_frees_nothing() {
    for adapter in BOTH {
        let rig = Rig::new(adapter).await;
        rig.reserve("a", "inference", "5").await.expect("held");
        let now = rig.world.now();
        rig.world.clock.set(now.checked_sub(Duration::from_hours(1)).expect("an instant"));
        assert_eq!(code(rig.reserve("b", "inference", "1").await), "credits.exhausted", "{adapter:?}");
        rig.commit("a", "5").await.expect("committed");
        assert_eq!(code(rig.reserve("c", "inference", "1").await), "credits.exhausted", "{adapter:?}");
    }
}

/// S-37: the pause that is told is the longest of those limits that refuse, not the first.
#[tokio::test]
async fn s37_who_comes_again_when_told_meets_no_other_limit() {
    for adapter in BOTH {
        let rig = Rig::new(adapter).await;
        for (amount, waits_for) in [("2.5", "day"), ("3.5", "month")] {
            let asked = reservations::check(rig.app(), &rig.user, "tts", quantity(amount)).await;
            let refused = asked.expect("a standing").refusal.expect("refused");
            let state = refused.limits.iter().find(|limit| limit.name == waits_for).expect("the limit");
            let pause = refused.retry_after.expect("a pause");
            let whole = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
            assert_eq!((refused.code, whole), ("limit.day", state.reset_seconds), "{adapter:?}: {amount}");
        }
    }
}

#[tokio::test]
async fn what_names_nobody_or_nothing_is_refused_by_name() {
    for adapter in BOTH {
        let rig = Rig::new(adapter).await;
        let ask = |user: &str, kind: &str, amount: &str| Ask {
            id: None,
            user: user.to_owned(),
            kind: kind.to_owned(),
            quantity: quantity(amount),
            ttl: Duration::from_mins(5),
        };
        for (user, kind, amount, expected) in [
            ("nobody", "inference", "1", "user.unknown /user_id"),
            (rig.user.as_str(), "nothing", "1", "type.unknown /type"),
            (rig.user.as_str(), "inference", "1000000000.000001", "invalid /quantity"),
            (rig.user.as_str(), "inference", "1000000000", "credits.exhausted"),
            (rig.user.as_str(), "inference", "0", "ok"),
        ] {
            assert_eq!(code(reservations::reserve(rig.app(), ask(user, kind, amount)).await), expected, "{adapter:?}");
        }
        let made = reservations::reserve(rig.app(), ask(&rig.user, "inference", "1")).await.expect("held");
        assert_eq!(made.id.len(), "res_".len() + 26);
        rig.commit(&made.id, "1").await.expect("committed");
        assert_eq!(rig.left().await, "4", "{adapter:?}");
    }
}

/// What an account could not count is refused before the work is done, not when its commit comes.
#[tokio::test]
async fn what_could_not_be_counted_is_not_promised() {
    for adapter in BOTH {
        let heavy = CATALOGUE.replace("[events.embedding]", "[events.video]\ncredits = \"1000\"\n[events.embedding]");
        let rig = Rig::priced(adapter, &heavy).await.in_tier("open");
        rig.record("e1", "video", "1000000000").await;
        let full = |kind: &'static str, amount| {
            let rig = &rig;
            async move {
                let checked = reservations::check(rig.app(), &rig.user, kind, quantity(amount)).await;
                [code(checked), code(rig.reserve(&format!("{kind} {amount}"), kind, amount).await)]
            }
        };
        for (kind, amount, expected) in [
            ("video", "1000000000", "invalid /quantity"),
            ("video", "152921505", "invalid /quantity"),
            ("video", "8000000", "ok"),
            ("inference", "0.5", "ok"),
        ] {
            assert_eq!(full(kind, amount).await, [expected; 2], "{adapter:?}, {kind} {amount}");
        }
        rig.release("video 8000000").await.expect("released");
        for number in 0..20 {
            rig.record(&format!("m{number}"), "video", "7600000").await;
        }
        assert_eq!(full("video", "1000000").await, ["invalid /quantity"; 2], "{adapter:?}");
        assert_eq!(code(rig.reserve("room", "video", "900000").await), "ok", "{adapter:?}");
        assert_eq!(full("video", "50000").await, ["invalid /quantity"; 2], "{adapter:?}: beside what is held");
        rig.commit("room", "900000").await.expect("counted");
    }
}
