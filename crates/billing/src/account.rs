//! The account: what a user's entries add up to. [`Account::fold`] is the whole arithmetic of metering.
//!
//! An account is made of its entries alone, so any number of places may keep one, throw it away and make it again, and two
//! that have folded the same entries are the same to the byte. Costs are exact to a millionth of a microcredit; what is
//! shown is rounded once, and room is rounded down.
//!
//! It knows two periods and two days, the running ones and those before. An event counts in its own period if that runs,
//! or if it was the one before and its grace is not over; else it is late and counts in the running one. On a day it counts
//! if that is one of the two.

use std::fmt;
use std::sync::Arc;

mod count;
mod foresee;
mod late;
mod packs;
mod period;
mod plan;
mod roll;
mod snapshot;
mod view;

pub use period::Segment;
pub use snapshot::SnapshotError;
pub use view::{PackLeft, Room, View};

use packs::Packs;
use period::{Period, Span};

use crate::entry::{Entry, Fact, Terms, TermsError};
use crate::money::Money;
use crate::time::{TimeError, Window};
use crate::usage::{Credits, PICO_IN_MICRO, Quantity};

/// How long after the end of a period its events still count in it, in milliseconds: an hour, like Stripe's invoices.
pub const GRACE_MS: i64 = 3_600_000;
/// How far ahead of its acceptance an event may have happened, in milliseconds. One that claims more is taken to have
/// happened then: no clock of others may close a period of ours.
pub const AHEAD_MS: i64 = 300_000;

/// What a user's entries add up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    position: i64,
    entries: u64,
    /// The latest acceptance so far; it never goes back.
    received_ms: i64,
    period: Period,
    /// The one before: it ends where the running one begins.
    before: Period,
    /// Whether the totals of the one before have not been frozen yet.
    before_open: bool,
    day: Span,
    /// The one before: it ends where the running one begins.
    yesterday: Span,
    /// In the order in which they were first seen.
    kinds: Vec<Kind>,
    packs: Packs,
}

/// The sums of one event type.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kind {
    name: Arc<str>,
    day: Quantity,
    yesterday: Quantity,
    period: Quantity,
    before: Quantity,
}

/// Sums by event type, in the order in which the types were first seen; types with a sum of zero are left out.
pub type Sums = Vec<(Arc<str>, Quantity)>;

/// What an entry did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Folded {
    /// Its own period was over: it counts in the running one.
    pub late: bool,
    /// Which of 50, 80 and 100 % of the period's credits (included ones and packs) are used now and were not before; each
    /// once in a period.
    pub warnings: Vec<u8>,
    /// Periods that were frozen by this entry, the older one first. More than one where nothing had happened since the one
    /// before was over; those in which nothing was counted are left out.
    pub closed: Vec<ClosedPeriod>,
    /// The first millisecond of the local day on which it happened.
    pub day: i64,
    /// The first millisecond of the period in which it counts.
    pub period: i64,
    /// What it cost, in millionths of a microcredit; below zero where it gave back.
    pub cost_pico: i128,
}

/// The totals of a period that nothing can change any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedPeriod {
    /// From when until when.
    pub window: Window,
    /// The terms at its end.
    pub terms: Arc<Terms>,
    /// Credits of the tier in it.
    pub included: Credits,
    /// Credits used, rounded half up.
    pub used: Credits,
    /// Credits beyond included ones and packs, rounded half up.
    pub overage: Credits,
    /// What those cost, rounded half up once.
    pub overage_cost: Money,
    /// Quantities by event type.
    pub by_type: Sums,
}

/// Why an entry cannot be folded; the account is then as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountError {
    /// This entry, or a later one, is in the account already.
    Position {
        /// The last one that was folded.
        last: i64,
        /// This one's.
        given: i64,
    },
    /// A quantity, a weight or a pack's amount below zero.
    Negative,
    /// A sum would leave the range in which it can be shown and priced.
    Overflow,
    /// The instant lies outside the calendar.
    Time(TimeError),
    /// These terms mean nothing.
    Terms(TermsError),
    /// Another pack has this id.
    PackDiffers(String),
    /// A correction takes back more than is counted in its period. Only foreseen: one that is in the log must count.
    TakesTooMuch,
}

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccountError::Position { last, given } => write!(f, "position {given} does not come after {last}"),
            AccountError::Negative => f.write_str("a quantity, weight or amount is negative"),
            AccountError::Overflow => f.write_str("a sum of the account would be too large"),
            AccountError::Time(error) => error.fmt(f),
            AccountError::Terms(error) => error.fmt(f),
            AccountError::PackDiffers(id) => write!(f, "another pack has the id {id:?}"),
            AccountError::TakesTooMuch => f.write_str("this is more than was counted in the credit period"),
        }
    }
}

