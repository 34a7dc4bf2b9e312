//! What Redis may not have heard of, or we not its answer: it is put right there by whoever sweeps.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::{Redis, claim_life_ms};
use crate::counters::Outage;
use crate::counters::book::Book;
use crate::counters::reservations::{Fate, Known, UNDER_WAY_MAX_MS};

/// So much is remembered. What is forgotten beyond it is over by itself in the end.
const MAX: usize = 16_384;
/// So much is put right with a sweep.
const AT_ONCE: usize = 512;

/// The oldest first.
#[derive(Debug, Default)]
pub struct Unheard(Mutex<VecDeque<Reservation>>);

#[derive(Debug)]
struct Reservation {
    user: Box<str>,
    id: Box<str>,
    /// Then it is nobody's by itself.
    expires_ms: i64,
    doubt: Doubt,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// It was released here.
    Released,
    /// It may be held there, and nobody was told so. A caller's own id may have been asked for again elsewhere, and granted.
    Held { is_new: bool },
    /// An attempt to commit it came to nothing, and its claim may lie there still.
    Attempt(Box<str>),
}

impl Unheard {
    pub fn note(&self, user: &str, id: &str, expires_ms: i64, doubt: Doubt) {
        let mut all = self.lock();
        if all.len() >= MAX {
            all.pop_front();
        }
        all.push_back(Reservation { user: user.into(), id: id.into(), expires_ms, doubt });
    }

    fn next(&self) -> Option<Reservation> {
        self.lock().pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Reservation>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What Redis has not heard of, for as long as this lives: its caller may go away meanwhile.
pub struct Untold<'a> {
    redis: &'a Redis,
    known: &'a Known,
    id: &'a str,
    /// Nothing once it is told.
    doubt: Option<Doubt>,
}

impl<'a> Untold<'a> {
    pub fn new(redis: &'a Redis, known: &'a Known, id: &'a str, doubt: Doubt) -> Self {
        Self { redis, known, id, doubt: Some(doubt) }
    }

    /// Redis has heard it, or nobody has to tell it any more.
    pub fn tell(mut self) {
        self.doubt = None;
    }
}

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        let Known { user, expires_ms, .. } = self.known;
        if let Some(doubt) = self.doubt.take() {
            // A claim outlives the hold.
            let more_ms = if matches!(doubt, Doubt::Attempt(_)) { UNDER_WAY_MAX_MS } else { 0 };
            self.redis.unheard.note(user, self.id, expires_ms.saturating_add(more_ms), doubt);
        }
    }
}

impl Redis {
    /// Puts a part of it right.
    pub(super) async fn put_right(&self, book: &Book, now: Timestamp) -> Result<(), Outage> {
        for _ in 0..AT_ONCE {
            let Some(one) = self.unheard.next() else { break };
            if one.expires_ms > now.as_millisecond()
                && let Err(outage) = self.put_one_right(book, &one, now).await
            {
                self.unheard.lock().push_front(one);
                return Err(outage);
            }
        }
        Ok(())
    }

    /// Frees there what is not held, where that is sure. Only what was released is not to be committed any more: what was let through
    /// undecided is somebody's work.
    async fn put_one_right(&self, book: &Book, one: &Reservation, now: Timestamp) -> Result<(), Outage> {
        let fate = book.reservations.get(&one.id).map(|known| known.fate);
        let life_ms = match (&one.doubt, fate) {
            (Doubt::Attempt(attempt), _) => return self.give_up_claim(&one.id, &one.user, attempt).await,
            (Doubt::Released, Some(Fate::Held)) => return Ok(()), // asked for again, and granted
            (Doubt::Released, _) => Some(claim_life_ms(one.expires_ms, now)),
            (Doubt::Held { .. }, Some(Fate::Undecided | Fate::Committing { undecided: true, .. }))
            | (Doubt::Held { is_new: true }, None) => None,
            // Asked for again, and granted; or nobody knows, and its time is over before long.
            (Doubt::Held { .. }, _) => return Ok(()),
        };
        let slot = book.get(&one.user);
        self.release_there(slot.as_deref(), &one.user, &one.id, life_ms).await.map(drop)
    }
}
