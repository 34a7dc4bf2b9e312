//! Counters: a view of the usage log with a position, and what is held beside it. The view can be thrown away at any time
//! and is folded anew.
//!
//! Who decides what may be held is a port with two adapters: [`Embedded`] under the lock of the account in memory,
//! [`Redis`] by a script beside the published account, for several processes. Both follow `billing::limit`.

pub mod book;
pub mod embedded;
pub mod publishing;
pub mod reading;
mod redis;
pub mod reservations;

pub use self::embedded::Embedded;
pub use self::redis::{About, Fault, Finding, Mark, Pending, Redis, View};

use std::sync::Arc;
use std::time::Duration;

use billing::catalogue::Limit;
use billing::limit::{self, Gcra, Refusal};
use billing::usage::{Credits, Quantity, UsageError};
use jiff::Timestamp;

use self::book::{Book, Slot, State};
use self::reservations::{Fate, Known};
use crate::error::{Error, Upstream};

/// What somebody wants to use.
#[derive(Debug, Clone, Copy)]
pub struct Demand<'a> {
    /// As the catalogue has it.
    pub kind: &'a Arc<str>,
    pub quantity: Quantity,
    /// Credits for one unit.
    pub weight: Credits,
    /// The limit of the user's tier for this type.
    pub limit: Option<&'a Limit>,
    pub now: Timestamp,
}

/// What becomes of the rate of a demand that is only asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// Nothing: whoever asks says later what was used.
    Kept,
    /// It is used up where there is room: whoever asks lets the work through and says nothing more.
    Taken,
}

/// A demand that is to be held.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    pub id: &'a Arc<str>,
    /// The id was made by this program and is nobody else's.
    pub is_new: bool,
    pub demand: Demand<'a>,
    pub expires_ms: i64,
}

/// How a user stands in what a demand touches, with everything taken off that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Numbers {
    /// Credits that are neither used nor held; none: no limit.
    pub credits: Option<Credits>,
    /// Of the type, on this day: used and held.
    pub today: Quantity,
    /// Of the type, in this period: used and held.
    pub month: Quantity,
    /// The state of the rate, in nanoseconds.
    pub tat_ns: Option<i64>,
}

/// What was decided, and how the user stands then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub verdict: Verdict,
    pub numbers: Numbers,
}

/// What was decided of a demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It fits, and is held where that was asked.
    Granted,
    /// It was held before, or let through undecided.
    Again(Known),
    /// It was held before and is resolved.
    Resolved(Known),
    /// The id stands for something else; names the member that differs.
    Differs(&'static str),
    Refused(Refusal),
}

/// What became of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released {
    Now,
    Before,
    /// It is committed, or its commit is on the way.
    Committed,
    Unknown,
}

/// It cannot be decided now: the counters do not answer.
#[derive(Debug)]
pub struct Outage(pub crate::error::Cause);

impl Outage {
    /// A key of ours holds something of another kind: somebody else has written there.
    fn is_wrong_type(&self) -> bool {
        self.0.to_string().contains("WRONGTYPE")
    }
}

impl std::fmt::Display for Outage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "counters: {}", self.0)
    }
}

impl From<Outage> for Error {
    fn from(outage: Outage) -> Self {
        let retry_after = Duration::from_secs(1);
        Self::Upstream { who: Upstream::Redis, code: "redis.unavailable", retry_after, cause: Some(outage.into()) }
    }
}

impl std::error::Error for Outage {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.0.as_ref())
    }
}

/// Whoever decides what may be held. The accounts of the book are the source; `spent + held <= cap` holds under any
/// concurrency (I-03).
pub trait Port {
    /// Holds what is asked for, if there is room. The same id again is the same answer.
    fn reserve(
        &self,
        book: &Book,
        slot: &Arc<Slot>,
        ask: &Ask<'_>,
    ) -> impl Future<Output = Result<Answer, Outage>> + Send;

