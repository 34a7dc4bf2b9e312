//! Corrections: what was recorded is never changed, another entry says what is to be said about it. And history from
//! elsewhere.

use billing::account::Account;
use billing::entry::Pack;
use billing::usage::{Credits, Quantity};
use jiff::Timestamp;

use super::naming::{Which, usage_named};
use super::{Candidate, PROPERTIES_MAX, Told, Verdict, ids, judging, recount};
use crate::app::App;
use crate::counters::reading::{self, Said};
use crate::error::{Error, Result};
use crate::store::Tx;
use crate::store::log::{self, DAY_MS, Entry, EntryId, Kind, Logged, Source};
use crate::store::users::{self, User};

/// Millionths of a microcredit.
const PICO: i128 = 1_000_000;
/// The most credits of a pack: sums of many can still be counted.
const PACK_MAX: Credits = Credits::from_micro(1_000_000_000_000 * 1_000_000);

/// The entry that a transaction id names; `near` its time, where the same id was used on several days.
pub async fn find(app: &App, transaction_id: &str, near: Option<Timestamp>) -> Result<Option<Logged>> {
    let id = ids::entry_id("", transaction_id);
    let now = app.clock.now().as_millisecond();
    let days: Vec<i64> = if let Some(at) = near {
        log::days(at.as_millisecond()).to_vec()
    } else {
        let window = i64::try_from(app.config.usage_window.as_secs() / 86_400).unwrap_or(35);
        let today = now.div_euclid(DAY_MS);
        (today - window - 1..=today + 1).rev().collect()
    };
    app.db
        .read(move |tx| {
            for day in &days {
                if let Some(known) = log::known(tx, *day, &id)? {
                    return log::at(tx, known.position);
                }
            }
            Ok(None)
        })
        .await
}

/// What a void of an event would do, and what it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    pub user: String,
    pub event_type: String,
    /// How the quantity changes.
    pub quantity: Quantity,
    pub transaction_id: String,
    /// Nothing where an account cannot hold it.
    pub effect: Option<Effect>,
    /// Nothing was written: this is what would be.
    pub preview: bool,
    pub verdict: Option<Verdict>,
}

/// Where a correction counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// None: what it takes back was shown on its day and counted nothing.
    Nothing,
    /// In the period that began then. `late`: its own is closed, and this is the running one.
    In { period: Timestamp, late: bool, credits: Credits },
}

/// Takes an event back: what it counted, in the period where it counted. The same event is taken back at most once.
pub async fn void(app: &App, transaction_id: &str, which: impl Into<Which>, preview: bool) -> Result<Correction> {
    let voided = usage_named(app, transaction_id, which.into()).await?;
    let user = owner(app, &voided.user).await?;
    let counted_ms = counted_in(app, &user, &voided).await?;
    let entry = Entry {
        kind: Kind::Void,
        user: voided.user.clone(),
        event_type: voided.event_type.clone(),
        quantity: voided.quantity,
        weight: voided.weight,
        event_ms: voided.event_ms,
        received_ms: app.clock.now().as_millisecond(),
        id: void_id(voided.position),
        fingerprint: 0,
        transaction_id: transaction_id.to_owned(),
        source: Source::CommandLine,
        body: Some(reading::void_body(counted_ms, voided.position)),
    };
    let quantity = Quantity::from_micro(-voided.quantity);
    correct(app, &user, entry, quantity, preview).await
}

/// The first millisecond of the period in which an event counts; nothing where it counted nothing. An account knows that of its
/// running period, and what has moved there since. Only the log can tell what an event of an older period did, or one that might
/// have been shown only.
async fn counted_in(app: &App, user: &User, event: &Logged) -> Result<Option<i64>> {
    if !event.source.is_history()
        && let slot = super::account(app, user).await?
        && let state = slot.lock()
        && state.fault().is_none()
        && let Some(period_ms) = state.account.running_since(event.event_ms)
    {
        return Ok(Some(period_ms));
    }
    let event = event.clone();
    app.db
        .read(move |tx| {
            let before = event.previous.unwrap_or(event.position - 1);
            let slot = recount::account(tx, &event.user, before)?;
            let (said, account) = (Said::from(&event), &mut slot.lock().account);
            if said.is_only_shown(account) {
                return Ok(None);
            }
            // One that could not be counted is named by `doctor`.
            Ok(said.read(|entry| account.fold(entry))?.ok().map(|folded| folded.period))
        })
        .await
}

