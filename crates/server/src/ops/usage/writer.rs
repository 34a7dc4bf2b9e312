//! The writer of the usage log: takes everything that waits, appends it in one transaction, counts it, and then answers.
//!
//! One group is under way at a time. While the disk flushes it, the next one gathers: the flush itself sets the pace.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use billing::account::Account;
use billing::entry::Terms;
use foldhash::quality::RandomState;
use jiff::Timestamp;
use tokio::sync::{Notify, oneshot};

use super::batch::{Batch, Whole};
use super::following::{catch_up, written};
use super::judging::{self, Ahead};
use super::people::{People, is_owed};
use super::sameness::{Beside, Former, as_before, verdict_on};
use super::{bounds, ids, moving, plans};
use crate::app::App;
use crate::counters::book::{Book, Slot};
use crate::counters::reading::Said;
use crate::error::{Error, Result};
use crate::store::db::Isolation;
use crate::store::log::{self, Appended, Entry, Kind, Known, Source};
use crate::store::{self, Tx, users};
use crate::telemetry::Counts;

/// How many events may wait before a caller is told to come back.
const WAITING_MAX: usize = 100_000;
/// How many events share one transaction at most.
const GROUP_MAX: usize = 8_192;
/// After so many entries the accounts are written down.
const UNWRITTEN_MAX: usize = 200_000;

/// An entry that is to be appended; judged by itself, not yet against the log.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub entry: Entry,
    /// Its sender gave the time; else it is not compared by it.
    pub timed: bool,
}

