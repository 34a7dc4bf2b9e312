//! One connection, as its three attendants see it: the socket notes what arrives and leaves, the edge notes requests and
//! answers, the watchdog at the door looks for what takes too long.
//!
//! All three run in one task, so the atomics are never contended; they are here because the task may move between
//! threads. No timer is touched per request: that is the point of this file.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::door::Limits;
use super::house::House;

/// What the connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Nothing of a first request has arrived.
    Fresh,
    /// Between requests.
    Waiting,
    /// Part of a request's head has arrived.
    Head,
    /// A request is being answered.
    Busy,
    /// A request ran out of time; its answer is on the way.
    Expired,
}

impl Phase {
    fn read(number: u8) -> Self {
        [Self::Fresh, Self::Waiting, Self::Head, Self::Busy]
            .into_iter()
            .find(|phase| *phase as u8 == number)
            .unwrap_or(Self::Expired)
    }
}

/// What the watchdog finds when its time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is late; look again then.
    Fine(Instant),
    /// A request ran out of time: poll the connection once more, and it answers 503.
    Expired,
    /// The other side is too slow.
    Close,
}

#[derive(Debug)]
pub(super) struct Visit {
    pub(super) house: Arc<House>,
    /// Which shard of the metrics this connection adds to.
    pub(super) lane: usize,
    phase: AtomicU8,
    /// When the phase began, in milliseconds since the house opened.
    since_ms: AtomicU64,
    /// When writing began to stall, in milliseconds since the house opened; 0 when it does not.
    stalled_ms: AtomicU64,
    /// Bytes were written since the watchdog last looked.
    wrote: AtomicBool,
    /// The head that just arrived breaks a rule that hyper does not hold.
    malformed: AtomicBool,
    /// The request has a body, and not all of it was read.
    unread: AtomicBool,
    /// An answer was given before the body was read: read it off before closing, or the reset eats the answer.
    linger: AtomicBool,
    /// State of the sequence behind request ids.
    chance: AtomicU64,
}

impl Visit {
    pub(super) fn begin(house: Arc<House>, number: u64, now: Instant) -> Self {
        house.metrics.connections.fetch_add(1, Relaxed);
        let since_ms = house.millis(now);
        Self {
            lane: usize::try_from(number % 64).unwrap_or_default(),
            chance: AtomicU64::new(house.seed_of(number)),
            house,
            phase: AtomicU8::new(Phase::Fresh as u8),
            since_ms: AtomicU64::new(since_ms),
            stalled_ms: AtomicU64::new(0),
            wrote: AtomicBool::new(false),
            malformed: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            linger: AtomicBool::new(false),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        Phase::read(self.phase.load(Relaxed))
    }

    fn enter(&self, phase: Phase, now: Instant) {
        self.since_ms.store(self.house.millis(now), Relaxed);
        self.phase.store(phase as u8, Relaxed);
    }

    /// The socket: the first bytes of a head are here.
    pub(super) fn head_begins(&self) {
        self.enter(Phase::Head, Instant::now());
    }

    /// The edge: a whole head is here. True when it breaks a framing rule.
    pub(super) fn request_begins(&self, now: Instant, has_body: bool) -> bool {
        self.enter(Phase::Busy, now);
        self.unread.store(has_body, Relaxed);
        self.malformed.swap(false, Relaxed)
    }

    /// The edge: an answer is ready. True when the connection cannot go on, because part of the body was not read.
    pub(super) fn answered(&self, now: Instant) -> bool {
        self.enter(Phase::Waiting, now);
        let unread = self.unread.load(Relaxed);
        if unread {
            self.linger.store(true, Relaxed);
        }
        unread
    }

    pub(super) fn body_was_read(&self) {
        self.unread.store(false, Relaxed);
    }

    pub(super) fn head_is_malformed(&self) {
        self.malformed.store(true, Relaxed);
    }

    pub(super) fn wants_linger(&self) -> bool {
        self.linger.load(Relaxed)
    }

    pub(super) fn lingers(&self) {
        self.linger.store(true, Relaxed);
    }

    pub(super) fn writing_stalls(&self) {
        if self.stalled_ms.load(Relaxed) == 0 {
            self.stalled_ms.store(self.house.millis(Instant::now()).max(1), Relaxed);
        }
    }

    pub(super) fn writing_moves(&self) {
        self.wrote.store(true, Relaxed);
        if self.stalled_ms.load(Relaxed) != 0 {
            self.stalled_ms.store(0, Relaxed);
        }
    }

    /// Two words of chance for a request's id (SplitMix64).
    pub(super) fn chance(&self) -> (u64, u64) {
        let state = self.chance.load(Relaxed);
        self.chance.store(state.wrapping_add(GOLDEN.wrapping_mul(2)), Relaxed);
        (mixed(state), mixed(state.wrapping_add(GOLDEN)))
    }

    /// When the watchdog has to look again.
    pub(super) fn due(&self, limits: &Limits) -> Instant {
        let since = self.house.instant(self.since_ms.load(Relaxed));
        let due = since + self.patience(limits);
        match self.stalled_ms.load(Relaxed) {
            0 => due,
            stalled => due.min(self.house.instant(stalled) + limits.write_stall),
        }
    }

    fn patience(&self, limits: &Limits) -> Duration {
        match self.phase() {
            Phase::Fresh | Phase::Head => limits.header_timeout,
            Phase::Waiting => limits.idle_timeout,
            Phase::Busy => limits.request_deadline,
            Phase::Expired => limits.request_deadline + limits.write_stall,
        }
    }

    /// Judges a connection whose time has come.
    pub(super) fn judge(&self, limits: &Limits, now: Instant) -> Verdict {
        let due = self.due(limits);
        if now < due {
            return Verdict::Fine(due);
        }
        let stalled = self.stalled_ms.load(Relaxed) != 0;
        match self.phase() {
            Phase::Busy if !stalled => {
                self.phase.store(Phase::Expired as u8, Relaxed);
                Verdict::Expired
            }
            // A long answer is still leaving: that is not idleness.
            Phase::Waiting if !stalled && self.wrote.swap(false, Relaxed) => {
                self.since_ms.store(self.house.millis(now), Relaxed);
                Verdict::Fine(now + limits.idle_timeout)
            }
            _ => Verdict::Close,
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.house.metrics.connections.fetch_sub(1, Relaxed);
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's finaliser: spreads a counter over all 64 bits. Ids need to differ, not to be secret.
pub(super) fn mixed(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
