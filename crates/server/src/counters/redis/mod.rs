//! The counters in Redis, for several processes: accounts are published there as they are in the log, and what is held lies
//! beside them. Scripts decide; the arithmetic of accounts stays in the core.
//!
//! Keys, all of a shard in one slot: `bh:{7}:wm` the position of the shard, `bh:{7}:a:<user>` an account, `bh:{7}:h:<user>` what is
//! held of it, `bh:{7}:x` when that expires, `bh:{7}:r:<id>` and `bh:r:<id>` whose a reservation is. Redis may lose any of it: an
//! account that is missing or older than the book's is published again by whoever meets it, with the holds this process has.

mod link;
mod notation;
mod publication;
mod script;
mod view;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use billing::hold::Hold;
use billing::limit::{Gcra, Refusal};
use billing::usage::{Credits, Quantity, UsageError};
use jiff::Timestamp;
use redis::Value;
use secrecy::SecretString;

use self::link::Link;
use self::notation::{Told, hold_of, pointed_at, pointer, shard_in, text_at, text_of};
use self::publication::{Publication, cut, is_exact, number};
use self::script::Scripts;
pub use self::view::{Mark, Pending, View};
use super::book::{self, Book, Slot, State};
use super::embedded;
use super::reservations::{Fate, Known, Part};
use super::{Answer, Ask, Demand, Numbers, Outage, Port, Released, Verdict};

/// How often an account is published again before it is given up that it stays.
const TRIES: usize = 8;
/// Numbers the lives of accounts that this process begins.
static LIVES: AtomicU64 = AtomicU64::new(1);
/// A minute in microseconds, and a little: more than any rate allows.
const NEVER_US: i64 = 60_000_001;
/// How long it is remembered whose a reservation was after it has expired.
const POINTER_MS: i64 = 3_600_000;

/// Counters in Redis.
#[derive(Debug)]
pub struct Redis {
    link: Link,
    scripts: Scripts,
    /// The event types of the catalogue.
    kinds: Vec<Box<str>>,
    /// This process among those that share Redis.
    process: String,
    /// Which log the published accounts are of: those of another database are none of ours.
    log: RwLock<Arc<str>>,
    /// Holds that may have been placed although nobody got the answer.
    unheard: Mutex<Vec<(Box<str>, Box<str>)>>,
    /// Where the shards stand, as this process has published them.
    pub view: tokio::sync::Mutex<View>,
}

impl Redis {
    pub fn new(url: SecretString, kinds: impl Iterator<Item = String>, log: &str, holder: &str) -> Self {
        Self {
            link: Link::new(url),
            scripts: Scripts::default(),
            kinds: kinds.map(String::into_boxed_str).collect(),
            process: format!("{holder}-{}", std::process::id()),
            log: RwLock::new(Arc::from(log)),
            unheard: Mutex::default(),
            view: tokio::sync::Mutex::default(),
        }
    }

    /// How long an answer may take; 50 ms unless it is said otherwise.
    pub fn allow(&self, deadline: Duration) {
        self.link.allow(deadline);
    }

    /// Whether Redis does not answer.
    pub fn is_degraded(&self) -> bool {
        self.link.is_degraded()
    }

