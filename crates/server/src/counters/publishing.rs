//! What has moved in the book since it was last published, for the process that publishes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::book::Slot;

/// Beyond so many, what has moved is read from the log again instead.
const MOVES_MAX: usize = 500_000;

/// Accounts on which entries were counted, each once: publishing everything anew takes longer than it takes to count a million
/// entries of the same users.
#[derive(Debug)]
pub struct Moves {
    wanted: AtomicBool,
    /// How often what was noted has been taken.
    round: AtomicU64,
    noted: Mutex<Vec<Move>>,
}

/// Entries were counted on it.
#[derive(Debug, Clone)]
pub struct Move {
    pub slot: Arc<Slot>,
    /// The reservation that it commits.
    pub committed: Option<Box<str>>,
}

impl Default for Moves {
    fn default() -> Self {
        // No account has been noted in the first round.
        Self { wanted: AtomicBool::new(false), round: AtomicU64::new(1), noted: Mutex::default() }
    }
}

impl Moves {
    /// Called with every entry, under the lock of its account, which remembers the round in which it was noted.
    pub fn note(&self, slot: &Arc<Slot>, noted: &mut u64, committed: Option<&str>) {
        let round = self.round.load(Ordering::Acquire);
        if !self.wanted.load(Ordering::Acquire) || *noted == round && committed.is_none() {
            return;
        }
        *noted = round;
        let slot = Arc::clone(slot);
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() >= MOVES_MAX {
            noted.clear();
            self.wanted.store(false, Ordering::Release);
            return;
        }
        noted.push(Move { slot, committed: committed.map(Box::from) });
    }

    /// Everything that was noted since the last call; nothing at the first call, and where it was too much: then the log has to
    /// be asked. To be called while the right to move the book is held.
    pub fn take(&self) -> Option<Vec<Move>> {
        self.round.fetch_add(1, Ordering::AcqRel);
        let was_wanted = self.wanted.swap(true, Ordering::AcqRel);
        let noted = std::mem::take(&mut *self.noted.lock().unwrap_or_else(PoisonError::into_inner));
        was_wanted.then_some(noted)
    }

    /// This process does not publish any more.
    pub fn stop(&self) {
        self.wanted.store(false, Ordering::Release);
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
