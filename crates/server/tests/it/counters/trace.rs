//! One trace on both adapters: the same answers, the same accounts to the byte.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use billhook::ops::publishing;
use billing::account::Account;

use super::{Adapter, Rig, code};

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

/// What a seed does, and what is said to each step.
async fn played(rig: &Rig, seed: u64, flushes: bool) -> String {
    let (mut dice, mut said) = (Dice::new(seed), String::new());
    for step in 0..120_u64 {
        let id = format!("r{}", dice.below(30));
        let kind = ["inference", "embedding", "tts", "stt"][usize::try_from(dice.below(4)).expect("small")];
        let amount = ["0", "0.1", "0.5", "1", "2.25", "0.000001"][usize::try_from(dice.below(6)).expect("small")];
        let ttl = Duration::from_secs(1 + dice.below(300));
        let what = match dice.below(10) {
            0..=3 => match rig.reserve_for(&id, kind, amount, ttl).await {
                Ok(reservation) => format!("{reservation:?}"),
                Err(error) => code::<()>(Err(error)),
            },
            4..=5 => match rig.commit(&id, amount).await {
                Ok(committed) => format!("{committed:?}"),
                Err(error) => code::<()>(Err(error)),
            },
            6 => code(rig.release(&id).await),
            7 => {
                rig.record(&format!("e{step}"), kind, amount).await;
                rig.left().await
            }
            8 => {
                rig.world.clock.advance(Duration::from_secs(dice.below(200)));
                rig.left().await
            }
            _ => {
                if let Some(server) = rig.server.as_ref().filter(|_| flushes) {
                    server.ask(&["FLUSHALL"]);
                }
                rig.world.clock.advance(Duration::from_hours(dice.below(20)));
                rig.left().await
            }
        };
        let _infallible = writeln!(said, "{step}: {id} {kind} {amount}: {what}");
    }
    said
}

/// The account as it is encoded, and as a reader of the log would make it.
fn account(rig: &Rig) -> Vec<u8> {
    rig.app().book.get(&rig.user).expect("an account").lock().account.encode()
}

/// Where two texts part.
fn first_difference<'t>(left: &'t str, right: &'t str) -> Option<(&'t str, &'t str)> {
    left.lines().zip(right.lines()).find(|(left, right)| left != right)
}

#[tokio::test]
async fn the_same_trace_is_answered_alike_by_both_adapters() {
    for seed in 1..=6 {
        let (memory, redis) = (Rig::new(Adapter::Embedded).await, Rig::new(Adapter::Redis).await);
        let (one, other) = (played(&memory, seed, false).await, played(&redis, seed, false).await);
        assert_eq!(first_difference(&one, &other), None, "seed {seed}");
        assert_eq!(account(&memory), account(&redis), "seed {seed}");
        publishing::verify(redis.app()).await.expect("published");
        assert_eq!(published(&redis), to_publish(&redis), "seed {seed}");
    }
}

/// F-23, I-23: what Redis forgets is published again, with what is held; nobody sees a difference.
#[tokio::test]
async fn f23_a_flush_at_any_step_changes_no_answer() {
    for seed in 11..=14 {
        let (memory, redis) = (Rig::new(Adapter::Embedded).await, Rig::new(Adapter::Redis).await);
        let (one, other) = (played(&memory, seed, true).await, played(&redis, seed, true).await);
        assert_eq!(first_difference(&one, &other), None, "seed {seed}");
        assert_eq!(account(&memory), account(&redis), "seed {seed}");
    }
}

/// By what Redis decides of the account, beside what is held of it.
pub fn published(rig: &Rig) -> BTreeMap<String, String> {
    let shard = billhook::counters::book::shard_of(&rig.user);
    let key = format!("bh:{{{shard}}}:a:{}", rig.user);
    let said = rig.server.as_ref().expect("a Redis").ask(&["HGETALL", &key]);
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
