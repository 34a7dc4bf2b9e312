//! Reservations by their ids: whose each is, what it asked for, and what became of it.
//!
//! What is held of an account lies with the account (`book::State::held`); here an id leads to it. An id stands for one thing
//! in the whole program as long as it is remembered (I-04).

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use billing::hold::Hold;
use billing::usage::{Credits, Quantity};

use crate::store::reservations::OLD_MS;
use crate::store::reservations::note::{Ended, Note, Opened, Pen};
use foldhash::quality::RandomState;

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
pub(super) const UNDER_WAY_MAX_MS: i64 = 60_000;
/// Those whose time is over within so many milliseconds (a power of two) are looked for together.
const DUE_BITS: u32 = 7;
/// After this time the note in which one was opened may be gone when that of its end goes.
const YOUNG_MS: i64 = OLD_MS * 2 / 3;
/// A note that has so many bytes is full.
const NOTE_BYTES: usize = 1 << 20;

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
        /// Nothing was held for it.
        undecided: bool,
        /// How many say so at this moment: as long as one of them may still be recorded, nobody releases it.
        attempts: u32,
    },
    /// It is in the log: as this, unless only Redis has told so.
    Committed(Option<Recorded>),
    Released,
}

/// A commit as the log has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    pub position: i64,
    pub quantity: Quantity,
    /// Nothing was held for it any more. It counts all the same.
    pub late: bool,
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

    /// Something is held for it as long as its time is not over.
    fn is_open(&self) -> bool {
        matches!(self.fate, Fate::Held | Fate::Committing { undecided: false, .. })
    }

    fn opened<'k>(&'k self, id: &'k str) -> Opened<'k> {
        Opened {
            id,
            user: &self.user,
            kind: &self.kind,
            quantity: self.quantity.micro(),
            credits: self.credits.micro(),
            expires_ms: self.expires_ms,
        }
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
    /// A note was not written: the next one says everything.
    lost: AtomicBool,
}

/// Some of them, under one lock.
#[derive(Debug, Default)]
pub struct Part {
    known: HashMap<Arc<str>, Remembered, RandomState>,
    /// When the time of each is over: those of a moment together.
    due: BTreeMap<i64, Vec<(i64, Arc<str>)>>,
    /// Those whose time was over before anybody resolved them, and when that was; the oldest first.
    over: VecDeque<(i64, Arc<str>)>,
    /// Whose they were, since it was last asked.
    freed: Vec<Arc<str>>,
    /// What is to be written down.
    pen: Pen,
    /// When it was last written down.
    noted_ms: i64,
}

/// One that is remembered, and when it was opened, or a little earlier.
#[derive(Debug)]
struct Remembered {
    known: Known,
    since_ms: i64,
}

impl Default for Reservations {
    fn default() -> Self {
        Self { parts: (0..PARTS).map(|_| Mutex::default()).collect(), lost: AtomicBool::new(false) }
    }
}