    fn log(&self) -> Arc<str> {
        Arc::clone(&self.log.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks the script, and publishes the account where the one in Redis will not do.
    async fn decide(
        &self,
        book: &Book,
        slot: &Slot,
        demand: &Demand<'_>,
        ask: Option<&Ask<'_>>,
    ) -> Result<Answer, Outage> {
        let decided = self.try_to_decide(book, slot, demand, ask).await;
        // An answer that means nothing is no answer, however fast it came.
        decided.inspect_err(|_| self.link.doubt())
    }

    async fn try_to_decide(
        &self,
        book: &Book,
        slot: &Slot,
        demand: &Demand<'_>,
        ask: Option<&Ask<'_>>,
    ) -> Result<Answer, Outage> {
        let cost = match demand.cost() {
            Ok(cost) if is_exact(cost.micro()) && is_exact(demand.quantity.micro()) => cost,
            Ok(_) => return Ok(uncountable(UsageError::Overflow)),
            Err(error) => return Ok(uncountable(error)),
        };
        for _ in 0..TRIES {
            let life = slot.lock().there.life.clone();
            let question = Question { book, slot, demand, ask, cost, life };
            let answer = self.ask(&question).await?;
            match text_at(&answer, 0)?.as_str() {
                "missing" | "lost" => self.put_back(book, slot, demand.now).await?,
                "stale" => self.publish_slot(slot, demand.now).await?,
                _ => {
                    if let Some(answer) = question.answered(&Told::read(&answer)?)? {
                        return Ok(answer);
                    }
                }
            }
        }
        Err(Outage("the account does not stay published".into()))
    }

    async fn ask(&self, question: &Question<'_>) -> Result<Value, Outage> {
        let Question { slot, demand, ask, cost, life, .. } = question;
        let shard = book::shard_of(&slot.user);
        let prefix = prefix(shard);
        let (seen, tat_us, entry) = {
            let state = slot.lock();
            (state.there.seen, state.rate(demand.kind).unwrap_or_default() / 1_000, state.account.position())
        };
        let id = ask.map_or("", |ask| ask.id);
        let keys = [
            format!("{prefix}a:{}", slot.user),
            format!("{prefix}h:{}", slot.user),
            format!("{prefix}x"),
            format!("{prefix}r:{id}"),
        ];
        let cap = |cap: Option<Quantity>| cap.map_or_else(Vec::new, |cap| number(cut(cap.micro())));
        let pointer_ms = ask.filter(|ask| ask.is_new).map(|ask| pointer_life(ask.expires_ms, demand.now));
        let args = [
            prefix.into_bytes(),
            self.log().as_bytes().to_vec(),
            id.into(),
            slot.user.as_bytes().to_vec(),
            demand.kind.into(),
            number(demand.quantity.micro()),
            number(cost.micro()),
            number(ask.map_or(0, |ask| ask.expires_ms)),
            number(demand.now.as_millisecond()),
            cap(demand.limit.and_then(|limit| limit.per_day)),
            cap(demand.limit.and_then(|limit| limit.per_month)),
            rate_us(demand).map_or_else(Vec::new, number),
            number(tat_us),
            number(demand.now.as_microsecond()),
            number(seen),
            if ask.is_some() { b"1".to_vec() } else { b"0".to_vec() },
            pointer_ms.map_or_else(Vec::new, number),
            number(entry),
            life.as_bytes().to_vec(),
        ];
        self.link.run(&self.scripts.reserve, &keys.each_ref().map(String::as_bytes), &args).await
    }

    /// Publishes the account of one user as this process has it, and frees in the same step what is counted in it.
    async fn publish_slot(&self, slot: &Slot, now: Timestamp) -> Result<(), Outage> {
        let mut publication = Publication::default();
        let told = {
            let state = slot.lock();
            publication.account(&slot.user, &state.account, &self.kinds, now.as_millisecond());
            state.there.untold.iter().for_each(|id| publication.commit(&slot.user, id));
            state.there.untold.clone()
        };
        self.apply(book::shard_of(&slot.user), "", "", publication).await?;
        slot.lock().there.untold.retain(|id| !told.contains(id));
        Ok(())
    }

    /// Redis has lost what it knew of a user, or some of it: the account is published again with what this process knows to be
    /// held, and what this process knows to be resolved is resolved again.
    async fn put_back(&self, book: &Book, slot: &Slot, now: Timestamp) -> Result<(), Outage> {
        let shard = book::shard_of(&slot.user);
        let there = self.link.ask(redis::cmd("HGETALL").arg(format!("{}h:{}", prefix(shard), slot.user))).await?;
        let mut released = Vec::new();
        let mut publication = Publication::default();
        for id in view::held_in(&there)? {
            match book.reservations.get(&id).map(|known| known.fate) {
                Some(Fate::Committed { .. }) => publication.commit(&slot.user, &id),
                Some(Fate::Released) => released.push(id),
                Some(Fate::Held | Fate::Undecided | Fate::Committing { .. }) | None => {}
            }
        }
        let placed = {
            let state = slot.lock();
            publication.account(&slot.user, &state.account, &self.kinds, now.as_millisecond());
            state.there.untold.iter().for_each(|id| publication.commit(&slot.user, id));
            let live = state.held.iter().filter(|(_, hold)| hold.expires_ms > now.as_millisecond());
            live.for_each(|(id, hold)| publication.hold(&slot.user, id, hold));
            publication.sight(&slot.user, state.there.seen);
            state.there.placed
        };
        let answer = self.apply(shard, "", "", publication).await?;
        let life = text_at(&answer, 2)?;
        {
            let mut state = slot.lock();
            // What was placed meanwhile is not in it: then this life is not one that has everything.
            state.there.life = if state.there.placed == placed { life.into_boxed_str() } else { Box::default() };
        }
        for id in released {
            self.release_there(&slot.user, &id).await?;
        }
        Ok(())
    }

    async fn apply(&self, shard: i64, expected: &str, new: &str, publication: Publication) -> Result<Value, Outage> {
        let prefix = prefix(shard);
        let key = format!("{prefix}wm");
        // Each step could begin an account: no two begin the same life, in whichever process.
        let life = format!("{}-{}", self.process, LIVES.fetch_add(1, Ordering::Relaxed));
        let args = publication.args(&prefix, expected, new, &self.log(), &life);
        self.link.run_within(view::DEADLINE, &self.scripts.apply, &[key.as_bytes()], &args).await
    }

    /// Makes sure that an id of the caller's own stands for this demand everywhere. `Some` when it stands for another.
    async fn claim(&self, slot: &Slot, ask: &Ask<'_>) -> Result<Claim, Outage> {
        let demand = &ask.demand;
        let key = format!("bh:r:{}", ask.id);
        let value = pointer(&slot.user, demand.quantity, ask.expires_ms, demand.kind);
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(&value).arg("PX").arg(pointer_life(ask.expires_ms, demand.now)).arg("NX");
        if matches!(self.link.ask(&set).await?, Value::Okay) {
            return Ok(Claim::New);
        }
        let there = self.link.ask(redis::cmd("GET").arg(&key)).await?;
        let Some(known) = pointed_at(&there)? else { return Ok(Claim::There) };
        if known.is_over(demand.now.as_millisecond()) {
            let mut set = redis::cmd("SET");
            set.arg(&key).arg(&value).arg("PX").arg(pointer_life(ask.expires_ms, demand.now));
            self.link.ask(&set).await?;
            return Ok(Claim::New);
        }
        Ok(known.differs(&slot.user, demand.kind, demand.quantity).map_or(Claim::There, Claim::Differs))
    }
}

/// A question to the script: of one account, in one life of it.
struct Question<'q> {
    book: &'q Book,
    slot: &'q Slot,
    demand: &'q Demand<'q>,
    /// Nothing where it is only asked whether there is room.
    ask: Option<&'q Ask<'q>>,
    cost: Credits,
    life: Box<str>,
}

impl Question<'_> {
    /// What the script said, as the port says it; nothing where it has to be asked again.
    fn answered(&self, told: &Told) -> Result<Option<Answer>, Outage> {
        if told.tat_us > 0 {
            self.slot.lock().set_rate(self.demand.kind, told.tat_us.saturating_mul(1_000));
        }
        match (told.what.as_str(), self.ask) {
            ("granted", None) => Ok(Some(Answer { verdict: Verdict::Granted, numbers: told.numbers })),
            ("granted" | "again", Some(ask)) => self.held(ask, told),
            _ => {
                let verdict = Verdict::Refused(self.refusal(told)?);
                Ok(Some(Answer { verdict, numbers: told.numbers }))
            }
        }
    }

