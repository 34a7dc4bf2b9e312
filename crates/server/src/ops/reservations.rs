//! Reservations: credits are held while the work is done, then what was really used is committed, or the hold is released.
//!
//! A commit is an entry of the usage log like any other. The hold goes when that entry is counted, never before.

use std::sync::Arc;
use std::time::Duration;

use billing::usage::{Credits, Quantity};
use jiff::Timestamp;

use super::limits::{self, rule};
use super::usage::{self, Candidate, Verdict, ids};
use crate::app::App;
use crate::counters::reservations::{Fate, Known};
use crate::counters::{self, Counters, Demand, Released};
use crate::error::{Error, LimitState, Refused, Result};
use crate::store::log::{self, Entry, Kind, Source};
use crate::store::reservations::Reservation as Row;
use crate::store::{Tx, reservations as rows};

/// How long a commit waits to be counted where another process has written to the log meanwhile.
const COUNTED_WITHIN: Duration = Duration::from_millis(250);
/// The longest that something is held.
const TTL_MAX_MS: i64 = 86_400_000;
/// What ids of commits are kept apart by in the log.
const SPACE: &str = "commit";

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

/// What was really used: less than was held, or more.
#[derive(Debug, Clone)]
pub struct Commit {
    pub quantity: Quantity,
    /// When; now where it is left out.
    pub at: Option<Timestamp>,
    /// Whose and of what, for a reservation that may have been forgotten.
    pub user: Option<String>,
    pub kind: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub id: String,
    /// Its place in the log.
    pub position: i64,
    pub quantity: Quantity,
    /// Nothing was held for it any more. It counts all the same.
    pub late: bool,
    pub remaining: Option<Credits>,
    pub replayed: bool,
}

