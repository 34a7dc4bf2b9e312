//! The log counted anew from its first entry, and what is kept compared with it.

mod ahead;
mod entries;
mod kept;
mod words;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::ahead::Ahead;
use self::kept::Rows;
use super::following;
use crate::app::App;
use crate::counters::book::{Book, Slot, Turn};
use crate::counters::reading::Said;
use crate::error::{Error, Result};
use crate::ops::readiness;
use crate::store::accounts::{self, Closed, Day, Snapshot, Stand, Warning};
use crate::store::db::{Dialect, Isolation};
use crate::store::log::DAY_MS;
use crate::store::proof::Link;
use crate::store::{Tx, log, proof, users};

/// How many entries are read at a time.
const READ: i64 = 2_000;
/// How many accounts or days are compared at a time.
const PAGE: i64 = 1_000;
/// How many differences are named.
const NAMED: usize = 100;

/// What came of it.
#[derive(Debug, Default)]
pub struct Recount {
    pub entries: i64,
    pub users: usize,
    /// Each names the user, and the type and the period or day where there is one. `repair` puts it right.
    pub differences: Vec<String>,
    /// What is wrong with the log itself, and nobody can make up.
    pub damage: Vec<Damage>,
    /// What a clock that was ahead has left behind: the numbers agree, and are those of a time to come.
    pub to_come: Vec<String>,
}

/// Something that a recount cannot put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub what: String,
    /// What to do instead.
    pub remedy: &'static str,
}

impl Damage {
    /// Every entry is there and can be read: what is kept can be counted anew.
    pub fn leaves_whole(&self) -> bool {
        [UNCOUNTED, STRANGER, TWICE].contains(&self.remedy)
    }
}

const LOST: &str = "put a backup of the database back: --repair cannot make up what the log does not say";
const UNCOUNTED: &str =
    "it does nothing, and --repair cannot change that: billhook usage adjust or grant makes up for it";
const TWICE: &str = "one event is in the log twice: billhook usage void --position takes one back";
const CHANGED: &str = "the entry or its id was changed by hand: compare it with a backup, and put that back where it is the entry; \
    --repair takes the entry for right as it is now";
const STRANGER: &str = "put the user back with this id (from a backup), or nobody can be asked to pay";
const CUT_OFF: &str = "entries are gone: put a backup of the database back, or have --repair count what is left";

impl Recount {
    /// Named as long as there are few: a log can be wrong in every entry.
    fn differs(&mut self, difference: String) {
        if self.differences.len() < NAMED {
            self.differences.push(difference);
        }
    }

    fn damaged(&mut self, what: String, remedy: &'static str) {
        if self.damage.len() < NAMED {
            self.damage.push(Damage { what, remedy });
        }
    }

    pub fn agrees(&self) -> bool {
        self.differences.is_empty() && self.damage.is_empty()
    }
}

/// Counts the log anew and compares with it: what was written down, at the entry where it was, and the accounts in memory at the
/// end.
pub async fn recount(app: &App) -> Result<Recount> {
    let (written, head) = app.db.read(|tx| Ok((accounts::position(tx)?, log::head(tx)?))).await?;
    if written > head {
        let mut recount = Recount { entries: head, ..Recount::default() };
        recount.damaged(format!("the accounts stand at {written}, the log ends at {head}"), CUT_OFF);
        return Ok(recount);
    }
    let to_come_ms = app.clock.now().as_millisecond().saturating_add(readiness::AHEAD_MAX_MS);
    let ahead = Ahead::of(to_come_ms);
    let counting = Arc::new(Mutex::new(Counting { oldest_day: oldest_day(app)?, ahead, ..Counting::default() }));
    let steps: [Step; 7] = [
        Counting::count,
        Counting::check_ids,
        Counting::compare_accounts,
        Counting::compare_days,
        Counting::compare_periods,
        Counting::compare_warnings,
        Counting::end,
    ];
    for step in steps {
        to_the_end(app, &counting, step).await?;
    }
    Ok(std::mem::take(&mut lock(&counting).recount))
}

/// The first day of which events are still accepted: each of its entries has to be known by its id.
fn oldest_day(app: &App) -> Result<i64> {
    let window_ms = i64::try_from(app.config.usage_window.as_millis()).map_err(Error::internal)?;
    Ok((app.clock.now().as_millisecond() - window_ms).div_euclid(DAY_MS))
}

