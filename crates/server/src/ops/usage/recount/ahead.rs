//! What a clock that was ahead for a while has left behind: entries that were accepted at a time to come, and the periods that they
//! opened.

use std::sync::Arc;

use billing::account::AHEAD_MS;

use super::{NAMED, words};
use crate::counters::book::{Book, Slot};
use crate::store::log::Logged;

/// Entries of a time to come.
#[derive(Debug)]
pub struct Ahead {
    /// From here on it is to come.
    to_come_ms: i64,
    entries: u64,
    /// The first and the last of them.
    range: Option<(i64, i64)>,
    latest_ms: i64,
}

impl Default for Ahead {
    fn default() -> Self {
        Self::of(i64::MAX)
    }
}

impl Ahead {
    pub fn of(to_come_ms: i64) -> Self {
        Self { to_come_ms, entries: 0, range: None, latest_ms: i64::MIN }
    }

    pub fn look(&mut self, entry: &Logged) {
        if entry.received_ms <= self.to_come_ms {
            return;
        }
        self.entries += 1;
        let first = self.range.map_or(entry.position, |(first, _)| first);
        self.range = Some((first, entry.position));
        self.latest_ms = self.latest_ms.max(entry.received_ms);
    }

    /// The entries, and everybody whose running period has not begun yet.
    pub fn name(&self, book: &Book) -> Vec<String> {
        let entries = self.range.map(|(first, last)| {
            let (count, latest) = (self.entries, words::instant(self.latest_ms));
            format!("{count} entries ({first} to {last}) were accepted at a time to come, the latest at {latest}")
        });
        // An event that happened a little ahead may have begun its period.
        let begun_ms = self.to_come_ms.saturating_add(AHEAD_MS);
        let to_come = |slot: Arc<Slot>| {
            // The running period is that of the latest event there can be.
            let start_ms = slot.lock().account.running_since(i64::MAX).filter(|start_ms| *start_ms > begun_ms)?;
            let (user, start) = (&slot.user, words::instant(start_ms));
            Some(format!("user {user}: the running period begins at {start}, and what is used before counts in it"))
        };
        let mut users: Vec<String> = book.slots().into_iter().filter_map(to_come).collect();
        users.sort_unstable();
        users.truncate(NAMED);
        entries.into_iter().chain(users).collect()
    }
}
