//! Everything the sandbox knows, held so that a page costs what a page holds.
//!
//! Rows stand in the order of their creation (Stripe's list order, read backwards); every filter that a list offers for
//! many objects is an index in the same order. A row may be lazy: its object is made when somebody reads it.

use crate::agenda::{Agenda, Due};
use crate::kind::{Entry, Index, Kind, entries};
use crate::lifecycle::due;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Where an object stands in the order of creation: second, then sequence within everything.
pub(crate) type Key = (i64, u64);

/// Writes the JSON of a lazy row, always the same.
pub(crate) type Maker = Arc<dyn Fn(Kind, u32) -> String + Send + Sync>;

#[derive(Clone)]
enum Slot {
    Held(Arc<Value>),
    Lazy(u32),
}

#[derive(Default)]
struct Table {
    rows: BTreeMap<Key, Slot>,
    by_id: HashMap<Arc<str>, Key>,
    index: BTreeSet<(Index, Arc<str>, Key)>,
}

/// A condition on an object.
pub(crate) type Keep<'a> = Box<dyn Fn(&Value) -> bool + 'a>;

/// Which rows a list wants, before paging.
#[derive(Default)]
pub(crate) struct Query<'a> {
    /// All of these must hold; the first is the one that is walked, so the narrowest stands first.
    pub(crate) equal: Vec<(Index, Arc<str>)>,
    /// Creation time, from (inclusive).
    pub(crate) from: Option<i64>,
    /// Creation time, before (exclusive).
    pub(crate) before: Option<i64>,
    /// A rare condition that has no index.
    pub(crate) keep: Option<Keep<'a>>,
}

/// Where the page begins.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start {
    Newest,
    After(Key),
    Before(Key),
}

/// A row of a page: the object, or where it can be made.
pub(crate) enum Row {
    Made(Arc<Value>),
    Lazy(Kind, u32),
}

/// One page, newest first.
pub(crate) struct Page {
    pub(crate) rows: Vec<Row>,
    pub(crate) has_more: bool,
}

/// A change that has not been written to the journal yet.
#[derive(Debug)]
pub(crate) enum Change {
    Put {
        kind: Kind,
        key: Key,
        object: Arc<Value>,
        before: Option<Arc<Value>>,
    },
    Drop {
        kind: Kind,
        key: Key,
        before: Arc<Value>,
    },
    /// Nothing changed, but something is to be told: a trial will end, an invoice was sent.
    Tell {
        name: &'static str,
        object: Arc<Value>,
    },
}

pub(crate) struct Store {
    tables: Vec<Table>,
    gone: HashSet<(Kind, String)>,
    maker: Option<Maker>,
    sequence: u64,
    changes: Vec<Change>,
    agenda: Agenda,
    /// The instant up to which everything that was due has happened.
    pub(crate) reached: i64,
}

impl Store {
    pub(crate) fn new() -> Store {
        let tables = Kind::ALL.iter().map(|_| Table::default()).collect();
        Store {
            tables,
            gone: HashSet::new(),
            maker: None,
            sequence: 0,
            changes: Vec::new(),
            agenda: Agenda::default(),
            reached: 0,
        }
    }

    /// The next number of a sequence that never repeats, not even after a restart.
    pub(crate) fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// A number of that sequence that a restart reads.
    pub(crate) fn used(&mut self, sequence: u64) {
        self.sequence = self.sequence.max(sequence);
    }

    /// The object of this id.
    pub(crate) fn get(&self, kind: Kind, id: &str) -> Option<Arc<Value>> {
        let table = &self.tables[kind as usize];
        let slot = table.rows.get(table.by_id.get(id)?)?;
        Some(self.object(kind, slot))
    }

    /// Where the object of this id stands: what a cursor means.
    pub(crate) fn place(&self, kind: Kind, id: &str) -> Option<Key> {
        self.tables[kind as usize].by_id.get(id).copied()
    }

    /// Whether there was such an object and it was deleted.
    pub(crate) fn is_gone(&self, kind: Kind, id: &str) -> bool {
        self.gone.contains(&(kind, id.to_owned()))
    }

    fn object(&self, kind: Kind, slot: &Slot) -> Arc<Value> {
        match slot {
            Slot::Held(object) => Arc::clone(object),
            Slot::Lazy(number) => Arc::new(serde_json::from_str(&self.text(kind, *number)).unwrap_or_default()),
        }
    }

    /// The JSON of a lazy row, in the newest shape.
    pub(crate) fn text(&self, kind: Kind, number: u32) -> String {
        self.maker.as_ref().map_or_else(|| "null".to_owned(), |maker| maker(kind, number))
    }

