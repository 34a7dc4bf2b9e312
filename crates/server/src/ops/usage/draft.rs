//! A group while it is put together: who is meant, what is judged, and what is in line to be appended.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use billing::account::Account;
use billing::entry::Terms;
use foldhash::quality::RandomState;
use jiff::Timestamp;

use super::batch::{Batch, Whole, With};
use super::following::written;
use super::group::{Counting, Group, Place};
use super::judging::{self, Ahead};
use super::people::{People, is_owed};
use super::sameness::{Beside, Former, as_before, verdict_on};
use super::writer::{Candidate, Verdict};
use super::{bounds, ids, plans};
use crate::app::App;
use crate::counters::book::Slot;
use crate::error::{Error, Result};
use crate::store::log::{self, Appended, Entry, Kind, Known, Source};
use crate::store::{self, Tx, users};

const UNKNOWN_USER: Verdict =
    Verdict::Refused { code: "user.unknown", pointer: "/user_id", detail: "expected the id of a user" };

/// An entry in line to be appended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub(super) place: Place,
    /// Whose it is, among the users of the group.
    pub(super) user: usize,
    /// The verdict that it decides, if anybody waits for one.
    verdict: Option<usize>,
}

/// The same again on a day beside its own.
#[derive(Debug, Clone, Copy)]
struct Repeated {
    place: Place,
    /// What it repeats, in the line.
    first: usize,
    verdict: usize,
}

/// A group while it is put together.
pub(super) struct Draft<'g> {
    pub(super) app: &'g App,
    pub(super) batches: &'g [Batch],
    pub(super) now: Timestamp,
    edition: u64,
    pub(super) known: HashMap<&'g str, Option<usize>, RandomState>,
    pub(super) people: People,
    pub(super) users: Vec<Arc<Slot>>,
    /// The places of those whose account is not in the book yet.
    pub(super) new: Vec<usize>,
    pub(super) made: Vec<Entry>,
    pub(super) order: Vec<Line>,
    repeated: Vec<Repeated>,
    /// What this group adds to users with very large entries: quantity and cost, in millionths.
    pub(super) large: HashMap<usize, i128>,
    /// What is shown on the days of its history.
    pub(super) days: bounds::Days<'g>,
    /// Users of whose account no entry is small any more.
    pub(super) nearly_full: HashSet<usize>,
    /// The accounts of those for whom it has something made by hand, with what it adds to them.
    pub(super) ahead: HashMap<usize, Ahead>,
    /// The days whose ids were forgotten, once somebody needs them.
    pub(super) lost_days: Option<Range<i64>>,
    /// CloudEvents that are in the log under their id alone.
    former: Former,
    /// Events that came before with another time.
    beside: Beside,
    /// One for each candidate; nothing until the log has been asked.
    verdicts: Vec<Option<Verdict>>,
    pub(super) failed: HashMap<usize, Error>,
    /// Users whose account cannot be read: nobody tries again for each of their events.
    pub(super) broken: HashSet<&'g str>,
}

impl<'g> Draft<'g> {
    pub(super) fn of(tx: &mut Tx<'_>, app: &'g App, batches: &'g [Batch], now: Timestamp) -> Result<Self> {
        let total = batches.iter().map(|batch| batch.candidates.len()).sum();
        let former = Former::of(tx, batches.iter().flat_map(|batch| &batch.candidates))?;
        let beside = Beside::of(tx, batches.iter().flat_map(|batch| &batch.candidates))?;
        Ok(Self {
            app,
            batches,
            now,
            edition: app.book.edition(),
            known: HashMap::default(),
            people: People::default(),
            users: Vec::new(),
            new: Vec::new(),
            made: Vec::new(),
            order: Vec::with_capacity(total),
            repeated: Vec::new(),
            large: HashMap::new(),
            days: bounds::Days::default(),
            nearly_full: HashSet::new(),
            ahead: HashMap::new(),
            lost_days: None,
            former,
            beside,
            verdicts: Vec::with_capacity(total),
            failed: HashMap::new(),
            broken: HashSet::new(),
        })
    }