fn void_id(position: i64) -> EntryId {
    ids::entry_id("void", &position.to_string())
}

/// Whether the event at this place in the log was taken back.
pub fn is_voided(tx: &mut Tx<'_>, position: i64) -> Result<bool> {
    Ok(log::known(tx, log::NAMED, &void_id(position))?.is_some())
}

/// What is made by hand has an id of the same kind as an event.
pub fn named(text: &str, pointer: &str) -> Result<()> {
    if super::may_name(text) { Ok(()) } else { Err(Error::invalid(pointer, super::NAME)) }
}

/// Adds to what a user has used of a type, or takes from it.
pub async fn adjust(app: &App, told: Told, less: bool, note: &str, preview: bool) -> Result<Correction> {
    named(&told.transaction_id, "/id")?;
    let weight = super::weight(app, &told.kind)
        .ok_or_else(|| Error::invalid("/type", "expected an event type of the catalogue"))?;
    let now = app.clock.now();
    let at = told.at.unwrap_or(now);
    let quantity = if less { Quantity::from_micro(-told.quantity.micro()) } else { told.quantity };
    let body = serde_json::json!({ "note": note }).to_string();
    if body.len() > PROPERTIES_MAX {
        return Err(Error::invalid("/note", "expected at most 16 KiB"));
    }
    let mut entry = Entry {
        kind: Kind::Adjust,
        user: told.user,
        event_type: told.kind,
        quantity: quantity.micro(),
        weight: weight.micro(),
        event_ms: at.as_millisecond(),
        received_ms: now.as_millisecond(),
        id: ids::entry_id("adjust", &told.transaction_id),
        fingerprint: 0,
        transaction_id: told.transaction_id,
        source: told.source,
        body: Some(body),
    };
    entry.fingerprint = ids::fingerprint(&entry, told.at.is_some());
    if entry.event_ms > entry.received_ms && !is_named(app, &entry.id).await? {
        return Err(Error::invalid("/timestamp", "expected a time that is over"));
    }
    let user = owner(app, &entry.user).await?;
    correct(app, &user, entry, quantity, preview).await
}

/// Whether the log has an entry of this name: a correction or a pack.
async fn is_named(app: &App, id: &EntryId) -> Result<bool> {
    let id = *id;
    app.db.read(move |tx| Ok(log::known(tx, log::NAMED, &id)?.is_some())).await
}

async fn owner(app: &App, user: &str) -> Result<User> {
    let user = user.to_owned();
    let found = app.db.read(move |tx| users::get(tx, &user)).await?;
    found.ok_or_else(|| Error::invalid("/user_id", "expected the id of a user"))
}

async fn correct(app: &App, user: &User, entry: Entry, quantity: Quantity, preview: bool) -> Result<Correction> {
    let account = super::account(app, user).await?.lock().account.clone();
    Ok(Correction {
        user: entry.user.clone(),
        event_type: entry.event_type.clone(),
        quantity,
        transaction_id: entry.transaction_id.clone(),
        effect: effect(&account, &entry)?,
        preview,
        verdict: if preview { foreseen(app, &account, entry).await? } else { append_one(app, entry).await? },
    })
}

/// What would become of it, unless it would be recorded.
async fn foreseen(app: &App, account: &Account, entry: Entry) -> Result<Option<Verdict>> {
    let refusal = judging::refusal(account, &entry, app.clock.now())?;
    let candidate = Candidate { entry, timed: true };
    let before = app.db.read(move |tx| judging::known_before(tx, &candidate)).await?;
    Ok(before.or(refusal))
}

/// Where it would count, as the account stands.
fn effect(account: &Account, entry: &Entry) -> Result<Option<Effect>> {
    let said = Said::at(account.position() + 1, entry);
    if said.is_only_shown(account) {
        return Ok(Some(Effect::Nothing));
    }
    let Ok(folded) = said.read(|entry| account.clone().fold(entry))? else { return Ok(None) };
    let period = Timestamp::from_millisecond(folded.period).map_err(Error::internal)?;
    Ok(Some(Effect::In { period, late: folded.late, credits: shown(folded.cost_pico)? }))
}

/// Credits, rounded half up whatever their sign.
fn shown(cost_pico: i128) -> Result<Credits> {
    let micro = (cost_pico.abs() + PICO / 2) / PICO * cost_pico.signum();
    i64::try_from(micro).map(Credits::from_micro).map_err(Error::internal)
}

