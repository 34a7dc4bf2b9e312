//! Holds: what was promised to somebody who is still at work, and is neither used nor free.
//!
//! What an account holds is the sum of its holds, always (I-03). A hold is resolved at most once: by its commit, by its
//! release, or by its expiry. What became of an id afterwards (I-04) is remembered by whoever gives out the ids.

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

/// All holds of an account, and their sums.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    holds: HashMap<Arc<str>, Hold>,
    /// Their ids by the end of their time.
    due: BTreeSet<(i64, Arc<str>)>,
    sums: Sums,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Sums {
    credits: i128,
    /// In the order in which the types were first held.
    kinds: Vec<(Arc<str>, i128)>,
}

impl Held {
    /// Holds this under its id. What was held under it is held no more: its time is over, or this says more of the same. Whether
    /// there is room was decided before ([`crate::limit::decide`]).
    pub fn place(&mut self, id: impl Into<Arc<str>>, hold: Hold) {
        let (id, expires_ms) = (id.into(), hold.expires_ms);
        self.sums.add(&hold, i128::saturating_add);
        if let Some(before) = self.holds.insert(Arc::clone(&id), hold) {
            self.sums.add(&before, i128::saturating_sub);
            self.due.remove(&(before.expires_ms, Arc::clone(&id)));
        }
        self.due.insert((expires_ms, id));
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
        let (id, hold) = self.holds.remove_entry(id)?;
        self.due.remove(&(hold.expires_ms, id));
        self.sums.add(&hold, i128::saturating_sub);
        Some(hold)
    }

    /// Moves the end of a hold: while its commit is on the way to the log, nobody frees it. Nothing where the id is unknown or was
    /// resolved.
    pub fn end_at(&mut self, id: &str, expires_ms: i64) {
        let Some((key, _)) = self.holds.get_key_value(id) else { return };
        let key = Arc::clone(key);
        if let Some(hold) = self.holds.get_mut(id) {
            self.due.remove(&(hold.expires_ms, Arc::clone(&key)));
            hold.expires_ms = expires_ms;
            self.due.insert((expires_ms, key));
        }
    }

    /// Frees what has expired; answers how many holds that were.
    pub fn expire(&mut self, now_ms: i64) -> usize {
        let mut freed = 0_usize;
        while let Some((expires_ms, _)) = self.due.first()
            && *expires_ms <= now_ms
            && let Some((_, id)) = self.due.pop_first()
        {
            if let Some(hold) = self.holds.remove(&id) {
                self.sums.add(&hold, i128::saturating_sub);
                freed = freed.saturating_add(1);
            }
        }
        freed
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
        self.holds.iter().map(|(id, hold)| (&**id, hold))
    }

    /// Is nothing held?
    pub fn is_empty(&self) -> bool {
        self.holds.is_empty()
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

/// A sum as it is shown. `decide` keeps what is held together with what is used below this.
fn counted(sum: i128) -> i64 {
    i64::try_from(sum).unwrap_or(i64::MAX)
}
