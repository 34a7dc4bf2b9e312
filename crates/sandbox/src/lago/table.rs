//! Rows in the order of their creation, found by a key. A row that is deleted stays for those who refer to it.

use std::collections::HashMap;
use std::ops::{Index, IndexMut};

/// A row's place in its table, for as long as the table lives.
pub(super) type Place = usize;

#[derive(Debug)]
pub(super) struct Table<T> {
    keys: Vec<Option<String>>,
    values: Vec<T>,
    by_key: HashMap<String, Place>,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table { keys: Vec::new(), values: Vec::new(), by_key: HashMap::new() }
    }
}

impl<T> Table<T> {
    /// The row that has this key now.
    pub(super) fn find(&self, key: &str) -> Option<Place> {
        self.by_key.get(key).copied()
    }

    /// Adds a row; a key that is taken moves to the new one.
    pub(super) fn push(&mut self, key: &str, value: T) -> Place {
        let place = self.values.len();
        if let Some(old) = self.by_key.insert(key.to_owned(), place) {
            self.keys[old] = None;
        }
        self.keys.push(Some(key.to_owned()));
        self.values.push(value);
        place
    }

    /// Takes the key from a row.
    pub(super) fn forget(&mut self, key: &str) {
        if let Some(place) = self.by_key.remove(key) {
            self.keys[place] = None;
        }
    }

    /// The rows that have a key, newest first, as Lago lists them.
    pub(super) fn newest(&self) -> impl Iterator<Item = &T> {
        self.keys.iter().zip(&self.values).rev().filter(|(key, _)| key.is_some()).map(|(_, value)| value)
    }

    /// All rows, also those without a key.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }
}

impl<T> Index<Place> for Table<T> {
    type Output = T;

    fn index(&self, place: Place) -> &T {
        &self.values[place]
    }
}

impl<T> IndexMut<Place> for Table<T> {
    fn index_mut(&mut self, place: Place) -> &mut T {
        &mut self.values[place]
    }
}
