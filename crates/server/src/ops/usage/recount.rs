//! The log counted anew from its first entry, and what is kept compared with it.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use billing::account::Account;

use super::{following, totals};
use crate::app::App;
use crate::counters::book::{Book, Slot};
use crate::counters::reading::Said;
use crate::error::{Error, Result};
use crate::store::accounts::{self, Day, DaysAsked, Snapshot};
use crate::store::{Tx, log};

/// How many entries are read at a time.
const READ: i64 = 2_000;
/// How many accounts or days are compared at a time.
const PAGE: i64 = 1_000;
/// How many differences are named.
const NAMED: usize = 100;
/// The same, for a query.
const MOST: i64 = 100;

/// What came of it.
#[derive(Debug, Default)]
pub struct Recount {
    pub entries: i64,
    pub users: usize,
    /// Each names the user, and the type and the period or day where there is one.
    pub differences: Vec<String>,
}

/// Counts the log anew and compares with it: what was written down, at the entry where it was, and the accounts in memory at the
/// end.
pub async fn recount(app: &App) -> Result<Recount> {
    let (written, head) = app.db.read(|tx| Ok((accounts::position(tx)?, log::head(tx)?))).await?;
    if written > head {
        let difference = format!("the accounts stand at {written}, the log ends at {head}");
        return Ok(Recount { entries: head, differences: vec![difference], ..Recount::default() });
    }
    let counting = Arc::new(Mutex::new(Counting::default()));
    let steps: [Step; 5] =
        [Counting::count, Counting::check_ids, Counting::compare_accounts, Counting::compare_days, Counting::end];
    for step in steps {
        to_the_end(app, &counting, step).await?;
    }
    let mut recount = std::mem::take(&mut lock(&counting).recount);
    recount.differences.truncate(NAMED);
    Ok(recount)
}

