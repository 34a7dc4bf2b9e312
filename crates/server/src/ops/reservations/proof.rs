//! Reservations as they are written down, against the log and the people: what cannot be open or read is named, and taken away.
//!
//! What is held stands in no log. That a row is right can be said only where Redis has it as well ([`crate::ops::publishing::proof`]); that it is
//! wrong can be said of one whose commit is in the log, whose user nobody knows, or that would give credits instead of taking them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::open::note_id;
use super::uncommitted;
use crate::app::App;
use crate::error::Result;
use crate::store::reservations::{self as rows, Reservation};
use crate::store::{Tx, users};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// A reservation that cannot be open.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wrong {
    row: Reservation,
    why: &'static str,
}

/// Every reservation that is written down and cannot be open, in words. One that was committed a moment ago is taken away within
/// `patience`.
pub async fn compare(app: &App, patience: Duration) -> Result<Vec<String>> {
    let wrong = wrong(app, patience).await?.into_iter();
    let wrong = wrong.map(|Wrong { row, why }| format!("user {}, {}: {} {why}", row.user, row.kind, row.id));
    let damaged = app.db.read(rows::damaged).await?.into_iter();
    Ok(wrong.chain(damaged.map(|note| format!("{note}: this note of open reservations is damaged"))).collect())
}

/// Takes them away.
pub async fn repair(app: &App, patience: Duration) -> Result<()> {
    let wrong: Vec<Reservation> = wrong(app, patience).await?.into_iter().map(|wrong| wrong.row).collect();
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

async fn wrong(app: &App, patience: Duration) -> Result<Vec<Wrong>> {
    let (start, now_ms) = (Instant::now(), app.clock.now().as_millisecond());
    loop {
        let wrong = app.db.read(move |tx| look(tx, now_ms)).await?;
        if wrong.is_empty() || start.elapsed() >= patience {
            return Ok(wrong);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn look(tx: &mut Tx<'_>, now_ms: i64) -> Result<Vec<Wrong>> {
    let open: BTreeSet<String> = uncommitted(tx, now_ms, |_| true)?.into_iter().map(|row| row.id).collect();
    let mut wrong = Vec::new();
    for row in rows::open(tx, now_ms)? {
        let why = if row.quantity < 0 || row.credits < 0 {
            "is written down with less than nothing"
        } else if !open.contains(&row.id) {
            "is written down as open, and its commit is in the log"
        } else if users::get(tx, &row.user)?.is_none() {
            "is written down for somebody whom nobody knows"
        } else {
            continue;
        };
        wrong.push(Wrong { row, why });
    }
    Ok(wrong)
}
