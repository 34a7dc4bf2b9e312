//! One trace on both adapters: the same answers, the same accounts to the byte.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use billhook::error::Error;
use billhook::ops::usage::totals;
use billhook::ops::{publishing, reservations, usage};
use billhook::store::accounts::{self, Closed};
use billing::account::Account;

use super::lost::agrees;
use super::server::Server;
use super::{Adapter, Rig, code, quantity};
use crate::harness::{event, instant};

/// A sequence that repeats with its seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A day and two hours before the month turns.
const BEGIN: &str = "2026-11-29T22:00:00.456Z";
const STEPS: u64 = 200;
/// A program ends after so many steps, and another goes on.
const LIFE: u64 = 50;
/// So long nobody runs: what was taken of a rate is whole again, so that it makes no difference where it was remembered.
const PAUSE: Duration = Duration::from_secs(61);

fn one_of<'t>(dice: &mut Dice, texts: &[&'t str]) -> &'t str {
    texts[usize::try_from(dice.below(texts.len() as u64)).expect("small")]
}

/// All that is said: of a refusal also how long to wait, and how each limit stands.
fn said(outcome: Result<impl std::fmt::Debug, Error>) -> String {
    match outcome {
        Ok(answer) => format!("{answer:?}"),
        Err(Error::Refused(refused)) => format!("{refused:?}"),
        Err(error) => code::<()>(Err(error)),
    }
}

/// How much is held whose time is not over.
fn held(rig: &Rig) -> usize {
    let (slot, now_ms) = (rig.app().book.get(&rig.user), rig.world.now().as_millisecond());
    slot.map_or(0, |slot| slot.lock().held.iter().filter(|(_, hold)| hold.expires_ms > now_ms).count())
}

/// Ids that were released. Redis knows them until their end, memory as long as the program runs: nobody asks for those of a program
/// that has ended.
#[derive(Default)]
struct Released {
    now: BTreeSet<String>,
    before: BTreeSet<String>,
}

/// One step, and what is said to it.
async fn step(rig: &Rig, number: u64, dice: &mut Dice, flushes: bool, released: &mut Released) -> String {
    let mut id = format!("r{}", dice.below(30));
    while released.before.contains(&id) {
        id.push('x');
    }
    let kind = one_of(dice, &["inference", "embedding", "tts", "stt"]);
    let amount = one_of(dice, &["0", "0.1", "0.5", "1", "2.25", "0.000001"]);
    let ttl = Duration::from_secs(1 + dice.below(300));
    let what = match dice.below(20) {
        0..=5 => said(rig.reserve_for(&id, kind, amount, ttl).await),
        6..=8 => said(rig.commit(&id, amount).await),
        9 => {
            let outcome = rig.release(&id).await;
            if outcome.is_ok() {
                released.now.insert(id.clone());
            }
            said(outcome)
        }
        10 => said(reservations::check(rig.app(), &rig.user, kind, quantity(amount)).await),
        11..=12 => {
            let ago = Duration::from_hours(if dice.below(3) == 0 { dice.below(30) } else { 0 });
            let told = event(&format!("e{number}"), &rig.user, kind, amount, rig.world.now() - ago);
            said(usage::record(rig.app(), vec![told]).await)
        }
        // Each by itself is below the rate; together they are above it.
        13..=14 => {
            let mut all = Vec::new();
            for place in 0..4 {
                let amount = one_of(dice, &["0.000001", "7.5", "19.999999", "20", "60", "61"]);
                all.push(said(rig.reserve_for(&format!("b{number}-{place}"), "stt", amount, ttl).await));
            }
            all.join(", ")
        }
        15..=16 => {
            let most = [20, 200][usize::from(dice.below(2) == 0)];
            rig.world.clock.advance(Duration::from_secs(dice.below(most)));
            rig.left().await
        }
        17 => {
            rig.world.clock.advance(Duration::from_hours(dice.below(8)));
            // What the jobs do in the meantime.
            totals::write_down(rig.app()).await.expect("written down");
            // Redis has a clock of its own: what it would have forgotten by now of commits that are done.
            if let Some(server) = &rig.server {
                let forget = "for _, key in ipairs(redis.call('KEYS', 'bh:*:k:*')) do redis.call('DEL', key) end";
                server.ask(&["EVAL", forget, "0"]);
            }
            rig.left().await
        }
        // Nothing else is asked, so that whatever comes next meets it, and no time passes.
        _ => {
            if let Some(server) = rig.server.as_ref().filter(|_| flushes) {
                server.ask(&["FLUSHALL"]);
            }
            format!("forgotten with {} held", held(rig))
        }
    };
    format!("{id} {kind} {amount}: {what}")
}