/// May this user use so much now? Counts nothing.
///
/// # Errors
/// `user.unknown`, `type.unknown`, a quantity that cannot be; `limit.unknown` where it cannot be decided and a limit is closed.
pub async fn check(app: &App, user: &str, kind: &str, quantity: Quantity) -> Result<Standing> {
    let slot = limits::slot_of(app, user).await?;
    let demand = limits::demand(app, &slot, kind, quantity)?;
    let answer = match app.counters.check(&app.book, &slot, &demand).await {
        Ok(answer) => answer,
        Err(outage) if limits::is_open(&slot, demand.limit) => {
            tracing::debug!(%outage, "let through undecided");
            return Ok(Standing { allowed: true, refusal: None, remaining: None, limits: Vec::new() });
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
        remaining: answer.numbers.credits.map(|credits| credits.max(Credits::ZERO)),
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
    let is_new = ask.id.is_none();
    let id = match ask.id {
        Some(id) => id,
        None => Counters::new_id(&ask.user, demand.now, app.chance.bytes()?),
    };
    let placed = counters::Ask { id: &Arc::from(&*id), is_new, demand, expires_ms };
    let answer = match app.counters.reserve(&app.book, &slot, &placed).await {
        Ok(answer) => answer,
        Err(outage) if limits::is_open(&slot, demand.limit) => {
            tracing::debug!(%outage, "let through undecided");
            return let_through(app, &id, &ask.user, &demand, expires_ms);
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

fn replayed(id: String, known: &Known) -> Reservation {
    Reservation {
        id,
        status: match known.fate {
            Fate::Held | Fate::Undecided | Fate::Committing { .. } => ReservationStatus::Held,
            Fate::Committed { .. } => ReservationStatus::Committed,
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
    rule("usage.conflict", &format!("/{member}"), "differs from what was reserved under this id")
}

fn resolved_otherwise(detail: &str) -> Error {
    rule("usage.conflict", "/status", detail)
}

/// Counts what was really used. It is on disk when the answer comes; the same commit again is the same answer.
///
/// # Errors
/// `usage.conflict` where it was committed with another quantity or released; a fault at `/user_id` or `/type` where the
/// reservation is unknown and the body does not say them; the errors of recording usage.
pub async fn commit(app: &App, id: &str, commit: Commit) -> Result<Committed> {
    let now = app.clock.now();
    let known = find(app, id).await?;
    if let Some(Known { user, kind, fate, .. }) = &known {
        if commit.user.as_ref().is_some_and(|told| **told != **user) {
            return Err(conflict("user_id"));
        }
        if commit.kind.as_ref().is_some_and(|told| **told != **kind) {
            return Err(conflict("type"));
        }
        match *fate {
            Fate::Committed { quantity, position, late } => {
                let before = Before { quantity, position, late };
                return before.again(app, id, user, kind, commit.quantity).await;
            }
            Fate::Released => return Err(resolved_otherwise("this reservation was released")),
            Fate::Held | Fate::Undecided | Fate::Committing { .. } => {}
        }
    }
    // Another process may have released it. Where nobody can say, the work was done and counts.
    if let Some(known) = &known
        && app.counters.is_released(id, known).await.unwrap_or_default()
    {
        return Err(resolved_otherwise("this reservation was released"));
    }
    let is_live = known.as_ref().is_some_and(|known| !known.is_over(now.as_millisecond()));
    // What is remembered as held is in no entry yet. Of the rest, the log knows.
    if !is_live && let Some((before, entry)) = in_log(app, id, None).await? {
        return before.again(app, id, &entry.user, &entry.event_type, commit.quantity).await;
    }
    let missing = |pointer| {
        Error::invalid(pointer, "this reservation is unknown or long over: say user_id and type to commit it")
    };
    let (user, kind) = match known {
        Some(known) => (known.user.to_string(), known.kind.to_string()),
        None => (commit.user.ok_or_else(|| missing("/user_id"))?, commit.kind.ok_or_else(|| missing("/type"))?),
    };
    let wanted = Wanted { id, user, kind, quantity: commit.quantity, at: commit.at, late: !is_live, now };
    append(app, wanted).await
}

/// A commit on its way to the log.
struct Wanted<'a> {
    id: &'a str,
    user: String,
    kind: String,
    quantity: Quantity,
    at: Option<Timestamp>,
    late: bool,
    now: Timestamp,
}

/// A commit that is in the log.
#[derive(Debug, Clone, Copy)]
struct Before {
    quantity: Quantity,
    position: i64,
    late: bool,
}

impl Before {
    async fn again(self, app: &App, id: &str, user: &str, kind: &str, quantity: Quantity) -> Result<Committed> {
        if quantity != self.quantity {
            return Err(rule("usage.conflict", "/quantity", "differs from what was committed under this id"));
        }
        let remaining = remaining(app, user, kind).await;
        Ok(Committed {
            id: id.to_owned(),
            position: self.position,
            quantity,
            late: self.late,
            remaining,
            replayed: true,
        })
    }
}

/// Puts a mark on a reservation while its commit is under way, so that nobody releases it meanwhile. Dropped without an entry,
/// it is as it was.
struct Mark<'a> {
    app: &'a App,
    id: &'a str,
    before: Option<Fate>,
}

impl<'a> Mark<'a> {
    fn set(app: &'a App, id: &'a str, late: bool) -> Self {
        let mut part = app.book.reservations.part(id);
        let before = part.get(id).map(|known| known.fate).filter(|fate| matches!(fate, Fate::Held | Fate::Undecided));
        if before.is_some() {
            part.resolve(id, Fate::Committing { late });
        }
        Self { app, id, before }
    }
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        let Some(before) = self.before else { return };
        let mut part = self.app.book.reservations.part(self.id);
        if part.get(self.id).is_some_and(|known| matches!(known.fate, Fate::Committing { .. })) {
            part.resolve(self.id, before);
        }
    }
}

async fn append(app: &App, wanted: Wanted<'_>) -> Result<Committed> {
    let candidate = candidate(app, &wanted)?;
    let mark = Mark::set(app, wanted.id, wanted.late);
    let verdict = app.usage.append(app, vec![candidate]).await?.pop();
    let position = match verdict {
        Some(Verdict::Recorded { position, .. }) => position,
        Some(Verdict::Refused { code: "invalid", pointer, detail }) => return Err(Error::invalid(pointer, detail)),
        Some(Verdict::Refused { code, pointer, detail }) => return Err(rule(code, pointer, detail)),
        // Somebody was faster with the same id.
        Some(Verdict::Duplicate { .. } | Verdict::Conflict { .. }) | None => {
            let (before, entry) = in_log(app, wanted.id, wanted.at)
                .await?
                .ok_or_else(|| Error::internal("a known commit is not in the log"))?;
            return before.again(app, wanted.id, &entry.user, &entry.event_type, wanted.quantity).await;
        }
    };
    if app.book.applied() < position {
        usage::wait_for(app, position, COUNTED_WITHIN).await;
    }
    remember(app, &wanted, position);
    drop(mark);
    let slot = limits::slot_of(app, &wanted.user).await?;
    app.counters.counted(&slot, wanted.now).await;
    let remaining = remaining(app, &wanted.user, &wanted.kind).await;
    Ok(Committed {
        id: wanted.id.to_owned(),
        position,
        quantity: wanted.quantity,
        late: wanted.late,
        remaining,
        replayed: false,
    })
}

/// Whoever commits again finds the same answer, also for a reservation that was unknown here.
fn remember(app: &App, wanted: &Wanted<'_>, position: i64) {
    let fate = Fate::Committed { quantity: wanted.quantity, position, late: wanted.late };
    let mut part = app.book.reservations.part(wanted.id);
    if part.get(wanted.id).is_some() {
        part.resolve(wanted.id, fate);
        return;
    }
    part.insert(
        &Arc::from(wanted.id),
        Known {
            user: Arc::from(&*wanted.user),
            kind: wanted.kind.as_str().into(),
            quantity: wanted.quantity,
            credits: Credits::ZERO,
            expires_ms: wanted.now.as_millisecond().saturating_add(TTL_MAX_MS),
            fate,
        },
    );
}

fn candidate(app: &App, wanted: &Wanted<'_>) -> Result<Candidate> {
    let Wanted { id, user, kind, quantity, at, late, now } = wanted;
    let weight = usage::weight(app, kind)
        .ok_or_else(|| rule("type.unknown", "/type", "expected an event type of the catalogue"))?;
    let cost = billing::limit::credits_for(*quantity, weight);
    if *quantity > usage::QUANTITY_MAX || cost.is_err() {
        return Err(Error::invalid("/quantity", "expected 0 to 1000000000"));
    }
    let event = at.unwrap_or(*now);
    if event < now.checked_sub(app.config.usage_window).map_err(Error::internal)? {
        return Err(rule("too_old", "/timestamp", "this is older than events may be"));
    }
    if event > now.checked_add(usage::AHEAD).map_err(Error::internal)? {
        return Err(rule("too_early", "/timestamp", "expected at most 5 minutes ahead"));
    }
    let mut entry = Entry {
        kind: Kind::Usage,
        user: user.clone(),
        event_type: kind.clone(),
        quantity: quantity.micro(),
        weight: weight.micro(),
        event_ms: event.as_millisecond(),
        received_ms: now.as_millisecond(),
        id: ids::entry_id(SPACE, id),
        fingerprint: 0,
        transaction_id: (*id).to_owned(),
        source: Source::Reservation,
        // Said in the log, so that the same answer can be given after a restart.
        body: late.then(|| LATE.to_owned()),
    };
    entry.fingerprint = ids::fingerprint(&entry, at.is_some());
    Ok(Candidate { entry, timed: at.is_some() })
}

/// The properties of a commit for which nothing was held any more.
const LATE: &str = r#"{"late":true}"#;

/// What a user has left; nothing where it cannot be said.
async fn remaining(app: &App, user: &str, kind: &str) -> Option<Credits> {
    let slot = limits::slot_of(app, user).await.ok()?;
    let demand = limits::demand(app, &slot, kind, Quantity::ZERO).ok()?;
    let answer = app.counters.check(&app.book, &slot, &demand).await.ok()?;
    answer.numbers.credits.map(|credits| credits.max(Credits::ZERO))
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
    let asked = id.to_owned();
    let row = app.db.read(move |tx| rows::get(tx, &asked)).await?;
    Ok(row.map(|row| known(&row)))
}

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

/// The commit of a reservation in the log, on whichever day of the window it happened.
async fn in_log(app: &App, id: &str, at: Option<Timestamp>) -> Result<Option<(Before, log::Logged)>> {
    let (now_ms, window_ms) = (app.clock.now().as_millisecond(), millis(app.config.usage_window)?);
    let (first, last) = match at {
        Some(at) => (at.as_millisecond(), at.as_millisecond()),
        None => (now_ms.saturating_sub(window_ms), now_ms.saturating_add(log::DAY_MS)),
    };
    let entry_id = ids::entry_id(SPACE, id);
    let days = first.div_euclid(log::DAY_MS)..=last.div_euclid(log::DAY_MS);
    let entry = app.db.read(move |tx| committed_on(tx, days.clone(), &entry_id)).await?;
    Ok(entry.map(|entry| {
        let (quantity, position) = (Quantity::from_micro(entry.quantity), entry.position);
        (Before { quantity, position, late: entry.body.as_deref() == Some(LATE) }, entry)
    }))
}

fn millis(length: Duration) -> Result<i64> {
    i64::try_from(length.as_millis()).map_err(Error::internal)
}

/// The newest first: that is where nearly all of them are.
fn committed_on(
    tx: &mut Tx<'_>,
    days: std::ops::RangeInclusive<i64>,
    id: &log::EntryId,
) -> Result<Option<log::Logged>> {
    for day in days.rev() {
        if let Some(known) = log::known(tx, day, id)? {
            return log::at(tx, known.position);
        }
    }
    Ok(None)
}

/// Frees what is held. Twice is once.
///
/// # Errors
/// `usage.conflict` where it was committed; not found where nobody knows of it.
pub async fn release(app: &App, id: &str) -> Result<()> {
    let committed = || resolved_otherwise("this reservation was committed");
    let Some(known) = find(app, id).await? else {
        return Err(if in_log(app, id, None).await?.is_some() { committed() } else { Error::NotFound });
    };
    match app.counters.release(&app.book, id, &known).await {
        Ok(Released::Before(Fate::Committing { .. } | Fate::Committed { .. })) => Err(committed()),
        // It was written down and is not held any more.
        Ok(Released::Unknown) if in_log(app, id, None).await?.is_some() => Err(committed()),
        Ok(Released::Now | Released::Unknown | Released::Before(Fate::Released | Fate::Held | Fate::Undecided)) => {
            Ok(())
        }
        Err(outage) => Err(Error::Upstream {
            who: crate::error::Upstream::Redis,
            code: "redis.unavailable",
            retry_after: Duration::from_secs(1),
            cause: Some(outage.into()),
        }),
    }
}

/// Writes down which reservations are open, so that a restart finds them.
pub async fn write_down(app: &App) -> Result<()> {
    let now_ms = app.clock.now().as_millisecond();
    let changes = app.book.reservations.changes(now_ms);
    let opened: Vec<Row> = changes.opened.iter().map(|(id, known)| row(id, known)).collect();
    let closed: Vec<String> = changes.closed.iter().map(ToString::to_string).collect();
    let written = app.db.write(move |tx| rows::save(tx, &opened, &closed, now_ms)).await;
    if written.is_err() {
        app.book.reservations.put_back(changes);
    }
    written
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

/// Those that the database has as open, and whose commit is not in the log.
pub(super) fn still_open(tx: &mut Tx<'_>, now_ms: i64) -> Result<Vec<Row>> {
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