    /// The object of a row.
    pub(crate) fn made(&self, row: &Row) -> Arc<Value> {
        match row {
            Row::Made(object) => Arc::clone(object),
            Row::Lazy(kind, number) => self.object(*kind, &Slot::Lazy(*number)),
        }
    }

    /// Inserts or replaces, and remembers the change for the journal.
    pub(crate) fn put(&mut self, kind: Kind, object: Value) -> Arc<Value> {
        let object = Arc::new(object);
        let (key, before) = self.hold(kind, Arc::clone(&object), None);
        self.changes.push(Change::Put { kind, key, object: Arc::clone(&object), before });
        object
    }

    /// Says something about an object that no change of it says.
    pub(crate) fn tell(&mut self, name: &'static str, object: Arc<Value>) {
        self.changes.push(Change::Tell { name, object });
    }

    /// Inserts or replaces what the journal remembers. Returns what stood there before.
    pub(crate) fn restore(&mut self, kind: Kind, sequence: u64, object: Arc<Value>) -> Option<Arc<Value>> {
        self.sequence = self.sequence.max(sequence);
        self.hold(kind, object, Some(sequence)).1
    }

    /// Takes back everything that was not written to the journal yet.
    pub(crate) fn undo(&mut self) {
        while let Some(change) = self.changes.pop() {
            match change {
                Change::Put { kind, before: Some(before), .. } => drop(self.hold(kind, before, None)),
                Change::Put { kind, object, before: None, .. } => {
                    let id = object["id"].as_str().unwrap_or_default();
                    self.forget(kind, id);
                    self.gone.remove(&(kind, id.to_owned()));
                }
                Change::Drop { kind, key, before } => {
                    self.gone.remove(&(kind, before["id"].as_str().unwrap_or_default().to_owned()));
                    self.hold(kind, before, Some(key.1));
                }
                Change::Tell { .. } => {}
            }
        }
    }

    fn hold(&mut self, kind: Kind, object: Arc<Value>, sequence: Option<u64>) -> (Key, Option<Arc<Value>>) {
        let id: Arc<str> = Arc::from(object["id"].as_str().unwrap_or_default());
        let known = self.place(kind, &id);
        let before = known.and_then(|key| self.at(kind, key));
        let key = known.unwrap_or_else(|| {
            let created = object["created"].as_i64().or(object["start"].as_i64()).or(object["date"].as_i64());
            (created.unwrap_or_default(), sequence.unwrap_or_else(|| self.next()))
        });
        self.note(kind, key, &object, self.reached);
        let found = entries(kind, &object);
        // Most changes touch nothing that anybody searches by.
        match before.as_ref().map(|before| entries(kind, before)) {
            Some(old) if old == found => drop(self.tables[kind as usize].rows.insert(key, Slot::Held(object))),
            Some(_) => {
                self.unindex(kind, key);
                self.insert(kind, key, id, Slot::Held(object), found);
            }
            None => self.insert(kind, key, id, Slot::Held(object), found),
        }
        (key, before)
    }

    /// Writes into the agenda when this object is due.
    fn note(&mut self, kind: Kind, key: Key, object: &Value, since: i64) {
        if due::may_be(kind) {
            self.agenda.set(kind, key, object["test_clock"].as_str().unwrap_or_default(), due::of(kind, object, since));
        }
    }

    /// Asks an object anew when it is due: something that was announced is not announced again.
    pub(crate) fn renote(&mut self, kind: Kind, object: &Value) {
        if let Some(key) = self.place(kind, object["id"].as_str().unwrap_or_default()) {
            self.note(kind, key, object, self.reached);
        }
    }

    /// Keeps an object from now on that is made while it is read: it will be read many times.
    pub(crate) fn warm(&mut self, kind: Kind, id: &str) {
        let Some(key) = self.place(kind, id) else { return };
        if let Some(Slot::Lazy(number)) = self.tables[kind as usize].rows.get(&key) {
            let made = Slot::Held(self.object(kind, &Slot::Lazy(*number)));
            self.tables[kind as usize].rows.insert(key, made);
        }
    }

    /// What is due next on a clock, the sandbox's own where it has no name.
    pub(crate) fn next_due(&self, clock: &str) -> Option<Due> {
        self.agenda.first(clock)
    }

    /// Takes something off the agenda that cannot be done.
    pub(crate) fn skip(&mut self, due: Due) {
        self.agenda.forget(due.kind, due.key);
    }

    /// Writes the agenda anew for what is held, as a restart does when it knows what time it is.
    pub(crate) fn plan(&mut self) {
        for kind in Kind::ALL.into_iter().filter(|kind| due::may_be(*kind)) {
            let rows = self.tables[kind as usize].rows.iter();
            let held: Vec<(Key, Arc<Value>)> = rows
                .filter_map(|(key, slot)| match slot {
                    Slot::Held(object) => Some((*key, Arc::clone(object))),
                    Slot::Lazy(_) => None,
                })
                .collect();
            for (key, object) in held {
                let clock = object["test_clock"].as_str().and_then(|id| self.get(Kind::TestClock, id));
                let since = clock.and_then(|clock| clock["frozen_time"].as_i64()).unwrap_or(self.reached);
                self.note(kind, key, &object, since);
            }
        }
    }

