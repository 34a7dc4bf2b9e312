//! The book: the accounts that somebody has touched, folded from the log, and the position at which they stand.
//!
//! Accounts that nobody has touched since they were last written down lie in the database. The book is moved by one hand at a
//! time (`Turn`), read by everybody.

mod state;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use std::time::Duration;

use billing::account::{Account, Room};
use billing::hold::Held;
use billing::usage::Quantity;
use foldhash::quality::RandomState;
use tokio::sync::watch;

use self::state::closed_row;
use super::publishing::Moves;
use super::reading::{LATE_COMMIT, Said};
use super::redis::There;
use super::reservations::{Fate, Recorded, Reservations, UNDER_WAY_MAX_MS, place};
use crate::error::Error;
use crate::store::accounts::{Closed, Day, Page, Snapshot, Stand, Warning};
use crate::store::log::Kind;

/// Parts of the map, so that readers and the writer rarely meet.
const PARTS: usize = 64;
/// Shards of the view, for ever: they decide where an account lies in Redis.
pub const SHARDS: u64 = 1024;
/// Beyond so many accounts, those that are written down and quiet leave memory.
const ACCOUNTS_MAX: usize = 500_000;
/// How soon somebody who may not wait asks again whether nobody moves the book.
const AGAIN: Duration = Duration::from_millis(1);

/// Which shard a user's counters are in: FNV-1a of the id, the same on every machine and for ever.
pub fn shard_of(user: &str) -> i64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in user.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    i64::try_from((hash ^ (hash >> 32)) % SHARDS).unwrap_or_default()
}

/// All accounts in memory.
#[derive(Debug)]
pub struct Book {
    parts: Vec<RwLock<Slots>>,
    /// The entry that everything in the book has counted.
    applied: AtomicI64,
    moved: watch::Sender<i64>,
    /// The latest acceptance of an entry that was counted, in milliseconds.
    latest_ms: AtomicI64,
    turn: Mutex<Changed>,
    count: AtomicUsize,
    /// How many entries are counted that are not written down yet.
    unwritten: AtomicUsize,
    /// The log is counted as far as it was when somebody last looked. While the book begins anew, what is not in it may be old.
    is_whole: AtomicBool,
    /// The log was found to end before what was counted.
    set_back: AtomicBool,
    /// How often it was begun anew: an account taken in hand before that is not one of this book any more.
    edition: AtomicU64,
    /// Reservations by id.
    pub reservations: Reservations,
    /// What has moved since it was last published, where this process publishes.
    pub moves: Moves,
    /// What is held lies in Redis.
    is_shared: bool,
    /// Somebody else decides by counters of their own, which this process does not see.
    listens: AtomicBool,
    /// What is held of accounts that were forgotten and are not read again yet.
    apart: Mutex<HashMap<Arc<str>, Apart>>,
}

/// Some accounts by their users.
type Slots = HashMap<Arc<str>, Arc<Slot>, RandomState>;

/// What a slot has beside its account: not in the log.
#[derive(Debug, Default)]
struct Apart {
    held: Held,
    rates: Vec<(Box<str>, i64)>,
    there: There,
}

/// What has changed since it was last written down.
#[derive(Debug, Default)]
struct Changed {
    /// Where the database stands.
    written: Stand,
    slots: Vec<Arc<Slot>>,
    closed: Vec<Closed>,
    warnings: Vec<Warning>,
}

/// One account in memory, with what is held of it.
#[derive(Debug)]
pub struct Slot {
    pub user: Arc<str>,
    state: Mutex<State>,
}

/// What the lock of a slot protects: usage and holds move together.
#[derive(Debug)]
pub struct State {
    pub account: Account,
    pub held: Held,
    /// The theoretical arrival times of rates, by event type, in nanoseconds.
    pub rates: Vec<(Box<str>, i64)>,
    /// What this process knows of the account in Redis.
    pub there: There,
    /// In which round it was last noted that it has moved.
    noted: u64,
    /// What may be used, as it was worked out last.
    room: Option<Worked>,
    days: Vec<DaySum>,
    changed: bool,
    /// Why an entry of the log could not be counted; `doctor` shows it.
    fault: Option<String>,
    /// It is in the book no more: what somebody who has it in hand holds of it would be lost.
    pub is_forgotten: bool,
}