    /// It is held there. It is remembered here in the same step in which it is seen that the account did not begin anew
    /// meanwhile; where it did, nothing is known.
    fn held(&self, ask: &Ask<'_>, told: &Told) -> Result<Option<Answer>, Outage> {
        let is_first = told.what == "granted";
        let mut part = self.book.reservations.part(ask.id);
        let mut state = self.slot.lock();
        if state.there.life != self.life {
            return Ok(None);
        }
        state.there.seen = state.there.seen.max(told.seen);
        let known = if is_first {
            asked_for(self.slot, ask, self.cost)
        } else {
            Known { user: Arc::from(&*self.slot.user), ..hold_of(&told.hold)? }
        };
        let verdict = embedded::again(&known, &self.slot.user, self.demand);
        let is_held = matches!(verdict, Verdict::Again(_));
        if is_held && part.get(ask.id).is_none_or(|here| here.is_over(self.demand.now.as_millisecond())) {
            remember(&mut part, &mut state, ask.id, &known);
        }
        Ok(Some(if is_first {
            Answer { verdict: Verdict::Granted, numbers: told.numbers.with_held(self.demand.quantity, self.cost) }
        } else if is_held && ask.is_new {
            // The client of Redis asked twice because an answer was lost: it is the first one all the same.
            Answer { verdict: Verdict::Granted, numbers: told.numbers }
        } else {
            Answer { verdict, numbers: told.numbers }
        }))
    }

