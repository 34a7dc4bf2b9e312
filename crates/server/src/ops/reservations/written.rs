//! Reservations that are open, written down beside the log: a restart finds them, and commits that come after it.

use std::sync::Arc;

use billing::usage::{Credits, Quantity};

use super::super::limits;
use super::super::usage::ids;
use super::TTL_MAX_MS;
use super::commit::{SPACE, committed_on};
use crate::app::App;
use crate::counters::Counters;
use crate::counters::reservations::{Fate, Known};
use crate::error::{Error, Result};
use crate::store::log;
use crate::store::reservations::Reservation as Row;
use crate::store::{Tx, reservations as rows};

pub(super) fn known(row: &Row) -> Known {
    Known {
        user: Arc::from(row.user.as_str()),
        kind: row.kind.as_str().into(),
        quantity: Quantity::from_micro(row.quantity),
        credits: Credits::from_micro(row.credits),
        expires_ms: row.expires_ms,
        fate: Fate::Held,
    }
}

/// Writes down which reservations are open, so that a restart finds them.
pub async fn write_down(app: &App) -> Result<()> {
    let now_ms = app.clock.now().as_millisecond();
    let changes = app.book.reservations.changes(now_ms);
    if changes.opened.is_empty() && changes.closed.is_empty() {
        return Ok(());
    }
    let opened: Vec<Row> = changes.opened.iter().map(|(id, known)| row(id, known)).collect();
    let closed: Vec<String> = changes.closed.iter().map(ToString::to_string).collect();
    let written = app.db.write(move |tx| rows::save(tx, &opened, &closed)).await;
    if written.is_err() {
        app.book.reservations.put_back(changes);
    }
    written
}

/// Forgets in the database those that have been over for long.
pub async fn forget_old(app: &App) -> Result<()> {
    let now_ms = app.clock.now().as_millisecond();
    app.db.write(move |tx| rows::forget_old(tx, now_ms)).await
}

fn row(id: &str, known: &Known) -> Row {
    Row {
        id: id.to_owned(),
        user: known.user.to_string(),
        kind: known.kind.to_string(),
        quantity: known.quantity.micro(),
        credits: known.credits.micro(),
        expires_ms: known.expires_ms,
    }
}

/// Takes over what was open when the program stopped. What the log says was committed since then stays so.
pub async fn restore(app: &App) -> Result<()> {
    let now_ms = app.clock.now().as_millisecond();
    let open = app.db.read(move |tx| still_open(tx, now_ms)).await?;
    // In Redis they are held already.
    let held_here = matches!(app.counters, Counters::Embedded(_));
    for row in open {
        let slot = match limits::slot_of(app, &row.user).await {
            Ok(slot) => slot,
            Err(Error::Rule { .. }) => continue, // the user is gone
            Err(error) => return Err(error),
        };
        let known = known(&row);
        if held_here {
            let id = Arc::from(row.id);
            slot.lock().held.place(Arc::clone(&id), known.hold());
            app.book.reservations.restore(&id, known);
        }
    }
    Ok(())
}

fn still_open(tx: &mut Tx<'_>, now_ms: i64) -> Result<Vec<Row>> {
    let mut open = rows::open(tx, now_ms)?;
    let mut committed = Vec::new();
    for row in &open {
        // Nobody commits before it is held, nor is it held for longer than a day.
        let days = (row.expires_ms - TTL_MAX_MS).div_euclid(log::DAY_MS)..=now_ms.div_euclid(log::DAY_MS) + 1;
        if committed_on(tx, days, &ids::entry_id(SPACE, &row.id))?.is_some() {
            committed.push(row.id.clone());
        }
    }
    open.retain(|row| !committed.contains(&row.id));
    Ok(open)
}