    /// The object at a place.
    pub(crate) fn at(&self, kind: Kind, key: Key) -> Option<Arc<Value>> {
        self.tables[kind as usize].rows.get(&key).map(|slot| self.object(kind, slot))
    }

    fn insert(&mut self, kind: Kind, key: Key, id: Arc<str>, slot: Slot, found: Vec<Entry>) {
        let table = &mut self.tables[kind as usize];
        table.by_id.insert(id, key);
        table.index.extend(found.into_iter().map(|(index, value)| (index, value, key)));
        table.rows.insert(key, slot);
    }

    /// Takes an object out of all indexes and returns it.
    fn unindex(&mut self, kind: Kind, key: Key) -> Option<Arc<Value>> {
        let old = self.at(kind, key)?;
        for (index, value) in entries(kind, &old) {
            self.tables[kind as usize].index.remove(&(index, value, key));
        }
        Some(old)
    }

    /// Declares who makes lazy objects.
    pub(crate) fn set_maker(&mut self, maker: Maker) {
        self.maker = Some(maker);
    }

    /// A row whose object is made on reading. `found` must be what [`entries`] would say.
    pub(crate) fn put_lazy(&mut self, kind: Kind, id: Arc<str>, created: i64, number: u32, found: Vec<Entry>) {
        let key = (created, self.next());
        self.insert(kind, key, id, Slot::Lazy(number), found);
    }

    /// When a lazy row is due: what [`due::of`] would say of its object.
    pub(crate) fn note_lazy(&mut self, kind: Kind, id: &str, at: i64) {
        if let Some(key) = self.place(kind, id) {
            self.agenda.set(kind, key, "", Some(at));
        }
    }

    /// Removes the object and remembers that it is gone.
    pub(crate) fn delete(&mut self, kind: Kind, id: &str) {
        if let Some((key, before)) = self.forget(kind, id) {
            self.changes.push(Change::Drop { kind, key, before });
        }
    }

    /// Removes without writing it down: what a restart does with a deletion that it reads.
    pub(crate) fn forget(&mut self, kind: Kind, id: &str) -> Option<(Key, Arc<Value>)> {
        let key = self.place(kind, id)?;
        let before = self.unindex(kind, key)?;
        let table = &mut self.tables[kind as usize];
        table.rows.remove(&key);
        table.by_id.remove(id);
        self.agenda.forget(kind, key);
        self.gone.insert((kind, id.to_owned()));
        Some((key, before))
    }

    /// Remembers a deletion of an object that is not held any more.
    pub(crate) fn bury(&mut self, kind: Kind, id: &str) {
        if self.forget(kind, id).is_none() {
            self.gone.insert((kind, id.to_owned()));
        }
    }

    /// What has changed since the last call.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Every object of a kind that is held, oldest first, with its sequence. Lazy rows are left out.
    pub(crate) fn held(&self, kind: Kind) -> impl Iterator<Item = (u64, &Arc<Value>)> {
        self.tables[kind as usize].rows.iter().filter_map(|(key, slot)| match slot {
            Slot::Held(object) => Some((key.1, object)),
            Slot::Lazy(_) => None,
        })
    }

    /// The ids of deleted objects.
    pub(crate) fn deleted(&self) -> impl Iterator<Item = (Kind, &str)> {
        self.gone.iter().map(|(kind, id)| (*kind, id.as_str()))
    }

    /// All objects with this index value, newest first.
    pub(crate) fn all(&self, kind: Kind, index: Index, value: &str) -> Vec<Arc<Value>> {
        let query = Query { equal: vec![(index, Arc::from(value))], ..Query::default() };
        let page = self.page(kind, &query, Start::Newest, usize::MAX - 1);
        page.rows.iter().map(|row| self.made(row)).collect()
    }

    /// The newest object with this index value.
    pub(crate) fn newest(&self, kind: Kind, index: Index, value: &str) -> Option<Arc<Value>> {
        let query = Query { equal: vec![(index, Arc::from(value))], ..Query::default() };
        self.page(kind, &query, Start::Newest, 1).rows.pop().map(|row| self.made(&row))
    }

