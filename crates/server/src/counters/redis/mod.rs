//! The counters in Redis, for several processes: accounts are published there as they are in the log, and what is held lies
//! beside them. Scripts decide; the arithmetic of accounts stays in the core.
//!
//! Keys, all of a shard in one slot: `bh:{7}:wm` the position of the shard, `bh:{7}:a:<user>` an account, `bh:{7}:h:<user>` what is
//! held of it, `bh:{7}:x` when that expires, `bh:{7}:r:<id>` and `bh:r:<id>` whose a reservation is. Redis may lose any of it: an
//! account that is missing or older than the book's is published again by whoever meets it, with the holds this process has.

mod group;
mod inspection;
mod link;
mod notation;
mod publication;
mod question;
mod script;
mod there;
mod view;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use billing::limit::Refusal;
use billing::usage::{Quantity, UsageError};
use jiff::Timestamp;
use redis::Value;
use secrecy::SecretString;

use self::group::Group;
pub use self::inspection::Finding;
use self::link::Link;
use self::notation::{Told, pointed_at, pointer, shard_in, text_at, text_of};
use self::publication::{Publication, is_exact, number};
use self::question::Question;
use self::script::Scripts;
pub use self::there::There;
pub use self::view::{Mark, Pending, View};
use super::book::{self, Book, Slot};
use super::embedded;
use super::reservations::{Fate, Known};
use super::{Answer, Ask, Demand, Numbers, Outage, Port, Rate, Released, Verdict};

/// How often an account is published again before it is given up that it stays.
const TRIES: usize = 8;
/// How long one waits at most for those before them, whatever keeps them: each of their calls has a deadline of its own.
const HEARD_WITHIN: Duration = Duration::from_secs(10);
/// Numbers the lives of accounts that this process begins.
static LIVES: AtomicU64 = AtomicU64::new(1);
/// How long it is remembered whose a reservation was after it has expired.
const POINTER_MS: i64 = 3_600_000;
/// How long a resolution is claimed at least.
const CLAIM_MS: i64 = 1_000;

/// Counters in Redis.
#[derive(Debug)]
pub struct Redis {
    link: Link,
    scripts: Scripts,
    /// The event types of the catalogue.
    kinds: Vec<Box<str>>,
    /// This process among those that share Redis.
    process: String,
    /// In which it counts, on each account there, what it has held and released: nobody else moves it, so a smaller number than
    /// is known here says that Redis was set back, whatever others have done since.
    field: String,
    /// Which log the published accounts are of: those of another database are none of ours.
    log: RwLock<Arc<str>>,
    /// Holds that may have been placed although nobody got the answer.
    unheard: Mutex<Vec<(Box<str>, Box<str>)>>,
    /// Where the shards stand, as this process has published them.
    pub view: tokio::sync::Mutex<View>,
}