/// Does a part of the work on a snapshot of its own; whether there is more.
type Step = fn(&mut Counting, &mut Tx<'_>, &App) -> Result<bool>;

/// The log only grows at its end, so it can be read in steps. One snapshot of all of it would keep SQLite's write-ahead log from
/// beginning anew for as long as that takes (F-17).
async fn to_the_end(
    app: &App,
    counting: &Arc<Mutex<Counting>>,
    step: impl Fn(&mut Counting, &mut Tx<'_>, &App) -> Result<bool> + Clone + Send + 'static,
) -> Result<()> {
    loop {
        let (step, counting, for_step) = (step.clone(), Arc::clone(counting), app.clone());
        if !app.db.read(move |tx| step(&mut lock(&counting), tx, &for_step)).await? {
            return Ok(());
        }
    }
}

fn lock(counting: &Mutex<Counting>) -> MutexGuard<'_, Counting> {
    counting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Day, user, type.
type DayKey = (i64, String, String);

fn key(day: &Day) -> DayKey {
    (day.day, day.user.clone(), day.event_type.clone())
}

/// A recount that is under way.
struct Counting {
    book: Book,
    /// Each with whether it was compared.
    days: BTreeMap<DayKey, (Day, bool)>,
    /// The users whose accounts were compared.
    compared: HashSet<String>,
    last_id: (i64, Vec<u8>),
    last_account: String,
    last_day: Option<DayKey>,
    recount: Recount,
}

impl Default for Counting {
    fn default() -> Self {
        Self {
            book: Book::open(0),
            days: BTreeMap::new(),
            compared: HashSet::new(),
            last_id: (i64::MIN, Vec::new()),
            last_account: String::new(),
            last_day: None,
            recount: Recount::default(),
        }
    }
}

impl Counting {
    fn differs(&mut self, difference: String) {
        self.recount.differences.push(difference);
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

    /// Folds the log up to an entry, and names the entries that it has not, or whose ids are not known.
    fn count_to(&mut self, tx: &mut Tx<'_>, to: i64) -> Result<()> {
        while self.book.applied() < to {
            let mut expected = self.book.applied();
            let until = to.min(expected + READ);
            self.recount.differences.extend(log::check_entries(tx, expected, until, MOST)?);
            let mut entries = log::read(tx, expected, until - expected)?;
            entries.retain(|entry| entry.position <= until);
            let mut turn = self.book.turn();
            for entry in &entries {
                expected += 1;
                if entry.position != expected {
                    self.recount.differences.push(format!("the log has no entry {expected}"));
                    expected = entry.position;
                }
                fold(&self.book, &mut turn, entry, &mut self.recount);
            }
            if expected < until {
                self.recount.differences.push(format!("the log has no entry {}", expected + 1));
            }
            turn.moved_to(until);
        }
        Ok(())
    }

    /// Counts what was written down since the step before, so that this snapshot can be compared.
    fn catch_up(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        let written = accounts::position(tx)?;
        if written < self.book.applied() {
            return Err(Error::internal("what is written down was begun anew while it was compared: look again"));
        }
        self.count_to(tx, written)?;
        let days = self.book.turn().take().map(|taken| taken.page.days).unwrap_or_default();
        for day in days {
            let (sum, _) = self
                .days
                .entry(key(&day))
                .or_insert_with(|| (Day { quantity: 0, events: 0, cost_pico: 0, ..day.clone() }, false));
            sum.quantity += day.quantity;
            sum.events += day.events;
            sum.cost_pico += day.cost_pico;
        }
        Ok(())
    }

    fn check_ids(&mut self, tx: &mut Tx<'_>, _: &App) -> Result<bool> {
        let checked = log::check_ids(tx, &self.last_id, READ)?;
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
        self.last_account.clone_from(&last.user);
        Ok(true)
    }

    fn compare_account(&mut self, kept: &Snapshot) {
        self.compared.insert(kept.user.clone());
        match self.book.get(&kept.user) {
            None => self.differs(format!("user {}: an account without an entry", kept.user)),
            Some(slot) if slot.lock().account.encode() == kept.state => {}
            Some(slot) => self.differs(difference(&kept.user, &kept.state, &slot.lock().account)),
        }
    }

    fn compare_days(&mut self, tx: &mut Tx<'_>, _: &App) -> Result<bool> {
        self.catch_up(tx)?;
        let asked = DaysAsked { after: self.last_day.clone(), ..DaysAsked::default() };
        let page = accounts::days(tx, &asked, PAGE)?;
        for kept in &page {
            self.compare_day(kept);
        }
        let Some(last) = page.last() else { return Ok(false) };
        self.last_day = Some(key(last));
        Ok(true)
    }

    fn compare_day(&mut self, kept: &Day) {
        let name = format!("user {}, {}, day {}", kept.user, kept.event_type, kept.day);
        let Some((day, is_compared)) = self.days.get_mut(&key(kept)) else {
            return self.differs(format!("{name}: kept {} without an event", kept.quantity));
        };
        *is_compared = true;
        if day != kept {
            let (quantity, events) = (day.quantity, day.events);
            self.differs(format!(
                "{name}: kept {} in {} events, the log says {quantity} in {events}",
                kept.quantity, kept.events
            ));
        }
    }

    /// What no page had: it came behind the pages that were read already, or is not there. And what is in memory.
    fn end(&mut self, tx: &mut Tx<'_>, app: &App) -> Result<bool> {
        self.catch_up(tx)?;
        let mut unseen = self.book.slots();
        unseen.retain(|slot| !self.compared.contains(&*slot.user));
        for slot in unseen.iter().take(NAMED) {
            match accounts::whole(tx, &slot.user)? {
                Some(kept) => self.compare_account(&kept),
                None => self.differs(format!("user {}: entries without an account", slot.user)),
            }
        }
        let unseen = self.days.values().filter(|(_, is_compared)| !is_compared).map(|(day, _)| day.clone());
        for day in unseen.take(NAMED).collect::<Vec<_>>() {
            let (user, event_type) = (Some(day.user.clone()), Some(day.event_type.clone()));
            let asked = DaysAsked { user, event_type, from: Some(day.day), to: Some(day.day), after: None };
            match accounts::days(tx, &asked, 1)?.first() {
                Some(kept) => self.compare_day(kept),
                None => self.differs(format!("user {}, {}, day {}: not kept", day.user, day.event_type, day.day)),
            }
        }
        let head = log::head(tx)?;
        self.recount.differences.extend(log::check_end(tx, head)?);
        self.count_to(tx, head)?;
        (self.recount.entries, self.recount.users) = (head, self.book.len());
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
                recount.differences.push(difference(&slot.user, &state.account.encode(), &counted.lock().account));
            }
            // Somebody who was looked at and has no entry.
            None if state.account.position() == 0 => {}
            None => recount.differences.push(format!("user {}: an account in memory without an entry", slot.user)),
        }
    }
    drop(turn);
}

fn fold(book: &Book, turn: &mut crate::counters::book::Turn<'_>, entry: &log::Logged, recount: &mut Recount) {
    let slot = match book.get(&entry.user) {
        Some(slot) => slot,
        None => match following::opened_by(entry) {
            Ok(slot) => book.put(slot),
            Err(error) => return recount.differences.push(format!("user {}: {error}", entry.user)),
        },
    };
    turn.fold(&slot, Said::from(entry), None);
    if let Some(fault) = slot.lock().fault() {
        recount.differences.push(format!("user {}, entry {}: {fault}", entry.user, entry.position));
    }
}

/// In words what two accounts do not agree in.
fn difference(user: &str, kept: &[u8], counted: &Account) -> String {
    let Ok(kept) = Account::decode(kept) else { return format!("user {user}: the account cannot be read") };
    let now_ms = counted.at(i64::MAX / 2).period.start.as_millisecond();
    let (kept_view, view) = (kept.at(now_ms), counted.at(now_ms));
    let start = view.period.start;
    for (kind, sum) in &view.in_period {
        let was = kept_view.in_period.iter().find(|(name, _)| name == kind).map(|(_, sum)| *sum).unwrap_or_default();
        if was != *sum {
            return format!("user {user}, {kind}, period from {start}: kept {was}, the log says {sum}");
        }
    }
    if kept_view.used != view.used {
        return format!(
            "user {user}, credits, period from {start}: kept {}, the log says {}",
            kept_view.used, view.used
        );
    }
    format!("user {user}: the account at {} is not that of the log at {}", kept.position(), counted.position())
}

/// One account, from its entries alone, up to this one.
pub fn account(tx: &mut Tx<'_>, user: &str, to: i64) -> Result<Arc<Slot>> {
    let book = Book::open(0);
    let mut turn = book.turn();
    let mut entries = log::of_user(tx, user, to, usize::MAX)?;
    entries.reverse();
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
/// What is written stands at another entry than before, so that every process that still has accounts in memory counts anew.
pub async fn repair(app: &App) -> Result<()> {
    let (written, head) = app.db.read(|tx| Ok((accounts::position(tx)?, log::head(tx)?))).await?;
    let to = if written == head { (head - 1).max(0) } else { head };
    let counting = Arc::new(Mutex::new(Counting::default()));
    to_the_end(app, &counting, move |counting, tx, _| counting.count_some(tx, to)).await?;
    let page = lock(&counting).book.turn().take().map(|taken| taken.page).unwrap_or_default();
    app.db
        .write(move |tx| {
            accounts::forget(tx)?;
            accounts::turn(tx, 0, to, &page)
        })
        .await?;
    totals::start_over(app).await
}
