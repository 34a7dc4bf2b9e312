//! Corrections: what was recorded is never changed, another entry says what is to be said about it.

use billing::account::Account;
use billing::usage::{Credits, Quantity};
use jiff::Timestamp;

use super::naming::{Which, usage_named};
use super::{Candidate, PROPERTIES_MAX, Told, Verdict, ids, judging, recount};
use crate::app::App;
use crate::counters::reading::{self, Said};
use crate::error::{Error, Result};
use crate::store::Tx;
use crate::store::log::{self, Entry, EntryId, Kind, Logged, Source};
use crate::store::users::{self, User};

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
    let mut entry = Entry {
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
    entry.fingerprint = ids::fingerprint(&entry, false);
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
    let adjustment = Adjustment {
        user: told.user,
        event_type: told.kind,
        quantity: quantity.micro(),
        weight: weight.micro(),
        at_ms: at.as_millisecond(),
        is_timed: told.at.is_some(),
        id: told.transaction_id,
        source: told.source,
        note: note.to_owned(),
    };
    let entry = adjustment.entry(now.as_millisecond())?;
    if entry.event_ms > entry.received_ms && !is_named(app, &entry.id).await? {
        return Err(Error::invalid("/timestamp", "expected a time that is over"));
    }
    let user = owner(app, &entry.user).await?;
    correct(app, &user, entry, quantity, preview).await
}

/// What an entry says that adds to what a user has used of a type, or takes from it.
#[derive(Debug)]
pub(super) struct Adjustment {
    pub(super) user: String,
    pub(super) event_type: String,
    /// In millionths; less where negative.
    pub(super) quantity: i64,
    /// Credits for one unit, in millionths.
    pub(super) weight: i64,
    pub(super) at_ms: i64,
    /// Whether somebody said when: else it is the same whenever it is said.
    pub(super) is_timed: bool,
    pub(super) id: String,
    pub(super) source: Source,
    /// Why, for whoever reads the log.
    pub(super) note: String,
}

impl Adjustment {
    pub(super) fn entry(self, received_ms: i64) -> Result<Entry> {
        let body = serde_json::json!({ "note": self.note }).to_string();
        if body.len() > PROPERTIES_MAX {
            return Err(Error::invalid("/note", "expected at most 16 KiB"));
        }
        let mut entry = Entry {
            kind: Kind::Adjust,
            user: self.user,
            event_type: self.event_type,
            quantity: self.quantity,
            weight: self.weight,
            event_ms: self.at_ms,
            received_ms,
            id: ids::entry_id("adjust", &self.id),
            fingerprint: 0,
            transaction_id: self.id,
            source: self.source,
            body: Some(body),
        };
        entry.fingerprint = ids::fingerprint(&entry, self.is_timed);
        Ok(entry)
    }
}

/// Whether the log has an entry of this name: a correction or a pack.
pub(super) async fn is_named(app: &App, id: &EntryId) -> Result<bool> {
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
    Ok(Some(Effect::In {
        period,
        late: folded.late,
        credits: Credits::of_pico(folded.cost_pico).map_err(Error::internal)?,
    }))
}

pub(super) async fn append_one(app: &App, entry: Entry) -> Result<Option<Verdict>> {
    // Its id is known by its name and not by a day, so no other day is searched for it.
    Ok(app.usage.append(app, vec![Candidate { entry, timed: true }]).await?.pop())
}
