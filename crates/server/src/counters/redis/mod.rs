//! The counters in Redis, for several processes: accounts are published there as they are in the log, and what is held lies
//! beside them. Scripts decide; the arithmetic of accounts stays in the core.
//!
//! Keys, all of a shard in one slot: `bh:{7}:wm` the position of the shard, `bh:{7}:a:<user>` an account, `bh:{7}:h:<user>` what is
//! held of it, `bh:{7}:x` when that expires (where Redis is one server, `bh:x` of all shards), `bh:r:<id>` whose a reservation is
//! whose id is the caller's own; an id that was made here tells its shard and when it ends. Redis may lose any of it: an account that
//! is missing or older than the book's is published again by whoever meets it, with the holds this process has.

mod attempt;
mod claim;
mod group;
mod inspection;
mod link;
mod notation;
mod publication;
mod question;
mod script;
mod there;
mod unheard;
mod view;

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use billing::limit::{self, Refusal};
use billing::usage::{Quantity, UsageError};
use jiff::Timestamp;
use redis::Value;
use secrecy::SecretString;

use self::claim::Claimed;
use self::group::{Group, Lane, Word};
pub use self::inspection::{About, Fault, Finding};
use self::link::Link;
use self::notation::{Asked, Heard, Made, Pointer, What, hold_of, text_at};
use self::publication::{Publication, is_exact};
use self::question::Question;
use self::script::{Args, Scripts};
pub use self::there::There;
use self::unheard::{Doubt, Unheard, Untold};
pub use self::view::{Mark, Pending, View};
use super::book::{self, Book, Slot, State};
use super::embedded;
use super::reservations::{Fate, Known};
use super::{Answer, Ask, Demand, Numbers, Outage, Port, Rate, Released, Verdict};

/// How often an account is published again before it is given up that it stays.
const TRIES: usize = 8;
/// How long one waits at most for those before them, whatever keeps them: each of their calls has a deadline of its own.
const HEARD_WITHIN: Duration = Duration::from_secs(10);
/// Numbers the lives of accounts that this process begins.
static LIVES: AtomicU64 = AtomicU64::new(1);
/// How long a resolution is claimed at least.
const CLAIM_MS: i64 = 1_000;
/// Before the name of a log: how its accounts are written.
const WRITTEN: &str = "2.";

/// Counters in Redis.
#[derive(Debug)]
pub struct Redis {
    link: Link,
    scripts: Scripts,
    /// Those who wait for an answer, by shard; in the first one all of them where Redis is one server.
    lanes: Vec<Arc<Lane>>,
    /// The event types of the catalogue.
    kinds: Vec<Box<str>>,
    /// This process among those that share Redis.
    process: String,
    /// In which it counts, on each account there, what it has held and released: nobody else moves it, so a smaller number than
    /// is known here says that Redis was set back, whatever others have done since.
    field: String,
    /// Which log the published accounts are of: those of another database are none of ours.
    log: RwLock<Arc<str>>,
    /// A log with a later name than ours, of which something lies there.
    later: Mutex<Option<String>>,
    /// What Redis may not have heard of, or we not its answer.
    unheard: Unheard,
    /// Where the shards stand, as this process has published them. Held as long as it publishes, which may take seconds.
    pub view: tokio::sync::Mutex<View>,
    /// The shard whose ended holds are freed next.
    swept: AtomicI64,
}

