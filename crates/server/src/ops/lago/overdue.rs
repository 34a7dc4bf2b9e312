//! A window that was made before the end of a month and was not delivered before it. Sent now, its events would be taken and never
//! billed; counted from another moment, those that did arrive would count twice. So Lago is asked which of them it has.

use super::Lago;
use super::event::{Event, is_open};
use super::settling::{self, Became, Outcome};
use super::ship::Halt;
use crate::app::App;
use crate::error::Result;
use crate::gateways::lago::{read, segment};
use crate::store::lago::{State, Window};

/// From the last moment in which it was sent until Lago is asked: what was on its way has arrived by then, or never will.
const SETTLING_MS: i64 = 5 * 60 * 1000;

/// What is to be done with a window.
pub(super) enum Look {
    /// It is sent as it is.
    InTime,
    /// What may have been sent a moment ago is asked for in a moment.
    NotYet,
    /// Of each event it is known whether Lago has it.
    Settled(Vec<Outcome>),
}

/// Asks Lago for the events whose month is over, and writes down what it says.
pub(super) async fn look(app: &App, ours: &Lago, window: &Window) -> Result<Look, Halt> {
    let now_ms = app.clock.now().as_millisecond();
    let overdue = overdue(window, now_ms)?;
    if overdue.is_empty() {
        return Ok(Look::InTime);
    }
    if overdue.iter().any(|(_, _, at_ms)| is_open(*at_ms, now_ms - SETTLING_MS)) {
        return Ok(Look::NotYet);
    }
    let mut outcomes = Vec::with_capacity(overdue.len());
    for (place, transaction_id, at_ms) in overdue {
        let found = ours.gateway.find(&format!("/events/{}", segment(&transaction_id))).await?;
        let became = found.map_or(Became::Lost, |found| stored(&read::event(&found), at_ms));
        outcomes.push((place, became));
    }
    let (seen, settled) = (window.clone(), outcomes.clone());
    app.db.write(move |tx| settling::settle(tx, &seen, &settled, now_ms)).await?;
    Ok(Look::Settled(outcomes))
}

/// What waits and lies in a month that is billed: its place, its id and its moment.
fn overdue(window: &Window, now_ms: i64) -> Result<Vec<(usize, String, i64)>> {
    let mut overdue = Vec::new();
    for (place, item) in window.items.iter().enumerate().filter(|(_, item)| item.state == State::Waiting) {
        let event = Event::read(&item.event)?;
        let at_ms = event.at_ms()?;
        if !is_open(at_ms, now_ms) {
            overdue.push((place, event.transaction_id, at_ms));
        }
    }
    Ok(overdue)
}

/// A Lago that does not say when it stored an event has it from a try of ours, and those end with the month.
fn stored(found: &read::Event, sent_ms: i64) -> Became {
    let at_ms = found.at.map_or(sent_ms, jiff::Timestamp::as_millisecond);
    match found.created {
        Some(created) if !is_open(at_ms, created.as_millisecond()) => Became::StoredTooLate { at_ms },
        _ => Became::Stored { at_ms },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lago_stored_counts_where_it_says_and_too_late_is_too_late() {
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
        let sent = at("2026-11-30T20:00:00.123Z").as_millisecond();
        let (stored_there, too_late) = (|at_ms| Became::Stored { at_ms }, |at_ms| Became::StoredTooLate { at_ms });
        let december = at("2026-12-01T09:00:00Z");
        for (moment, created, became) in [
            (None, None, stored_there(sent)),
            (Some("2026-11-30T20:00:00.123Z"), Some("2026-11-30T20:00:01Z"), stored_there(sent)),
            (Some("2026-11-30T20:00:00.123Z"), Some("2026-12-01T00:04:59Z"), stored_there(sent)),
            (Some("2026-11-30T20:00:00.123Z"), Some("2026-12-01T00:05:00Z"), too_late(sent)),
            (Some("2026-12-01T09:00:00Z"), Some("2026-12-01T09:00:01Z"), stored_there(december.as_millisecond())),
        ] {
            let found = read::Event { at: moment.map(at), created: created.map(at) };
            assert_eq!(stored(&found, sent), became, "{found:?}");
        }
    }
}
