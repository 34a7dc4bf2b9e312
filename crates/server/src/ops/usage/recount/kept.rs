//! Rows that move with the accounts (days, closed periods, warnings), compared one by one with those that the log makes.

use std::collections::BTreeMap;

use super::words;
use crate::error::Result;
use crate::store::Tx;
use crate::store::accounts::{self, Closed, Day, DaysAsked, Warning};

/// A row that the log makes as well.
pub trait Row: Clone + PartialEq {
    type Key: Clone + Ord;

    fn key(&self) -> Self::Key;
    /// Whose it is, and of what.
    fn name(&self) -> String;
    /// What it says, member by member.
    fn members(&self) -> Vec<(&'static str, String)>;
    /// What is kept after this one, in an order of its own.
    fn page(tx: &mut Tx<'_>, after: Option<&Self::Key>, most: i64) -> Result<Vec<Self>>;
    /// The one that is kept under a key.
    fn one(tx: &mut Tx<'_>, key: &Self::Key) -> Result<Option<Self>>;
}

/// The rows that the log makes, each with whether it was compared.
pub struct Rows<R: Row> {
    made: BTreeMap<R::Key, (R, bool)>,
    last: Option<R::Key>,
}

impl<R: Row> Default for Rows<R> {
    fn default() -> Self {
        Self { made: BTreeMap::new(), last: None }
    }
}

impl<R: Row> Rows<R> {
    /// The first one of its key is the one that stays.
    pub fn make(&mut self, row: R) {
        self.made.entry(row.key()).or_insert((row, false));
    }

    /// Compares the next page of what is kept; whether there is more.
    pub fn compare_page(&mut self, tx: &mut Tx<'_>, most: i64, differences: &mut Vec<String>) -> Result<bool> {
        let page = R::page(tx, self.last.as_ref(), most)?;
        differences.extend(page.iter().filter_map(|kept| self.compare(kept)));
        let Some(last) = page.last() else { return Ok(false) };
        self.last = Some(last.key());
        Ok(true)
    }

    fn compare(&mut self, kept: &R) -> Option<String> {
        let Some((made, is_compared)) = self.made.get_mut(&kept.key()) else {
            return Some(format!("{}: is kept, and the log does not say it", kept.name()));
        };
        *is_compared = true;
        (made != kept).then(|| format!("{}: {}", kept.name(), words::differing(&kept.members(), &made.members())))
    }

    /// What no page had: it came behind the pages that were read already, or is not there.
    pub fn compare_rest(&mut self, tx: &mut Tx<'_>, most: usize, differences: &mut Vec<String>) -> Result<()> {
        let unseen = self.made.values().filter(|(_, is_compared)| !is_compared).map(|(made, _)| made.clone());
        for made in unseen.take(most).collect::<Vec<_>>() {
            match R::one(tx, &made.key())? {
                Some(kept) => differences.extend(self.compare(&kept)),
                None => differences.push(format!("{}: is not kept", made.name())),
            }
        }
        Ok(())
    }
}

impl Rows<Day> {
    /// A day is what all its parts add up to.
    pub fn add(&mut self, day: &Day) {
        let nothing = || (Day { quantity: 0, events: 0, cost_pico: 0, ..day.clone() }, false);
        let (sum, _) = self.made.entry(day.key()).or_insert_with(nothing);
        sum.quantity += day.quantity;
        sum.events += day.events;
        sum.cost_pico += day.cost_pico;
    }
}

impl Row for Day {
    /// Day, user, type.
    type Key = (i64, String, String);

    fn key(&self) -> Self::Key {
        (self.day, self.user.clone(), self.event_type.clone())
    }

    fn name(&self) -> String {
        format!("user {}, {}, day {}", self.user, self.event_type, words::date(self.day))
    }

    fn members(&self) -> Vec<(&'static str, String)> {
        vec![
            ("quantity", words::units(self.quantity)),
            ("events", self.events.to_string()),
            ("credits", words::pico(self.cost_pico)),
        ]
    }

    fn page(tx: &mut Tx<'_>, after: Option<&Self::Key>, most: i64) -> Result<Vec<Self>> {
        accounts::days(tx, &DaysAsked { after: after.cloned(), ..DaysAsked::default() }, most)
    }

    fn one(tx: &mut Tx<'_>, (day, user, event_type): &Self::Key) -> Result<Option<Self>> {
        let (user, event_type) = (Some(user.clone()), Some(event_type.clone()));
        let asked = DaysAsked { user, event_type, from: Some(*day), to: Some(*day), after: None };
        Ok(accounts::days(tx, &asked, 1)?.pop())
    }
}

impl Row for Closed {
    /// User and beginning.
    type Key = (String, i64);

    fn key(&self) -> Self::Key {
        (self.user.clone(), self.start_ms)
    }

    fn name(&self) -> String {
        format!("user {}, closed period from {}", self.user, words::instant(self.start_ms))
    }

    fn members(&self) -> Vec<(&'static str, String)> {
        vec![
            ("end", words::instant(self.end_ms)),
            ("closing entry", self.position.to_string()),
            ("summary", self.summary.clone()),
        ]
    }

    fn page(tx: &mut Tx<'_>, after: Option<&Self::Key>, most: i64) -> Result<Vec<Self>> {
        accounts::periods(tx, after.unwrap_or(&(String::new(), i64::MIN)), most)
    }

    fn one(tx: &mut Tx<'_>, key: &Self::Key) -> Result<Option<Self>> {
        let before = (key.0.clone(), key.1.saturating_sub(1));
        Ok(accounts::periods(tx, &before, 1)?.pop().filter(|kept| kept.key() == *key))
    }
}

impl Row for Warning {
    /// User, period, per cent.
    type Key = (String, i64, i64);

    fn key(&self) -> Self::Key {
        (self.user.clone(), self.period_start_ms, self.percent)
    }

    fn name(&self) -> String {
        let start = words::instant(self.period_start_ms);
        format!("user {}, warning of {} per cent, period from {start}", self.user, self.percent)
    }

    fn members(&self) -> Vec<(&'static str, String)> {
        vec![("entry", self.position.to_string()), ("instant", words::instant(self.at_ms))]
    }

    fn page(tx: &mut Tx<'_>, after: Option<&Self::Key>, most: i64) -> Result<Vec<Self>> {
        accounts::warnings(tx, after.unwrap_or(&(String::new(), i64::MIN, i64::MIN)), most)
    }

    fn one(tx: &mut Tx<'_>, key: &Self::Key) -> Result<Option<Self>> {
        let before = (key.0.clone(), key.1, key.2.saturating_sub(1));
        Ok(accounts::warnings(tx, &before, 1)?.pop().filter(|kept| kept.key() == *key))
    }
}
