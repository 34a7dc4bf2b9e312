//! Attempts to commit: while one may be on its way to the log nobody releases the reservation, in whichever process. Each has a claim of
//! its own, `bh:{7}:k:<id>` holds those of all, so one that comes to nothing takes nothing from another that is in the log's queue.

use jiff::Timestamp;
use redis::Value;

use super::notation::{garbage, text_of};
use super::script::Args;
use super::unheard::{Doubt, Untold};
use super::{Outage, Redis, claim_life_ms, prefix};
use crate::counters::book;
use crate::counters::reservations::{Known, UNDER_WAY_MAX_MS};

fn key(id: &str, user: &str) -> String {
    format!("{}k:{id}", prefix(book::shard_of(user)))
}

impl Redis {
    /// No two attempts have the same name, in whichever process.
    pub fn new_attempt(&self) -> String {
        self.new_life()
    }

    pub(super) async fn claim_commit(
        &self,
        id: &str,
        known: &Known,
        attempt: &str,
        now: Timestamp,
    ) -> Result<bool, Outage> {
        let life_ms = claim_life_ms(known.expires_ms, now) + UNDER_WAY_MAX_MS;
        let untold = Untold::new(self, known, id, Doubt::Attempt(attempt.into()));
        let may = self.place_claim(&key(id, &known.user), attempt, life_ms).await;
        // Whoever hears this goes on at once, also where it is an outage: then it is no more ours to give up.
        untold.tell();
        may
    }

    /// The first attempt needs no script, and few are not the first.
    async fn place_claim(&self, key: &str, attempt: &str, life_ms: i64) -> Result<bool, Outage> {
        let mut set = redis::cmd("SET");
        set.arg(key).arg(format!("c{attempt};")).arg("PX").arg(life_ms).arg("NX").arg("GET");
        let before = self.link.ask(&set).await?;
        if before == Value::Nil {
            return Ok(true);
        }
        if text_of(&before)? == "r" {
            return Ok(false);
        }
        let mut args = Args::of([attempt.as_bytes()]);
        args.number(life_ms);
        match self.link.run(&self.scripts.begin, &Args::of([key.as_bytes()]), &args).await? {
            Value::Int(may) => Ok(may == 1),
            other => Err(garbage(&other)),
        }
    }

    pub(super) async fn unclaim_commit(&self, id: &str, known: &Known, attempt: &str) {
        let untold = Untold::new(self, known, id, Doubt::Attempt(attempt.into()));
        if self.give_up_claim(id, &known.user, attempt).await.is_ok() {
            untold.tell();
        }
    }

    pub(super) async fn give_up_claim(&self, id: &str, user: &str, attempt: &str) -> Result<(), Outage> {
        let (keys, args) = (Args::of([key(id, user).as_bytes()]), Args::of([attempt.as_bytes()]));
        self.link.run(&self.scripts.give_up, &keys, &args).await.map(drop)
    }
}
