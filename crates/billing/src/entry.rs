//! Entries of the usage log: what happened to an account, one fact each, in the order in which it was accepted.
//!
//! An entry is never changed and never taken out; a correction is another entry. What an entry cannot say for itself (the
//! weight of a type, the terms of a tier) it carries as it was when it was recorded, so that replaying the log in ten years
//! gives the same account, whatever the catalogue says by then.

use std::borrow::Cow;

mod notation;
mod terms;

pub use notation::NotationError;
pub(crate) use terms::{CREDITS_MOST, first_ms};
pub use terms::{PeriodRule, Terms, TermsError};

use crate::usage::{Credits, Quantity};

/// One entry of an account's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its place in the log; each entry of an account has a greater one than the entry before.
    pub position: i64,
    /// When it happened, in milliseconds since 1970.
    pub event_ms: i64,
    /// When it was accepted, in milliseconds since 1970. Should it lie before that of the entry before (a clock was set
    /// back), the account takes the later one.
    pub received_ms: i64,
    /// What happened.
    pub fact: Fact<'a>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact<'a> {
    /// Something was used.
    Usage {
        /// The event type.
        kind: &'a str,
        /// How much of it, never negative.
        quantity: Quantity,
        /// Credits for one unit, as the catalogue said when it was recorded.
        weight: Credits,
    },
    /// A correction by hand.
    Adjust {
        /// The event type.
        kind: &'a str,
        /// How much more; or less, where negative.
        quantity: Quantity,
        /// Credits for one unit.
        weight: Credits,
    },
    /// An event is taken back: the same again, counted as less.
    Void {
        /// The event type.
        kind: &'a str,
        /// The quantity of the event, never negative.
        quantity: Quantity,
        /// Credits for one unit, as the event had it.
        weight: Credits,
        /// An instant of the period in which the event counted, if it is not that of its own time.
        counted_ms: Option<i64>,
    },
    /// Credits beside those of the tier.
    Grant(Pack),
    /// A pack is taken away, with what is left of it.
    Revoke {
        /// Its id.
        pack: &'a str,
    },
    /// A pack's time is over.
    Expire {
        /// Its id.
        pack: &'a str,
    },
    /// From here on other terms hold.
    Plan {
        /// The new terms.
        terms: Cow<'a, Terms>,
        /// What becomes of the running period.
        change: PlanChange,
        /// What was counted in the period that a reset ends, and belongs to the one that it begins.
        moved: Cow<'a, [Moved]>,
    },
    /// Nothing but that time has passed.
    Roll,
}

/// Credits beside those of the tier. Packs are used in the order of their priority (small first), then the one that
/// expires first, then the older one, then by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// Unique within the account.
    pub id: String,
    /// Credits, never negative.
    pub amount: Credits,
    /// Small ones are used first.
    pub priority: i64,
    /// From this instant on it is worth nothing; none: it lasts.
    pub expires_ms: Option<i64>,
    /// When it was given.
    pub granted_ms: i64,
}

/// Usage of one type that goes from a period to the next, because the next began earlier than was known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The event type.
    pub kind: String,
    /// How much of it, above zero.
    pub quantity: Quantity,
    /// What it cost, in millionths of a microcredit; never negative.
    pub cost_pico: i128,
}

impl Moved {
    /// One line of text, the same for equal ones: `1 kind=inference quantity=30000000 cost=30000000000000`.
    pub fn encode(&self) -> String {
        let mut line = notation::Line::new();
        line.text("kind", &self.kind);
        line.plain("quantity", self.quantity.micro());
        line.plain("cost", self.cost_pico);
        line.finish()
    }

    /// Reads the line. A quantity that is not above zero and a negative cost are errors.
    pub fn parse(text: &str) -> Result<Moved, NotationError> {
        let mut members = notation::Members::read(text)?;
        let (kind, quantity) = (members.text("kind")?, members.number("quantity")?);
        let cost_pico: i128 = members.number("cost")?;
        members.finish()?;
        if quantity <= 0 || cost_pico < 0 {
            return Err(NotationError::malformed("quantity", text));
        }
        Ok(Moved { kind, quantity: Quantity::from_micro(quantity), cost_pico })
    }
}

/// What becomes of the running period when other terms begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PlanChange {
    /// The new tier's credits take the place of the old one's; what was used stays used.
    KeepUsed,
    /// Each tier gives its credits for its share of the period; what was used stays used.
    Prorate,
    /// The period ends here, and one of the new terms begins with nothing used.
    Reset,
}

impl PlanChange {
    /// All of them.
    pub const ALL: [PlanChange; 3] = [PlanChange::KeepUsed, PlanChange::Prorate, PlanChange::Reset];

    /// Its word: `keep_used`, `prorate`, `reset`.
    pub fn as_str(self) -> &'static str {
        match self {
            PlanChange::KeepUsed => "keep_used",
            PlanChange::Prorate => "prorate",
            PlanChange::Reset => "reset",
        }
    }

    /// The text that is stored in the log: its word.
    pub fn encode(self) -> String {
        self.as_str().to_owned()
    }

    /// Reads its word.
    pub fn parse(text: &str) -> Result<PlanChange, NotationError> {
        let found = PlanChange::ALL.into_iter().find(|change| change.as_str() == text);
        found.ok_or_else(|| NotationError::malformed("change", text))
    }
}

impl Pack {
    /// One line of text, the same for equal packs: `1 id=welcome amount=100 priority=0 granted=… expires=…`.
    pub fn encode(&self) -> String {
        let mut line = notation::Line::new();
        line.text("id", &self.id);
        line.plain("amount", self.amount);
        line.plain("priority", self.priority);
        line.plain("granted", self.granted_ms);
        line.optional("expires", self.expires_ms);
        line.finish()
    }

    /// Reads the line. A negative amount is an error.
    pub fn parse(text: &str) -> Result<Pack, NotationError> {
        let mut members = notation::Members::read(text)?;
        let pack = Pack {
            id: members.text("id")?,
            amount: members.credits("amount")?,
            priority: members.number("priority")?,
            granted_ms: members.number("granted")?,
            expires_ms: members.optional_number("expires")?,
        };
        members.finish()?;
        if pack.amount < Credits::ZERO {
            Err(NotationError::malformed("amount", &pack.amount.wire()))
        } else {
            Ok(pack)
        }
    }

    /// Is it worth nothing at this instant?
    pub fn is_over(&self, at_ms: i64) -> bool {
        self.expires_ms.is_some_and(|expires_ms| expires_ms <= at_ms)
    }

    /// Packs that sort lower are used first.
    pub(crate) fn turn(&self) -> (i64, i64, i64, &str) {
        (self.priority, self.expires_ms.unwrap_or(i64::MAX), self.granted_ms, &self.id)
    }
}