async fn append_one(app: &App, entry: Entry) -> Result<Option<Verdict>> {
    // Its id is known by its name and not by a day, so no other day is searched for it.
    Ok(app.usage.append(app, vec![Candidate { entry, timed: true }]).await?.pop())
}

/// Gives a user a pack of credits. The same pack again is a duplicate, whenever that is said.
pub async fn grant(app: &App, user: &str, pack: &Pack) -> Result<Option<Verdict>> {
    named(&pack.id, "/id")?;
    if pack.amount <= Credits::ZERO || pack.amount > PACK_MAX {
        return Err(Error::invalid("/credits", "expected more than 0, at most 1000000000000"));
    }
    let mut entry = pack_entry(app, Kind::Grant, user, &pack.id, pack.encode());
    let is_over = pack.expires_ms.is_some_and(|expires_ms| expires_ms <= entry.received_ms);
    if is_over && !is_named(app, &entry.id).await? {
        return Err(Error::invalid("/expires", "expected a time to come"));
    }
    let content = Entry { body: Some(Pack { granted_ms: 0, ..pack.clone() }.encode()), ..entry.clone() };
    entry.fingerprint = ids::fingerprint(&content, false);
    append_one(app, entry).await
}

/// Takes a pack away, with what is left of it.
pub async fn revoke(app: &App, user: &str, pack: &str) -> Result<Option<Verdict>> {
    named(pack, "/id")?;
    if !is_named(app, &pack_id(Kind::Grant, user, pack)).await? {
        return Err(Error::NotFound);
    }
    append_one(app, pack_entry(app, Kind::Revoke, user, pack, pack.to_owned())).await
}

/// A pack's time is over.
pub async fn expire(app: &App, user: &str, pack: &str) -> Result<Option<Verdict>> {
    append_one(app, pack_entry(app, Kind::Expire, user, pack, pack.to_owned())).await
}

fn pack_id(kind: Kind, user: &str, pack: &str) -> EntryId {
    ids::entry_id(kind.as_str(), &format!("{user} {pack}"))
}

fn pack_entry(app: &App, kind: Kind, user: &str, pack: &str, body: String) -> Entry {
    let now_ms = app.clock.now().as_millisecond();
    let mut entry = Entry {
        kind,
        user: user.to_owned(),
        event_type: String::new(),
        quantity: 0,
        weight: Credits::ZERO.micro(),
        event_ms: now_ms,
        received_ms: now_ms,
        id: pack_id(kind, user, pack),
        fingerprint: 0,
        transaction_id: pack.to_owned(),
        source: if kind == Kind::Expire { Source::Program } else { Source::CommandLine },
        body: Some(body),
    };
    entry.fingerprint = ids::fingerprint(&entry, false);
    entry
}

/// Brings in history of any age under the name of a run. The same run again adds nothing. Where an event's period is over it is
/// shown on its day and counts for nothing else; an event that came live before is a duplicate.
pub async fn backfill(app: &App, run: &str, told: Vec<Told>) -> Result<Vec<Verdict>> {
    let (verdicts, candidates) = of_history(app, told);
    tracing::info!(run, events = candidates.len(), "history is brought in");
    Ok(in_order(verdicts, app.usage.append(app, candidates).await?))
}

/// What would become of history, each call for itself.
pub async fn try_backfill(app: &App, told: Vec<Told>) -> Result<Vec<Verdict>> {
    let (verdicts, candidates) = of_history(app, told);
    Ok(in_order(verdicts, app.usage.try_out(app, candidates).await?))
}

/// What is to be appended of history, and what is refused by itself, in its place.
fn of_history(app: &App, told: Vec<Told>) -> (Vec<Option<Verdict>>, Vec<Candidate>) {
    let now = app.clock.now();
    let mut candidates = Vec::with_capacity(told.len());
    let mut judge = |event: Told| {
        let event = Told { source: Source::Backfill, at: Some(event.at.unwrap_or(now)), ..event };
        super::judged(app, event, now, Timestamp::MIN..=now).map(|candidate| candidates.push(candidate)).err()
    };
    (told.into_iter().map(&mut judge).collect(), candidates)
}

fn in_order(refused: Vec<Option<Verdict>>, said: Vec<Verdict>) -> Vec<Verdict> {
    let mut said = said.into_iter();
    refused.into_iter().filter_map(|verdict| verdict.or_else(|| said.next())).collect()
}