/// Does a part of the work on a snapshot of its own; whether there is more.
type Step = fn(&mut Counting, &mut Tx<'_>, &App) -> Result<bool>;

/// The log only grows at its end, so it can be read in steps. One snapshot of all of it would keep SQLite's write-ahead log from
/// beginning anew for as long as that takes (F-17).
async fn to_the_end(app: &App, counting: &Arc<Mutex<Counting>>, step: Step) -> Result<()> {
    loop {
        let (counting, for_step) = (Arc::clone(counting), app.clone());
        let is_more = app.db.read(move |tx| {
            let mut counting = lock(&counting);
            let is_more = step(&mut counting, tx, &for_step)?;
            counting.recount.differences.truncate(NAMED);
            Ok(is_more)
        });
        if !is_more.await? {
            return Ok(());
        }
    }
}

fn lock(counting: &Mutex<Counting>) -> MutexGuard<'_, Counting> {
    counting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A recount that is under way.
struct Counting {
    book: Book,
    days: Rows<Day>,
    periods: Rows<Closed>,
    warnings: Rows<Warning>,
    /// The users whose accounts were compared.
    compared: HashSet<String>,
    last_id: (i64, Vec<u8>),
    last_account: String,
    /// The first day of which events are still accepted.
    oldest_day: i64,
    counted: entries::Counted,
    ahead: Ahead,
    /// What the portion that was counted last says wrongly beside what counts.
    wrong: entries::Wrong,
    recount: Recount,
}

impl Default for Counting {
    fn default() -> Self {
        Self {
            book: Book::open(Stand::default()),
            days: Rows::default(),
            periods: Rows::default(),
            warnings: Rows::default(),
            compared: HashSet::new(),
            last_id: (i64::MIN, Vec::new()),
            last_account: String::new(),
            oldest_day: i64::MAX,
            counted: entries::Counted::default(),
            ahead: Ahead::default(),
            wrong: entries::Wrong::default(),
            recount: Recount::default(),
        }
    }
}

impl Counting {
    fn differs(&mut self, difference: String) {
        self.recount.differs(difference);
    }

    fn count(&mut self, tx: &mut Tx<'_>, _: &App) -> Result<bool> {
        let written = accounts::position(tx)?;
        self.count_some(tx, written)
    }

    /// A portion of the log up to an entry; whether there is more.
    fn count_some(&mut self, tx: &mut Tx<'_>, to: i64) -> Result<bool> {
        self.count_to(tx, to.min(self.book.applied() + READ))?;
        Ok(self.book.applied() < to)
    }

    /// Folds the log up to an entry, and names what is wrong with the entries on the way.
    fn count_to(&mut self, tx: &mut Tx<'_>, to: i64) -> Result<()> {
        self.wrong = entries::Wrong::default();
        let has_links = tx.dialect() == Dialect::Sqlite;
        while self.book.applied() < to {
            let from = self.book.applied();
            let (oldest_day, counted, recount) = (self.oldest_day, &mut self.counted, &mut self.recount);
            let mut whole = entries::Whole { oldest_day, counted, recount };
            let portion = entries::read(tx, from..to.min(from + READ), &mut whole)?;
            let mut turn = self.book.turn();
            for entry in &portion.entries {
                self.ahead.look(entry);
                let Some(slot) = slot_of(&self.book, entry, &mut self.recount) else { continue };
                if has_links {
                    self.wrong.links.extend(wrong_link(&slot, entry, &mut self.recount));
                }
                fold(&mut turn, &slot, entry, &mut self.recount);
            }
            self.wrong.fingerprints.extend(portion.fingerprints);
            turn.moved_to(portion.to);
        }
        Ok(())
    }

    /// Counts what was written down since the step before, so that this snapshot can be compared.
    fn catch_up(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        let written = accounts::position(tx)?;
        if written < self.book.applied() {
            let detail = "what is written down was begun anew while it was compared: look again".to_owned();
            return Err(Error::Conflict { code: "usage.begun_anew", detail });
        }
        self.count_to(tx, written)?;
        let made = self.book.turn().take().map(|taken| taken.page).unwrap_or_default();
        made.days.iter().for_each(|day| self.days.add(day));
        made.closed.into_iter().for_each(|closed| self.periods.make(closed));
        made.warnings.into_iter().for_each(|warning| self.warnings.make(warning));
        Ok(())
    }

    fn check_ids(&mut self, tx: &mut Tx<'_>, _: &App) -> Result<bool> {
        let checked = proof::check_ids(tx, &self.last_id, READ)?;
        self.recount.differences.extend(checked.wrong);
        let Some(last) = checked.last else { return Ok(false) };
        self.last_id = last;
        Ok(true)
    }

    fn compare_accounts(&mut self, tx: &mut Tx<'_>, _: &App) -> Result<bool> {
        self.catch_up(tx)?;
        let page = accounts::page(tx, &self.last_account, PAGE)?;
        for kept in &page {
            self.compare_account(kept);
        }
        let Some(last) = page.last() else { return Ok(false) };
        for user in accounts::strangers(tx, &self.last_account, &last.user)? {
            self.stranger(&user);
        }
        self.last_account.clone_from(&last.user);
        Ok(true)
    }

    fn stranger(&mut self, user: &str) {
        self.recount.damaged(format!("user {user}: has an account and entries, and nobody knows them"), STRANGER);
    }

    fn compare_account(&mut self, kept: &Snapshot) {
        self.compared.insert(kept.user.clone());
        match self.book.get(&kept.user) {
            None => self.differs(format!("user {}: an account without an entry", kept.user)),
            Some(slot) if slot.lock().account.encode() == kept.state => {}
            Some(slot) => self.differs(words::accounts(&kept.user, &kept.state, &slot.lock().account)),
        }
    }

    fn compare_days(&mut self, tx: &mut Tx<'_>, _: &App) -> Result<bool> {
        self.catch_up(tx)?;
        self.days.compare_page(tx, PAGE, &mut self.recount.differences)
    }

    fn compare_periods(&mut self, tx: &mut Tx<'_>, _: &App) -> Result<bool> {
        self.catch_up(tx)?;
        self.periods.compare_page(tx, PAGE, &mut self.recount.differences)
    }

    fn compare_warnings(&mut self, tx: &mut Tx<'_>, _: &App) -> Result<bool> {
        self.catch_up(tx)?;
        self.warnings.compare_page(tx, PAGE, &mut self.recount.differences)
    }

    /// What no page had: it came behind the pages that were read already, or is not there. And what is in memory.
    fn end(&mut self, tx: &mut Tx<'_>, app: &App) -> Result<bool> {
        self.catch_up(tx)?;
        let mut unseen = self.book.slots();
        unseen.retain(|slot| !self.compared.contains(&*slot.user));
        unseen.truncate(NAMED);
        let known = users::which_are_there(tx, unseen.iter().map(|slot| &*slot.user))?;
        for slot in &unseen {
            if !known.iter().any(|(user, _)| **user == *slot.user) {
                self.stranger(&slot.user);
            }
            match accounts::whole(tx, &slot.user)? {
                Some(kept) => self.compare_account(&kept),
                None => self.differs(format!("user {}: entries without an account", slot.user)),
            }
        }
        self.days.compare_rest(tx, NAMED, &mut self.recount.differences)?;
        self.periods.compare_rest(tx, NAMED, &mut self.recount.differences)?;
        self.warnings.compare_rest(tx, NAMED, &mut self.recount.differences)?;
        let head = log::head(tx)?;
        self.recount.differences.extend(proof::check_end(tx, head)?);
        self.count_to(tx, head)?;
        (self.recount.entries, self.recount.users) = (head, self.book.len());
        self.recount.to_come = self.ahead.name(&self.book);
        compare_memory(app, &self.book, head, &mut self.recount);
        Ok(false)
    }
}

/// The accounts in memory, where they stand at the same entry.
fn compare_memory(app: &App, book: &Book, head: i64, recount: &mut Recount) {
    let turn = app.book.turn();
    if app.book.applied() != head {
        return;
    }
    for slot in app.book.slots() {
        let state = slot.lock();
        match book.get(&slot.user) {
            Some(counted) if counted.lock().account == state.account => {}
            Some(counted) => {
                recount.differs(words::accounts(&slot.user, &state.account.encode(), &counted.lock().account));
            }
            // Somebody who was looked at and has no entry.
            None if state.account.position() == 0 => {}
            None => recount.differs(format!("user {}: an account in memory without an entry", slot.user)),
        }
    }
    drop(turn);
}

/// The account that an entry counts in, opened where it is the first of its user.
fn slot_of(book: &Book, entry: &log::Logged, recount: &mut Recount) -> Option<Arc<Slot>> {
    if let Some(slot) = book.get(&entry.user) {
        return Some(slot);
    }
    match following::opened_by(entry) {
        Ok(slot) => Some(book.put(slot)),
        Err(error) => {
            let why = if let Error::Internal(cause) = error { cause.to_string() } else { error.to_string() };
            recount.damaged(format!("user {}: {why}", entry.user), LOST);
            None
        }
    }
}

/// Where an entry does not lead to the one before it of the same user, which the account has counted last: where it should.
fn wrong_link(slot: &Slot, entry: &log::Logged, recount: &mut Recount) -> Option<Link> {
    let before = Some(slot.lock().account.position()).filter(|position| *position > 0);
    if entry.previous == before {
        return None;
    }
    let [kept, right] =
        [entry.previous, before].map(|link| link.map_or("none".to_owned(), |position| format!("the entry {position}")));
    recount.differs(format!(
        "user {}, entry {}: leads to {kept} as the one before it, which is {right}",
        entry.user, entry.position
    ));
    Some(Link { position: entry.position, previous: before })
}

fn fold(turn: &mut Turn<'_>, slot: &Arc<Slot>, entry: &log::Logged, recount: &mut Recount) {
    turn.fold(slot, Said::from(entry), None);
    if let Some(fault) = slot.lock().take_fault() {
        recount.damaged(format!("user {}, entry {}: {fault}", entry.user, entry.position), UNCOUNTED);
    }
}

/// One account, from its entries alone, up to this one.
pub fn account(tx: &mut Tx<'_>, user: &str, to: i64) -> Result<Arc<Slot>> {
    let book = Book::open(Stand::default());
    let mut turn = book.turn();
    let entries = log::of_user_between(tx, user, 0, to)?;
    let first =
        entries.first().ok_or_else(|| Error::internal(format!("the account of {user} has no entry at {to}")))?;
    let slot = following::opened_by(first)?;
    for entry in &entries {
        turn.fold(&slot, Said::from(entry), None);
    }
    let account = slot.lock().account.clone();
    Ok(Slot::new(user, account))
}

/// Counts everything anew and writes it down, in one transaction: whoever looks meanwhile sees the old numbers or the new ones.
///
/// What is written is of another edition than before, so that every process that still has accounts in memory counts anew,
/// whatever it writes down meanwhile.
pub async fn repair(app: &App) -> Result<()> {
    app.db.write_in(Isolation::Statement, proof::mend_end).await?;
    mend_ids(app).await?;
    let head = app.db.read(log::head).await?;
    let counting = Arc::new(Mutex::new(Counting::default()));
    mend_to(app, &counting, head).await?;
    let page = lock(&counting).book.turn().take().map(|taken| taken.page).unwrap_or_default();
    app.db
        .write(move |tx| {
            let anew = accounts::forget(tx)?;
            accounts::turn(tx, anew, head, &page)
        })
        .await?;
    following::start_over(app).await
}

/// Counts up to an entry, and puts right what the entries on the way say beside what counts, in steps.
async fn mend_to(app: &App, counting: &Arc<Mutex<Counting>>, to: i64) -> Result<()> {
    let mut more = true;
    while more {
        let for_step = Arc::clone(counting);
        more = app.db.read(move |tx| lock(&for_step).count_some(tx, to)).await?;
        let wrong = std::mem::take(&mut lock(counting).wrong);
        if !wrong.is_empty() {
            app.db.write(move |tx| wrong.mend(tx)).await?;
        }
    }
    Ok(())
}

/// Takes away ids without an entry, and makes every entry known that could come again: in steps, so that nobody waits for it.
async fn mend_ids(app: &App) -> Result<()> {
    let mut after = Some((i64::MIN, Vec::new()));
    while let Some(last) = after {
        after = app.db.write(move |tx| proof::drop_ids(tx, &last, READ)).await?;
    }
    let (oldest_day, head) = (oldest_day(app)?, app.db.read(log::head).await?);
    let mut from = 0;
    while from < head {
        let to = head.min(from + READ);
        let known = app.db.write(move |tx| proof::know_entries(tx, from, to, oldest_day)).await?;
        if known > 0 {
            tracing::info!(known, from, to, "entries are known again by their ids");
        }
        from = to;
    }
    Ok(())
}
