//! Movements of revenue: what an account brings a month, told as what came new, grew, shrank, left and came back.
//!
//! They follow from points, each of which says what one subscription is worth from an instant on. So a cause that is heard
//! of late, twice or with a date in the past only adds a point where it belongs, and the movements come out as if it had
//! been heard of in time. Whatever the points are, the movements sum to what the account is worth now.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::money::{Money, MoneyError};

/// What one subscription is worth a month from an instant on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// `sub_…`
    pub subscription: String,
    /// From then on, until its next point.
    pub since: Timestamp,
    /// A month; nothing for one that does not earn.
    pub worth: Money,
    /// Whether the instant and the worth were told, not concluded.
    pub exact: bool,
}

/// What became of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It pays for the first time.
    New,
    /// It pays more than before.
    Expansion,
    /// It pays less than before.
    Contraction,
    /// It pays nothing any more.
    Churn,
    /// It pays again.
    Reactivation,
}

impl Kind {
    /// In lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::New => "new",
            Kind::Expansion => "expansion",
            Kind::Contraction => "contraction",
            Kind::Churn => "churn",
            Kind::Reactivation => "reactivation",
        }
    }
}

/// An account's step from one worth to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movement {
    /// When it took effect.
    pub at: Timestamp,
    /// Which way it went.
    pub kind: Kind,
    /// All subscriptions of the account together, a month, until then.
    pub before: Money,
    /// The same from then on.
    pub after: Money,
    /// Whether every point that moved it is exact.
    pub exact: bool,
}

impl Movement {
    /// How much more a month; negative where it is less.
    pub fn difference(&self) -> Result<Money, MoneyError> {
        self.after.minus(self.before)
    }
}

/// The movements of one account in one currency, oldest first. Of several points of one subscription at one instant the
/// last counts; points of other subscriptions at the same instant move the account together, once.
///
/// # Errors
/// When two currencies meet, or the account is worth more than fits.
pub fn movements(points: &[Point]) -> Result<Vec<Movement>, MoneyError> {
    let Some(first) = points.first() else { return Ok(Vec::new()) };
    let mut instants: BTreeMap<Timestamp, Vec<&Point>> = BTreeMap::new();
    for point in points {
        instants.entry(point.since).or_default().push(point);
    }
    let mut worths: BTreeMap<&str, Money> = BTreeMap::new();
    let (mut total, mut paid_before) = (Money::zero(first.worth.currency()), false);
    let mut movements = Vec::new();
    for (at, together) in instants {
        let mut last: BTreeMap<&str, &Point> = BTreeMap::new();
        for point in together {
            last.insert(&point.subscription, point);
        }
        let (before, mut exact) = (total, true);
        for (subscription, point) in last {
            let was = worths.insert(subscription, point.worth).unwrap_or(Money::zero(before.currency()));
            let difference = point.worth.minus(was)?;
            exact &= point.exact || difference.minor() == 0;
            total = total.plus(difference)?;
        }
        if let Some(kind) = kind(before, total, paid_before) {
            movements.push(Movement { at, kind, before, after: total, exact });
        }
        paid_before |= total.minor() != 0;
    }
    Ok(movements)
}

fn kind(before: Money, after: Money, paid_before: bool) -> Option<Kind> {
    if before == after {
        return None;
    }
    Some(match (before.minor() == 0, after.minor() == 0) {
        (true, _) if paid_before => Kind::Reactivation,
        (true, _) => Kind::New,
        (false, true) => Kind::Churn,
        (false, false) if after.minor() > before.minor() => Kind::Expansion,
        (false, false) => Kind::Contraction,
    })
}
