//! Sums by user, type and day, and the accounts on disk that they move with.

use std::sync::Arc;

use billing::usage::{Credits, Quantity};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Unit};
use tokio::sync::oneshot;

use super::following;
use crate::app::App;
use crate::counters::book::Taken;
use crate::error::{Error, Result};
use crate::store::accounts::{self, DaysAsked, Page, Stand};
use crate::store::db::Isolation;
use crate::store::{Tx, leases};

/// Which totals are asked for.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    pub user: Option<String>,
    pub kind: Option<String>,
    pub from: Option<Date>,
    /// The last day, itself included.
    pub to: Option<Date>,
}

/// The last row of the page before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TotalsAfter {
    pub day: Date,
    pub user: String,
    pub kind: String,
}

/// What a user has used of a type on a local day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Total {
    pub day: Date,
    pub user: String,
    pub kind: String,
    pub quantity: Quantity,
    pub events: u64,
    /// Rounded half up to the microcredit.
    pub credits: Credits,
}

/// A page of totals, newest day first.
#[derive(Debug, Clone)]
pub struct TotalsPage {
    pub rows: Vec<Total>,
    pub more: bool,
}

/// Who writes the accounts down, and for how long nobody else does.
const LEASE: &str = "accounts";
const LEASE_MS: i64 = 15_000;

/// What came of writing down.
enum Written {
    /// There was nothing to write.
    Nothing,
    Now,
    /// Another process has written them down further: what is here is folded anew from there.
    Elsewhere,
    /// Another process does it, and has come this far.
    ByOthers {
        written: Stand,
    },
}

/// A process that leaves writing down to another keeps so many counted entries in memory; then it forgets what the other has
/// written down.
const FOLLOWED_MAX: usize = 20_000;

const EPOCH: Date = Date::constant(1970, 1, 1);

/// Days since 1970 of a date.
fn day_number(date: Date) -> Result<i64> {
    Ok(i64::from(EPOCH.until((Unit::Day, date)).map_err(Error::internal)?.get_days()))
}

/// Days since 1970 of the local date at an instant.
pub(super) fn day_of(at_ms: i64, zone: &TimeZone) -> Result<i64> {
    let at = Timestamp::from_millisecond(at_ms).map_err(Error::internal)?;
    day_number(zone.to_datetime(at).date())
}

pub(super) fn date_of(day: i64) -> Result<Date> {
    EPOCH.checked_add(jiff::Span::new().try_days(day).map_err(Error::internal)?).map_err(Error::internal)
}

/// A page of totals. What is counted and not on disk yet is written down first, so that nothing is missing.
pub async fn totals(app: &App, asked: Totals, after: Option<TotalsAfter>, limit: usize) -> Result<TotalsPage> {
    write_down(app).await?;
    let asked = DaysAsked {
        user: asked.user,
        event_type: asked.kind,
        from: asked.from.map(day_number).transpose()?,
        to: asked.to.map(day_number).transpose()?,
        after: after.map(|row| day_number(row.day).map(|day| (day, row.user, row.kind))).transpose()?,
    };
    let most = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let mut days = app.db.read(move |tx| accounts::days(tx, &asked, most)).await?;
    let more = days.len() > limit;
    days.truncate(limit);
    let rows = days
        .into_iter()
        .map(|day| {
            Ok(Total {
                day: date_of(day.day)?,
                user: day.user,
                kind: day.event_type,
                quantity: Quantity::from_micro(day.quantity),
                events: u64::try_from(day.events).map_err(Error::internal)?,
                credits: Credits::of_pico(day.cost_pico).map_err(Error::internal)?,
            })
        })
        .collect::<Result<_>>()?;
    Ok(TotalsPage { rows, more })
}

/// Writes down what has changed since the last time; whether there was anything. The accounts, their days and their position
/// move in one transaction.
pub async fn write_down(app: &App) -> Result<bool> {
    write_down_as(app, true).await
}

/// The same, whoever else does it.
pub async fn write_down_now(app: &App) -> Result<bool> {
    write_down_as(app, false).await
}

/// All of it happens on threads of its own: a caller who goes away leaves nothing half done.
async fn write_down_as(app: &App, in_turn: bool) -> Result<bool> {
    let alone = Arc::clone(&app.writing_down).lock_owned().await;
    let (done, answer) = oneshot::channel();
    let for_work = app.clone();
    let from = app.book.turn_between().await.written();
    drop(tokio::task::spawn_blocking(move || {
        let Some(taken) = for_work.book.turn().take() else { return drop(done.send(Ok(Written::Nothing))) };
        let (app, page) = (for_work.clone(), taken.page.clone());
        let (from, to) = (taken.from, taken.to);
        let db = app.db.clone();
        db.write_then(
            Isolation::Snapshot,
            move |tx| turn_page(tx, &app.holder, in_turn, (from, to), &page),
            move |outcome| {
                settle(&for_work, taken, &outcome);
                drop(alone);
                drop(done.send(outcome));
            },
        );
    }));
    let written = answer.await.unwrap_or_else(|_| Err(Error::internal("writing down has stopped")))?;
    match written {
        Written::Elsewhere => following::start_over(app).await?,
        // Once for each time that the other moves on: what it has not written down would only be counted again.
        Written::ByOthers { written } if written != from && app.book.unwritten() > FOLLOWED_MAX => {
            following::start_over(app).await?;
        }
        Written::Nothing | Written::Now | Written::ByOthers { .. } => {}
    }
    Ok(matches!(written, Written::Now))
}

fn turn_page(tx: &mut Tx<'_>, holder: &str, in_turn: bool, (from, to): (Stand, i64), page: &Page) -> Result<Written> {
    // Only one of many writes down; that it is the right one is held by the position, the lease only spares the others the work.
    let ours = !in_turn || leases::is_ours(tx, LEASE, holder, LEASE_MS)?;
    Ok(if !ours {
        Written::ByOthers { written: accounts::stand(tx)? }
    } else if accounts::turn(tx, from, to, page)? {
        Written::Now
    } else {
        Written::Elsewhere
    })
}

fn settle(app: &App, taken: Taken, outcome: &Result<Written>) {
    let mut turn = app.book.turn();
    match outcome {
        Ok(Written::Now) => turn.wrote(&taken),
        _ => turn.put_back(taken),
    }
}