    /// Whether there is room; nothing is held.
    fn check(
        &self,
        book: &Book,
        slot: &Arc<Slot>,
        demand: &Demand<'_>,
        rate: Rate,
    ) -> impl Future<Output = Result<Answer, Outage>> + Send;

    /// Frees what is held under an id.
    fn release(
        &self,
        book: &Book,
        id: &str,
        known: &Known,
        now: Timestamp,
    ) -> impl Future<Output = Result<Released, Outage>> + Send;

    /// The commit of a reservation is counted on this account.
    fn counted(&self, slot: &Slot, now: Timestamp) -> impl Future<Output = ()> + Send;

    /// Whether this may be committed: from now on nobody releases it, in any process, unless this attempt is given up, by name or by
    /// going away before the answer. Not where somebody has released it.
    fn begin_commit(
        &self,
        id: &str,
        known: &Known,
        attempt: &str,
        now: Timestamp,
    ) -> impl Future<Output = Result<bool, Outage>> + Send;

    /// This attempt to commit has come to nothing.
    fn give_up_commit(&self, id: &str, known: &Known, attempt: &str) -> impl Future<Output = ()> + Send;

    /// A reservation that this process does not know.
    fn find(&self, id: &str) -> impl Future<Output = Result<Option<Known>, Outage>> + Send;

    /// Frees what has expired; how much that was.
    fn sweep(&self, book: &Book, now: Timestamp) -> impl Future<Output = Result<usize, Outage>> + Send;
}

/// The adapter that this program runs with.
#[derive(Debug)]
pub enum Counters {
    Embedded(Embedded),
    Redis(Box<Redis>),
}

impl Counters {
    /// What does not answer, if anything: told in a header.
    pub fn degraded(&self) -> Option<&'static str> {
        match self {
            Self::Embedded(_) => None,
            Self::Redis(redis) => redis.is_degraded().then_some("redis"),
        }
    }

    /// An id for a reservation whose caller gave none. Its last 27 bits say in how many seconds it ends, if those are whole ones up
    /// to a day, and in which shard its user is, so that every process finds it.
    pub fn new_id(user: &str, now: Timestamp, expires_ms: i64, mut random: [u8; 10]) -> String {
        let ttl_ms = expires_ms.saturating_sub(now.as_millisecond());
        let seconds = if ttl_ms % 1_000 == 0 { ttl_ms / 1_000 } else { 0 };
        let seconds = u32::try_from(seconds).ok().filter(|seconds| *seconds < 1 << 17).unwrap_or_default();
        let shard = u32::try_from(book::shard_of(user)).unwrap_or_default();
        let [first, rest @ ..] = (seconds << 10 | shard).to_be_bytes();
        random[6] = random[6] & !7 | first;
        random[7..].copy_from_slice(&rest);
        billing::id::new("res_", now, random)
    }

    pub async fn reserve(&self, book: &Book, slot: &Arc<Slot>, ask: &Ask<'_>) -> Result<Answer, Outage> {
        match self {
            Self::Embedded(embedded) => embedded.reserve(book, slot, ask).await,
            Self::Redis(redis) => redis.reserve(book, slot, ask).await,
        }
    }

    pub async fn check(
        &self,
        book: &Book,
        slot: &Arc<Slot>,
        demand: &Demand<'_>,
        rate: Rate,
    ) -> Result<Answer, Outage> {
        match self {
            Self::Embedded(embedded) => embedded.check(book, slot, demand, rate).await,
            Self::Redis(redis) => redis.check(book, slot, demand, rate).await,
        }
    }

    /// Why a demand is too much whatever others hold, as this process counts: so much is known where nobody can decide.
    pub fn surely_refused(slot: &Slot, demand: &Demand<'_>) -> Option<Answer> {
        let answer = embedded::check(slot, demand, Rate::Kept);
        matches!(answer.verdict, Verdict::Refused(_)).then_some(answer)
    }

    pub async fn release(&self, book: &Book, id: &str, known: &Known, now: Timestamp) -> Result<Released, Outage> {
        match self {
            Self::Embedded(embedded) => embedded.release(book, id, known, now).await,
            Self::Redis(redis) => redis.release(book, id, known, now).await,
        }
    }

    pub async fn counted(&self, slot: &Slot, now: Timestamp) {
        match self {
            Self::Embedded(embedded) => embedded.counted(slot, now).await,
            Self::Redis(redis) => redis.counted(slot, now).await,
        }
    }

    /// What an attempt to commit is called, among those of all processes.
    pub fn new_attempt(&self) -> String {
        match self {
            Self::Embedded(_) => String::new(),
            Self::Redis(redis) => redis.new_attempt(),
        }
    }

    pub async fn begin_commit(&self, id: &str, known: &Known, attempt: &str, now: Timestamp) -> Result<bool, Outage> {
        match self {
            Self::Embedded(embedded) => embedded.begin_commit(id, known, attempt, now).await,
            Self::Redis(redis) => redis.begin_commit(id, known, attempt, now).await,
        }
    }

    /// Another process has released it: so it is released here.
    pub fn released_elsewhere(&self, book: &Book, id: &str, now: Timestamp) {
        embedded::release(book, id, now);
    }

    pub async fn give_up_commit(&self, id: &str, known: &Known, attempt: &str) {
        match self {
            Self::Embedded(embedded) => embedded.give_up_commit(id, known, attempt).await,
            Self::Redis(redis) => redis.give_up_commit(id, known, attempt).await,
        }
    }

    pub async fn find(&self, id: &str) -> Result<Option<Known>, Outage> {
        match self {
            Self::Embedded(embedded) => embedded.find(id).await,
            Self::Redis(redis) => redis.find(id).await,
        }
    }

    pub async fn sweep(&self, book: &Book, now: Timestamp) -> Result<usize, Outage> {
        match self {
            Self::Embedded(embedded) => embedded.sweep(book, now).await,
            Self::Redis(redis) => redis.sweep(book, now).await,
        }
    }
}

