//! How long to wait before the next try.

use std::time::Duration;

/// The wait before the attempt after `attempt` (counted from 1): full jitter over a ceiling that doubles from `first` to
/// `longest`, on top of what the server asked for. Without the jitter all who failed together would come back together.
pub fn wait(attempt: u32, first: Duration, longest: Duration, asked: Option<Duration>, random: u64) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    let ceiling = first.saturating_mul(1 << doublings).min(longest);
    let ceiling_ms = u64::try_from(ceiling.as_millis()).unwrap_or(u64::MAX - 1);
    let jitter = Duration::from_millis(random % (ceiling_ms + 1));
    asked.unwrap_or_default() + jitter
}