impl Redis {
    pub fn new(url: SecretString, kinds: impl Iterator<Item = String>, log: &str, holder: &str) -> Self {
        let process = format!("{holder}-{}", std::process::id());
        Self {
            link: Link::new(url),
            scripts: Scripts::default(),
            kinds: kinds.map(String::into_boxed_str).collect(),
            field: format!("n:{process}"),
            process,
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

    /// Has a demand decided, together with whatever else waits for the account.
    async fn decide(
        &self,
        book: &Book,
        slot: &Slot,
        demand: &Demand<'_>,
        ask: Option<&Ask<'_>>,
        rate: Rate,
    ) -> Result<Answer, Outage> {
        let cost = match demand.cost() {
            Ok(cost) if is_exact(cost.micro()) && is_exact(demand.quantity.micro()) => cost,
            Ok(_) => return Ok(uncountable(UsageError::Overflow)),
            Err(error) => return Ok(uncountable(error)),
        };
        let question = Question { book, slot, demand, ask, rate, cost };
        let decided = tokio::time::timeout(HEARD_WITHIN, self.try_to_decide(&question)).await;
        let decided = decided.unwrap_or_else(|_| Err(Outage("those before it are not done".into())));
        // An answer that means nothing is no answer, however fast it came.
        decided.inspect_err(|_| self.link.doubt())
    }

    async fn try_to_decide(&self, question: &Question<'_>) -> Result<Answer, Outage> {
        for _ in 0..TRIES {
            if let Some(answer) = question.answered(&self.heard(question).await?)? {
                return Ok(answer);
            }
        }
        Err(Outage("the account does not stay published".into()))
    }

    /// What the script says to a question. Whoever has the turn asks for all who wait.
    async fn heard(&self, question: &Question<'_>) -> Result<Told, Outage> {
        let queue = question.slot.lock().there.queue();
        let mut heard = queue.enter(question.line());
        loop {
            tokio::select! {
                biased;
                told = &mut heard => return told.unwrap_or_else(|_| Err(Outage("nobody asked".into()))),
                _turn = queue.turn() => {
                    // Whoever had the turn before may have asked for this one as well.
                    if let Ok(told) = heard.try_recv() {
                        return told;
                    }
                    let group = queue.next_group();
                    let told = self.ask_for(question.book, question.slot, &group).await;
                    group.tell(told);
                }
            }
        }
    }

    /// Asks the script, and publishes the account where the one in Redis will not do.
    async fn ask_for(&self, book: &Book, slot: &Slot, group: &Group<'_>) -> Result<Vec<Told>, Outage> {
        let now = group.now();
        for _ in 0..TRIES {
            let (answer, life) = self.ask(slot, group, now).await?;
            match text_at(&answer, 0)?.as_str() {
                "missing" | "lost" => self.put_back(book, slot, now).await?,
                "stale" => self.publish_slot(slot, now).await?,
                "decided" => return Told::read_all(&answer, group.len(), &life),
                other => return Err(Outage(format!("the script said {other:?}").into())),
            }
        }
        Err(Outage("the account does not stay published".into()))
    }

    /// One call of the script, and the life of the account of which it speaks.
    async fn ask(&self, slot: &Slot, group: &Group<'_>, now: Timestamp) -> Result<(Value, Arc<str>), Outage> {
        let prefix = prefix(book::shard_of(&slot.user));
        let keys = [format!("{prefix}a:{}", slot.user), format!("{prefix}h:{}", slot.user), format!("{prefix}x")];
        let (args, life) = {
            let state = slot.lock();
            let mut args = vec![
                prefix.into_bytes(),
                self.log().as_bytes().to_vec(),
                slot.user.as_bytes().to_vec(),
                number(now.as_millisecond()),
                number(now.as_microsecond()),
                number(state.there.seen),
                number(state.account.position()),
                state.there.life.as_bytes().to_vec(),
                self.field.as_bytes().to_vec(),
            ];
            group.write(&mut args, |kind| state.rate(kind).unwrap_or_default() / 1_000);
            (args, Arc::clone(&state.there.life))
        };
        let answer = self.link.run(&self.scripts.reserve, &keys.each_ref().map(String::as_bytes), &args).await?;
        Ok((answer, life))
    }

    /// Publishes the account of one user as this process has it, and frees in the same step what is counted in it.
    async fn publish_slot(&self, slot: &Slot, now: Timestamp) -> Result<(), Outage> {
        let mut publication = Publication::default();
        let told = {
            let state = slot.lock();
            publication.account(&slot.user, &state.account, &self.kinds, now.as_millisecond());
            state.there.untold.iter().for_each(|id| publication.commit(&slot.user, id));
            state.there.untold.iter().cloned().collect::<HashSet<_>>()
        };
        self.apply(book::shard_of(&slot.user), "", "", publication).await?;
        slot.lock().there.untold.retain(|id| !told.contains(id));
        Ok(())
    }

    /// Redis has lost what it knew of a user, or some of it: the account is published again with what this process knows to be
    /// held, and what this process knows to be resolved is resolved again.
    async fn put_back(&self, book: &Book, slot: &Slot, now: Timestamp) -> Result<(), Outage> {
        let shard = book::shard_of(&slot.user);
        let mut released = Vec::new();
        let mut publication = Publication::default();
        for id in self.held_there(&slot.user).await? {
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
            publication.sight(&slot.user, &self.field, state.there.seen);
            state.there.placed
        };
        let answer = self.apply(shard, "", "", publication).await?;
        let life = text_at(&answer, 2)?;
        {
            let mut state = slot.lock();
            // What was placed meanwhile is not in it: then this life is not one that has everything.
            state.there.life = if state.there.placed == placed { Arc::from(life) } else { Arc::default() };
        }
        for id in released {
            self.release_there(Some(slot), &slot.user, &id, claim_life(0, now)).await?;
        }
        Ok(())
    }

    async fn apply(&self, shard: i64, expected: &str, new: &str, publication: Publication) -> Result<Value, Outage> {
        let prefix = prefix(shard);
        let key = format!("{prefix}wm");
        // Each step could begin an account.
        let args = publication.args(&prefix, expected, new, &self.log(), &self.new_life());
        self.link.run_within(view::DEADLINE, &self.scripts.apply, &[key.as_bytes()], &args).await
    }

    /// No two accounts begin the same life, in whichever process.
    fn new_life(&self) -> String {
        format!("{}-{}", self.process, LIVES.fetch_add(1, Ordering::Relaxed))
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
        let Some(member) = known.differs(&slot.user, demand.kind, demand.quantity) else { return Ok(Claim::There) };
        // Whoever was refused under it may not have been heard when they gave it up: then nothing is held, and it may be anything.
        let holds = format!("{}h:{}", prefix(book::shard_of(&known.user)), known.user);
        if self.link.ask(redis::cmd("HEXISTS").arg(holds).arg(&**ask.id)).await? == Value::Int(1) {
            return Ok(Claim::Differs(member));
        }
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(&value).arg("PX").arg(pointer_life(ask.expires_ms, demand.now));
        self.link.ask(&set).await?;
        Ok(Claim::New)
    }
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
            let nothing = Demand { quantity: Quantity::ZERO, ..*demand };
            let numbers = self.decide(book, slot, &nothing, None, Rate::Kept).await?.numbers;
            return Ok(Answer { verdict, numbers });
        }
        let claim =
            if ask.is_new { Claim::There } else { self.claim(slot, ask).await.inspect_err(|_| self.link.doubt())? };
        if let Claim::Differs(member) = claim {
            return Ok(Answer { verdict: Verdict::Differs(member), numbers: Numbers::default() });
        }
        let decided = self.decide(book, slot, demand, Some(ask), Rate::Taken).await;
        let answer = match decided {
            Ok(answer) => answer,
            Err(outage) => {
                // It may have been placed before the answer was lost.
                self.unheard
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(((*slot.user).into(), (**ask.id).into()));
                return Err(outage);
            }
        };
        if matches!((&answer.verdict, claim), (Verdict::Refused(_), Claim::New)) {
            // Nothing is held under it: it may still become anything.
            let _ = self.link.ask(redis::cmd("DEL").arg(format!("bh:r:{}", ask.id))).await;
        }
        Ok(answer)
    }

