//! Groups: demands that wait at the same moment are one call of the script, which decides those on one account in their order.
//!
//! The call under way is the clock. A demand that finds nobody before it goes at once; what comes meanwhile is the next group. So
//! a thousand things that are asked at once cost a few calls, of one user or of many, and one in a quiet hour waits for nobody.
//! One server is one lane; in a cluster every shard has its own, because a call may touch one slot only.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::notation::{Asked, Heard, HoldText, owner};
use super::script::Args;
use super::{keys_of, rate_us};
use crate::counters::Outage;
use crate::counters::book::{self, Slot, State};

/// Demands in one call, which keeps the server from others as long as it runs.
const GROUP_MAX: usize = 100;
/// By how much the clocks of processes may differ.
const CLOCKS_DIFFER_MS: i64 = 120_000;
/// Where there is none of a figure.
const NONE: i64 = -1;

/// Those who wait for one part of Redis. One of them has the lead: it asks for all, and passes the lead on.
#[derive(Debug, Default)]
pub struct Lane(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    is_led: bool,
}

/// A demand and whoever waits for the answer to it.
#[derive(Debug)]
struct Waiting {
    slot: Arc<Slot>,
    line: Line,
    hears: Hears,
}

/// Nobody hears where the lead was given to them: they hear again once they have asked.
type Hears = Option<oneshot::Sender<Word>>;

/// What somebody hears who waits.
#[derive(Debug)]
pub enum Word {
    Heard(Result<Heard, Outage>),
    Lead(Lead),
}

/// The right to ask for those who wait. Whoever has it and goes away passes it on.
#[derive(Debug)]
pub struct Lead(Option<Arc<Lane>>);

/// A demand as the script reads it.
#[derive(Debug)]
pub struct Line {
    /// Nothing where it is only asked whether there is room.
    pub id: Option<Arc<str>>,
    pub kind: Arc<str>,
    pub quantity: i64,
    pub credits: i64,
    pub expires_ms: i64,
    pub per_day: Option<i64>,
    pub per_month: Option<i64>,
    /// What it adds to the rate.
    pub rate_us: Option<i64>,
    pub takes_rate: bool,
    pub now: Timestamp,
    /// Not together with other accounts: something was wrong with one of them.
    pub alone: bool,
}

impl Lane {
    pub fn enter(self: &Arc<Self>, slot: &Arc<Slot>, line: Line) -> oneshot::Receiver<Word> {
        let (hears, heard) = oneshot::channel();
        let mut queue = self.lock();
        queue.waiting.push_back(Waiting { slot: Arc::clone(slot), line, hears: Some(hears) });
        if !queue.is_led {
            self.pass_on(&mut queue);
        }
        heard
    }

