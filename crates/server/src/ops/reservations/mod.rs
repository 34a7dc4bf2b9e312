//! Reservations: credits are held while the work is done, then what was really used is committed, or the hold is released.
//!
//! A commit is an entry of the usage log like any other. The hold goes when that entry is counted, never before.

mod commits;
mod open;
pub mod proof;

use std::sync::Arc;
use std::time::Duration;

use billing::usage::{Credits, Quantity};
use jiff::Timestamp;

pub use self::commits::{Commit, Committed, commit};
use self::commits::{in_log, lately_in_log};
pub use self::open::{Notes, forget_old, let_notes_go, restore, write_down};
pub(super) use self::open::{known, open_in, uncommitted};
use super::limits;
use crate::app::App;
use crate::counters::reservations::{Fate, Known};
use crate::counters::{self, Counters, Demand, Rate, Released};
use crate::error::{Error, LimitState, Refused, Result};

/// The longest that something is held.
const TTL_MAX_MS: i64 = 86_400_000;

/// How a user stands before a demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub allowed: bool,
    /// Why not.
    pub refusal: Option<Refused>,
    /// Credits that are neither used nor held; nothing where there is no limit.
    pub remaining: Option<Credits>,
    pub limits: Vec<LimitState>,
}

/// What is to be held.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The caller's own id, which makes asking again safe; one is made where there is none.
    pub id: Option<String>,
    pub user: String,
    pub kind: String,
    /// The most that will be used.
    pub quantity: Quantity,
    /// One second to 24 hours.
    pub ttl: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    pub id: String,
    pub status: ReservationStatus,
    pub quantity: Quantity,
    pub expires_at: Timestamp,
    /// Credits that are left beside it; nothing where there is no limit, or where it could not be decided.
    pub remaining: Option<Credits>,
    /// It was there before.
    pub replayed: bool,
    /// It could not be decided whether it fits, and the limits let it through: nothing is held.
    pub undecided: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReservationStatus {
    Held,
    Committed,
    Released,
}

/// May this user use so much now? Counts nothing.
///
/// # Errors
/// `user.unknown`, `type.unknown`, a quantity that cannot be; `limit.unknown` where it cannot be decided and a limit is closed.
pub async fn check(app: &App, user: &str, kind: &str, quantity: Quantity) -> Result<Standing> {
    stand(app, user, kind, quantity, Rate::Kept).await
}

/// The same for work that is let through by the answer: nobody says anything more about it, so its rate is used up.
pub async fn pass(app: &App, user: &str, kind: &str, quantity: Quantity) -> Result<Standing> {
    stand(app, user, kind, quantity, Rate::Taken).await
}

async fn stand(app: &App, user: &str, kind: &str, quantity: Quantity, rate: Rate) -> Result<Standing> {
    let slot = limits::slot_of(app, user).await?;
    let demand = limits::demand(app, &slot, kind, quantity)?;
    let answer = match app.counters.check(&app.book, &slot, &demand, rate).await {
        Ok(answer) => answer,
        Err(outage) if limits::is_open(&slot, demand.limit) => {
            let Some(refused) = Counters::surely_refused(&slot, &demand) else {
                tracing::debug!(%outage, "let through undecided");
                return Ok(Standing { allowed: true, refusal: None, remaining: None, limits: Vec::new() });
            };
            refused
        }
        Err(_) => return Err(limits::undecidable()),
    };
    let refusal = match &answer.verdict {
        counters::Verdict::Refused(refusal) => Some(limits::refused(&slot, &demand, &answer.numbers, refusal)?),
        _ => None,
    };
    Ok(Standing {
        allowed: refusal.is_none(),
        refusal,
        remaining: answer.numbers.remaining(),
        limits: limits::states(&slot, &demand, &answer.numbers),
    })
}

/// Holds what is asked for until it is committed, released or over. The same id again is the same answer.
///
/// # Errors
/// As [`check`]; [`Error::Refused`] where it does not fit; `usage.conflict` where the id stands for something else.
pub async fn reserve(app: &App, ask: Ask) -> Result<Reservation> {
    let slot = limits::slot_of(app, &ask.user).await?;
    let demand = limits::demand(app, &slot, &ask.kind, ask.quantity)?;
    let ttl_ms = i64::try_from(ask.ttl.as_millis()).unwrap_or(i64::MAX);
    if !(1_000..=TTL_MAX_MS).contains(&ttl_ms) {
        return Err(Error::invalid("/ttl_seconds", "expected a whole number from 1 to 86400"));
    }
    let expires_ms = demand.now.as_millisecond().saturating_add(ttl_ms);
    if let Some(id) = &ask.id
        && let Some(committed) = committed_before(app, id, &ask, demand.now).await?
    {
        return Ok(committed);
    }
    let is_new = ask.id.is_none();
    let id = match ask.id {
        Some(id) => id,
        None => Counters::new_id(&ask.user, demand.now, expires_ms, app.chance.bytes()?),
    };
    let placed = counters::Ask { id: &Arc::from(&*id), is_new, demand, expires_ms };
    let answer = match app.counters.reserve(&app.book, &slot, &placed).await {
        Ok(answer) => answer,
        Err(outage) if limits::is_open(&slot, demand.limit) => {
            let Some(refused) = Counters::surely_refused(&slot, &demand) else {
                tracing::debug!(%outage, "let through undecided");
                return let_through(app, &id, &ask.user, &demand, expires_ms);
            };
            refused
        }
        Err(_) => return Err(limits::undecidable()),
    };
    let remaining = answer.numbers.credits.map(|credits| credits.max(Credits::ZERO));
    match answer.verdict {
        counters::Verdict::Granted => Ok(Reservation {
            id,
            status: ReservationStatus::Held,
            quantity: ask.quantity,
            expires_at: instant(expires_ms),
            remaining,
            replayed: false,
            undecided: false,
        }),
        counters::Verdict::Again(known) | counters::Verdict::Resolved(known) => {
            Ok(Reservation { remaining, ..replayed(id, &known) })
        }
        counters::Verdict::Differs(member) => Err(conflict(member)),
        counters::Verdict::Refused(refusal) => {
            Err(Error::Refused(Box::new(limits::refused(&slot, &demand, &answer.numbers, &refusal)?)))
        }
    }
}

