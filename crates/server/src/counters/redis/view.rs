//! The published view: at which entry of the log each shard stands, and how it is moved on.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use billing::account::Account;
use billing::hold::Hold;
use jiff::Timestamp;
use redis::Value;

use super::notation::{garbage, text_at, text_of};
use super::publication::Publication;
use super::script::Args;
use super::{Outage, Redis, WRITTEN, prefix, written};
use crate::counters::book::{self, Slot};
use crate::counters::publishing::Move;

/// How long one step of publishing may take; nobody waits for it.
pub const DEADLINE: Duration = Duration::from_secs(1);
/// Accounts in one call of the script, which keeps the server from others as long as it runs: a millisecond.
const ACCOUNTS_MAX: usize = 250;
/// Shards that one sweep looks at: all of them in a few seconds.
const SWEPT: i64 = 32;

/// Where the shards stand.
#[derive(Debug)]
pub struct View {
    /// The position of each shard in Redis, as this process knows it; nothing where it does not.
    marks: Vec<Option<i64>>,
    /// What is to be published, by shard.
    pub pending: BTreeMap<i64, Pending>,
}

impl Default for View {
    fn default() -> Self {
        Self { marks: vec![None; usize::try_from(book::SHARDS).unwrap_or_default()], pending: BTreeMap::new() }
    }
}

/// What is to be published of a shard.
#[derive(Debug, Clone, Default)]
pub struct Pending {
    slots: BTreeMap<Box<str>, Arc<Slot>>,
    /// Accounts that are not in memory.
    accounts: BTreeMap<Box<str>, Account>,
    /// Reservations whose commit is counted, with their users.
    commits: Vec<(Box<str>, Box<str>)>,
    /// What is held as far as the database knows, with its users.
    holds: Vec<(Box<str>, Box<str>, Hold)>,
}

impl Pending {
    pub fn slot(&mut self, slot: Arc<Slot>) {
        self.accounts.remove(&*slot.user);
        self.slots.insert((*slot.user).into(), slot);
    }

    /// An account that is not in memory. What is in memory is newer.
    pub fn account(&mut self, user: &str, account: Account) {
        if !self.slots.contains_key(user) {
            self.accounts.insert(user.into(), account);
        }
    }

    pub fn commit(&mut self, user: &str, id: &str) {
        self.commits.push((user.into(), id.into()));
    }

    /// Something is held that Redis may have lost.
    pub fn hold(&mut self, slot: Arc<Slot>, id: &str, hold: Hold) {
        self.holds.push(((*slot.user).into(), id.into(), hold));
        self.slot(slot);
    }

    fn publications(&self, kinds: &[Box<str>], now_ms: i64) -> Vec<Publication> {
        let mut all = vec![Publication::default()];
        let mut add = |user: &str, account: &Account| {
            if all.last().is_none_or(|last| last.len() >= ACCOUNTS_MAX) {
                all.push(Publication::default());
            }
            if let Some(last) = all.last_mut() {
                last.account(user, account, kinds, now_ms);
            }
        };
        self.slots.values().for_each(|slot| add(&slot.user, &slot.lock().account));
        self.accounts.iter().for_each(|(user, account)| add(user, account));
        // After all accounts: nothing is freed before it is counted.
        if let Some(last) = all.last_mut() {
            self.commits.iter().for_each(|(user, id)| last.commit(user, id));
            self.holds.iter().for_each(|(user, id, hold)| last.hold(user, id, hold));
        }
        all
    }
}

/// What Redis says where a shard stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Nothing, or something of another log.
    None,
    At(i64),
}

impl View {
    /// The position of a shard, if this process knows it.
    pub fn mark(&self, shard: i64) -> Option<i64> {
        self.marks.get(usize::try_from(shard).ok()?).copied().flatten()
    }

    pub fn set(&mut self, shard: i64, mark: Option<i64>) {
        if let Some(known) = usize::try_from(shard).ok().and_then(|shard| self.marks.get_mut(shard)) {
            *known = mark;
        }
    }

    /// Shards of which this process does not know where they stand.
    pub fn unknown(&self) -> Vec<i64> {
        (0..).zip(&self.marks).filter(|(_, mark)| mark.is_none()).map(|(shard, _)| shard).collect()
    }

    /// Forgets everything: another process may have published.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// What has moved in the book.
    pub fn add(&mut self, moves: Vec<Move>) {
        for Move { slot, committed } in moves {
            let pending = self.pending.entry(book::shard_of(&slot.user)).or_default();
            if let Some(id) = committed {
                pending.commit(&slot.user, &id);
            }
            pending.slot(slot);
        }
    }
}

