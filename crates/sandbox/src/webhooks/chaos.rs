//! A bad network between Stripe and a webhook endpoint, the same in every run with the same seed.

use crate::world::mix;
use serde::{Deserialize, Serialize};

/// What happens to webhooks on their way. Nothing by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Chaos {
    /// So many of a thousand are sent twice.
    pub duplicate: u32,
    /// So many of a thousand are lost for good, while Stripe believes that they arrived.
    pub drop: u32,
    /// Each message is held back for up to so many seconds of the sandbox's clock, and so comes out of order.
    pub shuffle: u32,
    /// Where chance begins.
    pub seed: u64,
}

/// The chaos with the state of its chance.
#[derive(Debug, Default)]
pub(crate) struct Chance {
    pub(crate) chaos: Chaos,
    state: u64,
}

impl Chance {
    pub(crate) fn new(chaos: Chaos) -> Chance {
        Chance { chaos, state: chaos.seed }
    }

    pub(crate) fn loses(&mut self) -> bool {
        self.hits(self.chaos.drop)
    }

    pub(crate) fn repeats(&mut self) -> bool {
        self.hits(self.chaos.duplicate)
    }

    fn hits(&mut self, of_a_thousand: u32) -> bool {
        of_a_thousand > 0 && mix(&mut self.state) % 1000 < u64::from(of_a_thousand)
    }

    /// Seconds that the next message is held back.
    pub(crate) fn delay(&mut self) -> i64 {
        if self.chaos.shuffle == 0 {
            return 0;
        }
        i64::try_from(mix(&mut self.state) % (u64::from(self.chaos.shuffle) + 1)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_as_likely_as_it_says_and_repeats_itself() {
        let draw = |seed| {
            let mut chance = Chance::new(Chaos { duplicate: 200, drop: 0, shuffle: 30, seed });
            let repeats = (0..1_000).filter(|_| chance.repeats()).count();
            assert!((150..250).contains(&repeats) && (0..1_000).all(|_| (0..=30).contains(&chance.delay())));
            assert!((0..1_000).all(|_| !chance.loses()));
            (repeats, chance.delay())
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
