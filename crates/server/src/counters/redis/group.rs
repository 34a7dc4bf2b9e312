//! Groups: demands on one account that wait at the same moment are one call of the script, which decides them in their order.
//!
//! The call under way is the clock. A demand that finds nobody before it goes at once; what comes meanwhile is the next group. So
//! a user of whom a thousand things are asked at once costs a few calls, and one in a quiet hour waits for nobody.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::notation::Told;
use super::publication::number;
use crate::counters::Outage;

/// Demands in one call, which keeps the server from others as long as it runs.
const GROUP_MAX: usize = 100;

/// Those who wait for one account.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: Mutex<VecDeque<Waiting>>,
    turn: tokio::sync::Mutex<()>,
    telling: tokio::sync::Mutex<()>,
}

/// A demand and whoever waits for the answer to it.
#[derive(Debug)]
struct Waiting {
    line: Line,
    hears: oneshot::Sender<Result<Told, Outage>>,
}

/// A demand as the script reads it.
#[derive(Debug)]
pub struct Line {
    /// Empty where it is only asked whether there is room.
    pub id: Box<str>,
    pub kind: Box<str>,
    pub quantity: i64,
    pub credits: i64,
    pub expires_ms: i64,
    pub per_day: Option<i64>,
    pub per_month: Option<i64>,
    /// What it adds to the rate.
    pub rate_us: Option<i64>,
    pub pointer_ms: Option<i64>,
    /// What is only asked about uses up its rate all the same.
    pub takes_rate: bool,
    pub now: Timestamp,
}

impl Queue {
    pub fn enter(&self, line: Line) -> oneshot::Receiver<Result<Told, Outage>> {
        let (hears, heard) = oneshot::channel();
        self.lock().push_back(Waiting { line, hears });
        heard
    }

    /// The right to ask for those who wait. Whoever waits for it and goes away passes it on.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// The right to tell Redis what is counted on the account.
    pub async fn telling(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.telling.lock().await
    }

    /// The first of those who wait and are still there, as many as one call may decide.
    pub fn next_group(&self) -> Group<'_> {
        let mut waiting = self.lock();
        waiting.retain(|waiting| !waiting.hears.is_closed());
        let count = waiting.len().min(GROUP_MAX);
        Group { queue: self, waiting: waiting.drain(..count).collect() }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Demands that are asked together.
#[derive(Debug)]
pub struct Group<'q> {
    queue: &'q Queue,
    waiting: Vec<Waiting>,
}

impl Group<'_> {
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// They are decided at the instant of the last of them.
    pub fn now(&self) -> Timestamp {
        self.waiting.iter().map(|waiting| waiting.line.now).max().unwrap_or_default()
    }

    /// The lists of the script: the types with their rates as this process knows them, and the demands.
    pub fn write(&self, args: &mut Vec<Vec<u8>>, rate_us: impl Fn(&str) -> i64) {
        let mut kinds: Vec<&str> = Vec::new();
        let mut demands = Vec::with_capacity(9 * self.len());
        let or_empty = |figure: Option<i64>| figure.map_or_else(Vec::new, number);
        for Waiting { line, .. } in &self.waiting {
            let at = kinds.iter().position(|kind| *kind == &*line.kind).unwrap_or_else(|| {
                kinds.push(&line.kind);
                kinds.len() - 1
            });
            demands.extend([
                line.id.as_bytes().to_vec(),
                count(at + 1),
                number(line.quantity),
                number(line.credits),
                number(line.expires_ms),
                or_empty(line.per_day),
                or_empty(line.per_month),
                or_empty(line.rate_us),
                if line.takes_rate { b"rate".to_vec() } else { or_empty(line.pointer_ms) },
            ]);
        }
        args.push(count(kinds.len()));
        for kind in &kinds {
            args.extend([kind.as_bytes().to_vec(), number(rate_us(kind))]);
        }
        args.push(count(self.len()));
        args.append(&mut demands);
    }

    /// Everybody hears what was said to them, or why nothing was.
    pub fn tell(mut self, told: Result<Vec<Told>, Outage>) {
        let waiting = self.waiting.drain(..).map(|waiting| waiting.hears);
        // Whoever does not listen any more has gone away.
        match told {
            Ok(told) => waiting.zip(told).for_each(|(hears, told)| drop(hears.send(Ok(told)))),
            Err(Outage(cause)) => {
                let again = || Outage(cause.to_string().into());
                waiting.for_each(|hears| drop(hears.send(Err(again()))));
            }
        }
    }
}

impl Drop for Group<'_> {
    /// Whoever asked for them went away before the answer came: they are asked for again by another of them. What was held for
    /// them meanwhile is found under their ids.
    fn drop(&mut self) {
        let mut waiting = self.queue.lock();
        self.waiting.drain(..).rev().for_each(|first| waiting.push_front(first));
    }
}

fn count(count: usize) -> Vec<u8> {
    count.to_string().into_bytes()
}
