//! The log counted anew from its first entry, and what is kept compared with it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use billing::account::Account;

use super::{following, totals};
use crate::app::App;
use crate::counters::book::{Book, Slot};
use crate::counters::reading::Said;
use crate::error::{Error, Result};
use crate::store::accounts::{self, Day, Page};
use crate::store::{Tx, log};

/// How many entries are read at a time.
const READ: i64 = 10_000;
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

/// Counts the log anew and compares with it, in one snapshot: what was written down, at the entry where it was, and the accounts
/// in memory at the end.
pub async fn recount(app: &App) -> Result<Recount> {
    let app = app.clone();
    app.clone().db.read(move |tx| compare(tx, &app)).await
}

fn compare(tx: &mut Tx<'_>, app: &App) -> Result<Recount> {
    let (written, head) = (accounts::position(tx)?, log::head(tx)?);
    let mut recount = Recount { entries: head, ..Recount::default() };
    if written > head {
        recount.differences.push(format!("the accounts stand at {written}, the log ends at {head}"));
        return Ok(recount);
    }
    recount.differences = log::check(tx, MOST)?;
    let book = Book::open(0);
    count_to(tx, &book, written, &mut recount)?;
    let counted = book.turn().take();
    compare_accounts(tx, &book, &mut recount)?;
    let days = counted.map(|taken| taken.page.days).unwrap_or_default();
    compare_days(tx, &days, &mut recount)?;
    count_to(tx, &book, head, &mut recount)?;
    recount.users = book.len();
    compare_memory(app, &book, head, &mut recount);
    recount.differences.truncate(NAMED);
    Ok(recount)
}

/// Folds the log up to an entry, and names the entries that it has not.
fn count_to(tx: &mut Tx<'_>, book: &Book, to: i64, recount: &mut Recount) -> Result<()> {
    while book.applied() < to {
        let mut expected = book.applied();
        let entries = log::read(tx, expected, READ.min(to - expected))?;
        let mut turn = book.turn();
        for entry in &entries {
            expected += 1;
            if entry.position != expected {
                recount.differences.push(format!("the log has no entry {expected}"));
                expected = entry.position;
            }
            fold(book, &mut turn, entry, recount);
        }
        if entries.is_empty() {
            recount.differences.push(format!("the log has no entry {}", expected + 1));
            expected = to;
        }
        turn.moved_to(expected);
    }
    Ok(())
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

fn compare_accounts(tx: &mut Tx<'_>, book: &Book, recount: &mut Recount) -> Result<()> {
    let mut counted: HashMap<Box<str>, Arc<Slot>> =
        book.slots().into_iter().map(|slot| (slot.user.clone(), slot)).collect();
    let mut after = String::new();
    loop {
        let page = accounts::page(tx, &after, 1_000)?;
        let Some(last) = page.last() else { break };
        after.clone_from(&last.user);
        for kept in &page {
            match counted.remove(kept.user.as_str()) {
                None => recount.differences.push(format!("user {}: an account without an entry", kept.user)),
                Some(slot) if slot.lock().account.encode() == kept.state => {}
                Some(slot) => recount.differences.push(difference(&kept.user, &kept.state, &slot.lock().account)),
            }
        }
    }
    recount.differences.extend(counted.keys().map(|user| format!("user {user}: entries without an account")));
    Ok(())
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

fn compare_days(tx: &mut Tx<'_>, days: &[Day], recount: &mut Recount) -> Result<()> {
    let key = |day: &Day| (day.day, day.user.clone(), day.event_type.clone());
    let mut counted: BTreeMap<_, Day> = BTreeMap::new();
    for day in days {
        let sum =
            counted.entry(key(day)).or_insert_with(|| Day { quantity: 0, events: 0, cost_pico: 0, ..day.clone() });
        sum.quantity += day.quantity;
        sum.events += day.events;
        sum.cost_pico += day.cost_pico;
    }
    let mut asked = accounts::DaysAsked::default();
    loop {
        let page = accounts::days(tx, &asked, 1_000)?;
        let Some(last) = page.last() else { break };
        asked.after = Some(key(last));
        for kept in &page {
            let name = || format!("user {}, {}, day {}", kept.user, kept.event_type, kept.day);
            match counted.remove(&key(kept)) {
                Some(day) if day == *kept => {}
                Some(day) => recount.differences.push(format!(
                    "{}: kept {} in {} events, the log says {} in {}",
                    name(),
                    kept.quantity,
                    kept.events,
                    day.quantity,
                    day.events
                )),
                None => recount.differences.push(format!("{}: kept {} without an event", name(), kept.quantity)),
            }
        }
    }
    for day in counted.values() {
        recount.differences.push(format!("user {}, {}, day {}: not kept", day.user, day.event_type, day.day));
    }
    Ok(())
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
    let (to, page) = app.db.read(counted_anew).await?;
    app.db
        .write(move |tx| {
            accounts::forget(tx)?;
            accounts::turn(tx, 0, to, &page)
        })
        .await?;
    totals::start_over(app).await
}

fn counted_anew(tx: &mut Tx<'_>) -> Result<(i64, Page)> {
    let (written, head) = (accounts::position(tx)?, log::head(tx)?);
    let to = if written == head { (head - 1).max(0) } else { head };
    let book = Book::open(0);
    count_to(tx, &book, to, &mut Recount::default())?;
    let taken = book.turn().take();
    Ok((to, taken.map(|taken| taken.page).unwrap_or_default()))
}
