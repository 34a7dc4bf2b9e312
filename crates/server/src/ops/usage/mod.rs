//! Usage: recording events, and what a user has used of what they have.

pub mod adoption;
pub(super) mod batch;
mod bounds;
pub mod corrections;
mod draft;
pub mod following;
mod group;
pub mod history;
pub mod ids;
mod judging;
pub mod merging;
mod moving;
pub mod naming;
pub mod packs;
mod people;
pub mod plans;
pub mod properties;
pub mod recount;
mod sameness;
pub mod shown;
pub mod totals;
pub mod upkeep;
pub mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use billing::account::Sums;
use billing::time::Window;
use billing::usage::{Balance, Credits, Quantity};
use jiff::{SignedDuration, Timestamp};

use super::mirror::{self, Mirrored};
use super::users;
use crate::app::App;
use crate::counters::book::Slot;
use crate::error::{Error, Result};
use crate::store::accounts::{self, Stand};
use crate::store::log::{self, Entry, Kind, Logged, Source};
use crate::store::mirror::Resource;
use crate::store::users::User;
pub use writer::{Candidate, Verdict};

/// How far ahead of our clock an event may be.
pub const AHEAD: SignedDuration = SignedDuration::from_mins(5);
/// The greatest quantity of one event, in units.
pub const QUANTITY_MAX: Quantity = Quantity::from_micro(1_000_000_000 * 1_000_000);
/// Bytes of an event's properties, whatever way they come by.
const PROPERTIES_MAX: usize = properties::FOREIGN_MAX;

/// What is expected of a text that names something: an id, a user, a type.
pub const NAME: &str = "expected 1 to 255 bytes, no control characters among them";

/// Whether a text can name something.
pub fn may_name(text: &str) -> bool {
    // Looked at to the end, not searched: so the processor looks at many bytes at once.
    let odd = text.bytes().fold(false, |odd, byte| odd | byte.is_ascii_control());
    let is_odd = || odd || (!text.is_ascii() && text.chars().any(char::is_control));
    !text.is_empty() && text.len() <= 255 && !is_odd()
}

/// An event as its sender tells it.
#[derive(Debug, Clone)]
pub struct Told {
    pub transaction_id: String,
    /// Whose id that is, where it is not unique by itself: a CloudEvent's `source`, a subscription of Lago's.
    pub producer: Option<String>,
    pub user: String,
    pub kind: String,
    pub quantity: Quantity,
    /// Nothing where a foreign wire has left it out: then it is now.
    pub at: Option<Timestamp>,
    /// JSON text of an object.
    pub properties: Option<String>,
    pub source: Source,
}

/// Records events: each gets its own verdict, and a good one counts even where others fail.
pub async fn record(app: &App, told: Vec<Told>) -> Result<Vec<Verdict>> {
    let count = told.len();
    let mut candidates = Vec::with_capacity(count);
    let mut refused = Vec::new();
    for (place, judged) in judged_live(app, told)?.enumerate() {
        match judged {
            Ok(candidate) => candidates.push(candidate),
            Err(verdict) => refused.push((place, verdict)),
        }
    }
    let said = if candidates.is_empty() {
        Vec::new()
    } else {
        app.usage.append(app, candidates).await.inspect_err(|error| note_unread(app, error, count))?
    };
    let verdicts = if refused.is_empty() {
        said
    } else {
        let (mut said, mut refused) = (said.into_iter(), refused.into_iter().peekable());
        let verdict = |place| match refused.next_if(|(refused, _)| *refused == place) {
            Some((_, verdict)) => Some(verdict),
            None => said.next(),
        };
        (0..count).filter_map(verdict).collect()
    };
    note_refusals(app, &verdicts);
    Ok(verdicts)
}

/// The same of so many that nobody has judged: what came could not be read, or could not be recorded.
pub fn note_unread(app: &App, error: &Error, times: usize) {
    app.usage.refusals.add(error.code(), u64::try_from(times).unwrap_or_default());
}

/// Whoever sends events may not look at the verdicts of a batch: the operator sees how many there were.
pub fn note_refusals<'v>(app: &App, verdicts: impl IntoIterator<Item = &'v Verdict>) {
    for verdict in verdicts {
        match verdict {
            Verdict::Recorded { .. } | Verdict::Duplicate { .. } => {}
            Verdict::Conflict { .. } => app.usage.refusals.add("usage.conflict", 1),
            Verdict::Refused { code, .. } => app.usage.refusals.add(code, 1),
        }
    }
}