impl Redis {
    pub fn new(url: SecretString, kinds: impl Iterator<Item = String>, log: &str, holder: &str) -> Self {
        let process = format!("{holder}-{}", std::process::id());
        Self {
            link: Link::new(url),
            scripts: Scripts::default(),
            lanes: (0..book::SHARDS).map(|_| Arc::default()).collect(),
            kinds: kinds.map(String::into_boxed_str).collect(),
            field: format!("n:{process}"),
            process,
            log: RwLock::new(written(log)),
            later: Mutex::default(),
            unheard: Unheard::default(),
            view: tokio::sync::Mutex::default(),
            swept: AtomicI64::new(0),
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

    /// Has a demand decided, together with whatever else waits.
    async fn decide(
        &self,
        book: &Book,
        slot: &Arc<Slot>,
        demand: &Demand<'_>,
        ask: Option<&Ask<'_>>,
        rate: Rate,
    ) -> Result<Answer, Outage> {
        let cost = match demand.cost() {
            Ok(cost) if is_exact(cost.micro()) && is_exact(demand.quantity.micro()) => cost,
            Ok(_) => return Ok(uncountable(UsageError::Overflow)),
            Err(error) => return Ok(uncountable(error)),
        };
        {
            let mut state = slot.lock();
            let room = state.room(demand.now.as_millisecond()).map_err(|error| Outage(error.into()))?;
            if !limit::is_countable(&room, &state.held, demand.kind, demand.quantity, cost) {
                return Ok(uncountable(UsageError::Overflow));
            }
        }
        let question = Question { book, slot, demand, ask, rate, cost };
        let decided = tokio::time::timeout(HEARD_WITHIN, self.try_to_decide(&question)).await;
        let decided = decided.unwrap_or_else(|_| Err(Outage("those before it are not done".into())));
        // An answer that means nothing is no answer, however fast it came.
        decided.inspect_err(|_| self.link.doubt())
    }

    /// Asks, and publishes the account where the one in Redis will not do.
    async fn try_to_decide(&self, question: &Question<'_>) -> Result<Answer, Outage> {
        let (slot, now, mut alone, mut tries) = (question.slot, question.demand.now, false, 0);
        while tries < TRIES {
            tries += 1;
            match self.heard(question, alone).await? {
                // What is over is freed bit by bit, and each time that is asked it is a bit more.
                Heard::Told(told) if told.what == What::Behind => tries -= 1,
                Heard::Told(told) => {
                    if let Some(answer) = question.answered(&told)? {
                        return Ok(answer);
                    }
                }
                Heard::Lost { published } => {
                    self.publish_once(slot, published, self.put_back(question.book, slot, now)).await?;
                }
                Heard::Stale { published } => {
                    self.publish_once(slot, published, self.publish_slot(slot, now)).await?;
                }
                Heard::Alone => alone = true,
            }
        }
        Err(Outage("the account does not stay published".into()))
    }

    /// What the script says to a question. Whoever is given the lead asks for all who wait.
    async fn heard(&self, question: &Question<'_>, alone: bool) -> Result<Heard, Outage> {
        let shard = if self.link.is_cluster().await? { book::shard_of(&question.slot.user) } else { 0 };
        let lane = &self.lanes[usize::try_from(shard).unwrap_or_default()];
        let mut heard = lane.enter(question.slot, question.line(alone));
        loop {
            match heard.await {
                Ok(Word::Heard(told)) => return told,
                Ok(Word::Lead(lead)) => {
                    let (group, own) = lead.next_group();
                    heard = own;
                    let told = self.ask(&group).await;
                    drop(lead); // the next call goes out while these hear
                    group.tell(told);
                }
                Err(_) => return Err(Outage("nobody asked".into())),
            }
        }
    }

    /// One call of the script.
    async fn ask(&self, group: &Group) -> Result<Vec<Heard>, Outage> {
        let (mut keys, mut args, now) = (Args::default(), Args::default(), group.now());
        keys.text(&self.ends(group.shard()).await?);
        args.text(&self.log());
        args.text(&self.field);
        args.number(now.as_millisecond());
        args.number(now.as_microsecond());
        let asked: Vec<Asked> = group.write(&mut keys, &mut args);
        Heard::read_all(&self.link.run(&self.scripts.reserve, &keys, &args).await?, &asked)
    }

    /// Publishes an account, unless somebody has done so since it was seen that this is needed.
    async fn publish_once(
        &self,
        slot: &Slot,
        published: u64,
        publishing: impl Future<Output = Result<(), Outage>>,
    ) -> Result<(), Outage> {
        let right = slot.lock().there.publishing();
        let _right = right.lock().await;
        if slot.lock().there.published == published { publishing.await } else { Ok(()) }
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
        let there = &mut slot.lock().there;
        there.untold.retain(|id| !told.contains(id));
        there.published += 1;
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
                Some(Fate::Committed(_)) => publication.commit(&slot.user, &id),
                Some(Fate::Released) => released.push(id),
                Some(Fate::Held | Fate::Undecided | Fate::Committing { .. }) | None => {}
            }
        }
        let (held, placed) = {
            let state = slot.lock();
            publication.account(&slot.user, &state.account, &self.kinds, now.as_millisecond());
            state.there.untold.iter().for_each(|id| publication.commit(&slot.user, id));
            let live = state.held.iter().filter(|(_, hold)| hold.expires_ms > now.as_millisecond());
            let held: Vec<_> = live.map(|(id, hold)| (Box::<str>::from(id), hold.clone())).collect();
            publication.sight(&slot.user, &self.field, state.there.seen);
            (held, state.there.placed)
        };
        self.claim_again(held.iter().map(|(id, hold)| (&*slot.user, &**id, hold)), now).await;
        for (id, hold) in &held {
            publication.hold(&slot.user, id, hold);
        }
        let answer = self.apply(shard, "", "", publication).await?;
        let life = text_at(&answer, 2)?;
        {
            let mut state = slot.lock();
            state.there.published += 1;
            // What was placed meanwhile is not in it: then this life is not one that has everything.
            state.there.life = if state.there.placed == placed { Arc::from(life) } else { Arc::default() };
        }
        for id in released {
            self.release_there(Some(slot), &slot.user, &id, Some(claim_life_ms(0, now))).await?;
        }
        Ok(())
    }

