//! What an entry would do, before it is accepted. What is in the log must count; what is not in it yet may be refused.

use super::{Account, AccountError, Folded};
use crate::entry::{Entry, Fact};
use crate::usage::Quantity;

impl Account {
    /// What an entry would do to the account as it stands.
    ///
    /// # Errors
    /// Those of [`Account::fold`], and [`AccountError::TakesTooMuch`]: a correction takes back more than is counted in its
    /// period, in units of its type or in credits, which would make credits out of nothing.
    pub fn foresee(&self, entry: &Entry<'_>) -> Result<Folded, AccountError> {
        let mut then = self.clone();
        let folded = then.fold(entry)?;
        match &entry.fact {
            // What adds may still leave less than nothing, where an older version took too much.
            Fact::Adjust { quantity, .. } if !quantity.is_negative() => Ok(folded),
            Fact::Adjust { kind, .. } | Fact::Void { kind, .. } if then.is_below_zero(kind, folded.period) => {
                Err(AccountError::TakesTooMuch)
            }
            Fact::Usage { .. }
            | Fact::Adjust { .. }
            | Fact::Void { .. }
            | Fact::Grant(_)
            | Fact::Revoke { .. }
            | Fact::Expire { .. }
            | Fact::Plan { .. }
            | Fact::Roll => Ok(folded),
        }
    }

    /// Whether more of a type, or more credits, were taken back than were counted in the period that began then.
    fn is_below_zero(&self, name: &str, start_ms: i64) -> bool {
        let in_before = start_ms == self.before.span.start_ms;
        let period = if in_before { &self.before } else { &self.period };
        let kind = self.kinds.iter().find(|kind| *kind.name == *name);
        let sum = kind.map(|kind| if in_before { kind.before } else { kind.period });
        period.used_pico < 0 || sum.is_some_and(Quantity::is_negative)
    }
}