/// What was added to a day since it was last written down.
#[derive(Debug, Clone)]
struct DaySum {
    /// Its first millisecond.
    start_ms: i64,
    sum: Day,
}

/// The room of an account: it holds from an instant on, as long as no entry comes, until the room itself says.
#[derive(Debug)]
struct Worked {
    position: i64,
    from_ms: i64,
    room: Arc<Room>,
}

impl Slot {
    pub fn new(user: &str, account: Account) -> Arc<Self> {
        let state = State {
            account,
            held: Held::default(),
            rates: Vec::new(),
            there: There::default(),
            noted: 0,
            room: None,
            days: Vec::new(),
            changed: false,
            fault: None,
            is_forgotten: false,
        };
        Arc::new(Self { user: user.into(), state: Mutex::new(state) })
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the log has an entry of it. Something may be held of a user who has none; their account then begins anew with
    /// the first one.
    pub fn is_open(&self) -> bool {
        self.lock().account.position() > 0
    }
}

/// The right to move the book.
#[derive(Debug)]
pub struct Turn<'b> {
    book: &'b Book,
    changed: MutexGuard<'b, Changed>,
}

/// A page taken out of the book to be written down.
#[derive(Debug, Clone)]
pub struct Taken {
    pub from: Stand,
    pub to: i64,
    pub page: Page,
    slots: Vec<Arc<Slot>>,
    /// The days as the slots had them, in case they have to go back.
    days: Vec<Vec<DaySum>>,
    entries: usize,
    edition: u64,
}

impl Book {
    /// An empty book at the position where the written accounts stand.
    pub fn open(written: Stand) -> Self {
        Self {
            parts: (0..PARTS).map(|_| RwLock::default()).collect(),
            applied: AtomicI64::new(written.position),
            moved: watch::Sender::new(written.position),
            latest_ms: AtomicI64::new(i64::MIN),
            turn: Mutex::new(Changed { written, ..Changed::default() }),
            count: AtomicUsize::new(0),
            unwritten: AtomicUsize::new(0),
            is_whole: AtomicBool::new(false),
            set_back: AtomicBool::new(false),
            edition: AtomicU64::new(0),
            reservations: Reservations::default(),
            moves: Moves::default(),
            is_shared: false,
            listens: AtomicBool::new(false),
            apart: Mutex::default(),
        }
    }

    /// The same where what is held lies in Redis, and commits have to be told there.
    #[must_use]
    pub fn shared(self, is_shared: bool) -> Self {
        Self { is_shared, ..self }
    }

    fn part(&self, user: &str) -> &RwLock<Slots> {
        &self.parts[place(user, PARTS)]
    }

    /// The account of a user, if it is in memory.
    pub fn get(&self, user: &str) -> Option<Arc<Slot>> {
        self.part(user).read().unwrap_or_else(PoisonError::into_inner).get(user).cloned()
    }

    /// Puts an account into memory that was read from the database or is new. Somebody else's, if they were faster.
    pub fn put(&self, slot: Arc<Slot>) -> Arc<Slot> {
        let mut part = self.part(&slot.user).write().unwrap_or_else(PoisonError::into_inner);
        let kept = part.entry(slot.user.clone()).or_insert_with(|| {
            self.count.fetch_add(1, Ordering::Relaxed);
            if let Some(apart) = self.apart().remove(&slot.user) {
                slot.lock().take_back(apart);
            }
            slot
        });
        Arc::clone(kept)
    }

    /// The same for an account that is about to be counted on: where the one in memory has no entry yet, this one takes its
    /// place, and what is held stays held.
    pub fn put_open(&self, slot: Arc<Slot>) -> Arc<Slot> {
        let kept = self.get(&slot.user).unwrap_or_else(|| self.put(Arc::clone(&slot)));
        if !Arc::ptr_eq(&kept, &slot) && !kept.is_open() {
            let account = slot.lock().account.clone();
            kept.lock().begin(account);
        }
        kept
    }

