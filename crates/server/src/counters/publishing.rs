//! What has moved in the book since it was last published, for the process that publishes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::book::Slot;

/// Beyond so many, what has moved is read from the log again instead.
const MOVES_MAX: usize = 200_000;

/// Accounts in the order in which entries were counted on them.
#[derive(Debug, Default)]
pub struct Moves {
    wanted: AtomicBool,
    noted: Mutex<Vec<Move>>,
}

/// An entry was counted.
#[derive(Debug, Clone)]
pub struct Move {
    pub slot: Arc<Slot>,
    /// The reservation that it commits.
    pub committed: Option<Box<str>>,
}

impl Moves {
    /// Called with every entry, under the lock of its account.
    pub fn note(&self, slot: &Arc<Slot>, committed: Option<&str>) {
        if !self.wanted.load(Ordering::Acquire) {
            return;
        }
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() >= MOVES_MAX {
            noted.clear();
            self.wanted.store(false, Ordering::Release);
            return;
        }
        noted.push(Move { slot: Arc::clone(slot), committed: committed.map(Box::from) });
    }

    /// Everything that was noted since the last call; nothing at the first call, and where it was too much: then the log has to
    /// be asked. To be called while the right to move the book is held.
    pub fn take(&self) -> Option<Vec<Move>> {
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
