//! Events of Stripe's, kept until they have been applied and for a while after; and how far the list of them was read.

use super::db::{Row, args};
use super::mirror::Resource;
use super::{Tx, revenue};
use crate::error::{Error, Result};

const WAITING: i64 = 0;
const APPLIED: i64 = 1;
const QUARANTINED: i64 = 2;
const DEAD: i64 = 3;

/// By which way an event came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Webhook,
    Sweep,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// `reason` is why the last attempt failed.
    Waiting { attempts: u32, next_ms: i64, reason: Option<String> },
    /// `note` says why nothing was to be done.
    Applied { at_ms: i64, note: Option<String> },
    /// Not applied on purpose.
    Quarantined { reason: String },
    /// Every attempt failed.
    Dead { at_ms: i64, attempts: u32, reason: String },
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    pub resource: Resource,
    pub id: String,
}

/// An event, without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub id: String,
    pub kind: String,
    /// Nothing where nothing of it is mirrored.
    pub target: Option<Target>,
    /// In Stripe's seconds.
    pub created: i64,
    pub api_version: Option<String>,
    pub livemode: Option<bool>,
    pub account: Option<String>,
    pub source: Source,
    pub received_ms: i64,
    pub state: State,
}

/// Keeps an event, unless it is there already; whether it is new.
pub fn keep(tx: &mut Tx<'_>, event: &Event, raw: &str) -> Result<bool> {
    let columns = Columns::of(&event.state);
    let kept = tx.run(
        "INSERT INTO webhook_events (id, type, resource, object_id, created, api_version, livemode, account, source,
             received_ms, state, attempts, next_ms, settled_ms, reason, raw)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16) ON CONFLICT (id) DO NOTHING",
        args![
            &event.id,
            &event.kind,
            event.target.as_ref().map(|target| target.resource.name()),
            event.target.as_ref().map(|target| target.id.clone()),
            event.created,
            &event.api_version,
            event.livemode,
            &event.account,
            matches!(event.source, Source::Sweep),
            event.received_ms,
            columns.state,
            columns.attempts,
            columns.next_ms,
            columns.settled_ms,
            columns.reason,
            raw
        ],
    )?;
    Ok(kept == 1)
}

/// Lets an event that is to be applied take the place of itself where that is quarantined: it came by a way on which nothing
/// stands against it. Whether it did.
pub fn take_over(tx: &mut Tx<'_>, event: &Event, raw: &str) -> Result<bool> {
    if !matches!(event.state, State::Waiting { .. }) {
        return Ok(false);
    }
    let taken = tx.run(
        "UPDATE webhook_events SET raw = ?2, source = ?3, api_version = ?4 WHERE id = ?1 AND state = 2",
        args![&event.id, raw, matches!(event.source, Source::Sweep), &event.api_version],
    )?;
    if taken == 1 {
        judge_again(tx, event)?;
    }
    Ok(taken == 1)
}

/// A state as the columns hold it.
struct Columns {
    state: i64,
    attempts: u32,
    next_ms: i64,
    settled_ms: Option<i64>,
    reason: Option<String>,
}

impl Columns {
    fn of(state: &State) -> Self {
        let columns = |state, attempts, next_ms, settled_ms, reason: Option<&String>| Self {
            state,
            attempts,
            next_ms,
            settled_ms,
            reason: reason.cloned(),
        };
        match state {
            State::Waiting { attempts, next_ms, reason } => {
                columns(WAITING, *attempts, *next_ms, None, reason.as_ref())
            }
            State::Applied { at_ms, note } => columns(APPLIED, 0, 0, Some(*at_ms), note.as_ref()),
            State::Quarantined { reason } => columns(QUARANTINED, 0, 0, None, Some(reason)),
            State::Dead { at_ms, attempts, reason } => columns(DEAD, *attempts, 0, Some(*at_ms), Some(reason)),
        }
    }
}

/// Gives an event another state.
pub fn set_state(tx: &mut Tx<'_>, id: &str, state: &State) -> Result<()> {
    let columns = Columns::of(state);
    tx.run(
        "UPDATE webhook_events SET state = ?2, attempts = ?3, next_ms = ?4, settled_ms = ?5, reason = ?6 WHERE id = ?1",
        args![id, columns.state, columns.attempts, columns.next_ms, columns.settled_ms, columns.reason],
    )?;
    Ok(())
}

/// Gives an event another target and another state.
pub fn judge_again(tx: &mut Tx<'_>, event: &Event) -> Result<()> {
    tx.run(
        "UPDATE webhook_events SET resource = ?2, object_id = ?3 WHERE id = ?1",
        args![
            &event.id,
            event.target.as_ref().map(|target| target.resource.name()),
            event.target.as_ref().map(|target| target.id.clone())
        ],
    )?;
    set_state(tx, &event.id, &event.state)
}

