//! I-25: what was seen of reservations from many sides at once can be put into one line.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;

use super::trace::Dice;
use super::{Adapter, BOTH, Rig, code};

/// What somebody did and what they were told, in tenths of a credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Act {
    Granted { id: u32, amount: u32 },
    Refused { amount: u32 },
    Committed { id: u32, used: u32 },
    Released { id: u32 },
}

/// An act between its call and its answer.
#[derive(Debug, Clone, Copy)]
struct Seen {
    act: Act,
    from: u64,
    to: u64,
}

/// What an account of so many tenths is like.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct State {
    used: u32,
    held: Vec<(u32, u32)>,
}

impl State {
    /// The state after an act, where the act could be told so.
    fn after(&self, act: Act, cap: u32) -> Option<Self> {
        let mut next = self.clone();
        let taken = self.used + self.held.iter().map(|(_, amount)| amount).sum::<u32>();
        let at = |id: u32| self.held.iter().position(|(held, _)| *held == id);
        match act {
            Act::Granted { id, amount } if taken + amount <= cap => next.held.push((id, amount)),
            Act::Refused { amount } if taken + amount > cap => {}
            Act::Committed { id, used } => {
                next.held.remove(at(id)?);
                next.used += used;
            }
            Act::Released { id } => drop(next.held.remove(at(id)?)),
            Act::Granted { .. } | Act::Refused { .. } => return None,
        }
        next.held.sort_unstable();
        Some(next)
    }
}

/// Is there an order of the acts, none before its call or after its answer, in which everybody was told the truth?
fn fits_in_a_line(history: &[Seen], cap: u32) -> bool {
    fn search(history: &[Seen], cap: u32, done: u64, state: &State, tried: &mut HashSet<(u64, State)>) -> bool {
        if done.count_ones() as usize == history.len() {
            return true;
        }
        if !tried.insert((done, state.clone())) {
            return false;
        }
        let open = || (0..history.len()).filter(|at| done & (1 << at) == 0);
        let first_answer = open().map(|at| history[at].to).min().unwrap_or(u64::MAX);
        open().filter(|at| history[*at].from <= first_answer).any(|at| {
            state.after(history[at].act, cap).is_some_and(|next| search(history, cap, done | 1 << at, &next, tried))
        })
    }
    assert!(history.len() <= 64);
    search(history, cap, 0, &State::default(), &mut HashSet::new())
}

fn seen(act: Act, from: u64, to: u64) -> Seen {
    Seen { act, from, to }
}

/// The checker itself: what it must catch.
#[test]
fn i25_the_checker_catches_what_no_order_explains() {
    let grant = |id, from, to| seen(Act::Granted { id, amount: 3 }, from, to);
    let refuse = |from, to| seen(Act::Refused { amount: 3 }, from, to);
    for (history, fits, why) in [
        (vec![grant(1, 0, 1), refuse(2, 3)], true, "the second finds no room"),
        (vec![grant(1, 0, 1), grant(2, 2, 3)], false, "more than there is"),
        (vec![grant(1, 0, 3), refuse(1, 2)], true, "at the same time, in either order"),
        (vec![refuse(0, 1), grant(1, 2, 3)], false, "refused although nothing was taken"),
        (vec![grant(1, 0, 1), seen(Act::Released { id: 1 }, 2, 3), grant(2, 4, 5)], true, "free again"),
        (
            vec![grant(1, 0, 1), seen(Act::Committed { id: 1, used: 3 }, 2, 3), grant(2, 4, 5)],
            false,
            "freed, not counted",
        ),
        (vec![grant(1, 0, 1), seen(Act::Committed { id: 1, used: 1 }, 2, 5), grant(2, 3, 4)], true, "less was used"),
        (
            vec![grant(1, 0, 1), seen(Act::Released { id: 1 }, 2, 3), seen(Act::Committed { id: 1, used: 3 }, 4, 5)],
            false,
            "resolved twice",
        ),
    ] {
        assert_eq!(fits_in_a_line(&history, 5), fits, "{why}");
    }
}

