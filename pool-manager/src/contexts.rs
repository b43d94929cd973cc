//! The contexts of all pools: how many bytes, how many there may be, and freeing those that are
//! idle.

use crate::manager::PoolManager;
use crate::pool::PoolRef;

impl PoolManager {
    /// Returns the bytes that the contexts of all pools hold together, with what they share: of the
    /// current pool, of retired ones, and of those that await destruction.
    #[inline]
    pub fn context_bytes(&self) -> usize {
        self.hub.counters.contexts.bytes()
    }

    /// Returns how much of [that](Self::context_bytes) compression contexts hold, those that are
    /// being made included.
    #[inline]
    pub fn compression_context_bytes(&self) -> usize {
        self.hub.counters.contexts.compression_bytes()
    }

    /// Bounds the bytes of all compression contexts together; `None` is no bound. A thread that
    /// needs a context beyond it [waits](zpool_core::compress::ContextBudget) for one in use. Each
    /// pool may have one in any case.
    ///
    /// Frees contexts that are over a lower bound: idle ones now, others when they come back. May
    /// block.
    pub fn set_max_context_bytes(&self, max: Option<usize>) {
        let budget = &self.hub.counters.contexts;
        budget.set_max_compression_bytes(max);
        if max.is_some_and(|max| budget.compression_bytes() > max) {
            self.for_each_pool(|pool| {
                pool.codec().free_surplus_contexts();
            });
        }
    }

    /// Frees the contexts of all pools that are not in use, and returns how many bytes that were.
    /// One context of each kind of the current pool stays if `keep_one`. May block; makes no heap
    /// call.
    pub fn free_idle_contexts(&self, keep_one: bool) -> usize {
        let current = self.current();
        let mut freed = 0;
        self.for_each_pool(|pool| {
            let is_current = current.as_ref().is_some_and(|current| PoolRef::same(current, pool));
            freed += pool.codec().free_idle_contexts(keep_one && is_current);
        });
        freed
    }
}
