//! What an entry of the log says to an account.

use std::borrow::Cow;

use billing::account::Account;
use billing::entry::{Entry, Fact, Moved, Pack, PlanChange, Terms};
use billing::usage::{Credits, Quantity};

use crate::error::{Error, Result};
use crate::store::log::{self, Kind, Logged};

/// The parts of an entry that are folded, wherever they are kept.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    pub position: i64,
    pub kind: Kind,
    pub event_type: &'a str,
    pub quantity: i64,
    pub weight: i64,
    pub event_ms: i64,
    pub received_ms: i64,
    pub body: Option<&'a str>,
    /// Brought in later: where its period is over, it is shown on its day and counts for nothing else.
    pub is_history: bool,
}

impl<'a> Said<'a> {
    /// What an appended entry says.
    pub fn at(position: i64, entry: &'a log::Entry) -> Self {
        Self {
            position,
            kind: entry.kind,
            event_type: &entry.event_type,
            quantity: entry.quantity,
            weight: entry.weight,
            event_ms: entry.event_ms,
            received_ms: entry.received_ms,
            body: entry.body.as_deref(),
            is_history: entry.source.is_history(),
        }
    }

    /// Millionths, below zero where something is taken back.
    pub fn signed(&self) -> i64 {
        if self.kind == Kind::Void { -self.quantity } else { self.quantity }
    }

    /// What it would cost if it counted, in millionths of a microcredit.
    pub fn shown_pico(&self) -> i128 {
        i128::from(self.signed()) * i128::from(self.weight)
    }

    /// Whether it is shown on its day and counts for nothing else: history of a period that is over, and what takes such back.
    pub fn is_only_shown(&self, account: &Account) -> bool {
        let takes_nothing = self.kind == Kind::Void && self.body.is_some_and(takes_nothing);
        takes_nothing || (self.is_history && account.is_late(self.event_ms, self.received_ms).unwrap_or(true))
    }

    /// Only its place in the log, for an account that counts nothing of it.
    pub fn passing(&self) -> Entry<'static> {
        Entry { position: self.position, event_ms: self.event_ms, received_ms: self.received_ms, fact: Fact::Roll }
    }

    /// Reads it for the core and hands it to `fold`.
    pub fn read<T>(self, fold: impl FnOnce(&Entry<'_>) -> T) -> Result<T> {
        let entry =
            |fact| Entry { position: self.position, event_ms: self.event_ms, received_ms: self.received_ms, fact };
        let (kind, quantity, weight) =
            (self.event_type, Quantity::from_micro(self.quantity), Credits::from_micro(self.weight));
        let body = self.body.unwrap_or_default();
        Ok(match self.kind {
            Kind::Usage => fold(&entry(Fact::Usage { kind, quantity, weight })),
            Kind::Adjust => fold(&entry(Fact::Adjust { kind, quantity, weight })),
            Kind::Void => {
                let counted_ms = self.body.and_then(counted_ms);
                fold(&entry(Fact::Void { kind, quantity, weight, counted_ms }))
            }
            Kind::Grant => fold(&entry(Fact::Grant(Pack::parse(body).map_err(unreadable)?))),
            Kind::Revoke => fold(&entry(Fact::Revoke { pack: body })),
            Kind::Expire => fold(&entry(Fact::Expire { pack: body })),
            Kind::Plan => {
                let (change, terms, moved) = plan(body)?;
                fold(&entry(Fact::Plan { terms: Cow::Owned(terms), change, moved: Cow::Owned(moved) }))
            }
        })
    }
}

impl<'a> From<&'a Logged> for Said<'a> {
    fn from(entry: &'a Logged) -> Self {
        Self {
            position: entry.position,
            kind: entry.kind,
            event_type: &entry.event_type,
            quantity: entry.quantity,
            weight: entry.weight,
            event_ms: entry.event_ms,
            received_ms: entry.received_ms,
            body: entry.body.as_deref(),
            is_history: entry.source.is_history(),
        }
    }
}

/// The properties of a commit for which nothing was held any more. Said in the log, so that the same answer can be given after a
/// restart and at every process.
pub const LATE_COMMIT: &str = r#"{"late":true}"#;

/// What the body of a void says whose event counted nothing.
const NOTHING: &str = "nothing";

/// The body of a void: the first millisecond of the period in which its event counted, and the event's position.
pub fn void_body(counted_ms: Option<i64>, position: i64) -> String {
    let counted = counted_ms.map_or_else(|| NOTHING.to_owned(), |counted_ms| counted_ms.to_string());
    format!("{counted} {position}")
}

/// Whether its event counted nothing.
pub fn takes_nothing(body: &str) -> bool {
    words(body).0 == NOTHING
}

/// The first millisecond of the period in which its event counted.
pub fn counted_ms(body: &str) -> Option<i64> {
    words(body).0.parse().ok()
}

/// The position of the event that a void takes back; the first versions did not write it down.
pub fn voided(body: &str) -> Option<i64> {
    words(body).1.parse().ok()
}

fn words(body: &str) -> (&str, &str) {
    body.split_once(' ').unwrap_or((body, ""))
}

/// The body of a plan entry: how the account comes to its terms, and a line for each type of which something moves.
pub fn plan_body(change: PlanChange, terms: &Terms, moved: &[Moved]) -> String {
    let first = format!("{} {}", change.as_str(), terms.encode());
    std::iter::once(first).chain(moved.iter().map(Moved::encode)).collect::<Vec<_>>().join("\n")
}

/// What the body of a plan entry says.
pub fn plan(body: &str) -> Result<(PlanChange, Terms, Vec<Moved>)> {
    let (body, moved) = body.split_once('\n').unwrap_or((body, ""));
    let moved = moved.lines().map(Moved::parse).collect::<Result<_, _>>().map_err(unreadable)?;
    let (change, terms) = body.split_once(' ').ok_or_else(|| unreadable("a plan entry without terms"))?;
    let change = PlanChange::parse(change).map_err(unreadable)?;
    Ok((change, Terms::parse(terms).map_err(unreadable)?, moved))
}

fn unreadable(error: impl std::fmt::Display) -> Error {
    Error::internal(format!("an entry of the log cannot be read: {error}"))
}