/// The program ends and another one goes on, in half of all cases beside a Redis that is empty.
async fn again(rig: Rig, dice: &mut Dice, flushes: bool) -> (Rig, String) {
    reservations::write_down(rig.app()).await.expect("written down");
    rig.world.clock.advance(PAUSE);
    let rig = rig.after_a_crash().await;
    if let Some(server) = rig.server.as_ref().filter(|_| dice.below(2) == 0 && flushes) {
        server.ask(&["FLUSHALL"]);
    }
    let said = format!("another program with {} held", held(&rig));
    (rig, said)
}

/// What a seed does, and what is said to each step.
async fn played(mut rig: Rig, seed: u64, flushes: bool) -> (Rig, String) {
    let (mut dice, mut all, mut released) = (Dice::new(seed), String::new(), Released::default());
    for number in 0..STEPS {
        let what = if number % LIFE == LIFE - 1 {
            let (next, what) = again(rig, &mut Dice::new(seed + number), flushes).await;
            rig = next;
            released.before.append(&mut released.now);
            what
        } else {
            step(&rig, number, &mut dice, flushes, &mut released).await
        };
        let _infallible = writeln!(all, "{number}: {what}");
    }
    totals::write_down(rig.app()).await.expect("written down");
    let closed = rig.app().db.read(|tx| accounts::periods(tx, &(String::new(), i64::MIN), 10)).await.expect("periods");
    for Closed { start_ms, position, summary, .. } in closed {
        let _infallible = writeln!(all, "closed at {position}: {start_ms} {summary}");
    }
    (rig, all)
}

/// The account as it is encoded, and as a reader of the log would make it.
fn account(rig: &Rig) -> Vec<u8> {
    rig.app().book.get(&rig.user).expect("an account").lock().account.encode()
}

/// Where two texts part.
fn first_difference<'t>(left: &'t str, right: &'t str) -> Option<(&'t str, &'t str)> {
    left.lines().zip(right.lines()).find(|(left, right)| left != right)
}

/// What has to have happened in some trace, or they prove little.
const INTERESTING: [&str; 14] = [
    "\"credits.exhausted\"",
    "\"limit.day\"",
    "\"limit.month\"",
    "\"limit.minute\"",
    "late: true, remaining",
    "Recorded { position: ",
    "late: true }",
    "usage.conflict /quantity",
    "usage.conflict /status",
    "usage.conflict /type",
    "replayed: true",
    "forgotten with 3 held",
    "another program with 2 held",
    "closed at ",
];

/// Plays each seed on both; what was said to all of them.
async fn alike(seeds: std::ops::RangeInclusive<u64>, flushes: bool) {
    let mut all = String::new();
    for seed in seeds {
        let mut played_on = Vec::new();
        for adapter in super::BOTH {
            let tier = ["trial", "capped", "open"][usize::try_from(seed % 3).expect("small")];
            let rig = Rig::new(adapter).await.in_tier(tier);
            rig.world.clock.set(instant(BEGIN));
            played_on.push(played(rig, seed, flushes).await);
        }
        let [(memory, one), (redis, other)] = &played_on[..] else { panic!("two adapters") };
        assert_eq!(first_difference(one, other), None, "seed {seed}");
        assert_eq!(one.len(), other.len(), "seed {seed}");
        assert_eq!(account(memory), account(redis), "seed {seed}");
        publishing::verify(redis.app()).await.expect("published");
        assert_eq!(published(redis), to_publish(redis), "seed {seed}");
        assert_eq!(agrees(redis).await, [""; 0], "seed {seed}");
        all.push_str(one);
    }
    let missing: Vec<_> = INTERESTING.into_iter().filter(|what| !all.contains(what)).collect();
    assert_eq!(missing, [""; 0]);
}

/// I-03, I-17: through a month's end and several programs, whatever is asked.
#[tokio::test]
async fn i03_the_same_trace_is_answered_alike_by_both_adapters() {
    alike(1..=9, false).await;
}

/// F-23, I-23: what Redis forgets is published again, with what is held; nobody sees a difference.
#[tokio::test]
async fn f23_a_flush_at_any_step_changes_no_answer() {
    alike(11..=16, true).await;
}