    /// Changes what is held of an account, which may wait for the account to come back.
    pub fn change_held<R>(&self, user: &str, change: impl FnOnce(&mut Held) -> R) -> Option<R> {
        if let Some(slot) = self.get(user) {
            return Some(change(&mut slot.lock().held));
        }
        self.apart().get_mut(user).map(|apart| change(&mut apart.held))
    }

    /// Whether limits are decided here.
    pub fn decides(&self) -> bool {
        !self.listens.load(Ordering::Relaxed)
    }

    pub fn decide(&self, decides: bool) {
        self.listens.store(!decides, Ordering::Relaxed);
    }

    /// A commit is under way: until it is counted or has failed, nobody frees what is held for it. Not where it was released.
    pub fn commit_begins(&self, id: &str, late: bool) -> bool {
        let mut part = self.reservations.part(id);
        let begins = part.commit_begins(id);
        // What is over already is nobody's.
        if let Some(known) = part.get(id).filter(|_| begins && !late) {
            let until_ms = known.expires_ms.saturating_add(UNDER_WAY_MAX_MS);
            self.change_held(&known.user, |held| held.end_at(id, until_ms));
        }
        begins
    }

    /// One has failed: without another the reservation is as it was.
    pub fn commit_failed(&self, id: &str) {
        let mut part = self.reservations.part(id);
        part.commit_failed(id);
        if let Some(known) = part.get(id).filter(|known| !matches!(known.fate, Fate::Committing { .. })) {
            self.change_held(&known.user, |held| held.end_at(id, known.expires_ms));
        }
    }

    fn apart(&self) -> MutexGuard<'_, HashMap<Arc<str>, Apart>> {
        self.apart.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of accounts without an entry of which nothing is held, and of rates that have recovered.
    pub fn tidy(&self, now_ns: i64) {
        for part in &self.parts {
            let mut part = part.write().unwrap_or_else(PoisonError::into_inner);
            let before = part.len();
            part.retain(|_, slot| {
                let mut state = slot.lock();
                state.rates.retain(|(_, tat_ns)| *tat_ns > now_ns);
                Arc::strong_count(slot) > 1 || state.account.position() > 0 || state.is_in_use()
            });
            self.count.fetch_sub(before - part.len(), Ordering::Relaxed);
        }
    }

    /// The last entry that is counted.
    pub fn applied(&self) -> i64 {
        self.applied.load(Ordering::Acquire)
    }

    /// Whether an account that is not in memory has no entry after what was written down last.
    pub fn is_whole(&self) -> bool {
        self.is_whole.load(Ordering::Acquire)
    }

    /// Whether the log was found to end before what was counted of it: then what was published is of a log that does not exist any
    /// more, until somebody has seen to it.
    pub fn is_set_back(&self) -> bool {
        self.set_back.load(Ordering::Acquire)
    }

    pub fn note_set_back(&self, is_set_back: bool) {
        self.set_back.store(is_set_back, Ordering::Release);
    }

    /// The latest acceptance of an entry that was counted here, in milliseconds.
    pub fn latest_ms(&self) -> i64 {
        self.latest_ms.load(Ordering::Relaxed)
    }

    /// Which edition of the book this is; another one after every new beginning.
    pub fn edition(&self) -> u64 {
        self.edition.load(Ordering::Acquire)
    }

    /// Waits until an entry is counted; whether it is.
    pub async fn wait_for(&self, position: i64, at_most: Duration) -> bool {
        let mut moved = self.watch();
        let arrived = moved.wait_for(|applied| *applied >= position);
        tokio::time::timeout(at_most, arrived).await.is_ok_and(|moved| moved.is_ok())
    }

    /// Hears of every move.
    pub fn watch(&self) -> watch::Receiver<i64> {
        self.moved.subscribe()
    }