    fn refusal(&self, told: &Told) -> Result<Refusal, Outage> {
        let numbers = &told.numbers;
        let room = self.slot.lock().room(self.demand.now.as_millisecond()).map_err(|error| Outage(error.into()))?;
        let limit =
            |of: fn(&billing::catalogue::Limit) -> Option<Quantity>| self.demand.limit.and_then(of).unwrap_or_default();
        Ok(match told.what.as_str() {
            "over" => Refusal::TrialOver,
            "credits" => Refusal::Credits {
                reset_ms: room.period_end_ms,
                remaining: numbers.credits.unwrap_or_default().max(Credits::ZERO),
            },
            "day" => Refusal::PerDay {
                limit: limit(|limit| limit.per_day),
                used: numbers.today.max(Quantity::ZERO),
                reset_ms: room.day_end_ms,
            },
            "month" => Refusal::PerMonth {
                limit: limit(|limit| limit.per_month),
                used: numbers.month.max(Quantity::ZERO),
                reset_ms: room.period_end_ms,
            },
            // Microseconds there, nanoseconds here: what is refused there by less than one is allowed with the next.
            "minute" => self.demand.rate(numbers.tat_ns).err().unwrap_or(Refusal::PerMinute { retry_after_ms: 1 }),
            other => return Err(Outage(format!("the script said {other:?}").into())),
        })
    }
}

fn asked_for(slot: &Slot, ask: &Ask<'_>, cost: Credits) -> Known {
    Known {
        user: Arc::from(&*slot.user),
        kind: ask.demand.kind.into(),
        quantity: ask.demand.quantity,
        credits: cost,
        expires_ms: ask.expires_ms,
        fate: Fate::Held,
    }
}

/// Remembers here what is held there, so that it can be put back and written down.
fn remember(part: &mut Part, state: &mut State, id: &str, known: &Known) {
    let hold = Hold {
        kind: known.kind.to_string(),
        quantity: known.quantity,
        credits: known.credits,
        expires_ms: known.expires_ms,
    };
    state.held.place(id, hold);
    state.there.placed += 1;
    part.insert(id, known.clone());
}

/// What became of the claim to an id.
enum Claim {
    New,
    There,
    Differs(&'static str),
}

impl Port for Redis {
    async fn reserve(&self, book: &Book, slot: &Slot, ask: &Ask<'_>) -> Result<Answer, Outage> {
        let demand = &ask.demand;
        let now_ms = demand.now.as_millisecond();
        let here = book.reservations.get(ask.id).filter(|known| !known.is_over(now_ms));
        if let Some(known) = here.as_ref().filter(|known| !matches!(known.fate, Fate::Held)) {
            let verdict = embedded::again(known, &slot.user, demand);
            let numbers = self.decide(book, slot, &Demand { quantity: Quantity::ZERO, ..*demand }, None).await?.numbers;
            return Ok(Answer { verdict, numbers });
        }
        let claim =
            if ask.is_new { Claim::There } else { self.claim(slot, ask).await.inspect_err(|_| self.link.doubt())? };
        if let Claim::Differs(member) = claim {
            return Ok(Answer { verdict: Verdict::Differs(member), numbers: Numbers::default() });
        }
        let decided = self.decide(book, slot, demand, Some(ask)).await;
        let answer = match decided {
            Ok(answer) => answer,
            Err(outage) => {
                // It may have been placed before the answer was lost.
                self.unheard.lock().unwrap_or_else(PoisonError::into_inner).push((slot.user.clone(), ask.id.into()));
                return Err(outage);
            }
        };
        if matches!((&answer.verdict, claim), (Verdict::Refused(_), Claim::New)) {
            // Nothing is held under it: it may still become anything.
            let _ = self.link.ask(redis::cmd("DEL").arg(format!("bh:r:{}", ask.id))).await;
        }
        Ok(answer)
    }

