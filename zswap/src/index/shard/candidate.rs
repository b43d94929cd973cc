//! The end of an entry's time as a candidate for eviction.

use super::{Item, Shard};
use crate::index::packed_entry::EntryState;
use crate::index::table::BucketId;
use crate::value::ValueId;

/// Fate of a candidate. Drop it after the lock is released.
#[derive(Debug)]
pub(crate) enum CandidateFate<K> {
    /// It is taken out.
    Evicted(Item<K>),
    /// It stays, and is warm.
    Kept,
    /// Its key has another value by now, or this value in another pool.
    Changed,
    /// Its key is gone.
    Gone,
}

impl<K> Shard<K> {
    /// Warms the entry at bucket `at` as far as it can be.
    pub(crate) fn keep_warm(&mut self, at: BucketId) {
        if let Some((_, entry)) = self.table.get_mut(at) {
            entry.state_mut().set_heat(EntryState::MAX_HEAT);
        }
    }
}

impl<K: Eq> Shard<K> {
    /// Takes the value that `seen` names, which the caller has pinned under `key`, out of the
    /// index, or warms it if it is not evicted. Leaves any other value alone.
    pub(crate) fn settle_candidate(
        &mut self,
        hash: u64,
        key: &K,
        seen: ValueId,
        evicts: bool,
    ) -> CandidateFate<K> {
        let Some(at) = self.bucket_of_seen(hash, key, seen) else {
            let is_gone = self.bucket_of(hash, key).is_none();
            return if is_gone { CandidateFate::Gone } else { CandidateFate::Changed };
        };
        if !evicts {
            self.keep_warm(at);
            return CandidateFate::Kept;
        }
        match self.remove_at(at) {
            Some(item) => {
                self.stats.evicted += 1;
                CandidateFate::Evicted(item)
            }
            None => CandidateFate::Gone,
        }
    }
}
