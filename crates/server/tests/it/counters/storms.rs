//! Redis is flushed, killed and frozen in turn while many reserve through the door. The judge knows only what each of them was told.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use billhook::counters::{Counters, book};
use billhook::error::Error;
use billhook::jobs::Jobs;
use billhook::ops::keys::Scope;
use billhook::ops::publishing;
use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::lost::agrees;
use super::server::Server;
use super::trace::{Dice, published, published_at, to_publish};
use super::{Adapter, CATALOGUE, Rig, code, quantity};
use crate::access::key;
use crate::harness::Answer;

const CLIENTS: u64 = 64;
/// In millionths of a credit. All clients together would hold more than six times as much.
const CAP: i64 = 2_000_000;
const HELD: i64 = 200_000;
const USED: i64 = 1_000;
/// Each client commits so often at most: more than half of the cap is left when all have done so.
const COMMITS_MAX: usize = 14;
const TURNS: usize = 3;
const RESERVE: &str = "/api/v1/usage/reservations";

/// A line in the ledger of a client: what it was granted, and what it said of that.
#[derive(Debug)]
struct Line {
    /// The moment after the answer.
    granted: u64,
    expires: Timestamp,
    end: Option<End>,
}

/// It was committed or released.
#[derive(Debug)]
struct End {
    /// The moment before that was said.
    at: u64,
    used: i64,
}

/// What is taken for certain at the worst moment: what was granted and not given back yet, and what was used.
fn most_taken(lines: &[Line], times: &[(u64, Timestamp)]) -> i64 {
    let mut changes = Vec::new();
    for line in lines {
        changes.push((line.granted, HELD));
        let given_back = if let Some(End { at, used }) = &line.end {
            Some((*at, used - HELD))
        } else {
            times.iter().find(|(_, now)| *now >= line.expires).map(|(at, _)| (*at, -HELD))
        };
        changes.extend(given_back);
    }
    changes.sort_unstable();
    let mut taken = 0;
    let sums = changes.iter().map(|(_, change)| {
        taken += change;
        taken
    });
    sums.max().unwrap_or_default()
}

/// The judge itself: what it must count, and what it must not.
#[test]
fn i03_the_judge_adds_up_what_was_told() {
    let expires = |second| Timestamp::from_second(second).expect("an instant");
    let line = |granted, end: Option<(u64, i64)>| Line {
        granted,
        expires: expires(10),
        end: end.map(|(at, used)| End { at, used }),
    };
    let (over, early) = ([(6, expires(10))], [(6, expires(9))]);
    for (lines, times, most, why) in [
        (vec![line(1, None), line(2, None)], &over[..], 2 * HELD, "two at once"),
        (vec![line(1, Some((2, 0))), line(3, None)], &over[..], HELD, "one after the other"),
        (vec![line(1, Some((4, 0))), line(3, None)], &over[..], 2 * HELD, "released only after the second was granted"),
        (vec![line(1, Some((2, USED))), line(3, None)], &over[..], HELD + USED, "what was used stays"),
        (vec![line(1, None), line(7, None)], &over[..], HELD, "the first was over"),
        (vec![line(1, None), line(7, None)], &early[..], 2 * HELD, "the first was not over yet"),
    ] {
        assert_eq!(most_taken(&lines, times), most, "{why}");
    }
}

/// What all clients were told together.
#[derive(Debug, Default)]
struct Tally {
    granted: AtomicU64,
    exhausted: AtomicU64,
    undecided: AtomicU64,
}

/// A program and a Redis, and many who reserve.
struct Storm<'r> {
    rig: &'r Rig,
    session: String,
    key: String,
    /// Numbers what is said and heard: what has the greater number is later.
    moments: AtomicU64,
    tally: Tally,
    is_over: AtomicBool,
}

