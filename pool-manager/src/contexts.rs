//! The contexts of all pools: how many bytes, how many there may be, and freeing those that are idle.

use crate::books::WALKED;
use crate::hub::Cursor;
use crate::manager::PoolManager;
use crate::pool::PoolRef;

impl PoolManager {
    /// Returns the bytes that the contexts of all pools hold together, with what they share: of the
    /// current pool, of retired ones, and of those that await destruction.
    #[inline]
    pub fn context_bytes(&self) -> usize {
        self.hub.counters.contexts.bytes()
    }

    /// Returns how much of [that](Self::context_bytes) compression contexts hold, those that are being
    /// made included.
    #[inline]
    pub fn compression_context_bytes(&self) -> usize {
        self.hub.counters.contexts.compression_bytes()
    }

    /// Bounds the bytes of all compression contexts together; `None` is no bound. A thread that
    /// needs a context beyond it [waits](zpool_core::compress::ContextBudget) for one in use. Each
    /// pool may have one in any case.
    ///
    /// Frees contexts that are over a lower bound: idle ones now, others when they come back. May block.
    pub fn set_max_context_bytes(&self, max: Option<usize>) {
        let budget = &self.hub.counters.contexts;
        budget.set_max_compression_bytes(max);
        if max.is_some_and(|max| budget.compression_bytes() > max) {
            self.for_each_pool(|pool| {
                pool.codec().free_surplus_contexts();
            });
        }
    }

    /// Frees the contexts of all pools that are not in use, and returns how many bytes that were. Of
    /// the current pool, one context of each kind stays if `keep_one`. May block; makes no heap call.
    pub fn free_idle_contexts(&self, keep_one: bool) -> usize {
        let current = self.current();
        let mut freed = 0;
        self.for_each_pool(|pool| {
            let is_current = current.as_ref().is_some_and(|current| PoolRef::same(current, pool));
            freed += pool.codec().free_idle_contexts(keep_one && is_current);
        });
        freed
    }

    /// Calls `visit` with the current pool, the pools retired last, and a few others in rotation,
    /// with no lock held: in a time that does not depend on how many pools there are. Up to 64 pools
    /// are all visited. Makes no heap call.
    pub fn for_some_pools(&self, mut visit: impl FnMut(&PoolRef)) {
        let mut pools = self.hub.pools.lock();
        if pools.len() <= WALKED {
            drop(pools);
            return self.for_each_pool(visit);
        }
        let sample = pools.sample();
        drop(pools);
        if let Some(current) = self.current() {
            visit(&current);
        }
        for (_, listed) in sample.into_iter().flatten() {
            // The rotation may come to the current pool or to one retired last: twice is no harm.
            if let Some(pool) = listed.block.try_ref() {
                visit(&pool);
            }
        }
    }

    /// Calls `visit` with every pool that is alive, oldest first, with no lock held. Makes no heap
    /// call. A pool that is made meanwhile may be left out.
    pub fn for_each_pool(&self, mut visit: impl FnMut(&PoolRef)) {
        let mut cursor = Cursor::default();
        while let Some(pool) = self.hub.next_alive(&mut cursor) {
            visit(pool);
        }
    }
}
