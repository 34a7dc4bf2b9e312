//! What the day can hold on which history is shown. Its credit period may be over, so no account bounds it.

use std::collections::HashMap;

use billing::usage::PICO_IN_MICRO;

use super::draft::Draft;
use super::totals;
use crate::counters::book::Slot;
use crate::counters::reading::Said;
use crate::error::Result;
use crate::store::log::Entry;
use crate::store::{Tx, accounts};

/// The most units or credits of a day, in millionths: an eighth of what a column can hold. So much may be on its way to the database,
/// where it is not seen, and as much may have come live.
const MOST: i128 = 1 << 60;

/// What is shown on a day of a type: the quantity in millionths, and the cost in picocredits.
#[derive(Debug, Clone, Copy)]
struct Shown {
    quantity: i128,
    cost_pico: i128,
}

/// The days on which a group shows history, with what is shown on each, itself included: by user, day and type.
#[derive(Debug, Default)]
pub(super) struct Days<'g>(HashMap<(usize, i64, &'g str), Shown>);

impl<'g> Draft<'g> {
    /// Whether it is history, and its day could not hold it.
    pub(super) fn is_too_much_for_its_day(&mut self, tx: &mut Tx<'_>, user: usize, entry: &'g Entry) -> Result<bool> {
        if !entry.source.is_history() {
            return Ok(false);
        }
        let slot = &self.users[user];
        let day = totals::day_of(entry.event_ms, &slot.lock().account.terms().zone)?;
        let key = (user, day, &*entry.event_type);
        let before = match self.days.0.get(&key) {
            Some(before) => *before,
            None => shown(tx, slot, day, &entry.event_type)?,
        };
        let after = Shown {
            quantity: before.quantity + i128::from(entry.quantity),
            cost_pico: before.cost_pico + Said::at(0, entry).shown_pico(),
        };
        let fits = after.quantity <= MOST && after.cost_pico / PICO_IN_MICRO <= MOST;
        if fits {
            self.days.0.insert(key, after);
        }
        Ok(!fits)
    }
}

/// What is written down of a day, and what waits for that.
fn shown(tx: &mut Tx<'_>, slot: &Slot, day: i64, event_type: &str) -> Result<Shown> {
    let asked = accounts::DaysAsked {
        user: Some(slot.user.to_string()),
        event_type: Some(event_type.to_owned()),
        from: Some(day),
        to: Some(day),
        after: None,
    };
    let mut rows = accounts::days(tx, &asked, 1)?;
    rows.extend(slot.lock().unwritten_on(day, event_type).cloned());
    Ok(rows.iter().fold(Shown { quantity: 0, cost_pico: 0 }, |sum, row| Shown {
        quantity: sum.quantity + i128::from(row.quantity),
        cost_pico: sum.cost_pico + row.cost_pico,
    }))
}
