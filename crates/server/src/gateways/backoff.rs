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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Chance;

    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_mins(1);

    /// The waits of a thousand who have failed as often as this.
    fn waits(attempt: u32, asked: Option<Duration>) -> Vec<Duration> {
        let chance = Chance::seeded(44);
        let random = || u64::from_le_bytes(chance.bytes().unwrap());
        (0..1_000).map(|_| wait(attempt, FIRST, LONGEST, asked, random())).collect()
    }

    #[test]
    fn f44_the_ceiling_doubles_up_to_the_longest_and_no_further() {
        for (attempt, ceiling_ms) in [
            (0, 1_000),
            (1, 1_000),
            (2, 2_000),
            (3, 4_000),
            (6, 32_000),
            (7, 60_000),
            (8, 60_000),
            (18, 60_000),
            (u32::MAX, 60_000),
        ] {
            let of = |random| wait(attempt, FIRST, LONGEST, None, random).as_millis();
            let edges = [of(0), of(1), of(ceiling_ms), of(ceiling_ms + 1), of(2 * ceiling_ms + 1)];
            let ceiling = u128::from(ceiling_ms);
            assert_eq!(edges, [0, 1, ceiling, 0, ceiling], "attempt {attempt}");
        }
    }

    #[test]
    fn f44_those_who_failed_together_come_back_all_over_the_wait() {
        for (attempt, ceiling) in [(1, FIRST), (4, 8 * FIRST), (40, LONGEST)] {
            let waits = waits(attempt, None);
            assert!(waits.iter().all(|wait| *wait <= ceiling), "attempt {attempt}");
            for tenth in 0..10 {
                let part = ceiling * tenth / 10..ceiling * (tenth + 1) / 10;
                let inside = waits.iter().filter(|wait| part.contains(wait)).count();
                assert!((60..=140).contains(&inside), "attempt {attempt}: {inside} of a thousand in {part:?}");
            }
        }
    }

    #[test]
    fn f44_nobody_comes_back_before_the_server_asked_them_to() {
        let asked = Duration::from_mins(2);
        let waits = waits(3, Some(asked));
        assert!(waits.iter().all(|wait| (asked..=asked + 4 * FIRST).contains(wait)));
        assert!(waits.iter().max() > Some(&(asked + 3 * FIRST)), "there is jitter on top of it");
    }

    #[test]
    fn a_wait_that_cannot_be_counted_is_no_panic() {
        assert_eq!(wait(u32::MAX, Duration::MAX, Duration::MAX, None, 7), Duration::from_millis(7));
        assert_eq!(wait(1, Duration::ZERO, Duration::ZERO, None, 7), Duration::ZERO);
    }
}