/// Records all of the events, or none: then it says of which, by their place, why not.
pub async fn record_all(app: &App, told: Vec<Told>) -> Result<Result<Vec<i64>, BTreeMap<usize, Verdict>>> {
    let mut candidates = Vec::with_capacity(told.len());
    let mut faults = BTreeMap::new();
    for (place, judged) in judged_live(app, told)?.enumerate() {
        match judged {
            Ok(candidate) => candidates.push(candidate),
            Err(refused) => drop(faults.insert(place, refused)),
        }
    }
    if !faults.is_empty() {
        return Ok(Err(faults));
    }
    let mut positions = Vec::with_capacity(candidates.len());
    let count = candidates.len();
    let said = app.usage.append_all(app, candidates).await.inspect_err(|error| note_unread(app, error, count))?;
    for (place, verdict) in said.into_iter().enumerate() {
        match verdict {
            Verdict::Recorded { position, .. } => positions.push(position),
            fault => drop(faults.insert(place, fault)),
        }
    }
    Ok(if faults.is_empty() { Ok(positions) } else { Err(faults) })
}

/// What can be said without the log of events that happen now.
fn judged_live(app: &App, told: Vec<Told>) -> Result<impl Iterator<Item = Result<Candidate, Verdict>>> {
    let now = app.clock.now();
    let earliest = now.checked_sub(app.config.usage_window).map_err(Error::internal)?;
    let latest = now.checked_add(AHEAD).map_err(Error::internal)?;
    Ok(told.into_iter().map(move |event| judged(app, event, now, earliest..=latest)))
}

/// What can be said of an event without the log.
fn judged(
    app: &App,
    told: Told,
    now: Timestamp,
    window: std::ops::RangeInclusive<Timestamp>,
) -> Result<Candidate, Verdict> {
    let refused = |code, pointer, detail| Err(Verdict::Refused { code, pointer, detail });
    if !may_name(&told.transaction_id) {
        return refused("invalid", "/transaction_id", NAME);
    }
    if !told.source.is_wire()
        && let Some(Err(detail)) = told.properties.as_deref().map(properties::judge)
    {
        return refused("invalid", "/properties", detail);
    }
    let Some(kind) = app.catalogue.events.get(&*told.kind) else {
        return refused("type.unknown", "/type", "expected an event type of the catalogue");
    };
    if told.quantity > QUANTITY_MAX || told.quantity < Quantity::ZERO {
        return refused("invalid", "/quantity", "expected 0 to 1000000000");
    }
    if told.properties.as_ref().is_some_and(|text| text.len() > PROPERTIES_MAX) {
        return refused("invalid", "/properties", "expected at most 16 KiB of JSON");
    }
    let at = told.at.unwrap_or(now);
    if at < *window.start() {
        return refused(
            "too_old",
            "/timestamp",
            "this is older than events may be; history enters by billhook usage backfill",
        );
    }
    if at > *window.end() {
        let is_history = told.source.is_history();
        let detail = if is_history { "expected a time that is over" } else { "expected at most 5 minutes ahead" };
        return refused("too_early", "/timestamp", detail);
    }
    let timed = told.at.is_some();
    let mut entry = Entry {
        kind: Kind::Usage,
        id: ids::event_id(told.producer.as_deref(), &told.transaction_id),
        user: told.user,
        event_type: told.kind,
        quantity: told.quantity.micro(),
        weight: kind.credits.micro(),
        event_ms: at.as_millisecond(),
        received_ms: now.as_millisecond(),
        fingerprint: 0,
        transaction_id: told.transaction_id,
        source: told.source,
        body: told.properties,
    };
    entry.fingerprint = ids::fingerprint(&entry, timed);
    Ok(Candidate { entry, timed })
}

/// The account of a user: from memory, from the database, or as it would begin now. To be looked at, not to be counted on:
/// nothing is written and nothing new is kept.
pub async fn account(app: &App, user: &User) -> Result<Arc<Slot>> {
    loop {
        follow_others(app).await?;
        if let Some(slot) = app.book.get(&user.id) {
            return Ok(slot);
        }
        let edition = app.book.edition();
        let (slot, _) = read_account(app, user).await?;
        if app.book.is_whole() && app.book.edition() == edition {
            return Ok(slot);
        }
    }
}

/// The same account for everybody, kept in memory from now on: what is held of it is held of the one that is counted on.
pub async fn kept_account(app: &App, user: &User) -> Result<Arc<Slot>> {
    follow_others(app).await?;
    let mut tries = 0;
    loop {
        if let Some(slot) = app.book.get(&user.id) {
            return Ok(slot);
        }
        let (slot, written) = read_account(app, user).await?;
        // Since that snapshot more may have been written down, and what was read is old. Who is not in memory has no entry
        // after what was written down last.
        {
            let turn = app.book.turn_between().await;
            if app.book.is_whole() && written.follows(turn.written()) {
                return Ok(turn.put(slot));
            }
        }
        tries += 1;
        if tries > 2 {
            // Not once too early: what is written down was set back, by `doctor --repair` or a backup.
            following::start_over(app).await?;
        }
    }
}