/// What became of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is in the log and counts. `late`: its own period is over, so it counts in the running one.
    Recorded { position: i64, late: bool },
    /// The same event is in the log already.
    Duplicate { position: i64 },
    /// Another event with this id is in the log; names the member that differs.
    Conflict { member: &'static str },
    /// It is not recorded.
    Refused { code: &'static str, pointer: &'static str, detail: &'static str },
}

/// Stands until the log has been asked.
const NOT_YET: Verdict = Verdict::Recorded { position: 0, late: false };
pub(super) const UNKNOWN_USER: Verdict =
    Verdict::Refused { code: "user.unknown", pointer: "/user_id", detail: "expected the id of a user" };

/// The writer; one for each process.
#[derive(Debug)]
pub struct Writer {
    queue: Mutex<Queue>,
    /// Told when enough has been counted to be written down.
    pub much_unwritten: Notify,
    /// Events that were not recorded, by the code of why.
    pub refusals: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Queue {
    batches: VecDeque<Batch>,
    waiting: usize,
    busy: bool,
}

impl Default for Writer {
    fn default() -> Self {
        Self { queue: Mutex::default(), much_unwritten: Notify::new(), refusals: Arc::default() }
    }
}

impl Writer {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends and counts; a verdict for each candidate. `Ok` means: on disk.
    ///
    /// # Errors
    /// `usage.queue_full` when too much waits, and what the database says. Nothing of it was recorded then, or, when the
    /// database went away during the commit, it is not known: the same ids again will tell.
    pub async fn append(&self, app: &App, candidates: Vec<Candidate>) -> Result<Vec<Verdict>> {
        self.submit(app, Vec::new(), candidates, Whole::No).await
    }

    /// The same for all or none: where one of the verdicts is not `Recorded`, nothing was recorded.
    pub async fn append_all(&self, app: &App, candidates: Vec<Candidate>) -> Result<Vec<Verdict>> {
        // One by itself is whole, and may share a transaction with others.
        let whole = if candidates.len() > 1 { Whole::Yes { undone: None } } else { Whole::No };
        self.submit(app, Vec::new(), candidates, whole).await
    }

    /// What would be said of them if they were appended; nothing is.
    pub async fn try_out(&self, app: &App, candidates: Vec<Candidate>) -> Result<Vec<Verdict>> {
        self.submit(app, Vec::new(), candidates, Whole::Never { undone: None }).await
    }

    /// Appends the terms of these users where they have changed.
    pub async fn replan(&self, app: &App, users: Vec<String>) -> Result<()> {
        self.submit(app, users, Vec::new(), Whole::No).await.map(drop)
    }

    async fn submit(
        &self,
        app: &App,
        plans: Vec<String>,
        candidates: Vec<Candidate>,
        whole: Whole,
    ) -> Result<Vec<Verdict>> {
        let (done, answer) = oneshot::channel();
        if self.queue(Batch { plans, candidates, whole, failed: None, done })? {
            start(app.clone());
        }
        answer.await.unwrap_or_else(|_| Err(Error::internal("the writer of the log has stopped")))
    }

    /// Puts a batch in line; whether the writer rested and is to be started.
    fn queue(&self, batch: Batch) -> Result<bool> {
        let mut queue = self.lock();
        if queue.waiting + batch.candidates.len() > WAITING_MAX {
            return Err(Error::LimitReached { code: "usage.queue_full", retry_after: Duration::from_secs(1) });
        }
        queue.waiting += batch.candidates.len();
        queue.batches.push_back(batch);
        Ok(!std::mem::replace(&mut queue.busy, true))
    }

    /// Events that wait for their turn.
    pub fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// The next group; nothing when nobody waits, and then the writer rests.
    fn next(&self) -> Option<Vec<Batch>> {
        let mut queue = self.lock();
        let mut group = Vec::new();
        let mut events = 0;
        while events < GROUP_MAX
            && let Some(batch) =
                queue.batches.pop_front_if(|next| group.last().is_none_or(|last: &Batch| last.goes_with(next)))
        {
            events += batch.candidates.len();
            group.push(batch);
        }
        queue.waiting -= events;
        queue.busy = !group.is_empty();
        (!group.is_empty()).then_some(group)
    }
}

/// Gives the next group to the database. Its end starts the one after it.
fn start(app: App) {
    let Some(batches) = app.usage.next() else { return };
    let batches = Arc::new(Mutex::new(batches));
    let (work_app, work_batches) = (app.clone(), Arc::clone(&batches));
    let now = app.clock.now();
    app.clone().db.write_then(
        Isolation::Statement,
        move |tx| {
            let mut batches = work_batches.lock().unwrap_or_else(PoisonError::into_inner);
            let mut group = Group::append(tx, &work_app, &batches, now)?;
            for (number, batch) in batches.iter_mut().enumerate() {
                batch.accepts(&group.verdicts, group.failed.remove(&number))?;
            }
            Ok(group)
        },
        move |outcome| {
            let batches = std::mem::take(&mut *batches.lock().unwrap_or_else(PoisonError::into_inner));
            finish(&app, batches, outcome);
            start(app);
        },
    );
}

fn finish(app: &App, batches: Vec<Batch>, outcome: Result<Group>) {
    let verdicts = match outcome {
        Ok(group) => group.count(app, &batches),
        Err(error) => {
            for mut batch in batches {
                let heard = batch.undone(&error);
                batch.tell(app, heard);
            }
            return;
        }
    };
    let mut verdicts = verdicts.into_iter();
    for batch in batches {
        let own = verdicts.by_ref().take(batch.candidates.len()).collect();
        batch.tell(app, Ok(own));
    }
    if app.book.unwritten() > UNWRITTEN_MAX {
        app.usage.much_unwritten.notify_one();
    }
}

/// Where an entry of the group is: a candidate of a batch, or made here.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Asked { batch: usize, at: usize },
    Made(usize),
}

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

/// An entry that is appended and to be counted.
#[derive(Debug, Clone, Copy)]
struct Counting {
    place: Place,
    user: usize,
    position: i64,
}

/// A group that is appended and not counted yet.
#[derive(Debug)]
struct Group {
    /// The log before it, all of it counted.
    head: i64,
    /// The edition of the book that its accounts were taken from.
    edition: u64,
    users: Vec<Arc<Slot>>,
    made: Vec<Entry>,
    appended: Vec<Counting>,
    verdicts: Vec<Verdict>,
    /// What went wrong with a part of a batch.
    failed: HashMap<usize, Error>,
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
    verdicts: Vec<Verdict>,
    pub(super) failed: HashMap<usize, Error>,
    /// Users whose account cannot be read: nobody tries again for each of their events.
    pub(super) broken: HashSet<&'g str>,
}

impl Group {
    fn append(tx: &mut Tx<'_>, app: &App, batches: &[Batch], now: Timestamp) -> Result<Self> {
        let head = log::hold_head(tx)?;
        catch_up(tx, app, head)?;
        let total = batches.iter().map(|batch| batch.candidates.len()).sum();
        let former = Former::of(tx, batches.iter().flat_map(|batch| &batch.candidates))?;
        let beside = Beside::of(tx, batches.iter().flat_map(|batch| &batch.candidates))?;
        let mut draft = Draft {
            app,
            batches,
            now,
            edition: app.book.edition(),
            known: HashMap::default(),
            people: People::default(),
            users: Vec::new(),
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
        };
        // Before anything else of the group, so that whatever a period has counted so far is in the log.
        for (number, batch) in batches.iter().enumerate() {
            for user in &batch.plans {
                let added = draft.add_plan(tx, user);
                if draft.alone(number, added)?.is_none() {
                    store::plans::mark_user(tx, user)?;
                }
            }
        }
        for (number, batch) in batches.iter().enumerate() {
            for (at, candidate) in batch.candidates.iter().enumerate() {
                let said = draft.add(tx, Place::Asked { batch: number, at }, candidate);
                let said = draft.alone(number, said)?.unwrap_or(judging::UNTOLD);
                draft.verdicts.push(said);
            }
        }
        draft.write(tx, head)
    }

    /// Counts what was appended and says what became of each candidate.
    fn count(self, app: &App, batches: &[Batch]) -> Vec<Verdict> {
        let mut turn = app.book.turn();
        // Somebody may have read the log further meanwhile, or the book may have begun anew: then everything is read in its
        // order, and no account that was in hand before is put among the new ones.
        if app.book.applied() != self.head || app.book.edition() != self.edition {
            drop(turn);
            app.follow_log.notify_one();
            return self.judged_late(batches);
        }
        let slots: Vec<Arc<Slot>> = self.users.iter().map(|slot| app.book.put_open(Arc::clone(slot))).collect();
        let mut last = self.head;
        let mut late = Vec::new();
        for Counting { place, user, position } in &self.appended {
            let entry = place.entry(batches, &self.made);
            let committed = (entry.source == Source::Reservation).then_some(entry.transaction_id.as_str());
            if turn.fold(&slots[*user], Said::at(*position, entry), committed) {
                late.push(*position);
            }
            last = *position;
        }
        // Dropped first: whoever waits for this position is woken by the move, and must not find the page of before.
        app.answers.usage_changed(slots.iter().map(|slot| &*slot.user));
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

impl Place {
    pub(super) fn entry<'e>(self, batches: &'e [Batch], made: &'e [Entry]) -> &'e Entry {
        match self {
            Place::Made(at) => &made[at],
            Place::Asked { batch, at } => &batches[batch].candidates[at].entry,
        }
    }
}

impl<'g> Draft<'g> {
    /// What is said of a candidate before the log is asked. What may be appended is put in line, or beside the first of its kind there.
    fn add(&mut self, tx: &mut Tx<'_>, place: Place, candidate: &'g Candidate) -> Result<Verdict> {
        let entry = &candidate.entry;
        let Some(user) = self.user(tx, &entry.user, is_owed(entry))? else { return Ok(UNKNOWN_USER) };
        if let Some(verdict) = self.former.verdict_on(tx, candidate)? {
            return Ok(verdict);
        }
        let known = match entry.source {
            // History that came live before.
            Source::Backfill => log::known(tx, entry.event_ms.div_euclid(log::DAY_MS), &entry.id)?,
            _ => self.beside.known(candidate),
        };
        if let Some(known) = known {
            return verdict_on(tx, candidate, known);
        }
        if self.people.are_without(user) && !is_owed(entry) {
            return as_before(tx, candidate, UNKNOWN_USER);
        }
        if self.app.config.late == crate::config::Late::Reject && self.is_too_late(user, entry) {
            // What came in time is answered as it was then, however late it is told again.
            return as_before(tx, candidate, judging::TOO_LATE);
        }
        if self.is_forgotten(tx, entry)? {
            return Ok(judging::TOO_OLD);
        }
        if judging::is_by_hand(entry)
            && let Some(verdict) = self.judge(tx, user, candidate)?
        {
            return Ok(verdict);
        }
        if self.is_too_much_for_its_day(tx, user, entry)? || self.is_too_much(user, entry) {
            return as_before(tx, candidate, judging::TOO_MUCH);
        }
        let verdict = self.verdicts.len();
        match self.beside.first(candidate, self.order.len()) {
            Some(first) => self.repeated.push(Repeated { place, first, verdict }),
            None => self.order.push(Line { place, user, verdict: Some(verdict) }),
        }
        Ok(NOT_YET)
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
        let (body, event_ms) = moving::change(tx, &self.app.catalogue, &slot, &terms, began.as_millisecond(), now_ms)?;
        let position = slot.lock().account.position();
        let entry = Entry { event_ms, ..plan_entry(id, &body, position, now_ms) };
        let Some(user) = self.user(tx, id, false)? else { return Ok(()) };
        self.add_made(user, entry);
        Ok(())
    }

    fn write(mut self, tx: &mut Tx<'_>, head: i64) -> Result<Group> {
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
            self.verdicts[verdict] = self.verdict_on(tx, place, known)?;
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
                self.verdicts[verdict] = said;
            }
        }
        Ok(Group {
            head,
            edition: self.edition,
            users: self.users,
            made: self.made,
            appended: done,
            verdicts: self.verdicts,
            failed: self.failed,
        })
    }
}

pub(super) fn new_account(terms: Terms, now: Timestamp) -> Result<Account> {
    Account::new(terms, now.as_millisecond()).map_err(|error| Error::internal(error.to_string()))
}

/// Its id is its place in the account's history: said again before it is counted it is the same entry, and after that another
/// one, even if it says the same.
pub(super) fn plan_entry(user: &str, body: &str, position: i64, now_ms: i64) -> Entry {
    let transaction_id = format!("plan-{user}-{position}");
    Entry {
        kind: Kind::Plan,
        user: user.to_owned(),
        event_type: String::new(),
        quantity: 0,
        weight: 0,
        event_ms: now_ms,
        received_ms: now_ms,
        id: ids::own_id("plan", &transaction_id),
        fingerprint: 0,
        transaction_id,
        source: Source::Program,
        body: Some(body.to_owned()),
    }
}

impl Book {
    /// Waits until an entry is counted; whether it is.
    pub async fn wait_for(&self, position: i64, at_most: Duration) -> bool {
        let mut moved = self.watch();
        let arrived = moved.wait_for(|applied| *applied >= position);
        tokio::time::timeout(at_most, arrived).await.is_ok_and(|moved| moved.is_ok())
    }
}
