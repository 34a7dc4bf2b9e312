//! The sandbox's whole state, and the clock and ids that a request works with.

use crate::calendar;
use crate::events::{self, Cause, Event, changes};
use crate::idempotency::{Idempotency, Saved};
use crate::journal::{Entry, Hold, Journal};
use crate::kind::Kind;
use crate::store::{Change, Store};
use crate::webhooks::{Queue, addressees};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) idempotency: Idempotency,
    pub(crate) events: events::Log,
    pub(crate) queue: Queue,
    journal: Option<(Journal, Hold)>,
    /// When this state began: the salt of all ids, so that two sandboxes rarely share one.
    born: i64,
    /// The last invoice number of each year.
    numbers: BTreeMap<i16, u32>,
    /// The numbers before the running request, which is taken back when it fails.
    numbers_before: BTreeMap<i16, u32>,
    /// The instant of the running request.
    pub(crate) now: i64,
    /// The instant on the sandbox's clock, also while a request works on a test clock.
    pub(crate) wall: i64,
    /// The request that works, for the events that it causes.
    cause: Cause,
    /// The last instant that is written down.
    written_at: i64,
    /// Where the sandbox listens, for the pages that it links to.
    pub(crate) base: String,
}

impl World {
    pub(crate) fn new(born: i64) -> World {
        let mut store = Store::new();
        store.reached = born;
        World {
            store,
            idempotency: Idempotency::default(),
            events: events::Log::default(),
            queue: Queue::default(),
            journal: None,
            born,
            numbers: BTreeMap::new(),
            numbers_before: BTreeMap::new(),
            now: born,
            wall: born,
            cause: Cause::default(),
            written_at: 0,
            base: "http://127.0.0.1".to_owned(),
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

    /// A piece of work begins: at this instant, because of this request.
    pub(crate) fn begin(&mut self, now: i64, cause: Cause) {
        self.now = now;
        self.wall = now;
        self.cause = cause;
        self.store.reached = now;
        self.numbers_before = self.numbers.clone();
    }

    /// Goes on at the instant of this object's test clock, where it has one.
    pub(crate) fn follow_clock(&mut self, object: &Value) {
        let clock = object["test_clock"].as_str().and_then(|id| self.store.get(Kind::TestClock, id));
        if let Some(frozen) = clock.and_then(|clock| clock["frozen_time"].as_i64()) {
            self.now = frozen;
            self.store.reached = frozen;
        }
    }

    /// Takes back what the running piece of work has changed.
    pub(crate) fn undo(&mut self) {
        self.store.undo();
        self.numbers = self.numbers_before.clone();
    }

    /// A setting of the sandbox's own.
    pub(crate) fn setting(&self, name: &str) -> Value {
        self.store.get(Kind::Setting, name).map_or(Value::Null, |setting| setting["value"].clone())
    }

    pub(crate) fn set(&mut self, name: &str, value: Value) {
        self.store.put(Kind::Setting, json!({"id": name, "created": 0, "value": value}));
    }

    /// Writes down what was planted, about which there are no events.
    pub(crate) fn commit_quietly(&mut self) -> io::Result<()> {
        let changes = self.store.take_changes();
        let entries: Vec<Entry<'_>> = changes.iter().map(Entry::Change).collect();
        self.journal.as_mut().map_or(Ok(()), |(journal, _)| journal.write(&entries))
    }

    /// Writes down what the running piece of work has changed and the events about it, and posts these to their endpoints.
    pub(crate) fn commit(&mut self, saved: Option<&Saved>) -> io::Result<()> {
        self.store.reached = self.wall;
        let changes = self.store.take_changes();
        let mut told: Vec<Vec<Arc<Event>>> = Vec::with_capacity(changes.len());
        for change in &changes {
            told.push(self.tell(change));
        }
        self.events.sweep(self.wall);
        let Some((journal, _)) = &mut self.journal else { return Ok(()) };
        let mut entries = Vec::new();
        for (change, events) in changes.iter().zip(&told) {
            entries.push(Entry::Change(change));
            let whole = !matches!(change, Change::Put { .. });
            entries.extend(events.iter().map(|event| Entry::Event(event, whole)));
        }
        entries.extend(saved.map(Entry::Saved));
        if entries.is_empty() {
            return Ok(());
        }
        if self.written_at != self.wall {
            self.written_at = self.wall;
            entries.push(Entry::At(self.wall));
        }
        journal.write(&entries)
    }

    /// The events of one change, kept and posted.
    fn tell(&mut self, change: &Change) -> Vec<Arc<Event>> {
        let mut out = Vec::new();
        for said in changes::said(change) {
            let id = self.id("evt");
            let to = addressees(&self.store, said.name);
            let event = Arc::new(Event {
                id: Arc::from(id),
                key: (self.wall, self.store.next()),
                name: said.name,
                object: said.object,
                before: said.before,
                cause: self.cause.clone(),
                pending: AtomicUsize::new(to.len()),
                to,
            });
            self.events.push(Arc::clone(&event));
            self.queue.post(&event, self.wall);
            out.push(event);
        }
        out
    }

    /// Writes down that a delivery is over.
    pub(crate) fn note_delivered(&mut self, event: &str, endpoint: &str) {
        if let Some((journal, _)) = &mut self.journal
            && let Err(error) = journal.write(&[Entry::Delivered(event, endpoint)])
        {
            tracing::error!(%error, "the sandbox cannot write its state");
        }
    }

    /// Takes up the deliveries that a restart finds unfinished.
    pub(crate) fn resume_deliveries(&mut self, over: &[(String, String)]) {
        let over: std::collections::HashSet<(&str, &str)> =
            over.iter().map(|(event, endpoint)| (event.as_str(), endpoint.as_str())).collect();
        let events: Vec<Arc<Event>> = self.events.all().map(Arc::clone).collect();
        for event in events {
            for endpoint in &event.to {
                let gone = self.store.get(Kind::WebhookEndpoint, endpoint).is_none();
                if gone || over.contains(&(&*event.id, &**endpoint)) {
                    event.delivered();
                } else {
                    self.queue.post_again(&event, endpoint, event.key.0);
                }
            }
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
