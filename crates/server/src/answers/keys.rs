//! Service keys that were found good, kept until one is revoked, here or by another process.
//!
//! With a time of their own: accounts change with every event, keys hardly ever.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::{KEPT_MAX, TokenHash};
use crate::store::keys::ServiceKey;

/// The kept keys, by the hash of their text.
#[derive(Debug, Default)]
pub struct Keys {
    kept: RwLock<HashMap<TokenHash, Arc<ServiceKey>>>,
    /// Moves when keys are dropped: what was read before is not kept after.
    epoch: AtomicU64,
}

impl Keys {
    /// Where time stands; taken before a read whose result is to be kept.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub fn get(&self, hash: &TokenHash) -> Option<Arc<ServiceKey>> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner).get(hash).cloned()
    }

    /// Keeps a key, unless keys were dropped since `epoch`.
    pub fn keep(&self, epoch: u64, hash: TokenHash, key: &Arc<ServiceKey>) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        if self.epoch() != epoch {
            return;
        }
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(hash, Arc::clone(key));
    }

    pub(super) fn drop_all(&self) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        self.epoch.fetch_add(1, Ordering::AcqRel);
        kept.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_a_revocation_is_not_kept_after_it() {
        let keys = Keys::default();
        let key = Arc::new(ServiceKey::default());
        let epoch = keys.epoch();
        keys.keep(epoch, [1; 32], &key);
        assert!(keys.get(&[1; 32]).is_some());
        keys.drop_all();
        assert!(keys.get(&[1; 32]).is_none());
        keys.keep(epoch, [1; 32], &key);
        assert!(keys.get(&[1; 32]).is_none());
    }
}