/// By what Redis decides of the account, beside what is held of it.
pub fn published(rig: &Rig) -> BTreeMap<String, String> {
    published_at(rig.server.as_ref().expect("a Redis"), &rig.user)
}

/// The same where the Redis is in other hands.
pub fn published_at(server: &Server, user: &str) -> BTreeMap<String, String> {
    let shard = billhook::counters::book::shard_of(user);
    let said = server.ask(&["HGETALL", &format!("bh:{{{shard}}}:a:{user}")]);
    let words: Vec<&str> = said.lines().collect();
    let fields = words.chunks_exact(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned()));
    let decides = |name: &str| {
        ["entry", "until", "credits", "over"].contains(&name) || name.starts_with("d:") || name.starts_with("m:")
    };
    fields.filter(|(name, value)| decides(name) && !(value == "0" && name.contains(':'))).collect()
}

/// What that has to be.
pub fn to_publish(rig: &Rig) -> BTreeMap<String, String> {
    let account = rig.app().book.get(&rig.user).expect("an account").lock().account.clone();
    let room = account.room(rig.world.now().as_millisecond()).expect("a room");
    let mut fields = BTreeMap::from(
        [
            ("entry", account.position().to_string()),
            ("until", room.until_ms.to_string()),
            ("credits", room.credits.map_or("all".to_owned(), |credits| credits.micro().to_string())),
            ("over", i64::from(room.expired).to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    for kind in ["inference", "embedding", "tts", "stt"] {
        for (of, sum) in [("d", room.today(kind)), ("m", room.month(kind))] {
            if sum.micro() != 0 {
                fields.insert(format!("{of}:{kind}"), sum.micro().to_string());
            }
        }
    }
    fields
}

/// A restart counts what the log says and finds what was held.
#[tokio::test]
async fn after_a_crash_holds_are_what_was_written_down_and_commits_count() {
    for adapter in super::BOTH {
        let rig = Rig::new(adapter).await;
        for id in ["committed", "released", "open", "over"] {
            let ttl = if id == "over" { Duration::from_secs(1) } else { Duration::from_mins(5) };
            rig.reserve_for(id, "inference", "1", ttl).await.expect("held");
        }
        billhook::ops::reservations::write_down(rig.app()).await.expect("written down");
        let committed = rig.commit("committed", "0.5").await.expect("committed");
        rig.release("released").await.expect("released");
        billhook::ops::reservations::write_down(rig.app()).await.expect("written down");
        rig.world.clock.advance(Duration::from_secs(2));
        let rig = rig.after_a_crash().await;
        assert_eq!(rig.left().await, "3.5", "{adapter:?}");
        let again = rig.commit("committed", "0.5").await.expect("committed");
        assert_eq!((again.position, again.replayed), (committed.position, true), "{adapter:?}");
        assert!(!rig.commit("open", "1").await.expect("committed").late, "{adapter:?}");
        assert!(rig.commit("over", "1").await.expect("committed").late, "{adapter:?}");
        assert_eq!(rig.left().await, "2.5", "{adapter:?}");
        let encoded = account(&rig);
        assert_eq!(Account::decode(&encoded).map(|account| account.encode()), Ok(encoded));
    }
}

/// A commit that was not written down as open, told whose it is.
#[tokio::test]
async fn a_commit_of_a_forgotten_reservation_counts_once() {
    let rig = Rig::new(Adapter::Embedded).await;
    rig.reserve("lost", "inference", "1").await.expect("held");
    let rig = rig.after_a_crash().await;
    assert_eq!(code(rig.commit("lost", "1").await), "invalid /user_id");
    let commit = || billhook::ops::reservations::Commit {
        quantity: super::quantity("1"),
        at: None,
        user: Some(rig.user.clone()),
        kind: Some("inference".to_owned()),
    };
    let first = billhook::ops::reservations::commit(rig.app(), "lost", commit()).await.expect("committed");
    let again = billhook::ops::reservations::commit(rig.app(), "lost", commit()).await.expect("committed");
    assert_eq!((first.late, again.late, first.position, again.replayed), (true, true, again.position, true));
    let rig = rig.after_a_crash().await;
    // Days later, on a day of its own, the log still knows.
    rig.world.clock.advance(Duration::from_hours(24 * 9));
    let late = rig.commit("lost", "1").await.expect("committed");
    assert_eq!((late.position, late.late, late.replayed), (first.position, true, true));
    assert_eq!(code(rig.commit("lost", "2").await), "usage.conflict /quantity");
}
