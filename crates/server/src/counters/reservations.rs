//! Reservations by their ids: whose each is, what it asked for, and what became of it.
//!
//! What is held of an account lies with the account (`book::State::held`); here an id leads to it. An id stands for one thing
//! in the whole program as long as it is remembered (I-04).

use std::cmp::Reverse;
use std::collections::hash_map::{Entry, RandomState};
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use billing::hold::Hold;
use billing::usage::{Credits, Quantity};

/// Parts of the map, so that two requests rarely meet.
const PARTS: usize = 64;
/// How long a reservation is remembered here that nobody resolved, so that a late commit need not say whose it is. The database
/// knows of those that were open when it was written to.
const REMEMBERED_MS: i64 = 3_600_000;
/// How many of those each part remembers: whoever reserves and never resolves must not fill the memory. The oldest go first.
const OVER_MAX: usize = 2_048;
/// After this time it is looked again whether a commit that was under way has arrived.
const UNDER_WAY_MS: i64 = 1_000;
/// So long after its time a commit that was under way is one that never arrived.
const UNDER_WAY_MAX_MS: i64 = 60_000;

/// A reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub user: Arc<str>,
    pub kind: Arc<str>,
    pub quantity: Quantity,
    /// What is held for it; nothing where it was let through undecided.
    pub credits: Credits,
    pub expires_ms: i64,
    pub fate: Fate,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is held until it expires.
    Held,
    /// It could not be decided and was let through: nothing is held.
    Undecided,
    /// Its commit is on the way to the log.
    Committing {
        late: bool,
        /// Nothing was held for it.
        undecided: bool,
    },
    /// It is in the log.
    Committed {
        quantity: Quantity,
        position: i64,
        late: bool,
    },
    Released,
}

impl Known {
    /// What is held of the account for it.
    pub fn hold(&self) -> Hold {
        Hold {
            kind: Arc::clone(&self.kind),
            quantity: self.quantity,
            credits: self.credits,
            expires_ms: self.expires_ms,
        }
    }

    /// Nobody resolved it, and its time is over.
    pub fn is_over(&self, now_ms: i64) -> bool {
        self.expires_ms <= now_ms && matches!(self.fate, Fate::Held | Fate::Undecided)
    }

    /// The member in which it differs from what is asked for now.
    pub fn differs(&self, user: &str, kind: &str, quantity: Quantity) -> Option<&'static str> {
        if *self.user != *user {
            Some("user_id")
        } else if *self.kind != *kind {
            Some("type")
        } else {
            (self.quantity != quantity).then_some("quantity")
        }
    }
}

/// All that are remembered.
#[derive(Debug)]
pub struct Reservations {
    parts: Vec<Mutex<Part>>,
    hasher: RandomState,
    /// Those that the database has as open.
    written: Mutex<HashSet<Arc<str>>>,
}

/// Some of them, under one lock.
#[derive(Debug, Default)]
pub struct Part {
    known: HashMap<Arc<str>, Known>,
    /// When the time of each is over.
    due: BinaryHeap<Reverse<(i64, Arc<str>)>>,
    /// Those whose time was over before anybody resolved them, and when that was; the oldest first.
    over: VecDeque<(i64, Arc<str>)>,
    /// Opened or resolved since they were last written down.
    moved: Vec<Arc<str>>,
    /// Not remembered any more since then. What the database has of them stays there for its time.
    forgotten: Vec<Arc<str>>,
}

/// What has to be written down, and what is to be removed.
#[derive(Debug, Default)]
pub struct Changes {
    pub opened: Vec<(Arc<str>, Known)>,
    pub closed: Vec<Arc<str>>,
}

impl Default for Reservations {
    fn default() -> Self {
        Self {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            written: Mutex::default(),
        }
    }
}

