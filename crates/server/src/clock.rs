//! The two inputs that nobody may take from the air: the time and chance.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

/// What time it is. Two real implementations: the system's, and one that tests and the sandbox move by hand.
pub trait Clock: Send + Sync + std::fmt::Debug {
    fn now(&self) -> Timestamp;
}

/// How many seconds ago an instant was, given in seconds since 1970. None at all where it is to come: the clock was set back since,
/// and nothing is younger than now (F-49).
pub fn age_s(now: Timestamp, at_s: i64) -> i64 {
    now.as_second().saturating_sub(at_s).max(0)
}

/// The machine's clock.
#[derive(Debug, Clone, Copy)]
pub struct System;

impl Clock for System {
    #[allow(clippy::disallowed_methods, reason = "the one clock read of the program")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct Manual(AtomicI64);

impl Manual {
    pub fn at(instant: Timestamp) -> Self {
        Self(AtomicI64::new(instant.as_millisecond()))
    }

    pub fn set(&self, instant: Timestamp) {
        self.0.store(instant.as_millisecond(), Ordering::SeqCst);
    }

    pub fn advance(&self, by: std::time::Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Clock for Manual {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.0.load(Ordering::SeqCst)).unwrap_or(Timestamp::MAX)
    }
}

/// Where randomness comes from: the operating system, or a seeded sequence so that a run can be repeated.
#[derive(Debug)]
pub enum Chance {
    System(Box<Mutex<Pool>>),
    Seeded(AtomicU64),
}

/// Random bytes that were fetched and not given away yet: one call of the system's for many of ours.
pub struct Pool {
    bytes: [u8; 1024],
    left: usize,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Pool {
    /// Each byte is given away once and kept nowhere after that.
    fn take(&mut self, out: &mut [u8]) -> Result<(), ring::error::Unspecified> {
        for part in out.chunks_mut(self.bytes.len()) {
            if part.len() > self.left {
                self.left = 0;
                ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut self.bytes)?;
                self.left = self.bytes.len();
            }
            part.fill(0);
            part.swap_with_slice(&mut self.bytes[self.left - part.len()..self.left]);
            self.left -= part.len();
        }
        Ok(())
    }
}

impl Chance {
    pub fn system() -> Self {
        Self::System(Box::new(Mutex::new(Pool { bytes: [0; 1024], left: 0 })))
    }

    pub fn seeded(seed: u64) -> Self {
        Self::Seeded(AtomicU64::new(seed))
    }

    /// `N` random bytes. The system's source failing is an error of the machine, never a weaker number.
    pub fn bytes<const N: usize>(&self) -> crate::error::Result<[u8; N]> {
        let mut out = [0_u8; N];
        match self {
            Self::System(pool) => (pool.lock().unwrap_or_else(PoisonError::into_inner).take(&mut out))
                .map_err(|_| crate::error::Error::internal("the system gave no random bytes"))?,
            Self::Seeded(state) => {
                for chunk in out.chunks_mut(8) {
                    let word = split_mix(state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)).to_le_bytes();
                    chunk.copy_from_slice(&word[..chunk.len()]);
                }
            }
        }
        Ok(out)
    }
}

/// SplitMix64's finaliser: spreads a counter over all 64 bits.
fn split_mix(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
