//! What became of the events of a window is written down: each once, whoever has sent it.

use std::collections::{BTreeMap, BTreeSet};

use super::event::{Event, Moment};
use super::{codes, replay};
use crate::error::Result;
use crate::store::lago::{self, Dead, Item, State, Sum, Window};
use crate::store::{Tx, log};

/// What became of an event of the window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Became {
    Delivered,
    /// Lago has stored it, and counts it from this moment.
    Stored {
        at_ms: i64,
    },
    /// The same, and it came when the invoice of its month was made.
    StoredTooLate {
        at_ms: i64,
    },
    /// Lago has never stored it, and its month is billed: it is counted from now on, and waits still.
    Lost,
    /// Lago does not take it.
    Refused(String),
}

/// An event, by its place in the window.
pub(super) type Outcome = (usize, Became);

/// The reason of letters that are at Lago, and on no invoice that it had made before.
const TOO_LATE: &str = "stored at Lago after its month was over: where the invoice is without it, bill it by hand";

/// Writes down what became of events that are still waiting; whatever somebody else has settled meanwhile stays.
pub(super) fn settle(tx: &mut Tx<'_>, seen: &Window, outcomes: &[Outcome], now_ms: i64) -> Result<()> {
    let Some(mut window) = lago::window(tx)? else { return Ok(()) };
    let same = |one: &Window| (one.first_position, one.last_position, one.opened_ms, one.items.len());
    if same(&window) != same(seen) {
        return Ok(());
    }
    let (mut sums, mut buried) = (Sums::default(), BTreeSet::new());
    for (place, became) in outcomes {
        let Some(item) = window.items.get_mut(*place).filter(|item| item.state == State::Waiting) else { continue };
        match became {
            Became::Delivered => sums.deliver(item)?,
            Became::Stored { at_ms } => {
                count_from(tx, item, *at_ms)?;
                sums.deliver(item)?;
            }
            Became::StoredTooLate { at_ms } => {
                count_from(tx, item, *at_ms)?;
                bury(tx, item, TOO_LATE, now_ms, true)?;
                buried.insert(item.position);
            }
            Became::Lost => {
                let moment = Moment { began_ms: None, now_ms };
                let at_ms = moment.count(Event::read(&item.event)?.at_ms()?);
                count_from(tx, item, at_ms)?;
                // It is another window now: an answer to what was sent before says nothing about it.
                window.opened_ms = now_ms;
            }
            Became::Refused(reason) => {
                bury(tx, item, reason, now_ms, false)?;
                buried.insert(item.position);
            }
        }
    }
    hold(tx, &mut window, &buried, now_ms)?;
    sums.save(tx, now_ms)?;
    lago::save_window(tx, &window)?;
    recovered(tx)
}

/// What takes back an event that is dead now goes out with that one, and not before.
fn hold(tx: &mut Tx<'_>, window: &mut Window, buried: &BTreeSet<i64>, now_ms: i64) -> Result<()> {
    if buried.is_empty() {
        return Ok(());
    }
    for item in window.items.iter_mut().filter(|item| item.state == State::Waiting) {
        let takes_back = log::at(tx, item.position)?.as_ref().and_then(codes::taken_back);
        if takes_back.is_some_and(|position| buried.contains(&position)) {
            bury(tx, item, replay::HELD, now_ms, false)?;
        }
    }
    Ok(())
}

/// Lago has answered.
pub(super) fn recovered(tx: &mut Tx<'_>) -> Result<()> {
    if lago::cursor(tx)?.failures == 0 { Ok(()) } else { lago::set_failing(tx, 0, None) }
}

/// Whatever is said of the event from here on says this moment.
fn count_from(tx: &mut Tx<'_>, item: &mut Item, at_ms: i64) -> Result<()> {
    let event = Event::read(&item.event)?;
    if event.at_ms()? != at_ms {
        item.event = event.at(at_ms).line()?;
        lago::save_moved(tx, item.position, at_ms)?;
    }
    Ok(())
}

/// What was delivered, by subscription, code and quarter of an hour.
#[derive(Default)]
struct Sums(BTreeMap<(String, String, i64), Sum>);

impl Sums {
    fn deliver(&mut self, item: &mut Item) -> Result<()> {
        item.state = State::Delivered;
        let sum = Event::read(&item.event)?.sum()?;
        let key = (sum.external_id.clone(), sum.code.clone(), sum.quarter_ms);
        match self.0.get_mut(&key) {
            Some(all) => {
                all.units = all.units.saturating_add(sum.units);
                all.events += sum.events;
            }
            None => {
                self.0.insert(key, sum);
            }
        }
        Ok(())
    }

    fn save(&self, tx: &mut Tx<'_>, at_ms: i64) -> Result<()> {
        let subscriptions: BTreeSet<&String> = self.0.values().map(|sum| &sum.external_id).collect();
        subscriptions.iter().try_for_each(|id| lago::save_delivered(tx, id, at_ms))?;
        self.0.values().try_for_each(|sum| lago::add_sum(tx, sum))
    }
}

fn bury(tx: &mut Tx<'_>, item: &mut Item, reason: &str, at_ms: i64, stored: bool) -> Result<()> {
    item.state = State::Dead;
    let event = Event::read(&item.event)?;
    let user = log::at(tx, item.position)?.map_or_else(|| event.external_subscription_id.clone(), |entry| entry.user);
    tracing::warn!(lago.transaction_id = event.transaction_id, reason, "Lago does not bill an event");
    lago::bury(
        tx,
        &Dead {
            transaction_id: event.transaction_id,
            position: item.position,
            user,
            reason: reason.to_owned(),
            dead_ms: at_ms,
            event: item.event.clone(),
            stored,
            replay: false,
        },
    )
}