impl Reservations {
    /// The part in which an id is or would be. Locked before a slot, never after one.
    pub fn part(&self, id: &str) -> MutexGuard<'_, Part> {
        let at = self.hasher.hash_one(id) % (PARTS as u64);
        lock(&self.parts[usize::try_from(at).unwrap_or_default()])
    }

    pub fn get(&self, id: &str) -> Option<Known> {
        self.part(id).known.get(id).cloned()
    }

    /// Remembers another fate of a known id.
    pub fn resolve(&self, id: &str, fate: Fate) {
        self.part(id).resolve(id, fate);
    }

    /// A commit is under way: until it is counted or has failed, nobody frees what is held for it. Not where it was released.
    pub fn commit_begins(&self, id: &str, late: bool) -> bool {
        let mut part = self.part(id);
        match part.known.get(id).map(|known| known.fate) {
            Some(Fate::Held) => part.resolve(id, Fate::Committing { late, undecided: false }),
            Some(Fate::Undecided) => part.resolve(id, Fate::Committing { late, undecided: true }),
            Some(Fate::Committing { .. } | Fate::Committed { .. }) | None => {}
            Some(Fate::Released) => return false,
        }
        true
    }

    /// It has failed: the reservation is as it was.
    pub fn commit_failed(&self, id: &str) {
        let mut part = self.part(id);
        if let Some(Fate::Committing { undecided, .. }) = part.known.get(id).map(|known| known.fate) {
            part.resolve(id, if undecided { Fate::Undecided } else { Fate::Held });
        }
    }

    /// The commit of a reservation is counted. Whether it was late is what was found when the commit came.
    pub fn committed(&self, id: &str, quantity: Quantity, position: i64) {
        let mut part = self.part(id);
        let late = match part.known.get(id).map(|known| known.fate) {
            None | Some(Fate::Committed { .. }) => return,
            Some(Fate::Committing { late, .. }) => late,
            Some(Fate::Held | Fate::Undecided | Fate::Released) => false,
        };
        part.resolve(id, Fate::Committed { quantity, position, late });
    }

    /// Reservations whose time was over at this instant and that nobody had resolved: their ids and users. Forgets those that
    /// have been over for long.
    pub fn expire(&self, now_ms: i64) -> Vec<(Arc<str>, Arc<str>)> {
        let mut over = Vec::new();
        for part in &self.parts {
            lock(part).expire(now_ms, &mut over);
        }
        over
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        let open = |part: &Mutex<Part>| lock(part).known.values().filter(|known| known.fate == Fate::Held).count();
        self.parts.iter().map(open).sum()
    }

    /// What has changed since the last call, against what the database has. What was over before it could be written down is
    /// not written any more.
    pub fn changes(&self, now_ms: i64) -> Changes {
        let mut changes = Changes::default();
        let mut written = lock(&self.written);
        for part in &self.parts {
            let mut part = lock(part);
            for id in std::mem::take(&mut part.moved) {
                let known = part.known.get(&id);
                let open = known.filter(|known| matches!(known.fate, Fate::Held | Fate::Committing { .. }));
                match open {
                    Some(_) if written.contains(&id) => {}
                    Some(known) if known.is_over(now_ms) => {}
                    Some(known) => {
                        written.insert(Arc::clone(&id));
                        changes.opened.push((id, known.clone()));
                    }
                    None if written.remove(&id) => changes.closed.push(id),
                    None => {}
                }
            }
            for id in std::mem::take(&mut part.forgotten) {
                if !part.known.contains_key(&id) {
                    written.remove(&id);
                }
            }
        }
        changes
    }

    /// The changes could not be written: they wait for the next time.
    pub fn put_back(&self, changes: Changes) {
        let mut written = lock(&self.written);
        for (id, _) in changes.opened {
            written.remove(&id);
            self.part(&id).moved.push(id);
        }
        for id in changes.closed {
            written.insert(Arc::clone(&id));
            self.part(&id).moved.push(id);
        }
    }

    /// Takes one over that the database has as open.
    pub fn restore(&self, id: &Arc<str>, known: Known) {
        self.part(id).insert(id, known);
        lock(&self.written).insert(Arc::clone(id));
    }
}

impl Part {
    pub fn get(&self, id: &str) -> Option<&Known> {
        self.known.get(id)
    }

    /// Remembers a new one, or a new life of one that had expired.
    pub fn insert(&mut self, id: &Arc<str>, known: Known) {
        self.due.push(Reverse((known.expires_ms, Arc::clone(id))));
        self.moved.push(Arc::clone(id));
        self.known.insert(Arc::clone(id), known);
    }

    pub fn resolve(&mut self, id: &str, fate: Fate) {
        if let Some((id, _)) = self.known.get_key_value(id) {
            self.moved.push(Arc::clone(id));
        }
        if let Some(known) = self.known.get_mut(id) {
            known.fate = fate;
        }
    }

    fn expire(&mut self, now_ms: i64, over: &mut Vec<(Arc<str>, Arc<str>)>) {
        while let Some(Reverse((due_ms, _))) = self.due.peek()
            && *due_ms <= now_ms
            && let Some(Reverse((_, id))) = self.due.pop()
        {
            let Entry::Occupied(known) = self.known.entry(Arc::clone(&id)) else { continue };
            let expires_ms = known.get().expires_ms;
            if expires_ms > now_ms {
                continue; // a new life: its own due time is in the heap
            }
            match known.get().fate {
                Fate::Committed { .. } | Fate::Released => drop(known.remove()),
                Fate::Held | Fate::Undecided => {
                    over.push((Arc::clone(&id), Arc::clone(&known.get().user)));
                    self.over.push_back((expires_ms, id));
                }
                // Its entry will say, or nobody: then its caller went away, and it was not recorded.
                Fate::Committing { .. } if now_ms < expires_ms + UNDER_WAY_MAX_MS => {
                    self.due.push(Reverse((now_ms + UNDER_WAY_MS, id)));
                }
                Fate::Committing { .. } => self.over.push_back((expires_ms, id)),
            }
        }
        self.forget(now_ms);
    }

    /// Forgets those that have been over for long, and the oldest where there are too many.
    fn forget(&mut self, now_ms: i64) {
        while let Some((over_ms, _)) = self.over.front()
            && (over_ms + REMEMBERED_MS <= now_ms || self.over.len() > OVER_MAX)
            && let Some((over_ms, id)) = self.over.pop_front()
        {
            let Entry::Occupied(known) = self.known.entry(Arc::clone(&id)) else { continue };
            if known.get().expires_ms != over_ms {
                continue; // a new life
            }
            known.remove();
            self.forgotten.push(id);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