/// What a caller's own id stands for that is not remembered any more: it was committed, and what is done under it anew would never count.
async fn committed_before(app: &App, id: &str, ask: &Ask, now: Timestamp) -> Result<Option<Reservation>> {
    if app.book.reservations.get(id).is_some_and(|known| !known.is_over(now.as_millisecond())) {
        return Ok(None);
    }
    let Some((recorded, entry)) = lately_in_log(app, id).await? else { return Ok(None) };
    if entry.user != ask.user {
        return Err(conflict("user_id"));
    }
    if entry.event_type != ask.kind {
        return Err(conflict("type"));
    }
    Ok(Some(Reservation {
        id: id.to_owned(),
        status: ReservationStatus::Committed,
        quantity: recorded.quantity,
        expires_at: instant(entry.received_ms),
        remaining: remaining(app, &ask.user, &ask.kind).await,
        replayed: true,
        undecided: false,
    }))
}

fn replayed(id: String, known: &Known) -> Reservation {
    Reservation {
        id,
        status: match known.fate {
            Fate::Held | Fate::Undecided | Fate::Committing { .. } => ReservationStatus::Held,
            Fate::Committed(_) => ReservationStatus::Committed,
            Fate::Released => ReservationStatus::Released,
        },
        quantity: known.quantity,
        expires_at: instant(known.expires_ms),
        remaining: None,
        replayed: true,
        undecided: known.fate == Fate::Undecided,
    }
}

/// Nobody can decide, and every limit is open: the work may be done, and its commit counts.
fn let_through(app: &App, id: &str, user: &str, demand: &Demand<'_>, expires_ms: i64) -> Result<Reservation> {
    let mut part = app.book.reservations.part(id);
    if let Some(known) = part.get(id).filter(|known| !known.is_over(demand.now.as_millisecond())) {
        return match known.differs(user, demand.kind, demand.quantity) {
            Some(member) => Err(conflict(member)),
            None => Ok(replayed(id.to_owned(), known)),
        };
    }
    let known = Known {
        user: Arc::from(user),
        kind: Arc::clone(demand.kind),
        quantity: demand.quantity,
        credits: Credits::ZERO,
        expires_ms,
        fate: Fate::Undecided,
    };
    let answer = Reservation { replayed: false, ..replayed(id.to_owned(), &known) };
    part.insert(&Arc::from(id), known);
    Ok(answer)
}

fn instant(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX)
}

fn conflict(member: &str) -> Error {
    Error::rule("usage.conflict", format!("/{member}"), "differs from what was reserved under this id")
}

fn resolved_otherwise(detail: &str) -> Error {
    Error::rule("usage.conflict", "/status", detail)
}

/// What a user has left; nothing where there is no limit, or where it cannot be said: what was done stays done.
async fn remaining(app: &App, user: &str, kind: &str) -> Option<Credits> {
    let asked = async {
        let slot = limits::slot_of(app, user).await?;
        let demand = limits::demand(app, &slot, kind, Quantity::ZERO)?;
        Ok(app.counters.check(&app.book, &slot, &demand, Rate::Kept).await?.numbers.remaining())
    };
    asked.await.unwrap_or_else(|error: Error| {
        tracing::debug!(user.id = user, %error, "what is left cannot be said");
        None
    })
}

/// A reservation, wherever it is remembered: here, where it is held, or in the database.
async fn find(app: &App, id: &str) -> Result<Option<Known>> {
    if let Some(known) = app.book.reservations.get(id) {
        return Ok(Some(known));
    }
    match app.counters.find(id).await {
        Ok(Some(known)) => return Ok(Some(known)),
        Ok(None) => {}
        Err(outage) => tracing::debug!(%outage, "a reservation is looked for without the counters"),
    }
    Ok(open::written(app, id).await?.map(|row| open::known(&row)))
}

/// Frees what is held. Twice is once.
///
/// # Errors
/// `usage.conflict` where it was committed; not found where nobody knows of it.
pub async fn release(app: &App, id: &str) -> Result<()> {
    let committed = || resolved_otherwise("this reservation was committed");
    let Some(known) = find(app, id).await? else {
        return Err(if in_log(app, id).await?.is_some() { committed() } else { Error::NotFound });
    };
    match app.counters.release(&app.book, id, &known, app.clock.now()).await {
        Ok(Released::Committed) => Err(committed()),
        // It was written down and is not held any more.
        Ok(Released::Unknown) if in_log(app, id).await?.is_some() => Err(committed()),
        // Answered is remembered, also by who comes after `kill -9`.
        Ok(Released::Now | Released::Before | Released::Unknown) => open::wait_until_written(app).await,
        // What is held for it is held by another process.
        Err(_) if !app.book.decides() => Err(limits::undecidable()),
        Err(outage) => Err(outage.into()),
    }
}
