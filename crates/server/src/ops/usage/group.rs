//! What waits at one moment and shares one transaction: appended together, then counted together.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::batch::Batch;
use super::draft::Draft;
use super::following::catch_up;
use super::judging;
use super::writer::Verdict;
use crate::app::App;
use crate::counters::book::Slot;
use crate::counters::reading::Said;
use crate::error::{Error, Result};
use crate::store::Tx;
use crate::store::log::{self, Entry, Source};

/// Where an entry of the group is: a candidate of a batch, or made here.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Asked { batch: usize, at: usize },
    Made(usize),
}

/// An entry that is appended and to be counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counting {
    pub(super) place: Place,
    pub(super) user: usize,
    pub(super) position: i64,
}

/// A group that is appended and not counted yet.
#[derive(Debug)]
pub(super) struct Group {
    /// The log before it, all of it counted.
    pub(super) head: i64,
    /// The edition of the book that its accounts were taken from.
    pub(super) edition: u64,
    pub(super) users: Vec<Arc<Slot>>,
    /// The places of those whose account is not in the book yet.
    pub(super) new: Vec<usize>,
    pub(super) made: Vec<Entry>,
    pub(super) appended: Vec<Counting>,
    pub(super) verdicts: Vec<Verdict>,
    /// What went wrong with a part of a batch.
    pub(super) failed: HashMap<usize, Error>,
}

impl Place {
    pub(super) fn entry<'e>(self, batches: &'e [Batch], made: &'e [Entry]) -> &'e Entry {
        match self {
            Place::Made(at) => &made[at],
            Place::Asked { batch, at } => &batches[batch].candidates[at].entry,
        }
    }
}

impl Group {
    /// Judges the candidates and appends what counts, in the order in which it came.
    pub(super) fn append(tx: &mut Tx<'_>, app: &App, batches: &[Batch], now: Timestamp) -> Result<Self> {
        let head = log::hold_head(tx)?;
        catch_up(tx, app, head)?;
        let mut draft = Draft::of(tx, app, batches, now)?;
        draft.fill(tx)?;
        draft.append(tx, head)
    }

    /// Counts what was appended and says what became of each candidate.
    pub(super) fn count(mut self, app: &App, batches: &[Batch]) -> Vec<Verdict> {
        let mut turn = app.book.turn();
        // Somebody may have read the log further meanwhile, or the book may have begun anew: then everything is read in its
        // order, and no account that was in hand before is put among the new ones.
        if app.book.applied() != self.head || app.book.edition() != self.edition {
            drop(turn);
            app.follow_log.notify_one();
            return self.judged_late(batches);
        }
        // One that came from the book is still there: it lets nobody go who is in somebody's hand.
        for &at in &self.new {
            self.users[at] = app.book.put_open(Arc::clone(&self.users[at]));
        }
        let mut last = self.head;
        let mut late = Vec::new();
        for Counting { place, user, position } in &self.appended {
            let entry = place.entry(batches, &self.made);
            let committed = (entry.source == Source::Reservation).then_some(entry.transaction_id.as_str());
            if turn.fold(&self.users[*user], Said::at(*position, entry), committed) {
                late.push(*position);
            }
            last = *position;
        }
        // Dropped first: whoever waits for this position is woken by the move, and must not find the page of before.
        app.answers.usage_changed(self.users.iter().map(|slot| &*slot.user));
        turn.moved_to(last);
        drop(turn);
        self.said(&late)
    }

    /// The verdicts where somebody else has counted the entries first: an account that has counted an event says of it what it said
    /// before.
    fn judged_late(self, batches: &[Batch]) -> Vec<Verdict> {
        let is_late = |one: &&Counting| {
            judging::is_late(&self.users[one.user].lock().account, one.place.entry(batches, &self.made))
        };
        let late: Vec<i64> = self.appended.iter().filter(is_late).map(|one| one.position).collect();
        self.said(&late)
    }

    /// The verdicts, with what is late among these positions.
    fn said(mut self, late: &[i64]) -> Vec<Verdict> {
        for verdict in &mut self.verdicts {
            if let Verdict::Recorded { position, late: is_late } = verdict {
                *is_late = late.binary_search(position).is_ok();
            }
        }
        self.verdicts
    }
}
