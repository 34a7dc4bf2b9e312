//! Looks at Stripe, in their order. Whoever looks takes a ticket first, and what a look found is written only where no look
//! that began later was written before: the last look that was **begun** wins (I-05).
//!
//! Why that is enough: an event arrives after the change that it tells of, and a look with a ticket taken after the arrival
//! sees the change. Answers may overtake each other on their way; tickets, taken in the database, cannot.

use billing::catalogue::Catalogue;
use jiff::Timestamp;

use super::mirror;
use crate::app::App;
use crate::error::{Error, Result};
use crate::gateways::stripe::read;
use crate::store::mirror::{Resource, Seen};
use crate::store::readings::{self, Previous, Reading};
use crate::store::revenue::Since;
use crate::store::{self, Tx};

/// A look at Stripe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    pub ticket: i64,
    /// What made us look: an event's id, `sync`, `customer` or `verify`. For the history.
    pub cause: String,
    /// The newest event that had arrived when the look began.
    pub event_created: Option<i64>,
    /// Stripe's second in which the look had ended.
    pub until_s: i64,
}

/// What became of an object that a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// The mirror had this very text.
    Unchanged,
    /// The mirror has it now.
    Changed,
    /// The mirror has what a later look found.
    Superseded,
}

impl Look {
    /// A look that begins now.
    pub async fn begin(app: &App, cause: &str) -> Result<Self> {
        let ticket = app.db.write(readings::take_ticket).await?;
        Ok(Self { ticket, cause: cause.to_owned(), event_created: None, until_s: stripe_second(app) })
    }

    /// The same look, now that the answer is there.
    #[must_use]
    pub fn ended(mut self, app: &App) -> Self {
        self.until_s = stripe_second(app);
        self
    }

    /// Since when what it found holds, as far as the look itself can tell: it was so when it was looked at. Events of before
    /// say since when.
    pub fn since(&self) -> Since {
        Since { at: self.at(), cause: format!("look {} of {}", self.ticket, self.cause), exact: false }
    }

    /// By Stripe's clock, which is the one that its objects' dates are of.
    fn at(&self) -> Timestamp {
        Timestamp::from_second(self.until_s).unwrap_or(Timestamp::MAX)
    }

    /// What is written down of it, beside what was known before.
    fn reading(&self, known: Option<Reading>) -> Reading {
        let before = known.and_then(|known| known.event_created);
        Reading { ticket: self.ticket, until_s: self.until_s, event_created: before.max(self.event_created) }
    }
}

/// Stripe's second, as it can be at the latest: what the server last said of the time and how long ago, or our own clock where
/// it never said anything.
pub fn stripe_second(app: &App) -> i64 {
    let now = app.clock.now();
    let theirs = app.stripe.as_ref().and_then(|stripe| stripe.state().clock).map(|clock| clock.skew(now));
    now.saturating_add(theirs.unwrap_or_default()).unwrap_or(now).as_second().saturating_add(1)
}

/// What Stripe's clock shows. A coupon begins and ends by it, however wrong ours is.
pub fn stripe_now(app: &App) -> Timestamp {
    Timestamp::from_second(stripe_second(app)).unwrap_or(Timestamp::MAX)
}

/// Writes an object that a look found, unless a later look was written before.
pub fn apply(
    tx: &mut Tx<'_>,
    look: &Look,
    resource: Resource,
    raw: &str,
    run: i64,
    catalogue: &Catalogue,
    now: Timestamp,
) -> Result<Written> {
    let id = read::id(raw).map_err(Error::internal)?;
    let unchanged = Seen { resource, id: &id, raw, run }.unchanged(tx)?;
    // A full sync that finds nothing new writes nothing more: that is what keeps it cheap.
    if unchanged && look.event_created.is_none() {
        return Ok(Written::Unchanged);
    }
    let known = readings::of(tx, resource, &id)?;
    if is_superseded(tx, look, resource, &id, known)? {
        if let Some(newer) = store::mirror::raw(tx, resource, &id)? {
            // It is there, so the run has seen it.
            Seen { resource, id: &id, raw: &newer, run }.unchanged(tx)?;
        }
        return Ok(Written::Superseded);
    }
    if !unchanged {
        remember(tx, look, resource, &id, raw, now)?;
        mirror::apply(tx, resource, raw, run, catalogue, look.at(), &look.since())?;
    }
    readings::save(tx, resource, &id, &look.reading(known))?;
    Ok(if unchanged { Written::Unchanged } else { Written::Changed })
}

/// Takes an object out of the mirror that a look did not find, in Stripe's own words.
pub fn delete(tx: &mut Tx<'_>, look: &Look, resource: Resource, id: &str) -> Result<Written> {
    let known = readings::of(tx, resource, id)?;
    if is_superseded(tx, look, resource, id, known)? {
        return Ok(Written::Superseded);
    }
    let there = store::mirror::is_there(tx, resource, id)?;
    mirror::delete(tx, resource, id, &look.since())?;
    readings::save(tx, resource, id, &look.reading(known))?;
    Ok(if there { Written::Changed } else { Written::Unchanged })
}

/// Whether a later look was written before. Its event had arrived before that look began: it is included there.
fn is_superseded(tx: &mut Tx<'_>, look: &Look, resource: Resource, id: &str, known: Option<Reading>) -> Result<bool> {
    let Some(known) = known.filter(|known| known.ticket > look.ticket) else { return Ok(false) };
    if look.event_created > known.event_created {
        readings::save(tx, resource, id, &Reading { event_created: look.event_created, ..known })?;
    }
    Ok(true)
}

fn remember(tx: &mut Tx<'_>, look: &Look, resource: Resource, id: &str, raw: &str, now: Timestamp) -> Result<()> {
    let Some(before) = store::mirror::raw(tx, resource, id)? else { return Ok(()) };
    // The same object after a deletion, or in another catalogue's eyes: nothing was replaced.
    if before == raw {
        return Ok(());
    }
    let previous =
        Previous { ticket: look.ticket, replaced_ms: now.as_millisecond(), cause: look.cause.clone(), raw: before };
    readings::remember(tx, resource, id, &previous)
}