    /// One page: walks an index or the rows from where the page starts and stops one row after its end.
    pub(crate) fn page(&self, kind: Kind, query: &Query<'_>, start: Start, limit: usize) -> Page {
        let mut low: Key = (query.from.unwrap_or(i64::MIN), 0);
        let mut high: Key = (query.before.unwrap_or(i64::MAX), 0);
        match start {
            Start::Newest => {}
            Start::After(key) => high = high.min(key),
            Start::Before(key) => low = low.max((key.0, key.1 + 1)),
        }
        if low >= high {
            return Page { rows: Vec::new(), has_more: false };
        }
        let upwards = matches!(start, Start::Before(_));
        let table = &self.tables[kind as usize];
        let mut rows = match query.equal.split_first() {
            None => {
                let keys = table.rows.range(low..high).map(|(key, _)| *key);
                self.collect(kind, query, &[], keys, upwards, limit)
            }
            Some(((index, value), rest)) => {
                let from = (*index, Arc::clone(value), low);
                let to = (*index, Arc::clone(value), high);
                let keys = table.index.range(from..to).map(|(_, _, key)| *key);
                self.collect(kind, query, rest, keys, upwards, limit)
            }
        };
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        if upwards {
            rows.reverse();
        }
        Page { rows, has_more }
    }

    fn collect(
        &self,
        kind: Kind,
        query: &Query<'_>,
        rest: &[(Index, Arc<str>)],
        keys: impl DoubleEndedIterator<Item = Key>,
        upwards: bool,
        limit: usize,
    ) -> Vec<Row> {
        let table = &self.tables[kind as usize];
        let wanted =
            |key: &Key| rest.iter().all(|(index, value)| table.index.contains(&(*index, Arc::clone(value), *key)));
        let load = |key: Key| match (table.rows.get(&key)?, &query.keep) {
            (Slot::Lazy(number), None) => Some(Row::Lazy(kind, *number)),
            (slot, _) => Some(Row::Made(self.object(kind, slot))),
        };
        let kept = |row: &Row| match (row, &query.keep) {
            (Row::Made(object), Some(keep)) => keep(object),
            _ => true,
        };
        if upwards {
            keys.filter(wanted).filter_map(load).filter(kept).take(limit + 1).collect()
        } else {
            keys.rev().filter(wanted).filter_map(load).filter(kept).take(limit + 1).collect()
        }
    }

    /// The ids of a kind, for checks of the whole.
    #[cfg(test)]
    pub(crate) fn ids(&self, kind: Kind) -> Vec<Arc<str>> {
        self.tables[kind as usize].by_id.keys().map(Arc::clone).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn filled(count: i64) -> Store {
        let mut store = Store::new();
        for number in 0..count {
            let customer = if number % 2 == 0 { "cus_even" } else { "cus_odd" };
            let id = format!("ch_{number}");
            store.put(Kind::Charge, json!({"id": id, "created": number / 3, "customer": customer}));
        }
        store
    }

    fn ids(store: &Store, page: &Page) -> String {
        let ids: Vec<String> = page.rows.iter().map(|row| store.made(row)["id"].as_str().unwrap().to_owned()).collect();
        format!("{}{}", ids.join(" "), if page.has_more { " .." } else { "" })
    }

    #[test]
    fn pages_run_both_ways_newest_first() {
        let store = filled(7);
        let all = Query::default();
        let at = |id: &str| store.place(Kind::Charge, id).unwrap();
        let show = |start: Start| ids(&store, &store.page(Kind::Charge, &all, start, 3));
        assert_eq!(show(Start::Newest), "ch_6 ch_5 ch_4 ..");
        assert_eq!(show(Start::After(at("ch_4"))), "ch_3 ch_2 ch_1 ..");
        assert_eq!(show(Start::After(at("ch_1"))), "ch_0");
        assert_eq!(show(Start::Before(at("ch_1"))), "ch_4 ch_3 ch_2 ..");
        assert_eq!(show(Start::Before(at("ch_4"))), "ch_6 ch_5");
        assert_eq!(show(Start::Before(at("ch_6"))), "");
    }

    #[test]
    fn filters_are_indexes() {
        let mut store = filled(7);
        let even = || Query { equal: vec![(Index::Customer, Arc::from("cus_even"))], ..Query::default() };
        let show = |store: &Store, query: &Query<'_>| ids(store, &store.page(Kind::Charge, query, Start::Newest, 9));
        assert_eq!(show(&store, &even()), "ch_6 ch_4 ch_2 ch_0");
        assert_eq!(show(&store, &Query { from: Some(1), before: Some(2), ..even() }), "ch_4");
        store.put(Kind::Charge, json!({"id": "ch_4", "created": 1, "customer": "cus_odd"}));
        assert_eq!(show(&store, &even()), "ch_6 ch_2 ch_0");
        store.delete(Kind::Charge, "ch_2");
        assert_eq!(show(&store, &even()), "ch_6 ch_0");
        assert!(store.is_gone(Kind::Charge, "ch_2"));
    }
}
