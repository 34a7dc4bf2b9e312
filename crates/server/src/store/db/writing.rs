//! Whether what is written gets onto the disk: what the last transaction that tried says, and where none has tried lately, one
//! that is made for this.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Db, FULL, READ_ONLY, Tx};
use crate::error::{Error, Result, Upstream};
use crate::store::facts;

/// For so long a success is believed.
const BELIEVED_FOR: Duration = Duration::from_secs(10);
/// As often a database that refused is asked again.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// Whoever looks waits no longer than this.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of a try: it must find room as events do.
const ROOM: usize = 64 * 1_024;

/// What is known of writing.
#[derive(Debug, Default)]
pub(super) struct Writing(Mutex<LastTry>);

#[derive(Debug, Clone, Copy, Default)]
struct LastTry {
    /// When a transaction was asked or answered last; nothing before the first.
    at: Option<Instant>,
    refused: Option<Unwritable>,
}

/// Why nothing can be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwritable {
    Full,
    ReadOnly,
    /// It cannot be reached, or writing fails in another way.
    Away,
    /// It does not answer in time.
    Slow,
}

impl std::fmt::Display for Unwritable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full => "the disk is full",
            Self::ReadOnly => "the database is read-only",
            Self::Away => "the database does not take what is written",
            Self::Slow => "the database does not take what is written in time",
        })
    }
}

impl Unwritable {
    /// Nothing where an error is no word about the database: the work itself was at fault, or others were in its way.
    fn of(error: &Error) -> Option<Self> {
        match error {
            Error::Upstream { who: Upstream::Database, code, .. } => match *code {
                super::CONTENTION => None,
                FULL => Some(Self::Full),
                READ_ONLY => Some(Self::ReadOnly),
                _ => Some(Self::Away),
            },
            _ => None,
        }
    }
}

impl Writing {
    /// Takes note of how a transaction ended; `wrote`: it changed a row.
    pub(super) fn note<T>(&self, outcome: &Result<T>, wrote: bool) {
        let refused = match outcome {
            Ok(_) if wrote => None,
            Ok(_) => return,
            Err(error) => match Unwritable::of(error) {
                None => return,
                refused => refused,
            },
        };
        *self.lock() = LastTry { at: Some(now()), refused };
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LastTry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is time to try; then it is for whoever asked.
    fn is_due(&self, now: Instant) -> bool {
        let mut known = self.lock();
        let wait = if known.refused.is_some() { AGAIN_AFTER } else { BELIEVED_FOR };
        let due = known.at.is_none_or(|at| now.saturating_duration_since(at) >= wait);
        if due {
            known.at = Some(now);
        }
        due
    }
}

#[allow(clippy::disallowed_methods, reason = "how long ago, not what time it is")]
fn now() -> Instant {
    Instant::now()
}

impl Db {
    /// Why nothing can be recorded now, if so. Writes itself only where nobody has for a while.
    pub async fn refuses(&self) -> Option<Unwritable> {
        let writing = self.writing();
        if writing.is_due(now()) && tokio::time::timeout(PATIENCE, self.write(find_room)).await.is_err() {
            // Holds until something is written: the try itself may be it, when the database goes on.
            *writing.lock() = LastTry { at: Some(now()), refused: Some(Unwritable::Slow) };
        }
        writing.lock().refused
    }
}

/// Finds room for some rows, and leaves none of it.
fn find_room(tx: &mut Tx<'_>) -> Result<()> {
    facts::set(tx, facts::ROOM, &"-".repeat(ROOM))?;
    facts::remove(tx, facts::ROOM)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(code: &'static str) -> Result<()> {
        Err(Error::Upstream { who: Upstream::Database, code, retry_after: PATIENCE, cause: None })
    }

    #[test]
    fn f13_only_what_was_written_and_what_the_database_refused_is_a_word_about_it() {
        for (outcomes, refused) in [
            (vec![(upstream(FULL), false)], Some(Unwritable::Full)),
            (vec![(upstream(READ_ONLY), false), (Ok(()), false)], Some(Unwritable::ReadOnly)),
            (vec![(upstream("storage.unavailable"), true), (Err(Error::NotFound), true)], Some(Unwritable::Away)),
            (vec![(upstream(FULL), false), (upstream(super::super::CONTENTION), false)], Some(Unwritable::Full)),
            (vec![(upstream(FULL), false), (Ok(()), true)], None),
        ] {
            let writing = Writing::default();
            for (outcome, wrote) in &outcomes {
                writing.note(outcome, *wrote);
            }
            assert_eq!(writing.lock().refused, refused, "{outcomes:?}");
        }
    }

    #[test]
    fn f13_a_probe_writes_rarely() {
        let (writing, start) = (Writing::default(), now());
        let tries = |writing: &Writing, from: u64, to: u64| {
            (from * 10..to * 10).filter(|tenth| writing.is_due(start + Duration::from_millis(tenth * 100))).count()
        };
        assert_eq!(tries(&writing, 0, 60), 6, "one in ten seconds");
        writing.0.lock().unwrap().refused = Some(Unwritable::Full);
        assert_eq!(tries(&writing, 60, 120), 30, "one in two seconds");
    }
}