impl std::error::Error for AccountError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AccountError::Time(error) => Some(error),
            AccountError::Terms(error) => Some(error),
            AccountError::Position { .. }
            | AccountError::Negative
            | AccountError::Overflow
            | AccountError::PackDiffers(_)
            | AccountError::TakesTooMuch => None,
        }
    }
}

impl From<TimeError> for AccountError {
    fn from(error: TimeError) -> AccountError {
        AccountError::Time(error)
    }
}

/// When an entry takes effect: when it happened, when it was accepted, and the later of the two.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_field_names, reason = "the unit stands last in each name")]
struct Moment {
    event_ms: i64,
    received_ms: i64,
    now_ms: i64,
}

impl Account {
    /// An account in which nothing was used, with the period and the day around an instant (milliseconds since 1970):
    /// that at which its first entry was accepted, or an earlier one. From a later one, what came before it would be late.
    pub fn new(terms: Terms, at_ms: i64) -> Result<Account, AccountError> {
        terms.check().map_err(AccountError::Terms)?;
        let terms = Arc::new(terms);
        let period = Period::around(&terms, at_ms)?;
        let before = Period::ending_with(&terms, period.span.start_ms)?;
        let day = Span::day(&terms.zone, at_ms)?;
        let yesterday = Span::day_ending_with(&terms.zone, day.start_ms)?;
        // What is said to have happened before a trial began counts in it: there is no period before it.
        let before_open = terms.has_begun(period.span.start_ms.saturating_sub(1));
        Ok(Account {
            position: 0,
            entries: 0,
            received_ms: at_ms,
            period,
            before,
            before_open,
            day,
            yesterday,
            kinds: Vec::new(),
            packs: Packs::default(),
        })
    }

    /// Takes in the next entry. This is the arithmetic of metering; there is no other.
    pub fn fold(&mut self, entry: &Entry<'_>) -> Result<Folded, AccountError> {
        if entry.position <= self.position {
            return Err(AccountError::Position { last: self.position, given: entry.position });
        }
        let moment = self.moment(entry);
        // Nearly every entry is one more event of today. It changes nothing before all of it is known to fit.
        if let Some(counted) = count::Counted::of(&entry.fact)?
            && !self.turns_at(moment)
        {
            let mut folded = self.count(&counted, moment)?;
            self.note(entry, moment);
            folded.warnings = self.warnings(moment.now_ms);
            return Ok(folded);
        }
        let mut next = self.clone();
        let folded = next.turn(entry, moment)?;
        *self = next;
        Ok(folded)
    }

    /// An entry at which time turns a page, or that is no event: worked out on a copy, so that it happens whole or not.
    fn turn(&mut self, entry: &Entry<'_>, moment: Moment) -> Result<Folded, AccountError> {
        let mut closed = self.roll(moment)?;
        let counted = count::Counted::of(&entry.fact)?;
        let mut folded = match (&entry.fact, counted) {
            (_, Some(counted)) => self.count(&counted, moment)?,
            (Fact::Grant(pack), None) => {
                self.packs.grant(pack)?;
                self.at_no_cost(moment)?
            }
            (Fact::Revoke { pack } | Fact::Expire { pack }, None) => {
                self.packs.remove(pack);
                self.at_no_cost(moment)?
            }
            (Fact::Plan { terms, change, moved }, None) => {
                closed.append(&mut self.change_plan(terms, *change, moved, moment)?);
                self.at_no_cost(moment)?
            }
            (Fact::Usage { .. } | Fact::Adjust { .. } | Fact::Void { .. } | Fact::Roll, None) => {
                self.at_no_cost(moment)?
            }
        };
        self.note(entry, moment);
        folded.warnings = self.warnings(moment.now_ms);
        folded.closed = closed;
        Ok(folded)
    }

    /// The position of the last entry; 0 at first.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// How many entries were folded.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Whether so much of the running period is counted that many small events could be more than it can count: a quarter of that.
    pub fn is_nearly_full(&self) -> bool {
        let quantities = self.kinds.iter().map(|kind| i128::from(kind.period.micro()).saturating_mul(PICO_IN_MICRO));
        quantities.fold(self.period.used_pico, i128::max) >= period::MOST / 4
    }

    /// The terms that hold now.
    pub fn terms(&self) -> &Terms {
        &self.period.terms
    }

    /// Packs whose time is over although something is left of them: each is due for an entry that says so.
    pub fn packs_expired(&self, now_ms: i64) -> Vec<String> {
        self.packs.expired(now_ms)
    }

    fn moment(&self, entry: &Entry<'_>) -> Moment {
        let received_ms = entry.received_ms.max(self.received_ms);
        let event_ms = entry.event_ms.min(received_ms.saturating_add(AHEAD_MS));
        Moment { event_ms, received_ms, now_ms: received_ms.max(event_ms) }
    }

    fn note(&mut self, entry: &Entry<'_>, moment: Moment) {
        self.position = entry.position;
        self.entries = self.entries.saturating_add(1); // 2^64 entries would take longer than the log can exist
        self.received_ms = moment.received_ms;
    }
}
