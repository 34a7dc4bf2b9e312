//! Claims: which demand an id of the caller's own stands for, settled before anything is held under it.
//!
//! Users lie in different slots, so no script sees two who ask for the same id at the same moment. One key of the id's own decides
//! between them, `bh:r:<id>`: whoever writes it first has the id, and it only ever passes on by compare-and-set. It passes on when
//! its time is over, when the demand that claimed it is refused, and when nothing came of it for a while: then the account of
//! whoever claimed it is told first that this id is none of its own any more, so that a process which slept meanwhile holds nothing.

use std::sync::Arc;

use billing::hold::Hold;
use billing::usage::Credits;
use futures_util::future::join_all;
use jiff::Timestamp;
use redis::Value;

use super::notation::{Made, Pointer, garbage, owner};
use super::script::Args;
use super::{Outage, Redis, TRIES, prefix};
use crate::counters::book::{self, Book, Slot};
use crate::counters::reservations::Known;
use crate::counters::{Answer, Ask, Numbers, Verdict, embedded};

/// How long it is remembered whose a reservation was after it has expired.
const POINTER_MS: i64 = 3_600_000;
/// A claim under which nothing is held for so long is one of a process that died, or could not say that it was refused.
const ABANDONED_MS: i64 = 15_000;
/// Claims that are asked for at once.
const AT_ONCE: usize = 100;

/// A claim to an id, as it would lie in Redis.
pub struct Claim {
    key: String,
    text: String,
    life_ms: i64,
}

/// Who has an id.
pub enum Claimed {
    /// This demand, and nobody before it: if it is refused, the claim is given up.
    First(Claim),
    /// A demand for the same thing, which may still be refused and give it up.
    Shared,
    /// A demand for something else; names the member that differs.
    Differs(&'static str),
}

impl Claim {
    /// `serial` is of no other claim.
    fn new(id: &str, pointer: &Pointer, serial: &str, now: Timestamp) -> Self {
        let over_ms = pointer.known.expires_ms.saturating_add(POINTER_MS);
        Self { key: key(id), text: pointer.text(serial), life_ms: over_ms.saturating_sub(now.as_millisecond()).max(1) }
    }
}

fn key(id: &str) -> String {
    format!("bh:r:{id}")
}

impl Redis {
    /// Claims an id of the caller's own for a demand, unless it stands for another.
    pub(super) async fn claim(&self, slot: &Slot, ask: &Ask<'_>) -> Result<Claimed, Outage> {
        let (claim, now_ms) = (self.claim_of(slot, ask), ask.demand.now.as_millisecond());
        for _ in 0..TRIES {
            let Some((text, there)) = self.place(&claim).await? else { return Ok(Claimed::First(claim)) };
            if !there.known.is_over(now_ms) {
                let Some(member) = differs(&there.known, slot, ask) else { return Ok(Claimed::Shared) };
                let is_abandoned = there.since_ms.saturating_add(ABANDONED_MS) <= now_ms;
                if !is_abandoned || !self.disown(ask.id, &there.known).await? {
                    return Ok(Claimed::Differs(member));
                }
            }
            if self.replace(&claim.key, &text, Some(&claim)).await? {
                return Ok(Claimed::First(claim));
            }
        }
        Err(Outage("the claim to the id does not stay".into()))
    }

    /// Something is held now under an id that may have passed on meanwhile: another demand for the same thing had claimed it, and may
    /// have been refused and given it up before. So it is claimed again, and nothing stays held where somebody else has it.
    pub(super) async fn confirm(
        &self,
        book: &Book,
        slot: &Slot,
        ask: &Ask<'_>,
        answer: Answer,
    ) -> Result<Answer, Outage> {
        let claim = self.claim_of(slot, ask);
        for _ in 0..TRIES {
            let Some((text, there)) = self.place(&claim).await? else { return Ok(answer) };
            let is_over = there.known.is_over(ask.demand.now.as_millisecond());
            if !is_over && let Some(member) = differs(&there.known, slot, ask) {
                embedded::disown(book, ask.id, &slot.user);
                self.release_there(Some(slot), &slot.user, ask.id, None).await?;
                return Ok(Answer { verdict: Verdict::Differs(member), numbers: Numbers::default() });
            }
            if self.replace(&claim.key, &text, Some(&claim)).await? {
                return Ok(answer);
            }
        }
        Err(Outage("the claim to the id does not stay".into()))
    }

