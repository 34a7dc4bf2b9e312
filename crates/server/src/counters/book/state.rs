//! What the lock of an account protects: what may be used of it, what is held of it, and its sums by day.

use std::sync::Arc;

use billing::account::{Account, AccountError, ClosedPeriod, Room};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Apart, DaySum, Said, State, Worked};
use crate::error::{Error, Result};
use crate::store::accounts::{Closed, Day};

impl State {
    pub(super) fn is_in_use(&self) -> bool {
        self.changed || self.is_held()
    }

    pub(super) fn is_held(&self) -> bool {
        !self.held.is_empty() || !self.rates.is_empty()
    }

    pub(super) fn set_apart(&mut self) -> Apart {
        Apart {
            held: std::mem::take(&mut self.held),
            rates: std::mem::take(&mut self.rates),
            there: std::mem::take(&mut self.there),
        }
    }

    pub(super) fn take_back(&mut self, apart: Apart) {
        (self.held, self.rates, self.there) = (apart.held, apart.rates, apart.there);
    }

    /// Another account without entries: other terms, or the instant of the first entry.
    pub fn begin(&mut self, account: Account) {
        self.account = account;
        self.room = None;
    }

    /// What may be used at an instant; worked out when something has changed.
    pub fn room(&mut self, now_ms: i64) -> Result<Arc<Room>, AccountError> {
        let position = self.account.position();
        if let Some(worked) = &self.room
            && worked.position == position
            && (worked.from_ms..worked.room.until_ms).contains(&now_ms)
        {
            return Ok(Arc::clone(&worked.room));
        }
        let room = Arc::new(self.account.room(now_ms)?);
        self.room = Some(Worked { position, from_ms: now_ms, room: Arc::clone(&room) });
        Ok(room)
    }

    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Why an entry could not be counted, said once: the next one has a fault of its own.
    pub fn take_fault(&mut self) -> Option<String> {
        self.fault.take()
    }

    /// `start_ms`: the day's first millisecond.
    pub(super) fn add_day(&mut self, user: &str, start_ms: i64, said: &Said<'_>, cost_pico: i128) -> Result<()> {
        let quantity = said.signed();
        let known = self.days.iter_mut().find(|day| day.start_ms == start_ms && day.sum.event_type == said.event_type);
        if let Some(DaySum { sum, .. }) = known {
            sum.quantity = sum.quantity.checked_add(quantity).ok_or_else(|| Error::internal("the day's quantity"))?;
            sum.events += 1;
            sum.cost_pico += cost_pico;
            return Ok(());
        }
        // The date is that of the zone in which the account lives now; it may live in another one later.
        let day = date_of(start_ms, &self.account.terms().zone);
        let event_type = said.event_type.to_owned();
        let sum = Day { day, user: user.to_owned(), event_type, quantity, events: 1, cost_pico };
        self.add_sum(DaySum { start_ms, sum });
        Ok(())
    }

    /// What was added to the day of this date since it was last written down.
    pub fn unwritten_on(&self, day: i64, event_type: &str) -> Option<&Day> {
        self.days.iter().map(|day| &day.sum).find(|sum| sum.day == day && sum.event_type == event_type)
    }

    /// Adds to the day of this date: a page has each date once, also where two zones begin it at two instants.
    pub(super) fn add_sum(&mut self, more: DaySum) {
        let same = |known: &&mut DaySum| known.sum.day == more.sum.day && known.sum.event_type == more.sum.event_type;
        match self.days.iter_mut().find(same) {
            Some(DaySum { sum, .. }) => {
                sum.quantity = sum.quantity.saturating_add(more.sum.quantity);
                sum.events += more.sum.events;
                sum.cost_pico += more.sum.cost_pico;
            }
            None => self.days.push(more),
        }
    }
}

/// The date, in days since 1970, of a local day that begins at this millisecond.
fn date_of(day_start_ms: i64, zone: &TimeZone) -> i64 {
    let start = Timestamp::from_millisecond(day_start_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    // Local midnight, or the first instant after it where a clock was set forward over it.
    let local_ms = day_start_ms + i64::from(zone.to_offset(start).seconds()) * 1_000;
    local_ms.div_euclid(crate::store::log::DAY_MS)
}

pub(super) fn closed_row(user: &str, position: i64, closed: &ClosedPeriod) -> Closed {
    Closed {
        user: user.to_owned(),
        start_ms: closed.window.start.as_millisecond(),
        end_ms: closed.window.end.as_millisecond(),
        position,
        summary: summary(closed),
    }
}

fn summary(closed: &ClosedPeriod) -> String {
    let by_type: serde_json::Map<String, serde_json::Value> =
        closed.by_type.iter().map(|(kind, quantity)| (kind.to_string(), quantity.wire().into())).collect();
    serde_json::json!({
        "tier": closed.terms.tier, "included": closed.included.wire(), "used": closed.used.wire(),
        "overage": closed.overage.wire(), "overage_cost": closed.overage_cost.wire(),
        "currency": closed.overage_cost.currency().code(), "by_type": by_type,
    })
    .to_string()
}