impl Numbers {
    /// Credits that are left, as they are shown.
    pub fn remaining(&self) -> Option<Credits> {
        self.credits.map(|credits| credits.max(Credits::ZERO))
    }

    /// The same after so much more is held.
    fn with_held(self, quantity: Quantity, cost: Credits) -> Self {
        let more = |sum: Quantity| sum.plus(quantity).unwrap_or(sum);
        Self {
            credits: self.credits.map(|credits| credits.minus(cost).unwrap_or(credits)),
            today: more(self.today),
            month: more(self.month),
            ..self
        }
    }
}

impl Ask<'_> {
    /// It as it is remembered once it is held.
    fn held(&self, slot: &Slot, state: &mut State, cost: Credits) -> Known {
        Known {
            user: Arc::clone(&slot.user),
            kind: state.held.kind(self.demand.kind),
            quantity: self.demand.quantity,
            credits: cost,
            expires_ms: self.expires_ms,
            fate: Fate::Held,
        }
    }
}

impl Demand<'_> {
    /// What it costs at most.
    pub fn cost(&self) -> Result<Credits, UsageError> {
        limit::credits_for(self.quantity, self.weight)
    }

    /// Nanoseconds since 1970.
    fn now_ns(&self) -> i64 {
        i64::try_from(self.now.as_nanosecond()).unwrap_or(i64::MAX)
    }

    /// The rate after this demand; nothing where there is none. `Err` says when to come again.
    fn rate(&self, tat_ns: Option<i64>) -> Result<Option<i64>, Refusal> {
        let Some(per_minute) = self.limit.and_then(|limit| limit.per_minute) else { return Ok(None) };
        Gcra::admit(tat_ns, self.now_ns(), self.quantity, per_minute).map(Some).map_err(|wait| Refusal::PerMinute {
            retry_after_ms: if wait.never { i64::MAX } else { wait.retry_after_ms },
        })
    }
}
