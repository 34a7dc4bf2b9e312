//! What lies in Redis of an account, compared field by field with what has to lie there, and put right.
//!
//! Everything is compared by which the scripts decide. How fast somebody was (a rate) and how many holds were given out stands
//! nowhere else.

use std::collections::{BTreeMap, HashMap};

use billing::account::{Account, Room};
use billing::hold::Hold;
use billing::usage::{Credits, Quantity};
use jiff::Timestamp;
use redis::Value;

use super::notation::{Made, Pointer, garbage, hold_of, owner, text_at, text_of};
use super::publication::{fields, text_of as hold_text, write_fields};
use super::script::Args;
use super::view::DEADLINE;
use super::{Outage, Redis, keys_of, prefix};
use crate::counters::book;
use crate::counters::reservations::{Fate, Known};

/// What was found of an account.
#[derive(Debug, Default)]
pub struct Finding {
    pub faults: Vec<Fault>,
    /// The entry at which it was published.
    entry: String,
    /// Reservations that lie there and that nobody knows.
    unknown: Vec<String>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub about: About,
    /// After the name of the user: `, tts, day 2026-11-22: Redis has 1, the log says 2`.
    pub words: String,
}

/// What a difference is about. Two looks that tell of the same have found one difference that lasts, and not two that passed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    Account,
    /// It is published at another entry than that of the log: this one.
    Entry(String),
    /// A field, compared where both are at the same entry.
    Field(String),
    /// A sum of what is held there.
    Sum(String),
    /// A reservation, in the life that ends then.
    Reservation {
        id: String,
        expires_ms: i64,
    },
}

impl Finding {
    fn add(&mut self, about: About, words: impl Into<String>) {
        self.faults.push(Fault { about, words: words.into() });
    }

    /// Whether the fields could be compared: not where the account is at another entry than the log.
    pub fn is_compared(&self) -> bool {
        !self.faults.iter().any(|fault| matches!(fault.about, About::Entry(_)))
    }
}

impl About {
    fn reservation(id: &str, expires_ms: i64) -> Self {
        Self::Reservation { id: id.to_owned(), expires_ms }
    }
}

/// What lies there.
#[derive(Debug, Default)]
struct Lying {
    account: HashMap<String, Vec<u8>>,
    holds: Vec<Lain>,
}

/// A reservation there.
#[derive(Debug)]
struct Lain {
    id: String,
    /// Nothing where it cannot be read.
    known: Option<Known>,
    ends_ms: Option<i64>,
}

impl Lain {
    fn is_held(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.fate == Fate::Held)
    }
}

impl Redis {
    /// Compares an account in Redis with the account of the log, and what is held there with the reservations that are known
    /// to be open.
    pub async fn inspect(
        &self,
        user: &str,
        account: &Account,
        open: &BTreeMap<String, Hold>,
        now: Timestamp,
    ) -> Result<Finding, Outage> {
        let mut finding = Finding::default();
        let Some(lying) = self.look(user).await? else {
            finding.add(About::Account, ": what lies in Redis is not of this program");
            return Ok(finding);
        };
        finding.entry = lying.text("entry");
        if lying.account.is_empty() && account.position() == 0 {
            return Ok(finding); // nobody has asked for it yet
        }
        if lying.text("log") != *self.log() {
            finding.add(About::Account, ": the account in Redis is not published");
            return Ok(finding);
        }
        if finding.entry == account.position().to_string() {
            self.compare_fields(&lying, account, now.as_millisecond(), &mut finding);
        } else {
            let (there, here) = (finding.entry.clone(), account.position());
            let words = format!(": the account in Redis is published at {there}, the log is at {here}");
            finding.add(About::Entry(there), words);
        }
        compare_sums(&lying, &mut finding);
        self.compare_holds(user, &lying, open, &mut finding).await?;
        Ok(finding)
    }

    /// Writes an account in Redis as it has to be, with what is held of it. False where it has moved since it was looked at.
    pub async fn mend(
        &self,
        user: &str,
        account: &Account,
        open: &BTreeMap<String, Hold>,
        found: &Finding,
        now: Timestamp,
    ) -> Result<bool, Outage> {
        let room = account.room(now.as_millisecond()).map_err(|error| Outage(error.into()))?;
        let (log, life) = (self.log(), self.new_life());
        let mut args = Args::of([&owner(user).to_string(), &*found.entry, &log, &life].map(str::as_bytes));
        args.number(account.position());
        args.number(room.until_ms);
        write_fields(&room, &self.kinds, &mut args);
        args.count(found.unknown.len());
        found.unknown.iter().for_each(|id| args.text(id));
        args.count(open.len());
        for (id, hold) in open {
            args.text(id);
            args.text(&hold_text(hold));
            args.number(hold.expires_ms);
        }
        let answer = self.link.run_within(DEADLINE, &self.scripts.mend, &self.keys(user).await?, &args).await?;
        Ok(text_of(&answer)? == "mended")
    }