impl Reservations {
    /// The part in which an id is or would be. Locked before a slot, never after one.
    pub fn part(&self, id: &str) -> MutexGuard<'_, Part> {
        lock(&self.parts[place(id, PARTS)])
    }

    pub fn get(&self, id: &str) -> Option<Known> {
        self.part(id).get(id).cloned()
    }

    /// Remembers another fate of a known id.
    pub fn resolve(&self, id: &str, fate: Fate) {
        self.part(id).resolve(id, fate);
    }

    /// The commit of a reservation is counted. Whether it was late is what was found when the commit came, in whichever process.
    pub fn committed(&self, id: &str, recorded: Recorded) {
        let mut part = self.part(id);
        match part.get(id).map(|known| known.fate) {
            None | Some(Fate::Committed(_)) => {}
            Some(Fate::Committing { .. } | Fate::Held | Fate::Undecided | Fate::Released) => {
                part.resolve(id, Fate::Committed(Some(recorded)));
            }
        }
    }

    /// The users of reservations whose time was over at this instant and that nobody had resolved, each once. Forgets those that have been
    /// over for long.
    pub fn expire(&self, now_ms: i64) -> Vec<Arc<str>> {
        let mut freed = Vec::new();
        for part in &self.parts {
            let mut part = lock(part);
            part.expire(now_ms);
            freed.append(&mut part.freed);
        }
        let mut seen = HashSet::with_capacity(freed.len());
        freed.retain(|user| seen.insert(Arc::as_ptr(user)));
        freed
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        let open = |part: &Mutex<Part>| lock(part).known.values().filter(|one| one.known.fate == Fate::Held).count();
        self.parts.iter().map(open).sum()
    }

    /// What has happened since the last call, to be written down; after [`Self::lose`] everything that matters.
    pub fn notes(&self, now_ms: i64) -> Vec<Note> {
        let is_lost = self.lost.swap(false, Ordering::AcqRel);
        let mut notes = vec![Note::default()];
        for part in &self.parts {
            let mut part = lock(part);
            if is_lost {
                part.say_everything(now_ms);
            }
            if let Some(note) = notes.last_mut() {
                part.pen.hand_over(note);
            }
            part.noted_ms = now_ms;
            drop(part);
            if notes.last().is_some_and(|note| note.len() >= NOTE_BYTES) {
                notes.push(Note::default());
            }
        }
        notes.retain(|note| !note.is_empty());
        notes
    }

    /// Notes could not be written, and are gone.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::Release);
    }

    /// Takes one over that the database has as open.
    pub fn restore(&self, id: &Arc<str>, known: Known) {
        // Opened by another process, or by one before us: nobody knows when.
        self.part(id).remember(id, Remembered { known, since_ms: i64::MIN });
    }
}

impl Part {
    /// A commit is under way. Not where it was released.
    pub fn commit_begins(&mut self, id: &str) -> bool {
        let (undecided, before) = match self.get(id).map(|known| known.fate) {
            Some(Fate::Held) => (false, 0),
            Some(Fate::Undecided) => (true, 0),
            Some(Fate::Committing { undecided, attempts }) => (undecided, attempts),
            Some(Fate::Committed(_)) | None => return true,
            Some(Fate::Released) => return false,
        };
        self.resolve(id, Fate::Committing { undecided, attempts: before.saturating_add(1) });
        true
    }

    /// One has failed: without another the reservation is as it was.
    pub fn commit_failed(&mut self, id: &str) {
        let Some(Fate::Committing { undecided, attempts }) = self.get(id).map(|known| known.fate) else { return };
        self.resolve(
            id,
            match attempts {
                ..=1 if undecided => Fate::Undecided,
                ..=1 => Fate::Held,
                _ => Fate::Committing { undecided, attempts: attempts - 1 },
            },
        );
    }

    pub fn get(&self, id: &str) -> Option<&Known> {
        self.known.get(id).map(|one| &one.known)
    }

    /// Remembers a new one, or a new life of one that had expired.
    pub fn insert(&mut self, id: &Arc<str>, known: Known) {
        // A part of what the sweep would do, by whoever makes it necessary: so nobody has to do all of it at once.
        self.end_moments(self.noted_ms);
        self.forget(self.noted_ms);
        if known.fate == Fate::Held {
            self.pen.opened(&known.opened(id));
        }
        self.remember(id, Remembered { known, since_ms: self.noted_ms });
    }

    fn remember(&mut self, id: &Arc<str>, one: Remembered) {
        self.look_at(one.known.expires_ms, Arc::clone(id));
        self.known.insert(Arc::clone(id), one);
    }

    fn look_at(&mut self, at_ms: i64, id: Arc<str>) {
        self.due.entry(at_ms >> DUE_BITS).or_default().push((at_ms, id));
    }