    /// Where it lies when the holds of a shard end.
    async fn ends(&self, shard: i64) -> Result<String, Outage> {
        // One of all is written to where it was written to a moment ago; a thousand lie all over the memory.
        Ok(if self.link.is_cluster().await? { format!("{}x", prefix(shard)) } else { "bh:x".to_owned() })
    }

    async fn apply(&self, shard: i64, expected: &str, new: &str, publication: Publication) -> Result<Value, Outage> {
        let prefix = prefix(shard);
        let keys = Args::of([format!("{prefix}wm").as_bytes(), self.ends(shard).await?.as_bytes()]);
        // Each step could begin an account.
        let args = publication.args([&prefix, expected, new, &self.log(), &self.new_life()], &self.kinds);
        let answer = self.link.run_within(view::DEADLINE, &self.scripts.apply, &keys, &args).await?;
        if text_at(&answer, 0)? == "later" {
            let later = text_at(&answer, 1)?;
            // A version to come writes them otherwise: where it serves, this one decides nothing, and names nothing.
            if let Some(name) = later.strip_prefix(WRITTEN) {
                *self.later.lock().unwrap_or_else(PoisonError::into_inner) = Some(name.to_owned());
            }
            return Err(Outage(format!("what is published is of a later log, {later}").into()));
        }
        Ok(answer)
    }

    /// No two accounts begin the same life, in whichever process.
    fn new_life(&self) -> String {
        format!("{}-{}", self.process, LIVES.fetch_add(1, Ordering::Relaxed))
    }
}

impl Port for Redis {
    async fn reserve(&self, book: &Book, slot: &Arc<Slot>, ask: &Ask<'_>) -> Result<Answer, Outage> {
        let demand = &ask.demand;
        let now_ms = demand.now.as_millisecond();
        let here = book.reservations.get(ask.id).filter(|known| !known.is_over(now_ms));
        if let Some(known) = here {
            let verdict = embedded::again(&known, &slot.user, demand);
            if matches!(verdict, Verdict::Differs(_)) {
                return Ok(Answer { verdict, numbers: Numbers::default() });
            }
            if known.fate != Fate::Held {
                let nothing = Demand { quantity: Quantity::ZERO, ..*demand };
                let numbers = self.decide(book, slot, &nothing, None, Rate::Kept).await?.numbers;
                return Ok(Answer { verdict, numbers });
            }
        }
        let published = slot.lock().there.published;
        // An id that was made here is nobody else's, and leads to its hold by itself.
        let is_made = ask.is_new && Made::read(ask.id).is_some_and(|made| made.expires_ms == ask.expires_ms);
        let claimed =
            if is_made { None } else { Some(self.claim(slot, ask).await.inspect_err(|_| self.link.doubt())?) };
        if let Some(Claimed::Differs(member)) = claimed {
            return Ok(Answer { verdict: Verdict::Differs(member), numbers: Numbers::default() });
        }
        let decided = self.decide(book, slot, demand, Some(ask), Rate::Taken).await;
        // An account that began anew may have forgotten that the id was taken away from it.
        let is_sure = matches!(claimed, Some(Claimed::First(_))) && slot.lock().there.published == published;
        let decided = match (decided, claimed) {
            (Ok(answer), Some(_)) if answer.verdict == Verdict::Granted && !is_sure => {
                self.confirm(book, slot, ask, answer).await
            }
            (Ok(answer), Some(Claimed::First(claim))) if matches!(answer.verdict, Verdict::Refused(_)) => {
                self.give_up(&claim).await;
                Ok(answer)
            }
            (decided, _) => decided,
        };
        // It may have been placed before the answer was lost.
        decided.inspect_err(|_| {
            self.unheard.note(&slot.user, ask.id, ask.expires_ms, Doubt::Held { is_new: ask.is_new });
        })
    }

    async fn check(&self, book: &Book, slot: &Arc<Slot>, demand: &Demand<'_>, rate: Rate) -> Result<Answer, Outage> {
        self.decide(book, slot, demand, None, rate).await
    }