/// Objects with events that are due, those that have waited longest first; each once, `most` at most.
pub fn due(tx: &mut Tx<'_>, now_ms: i64, most: usize) -> Result<Vec<Target>> {
    let rows = tx.rows(
        "SELECT resource, object_id FROM webhook_events WHERE state = 0 AND next_ms <= ?1 ORDER BY next_ms, id LIMIT ?2",
        args![now_ms, i64::try_from(most * 8).unwrap_or(i64::MAX)],
    )?;
    let mut targets = Vec::new();
    for row in rows {
        let target = target(row.text_or_null(0)?, row.text_or_null(1)?)?;
        let target = target.ok_or_else(|| Error::internal("impossible row: an event waits for no object"))?;
        if targets.len() < most && !targets.contains(&target) {
            targets.push(target);
        }
    }
    Ok(targets)
}

/// Says that somebody is at the events of an object until then: nobody else takes them up meanwhile.
pub fn hold(tx: &mut Tx<'_>, target: &Target, until_ms: i64) -> Result<()> {
    tx.run(
        "UPDATE webhook_events SET next_ms = ?3 WHERE state = 0 AND object_id = ?1 AND resource = ?2",
        args![&target.id, target.resource.name(), until_ms],
    )?;
    Ok(())
}

/// The same for those that are held. What has come meanwhile is due as soon as the object is free.
pub fn go_on_holding(tx: &mut Tx<'_>, target: &Target, now_ms: i64, until_ms: i64) -> Result<()> {
    tx.run(
        "UPDATE webhook_events SET next_ms = ?4 WHERE state = 0 AND object_id = ?1 AND resource = ?2 AND next_ms > ?3",
        args![&target.id, target.resource.name(), now_ms, until_ms],
    )?;
    Ok(())
}

/// Whether any event is due.
pub fn any_due(tx: &mut Tx<'_>, now_ms: i64) -> Result<bool> {
    Ok(tx.row("SELECT 1 FROM webhook_events WHERE state = 0 AND next_ms <= ?1 LIMIT 1", args![now_ms])?.is_some())
}

/// Stripe's second of the oldest event that waits for an object of a list, or that could not be applied and is younger than
/// `since`: what came before that, a full sync has seen.
pub fn oldest_unapplied(tx: &mut Tx<'_>, resource: Resource, since: i64) -> Result<Option<i64>> {
    let waiting = "SELECT MIN(created) FROM webhook_events WHERE state = 0 AND resource = ?1";
    let dead =
        "SELECT MIN(created) FROM webhook_events WHERE state >= 2 AND state = 3 AND resource = ?1 AND created > ?2";
    let first = |row: Option<Row>| row.map(|row| row.int_or_null(0)).transpose().map(Option::flatten);
    let waiting = first(tx.row(waiting, args![resource.name()])?)?;
    let dead = first(tx.row(dead, args![resource.name(), since])?)?;
    Ok(waiting.into_iter().chain(dead).min())
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, type, resource, object_id, created, api_version, livemode, account, source, received_ms, state, \
             attempts, next_ms, settled_ms, reason FROM webhook_events ",
            $rest
        )
    };
}

/// Every event that waits for an object, whether it is due or not.
pub fn waiting_of(tx: &mut Tx<'_>, target: &Target) -> Result<Vec<Event>> {
    let sql = select!("WHERE state = 0 AND object_id = ?1 AND resource = ?2 ORDER BY created, id");
    tx.rows(sql, args![&target.id, target.resource.name()])?.iter().map(event).collect()
}

/// The body of an event.
pub fn raw(tx: &mut Tx<'_>, id: &str) -> Result<Option<String>> {
    tx.row("SELECT raw FROM webhook_events WHERE id = ?1", args![id])?.map(|row| row.text(0)).transpose()
}

pub fn get(tx: &mut Tx<'_>, id: &str) -> Result<Option<Event>> {
    tx.row(select!("WHERE id = ?1"), args![id])?.as_ref().map(event).transpose()
}

/// Which events a list shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    All,
    Waiting,
    Applied,
    Quarantined,
    Dead,
}

/// A page, newest first: those that came before `before`.
pub fn page(tx: &mut Tx<'_>, which: Which, before: (i64, &str), limit: i64) -> Result<Vec<Event>> {
    // The numbers stand in the text, or no index that holds a few rows only would be found to fit.
    let (sql, state) = match which {
        Which::All => (select!("WHERE (received_ms, id) < (?1, ?2) ORDER BY received_ms DESC, id DESC LIMIT ?3"), None),
        Which::Applied => (
            select!("WHERE state = 1 AND (received_ms, id) < (?1, ?2) ORDER BY received_ms DESC, id DESC LIMIT ?3"),
            None,
        ),
        Which::Waiting => (
            select!("WHERE state = 0 AND (received_ms, id) < (?1, ?2) ORDER BY received_ms DESC, id DESC LIMIT ?3"),
            None,
        ),
        Which::Quarantined => (REFUSED, Some(QUARANTINED)),
        Which::Dead => (REFUSED, Some(DEAD)),
    };
    let rows = match state {
        Some(state) => tx.rows(sql, args![before.0, before.1, limit, state])?,
        None => tx.rows(sql, args![before.0, before.1, limit])?,
    };
    rows.iter().map(event).collect()
}