    async fn check(&self, book: &Book, slot: &Slot, demand: &Demand<'_>, rate: Rate) -> Result<Answer, Outage> {
        self.decide(book, slot, demand, None, rate).await
    }

    async fn release(&self, book: &Book, id: &str, known: &Known, now: Timestamp) -> Result<Released, Outage> {
        // Here first: what is released must not be put back by somebody who finds it missing there.
        let here = embedded::release(book, id);
        if let Released::Before(_) = here {
            return Ok(here);
        }
        if known.fate == Fate::Undecided {
            return Ok(here);
        }
        let (slot, life) = (book.get(&known.user), claim_life(known.expires_ms, now));
        match (self.release_there(slot.as_deref(), &known.user, id, life).await, here) {
            (Ok(Released::Unknown), Released::Now) => Ok(Released::Now),
            (Ok(Released::Before(fate @ Fate::Committed { .. })), Released::Now) => {
                // Its commit was faster, or is on the way: that says how it ends.
                embedded::hold_again(book, id);
                Ok(Released::Before(fate))
            }
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
        let queue = slot.lock().there.queue();
        let told = async {
            let _telling = queue.telling().await;
            // Whoever told before may have told this as well.
            if slot.lock().there.untold.is_empty() { Ok(()) } else { self.publish_slot(slot, now).await }
        };
        // Where this fails, whoever publishes the shard comes to it.
        let _ = tokio::time::timeout(view::DEADLINE, told).await;
    }

    async fn begin_commit(&self, id: &str, known: &Known, now: Timestamp) -> Result<bool, Outage> {
        let key = format!("{}k:{id}", prefix(book::shard_of(&known.user)));
        let mut claim = redis::cmd("SET");
        claim.arg(key).arg("c").arg("PX").arg(claim_life(known.expires_ms, now)).arg("NX").arg("GET");
        let before = self.link.ask(&claim).await?;
        Ok(before == Value::Nil || text_of(&before)? != "r")
    }

    async fn give_up_commit(&self, id: &str, known: &Known) {
        // Where this fails, nobody releases it before its time is over.
        let key = format!("{}k:{id}", prefix(book::shard_of(&known.user)));
        let _ = self.link.ask(redis::cmd("DEL").arg(key)).await;
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
            let slot = book.get(user);
            if !is_known && let Err(outage) = self.release_there(slot.as_deref(), user, id, claim_life(0, now)).await {
                self.unheard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&unheard[at..]);
                return Err(outage);
            }
        }
        freed += self.sweep_next(now).await?;
        Ok(freed)
    }
}

impl Redis {
    /// Frees a hold there, and takes note in the account, where it is in memory, that this was done.
    async fn release_there(
        &self,
        slot: Option<&Slot>,
        user: &str,
        id: &str,
        life: Vec<u8>,
    ) -> Result<Released, Outage> {
        let prefix = prefix(book::shard_of(user));
        let keys = [format!("{prefix}a:{user}"), format!("{prefix}h:{user}"), format!("{prefix}k:{id}")];
        let args = [id.into(), self.field.as_bytes().to_vec(), life];
        let answer = self.link.run(&self.scripts.release, &keys.each_ref().map(String::as_bytes), &args).await?;
        match text_at(&answer, 0)?.as_str() {
            "now" => {
                let done = text_at(&answer, 1)?.parse().map_err(|_| Outage("no count of releases".into()))?;
                if let Some(slot) = slot {
                    let mut state = slot.lock();
                    state.there.seen = state.there.seen.max(done);
                }
                Ok(Released::Now)
            }
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

fn prefix(shard: i64) -> String {
    format!("bh:{{{shard}}}:")
}

/// How long it is remembered there who resolves a reservation: as long as it would be held, in milliseconds.
fn claim_life(expires_ms: i64, now: Timestamp) -> Vec<u8> {
    publication::number(expires_ms.saturating_sub(now.as_millisecond()).max(CLAIM_MS))
}

fn pointer_life(expires_ms: i64, now: Timestamp) -> i64 {
    expires_ms.saturating_sub(now.as_millisecond()).saturating_add(POINTER_MS)
}
