//! Every interleaving of three clients that reserve, commit, release, repeat themselves and die, against one small cap.
//!
//! The explorer walks all states that can be reached: three operations for each client in any order, time that passes the
//! expiry at any point. A client that dies is one that does no more, which every state on the way is. After each step
//! it asks for I-03, that `spent + held` stays within the cap, and for I-04, that no id has more than one effect.

use std::collections::{BTreeMap, BTreeSet};

use billing::account::Account;
use billing::entry::{Entry, Fact};
use billing::hold::{Held, Hold};
use billing::limit;
use billing::usage::{Credits, Quantity};

use crate::ledger::terms;

/// Credits of the account; the three clients ask for 0.2, 0.2 and 0.3 of its 0.5, in quantities of 2, 2 and 3.
const CAP: &str = "0.5 block";
const ASKS: [i64; 3] = [2, 2, 3];
/// What each has really used when it commits; the second one less than it held.
const USES: [i64; 3] = [2, 1, 3];
const WEIGHT: Credits = Credits::from_micro(100_000);
const OPERATIONS: i64 = 3;
/// 2026-11-10, in milliseconds.
const START_MS: i64 = 1_794_268_800_000;
/// The life of a hold; as much time may pass at any point.
const TTL_MS: i64 = 300_000;

fn units(units: i64) -> Quantity {
    Quantity::from_micro(units * 1_000_000)
}

/// Ways to be wrong. Each is a mistake that somebody has made in such a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// Decides without what is held.
    ForgetsHolds,
    /// Frees the hold first and counts the usage in a step of its own.
    FreesBeforeItCounts,
    /// Counts a commit again when it is repeated.
    CountsTwice,
    /// Frees a hold again when the release is repeated.
    FreesTwice,
    /// Does not know an id any more as soon as it is resolved.
    ForgetsIds,
    /// Never frees what has expired.
    KeepsExpired,
}

#[derive(Debug, Clone, Copy)]
enum Operation {
    Reserve,
    Commit,
    Release,
}

#[derive(Debug, Clone)]
struct State {
    account: Account,
    held: Held,
    /// Ids whose hold was taken, until it would have expired.
    resolved: BTreeMap<String, i64>,
    /// Credits that `FreesTwice` has freed too often.
    freed_too_often: i64,
    /// The keys of the log and how often each was counted, and the quantity.
    log: BTreeMap<usize, (u32, i64)>,
    /// Usage that `FreesBeforeItCounts` has yet to count.
    uncounted: BTreeSet<usize>,
    /// How often a client's hold was granted.
    granted: [u32; 3],
    /// Released for good: whoever gave it back cannot have used it.
    released: BTreeSet<usize>,
    done: [i64; 3],
    passed: i64,
    /// Credits of commits that came when nothing was held any more: they are facts, and count all the same.
    late: i64,
}

impl State {
    fn new() -> State {
        State {
            account: Account::new(terms(CAP), START_MS).expect("an account"),
            held: Held::default(),
            resolved: BTreeMap::new(),
            freed_too_often: 0,
            log: BTreeMap::new(),
            uncounted: BTreeSet::new(),
            granted: [0; 3],
            released: BTreeSet::new(),
            done: [0; 3],
            passed: 0,
            late: 0,
        }
    }

    /// What two states have to share to have the same future. What the account has used follows from the log.
    fn key(&self) -> Vec<i64> {
        let set = |set: &BTreeSet<usize>| set.iter().fold(0, |bits, client| bits | 1 << client);
        let mut key = vec![self.passed, self.late, self.freed_too_often, set(&self.uncounted), set(&self.released)];
        for client in 0..3 {
            let id = client.to_string();
            let held = self.hold(&id).map_or(0, |hold| hold.expires_ms - START_MS);
            let counted = self.log.get(&client).map_or(0, |(times, _)| i64::from(*times));
            let resolved = i64::from(self.resolved.contains_key(&id));
            key.extend([held, resolved, counted, i64::from(self.granted[client]), self.done[client]]);
        }
        key
    }

    fn hold(&self, id: &str) -> Option<&Hold> {
        self.held.iter().find(|(held, _)| *held == id).map(|(_, hold)| hold)
    }

    fn now_ms(&self) -> i64 {
        START_MS + self.passed * TTL_MS
    }

    fn spent(&self) -> i64 {
        self.account.at(self.now_ms()).used.micro()
    }

    fn holding(&self) -> i64 {
        self.held.credits().micro() - self.freed_too_often
    }

    /// The states one step away.
    fn next(&self, bug: Bug, passes: i64) -> Vec<State> {
        let mut found = Vec::new();
        for client in (0..3).filter(|client| self.done[*client] < OPERATIONS) {
            for operation in [Operation::Reserve, Operation::Commit, Operation::Release] {
                let mut state = self.clone();
                state.done[client] += 1;
                match operation {
                    Operation::Reserve => state.reserve(client, bug),
                    Operation::Commit => state.commit(client, bug),
                    Operation::Release => state.release(client, bug),
                }
                found.push(state);
            }
        }
        if self.passed < passes {
            let mut state = self.clone();
            state.passed += 1;
            let now_ms = state.now_ms();
            if bug != Bug::KeepsExpired {
                state.held.expire(now_ms);
            }
            state.resolved.retain(|_, until_ms| *until_ms > now_ms);
            found.push(state);
        }
        for client in &self.uncounted {
            let mut state = self.clone();
            state.uncounted.remove(client);
            state.count(*client);
            found.push(state);
        }
        found
    }