    /// The reservations that are held there. What is not of ours is thrown away.
    pub(super) async fn held_there(&self, user: &str) -> Result<Vec<String>, Outage> {
        let Some(lying) = self.look(user).await? else {
            let prefix = prefix(book::shard_of(user));
            let [account, holds] = ["a", "h"].map(|of| format!("{prefix}{of}:{user}"));
            tracing::error!(user.id = user, "what lies in Redis is not of this program: the account is published anew");
            self.link.ask(redis::cmd("DEL").arg(account).arg(holds)).await?;
            return Ok(Vec::new());
        };
        Ok(lying.holds.into_iter().filter(Lain::is_held).map(|hold| hold.id).collect())
    }

    /// Nothing where a key is of another kind.
    async fn look(&self, user: &str) -> Result<Option<Lying>, Outage> {
        let args = Args::of([owner(user).to_string().as_bytes()]);
        let answer = self.link.run_within(DEADLINE, &self.scripts.look, &self.keys(user).await?, &args).await?;
        if text_at(&answer, 0)? == "spoilt" {
            return Ok(None);
        }
        Lying::read(&answer).map(Some)
    }

    async fn keys(&self, user: &str) -> Result<Args, Outage> {
        let mut keys = Args::default();
        keys_of(user, &mut keys);
        keys.text(&self.ends(book::shard_of(user)).await?);
        Ok(keys)
    }

    fn compare_fields(&self, lying: &Lying, account: &Account, now_ms: i64, finding: &mut Finding) {
        let Ok(room) = account.room(now_ms) else { return };
        let until = lying.text("until").parse::<i64>().unwrap_or(i64::MAX);
        if until <= now_ms {
            return; // whoever decides next publishes it anew
        }
        if until != room.until_ms {
            let (until, right) = (instant(until), instant(room.until_ms));
            let words = format!(": Redis goes by the account until {until}, it is right until {right}");
            finding.add(About::Field("until".to_owned()), words);
        }
        for (name, expected) in fields(&room, &self.kinds) {
            let there = lying.account.get(&name);
            // The scripts read 0 where there is none of a type.
            let is_same = there.map_or(expected == "0", |there| *there == expected.as_bytes());
            if !is_same {
                let words = difference(&name, &lying.text(&name), &expected, &room);
                finding.add(About::Field(name), words);
            }
        }
    }

    async fn compare_holds(
        &self,
        user: &str,
        lying: &Lying,
        open: &BTreeMap<String, Hold>,
        finding: &mut Finding,
    ) -> Result<(), Outage> {
        for (id, hold) in open {
            let about = || About::reservation(id, hold.expires_ms);
            match lying.holds.iter().find(|lain| lain.id == *id) {
                None => finding.add(about(), format!(": the reservation {id} is open and not held in Redis")),
                Some(lain) if lain.is_held() && lain.known.as_ref().is_some_and(|known| known.hold() != *hold) => {
                    let there = lain.known.as_ref().map(|known| told(&known.hold())).unwrap_or_default();
                    let words = format!(": the reservation {id} holds {there} in Redis, and is of {}", told(hold));
                    finding.add(about(), words);
                }
                Some(_) => {}
            }
        }
        for lain in &lying.holds {
            let Lain { id, known, ends_ms } = lain;
            let Some(known) = known else {
                let words = format!(": the reservation {id} in Redis cannot be read");
                finding.add(About::reservation(id, ends_ms.unwrap_or_default()), words);
                continue;
            };
            let about = || About::reservation(id, known.expires_ms);
            if ends_ms.is_none_or(|ends_ms| ends_ms > known.expires_ms) {
                finding.add(about(), format!(": the reservation {id} in Redis does not end with its time"));
            }
            if known.fate == Fate::Held && !open.contains_key(id) && !self.is_made(user, id, known).await? {
                let words = format!(", {}: nobody knows of the reservation {id} in Redis", known.kind);
                finding.add(about(), words);
                finding.unknown.push(id.clone());
            }
        }
        Ok(())
    }

