//! What an account can take. What is in the log must count, so an entry that would not is refused before it is there; and a
//! correction takes back no more than was counted, however many are made at the same moment.

use std::collections::HashSet;

use billing::account::{Account, AccountError};
use billing::limit::COUNTED_MOST;
use billing::usage::MICRO;
use jiff::Timestamp;

use super::draft::Draft;
use super::group::Place;
use super::sameness::verdict_on;
use super::writer::{Candidate, Verdict};
use crate::counters::reading::Said;
use crate::error::{Error, Result};
use crate::store::Tx;
use crate::store::log::{self, Entry, EntryId, Kind, Known, Source};

pub(super) const TOO_MUCH: Verdict = refused("/quantity", "this is more than an account can count");
/// The same of a pack.
const TOO_MANY: Verdict = refused("/credits", "this is more than an account can count");
const TAKES_TOO_MUCH: Verdict = refused("/quantity", "this is more than was counted in the credit period");
pub(super) const TOO_OLD: Verdict = Verdict::Refused {
    code: "too_old",
    pointer: "/timestamp",
    detail: "it is not known any more whether this was recorded: ids of its day were kept for a shorter window",
};
pub(super) const TOO_LATE: Verdict =
    Verdict::Refused { code: "too_late", pointer: "/timestamp", detail: "the credit period of this event is closed" };

/// Stands where it could not be told: the batch hears the error.
pub(super) const UNTOLD: Verdict =
    Verdict::Refused { code: "internal", pointer: "", detail: "this could not be looked at" };

const fn refused(pointer: &'static str, detail: &'static str) -> Verdict {
    Verdict::Refused { code: "invalid", pointer, detail }
}

/// From a million units or credits (in millionths) on an entry is looked at before it is accepted: of smaller ones a group cannot have
/// so many that an account gets from a quarter of what it can count to the half. One that has a quarter looks at all of them.
const LARGE: i128 = 1_000_000 * 1_000_000;

impl Draft<'_> {
    /// What is wrong with one candidate, or with the terms of one user, is the trouble of its batch: the others are recorded. What is
    /// wrong with the database is everybody's.
    pub(super) fn alone<T>(&mut self, batch: usize, outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Err(error @ Error::Internal(_)) => {
                self.failed.entry(batch).or_insert(error);
                Ok(None)
            }
            outcome => outcome.map(Some),
        }
    }

    /// What is said of a place whose id is in the log.
    pub(super) fn verdict_on(&mut self, tx: &mut Tx<'_>, place: Place, known: Known) -> Result<Verdict> {
        let Place::Asked { batch, at } = place else { return Ok(Verdict::Duplicate { position: known.position }) };
        let verdict = verdict_on(tx, &self.batches[batch].candidates[at], known);
        Ok(self.alone(batch, verdict)?.unwrap_or(UNTOLD))
    }

    /// Why what is made by hand is not appended; nothing where it is. Its account is looked at as it stands behind what this group
    /// adds before it: of two corrections that come together, the second can take what the first has left.
    pub(super) fn judge(&mut self, tx: &mut Tx<'_>, user: usize, candidate: &Candidate) -> Result<Option<Verdict>> {
        let entry = &candidate.entry;
        if let Some(before) = known_before(tx, candidate)? {
            return Ok(Some(before));
        }
        let ahead = self.ahead.entry(user).or_insert_with(|| Ahead::of(&self.users[user].lock().account));
        for line in self.order[ahead.seen..].iter().filter(|line| line.user == user) {
            ahead.add(tx, line.place.entry(self.batches, &self.made))?;
        }
        ahead.seen = self.order.len();
        // The same twice in one group: the log will say so.
        if ahead.has(entry) { Ok(None) } else { refusal(&ahead.account, entry, self.now) }
    }

    /// Whether an account could not hold it: what is in the log must count.
    pub(super) fn is_too_much(&mut self, user: usize, entry: &Entry) -> bool {
        let size = size(entry);
        if size == 0 || (size < LARGE && !self.nearly_full.contains(&user)) {
            return false;
        }
        let sum = self.large.entry(user).or_default();
        *sum += size;
        is_beyond(&self.users[user].lock().account, self.now, *sum)
    }

    /// Whether the id by which it would be known again was forgotten. Those of yesterday and today are always kept: the log itself says
    /// which days those are (`upkeep`). History may have come live on its day; that it was brought in itself is never forgotten.
    pub(super) fn is_forgotten(&mut self, tx: &mut Tx<'_>, entry: &Entry) -> Result<bool> {
        let today = self.now.as_millisecond().div_euclid(log::DAY_MS);
        let [day, _] = log::days(entry.event_ms);
        if entry.kind != Kind::Usage || entry.source == Source::FirstLog || day >= today - 1 {
            return Ok(false);
        }
        let lost = match &self.lost_days {
            Some(lost) => lost,
            None => self.lost_days.insert(log::lost_days(tx)?),
        };
        if entry.source == Source::Backfill {
            return Ok(lost.contains(&day) && log::known(tx, entry.day(), &entry.id)?.is_none());
        }
        Ok(day < lost.end)
    }

    pub(super) fn is_too_late(&self, user: usize, entry: &Entry) -> bool {
        is_late(&self.users[user].lock().account, entry)
    }
}

