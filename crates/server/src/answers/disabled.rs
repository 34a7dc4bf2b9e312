//! Who is a user, and whether they are disabled, as far as it was asked: kept until somebody changes them, here or in another process.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use foldhash::quality::RandomState;

/// How many users are kept; beyond it the map is emptied and fills anew.
const KEPT_MAX: usize = 500_000;

/// The users that are known.
#[derive(Debug, Default)]
pub struct Disabled(RwLock<Kept>);

#[derive(Debug, Default)]
struct Kept {
    known: HashMap<String, bool, RandomState>,
    /// Moves when users are dropped: what was read before is not kept after.
    epoch: u64,
}

impl Disabled {
    /// Whether a user is disabled; where nobody knows of them, where time stands, to be taken before it is read.
    pub fn get(&self, user: &str) -> Result<bool, u64> {
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
        kept.known.get(user).copied().ok_or(kept.epoch)
    }

    /// Keeps what was read of a user, unless users were dropped since `epoch`.
    pub fn keep(&self, epoch: u64, user: &str, disabled: bool) {
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if kept.epoch != epoch {
            return;
        }
        if kept.known.len() >= KEPT_MAX {
            kept.known.clear();
        }
        kept.known.insert(user.to_owned(), disabled);
    }

    pub(super) fn forget(&self, user: &str) {
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        kept.epoch += 1;
        kept.known.remove(user);
    }

    pub(super) fn drop_all(&self) {
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        kept.epoch += 1;
        kept.known.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it() {
        let changes: [fn(&Disabled); 2] = [|users| users.forget("u"), Disabled::drop_all];
        for change in changes {
            let users = Disabled::default();
            let before = users.get("u").expect_err("nobody is known");
            users.keep(before, "u", false);
            users.keep(before, "v", true);
            assert_eq!((users.get("u"), users.get("v")), (Ok(false), Ok(true)));
            change(&users);
            let after = users.get("u").expect_err("dropped");
            users.keep(before, "u", false);
            assert_eq!(users.get("u"), Err(after));
            users.keep(after, "u", true);
            assert_eq!(users.get("u"), Ok(true));
        }
    }
}
