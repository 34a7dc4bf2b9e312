//! Reservations that are open, as they are written down: for a restart, and for a Redis that has lost what it held.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use billing::hold::Hold;
use billing::usage::{Credits, Quantity};

use super::commits::is_committed;
use crate::app::App;
use crate::counters::book::{self, Slot};
use crate::counters::reservations::{Fate, Known};
use crate::error::{Error, Result};
use crate::ops::limits;
use crate::store::reservations::Reservation as Row;
use crate::store::{Tx, reservations as rows};

/// So long whoever waits for a note lets others say something in it as well.
const GATHER: Duration = Duration::from_millis(10);

/// The notes of this process: one is written at a time.
#[derive(Debug, Default)]
pub struct Notes {
    begun: AtomicU64,
    /// The last one that is on disk.
    written: tokio::sync::Mutex<u64>,
    /// Whom the notes of all processes name.
    index: Arc<Mutex<rows::Index>>,
}

/// What is written down of one that nobody is known to have resolved.
pub(super) async fn written(app: &App, id: &str) -> Result<Option<Row>> {
    let (index, id) = (Arc::clone(&app.notes.index), id.to_owned());
    app.db.read(move |tx| rows::get(tx, &mut index.lock().unwrap_or_else(PoisonError::into_inner), &id)).await
}

/// What a note was to say; it is said by the next one where nobody goes on with this.
struct Unwritten<'a>(&'a App);

impl Drop for Unwritten<'_> {
    fn drop(&mut self) {
        self.0.book.reservations.lose();
    }
}

/// Writes down what was opened and what has ended since the last time, so that a restart finds what is open.
pub async fn write_down(app: &App) -> Result<()> {
    let mut written = app.notes.written.lock().await;
    *written = write_note(app).await?;
    Ok(())
}

/// Waits until everything that has happened before this call is on disk.
pub async fn wait_until_written(app: &App) -> Result<()> {
    let next = app.notes.begun.load(Ordering::SeqCst) + 1;
    let mut written = app.notes.written.lock().await;
    if *written < next {
        tokio::time::sleep(GATHER).await;
        *written = write_note(app).await?;
    }
    Ok(())
}

async fn write_note(app: &App) -> Result<u64> {
    let number = app.notes.begun.fetch_add(1, Ordering::SeqCst) + 1;
    let unwritten = Unwritten(app);
    let now = app.clock.now();
    let mut notes = Vec::new();
    for note in app.book.reservations.notes(now.as_millisecond()) {
        notes.push((note_id(app)?, note));
    }
    if !notes.is_empty() {
        let now_ms = now.as_millisecond();
        let write = move |tx: &mut Tx<'_>| notes.iter().try_for_each(|(id, note)| rows::write(tx, id, now_ms, note));
        app.db.write(write).await?;
    }
    std::mem::forget(unwritten);
    Ok(number)
}

pub(super) fn note_id(app: &App) -> Result<String> {
    Ok(billing::id::new("note_", app.clock.now(), app.chance.bytes()?))
}

/// Lets notes go whose time has come. What they leave behind has a row of its own from then on.
pub async fn let_notes_go(app: &App) -> Result<()> {
    let now_ms = app.clock.now().as_millisecond();
    while let Some(going) = app.db.read(move |tx| rows::going(tx, now_ms)).await? {
        app.db.write(move |tx| rows::let_go(tx, &going)).await?;
    }
    Ok(())
}

/// Forgets in the database those that have been over for long.
pub async fn forget_old(app: &App) -> Result<()> {
    let now_ms = app.clock.now().as_millisecond();
    app.db.write(move |tx| rows::forget_old(tx, now_ms)).await
}

/// Takes over what was open when the program stopped. What the log says was committed since then stays so. What Redis still holds
/// of it is not held twice; what it has lost is put back where the account is asked for.
pub async fn restore(app: &App) -> Result<()> {
    for note in app.db.read(rows::damaged).await? {
        tracing::error!(note, "a note of open reservations is damaged: what it says is free, the others hold");
    }
    for Open { row, slot } in still_open(app, |_| true).await? {
        let (id, known) = (Arc::from(&*row.id), known(&row));
        slot.lock().held.place(Arc::clone(&id), known.hold());
        app.book.reservations.restore(&id, known);
    }
    Ok(())
}

/// A reservation that is open as far as the database knows, and the account of its user.
pub struct Open {
    row: Row,
    slot: Arc<Slot>,
}

/// What the database knows to be open in these shards and this process does not know to be resolved.
pub async fn open_in(app: &App, shards: &BTreeSet<i64>) -> Result<Vec<(Arc<Slot>, String, Hold)>> {
    let shards = shards.clone();
    let open = still_open(app, move |user| shards.contains(&book::shard_of(user))).await?;
    let is_resolved = |id: &str| {
        let known = app.book.reservations.get(id);
        known.is_some_and(|known| matches!(known.fate, Fate::Released | Fate::Committed(_)))
    };
    let open = open.into_iter().filter(|open| !is_resolved(&open.row.id));
    Ok(open.map(|Open { row, slot }| (slot, row.id.clone(), known(&row).hold())).collect())
}

async fn still_open(app: &App, of: impl Fn(&str) -> bool + Send + 'static) -> Result<Vec<Open>> {
    let now_ms = app.clock.now().as_millisecond();
    let rows = app.db.read(move |tx| uncommitted(tx, now_ms, &of)).await?;
    let mut open = Vec::with_capacity(rows.len());
    for row in rows {
        match limits::slot_of(app, &row.user).await {
            Ok(slot) => open.push(Open { row, slot }),
            Err(Error::Rule { .. }) => {} // the user is gone
            Err(error) => return Err(error),
        }
    }
    Ok(open)
}

pub(in crate::ops) fn uncommitted(tx: &mut Tx<'_>, now_ms: i64, of: impl Fn(&str) -> bool) -> Result<Vec<Row>> {
    let mut open = Vec::new();
    for row in rows::open(tx, now_ms)?.into_iter().filter(|row| of(&row.user)) {
        if !is_committed(tx, &row.id, row.expires_ms, now_ms)? {
            open.push(row);
        }
    }
    Ok(open)
}

pub(in crate::ops) fn known(row: &Row) -> Known {
    Known {
        user: Arc::from(row.user.as_str()),
        kind: row.kind.as_str().into(),
        quantity: Quantity::from_micro(row.quantity),
        credits: Credits::from_micro(row.credits),
        expires_ms: row.expires_ms,
        fate: Fate::Held,
    }
}