    /// Whether a reservation was made by one of us: its id tells where it lies and when it ends, or somebody has claimed it.
    async fn is_made(&self, user: &str, id: &str, known: &Known) -> Result<bool, Outage> {
        if Made::read(id) == Some(Made { shard: book::shard_of(user), expires_ms: known.expires_ms }) {
            return Ok(true);
        }
        let there = self.link.ask(redis::cmd("GET").arg(format!("bh:r:{id}"))).await?;
        Ok(Pointer::read(&there)?.is_some_and(|(_, pointer)| *pointer.known.user == *user))
    }
}

impl Lying {
    fn read(answer: &Value) -> Result<Self, Outage> {
        let Value::Array(parts) = answer else { return Err(garbage(answer)) };
        let [_, Value::Array(account), Value::Array(holds), Value::Array(due)] = parts.as_slice() else {
            return Err(garbage(answer));
        };
        let mut lying = Self::default();
        for pair in account.chunks_exact(2) {
            let Value::BulkString(value) = &pair[1] else { return Err(garbage(answer)) };
            lying.account.insert(text_of(&pair[0])?, value.clone());
        }
        for (pair, ends) in holds.chunks_exact(2).zip(due) {
            let known = text_of(&pair[1]).and_then(|text| hold_of(&text)).ok();
            // A score is a number of another notation where it is very large; then it is not one of ours either.
            lying.holds.push(Lain { id: text_of(&pair[0])?, known, ends_ms: text_of(ends)?.parse().ok() });
        }
        Ok(lying)
    }

    /// A field as text; nothing where there is none.
    fn text(&self, field: &str) -> String {
        self.account.get(field).map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
    }
}

/// What is held there, against the sums by which it is decided.
fn compare_sums(lying: &Lying, finding: &mut Finding) {
    let (mut credits, mut kinds) = (0_i64, BTreeMap::<String, i64>::new());
    for known in lying.holds.iter().filter(|lain| lain.is_held()).filter_map(|lain| lain.known.as_ref()) {
        credits = credits.saturating_add(known.credits.micro());
        let sum = kinds.entry(format!("h:{}", known.kind)).or_default();
        *sum = sum.saturating_add(known.quantity.micro());
    }
    for name in lying.account.keys().filter(|name| name.starts_with("h:")) {
        kinds.entry(name.clone()).or_default();
    }
    let kept = |name: &str| Some(lying.text(name)).filter(|text| !text.is_empty()).unwrap_or_else(|| "0".to_owned());
    if kept("held") != credits.to_string() {
        let (kept, sum) = (in_credits(&kept("held")), Credits::from_micro(credits).wire());
        let words = format!(", credits: Redis holds {kept}, its reservations are {sum}");
        finding.add(About::Sum("held".to_owned()), words);
    }
    for (name, sum) in kinds {
        if kept(&name) != sum.to_string() {
            let (kind, sum) = (&name[2..], Quantity::from_micro(sum).wire());
            let words = format!(", {kind}: Redis holds {}, its reservations are {sum}", in_units(&kept(&name)));
            finding.add(About::Sum(name), words);
        }
    }
}

/// In words how a field differs.
fn difference(name: &str, there: &str, expected: &str, room: &Room) -> String {
    let (day, period) = (instant(room.day_start_ms), instant(room.period_start_ms));
    match (name, name.split_once(':')) {
        ("over", _) if expected == "1" => ": the terms have ended, and Redis goes on".to_owned(),
        ("over", _) => ": Redis says that the terms have ended".to_owned(),
        (_, Some(("d", kind))) => {
            let (there, expected) = (in_units(there), in_units(expected));
            format!(", {kind}, day from {day}: Redis has {there} used, the log says {expected}")
        }
        (_, Some(("m", kind))) => {
            let (there, expected) = (in_units(there), in_units(expected));
            format!(", {kind}, period from {period}: Redis has {there} used, the log says {expected}")
        }
        _ => {
            let (there, expected) = (in_credits(there), in_credits(expected));
            format!(", credits, period from {period}: Redis leaves {there}, the log says {expected}")
        }
    }
}

fn told(hold: &Hold) -> String {
    format!("{} {} until {}", hold.quantity.wire(), hold.kind, instant(hold.expires_ms))
}

fn in_units(micro: &str) -> String {
    micro.parse().map_or_else(|_| format!("{micro:?}"), |micro| Quantity::from_micro(micro).wire())
}

fn in_credits(micro: &str) -> String {
    micro.parse().map_or_else(|_| format!("{micro:?}"), |micro| Credits::from_micro(micro).wire())
}

fn instant(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |at| at.to_string())
}
