//! The return of a block from the tier to memory, as far as the limit is concerned.

use std::hash::{BuildHasher, Hash};

use zpool_manager::PoolRef;

use crate::limit::Admission;
use crate::store::Store;

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Returns whether a block may return from the tier to memory: below the limit it may.
    pub(crate) fn has_room_to_readmit(&self, pool: &PoolRef) -> bool {
        let Some(max) = self.limit().bytes() else { return true };
        let verdict = self.admit_by_bound(max, pool, true);
        matches!(verdict, Ok(Some(Admission::Room | Admission::AboveLowWatermark { .. })))
    }

    /// Charges the eviction debt for a block that has returned to memory. A load evicts nothing:
    /// the next store, or the job that writes, evicts for it.
    pub(crate) fn charge_for_readmission(&self, added: usize) {
        if self.evicts_for_debt() {
            self.limit().debt().charge(added as isize);
        }
        if self.limit().take_relief_wanted() {
            self.request_writeback();
        }
    }
}
