//! What the log says that Lago was to be sent, counted anew from its first entry, against what is noted as sent. Whatever the
//! cursor passed and nobody sent is found here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use billing::catalogue::Catalogue;
use jiff::Timestamp;

use super::configured;
use super::draft::{Fit, Rules};
use super::event::{Event, counted_at, month};
use super::names::{self, Together};
use super::reconcile::Count;
use crate::app::App;
use crate::error::Result;
use crate::store::lago::{self, QUARTER_MS, Sum, Window};
use crate::store::log::{self, DAY_MS};
use crate::store::{Tx, users};

/// Entries that are read at a time, and subscriptions that are compared at a time.
const READ: i64 = 2_000;
const PAGE: i64 = 200;
/// A day more than sums are kept for may be forgotten in its middle.
const COMPARED_DAYS: i64 = super::SUMS_KEPT_DAYS - 1;

/// A difference between the log and what is noted as sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Several where they have one subscription at Lago.
    pub users: BTreeSet<String>,
    pub code: String,
    /// The UTC month by which Lago bills.
    pub month: (i16, i8),
    pub log: Count,
    pub noted: Count,
}

impl Difference {
    /// `ada`, or `ada, bob`
    pub fn who(&self) -> String {
        self.users.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, month: (year, month), log, noted, .. } = self;
        write!(f, "user {}, {code}, {year:04}-{month:02}: the log says {log}, noted as sent are {noted}", self.who())
    }
}

/// By code and month.
type Counts = BTreeMap<(String, (i16, i8)), Count>;

/// Counts the log anew, up to the cursor, and compares.
pub async fn compare(app: &App) -> Result<Vec<Difference>> {
    configured(app)?;
    let now = app.clock.now();
    let counting = Counting {
        catalogue: Arc::clone(&app.catalogue),
        now,
        from_ms: (now.as_millisecond() - COMPARED_DAYS * DAY_MS).div_euclid(QUARTER_MS) * QUARTER_MS,
        position: 0,
        tiers: HashMap::new(),
        log: BTreeMap::new(),
        compared: BTreeSet::new(),
        last: String::new(),
        differences: Vec::new(),
    };
    let counting = Arc::new(Mutex::new(counting));
    for step in [Counting::count, Counting::compare_page, Counting::compare_rest] {
        loop {
            let counting = Arc::clone(&counting);
            let is_more =
                app.db.read(move |tx| step(&mut counting.lock().unwrap_or_else(PoisonError::into_inner), tx)).await?;
            if !is_more {
                break;
            }
        }
    }
    let mut counting = counting.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut counting.differences))
}

/// A count that is under way. Each step is a snapshot of its own.
struct Counting {
    catalogue: Arc<Catalogue>,
    now: Timestamp,
    /// What was counted before is forgotten.
    from_ms: i64,
    /// The last entry that is counted.
    position: i64,
    tiers: HashMap<String, String>,
    log: BTreeMap<String, Counts>,
    compared: BTreeSet<String>,
    last: String,
    differences: Vec<Difference>,
}

impl Counting {
    /// A portion of the log; whether there is more that the cursor has passed.
    fn count(&mut self, tx: &mut Tx<'_>) -> Result<bool> {
        let cursor = lago::cursor(tx)?.position;
        let to = cursor.min(self.position + READ);
        let rules = Rules::read(tx, &self.catalogue, self.now)?;
        let moved = lago::moved(tx, self.position, to)?;
        for entry in log::read(tx, self.position, to - self.position)?.iter().filter(|entry| entry.position <= to) {
            let Some(Fit::For { code, .. }) = rules.fit(tx, &mut self.tiers, entry)? else { continue };
            let at_ms = moved.get(&entry.position).copied().unwrap_or(entry.event_ms);
            let sum = counted_at(entry, "", &code, at_ms).sum()?;
            if sum.quarter_ms >= self.from_ms {
                add(self.log.entry(entry.user.clone()).or_default(), &sum);
            }
        }
        self.position = to;
        Ok(to < cursor)
    }

    /// Everything that the cursor has passed by now, so that this snapshot can be compared.
    fn catch_up(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        while self.count(tx)? {}
        Ok(())
    }

    fn compare_page(&mut self, tx: &mut Tx<'_>) -> Result<bool> {
        self.catch_up(tx)?;
        let page = lago::subscriptions_after(tx, &self.last, PAGE)?;
        let (waiting, together) = (waiting(tx)?, Together::read(tx)?);
        for subscription in &page {
            self.compare_once(tx, together.with(&subscription.user), &waiting)?;
        }
        let Some(last) = page.last() else { return Ok(false) };
        self.last.clone_from(&last.user);
        Ok(true)
    }

    /// Users of whom no subscription is known: all that is theirs is dead.
    fn compare_rest(&mut self, tx: &mut Tx<'_>) -> Result<bool> {
        self.catch_up(tx)?;
        let (waiting, together) = (waiting(tx)?, Together::read(tx)?);
        let rest: Vec<String> = self.log.keys().filter(|user| !self.compared.contains(*user)).cloned().collect();
        for user in rest {
            // Somebody who was removed with their subscription is nobody's debtor.
            if users::get(tx, &user)?.is_some() {
                self.compare_once(tx, together.with(&user), &waiting)?;
            }
        }
        Ok(false)
    }

    /// Users who are one at Lago come by several times.
    fn compare_once(&mut self, tx: &mut Tx<'_>, users: BTreeSet<String>, waiting: &[Sum]) -> Result<()> {
        if users.is_subset(&self.compared) {
            return Ok(());
        }
        self.compared.extend(users.iter().cloned());
        let (mut names, mut log, mut noted) = (BTreeSet::new(), Counts::new(), Counts::new());
        for user in &users {
            names.extend(names::all(tx, user)?);
            names.insert(names::by_hand(user));
            for (key, count) in self.log.get(user).into_iter().flatten() {
                let all = log.entry(key.clone()).or_default();
                all.units += count.units;
                all.events += count.events;
            }
            for letter in lago::dead_of(tx, user)? {
                let sum = Event::read(&letter.event)?.sum()?;
                if sum.quarter_ms >= self.from_ms {
                    add(&mut noted, &sum);
                }
            }
        }
        for name in names {
            let sums = lago::sums(tx, &name, self.from_ms, i64::MAX)?;
            sums.iter().filter(|sum| sum.quarter_ms >= self.from_ms).for_each(|sum| add(&mut noted, sum));
            waiting.iter().filter(|sum| sum.external_id == name).for_each(|sum| add(&mut noted, sum));
        }
        self.differ(&users, &log, &noted);
        Ok(())
    }

    fn differ(&mut self, users: &BTreeSet<String>, log: &Counts, noted: &Counts) {
        let keys: BTreeSet<_> = log.keys().chain(noted.keys()).cloned().collect();
        for key in keys {
            let count = |counts: &Counts| counts.get(&key).copied().unwrap_or_default();
            let (log, noted) = (count(log), count(noted));
            if log != noted {
                let (code, month) = key;
                self.differences.push(Difference { users: users.clone(), code, month, log, noted });
            }
        }
    }
}

fn add(counts: &mut Counts, sum: &Sum) {
    let count = counts.entry((sum.code.clone(), month(sum.quarter_ms))).or_default();
    count.units += i128::from(sum.units);
    count.events += i128::from(sum.events);
}

/// What lies in the open window and is not sent yet.
fn waiting(tx: &mut Tx<'_>) -> Result<Vec<Sum>> {
    let window = lago::window(tx)?;
    window.iter().flat_map(Window::waiting).map(|item| Event::read(&item.event)?.sum()).collect()
}