    /// Gives the lead to the first who waits and is still there.
    fn pass_on(self: &Arc<Self>, queue: &mut Queue) {
        queue.is_led = true;
        while let Some(first) = queue.waiting.front_mut() {
            if let Some(hears) = first.hears.take() {
                match hears.send(Word::Lead(Lead(Some(Arc::clone(self))))) {
                    Ok(()) => return,
                    Err(Word::Lead(mut lead)) => drop(lead.0.take()), // it is ours again
                    Err(Word::Heard(_)) => {}
                }
            }
            queue.waiting.pop_front();
        }
        queue.is_led = false;
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lead {
    /// The first of those who wait and are still there, as many as one call may decide: whoever has the lead, and where they hear
    /// what was said to them.
    pub fn next_group(&self) -> (Group, oneshot::Receiver<Word>) {
        let (hears, heard) = oneshot::channel();
        let Some(lane) = &self.0 else { return (Group::default(), heard) };
        let mut queue = lane.lock();
        if let Some(own) = queue.waiting.iter_mut().find(|waiting| waiting.hears.is_none()) {
            own.hears = Some(hears);
        }
        queue.waiting.retain(|waiting| waiting.hears.as_ref().is_some_and(|hears| !hears.is_closed()));
        let together = queue.waiting.iter().take(GROUP_MAX).take_while(|waiting| !waiting.line.alone).count();
        let count = together.max(1).min(queue.waiting.len());
        let mut waiting: Vec<Waiting> = queue.waiting.drain(..count).collect();
        // Those of one account stay in their order.
        waiting.sort_by_key(|waiting| Arc::as_ptr(&waiting.slot));
        (Group { lane: Arc::clone(lane), waiting }, heard)
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if let Some(lane) = self.0.take() {
            lane.pass_on(&mut lane.lock());
        }
    }
}

/// Demands that are asked together, those of one account beside each other.
#[derive(Debug, Default)]
pub struct Group {
    lane: Arc<Lane>,
    waiting: Vec<Waiting>,
}

impl Group {
    /// They are decided at the instant of the last of them.
    pub fn now(&self) -> Timestamp {
        self.waiting.iter().map(|waiting| waiting.line.now).max().unwrap_or_default()
    }

    /// That of all of them in a cluster; of the first where it does not matter.
    pub fn shard(&self) -> i64 {
        self.waiting.first().map_or(0, |waiting| book::shard_of(&waiting.slot.user))
    }

    /// Everything that the script is told of the accounts and the demands on them, and what was known of each account then.
    pub fn write(&self, keys: &mut Args, args: &mut Args) -> Vec<Asked> {
        let (of_one, now) = (self.waiting.chunk_by(|one, next| Arc::ptr_eq(&one.slot, &next.slot)), self.now());
        of_one.map(|demands| write_account(demands, now, keys, args)).collect()
    }

    /// Everybody hears what was said to them, or why nothing was.
    pub fn tell(mut self, heard: Result<Vec<Heard>, Outage>) {
        let waiting = self.waiting.drain(..).map(|waiting| waiting.hears);
        // Whoever does not listen any more has gone away.
        let tell = |hears: Hears, heard| drop(hears.map(|hears| hears.send(Word::Heard(heard))));
        match heard {
            Ok(heard) => waiting.zip(heard).for_each(|(hears, heard)| tell(hears, Ok(heard))),
            Err(Outage(cause)) => waiting.for_each(|hears| tell(hears, Err(Outage(cause.to_string().into())))),
        }
    }
}

impl Drop for Group {
    /// Whoever asked for them went away before the answer came: they are asked for again by another of them. What was held for
    /// them meanwhile is found under their ids; a rate that was taken without one is not, and would be taken twice.
    fn drop(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut queue = self.lane.lock();
        for Waiting { slot, line, hears } in self.waiting.drain(..).rev() {
            if line.id.is_none() && line.takes_rate {
                let outage = Outage("whoever asked for it went away".into());
                drop(hears.map(|hears| hears.send(Word::Heard(Err(outage)))));
            } else {
                queue.waiting.push_front(Waiting { slot, line, hears });
            }
        }
    }
}

/// Until when the account that is right now is right: one in Redis that is right longer is that of a later day or period, because
/// the clock was set back (F-49). Shortly before the end it is that of a process whose clock is a little ahead, and is as good.
fn right_until_ms(state: &mut State, now: Timestamp) -> i64 {
    let now_ms = now.as_millisecond();
    let until_ms = state.room(now_ms).map_or(i64::MAX, |room| room.until_ms);
    if until_ms.saturating_sub(now_ms) > CLOCKS_DIFFER_MS { until_ms } else { i64::MAX }
}

/// The demands on one account.
fn write_account(demands: &[Waiting], now: Timestamp, keys: &mut Args, args: &mut Args) -> Asked {
    let slot = &demands[0].slot;
    let mut kinds: Vec<&str> = Vec::with_capacity(1);
    for Waiting { line, .. } in demands {
        if !kinds.contains(&&*line.kind) {
            kinds.push(&line.kind);
        }
    }
    let is_limited = demands.iter().any(|waiting| waiting.line.is_limited());
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let mut state = slot.lock();
    let right_until_ms = right_until_ms(&mut state, now);
    let there = &state.there;
    keys_of(&slot.user, keys);
    args.text(&there.life);
    let counts = [count(kinds.len()), if is_limited { 4 } else { 1 }, count(demands.len())];
    args.figures(&counts, [there.seen, state.account.position(), right_until_ms]);
    for kind in &kinds {
        args.written(format_args!("h:{kind}"));
        if is_limited {
            for of in ["d", "m", "r"] {
                args.written(format_args!("{of}:{kind}"));
            }
        }
    }
    let mut kind_of = Vec::with_capacity(demands.len());
    for Waiting { line, .. } in demands {
        let kind = kinds.iter().position(|kind| *kind == &*line.kind).unwrap_or_default();
        line.write(&slot.user, count(kind + 1), &state, args);
        kind_of.push(kind);
    }
    Asked { kind_count: kinds.len(), kind_of, is_limited, life: Arc::clone(&there.life), published: there.published }
}

impl Line {
    fn is_limited(&self) -> bool {
        self.per_day.is_some() || self.per_month.is_some() || self.rate_us.is_some()
    }

    fn write(&self, user: &str, kind: i32, state: &State, args: &mut Args) {
        let Self { id, quantity, credits, expires_ms, .. } = self;
        let id = id.as_deref().unwrap_or_default();
        args.text(id);
        args.figures(
            &[kind, i32::from(self.takes_rate)],
            [
                *quantity,
                *credits,
                self.per_day.unwrap_or(NONE),
                self.per_month.unwrap_or(NONE),
                self.rate_us.unwrap_or(NONE),
                rate_us(state, &self.kind),
            ],
        );
        args.written(format_args!(
            "{}",
            HoldText { quantity: *quantity, credits: *credits, expires_ms: *expires_ms, kind: &self.kind }
        ));
        args.written(format_args!("{}\0{id}", owner(user)));
        args.number(*expires_ms);
    }
}