    /// Puts in line what may be appended: first the terms that have changed, then what was asked for.
    pub(super) fn fill(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        for batch in self.batches {
            if let Whole::Yes { with: Some(with), .. } = &batch.whole {
                self.change(tx, with)?;
            }
        }
        // Before anything else of the group, so that whatever a period has counted so far is in the log.
        for (number, batch) in self.batches.iter().enumerate() {
            for user in &batch.plans {
                let added = self.add_plan(tx, user);
                if self.alone(number, added)?.is_none() {
                    store::plans::mark_user(tx, user)?;
                }
            }
        }
        for (number, batch) in self.batches.iter().enumerate() {
            for (at, candidate) in batch.candidates.iter().enumerate() {
                let said = self.add(tx, Place::Asked { batch: number, at }, candidate);
                let said = self.alone(number, said)?.unwrap_or(Some(judging::UNTOLD));
                self.verdicts.push(said);
            }
        }
        Ok(())
    }

    /// Does what is to be done with a batch, unless it comes too late for what it was made of.
    fn change(&self, tx: &mut Tx<'_>, with: &With) -> Result<()> {
        for (user, last) in &with.last {
            let slot = match self.app.book.get(user).filter(|slot| slot.is_open()) {
                Some(slot) => Some(slot),
                None => written(tx, user)?,
            };
            if slot.map_or(0, |slot| slot.lock().account.position()) != *last {
                let detail = format!("something else was recorded for {user} meanwhile");
                return Err(Error::Conflict { code: "usage.moved_on", detail });
            }
        }
        (with.change)(tx)
    }

    /// What is said of a candidate before the log is asked; nothing where the log will say. What may be appended is put in line, or
    /// beside the first of its kind there.
    fn add(&mut self, tx: &mut Tx<'_>, place: Place, candidate: &'g Candidate) -> Result<Option<Verdict>> {
        let entry = &candidate.entry;
        let Some(user) = self.user(tx, &entry.user, is_owed(entry))? else { return Ok(Some(UNKNOWN_USER)) };
        if let Some(verdict) = self.former.verdict_on(tx, candidate)? {
            return Ok(Some(verdict));
        }
        let known = match entry.source {
            // History that came live before.
            Source::Backfill => log::known(tx, entry.event_ms.div_euclid(log::DAY_MS), &entry.id)?,
            _ => self.beside.known(candidate),
        };
        if let Some(known) = known {
            return verdict_on(tx, candidate, known).map(Some);
        }
        if self.people.are_without(user) && !is_owed(entry) {
            return as_before(tx, candidate, UNKNOWN_USER).map(Some);
        }
        if self.app.config.late == crate::config::Late::Reject && self.is_too_late(user, entry) {
            // What came in time is answered as it was then, however late it is told again.
            return as_before(tx, candidate, judging::TOO_LATE).map(Some);
        }
        if self.is_forgotten(tx, entry)? {
            return Ok(Some(judging::TOO_OLD));
        }
        if judging::is_by_hand(entry)
            && let Some(verdict) = self.judge(tx, user, candidate)?
        {
            return Ok(Some(verdict));
        }
        if self.is_too_much_for_its_day(tx, user, entry)? || self.is_too_much(user, entry) {
            return as_before(tx, candidate, judging::TOO_MUCH).map(Some);
        }
        let verdict = self.verdicts.len();
        match self.beside.first(candidate, self.order.len()) {
            Some(first) => self.repeated.push(Repeated { place, first, verdict }),
            None => self.order.push(Line { place, user, verdict: Some(verdict) }),
        }
        Ok(None)
    }

    /// Puts an entry in line that nobody asked for.
    pub(super) fn add_made(&mut self, user: usize, entry: Entry) {
        self.order.push(Line { place: Place::Made(self.made.len()), user, verdict: None });
        self.made.push(entry);
    }

