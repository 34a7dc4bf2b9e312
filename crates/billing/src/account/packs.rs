//! The packs of an account: credits beside those of the tier, in the order in which they are used.

use super::AccountError;
use super::period::{MOST, pico};
use crate::entry::Pack;
use crate::usage::Credits;

/// A pack, and what became of it. Amounts are in picocredits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) pack: Pack,
    pub(super) left: i128,
    /// What the running period has used of it. Only so much can be given back to it in this period: what an older one
    /// has used was owed to that one.
    pub(super) used: i128,
    /// What the period before has used of it.
    pub(super) used_before: i128,
}

/// All packs, in the order in which they are used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Packs(pub(super) Vec<Kept>);

impl Kept {
    fn used_in(&mut self, before: bool) -> &mut i128 {
        if before { &mut self.used_before } else { &mut self.used }
    }
}

impl Packs {
    /// Adds a pack; the same one again is heard once.
    pub(super) fn grant(&mut self, pack: &Pack) -> Result<(), AccountError> {
        if pack.amount < Credits::ZERO {
            return Err(AccountError::Negative);
        }
        if let Some(kept) = self.0.iter().find(|kept| kept.pack.id == pack.id) {
            let same = kept.pack == *pack;
            return if same { Ok(()) } else { Err(AccountError::PackDiffers(pack.id.clone())) };
        }
        let amount = pico(pack.amount);
        let granted = self.0.iter().fold(amount, |sum, kept| sum.saturating_add(pico(kept.pack.amount)));
        if granted > MOST {
            return Err(AccountError::Overflow);
        }
        let place = self.0.partition_point(|kept| kept.pack.turn() < pack.turn());
        self.0.insert(place, Kept { pack: pack.clone(), left: amount, used: 0, used_before: 0 });
        Ok(())
    }

    /// Takes a pack away. One that is gone already, or was used up in a period long over, is no longer known: then there
    /// is nothing to take.
    pub(super) fn remove(&mut self, id: &str) {
        self.0.retain(|kept| kept.pack.id != id);
    }

    /// What can be used at an instant.
    pub(super) fn left_at(&self, at_ms: i64) -> i128 {
        self.live(at_ms).fold(0, |sum, kept| sum.saturating_add(kept.left))
    }

    /// Those that are worth something at an instant, in order.
    pub(super) fn live(&self, at_ms: i64) -> impl Iterator<Item = &Kept> {
        self.0.iter().filter(move |kept| !kept.pack.is_over(at_ms))
    }

    /// What one of the two periods has used of them.
    pub(super) fn used_in(&self, before: bool) -> i128 {
        let used = |kept: &Kept| if before { kept.used_before } else { kept.used };
        self.0.iter().fold(0, |sum, kept| sum.saturating_add(used(kept)))
    }

    /// Uses so much, for one of the two periods.
    pub(super) fn take(&mut self, amount: i128, at_ms: i64, before: bool) {
        let mut rest = amount;
        for kept in self.0.iter_mut().filter(|kept| !kept.pack.is_over(at_ms)) {
            let part = rest.min(kept.left);
            kept.left = kept.left.saturating_sub(part);
            let used = kept.used_in(before);
            *used = used.saturating_add(part);
            rest = rest.saturating_sub(part);
        }
    }

    /// Gives back so much of what one of the two periods has used, the last one first.
    pub(super) fn give_back(&mut self, amount: i128, before: bool) {
        let mut rest = amount;
        for kept in self.0.iter_mut().rev() {
            let used = kept.used_in(before);
            let part = rest.min(*used);
            *used = used.saturating_sub(part);
            kept.left = kept.left.saturating_add(part);
            rest = rest.saturating_sub(part);
        }
    }

    /// The next period begins. What is used up and cannot come back is forgotten.
    pub(super) fn roll(&mut self) {
        for kept in &mut self.0 {
            kept.used_before = kept.used;
            kept.used = 0;
        }
        self.0.retain(|kept| kept.left > 0 || kept.used_before > 0);
    }

    pub(super) fn expired(&self, now_ms: i64) -> Vec<String> {
        let due = self.0.iter().filter(|kept| kept.left > 0 && kept.pack.is_over(now_ms));
        due.map(|kept| kept.pack.id.clone()).collect()
    }
}