/// Numbers calls and answers in the order in which they happen.
#[derive(Default)]
struct Recorder {
    clock: AtomicU64,
    seen: Mutex<Vec<Seen>>,
}

impl Recorder {
    async fn record<T>(&self, call: impl Future<Output = T>, act: impl FnOnce(T) -> Option<Act>) -> bool {
        let from = self.clock.fetch_add(1, Ordering::SeqCst);
        let answer = call.await;
        let to = self.clock.fetch_add(1, Ordering::SeqCst);
        let Some(act) = act(answer) else { return false };
        self.seen.lock().expect("a lock").push(Seen { act, from, to });
        !matches!(act, Act::Refused { .. })
    }
}

fn tenths(amount: u32) -> String {
    format!("{}.{}", amount / 10, amount % 10)
}

/// Decided, however often Redis has to be asked.
pub async fn settled(rig: &Rig, id: &str, amount: &str) -> String {
    for _ in 0..600 {
        let code = code(rig.reserve(id, "inference", amount).await);
        if code != "limit.unknown" {
            return code;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("Redis did not come back");
}

/// One client: reserves, then commits or releases, a few times.
async fn client(rig: &Rig, recorder: &Recorder, number: u32, seed: u64) {
    let mut dice = Dice::new(seed * 1_000 + u64::from(number));
    let mut below = |bound| u32::try_from(dice.below(bound)).expect("small");
    for round in 0..4 {
        let (id, amount) = (number * 100 + round, 3 + below(20));
        let name = format!("{seed}-{id}");
        let reserve = async { code(rig.reserve(&name, "inference", &tenths(amount)).await) };
        let act = |code: String| match code.as_str() {
            "ok" => Some(Act::Granted { id, amount }),
            "credits.exhausted" => Some(Act::Refused { amount }),
            // Redis had no time: nobody was told anything. What it may have placed is taken away.
            _ => None,
        };
        if !recorder.record(reserve, act).await {
            continue;
        }
        tokio::task::yield_now().await;
        let is_done = if below(2) == 0 {
            let used = below(u64::from(amount) + 1);
            let commit = async { rig.commit(&name, &tenths(used)).await.map(drop) };
            Box::pin(recorder.record(commit, |done| done.map(|()| Act::Committed { id, used }).ok())).await
        } else {
            recorder.record(rig.release(&name), |done| done.map(|()| Act::Released { id }).ok()).await
        };
        assert!(is_done, "whoever holds something can commit and release it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i25_histories_of_real_runs_fit_in_a_line() {
    for adapter in BOTH {
        for seed in 1..=5 {
            let rig = Rig::new(adapter).await;
            let recorder = Arc::new(Recorder::default());
            join_all((0..6).map(|number| client(&rig, &recorder, number, seed))).await;
            let history = recorder.seen.lock().expect("a lock").clone();
            assert!(history.len() > 20, "{adapter:?}: {} acts", history.len());
            assert!(fits_in_a_line(&history, 50), "{adapter:?}, seed {seed}: {history:?}");
        }
    }
}

/// A seeded bug: whoever takes from what is held behind everybody's back is caught.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i25_a_store_that_frees_what_is_held_is_caught() {
    let rig = Rig::new(Adapter::Redis).await;
    let recorder = Recorder::default();
    let shard = billhook::counters::book::shard_of(&rig.user);
    let key = format!("bh:{{{shard}}}:a:{}", rig.user);
    for id in 0..4 {
        let name = format!("r{id}");
        let reserve = async { code(rig.reserve(&name, "inference", "3").await) };
        let act = |code: String| {
            Some(if code == "ok" { Act::Granted { id, amount: 30 } } else { Act::Refused { amount: 30 } })
        };
        recorder.record(reserve, act).await;
        rig.server.as_ref().expect("a Redis").ask(&["HSET", &key, "held", "0"]);
    }
    let history = recorder.seen.lock().expect("a lock").clone();
    assert!(!fits_in_a_line(&history, 50), "{history:?}");
}