    /// An entry of new terms, where there is an account whose terms are others.
    fn add_plan(&mut self, tx: &mut Tx<'_>, id: &'g str) -> Result<()> {
        store::plans::unmark(tx, id)?;
        let Some(user) = users::get(tx, id)? else { return Ok(()) };
        plans::show_tier(tx, &self.app.catalogue, &user, self.now)?;
        let in_hand = self.known.get(id).copied().flatten().map(|at| Arc::clone(&self.users[at]));
        let known = match in_hand.or_else(|| self.app.book.get(id)) {
            Some(slot) => Some(slot),
            None => written(tx, id)?,
        };
        let Some(slot) = known else { return Ok(()) };
        let terms = plans::terms(tx, &self.app.catalogue, &user, self.now)?;
        if !slot.is_open() {
            // Nothing of it is in the log: it has these terms from its beginning.
            let mut state = slot.lock();
            state.begin(new_account(terms, self.now)?);
            // It stands at no other entry than before, so only this has it published anew.
            state.there.life = Arc::default();
            return Ok(());
        }
        if *slot.lock().account.terms() == terms {
            return Ok(());
        }
        let began = plans::began(tx, &user, &terms, self.now)?;
        let now_ms = self.now.as_millisecond();
        let account = slot.lock().account.clone();
        let entry =
            plans::change_entry(tx, &self.app.catalogue, (id, &account), &terms, [began.as_millisecond(), now_ms])?;
        let Some(user) = self.user(tx, id, false)? else { return Ok(()) };
        self.add_made(user, entry);
        Ok(())
    }

    /// Appends what is in line; what is known to the log already is answered by it.
    pub(super) fn append(mut self, tx: &mut Tx<'_>, head: i64) -> Result<Group> {
        let batches = self.batches;
        let entries: Vec<&Entry> = self.order.iter().map(|line| line.place.entry(batches, &self.made)).collect();
        let mut last: Vec<i64> = self.users.iter().map(|slot| slot.lock().account.position()).collect();
        let order = &self.order;
        let appended = log::append(tx, head, &entries, &mut |place, position| {
            let user = order[place].user;
            let previous = std::mem::replace(&mut last[user], position);
            (previous > 0).then_some(previous)
        })?;
        for Repeated { place, first, verdict } in std::mem::take(&mut self.repeated) {
            let known = match appended[first] {
                Appended::At(position) => {
                    Known { position, fingerprint: self.order[first].place.entry(batches, &self.made).fingerprint }
                }
                Appended::Known(known) => known,
            };
            self.verdicts[verdict] = Some(self.verdict_on(tx, place, known)?);
        }
        let mut done = Vec::with_capacity(appended.len());
        for (Line { place, user, verdict }, appended) in std::mem::take(&mut self.order).into_iter().zip(appended) {
            let said = match appended {
                Appended::At(position) => {
                    done.push(Counting { place, user, position });
                    Verdict::Recorded { position, late: false }
                }
                Appended::Known(known) => self.verdict_on(tx, place, known)?,
            };
            if let Some(verdict) = verdict {
                self.verdicts[verdict] = Some(said);
            }
        }
        Ok(Group {
            head,
            edition: self.edition,
            users: self.users,
            new: self.new,
            made: self.made,
            appended: done,
            verdicts: self.verdicts.into_iter().map(|said| said.unwrap_or(judging::UNTOLD)).collect(),
            failed: self.failed,
        })
    }
}

pub(super) fn new_account(terms: Terms, now: Timestamp) -> Result<Account> {
    Account::new(terms, now.as_millisecond()).map_err(Error::internal)
}

/// Its id is its place in the account's history: said again before it is counted it is the same entry, and after that another
/// one, even if it says the same.
pub(super) fn plan_entry(user: &str, body: String, position: i64, [event_ms, received_ms]: [i64; 2]) -> Entry {
    let transaction_id = format!("plan-{user}-{position}");
    let mut entry = Entry {
        kind: Kind::Plan,
        user: user.to_owned(),
        event_type: String::new(),
        quantity: 0,
        weight: 0,
        event_ms,
        received_ms,
        id: ids::own_id("plan", &transaction_id),
        fingerprint: 0,
        transaction_id,
        source: Source::Program,
        body: Some(body),
    };
    entry.fingerprint = ids::fingerprint(&entry, true);
    entry
}