    async fn release(&self, book: &Book, id: &str, known: &Known, now: Timestamp) -> Result<Released, Outage> {
        // Here first: what is released must not be put back by somebody who finds it missing there.
        let here = embedded::release(book, id, now);
        if matches!(here, Released::Before | Released::Committed) || known.fate == Fate::Undecided {
            return Ok(here);
        }
        let (slot, life) = (book.get(&known.user), claim_life_ms(known.expires_ms, now));
        let untold = (here == Released::Now).then(|| Untold::new(self, known, id, Doubt::Released));
        let there = self.release_there(slot.as_deref(), &known.user, id, Some(life)).await;
        if let (Ok(_), Some(untold)) = (&there, untold) {
            untold.tell();
        }
        match (there, here) {
            (Ok(Released::Unknown), Released::Now) => Ok(Released::Now),
            (Ok(Released::Committed), Released::Now) => {
                // Its commit was faster: that says how it ends.
                embedded::hold_again(book, id);
                Ok(Released::Committed)
            }
            (Ok(there), _) => Ok(there),
            (Err(outage), Released::Now) => {
                tracing::debug!(%outage, "a release is told to Redis later");
                Ok(Released::Now)
            }
            (Err(outage), _) => Err(outage),
        }
    }

    async fn counted(&self, slot: &Slot, now: Timestamp) {
        let right = slot.lock().there.publishing();
        let told = async {
            let _right = right.lock().await;
            // Whoever told before may have told this as well.
            if slot.lock().there.untold.is_empty() { Ok(()) } else { self.publish_slot(slot, now).await }
        };
        // Where this fails, whoever publishes the shard comes to it.
        let _ = tokio::time::timeout(view::DEADLINE, told).await;
    }

    async fn begin_commit(&self, id: &str, known: &Known, attempt: &str, now: Timestamp) -> Result<bool, Outage> {
        self.claim_commit(id, known, attempt, now).await
    }

    async fn give_up_commit(&self, id: &str, known: &Known, attempt: &str) {
        self.unclaim_commit(id, known, attempt).await;
    }

    async fn find(&self, id: &str) -> Result<Option<Known>, Outage> {
        if let Some(made) = Made::read(id) {
            let keys = Args::of([self.ends(made.shard).await?.as_bytes()]);
            let mut args = Args::of([id.as_bytes()]);
            args.number(made.expires_ms);
            let there = self.link.run(&self.scripts.find, &keys, &args).await?;
            if there != Value::Nil {
                // Whoever commits or releases it claims that, which says what has become of it.
                let hold = hold_of(&text_at(&there, 1)?)?;
                return Ok(Some(Known { user: text_at(&there, 0)?.into(), fate: Fate::Held, ..hold }));
            }
        }
        let there = self.link.ask(redis::cmd("GET").arg(format!("bh:r:{id}"))).await?;
        Ok(Pointer::read(&there)?.map(|(_, pointer)| pointer.known))
    }

    async fn sweep(&self, book: &Book, now: Timestamp) -> Result<usize, Outage> {
        let mut freed = embedded::sweep(book, now);
        self.put_right(book, now).await?;
        freed += self.sweep_next(now).await?;
        Ok(freed)
    }
}

impl Redis {
    /// Frees a hold there, and takes note in the account, where it is in memory, that this was done. For as long as it is said, nobody
    /// commits what is under this id in the shard; without that, it is only this account's no more.
    async fn release_there(
        &self,
        slot: Option<&Slot>,
        user: &str,
        id: &str,
        life_ms: Option<i64>,
    ) -> Result<Released, Outage> {
        let prefix = prefix(book::shard_of(user));
        let keys = [format!("{prefix}a:{user}"), format!("{prefix}h:{user}"), format!("{prefix}k:{id}")];
        let keys = &keys[..if life_ms.is_some() { 3 } else { 2 }];
        let mut args = Args::of([id.as_bytes(), self.field.as_bytes()]);
        args.number(life_ms.unwrap_or_default());
        let answer = self.link.run(&self.scripts.release, &Args::of(keys.iter().map(String::as_bytes)), &args).await?;
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
            "released" => Ok(Released::Before),
            "committed" => Ok(Released::Committed),
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

/// The log of which accounts are, as they are written now: those of an earlier version are none of ours.
fn written(log: &str) -> Arc<str> {
    format!("{WRITTEN}{log}").into()
}

/// The keys of an account.
fn keys_of(user: &str, keys: &mut Args) {
    let shard = book::shard_of(user);
    keys.written(format_args!("bh:{{{shard}}}:a:{user}"));
    keys.written(format_args!("bh:{{{shard}}}:h:{user}"));
}

/// The rate of a type as this process knows it.
fn rate_us(state: &State, kind: &str) -> i64 {
    state.rate(kind).unwrap_or_default() / 1_000
}

/// How long it is remembered there who resolves a reservation: as long as it would be held.
fn claim_life_ms(expires_ms: i64, now: Timestamp) -> i64 {
    expires_ms.saturating_sub(now.as_millisecond()).max(CLAIM_MS)
}
