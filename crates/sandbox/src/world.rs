//! The sandbox's whole state, and the clock and ids that a request works with.

use crate::calendar;
use crate::idempotency::{Idempotency, Saved};
use crate::journal::{Hold, Journal};
use crate::kind::Kind;
use crate::store::Store;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;

const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) idempotency: Idempotency,
    journal: Option<(Journal, Hold)>,
    /// When this state began: the salt of all ids, so that two sandboxes rarely share one.
    born: i64,
    /// The last invoice number of each year.
    numbers: BTreeMap<i16, u32>,
    /// The instant of the running request.
    pub(crate) now: i64,
}

impl World {
    pub(crate) fn new(born: i64) -> World {
        World {
            store: Store::new(),
            idempotency: Idempotency::default(),
            journal: None,
            born,
            numbers: BTreeMap::new(),
            now: born,
        }
    }

    pub(crate) fn born(&self) -> i64 {
        self.born
    }

    pub(crate) fn keep_in(&mut self, journal: Journal, hold: Hold) {
        self.journal = Some((journal, hold));
    }

    /// A new id such as `cus_4uTq0c9sXJmW2b`: opaque, but the same in every run that does the same.
    pub(crate) fn id(&mut self, prefix: &str) -> String {
        let number = self.store.next();
        format!("{prefix}_{}", opaque(self.born.unsigned_abs(), number, 16))
    }

    /// The next account-wide invoice number, `INV-2026-0042`.
    pub(crate) fn invoice_number(&mut self, at: i64) -> String {
        let year = calendar::year(at);
        let number = self.numbers.entry(year).or_default();
        *number += 1;
        format!("INV-{year}-{number:04}")
    }

    /// Takes up the count of invoice numbers where a restart finds it.
    pub(crate) fn recount_invoices(&mut self) {
        for (_, invoice) in self.store.held(Kind::Invoice) {
            let mut parts = invoice["number"].as_str().unwrap_or_default().split('-').skip(1);
            if let (Some(Ok(year)), Some(Ok(number))) =
                (parts.next().map(str::parse::<i16>), parts.next().map(str::parse::<u32>))
            {
                let last = self.numbers.entry(year).or_default();
                *last = number.max(*last);
            }
        }
    }

    /// Writes down what the request changed, before it is answered.
    pub(crate) fn commit(&mut self, saved: Option<&Saved>) -> io::Result<()> {
        let changes = self.store.take_changes();
        match &mut self.journal {
            Some((journal, _)) if !changes.is_empty() || saved.is_some() => journal.write(&changes, saved),
            _ => Ok(()),
        }
    }
}

/// Letters and digits from two numbers (`SplitMix64`).
pub(crate) fn opaque(salt: u64, number: u64, length: usize) -> String {
    let mut state = salt.rotate_left(32) ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut out = String::with_capacity(length);
    for _ in 0..length {
        out.push(char::from(LETTERS[usize::try_from(mix(&mut state) % 62).unwrap_or_default()]));
    }
    out
}

/// One step of `SplitMix64`: numbers that look random and are the same in every run.
pub(crate) fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// A missing member reads as an empty list.
pub(crate) fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
