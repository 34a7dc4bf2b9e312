//! The circuit breaker: after five failures in a row nobody asks for ten seconds, then one request probes.
//!
//! It keeps a dead Stripe from holding every caller for the whole deadline. Any answer that shows a living server closes
//! it, a refusal too: 401, 404 or 429 come from somebody who is there. Five failures may be those of one object that Stripe
//! cannot show: so before it opens, and when a probe fails, something else is asked, and only that decides.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that put Stripe in doubt.
pub const FAILURES: u32 = 5;
/// What callers are told to wait while the probe is under way.
const PROBING: Duration = Duration::from_secs(1);

/// Where the breaker stands, for `/readyz` and `doctor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Requests pass; so many failures in a row were seen lately.
    Closed { failures: u32 },
    /// Requests are refused for so long.
    Open { retry_after: Duration },
    /// One request is finding out whether Stripe is back.
    Probing,
}

#[derive(Clone, Copy, Debug)]
enum Inside {
    Closed { failures: u32 },
    Open { until: Instant },
    Probing,
}

#[derive(Clone, Debug)]
pub(super) struct Breaker {
    pause: Duration,
    inside: Arc<Mutex<Inside>>,
}

impl Breaker {
    /// A closed breaker that stays open for `pause` before it lets a probe out.
    pub fn new(pause: Duration) -> Breaker {
        Breaker { pause, inside: Arc::new(Mutex::new(Inside::Closed { failures: 0 })) }
    }

    /// May a request leave now? If not, when to ask again. Reserves nothing.
    pub fn check(&self, now: Instant) -> Result<(), Duration> {
        match self.state(now) {
            BreakerState::Closed { .. } => Ok(()),
            BreakerState::Open { retry_after } if retry_after.is_zero() => Ok(()),
            BreakerState::Open { retry_after } => Err(retry_after),
            BreakerState::Probing => Err(PROBING),
        }
    }

    /// Leave for one attempt, to be settled with its outcome. After the pause the first to come is the probe.
    pub fn admit(&self, now: Instant) -> Result<Pass, Duration> {
        let mut inside = self.lock();
        let probe = match *inside {
            Inside::Closed { .. } => false,
            Inside::Open { until } if now < until => return Err(until - now),
            Inside::Open { .. } => true,
            Inside::Probing => return Err(PROBING),
        };
        if probe {
            *inside = Inside::Probing;
        }
        drop(inside);
        Ok(Pass { breaker: self.clone(), probe, settled: false })
    }

    pub fn state(&self, now: Instant) -> BreakerState {
        match *self.lock() {
            Inside::Closed { failures } => BreakerState::Closed { failures },
            Inside::Open { until } => BreakerState::Open { retry_after: until.saturating_duration_since(now) },
            Inside::Probing => BreakerState::Probing,
        }
    }

    /// Counts a failure. Whether it is now to be found out if Stripe fails altogether: asked again every five failures, as
    /// whoever was to find out may have gone away.
    fn failed(&self, probe: bool) -> bool {
        let mut inside = self.lock();
        match &mut *inside {
            Inside::Closed { failures } => {
                *failures = failures.saturating_add(1);
                failures.is_multiple_of(FAILURES)
            }
            // A straggler that left before the breaker opened must not push the probe further away.
            Inside::Open { .. } => false,
            Inside::Probing => probe,
        }
    }

    fn open(&self, now: Instant) {
        let mut inside = self.lock();
        if !matches!(*inside, Inside::Open { .. }) {
            *inside = Inside::Open { until: now + self.pause };
        }
    }

    /// A living server was seen.
    pub fn alive(&self) {
        *self.lock() = Inside::Closed { failures: 0 };
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inside> {
        // The state is one word, written whole: a panic elsewhere cannot have left it torn.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leave for one attempt.
#[derive(Debug)]
pub(super) struct Pass {
    breaker: Breaker,
    probe: bool,
    settled: bool,
}

impl Pass {
    /// A living server answered, whatever it said.
    pub fn alive(mut self) {
        self.settled = true;
        self.breaker.alive();
    }

    /// No usable answer came. Whether something else is to be asked before anybody else is let out or kept in: then the pass
    /// is settled by what comes of that.
    pub fn failed(&mut self) -> bool {
        let in_doubt = self.breaker.failed(self.probe);
        self.settled = !in_doubt;
        in_doubt
    }

    /// Nothing else was answered either.
    pub fn dead(mut self, now: Instant) {
        self.settled = true;
        self.breaker.open(now);
    }
}

impl Drop for Pass {
    /// A probe whose caller went away has found nothing out: the next to come probes instead.
    fn drop(&mut self) {
        if self.probe && !self.settled {
            let mut inside = self.breaker.lock();
            if matches!(*inside, Inside::Probing) {
                *inside = Inside::Open { until: Instant::now() };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Duration = Duration::from_secs(10);

    /// A failure; where that puts Stripe in doubt, nothing else is answered either.
    fn fail(breaker: &Breaker, now: Instant) {
        let mut pass = breaker.admit(now).unwrap();
        if pass.failed() {
            pass.dead(now);
        }
    }

    fn open(breaker: &Breaker, now: Instant) {
        (0..FAILURES).for_each(|_| fail(breaker, now));
    }

    #[test]
    fn four_failures_and_an_answer_leave_it_closed() {
        let (breaker, now) = (Breaker::new(OPEN), Instant::now());
        for _ in 0..3 {
            for _ in 0..FAILURES - 1 {
                fail(&breaker, now);
            }
            breaker.admit(now).unwrap().alive();
        }
        assert_eq!(breaker.state(now), BreakerState::Closed { failures: 0 });
    }

    #[test]
    fn failures_of_one_object_leave_it_closed_while_something_else_is_answered() {
        let (breaker, now) = (Breaker::new(OPEN), Instant::now());
        for failure in 1..=20 {
            let mut pass = breaker.admit(now).unwrap();
            let in_doubt = pass.failed();
            assert_eq!(in_doubt, failure % FAILURES == 0, "{failure}");
            if in_doubt {
                pass.alive();
            }
        }
        assert_eq!(breaker.state(now), BreakerState::Closed { failures: 0 });
        open(&breaker, now);
        let mut probe = breaker.admit(now + OPEN).unwrap();
        assert!(probe.failed(), "the probe may have been such an object");
        probe.alive();
        assert!(breaker.admit(now + OPEN).is_ok());
    }

    #[test]
    fn five_failures_open_it_and_one_probe_closes_it() {
        let (breaker, now) = (Breaker::new(OPEN), Instant::now());
        open(&breaker, now);
        assert_eq!(breaker.admit(now + Duration::from_secs(3)).unwrap_err(), Duration::from_secs(7));
        let probe = breaker.admit(now + OPEN).unwrap();
        assert!(breaker.admit(now + OPEN).is_err(), "only one probe at a time");
        probe.alive();
        assert!(breaker.admit(now + OPEN).is_ok());
    }

    #[test]
    fn a_failed_probe_opens_it_for_another_ten_seconds() {
        let (breaker, now) = (Breaker::new(OPEN), Instant::now());
        open(&breaker, now);
        let later = now + OPEN;
        fail(&breaker, later);
        assert_eq!(breaker.check(later).unwrap_err(), OPEN);
    }

    #[test]
    fn a_probe_that_was_abandoned_hands_over_to_the_next() {
        let (breaker, now) = (Breaker::new(OPEN), Instant::now());
        open(&breaker, now - OPEN);
        drop(breaker.admit(now).unwrap());
        assert!(breaker.admit(now + Duration::from_secs(1)).is_ok());
    }
}
