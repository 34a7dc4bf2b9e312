//! Holds: what was promised to somebody who is still at work, and is neither used nor free.
//!
//! What an account holds is the sum of its holds, always (I-03). A hold is resolved at most once: by its commit, by its
//! release, or by its expiry. Its id is remembered until it would have expired, so that neither a second release nor a
//! late repetition of the reservation does anything (I-04).

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::usage::{Credits, Quantity};

/// What is held for one piece of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The event type.
    pub kind: Arc<str>,
    /// How much of it.
    pub quantity: Quantity,
    /// What that costs at most, in credits.
    pub credits: Credits,
    /// From this instant on it is free again, in milliseconds since 1970.
    pub expires_ms: i64,
}

/// What became of a hold that was to be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placed {
    /// It is held.
    New,
    /// It was held already, as this: the same id asks for the same thing again.
    Again(Hold),
    /// It was held as this and is resolved: nothing is held.
    Resolved(Hold),
    /// The id stands for something else.
    Differs(Member),
}

/// The member in which two holds of one id differ. Credits follow from the type and the quantity at the weight of the
/// moment, and the expiry from the moment: neither is what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member {
    /// The event type.
    Kind,
    /// The quantity.
    Quantity,
}

impl Member {
    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Member::Kind => "type",
            Member::Quantity => "quantity",
        }
    }
}

/// All holds of an account, and their sums.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    holds: HashMap<Arc<str>, State>,
    /// All of them by the end of their time, resolved ones too.
    due: BTreeSet<(i64, Arc<str>)>,
    sums: Sums,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Sums {
    credits: i128,
    /// In the order in which the types were first held.
    kinds: Vec<(Arc<str>, i128)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Held(Hold),
    Resolved(Hold),
}

impl State {
    fn hold(&self) -> &Hold {
        match self {
            State::Held(hold) | State::Resolved(hold) => hold,
        }
    }
}

impl Held {
    /// Nothing is held.
    pub fn new() -> Held {
        Held::default()
    }

    /// Places a hold. Whether there is room for it was decided before ([`crate::limit::decide`]).
    pub fn place(&mut self, id: impl Into<Arc<str>>, hold: Hold) -> Placed {
        match self.holds.entry(id.into()) {
            Entry::Occupied(there) => placed_before(there.get(), &hold),
            Entry::Vacant(free) => {
                self.sums.add(&hold, i128::saturating_add);
                self.due.insert((hold.expires_ms, Arc::clone(free.key())));
                free.insert(State::Held(hold));
                Placed::New
            }
        }
    }

    /// The name of a type as the holds of this account have it. They share it among themselves and with no other account: whoever
    /// counts its owners waits for nobody who is at work on another account.
    pub fn kind(&mut self, name: &str) -> Arc<str> {
        if let Some((kind, _)) = self.sums.kinds.iter().find(|(kind, _)| **kind == *name) {
            return Arc::clone(kind);
        }
        let kind: Arc<str> = Arc::from(name);
        self.sums.kinds.push((Arc::clone(&kind), 0));
        kind
    }

    /// Takes a hold away, for its release or its commit. Nothing where the id is unknown, was resolved or has expired.
    pub fn take(&mut self, id: &str) -> Option<Hold> {
        let state = self.holds.get_mut(id)?;
        let State::Held(hold) = state else { return None };
        let hold = hold.clone();
        *state = State::Resolved(hold.clone());
        self.sums.add(&hold, i128::saturating_sub);
        Some(hold)
    }

    /// Moves the end of a hold: while its commit is on the way to the log, nobody frees it. Nothing where the id is unknown or was
    /// resolved.
    pub fn end_at(&mut self, id: &str, expires_ms: i64) {
        let Some((key, _)) = self.holds.get_key_value(id) else { return };
        let key = Arc::clone(key);
        let Some(State::Held(hold)) = self.holds.get_mut(id) else { return };
        self.due.remove(&(hold.expires_ms, Arc::clone(&key)));
        hold.expires_ms = expires_ms;
        self.due.insert((expires_ms, key));
    }

    /// Takes back what [`Held::take`] did. Nothing where the id is unknown or was not resolved.
    pub fn put_back(&mut self, id: &str) {
        let Some(state @ State::Resolved(_)) = self.holds.get_mut(id) else { return };
        let hold = state.hold().clone();
        *state = State::Held(hold.clone());
        self.sums.add(&hold, i128::saturating_add);
    }

    /// Frees what has expired and forgets what was resolved until then; answers how many holds were freed.
    pub fn expire(&mut self, now_ms: i64) -> usize {
        let mut freed = 0_usize;
        while let Some((expires_ms, _)) = self.due.first()
            && *expires_ms <= now_ms
            && let Some((_, id)) = self.due.pop_first()
        {
            if let Some(State::Held(hold)) = self.holds.remove(&id) {
                self.sums.add(&hold, i128::saturating_sub);
                freed = freed.saturating_add(1);
            }
        }
        freed
    }

    /// A hold that is neither resolved nor known to have expired.
    pub fn get(&self, id: &str) -> Option<&Hold> {
        match self.holds.get(id)? {
            State::Held(hold) => Some(hold),
            State::Resolved(_) => None,
        }
    }

    /// Was this id held and then committed or released, not longer ago than it would have expired?
    pub fn was_resolved(&self, id: &str) -> bool {
        matches!(self.holds.get(id), Some(State::Resolved(_)))
    }

    /// Credits that are held.
    pub fn credits(&self) -> Credits {
        Credits::from_micro(counted(self.sums.credits))
    }

    /// How much of a type is held.
    pub fn quantity(&self, kind: &str) -> Quantity {
        let sum = self.sums.kinds.iter().find(|(name, _)| **name == *kind).map_or(0, |(_, sum)| *sum);
        Quantity::from_micro(counted(sum))
    }

    /// The holds with their ids, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Hold)> {
        self.holds.iter().filter_map(|(id, state)| match state {
            State::Held(hold) => Some((&**id, hold)),
            State::Resolved(_) => None,
        })
    }

    /// How many holds there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Is nothing held?
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl Sums {
    // Sums of 64 bits in 128 of them: it would take 2^63 holds to leave these.
    fn add(&mut self, hold: &Hold, sum: fn(i128, i128) -> i128) {
        self.credits = sum(self.credits, i128::from(hold.credits.micro()));
        let quantity = i128::from(hold.quantity.micro());
        match self.kinds.iter_mut().find(|(name, _)| **name == *hold.kind) {
            Some((_, held)) => *held = sum(*held, quantity),
            None => self.kinds.push((Arc::clone(&hold.kind), sum(0, quantity))),
        }
    }
}

fn placed_before(state: &State, hold: &Hold) -> Placed {
    let there = state.hold();
    if there.kind != hold.kind {
        return Placed::Differs(Member::Kind);
    }
    if there.quantity != hold.quantity {
        return Placed::Differs(Member::Quantity);
    }
    match state {
        State::Held(hold) => Placed::Again(hold.clone()),
        State::Resolved(hold) => Placed::Resolved(hold.clone()),
    }
}

/// A sum as it is shown. `decide` keeps what is held together with what is used below this.
fn counted(sum: i128) -> i64 {
    i64::try_from(sum).unwrap_or(i64::MAX)
}
