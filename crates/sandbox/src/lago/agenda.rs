//! What will happen by itself: everything that is due happens at its own instant, in order, before the next request is
//! looked at.

use super::instant::Micros;
use super::table::Place;
use super::world::World;
use super::{post_validation, subscriptions, wallet_transactions};
use std::collections::BTreeSet;

/// A thing that is due. Of those that are due together a period is closed before a subscription ends or begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// A billing period of a subscription is over.
    Close(Place),
    /// A subscription has come to its `ending_at`.
    End(Place),
    /// A subscription has come to its `subscription_at`.
    Start(Place),
    /// The hourly job that looks at new events.
    Validation,
    /// A job that puts granted credits into a new wallet.
    TopUp(Place),
}

#[derive(Debug, Default)]
pub(super) struct Agenda {
    due: BTreeSet<(Micros, Due)>,
    /// Whether the jobs that follow an event stand still.
    pub(super) is_stale: bool,
}

impl Agenda {
    pub(super) fn put(&mut self, at: Micros, due: Due) {
        self.due.insert((at, due));
    }

    fn next(&mut self, now: Micros) -> Option<(Micros, Due)> {
        let first = self.due.first().copied().filter(|(at, _)| *at <= now)?;
        self.due.remove(&first);
        Some(first)
    }
}

impl World {
    /// Lets time pass until now.
    pub(super) fn pass_to(&mut self, now: Micros, is_stale: bool) {
        self.agenda.is_stale = is_stale;
        if !is_stale {
            self.events.catch_up();
        }
        while let Some((at, due)) = self.agenda.next(now) {
            self.now = at;
            match due {
                Due::Close(place) => subscriptions::close_period(self, place),
                Due::End(place) => subscriptions::terminate(self, place),
                Due::Start(place) => subscriptions::start(self, place),
                Due::Validation => {
                    post_validation::run(self);
                    post_validation::plan(self);
                }
                Due::TopUp(place) => wallet_transactions::settle(self, place),
            }
        }
        self.now = now;
    }
}