    async fn check(&self, book: &Book, slot: &Slot, demand: &Demand<'_>) -> Result<Answer, Outage> {
        self.decide(book, slot, demand, None).await
    }

    async fn release(&self, book: &Book, id: &str, known: &Known) -> Result<Released, Outage> {
        // Here first: what is released must not be put back by somebody who finds it missing there.
        let here = embedded::release(book, id);
        if let Released::Before(_) = here {
            return Ok(here);
        }
        if known.fate == Fate::Undecided {
            return Ok(here);
        }
        match (self.release_there(&known.user, id).await, here) {
            (Ok(Released::Unknown), Released::Now) => Ok(Released::Now),
            (Ok(there), _) => Ok(there),
            (Err(outage), Released::Now) => {
                tracing::debug!(%outage, "a release is told to Redis later");
                self.unheard
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push((known.user.as_ref().into(), id.into()));
                Ok(Released::Now)
            }
            (Err(outage), _) => Err(outage),
        }
    }

    async fn counted(&self, slot: &Slot, now: Timestamp) {
        // Where this fails, whoever publishes the shard comes to it.
        let _ = self.publish_slot(slot, now).await;
    }

    async fn is_released(&self, id: &str, known: &Known) -> Result<bool, Outage> {
        let key = format!("{}h:{}", prefix(book::shard_of(&known.user)), known.user);
        let there = self.link.ask(redis::cmd("HGET").arg(key).arg(id)).await?;
        Ok(there != Value::Nil && text_of(&there)?.starts_with("r:"))
    }

    async fn find(&self, id: &str) -> Result<Option<Known>, Outage> {
        if let Some(shard) = shard_in(id) {
            let there = self.link.ask(redis::cmd("GET").arg(format!("{}r:{id}", prefix(shard)))).await?;
            if let Some(known) = pointed_at(&there)? {
                return Ok(Some(known));
            }
        }
        pointed_at(&self.link.ask(redis::cmd("GET").arg(format!("bh:r:{id}"))).await?)
    }

    async fn sweep(&self, book: &Book, now: Timestamp) -> Result<usize, Outage> {
        let mut freed = embedded::sweep(book, now);
        let unheard = std::mem::take(&mut *self.unheard.lock().unwrap_or_else(PoisonError::into_inner));
        for (at, (user, id)) in unheard.iter().enumerate() {
            // Let through in the meantime, or asked for again and granted: then it is somebody's.
            let is_known = book.reservations.get(id).is_some_and(|known| known.fate == Fate::Held);
            if !is_known && let Err(outage) = self.release_there(user, id).await {
                self.unheard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&unheard[at..]);
                return Err(outage);
            }
        }
        freed += self.sweep_next(now).await?;
        Ok(freed)
    }
}

impl Redis {
    async fn release_there(&self, user: &str, id: &str) -> Result<Released, Outage> {
        let prefix = prefix(book::shard_of(user));
        let keys = [format!("{prefix}a:{user}"), format!("{prefix}h:{user}")];
        let answer = self.link.run(&self.scripts.release, &keys.each_ref().map(String::as_bytes), &[id.into()]).await?;
        match text_of(&answer)?.as_str() {
            "now" => Ok(Released::Now),
            "unknown" => Ok(Released::Unknown),
            "released" => Ok(Released::Before(Fate::Released)),
            "committed" => Ok(Released::Before(Fate::Committed { quantity: Quantity::ZERO, position: 0, late: false })),
            other => Err(Outage(format!("the script said {other:?}").into())),
        }
    }
}

fn uncountable(error: UsageError) -> Answer {
    Answer { verdict: Verdict::Refused(Refusal::Uncountable(error)), numbers: Numbers::default() }
}

/// What a demand adds to its rate, in microseconds, rounded up.
fn rate_us(demand: &Demand<'_>) -> Option<i64> {
    let per_minute = demand.limit?.per_minute?;
    Some(Gcra::admit(None, 0, demand.quantity, per_minute).map_or(NEVER_US, |ns| ns.saturating_add(999) / 1_000))
}

fn prefix(shard: i64) -> String {
    format!("bh:{{{shard}}}:")
}

fn pointer_life(expires_ms: i64, now: Timestamp) -> i64 {
    expires_ms.saturating_sub(now.as_millisecond()).saturating_add(POINTER_MS)
}
