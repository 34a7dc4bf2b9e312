//! When to try again, and after how long.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::super::backoff;
use super::error::StripeError;

/// The first wait is at most this long, the next twice that, and so on.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(8);
/// A longer `Retry-After` is taken for this: nobody plans further ahead on a server's word.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);

/// An attempt that failed, and what the server said about trying again.
#[derive(Debug)]
pub(super) struct Failure {
    pub error: StripeError,
    /// `Stripe-Should-Retry`, where it was sent.
    pub should_retry: Option<bool>,
}

impl From<StripeError> for Failure {
    fn from(error: StripeError) -> Failure {
        Failure { error, should_retry: None }
    }
}

impl Failure {
    /// Is another attempt of the same call worth it?
    pub fn again(&self) -> bool {
        match (&self.error, self.should_retry) {
            // A revoked key does not come back by itself, whatever a header says (F-34); of the others the caller decides.
            (
                StripeError::Auth { .. }
                | StripeError::ListInconsistent { .. }
                | StripeError::BreakerOpen { .. }
                | StripeError::Busy { .. },
                _,
            ) => false,
            (_, Some(should_retry)) => should_retry,
            (error, None) => error.retryable(),
        }
    }
}

/// The wait before the attempt after `attempt` (counted from 1).
pub(super) fn wait(attempt: u32, retry_after: Option<Duration>, random: u64) -> Duration {
    backoff::wait(attempt, FIRST, LONGEST, retry_after, random)
}

/// `Retry-After` in seconds. The other form of the header, a date, is not Stripe's and is ignored.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// `Stripe-Should-Retry`.
pub(super) fn should_retry(headers: &HeaderMap) -> Option<bool> {
    match headers.get("stripe-should-retry")?.as_bytes() {
        b"true" => Some(true),
        b"false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_ceiling_and_jitter_fills_the_whole_range() {
        for (attempt, ceiling) in [(1, 500), (2, 1000), (3, 2000), (5, 8000), (40, 8000)] {
            let waited = |random| wait(attempt, None, random).as_millis();
            assert_eq!([waited(0), waited(ceiling), waited(ceiling + 1)], [0, u128::from(ceiling), 0]);
        }
    }

    #[test]
    fn f27_retry_after_is_the_floor_of_the_wait() {
        assert_eq!(wait(1, Some(Duration::from_secs(3)), 200), Duration::from_millis(3200));
    }

    #[test]
    fn headers() {
        for (text, seconds) in
            [("7", Some(7)), (" 0 ", Some(0)), ("99999999999", Some(86400)), ("-1", None), ("soon", None)]
        {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(retry_after(&headers), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
