//! Reservations as they are written down: what cannot be open or read is named, and taken away.
//!
//! What is held stands in no log. That a row is right can be said only where Redis has it as well
//! ([`crate::ops::publishing::proof`]); that it is wrong can be said of one whose user nobody knows, or that would give credits
//! instead of taking them. One whose commit is in the log is not wrong: the log is looked at wherever the row is, and the next note
//! says that it has ended, unless a `kill -9` came between.

use super::open::note_id;
use crate::app::App;
use crate::error::Result;
use crate::store::reservations::{self as rows, Reservation};
use crate::store::{Tx, users};

/// A reservation that cannot be open.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wrong {
    row: Reservation,
    why: &'static str,
}

/// Every reservation that is written down and cannot be open, in words.
pub async fn compare(app: &App) -> Result<Vec<String>> {
    let wrong = wrong(app).await?.into_iter();
    let wrong = wrong.map(|Wrong { row, why }| format!("user {}, {}: {} {why}", row.user, row.kind, row.id));
    let damaged = app.db.read(rows::damaged).await?.into_iter();
    Ok(wrong.chain(damaged.map(|note| format!("{note}: this note of open reservations is damaged"))).collect())
}

/// Takes them away.
pub async fn repair(app: &App) -> Result<()> {
    let wrong: Vec<Reservation> = wrong(app).await?.into_iter().map(|wrong| wrong.row).collect();
    let damaged = app.db.read(rows::damaged).await?;
    if wrong.is_empty() && damaged.is_empty() {
        return Ok(());
    }
    let (note, now_ms) = (note_id(app)?, app.clock.now().as_millisecond());
    app.db
        .write(move |tx| {
            if !wrong.is_empty() {
                rows::take_away(tx, &note, now_ms, &wrong)?;
            }
            rows::discard(tx, &damaged)
        })
        .await
}

async fn wrong(app: &App) -> Result<Vec<Wrong>> {
    let now_ms = app.clock.now().as_millisecond();
    app.db.read(move |tx| look(tx, now_ms)).await
}

fn look(tx: &mut Tx<'_>, now_ms: i64) -> Result<Vec<Wrong>> {
    let mut wrong = Vec::new();
    for row in rows::open(tx, now_ms)? {
        let why = if row.quantity < 0 || row.credits < 0 {
            "is written down with less than nothing"
        } else if users::get(tx, &row.user)?.is_none() {
            "is written down for somebody whom nobody knows"
        } else {
            continue;
        };
        wrong.push(Wrong { row, why });
    }
    Ok(wrong)
}