    pub fn resolve(&mut self, id: &str, fate: Fate) {
        let Some(Remembered { known, since_ms }) = self.known.get_mut(id) else { return };
        if known.is_open() && matches!(fate, Fate::Committed(_) | Fate::Released) {
            self.pen.ended(&Ended { id, expires_ms: known.expires_ms, is_old: is_old(*since_ms, self.noted_ms) });
        }
        known.fate = fate;
    }

    /// Forgets it, whatever it was.
    pub fn drop_known(&mut self, id: &str) {
        self.known.remove(id);
    }

    /// Everything that a restart has to know, whatever was written of it.
    fn say_everything(&mut self, now_ms: i64) {
        self.pen.forget();
        for (id, Remembered { known, since_ms }) in &self.known {
            if known.expires_ms <= now_ms {
                // Nothing is held for it.
            } else if known.is_open() {
                self.pen.opened(&known.opened(id));
            } else if matches!(known.fate, Fate::Committed(_) | Fate::Released) {
                self.pen.ended(&Ended { id, expires_ms: known.expires_ms, is_old: is_old(*since_ms, now_ms) });
            }
        }
    }

    fn expire(&mut self, now_ms: i64) {
        self.end_moments(now_ms);
        if let Some(mut moment) = self.due.first_entry()
            && *moment.key() == now_ms >> DUE_BITS
        {
            let due: Vec<_> = moment.get_mut().extract_if(.., |(due_ms, _)| *due_ms <= now_ms).collect();
            for (_, id) in due {
                self.end_of_time(id, now_ms);
            }
        }
        self.forget(now_ms);
    }

    /// Ends the moments that have passed as a whole.
    fn end_moments(&mut self, now_ms: i64) {
        while let Some(moment) = self.due.first_entry()
            && *moment.key() < now_ms >> DUE_BITS
        {
            for (_, id) in moment.remove() {
                self.end_of_time(id, now_ms);
            }
        }
    }

    fn end_of_time(&mut self, id: Arc<str>, now_ms: i64) {
        let Some(Remembered { known, .. }) = self.known.get(&id) else { return };
        let expires_ms = known.expires_ms;
        if expires_ms > now_ms {
            return; // a new life: its own end is looked at as well
        }
        match known.fate {
            Fate::Committed(_) | Fate::Released => drop(self.known.remove(&id)),
            Fate::Held | Fate::Undecided => {
                self.freed.push(Arc::clone(&known.user));
                self.over.push_back((expires_ms, id));
            }
            // Its entry will say, or nobody: then its caller went away, and it was not recorded.
            Fate::Committing { .. } if now_ms < expires_ms + UNDER_WAY_MAX_MS => {
                self.look_at(now_ms + UNDER_WAY_MS, id);
            }
            Fate::Committing { .. } => self.over.push_back((expires_ms, id)),
        }
    }

    /// Forgets those that have been over for long, and the oldest where there are too many.
    fn forget(&mut self, now_ms: i64) {
        while let Some((over_ms, _)) = self.over.front()
            && (over_ms + REMEMBERED_MS <= now_ms || self.over.len() > OVER_MAX)
            && let Some((over_ms, id)) = self.over.pop_front()
        {
            let Entry::Occupied(one) = self.known.entry(id) else { continue };
            if one.get().known.expires_ms == over_ms {
                one.remove();
            } // else a new life
        }
    }
}

/// Which of so many parts (a power of two) a name belongs to. Only locks are shared out by it: no part is slower for having more.
pub(super) fn place(name: &str, parts: usize) -> usize {
    let bytes = name.as_bytes();
    let folded = || bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
    let end = bytes.last_chunk::<8>().map_or_else(folded, |end| u64::from_be_bytes(*end));
    // The golden ratio spreads what differs in a few bits over the upper half.
    let spread = end.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    usize::try_from(spread).unwrap_or_default() % parts
}

/// Whether the note in which something was opened may be gone before that of its end.
fn is_old(since_ms: i64, now_ms: i64) -> bool {
    now_ms.saturating_sub(since_ms) > YOUNG_MS
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