/// Whether an event comes too late for its own period. History has no other.
pub(super) fn is_late(account: &Account, entry: &Entry) -> bool {
    matches!(entry.kind, Kind::Usage)
        && !entry.source.is_history()
        && account.is_late(entry.event_ms, entry.received_ms).unwrap_or(false)
}

/// Whether an entry is made by hand: rarely, and judged by all that its account says.
pub(super) fn is_by_hand(entry: &Entry) -> bool {
    match entry.kind {
        Kind::Adjust | Kind::Void | Kind::Grant => true,
        Kind::Usage | Kind::Revoke | Kind::Expire | Kind::Plan => false,
    }
}

/// What is said of a candidate whose id was there before on its own day, however the account stands by now.
pub(super) fn known_before(tx: &mut Tx<'_>, candidate: &Candidate) -> Result<Option<Verdict>> {
    let known = log::known(tx, candidate.entry.day(), &candidate.entry.id)?;
    known.map(|known| verdict_on(tx, candidate, known)).transpose()
}

/// Why an account as it stands cannot take what is made by hand; nothing where it can.
pub(super) fn refusal(account: &Account, entry: &Entry, now: Timestamp) -> Result<Option<Verdict>> {
    let said = Said::at(account.position() + 1, entry);
    if said.is_only_shown(account) {
        return Ok(None);
    }
    Ok(match said.read(|entry| account.foresee(entry))? {
        Ok(_) => Some(size(entry)).filter(|size| *size >= LARGE && is_beyond(account, now, *size)).map(|_| TOO_MUCH),
        Err(AccountError::TakesTooMuch) => Some(TAKES_TOO_MUCH),
        Err(_) => Some(if entry.kind == Kind::Grant { TOO_MANY } else { TOO_MUCH }),
    })
}

/// The size of an entry, in millionths of units or credits. One that takes back has none.
fn size(entry: &Entry) -> i128 {
    if entry.kind == Kind::Void {
        return 0;
    }
    let quantity = i128::from(entry.quantity).max(0);
    quantity.max(quantity * i128::from(entry.weight) / i128::from(MICRO))
}

/// Whether an account could not hold so much more.
fn is_beyond(account: &Account, now: Timestamp, more: i128) -> bool {
    let view = account.at(now.as_millisecond());
    let most = view.in_period.iter().map(|(_, quantity)| i128::from(quantity.micro())).max();
    most.unwrap_or(0).max(i128::from(view.used.micro())) + more > COUNTED_MOST
}

/// An account with what a group adds to it before it is appended.
#[derive(Debug)]
pub(super) struct Ahead {
    account: Account,
    /// How much of the group was looked through.
    seen: usize,
    ids: HashSet<(i64, EntryId)>,
}

impl Ahead {
    fn of(account: &Account) -> Self {
        Self { account: account.clone(), seen: 0, ids: HashSet::new() }
    }

    /// Whether the group has added an entry of this id.
    fn has(&self, entry: &Entry) -> bool {
        self.ids.contains(&(entry.day(), entry.id))
    }

    /// Adds an entry of the group; one that the log knows already counts nothing more.
    fn add(&mut self, tx: &mut Tx<'_>, entry: &Entry) -> Result<()> {
        let said = Said::at(self.account.position() + 1, entry);
        if !self.ids.insert((entry.day(), entry.id))
            || said.is_only_shown(&self.account)
            || log::known(tx, entry.day(), &entry.id)?.is_some()
        {
            return Ok(());
        }
        // One that cannot be counted leaves the account as it was.
        let _not_counted = said.read(|entry| self.account.fold(entry))?;
        Ok(())
    }
}