    /// Nothing is held under it: it may still become anything. Unless others rely on the claim meanwhile.
    pub(super) async fn give_up(&self, claim: &Claim) {
        // Where this is not heard, the claim is one that was abandoned.
        let _ = self.replace(&claim.key, &claim.text, None).await;
    }

    /// Claims the ids of what is held by a user: Redis may have lost that as well. Where it fails, the hold is put back all the same.
    pub(super) async fn claim_again<'h>(
        &self,
        holds: impl Iterator<Item = (&'h str, &'h str, &'h Hold)>,
        now: Timestamp,
    ) {
        let is_made = |user: &str, id: &str, hold: &Hold| {
            Made::read(id) == Some(Made { shard: book::shard_of(user), expires_ms: hold.expires_ms })
        };
        let own = holds.filter(|(user, id, hold)| !is_made(user, id, hold));
        let claims: Vec<Claim> = own
            .map(|(user, id, hold)| Claim::new(id, &Pointer::of(user, hold, i64::MIN), &self.new_life(), now))
            .collect();
        for some in claims.chunks(AT_ONCE) {
            join_all(some.iter().map(|claim| self.place(claim))).await;
        }
    }

    fn claim_of(&self, slot: &Slot, ask: &Ask<'_>) -> Claim {
        let demand = &ask.demand;
        let (kind, quantity) = (Arc::clone(demand.kind), demand.quantity);
        let hold = Hold { kind, quantity, credits: Credits::ZERO, expires_ms: ask.expires_ms };
        let pointer = Pointer::of(&slot.user, &hold, demand.now.as_millisecond());
        Claim::new(ask.id, &pointer, &self.new_life(), demand.now)
    }

    /// Places a claim where there is none; else answers the one that there is.
    async fn place(&self, claim: &Claim) -> Result<Option<(String, Pointer)>, Outage> {
        let mut set = redis::cmd("SET");
        set.arg(&claim.key).arg(&claim.text).arg("PX").arg(claim.life_ms).arg("NX").arg("GET");
        Pointer::read(&self.link.ask(&set).await?)
    }

    async fn replace(&self, key: &str, seen: &str, by: Option<&Claim>) -> Result<bool, Outage> {
        let mut args = Args::of([seen.as_bytes(), by.map_or("", |claim| &claim.text).as_bytes()]);
        args.number(by.map_or(0, |claim| claim.life_ms));
        let answer = self.link.run(&self.scripts.claim, &Args::of([key.as_bytes()]), &args).await?;
        if let Value::Int(count) = answer { Ok(count == 1) } else { Err(garbage(&answer)) }
    }

    /// Whether nothing is held under the id by whoever claimed it, and nothing will be.
    async fn disown(&self, id: &str, known: &Known) -> Result<bool, Outage> {
        let prefix = prefix(book::shard_of(&known.user));
        let keys = [format!("{prefix}h:{}", known.user), self.ends(book::shard_of(&known.user)).await?];
        let mut args = Args::of([id.as_bytes()]);
        args.written(format_args!("r:{}:0:{}:{}", known.quantity.micro(), known.expires_ms, known.kind));
        args.written(format_args!("{}\0{id}", owner(&known.user)));
        args.number(known.expires_ms);
        let keys = Args::of(keys.iter().map(String::as_bytes));
        let answer = self.link.run(&self.scripts.disown, &keys, &args).await?;
        if let Value::Int(count) = answer { Ok(count == 1) } else { Err(garbage(&answer)) }
    }
}

fn differs(known: &Known, slot: &Slot, ask: &Ask<'_>) -> Option<&'static str> {
    known.differs(&slot.user, ask.demand.kind, ask.demand.quantity)
}