    /// How many accounts are in memory.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every account in memory.
    pub fn slots(&self) -> Vec<Arc<Slot>> {
        let all = self.parts.iter().map(|part| part.read().unwrap_or_else(PoisonError::into_inner));
        all.flat_map(|part| part.values().cloned().collect::<Vec<_>>()).collect()
    }

    /// Waits for the right to move the book, which may take as long as the log takes to read: only on threads where waiting is allowed.
    pub fn turn(&self) -> Turn<'_> {
        Turn { book: self, changed: self.turn.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// The same for whoever shares a thread with others: those go on meanwhile. Nothing may be waited for with it in hand.
    pub async fn turn_between(&self) -> Turn<'_> {
        loop {
            if let Some(turn) = self.turn_at_once() {
                return turn;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn turn_at_once(&self) -> Option<Turn<'_>> {
        let changed = match self.turn.try_lock() {
            Ok(changed) => changed,
            Err(TryLockError::Poisoned(held)) => held.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(Turn { book: self, changed })
    }

    /// How many entries are counted that are not written down yet.
    pub fn unwritten(&self) -> usize {
        self.unwritten.load(Ordering::Relaxed)
    }
}

impl Turn<'_> {
    /// Counts an entry, unless the account has it already. `committed` is the reservation whose commit it is.
    pub fn fold(&mut self, slot: &Arc<Slot>, said: Said<'_>, committed: Option<&str>) -> bool {
        let mut state = slot.lock();
        if said.position <= state.account.position() {
            return false;
        }
        let counts = matches!(said.kind, Kind::Usage | Kind::Adjust | Kind::Void);
        // History of a closed period is shown on its day; for the account only its place in the log passes.
        let is_past = said.is_only_shown(&state.account);
        let folded = if is_past {
            Ok(state.account.fold(&said.passing()))
        } else {
            said.read(|entry| state.account.fold(entry))
        };
        if let Some(id) = committed {
            state.held.take(id);
            if self.book.is_shared {
                state.there.note_untold(id);
            }
        }
        self.book.moves.note(slot, &mut state.noted, committed);
        self.book.latest_ms.fetch_max(said.received_ms, Ordering::Relaxed);
        self.book.unwritten.fetch_add(1, Ordering::Relaxed);
        if !state.changed {
            state.changed = true;
            self.changed.slots.push(Arc::clone(slot));
        }
        let folded = match folded.and_then(|folded| folded.map_err(Error::internal)) {
            Ok(folded) => folded,
            Err(error) => {
                // It is in the log and stays there. What cannot be counted is said, not dropped.
                tracing::error!(position = said.position, user.id = &*slot.user, %error, "an entry could not be counted");
                state.fault = Some(error.to_string());
                // Its place in the log passes, so that the list of the user's entries leads through it.
                if let Err(error) = state.account.fold(&said.passing()) {
                    tracing::error!(position = said.position, user.id = &*slot.user, %error, "nor be passed over");
                }
                return false;
            }
        };
        if counts {
            let cost_pico = if is_past { said.shown_pico() } else { folded.cost_pico };
            if let Err(error) = state.add_day(&slot.user, folded.day, &said, cost_pico) {
                tracing::error!(position = said.position, user.id = &*slot.user, %error, "a day's sum is too large");
                state.fault = Some(error.to_string());
            }
        }
        drop(state);
        if let Some(id) = committed {
            let late = said.body == Some(LATE_COMMIT);
            let (position, quantity) = (said.position, Quantity::from_micro(said.quantity));
            self.book.reservations.committed(id, Recorded { position, quantity, late });
        }
        let period_start_ms = folded.period;
        let warning = |percent| Warning {
            user: slot.user.to_string(),
            period_start_ms,
            percent: i64::from(percent),
            position: said.position,
            at_ms: said.received_ms,
        };
        self.changed.warnings.extend(folded.warnings.into_iter().map(warning));
        self.changed.closed.extend(folded.closed.iter().map(|closed| closed_row(&slot.user, said.position, closed)));
        folded.late
    }

    /// Puts an account into memory that is known to be current as long as this turn lasts.
    pub fn put(&self, slot: Arc<Slot>) -> Arc<Slot> {
        self.book.put(slot)
    }

    /// Everything up to this entry is counted.
    pub fn moved_to(&mut self, position: i64) {
        self.book.applied.store(position, Ordering::Release);
        self.book.moved.send_replace(position);
    }

    /// Everything that changed since it was last written down; nothing when nothing did.
    pub fn take(&mut self) -> Option<Taken> {
        let to = self.book.applied();
        if to == self.changed.written.position {
            return None;
        }
        let slots = std::mem::take(&mut self.changed.slots);
        let mut page = Page {
            closed: std::mem::take(&mut self.changed.closed),
            warnings: std::mem::take(&mut self.changed.warnings),
            ..Page::default()
        };
        let mut days_taken = Vec::with_capacity(slots.len());
        for slot in &slots {
            let mut state = slot.lock();
            state.changed = false;
            let days = std::mem::take(&mut state.days);
            page.days.extend(days.iter().map(|day| day.sum.clone()));
            days_taken.push(days);
            page.accounts.push(Snapshot {
                user: slot.user.to_string(),
                shard: shard_of(&slot.user),
                position: state.account.position(),
                state: state.account.encode(),
            });
        }
        let entries = self.book.unwritten.swap(0, Ordering::Relaxed);
        let edition = self.book.edition();
        Some(Taken { from: self.changed.written, to, page, slots, days: days_taken, entries, edition })
    }

    /// What was taken is on disk.
    pub fn wrote(&mut self, taken: &Taken) {
        if taken.edition != self.book.edition() {
            return;
        }
        self.changed.written.position = taken.to;
        self.book.make_room();
    }

    /// What was taken could not be written: it waits for the next time. A book that has begun anew meanwhile counts it again.
    pub fn put_back(&mut self, taken: Taken) {
        if taken.edition != self.book.edition() {
            return;
        }
        for (slot, days) in taken.slots.into_iter().zip(taken.days) {
            let mut state = slot.lock();
            // Sums of days are added up, whichever came first. That they fit was seen when they were counted.
            let later = std::mem::replace(&mut state.days, days);
            for day in later {
                state.add_sum(day);
            }
            if !std::mem::replace(&mut state.changed, true) {
                drop(state);
                self.changed.slots.push(slot);
            }
        }
        self.book.unwritten.fetch_add(taken.entries, Ordering::Relaxed);
        self.changed.closed.extend(taken.page.closed);
        self.changed.warnings.extend(taken.page.warnings);
    }

    /// Forgets every account: they are read and folded anew from what is written at this position.
    pub fn start_over(&mut self, written: Stand) {
        self.book.is_whole.store(false, Ordering::Release);
        for part in &self.book.parts {
            let mut part = part.write().unwrap_or_else(PoisonError::into_inner);
            for (user, slot) in part.drain() {
                let mut state = slot.lock();
                state.is_forgotten = true;
                if state.is_held() {
                    // The log does not know what is held: it waits for the account to come back.
                    self.book.apart().insert(user, state.set_apart());
                }
            }
        }
        self.book.edition.fetch_add(1, Ordering::AcqRel);
        self.book.count.store(0, Ordering::Relaxed);
        self.book.unwritten.store(0, Ordering::Relaxed);
        *self.changed = Changed { written, ..Changed::default() };
        self.moved_to(written.position);
    }

    /// The log is counted to its end.
    pub fn caught_up(&self) {
        self.book.is_whole.store(true, Ordering::Release);
    }

    /// Where the database stands, as far as this book knows.
    pub fn written(&self) -> Stand {
        self.changed.written
    }
}

impl Book {
    /// Lets go of accounts that the database has and nobody holds anything of.
    fn make_room(&self) {
        if self.len() <= ACCOUNTS_MAX {
            return;
        }
        for part in &self.parts {
            let mut part = part.write().unwrap_or_else(PoisonError::into_inner);
            let before = part.len();
            // Somebody who has the account in hand (a second pointer) may be about to change it.
            part.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.lock().is_in_use());
            self.count.fetch_sub(before - part.len(), Ordering::Relaxed);
        }
    }
}
