//! What is due, and when: the next instant at which something happens to an object by itself.
//!
//! An object's own state says when that is, so there is nothing here that could be forgotten or that a restart would have
//! to remember. Objects on a test clock wait for that clock and are kept apart.

use crate::kind::Kind;
use crate::store::Key;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Which clock an object follows: the sandbox's own where the name is empty.
type Clock = Arc<str>;

/// One thing that will happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due {
    pub(crate) at: i64,
    pub(crate) kind: Kind,
    pub(crate) key: Key,
}

#[derive(Debug, Default)]
pub(crate) struct Agenda {
    due: HashMap<Clock, BTreeSet<Due>>,
    /// Objects on a test clock, so that they are found there again; all others follow the sandbox.
    clocked: HashMap<(Kind, Key), Clock>,
    at: HashMap<(Kind, Key), i64>,
}

impl Agenda {
    /// Notes when an object is due, in place of what was noted before.
    pub(crate) fn set(&mut self, kind: Kind, key: Key, clock: &str, at: Option<i64>) {
        self.forget(kind, key);
        let Some(at) = at else { return };
        if !clock.is_empty() {
            self.clocked.insert((kind, key), Arc::from(clock));
        }
        self.at.insert((kind, key), at);
        self.due.entry(Arc::from(clock)).or_default().insert(Due { at, kind, key });
    }

    pub(crate) fn forget(&mut self, kind: Kind, key: Key) {
        let Some(at) = self.at.remove(&(kind, key)) else { return };
        let clock = self.clocked.remove(&(kind, key));
        if let Some(due) = self.due.get_mut(clock.as_deref().unwrap_or_default()) {
            due.remove(&Due { at, kind, key });
        }
    }

    /// What comes next on this clock.
    pub(crate) fn first(&self, clock: &str) -> Option<Due> {
        self.due.get(clock)?.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_clocks_are_apart() {
        let mut agenda = Agenda::default();
        let first = |agenda: &Agenda, clock: &str| agenda.first(clock).map(|due| (due.at, due.key.1));
        agenda.set(Kind::Invoice, (0, 1), "", Some(50));
        agenda.set(Kind::Subscription, (0, 2), "", Some(40));
        agenda.set(Kind::Subscription, (0, 3), "clock_1", Some(10));
        assert_eq!((first(&agenda, ""), first(&agenda, "clock_1")), (Some((40, 2)), Some((10, 3))));
        agenda.set(Kind::Subscription, (0, 2), "", Some(60));
        assert_eq!(first(&agenda, ""), Some((50, 1)));
        agenda.set(Kind::Subscription, (0, 3), "", None);
        assert_eq!((first(&agenda, "clock_1"), first(&agenda, "clock_2")), (None, None));
    }
}
