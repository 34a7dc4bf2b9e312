//! A client's own rate limit: a leaky bucket whose rate halves when the server says 429 and grows back slowly (F-27).
//!
//! Kept as the instant at which the bucket would be empty again, so that no task has to refill it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Steps in which a lowered rate comes back, one a second.
const RECOVERY_STEPS: u32 = 20;
/// A crowd of requests that meet the same 429 halves the rate once, not once each.
const HALVING_PAUSE: Duration = Duration::from_secs(1);
const NANOS: u64 = 1_000_000_000;

#[derive(Debug)]
pub(super) struct Bucket {
    rate_max: u32,
    burst: u32,
    inside: Mutex<Inside>,
}

#[derive(Debug)]
struct Inside {
    rate: u32,
    /// When everything granted so far has drained at the current rate.
    drained: Instant,
    /// When the rate was last lowered or raised.
    changed: Instant,
    halved: Option<Instant>,
}

impl Bucket {
    /// `rate_max` requests a second, `burst` of them at once; both above zero.
    pub fn new(rate_max: u32, burst: u32, now: Instant) -> Bucket {
        let inside = Inside { rate: rate_max, drained: now, changed: now, halved: None };
        Bucket { rate_max, burst, inside: Mutex::new(inside) }
    }

    /// The instant at which one more request may leave. When that is after `latest` nothing is taken and the wait is told:
    /// callers who could not use their place must not push the others back.
    pub fn take(&self, now: Instant, latest: Instant) -> Result<Instant, Duration> {
        let mut inside = self.lock();
        self.recover(&mut inside, now);
        let gap = gap(inside.rate);
        let start = inside.drained.max(now);
        let room = gap.saturating_mul(self.burst.saturating_sub(1));
        let leave = start.checked_sub(room).unwrap_or(now).max(now);
        if leave > latest {
            return Err(leave - now);
        }
        inside.drained = start + gap;
        Ok(leave)
    }

    /// The server said 429: half the rate, and the burst is spent.
    pub fn slow_down(&self, now: Instant) {
        let mut inside = self.lock();
        if inside.halved.is_some_and(|halved| now.saturating_duration_since(halved) < HALVING_PAUSE) {
            return;
        }
        self.recover(&mut inside, now);
        let half = (inside.rate / 2).max(1);
        inside.change_rate(half, now);
        inside.drained = inside.drained.max(now + gap(half).saturating_mul(self.burst));
        inside.changed = now;
        inside.halved = Some(now);
    }

    /// The server has said that nothing is left until then: nobody leaves before.
    pub fn hold(&self, now: Instant, until: Instant) {
        let mut inside = self.lock();
        let spent = gap(inside.rate).saturating_mul(self.burst.saturating_sub(1));
        inside.drained = inside.drained.max(until.max(now) + spent);
    }

    /// Requests a second at this moment.
    pub fn rate(&self, now: Instant) -> u32 {
        let mut inside = self.lock();
        self.recover(&mut inside, now);
        inside.rate
    }

    fn recover(&self, inside: &mut Inside, now: Instant) {
        let seconds = now.saturating_duration_since(inside.changed).as_secs();
        if inside.rate >= self.rate_max || seconds == 0 {
            return;
        }
        let step = (self.rate_max / RECOVERY_STEPS).max(1);
        let gain = step.saturating_mul(u32::try_from(seconds).unwrap_or(u32::MAX));
        let rate = inside.rate.saturating_add(gain).min(self.rate_max);
        inside.change_rate(rate, now);
        inside.changed += Duration::from_secs(seconds);
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // Whatever a panic elsewhere left here is at worst a rate that is a step off.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    /// The requests already granted stay; the time in which they drain is that of the new rate.
    fn change_rate(&mut self, rate: u32, now: Instant) {
        let nanos = self.drained.saturating_duration_since(now).as_nanos();
        let nanos = nanos.saturating_mul(u128::from(self.rate)) / u128::from(rate.max(1));
        self.drained = now + Duration::from_nanos(u64::try_from(nanos).unwrap_or(NANOS));
        self.rate = rate;
    }
}

/// The time between two requests at this rate.
fn gap(rate: u32) -> Duration {
    Duration::from_nanos(NANOS / u64::from(rate.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: Duration = Duration::from_secs(3600);

    fn leaves(bucket: &Bucket, now: Instant, count: usize) -> Vec<u64> {
        let all = (0..count).map(|_| bucket.take(now, now + FAR).unwrap());
        all.map(|at| u64::try_from((at - now).as_millis()).unwrap()).collect()
    }

    #[test]
    fn a_burst_leaves_at_once_and_the_rest_at_the_rate() {
        let now = Instant::now();
        let bucket = Bucket::new(10, 3, now);
        assert_eq!(leaves(&bucket, now, 6), [0, 0, 0, 100, 200, 300]);
    }

    #[test]
    fn f27_a_429_halves_the_rate_once_and_it_comes_back_slowly() {
        let now = Instant::now();
        let bucket = Bucket::new(80, 80, now);
        bucket.slow_down(now);
        bucket.slow_down(now);
        assert_eq!(bucket.rate(now), 40);
        assert_eq!(leaves(&bucket, now, 2), [25, 50], "the burst is spent");
        assert_eq!(bucket.rate(now + Duration::from_secs(1)), 44);
        assert_eq!(bucket.rate(now + Duration::from_secs(100)), 80);
    }

    #[test]
    fn f44_who_was_told_to_wait_lets_nobody_leave_before() {
        let now = Instant::now();
        let bucket = Bucket::new(10, 3, now);
        bucket.hold(now, now + Duration::from_millis(500));
        assert_eq!(leaves(&bucket, now, 3), [500, 600, 700]);
    }

    #[test]
    fn the_rate_never_reaches_nought() {
        let now = Instant::now();
        let bucket = Bucket::new(2, 1, now);
        for n in 0..5 {
            bucket.slow_down(now + Duration::from_millis(n * 1100));
        }
        assert!(bucket.rate(now) >= 1);
    }

    #[test]
    fn who_cannot_wait_takes_no_place() {
        let now = Instant::now();
        let bucket = Bucket::new(1, 1, now);
        assert!(bucket.take(now, now).is_ok());
        for _ in 0..100 {
            assert_eq!(bucket.take(now, now).unwrap_err(), Duration::from_secs(1));
        }
        assert_eq!(leaves(&bucket, now, 1), [1000]);
    }
}