    fn reserve(&mut self, client: usize, bug: Bug) {
        let id = client.to_string();
        if self.log.contains_key(&client) || self.hold(&id).is_some() || self.resolved.contains_key(&id) {
            return; // the same answer again
        }
        let room = self.account.room(self.now_ms()).expect("room");
        let nothing = Held::default();
        let held = if bug == Bug::ForgetsHolds { &nothing } else { &self.held };
        let quantity = units(ASKS[client]);
        if limit::decide(&room, held, None, "inference", quantity, WEIGHT).is_ok() {
            let credits = limit::credits_for(quantity, WEIGHT).expect("credits");
            let expires_ms = self.now_ms() + TTL_MS;
            self.held.place(id.as_str(), Hold { kind: "inference".into(), quantity, credits, expires_ms });
            self.granted[client] += 1;
        }
    }

    fn commit(&mut self, client: usize, bug: Bug) {
        let id = client.to_string();
        if (self.log.contains_key(&client) && bug != Bug::CountsTwice) || self.resolved.contains_key(&id) {
            return; // a duplicate, or given back before
        }
        if self.hold(&id).is_none() {
            self.late += USES[client] * WEIGHT.micro();
        }
        if bug == Bug::FreesBeforeItCounts {
            self.take(client, bug);
            self.uncounted.insert(client);
        } else {
            self.count(client);
            self.take(client, bug);
        }
    }

    fn release(&mut self, client: usize, bug: Bug) {
        if self.take(client, bug) {
            self.released.insert(client);
        }
    }

    fn take(&mut self, client: usize, bug: Bug) -> bool {
        let id = client.to_string();
        if bug == Bug::FreesTwice && self.resolved.contains_key(&id) {
            self.freed_too_often += ASKS[client] * WEIGHT.micro();
        }
        let Some(hold) = self.held.take(&id) else { return false };
        if bug != Bug::ForgetsIds {
            self.resolved.insert(id, hold.expires_ms);
        }
        true
    }

    fn count(&mut self, client: usize) {
        let (position, now_ms) = (self.account.position() + 1, self.now_ms());
        let fact = Fact::Usage { kind: "inference", quantity: units(USES[client]), weight: WEIGHT };
        self.account.fold(&Entry { position, event_ms: now_ms, received_ms: now_ms, fact }).expect("folded");
        let (times, _) = self.log.get(&client).copied().unwrap_or_default();
        self.log.insert(client, (times + 1, USES[client]));
    }

    /// What is broken in this state, if anything is.
    fn broken(&self) -> Option<&'static str> {
        let cap = 500_000 + self.late;
        let in_log: i64 = self.log.values().map(|(times, used)| i64::from(*times) * used * WEIGHT.micro()).sum();
        let holds: i64 = self.held.iter().map(|(_, hold)| hold.credits.micro()).sum();
        let lapsed = self.held.iter().any(|(_, hold)| hold.expires_ms <= self.now_ms());
        let checks = [
            (self.spent() + self.holding() <= cap, "I-03 spent and held are more than the cap"),
            (self.holding() == holds, "I-03 what is held is not the sum of the holds"),
            (self.spent() == in_log, "I-02 what is spent is not in the log"),
            (self.log.values().all(|(times, _)| *times <= 1), "I-04 an id was counted twice"),
            (
                self.released.iter().all(|id| !self.log.contains_key(id)) || self.passed > 0,
                "I-04 both released and counted",
            ),
            (self.granted.iter().all(|times| i64::from(*times) <= 1 + self.passed), "I-04 an id was granted twice"),
            (!lapsed, "a hold outlives its time"),
        ];
        checks.iter().find(|(holds, _)| !holds).map(|(_, name)| *name)
    }
}

/// Walks all states in which time passes so often at most; answers how many there are, or what was broken first.
fn explore(bug: Bug, passes: i64) -> Result<usize, &'static str> {
    let mut seen = BTreeSet::from([State::new().key()]);
    let mut open = vec![State::new()];
    while let Some(state) = open.pop() {
        if let Some(broken) = state.broken() {
            return Err(broken);
        }
        for next in state.next(bug, passes) {
            if seen.insert(next.key()) {
                open.push(next);
            }
        }
    }
    Ok(seen.len())
}

#[test]
fn i03_i04_hold_in_every_interleaving() {
    let states = explore(Bug::None, 1).expect("nothing is broken");
    assert!(states > 10_000, "only {states} states: the model has become too small to show anything");
}

#[test]
#[ignore = "nightly: 64,000 states take ten seconds without optimization"]
fn i03_i04_hold_however_often_time_passes() {
    assert!(explore(Bug::None, 2).expect("nothing is broken") > 60_000);
}

#[test]
fn i03_i04_each_seeded_bug_is_found() {
    let bugs = [
        (Bug::ForgetsHolds, "I-03 spent and held are more than the cap"),
        (Bug::FreesBeforeItCounts, "I-03 spent and held are more than the cap"),
        (Bug::CountsTwice, "I-04 an id was counted twice"),
        (Bug::FreesTwice, "I-03 what is held is not the sum of the holds"),
        (Bug::ForgetsIds, "I-04 both released and counted"),
        (Bug::KeepsExpired, "a hold outlives its time"),
    ];
    for (bug, found) in bugs {
        assert_eq!(explore(bug, 1), Err(found), "{bug:?}");
    }
}