const REFUSED: &str = select!(
    "WHERE state >= 2 AND state = ?4 AND (received_ms, id) < (?1, ?2) ORDER BY received_ms DESC, id DESC LIMIT ?3"
);

/// How many events are in each state that somebody may have to look at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub waiting: u64,
    pub quarantined: u64,
    pub dead: u64,
    /// When the event came that has waited longest.
    pub oldest_ms: Option<i64>,
}

pub fn counts(tx: &mut Tx<'_>) -> Result<Counts> {
    let mut counts = Counts::default();
    if let Some(row) = tx.row("SELECT COUNT(*), MIN(received_ms) FROM webhook_events WHERE state = 0", args![])? {
        (counts.waiting, counts.oldest_ms) = (row.count(0)?, row.int_or_null(1)?);
    }
    for row in tx.rows("SELECT state, COUNT(*) FROM webhook_events WHERE state >= 2 GROUP BY state", args![])? {
        match row.int(0)? {
            QUARANTINED => counts.quarantined = row.count(1)?,
            _ => counts.dead = row.count(1)?,
        }
    }
    Ok(counts)
}

/// Forgets events that were applied or quarantined before `before_ms`; how many.
pub fn forget(tx: &mut Tx<'_>, before_ms: i64, most: i64) -> Result<u64> {
    let rows = tx.rows(
        "DELETE FROM webhook_events WHERE id IN
             (SELECT id FROM webhook_events WHERE received_ms < ?1 AND state IN (1, 2) ORDER BY received_ms, id LIMIT ?2)
         RETURNING id, resource, object_id",
        args![before_ms, most],
    )?;
    for row in &rows {
        if let Some(Target { resource: Resource::Subscriptions, id }) =
            target(row.text_or_null(1)?, row.text_or_null(2)?)?
        {
            revenue::forget(tx, &id, &row.text(0)?)?;
        }
    }
    Ok(rows.len() as u64)
}

fn target(resource: Option<String>, id: Option<String>) -> Result<Option<Target>> {
    let Some((name, id)) = resource.zip(id) else { return Ok(None) };
    let resource = Resource::ALL.into_iter().find(|resource| resource.name() == name);
    let resource = resource.ok_or_else(|| Error::internal(format!("impossible row: no list is called {name}")))?;
    Ok(Some(Target { resource, id }))
}

fn event(row: &Row) -> Result<Event> {
    let attempts = u32::try_from(row.count(11)?).unwrap_or(u32::MAX);
    let (next_ms, at_ms, reason) = (row.int(12)?, row.int_or_null(13)?, row.text_or_null(14)?);
    let state = match (row.int(10)?, at_ms, reason) {
        (WAITING, None, reason) => State::Waiting { attempts, next_ms, reason },
        (APPLIED, Some(at_ms), note) => State::Applied { at_ms, note },
        (QUARANTINED, None, Some(reason)) => State::Quarantined { reason },
        (DEAD, Some(at_ms), Some(reason)) => State::Dead { at_ms, attempts, reason },
        _ => return Err(Error::internal("impossible row: the state of an event does not fit its facts")),
    };
    Ok(Event {
        id: row.text(0)?,
        kind: row.text(1)?,
        target: target(row.text_or_null(2)?, row.text_or_null(3)?)?,
        created: row.int(4)?,
        api_version: row.text_or_null(5)?,
        livemode: row.int_or_null(6)?.map(|flag| flag == 1),
        account: row.text_or_null(7)?,
        source: if row.flag(8)? { Source::Sweep } else { Source::Webhook },
        received_ms: row.int(9)?,
        state,
    })
}

/// How far the list of events was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sweep {
    /// An event to go on from, and Stripe's second of it; nothing before the first sweep.
    pub cursor: Option<(String, i64)>,
    /// When the last sweep that came to the end of the list began.
    pub swept_at: Option<jiff::Timestamp>,
    /// How often a gap made us read everything.
    pub resyncs: u64,
    /// Why the last sweep did not come to the end.
    pub fault: Option<String>,
}

pub fn sweep(tx: &mut Tx<'_>) -> Result<Sweep> {
    let row =
        tx.row("SELECT cursor, cursor_created, swept_at, resyncs, fault FROM event_sweep WHERE one = 1", args![])?;
    let row = row.ok_or_else(|| Error::internal("event_sweep is empty"))?;
    Ok(Sweep {
        cursor: row.text_or_null(0)?.zip(row.int_or_null(1)?),
        swept_at: row.instant_or_null(2)?,
        resyncs: row.count(3)?,
        fault: row.text_or_null(4)?,
    })
}

pub fn save_sweep(tx: &mut Tx<'_>, sweep: &Sweep) -> Result<()> {
    tx.run(
        "UPDATE event_sweep SET cursor = ?1, cursor_created = ?2, swept_at = ?3, resyncs = ?4, fault = ?5 WHERE one = 1",
        args![
            sweep.cursor.as_ref().map(|(id, _)| id.clone()),
            sweep.cursor.as_ref().map(|(_, created)| *created),
            sweep.swept_at,
            i64::try_from(sweep.resyncs).unwrap_or(i64::MAX),
            &sweep.fault
        ],
    )?;
    Ok(())
}