impl Storm<'_> {
    fn moment(&self) -> u64 {
        self.moments.fetch_add(1, Ordering::SeqCst)
    }

    async fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        let headers = [("authorization", &*self.key), ("content-type", "application/json")];
        self.rig.world.send(method, path, &headers[..if body.is_empty() { 1 } else { 2 }], body).await
    }

    /// Reserves until the storm is over: commits a little, releases most, and forgets some. Its ledger.
    async fn client(&self, number: u64) -> Vec<Line> {
        let (mut dice, mut lines) = (Dice::new(number + 77), Vec::new());
        let (mut asked, mut commits) = (None, 0);
        while !self.is_over.load(Ordering::Relaxed) {
            let (is_forgotten, ask) = asked.take().unwrap_or_else(|| {
                let is_forgotten = dice.below(12) == 0;
                let ttl = if is_forgotten { 1 } else { 7_200 };
                let mut ask =
                    json!({ "user_id": self.rig.user, "type": "inference", "quantity": "0.2", "ttl_seconds": ttl });
                if number.is_multiple_of(2) {
                    ask["id"] = json!(format!("{number}-{}", lines.len()));
                }
                (is_forgotten, ask)
            });
            let Some((id, line)) = self.reserved(&ask).await else {
                asked = Some((is_forgotten, ask)); // the same once more, under the same id where it has one
                continue;
            };
            lines.push(line);
            if is_forgotten {
                continue;
            }
            tokio::time::sleep(Duration::from_millis(20 + dice.below(40))).await;
            let used = if commits < COMMITS_MAX && dice.below(8) == 0 { USED } else { 0 };
            commits += usize::from(used > 0);
            let end = End { at: self.moment(), used };
            self.done(&id, used).await;
            lines.last_mut().expect("the line of before").end = Some(end);
        }
        lines
    }

    /// What was granted, if it was, and under which id.
    async fn reserved(&self, ask: &Value) -> Option<(String, Line)> {
        let answer = self.send("POST", RESERVE, &ask.to_string()).await;
        let (granted, said) = (self.moment(), answer.json());
        let count = match (answer.status, said["code"].as_str()) {
            (201, None) => &self.tally.granted,
            (402, Some("credits.exhausted")) => &self.tally.exhausted,
            (503, Some("limit.unknown")) => &self.tally.undecided,
            _ => panic!("{} {}", answer.status, answer.body),
        };
        count.fetch_add(1, Ordering::Relaxed);
        if answer.status != 201 {
            tokio::time::sleep(Duration::from_millis(40)).await;
            return None;
        }
        assert_eq!((&said["status"], &said["undecided"]), (&json!("held"), &json!(false)), "{said}");
        let text = |member: &str| said[member].as_str().expect("text").to_owned();
        let expires = text("expires_at").parse().expect("an instant");
        Some((text("id"), Line { granted, expires, end: None }))
    }

    /// Whatever becomes of Redis, what was granted is committed and released.
    async fn done(&self, id: &str, used: i64) {
        let path = format!("{RESERVE}/{id}");
        if used > 0 {
            let answer = self.send("POST", &format!("{path}/commit"), r#"{"quantity":"0.001"}"#).await;
            assert_eq!((answer.status, &answer.json()["late"]), (200, &json!(false)), "{}", answer.body);
        } else {
            let answer = self.send("DELETE", &path, "").await;
            assert_eq!(answer.status, 204, "{}", answer.body);
        }
    }

    /// Time goes on, ten times as fast as elsewhere; when it was what.
    async fn time(&self) -> Vec<(u64, Timestamp)> {
        let (step, mut times) = (Duration::from_millis(200), Vec::new());
        while !self.is_over.load(Ordering::Relaxed) {
            tokio::time::sleep(step / 10).await;
            times.push((self.moment(), self.rig.world.now() + step));
            self.rig.world.clock.advance(step);
        }
        times
    }

    /// Waits until so many more have been told this.
    async fn told(&self, what: &str, count: &AtomicU64, more: u64) {
        let enough = count.load(Ordering::Relaxed) + more;
        let within = tokio::time::timeout(Duration::from_mins(1), async {
            while count.load(Ordering::Relaxed) < enough {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        within.await.unwrap_or_else(|_| panic!("{what}: {:?}", self.tally));
    }

    /// Redis forgets everything, again and again: nobody is logged out, and before long it says again what the log says.
    async fn flush(&self, server: Server) -> Server {
        let often = |server: &mut Server| server.ask(&["-r", "30", "-i", "0.01", "FLUSHALL"]).matches("OK").count();
        let server = beside(server, move |server| assert_eq!(often(server), 30)).await;
        let begin = Instant::now();
        let usage = self.rig.world.get("/api/v1/billing/usage", &self.session).await;
        assert_eq!(usage.status, 200, "{}", usage.body);
        while tokio::task::block_in_place(|| published_at(&server, &self.rig.user)) != to_publish(self.rig) {
            assert!(begin.elapsed() < Duration::from_secs(5), "the account is not published again");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.told("granted after a flush", &self.tally.granted, 20).await;
        server
    }

    /// Redis ends and begins again with nothing. Meanwhile nobody can decide, and that is said.
    async fn kill(&self, server: Server) -> Server {
        let server = beside(server, |server| server.kill(0)).await;
        self.told("undecided after a kill", &self.tally.undecided, 20).await;
        let server = beside(server, |server| server.start_again(0)).await;
        self.told("granted after a kill", &self.tally.granted, 20).await;
        server
    }

    /// Redis hears and says nothing for a while, and then does what it was asked meanwhile.
    async fn freeze(&self, server: Server) -> Server {
        let server = beside(server, |server| server.freeze(0)).await;
        self.told("undecided while frozen", &self.tally.undecided, 20).await;
        let server = beside(server, |server| server.thaw(0)).await;
        self.told("granted after a thaw", &self.tally.granted, 20).await;
        server
    }

    /// Runs the clients until the trouble is over; what it answers, their ledgers, and when it was what.
    async fn run<T>(&self, trouble: impl Future<Output = T>) -> (T, Vec<Line>, Vec<(u64, Timestamp)>) {
        let jobs = Jobs::start(self.rig.app(), std::sync::Arc::new(|_| ()));
        let clients = join_all((0..CLIENTS).map(|number| self.client(number)));
        let trouble = async {
            self.told("granted before anything", &self.tally.granted, 20).await;
            let outcome = trouble.await;
            self.is_over.store(true, Ordering::Relaxed);
            outcome
        };
        let (outcome, ledgers, times) = tokio::join!(trouble, clients, self.time());
        jobs.stop().await;
        (outcome, ledgers.into_iter().flatten().collect(), times)
    }
}

/// Does something to a Redis while everybody else goes on.
async fn beside(mut server: Server, act: impl FnOnce(&mut Server) + Send + 'static) -> Server {
    let done = tokio::task::spawn_blocking(move || {
        act(&mut server);
        server
    });
    done.await.expect("done")
}

/// A program with its Redis, and a user of whom two credits are there; the user's session.
async fn calm() -> (Rig, Server, String) {
    let mut rig = Rig::priced(Adapter::Redis, &CATALOGUE.replace("\"5\"", "\"2\"")).await;
    let Counters::Redis(shared) = &rig.app().counters else { panic!("this is Redis") };
    shared.allow(Duration::from_millis(50));
    let (user, session) = rig.world.user("storm@example.com", None, false).await;
    rig.user = user;
    let server = rig.server.take().expect("a Redis");
    (rig, server, session)
}

async fn storm(rig: &Rig, session: String) -> Storm<'_> {
    let key = key(&rig.world, Scope::UsageWrite).await;
    let (moments, tally, is_over) = (AtomicU64::new(0), Tally::default(), AtomicBool::new(false));
    Storm { rig, session, key, moments, tally, is_over }
}

/// F-22, F-23, F-24, I-03: one program, so nothing may be let through twice, whatever Redis loses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f23_nothing_is_spent_twice_while_redis_is_flushed_killed_and_frozen() {
    let (mut rig, server, session) = calm().await;
    let storm = storm(&rig, session.clone()).await;
    let trouble = async {
        let mut server = server;
        for _ in 0..TURNS {
            server = storm.flush(server).await;
            server = storm.kill(server).await;
            server = storm.freeze(server).await;
        }
        server
    };
    let (server, lines, times) = storm.run(trouble).await;
    let most = most_taken(&lines, &times);
    assert!(most <= CAP, "{most} of {CAP} were taken at once");
    assert!(most > CAP - 2 * HELD, "only {most} of {CAP} were ever taken: the cap was not tried");
    let exhausted = storm.tally.exhausted.into_inner();
    assert!(exhausted > 200, "only {exhausted} found nothing left");
    let used: i64 = lines.iter().filter_map(|line| line.end.as_ref()).map(|end| end.used).sum();
    let forgotten = lines.iter().filter(|line| line.end.is_none()).count();
    assert!(used > 0 && forgotten > 0, "{used} used, {forgotten} forgotten");
    rig.server = Some(server);
    adds_up(&rig, &session, used).await;
}

/// What was acknowledged is what the user sees and what the log and Redis say, and in the end nothing else is taken.
async fn adds_up(rig: &Rig, session: &str, used: i64) {
    let usage = rig.world.get("/api/v1/billing/usage", session).await.json();
    let shown = quantity(&usage["usage"]["month"]["inference"].to_string());
    assert_eq!(shown.micro(), used, "{usage}");
    let mut tries = 0;
    while let Err(error) = publishing::verify(rig.app()).await {
        tries += 1;
        assert!(tries < 100, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(published(rig), to_publish(rig));
    rig.world.clock.advance(Duration::from_hours(3));
    assert_eq!(quantity(&rig.left().await).micro(), CAP - used);
    assert_eq!(agrees(rig).await, [""; 0]);
}

/// A seeded bug: of what is held a credit is lost once, and the ledgers tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i03_a_credit_that_is_let_through_twice_is_seen_by_the_judge() {
    let (rig, server, session) = calm().await;
    let storm = storm(&rig, session).await;
    let account = format!("bh:{{{}}}:a:{}", book::shard_of(&rig.user), rig.user);
    let trouble = async {
        let server = beside(server, move |server| drop(server.ask(&["HINCRBY", &account, "held", "-1000000"]))).await;
        storm.told("granted after that", &storm.tally.granted, 40).await;
        server
    };
    let (_server, lines, times) = storm.run(trouble).await;
    let most = most_taken(&lines, &times);
    assert!(most > CAP, "{most} of {CAP}: nobody saw it");
}

/// F-22: ingest, and whatever is open, go on without Redis; what is closed says so, and it is said in a header.
#[tokio::test]
async fn f22_without_redis_every_limit_follows_its_own_policy() {
    for (tier, kind, expected) in [
        ("trial", "inference", "limit.unknown"),
        ("trial", "tts", "limit.unknown"),
        ("open", "inference", "ok"),
        ("open", "tts", "ok"),
        ("open", "stt", "limit.unknown"),
    ] {
        let mut rig = Rig::new(Adapter::Redis).await.in_tier(tier);
        rig.record("before", "inference", "1").await;
        rig.server.as_mut().expect("a Redis").kill(0);
        let outcome = rig.reserve("a", kind, "1").await;
        let undecided = outcome.as_ref().is_ok_and(|reservation| reservation.undecided);
        assert_eq!((code(outcome), undecided), (expected.to_owned(), expected == "ok"), "{tier} {kind}");
        assert_eq!(rig.app().counters.degraded(), Some("redis"));
        rig.record("during", "inference", "1").await;
        if expected == "ok" {
            assert!(rig.reserve("a", kind, "1").await.expect("let through").replayed);
            assert!(!rig.commit("a", "1").await.expect("committed").late);
            rig.release("never").await.expect_err("unknown");
        }
        let used = rig.app().book.get(&rig.user).expect("an account").lock().account.entries();
        assert_eq!(used, if expected == "ok" { 4 } else { 3 }, "the terms, and each event once");

        rig.server.as_mut().expect("a Redis").start_again(0);
        let mut tries = 0;
        while rig.app().counters.degraded().is_some() {
            tries += 1;
            assert!(tries < 100, "Redis is back and nobody noticed");
            tokio::time::sleep(Duration::from_millis(50)).await;
            let _ = rig.reserve(&format!("again{tries}"), kind, "0").await;
        }
    }
}

/// F-24: nobody waits for a Redis that does not answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f24_a_frozen_redis_keeps_nobody_waiting() {
    let rig = Rig::new(Adapter::Redis).await;
    rig.reserve("a", "inference", "1").await.expect("held");
    let Counters::Redis(shared) = &rig.app().counters else { panic!("this is Redis") };
    shared.allow(Duration::from_millis(50));
    let server = rig.server.as_ref().expect("a Redis");
    server.freeze(0);
    let mut lengths = Vec::new();
    for number in 0..100 {
        let from = Instant::now();
        let outcome = rig.reserve(&format!("r{number}"), "inference", "0.01").await;
        assert!(matches!(outcome, Err(Error::Refused(_))));
        lengths.push(from.elapsed());
    }
    lengths.sort_unstable();
    // Five wait for the deadline, then the way is closed for half a second at a time.
    assert!(lengths[98] <= Duration::from_millis(150), "{:?}", lengths[98]);
    assert!(lengths[80] <= Duration::from_millis(20), "{:?}", lengths[80]);
    server.thaw(0);
}
