//! Following the log: what others have appended, or this process before it ended, is counted in the order of the log.

use std::sync::Arc;

use billing::account::Account;

use super::recount;
use crate::app::App;
use crate::counters::book::{Slot, Turn};
use crate::counters::reading::{self, Said};
use crate::error::{Error, Result};
use crate::store::accounts::Snapshot;
use crate::store::db::Dialect;
use crate::store::log::{self, Kind, Source};
use crate::store::{Change, Tx, accounts};

/// How many entries are read at a time.
const READ: i64 = 5_000;

/// The account of a user as it was written down, put into a slot of its own.
pub(super) fn written(tx: &mut Tx<'_>, id: &str) -> Result<Option<Arc<Slot>>> {
    let Some(kept) = accounts::whole(tx, id)? else { return Ok(None) };
    Ok(Some(Slot::new(id, account_of(tx, &kept)?)))
}

/// An account as it was written down; where that cannot be read (another version wrote it, or it was damaged), as its entries
/// in the log say.
pub(in crate::ops) fn account_of(tx: &mut Tx<'_>, kept: &Snapshot) -> Result<Account> {
    Account::decode(&kept.state).or_else(|error| {
        tracing::error!(user.id = kept.user, %error, "an account cannot be read and is counted anew from the log");
        let slot = recount::account(tx, &kept.user, kept.position)?;
        let account = slot.lock().account.clone();
        Ok(account)
    })
}

/// Counts what others have appended, up to `head`. Must run where nobody else appends.
pub(super) fn catch_up(tx: &mut Tx<'_>, app: &App, head: i64) -> Result<()> {
    follow(tx, app, &mut app.book.turn(), head)
}

/// Counts what others have appended, up to `head`. What `tx` sees must not be older than the turn: this process may have written
/// down further since.
///
/// What is written down may be of another edition (`doctor --repair`), and it and the log may lie before what is counted here: a
/// backup that was put back, a standby that took over too early. Then everything is counted anew from where it stands.
fn follow(tx: &mut Tx<'_>, app: &App, turn: &mut Turn<'_>, head: i64) -> Result<()> {
    let written = accounts::stand(tx)?;
    let is_set_back = head < app.book.applied();
    // Where even the written accounts lie behind its end, doctor has to see to it.
    if is_set_back && written.position <= head {
        app.book.note_set_back(true);
    }
    if is_set_back || !written.follows(turn.written()) {
        tracing::warn!(
            head,
            written = written.position,
            counted = app.book.applied(),
            "the log is counted anew from what is written down"
        );
        turn.start_over(written);
        app.answers.drop_changed(&[Change::Everything]);
    }
    while app.book.applied() < head {
        let entries = log::read(tx, app.book.applied(), READ.min(head - app.book.applied()))?;
        let Some(last) = entries.last().map(|entry| entry.position) else {
            return Err(Error::internal("the log ends before its head"));
        };
        for entry in &entries {
            fold_read(tx, app, turn, entry)?;
        }
        // Dropped first: whoever waits for this position is woken by the move, and must not find the page of before (`at_least`).
        app.answers.usage_changed(entries.iter().map(|entry| entry.user.as_str()));
        turn.moved_to(last);
    }
    turn.caught_up();
    Ok(())
}

fn fold_read(tx: &mut Tx<'_>, app: &App, turn: &mut Turn<'_>, entry: &log::Logged) -> Result<()> {
    let slot = match app.book.get(&entry.user).filter(|slot| slot.is_open()) {
        Some(slot) => slot,
        None => app.book.put_open(match written(tx, &entry.user)? {
            Some(slot) => slot,
            None => opened_before(tx, entry)?,
        }),
    };
    let committed = (entry.source == Source::Reservation).then_some(entry.transaction_id.as_str());
    turn.fold(&slot, Said::from(entry), committed);
    Ok(())
}

/// The account as it stood before this entry. It begins with it, unless what was written down of it is gone.
fn opened_before(tx: &mut Tx<'_>, entry: &log::Logged) -> Result<Arc<Slot>> {
    let last = match entry.previous {
        Some(previous) => previous,
        // On SQLite each entry leads to the one before it.
        None if entry.kind == Kind::Plan && tx.dialect() == Dialect::Sqlite => return opened_by(entry),
        None => log::last_of_user(tx, &entry.user, entry.position)?,
    };
    if last == 0 {
        return opened_by(entry);
    }
    tracing::error!(user.id = entry.user, "an account is not written down and is counted anew from the log");
    recount::account(tx, &entry.user, last)
}

/// The account that its first entry opens: the terms are in it.
pub fn opened_by(entry: &log::Logged) -> Result<Arc<Slot>> {
    let (Kind::Plan, Some(body)) = (entry.kind, entry.body.as_deref()) else {
        return Err(Error::internal(format!("the entry {} is the first of its user and has no terms", entry.position)));
    };
    let (_, terms, _) = reading::plan(body)?;
    let account = Account::new(terms, entry.received_ms).map_err(Error::internal)?;
    Ok(Slot::new(&entry.user, account))
}

/// Counts everything that is in the log. Run at start, and wherever another process may have written.
pub async fn follow_log(app: &App) -> Result<()> {
    let for_work = app.clone();
    app.db
        .read(move |tx| {
            // Before the first look into the database, which makes the snapshot.
            let mut turn = for_work.book.turn();
            let head = log::head(tx)?;
            follow(tx, &for_work, &mut turn, head)
        })
        .await
}

/// Forgets what is counted, and counts the log anew from where the written accounts stand.
pub async fn start_over(app: &App) -> Result<()> {
    let for_work = app.clone();
    app.db
        .read(move |tx| {
            let mut turn = for_work.book.turn();
            turn.start_over(accounts::stand(tx)?);
            Ok(())
        })
        .await?;
    follow_log(app).await
}