impl Redis {
    /// Where these shards stand in Redis: one question where that is one server.
    pub async fn marks(&self, shards: &[i64]) -> Result<Vec<Mark>, Outage> {
        if self.link.is_cluster().await? {
            let mut marks = Vec::with_capacity(shards.len());
            for shard in shards {
                marks.push(self.mark_of(self.lying(*shard).await?.as_deref()));
            }
            return Ok(marks);
        }
        let mut question = redis::cmd("MGET");
        for shard in shards {
            question.arg(format!("{}wm", prefix(*shard)));
        }
        let answer = self.link.ask(&question).await?;
        let Value::Array(there) = &answer else { return Err(garbage(&answer)) };
        let mark = |there: &Value| match there {
            Value::Nil => Ok(Mark::None), // or of another kind, which whoever publishes puts right
            there => Ok(self.mark_of(Some(&text_of(there)?))),
        };
        there.iter().map(mark).collect()
    }

    /// What says where a shard stands.
    async fn lying(&self, shard: i64) -> Result<Option<String>, Outage> {
        let key = format!("{}wm", prefix(shard));
        match self.link.ask(redis::cmd("GET").arg(&key)).await {
            Ok(Value::Nil) => Ok(None),
            Ok(there) => text_of(&there).map(Some),
            Err(outage) if outage.is_wrong_type() => {
                tracing::error!(key, "holds what this program never wrote there: the shard is published anew");
                self.link.ask(redis::cmd("DEL").arg(&key)).await.map(|_| None)
            }
            Err(outage) => Err(outage),
        }
    }

    fn mark_of(&self, there: Option<&str>) -> Mark {
        there.map_or(Mark::None, |text| self.read_mark(text))
    }

    fn read_mark(&self, text: &str) -> Mark {
        let own = text.rsplit_once(':').filter(|(log, _)| **log == *self.log());
        own.and_then(|(_, position)| position.parse().ok()).map_or(Mark::None, Mark::At)
    }

    /// The log is another one than was published: a database that was set back.
    pub fn set_log(&self, log: &str) {
        *self.log.write().unwrap_or_else(PoisonError::into_inner) = written(log);
    }

    /// By which name of the log this process works.
    pub fn log_name(&self) -> String {
        self.log().trim_start_matches(WRITTEN).to_owned()
    }

    /// A later name of the log that was seen in Redis since this was asked last.
    pub fn later_log(&self) -> Option<String> {
        self.later.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Publishes a shard and moves it from where it stands to a position, by compare-and-set; where it stands then.
    pub async fn publish(
        &self,
        shard: i64,
        from: Mark,
        to: i64,
        pending: &Pending,
        now: Timestamp,
    ) -> Result<Mark, Outage> {
        let log = self.log();
        let expected = match from {
            Mark::At(position) => format!("{log}:{position}"),
            // Whatever is there is none of ours: it is looked at again, so that nobody else's step is undone.
            Mark::None => self.lying(shard).await?.unwrap_or_else(|| "none".to_owned()),
        };
        if from == Mark::None && self.read_mark(&expected) != Mark::None {
            return Ok(self.read_mark(&expected));
        }
        self.claim_again(pending.holds.iter().map(|(user, id, hold)| (&**user, &**id, hold)), now).await;
        let mut parts = pending.publications(&self.kinds, now.as_millisecond());
        let last = parts.pop().unwrap_or_default();
        for part in parts {
            // Compared, not moved: the position goes with the last part.
            let answer = self.apply(shard, &expected, &expected, part).await?;
            if text_at(&answer, 0)? != "applied" {
                return Ok(self.read_mark(&text_at(&answer, 1)?));
            }
        }
        let answer = self.apply(shard, &expected, &format!("{log}:{to}"), last).await?;
        Ok(self.read_mark(&text_at(&answer, 1)?))
    }

    /// Frees what has expired in the next few shards, or in all of them where that is one question; how much that was.
    pub(super) async fn sweep_next(&self, now: Timestamp) -> Result<usize, Outage> {
        let first = self.swept.fetch_add(SWEPT, Ordering::Relaxed).rem_euclid(i64::try_from(book::SHARDS).unwrap_or(1));
        let count = if self.link.is_cluster().await? { SWEPT } else { 1 };
        let (mut freed, mut args) = (0, Args::default());
        args.number(now.as_millisecond());
        for shard in first..first + count {
            let ends = Args::of([self.ends(shard).await?.as_bytes()]);
            loop {
                let answer = self.link.run_within(DEADLINE, &self.scripts.sweep, &ends, &args).await?;
                freed += text_at(&answer, 0)?.parse::<usize>().unwrap_or_default();
                if text_at(&answer, 1)? == "0" {
                    break;
                }
            }
        }
        Ok(freed)
    }
}