/// Counts what others may have appended, and everything where the book begins anew.
pub(super) async fn follow_others(app: &App) -> Result<()> {
    if !app.book.is_whole() {
        return Box::pin(following::follow_log(app)).await;
    }
    if app.log_behind.load(Ordering::Acquire) && app.log_behind.swap(false, Ordering::AcqRel) {
        let followed = Box::pin(following::follow_log(app)).await;
        app.log_behind.fetch_or(followed.is_err(), Ordering::AcqRel);
        return followed;
    }
    Ok(())
}

/// An account that is not in memory, and where the written accounts stood in the same snapshot.
async fn read_account(app: &App, user: &User) -> Result<(Arc<Slot>, Stand)> {
    let (user, now) = (user.clone(), app.clock.now());
    let catalogue = Arc::clone(&app.catalogue);
    app.db
        .read(move |tx| {
            let written = accounts::stand(tx)?;
            if let Some(slot) = following::written(tx, &user.id)? {
                return Ok((slot, written));
            }
            let terms = plans::terms(tx, &catalogue, &user, now)?;
            let account = billing::account::Account::new(terms, now.as_millisecond()).map_err(Error::internal)?;
            Ok((Slot::new(&user.id, account), written))
        })
        .await
}

/// What a user has used, and what that costs them.
#[derive(Debug, Clone)]
pub struct Overview {
    pub tier: String,
    pub today: BTreeMap<String, Quantity>,
    pub month: BTreeMap<String, Quantity>,
    pub period: Window,
    /// From then on (milliseconds since 1970) the numbers differ even if nothing is used.
    pub until_ms: i64,
    pub balance: Balance,
}

/// Usage of the day and of the credit period, and the credits. Needs neither Stripe nor Redis to answer.
pub async fn overview(app: &App, user: &User) -> Result<Mirrored<Overview>> {
    let customer = users::customer(app, user).await?;
    if let Some(customer) = &customer
        && let Err(error) = mirror::ensure(app, Resource::Subscriptions, customer).await
    {
        // The log is ours: with Stripe away the terms are those of the user's own tier, and the answer says how old it is.
        tracing::warn!(user.id = user.id, %error, "usage without a subscription: never mirrored");
    }
    plans::follow_user(app, &user.id).await?;
    let user = User { customer: customer.clone(), ..user.clone() };
    let slot = account(app, &user).await?;
    let now = app.clock.now();
    let view = slot.lock().account.at(now.as_millisecond());
    let as_of = match customer {
        Some(customer) => app.db.read(move |tx| mirror::as_of(tx, Resource::Subscriptions, Some(&customer))).await?,
        None => None,
    };
    Ok(Mirrored {
        value: Overview {
            today: with_all_types(app, &view.in_day),
            month: with_all_types(app, &view.in_period),
            period: view.period,
            until_ms: view.until_ms,
            balance: Balance {
                included: view.included,
                used: view.used,
                remaining: view.remaining,
                overage: view.overage,
                overage_cost: view.overage_cost,
                price_per_1k: view.terms.price_per_1k,
            },
            tier: view.terms.tier.clone(),
        },
        as_of,
    })
}

/// Every event type of the catalogue, used or not, and whatever else was used.
fn with_all_types(app: &App, sums: &Sums) -> BTreeMap<String, Quantity> {
    let mut sums: BTreeMap<String, Quantity> =
        sums.iter().map(|(kind, sum)| (kind.to_string(), (*sum).max(Quantity::ZERO))).collect();
    for kind in app.catalogue.events.keys() {
        sums.entry(kind.to_string()).or_insert(Quantity::ZERO);
    }
    sums
}

/// A page of a user's entries, newest first.
#[derive(Debug, Clone)]
pub struct EventPage {
    pub events: Vec<Logged>,
    /// Where the next page begins; nothing on the last one.
    pub next: Option<i64>,
}

/// A user's entries that are not newer than `from`, newest first. Costs what the page holds, however long the log is.
pub async fn events(app: &App, user: &User, from: Option<i64>, limit: usize) -> Result<EventPage> {
    let newest = account(app, user).await?.lock().account.position();
    let last = from.unwrap_or(i64::MAX).min(newest);
    let id = user.id.clone();
    let mut events = app.db.read(move |tx| log::of_user(tx, &id, last, limit + 1)).await?;
    let next = (events.len() > limit).then(|| events.pop().map(|entry| entry.position)).flatten();
    Ok(EventPage { events, next })
}

/// A type of the catalogue's, with what one of it costs in credits now.
pub fn kind<'a>(app: &'a App, named: &str) -> Option<(&'a Arc<str>, Credits)> {
    app.catalogue.events.get_key_value(named).map(|(kind, event)| (kind, event.credits))
}

/// Credits for one of a type, as the catalogue weighs it now.
pub fn weight(app: &App, named: &str) -> Option<Credits> {
    kind(app, named).map(|(_, weight)| weight)
}
