//! Bytes that pools hold: those of their allocators, and those of their compression contexts.
//!
//! Stores compare these figures with a limit, so the figures that they read often take a time that
//! does not depend on the number of pools.

use zpool_core::internal::catch;

use crate::manager::PoolManager;
use crate::pools::pool::{Pool, PoolRef};
use crate::pools::pool_list::WalkCursor;
use crate::shared::Shared;

impl PoolManager {
    /// Returns the bytes that all pools hold together, allocators and contexts, including retired
    /// pools and those that await destruction.
    ///
    /// Exact: asks every pool. If an allocator panics, its previous answer counts.
    pub fn bytes_held(&self) -> usize {
        self.shared.allocator_bytes(None) + self.context_bytes()
    }

    /// Returns the bytes that the allocators of all pools except `pool` hold together, or slightly
    /// more.
    ///
    /// Until the next [switch](Self::switches) the other pools only shrink, except for the [cold
    /// pool](Self::cold). So a caller that tracks `pool` and the cold pool may keep the figure.
    /// Their [contexts](Self::context_bytes) may grow while blocks are loaded from them.
    ///
    /// - Up to 64 pools: exact.
    /// - More pools: the call normally takes no longer than with 64. It asks the pools retired last
    ///   and a few others, and adds the latest known bytes of the rest, which are an upper bound.
    ///   One call in `pools / 8` asks all pools: it takes longer, and is exact.
    pub fn allocator_bytes_except(&self, pool: &PoolRef) -> usize {
        self.shared.allocator_bytes_bound(pool)
    }

    /// Returns the bytes of the allocators of pools that await destruction.
    #[inline]
    pub fn pending_bytes(&self) -> usize {
        self.shared.gate.pending_bytes()
    }

    /// Returns the bytes that the contexts of all pools hold together, with what they share,
    /// including retired pools and those that await destruction.
    #[inline]
    pub fn context_bytes(&self) -> usize {
        self.shared.contexts.bytes()
    }

    /// Returns the part of [`context_bytes`](Self::context_bytes) that compression contexts hold,
    /// including those that are being made.
    #[inline]
    pub fn compression_context_bytes(&self) -> usize {
        self.shared.contexts.compression_bytes()
    }

    /// Bounds the bytes of all compression contexts together; `None` removes the bound.
    ///
    /// A thread that needs a context beyond the bound [waits](zpool_core::compress::ContextBudget)
    /// for one in use. Each pool may always have one.
    ///
    /// If the bound is lowered, frees surplus contexts: idle ones now, the others when they are
    /// returned. May block.
    pub fn set_max_context_bytes(&self, max: Option<usize>) {
        let budget = &self.shared.contexts;
        budget.set_max_compression_bytes(max);
        if max.is_some_and(|max| budget.compression_bytes() > max) {
            self.for_each_pool(|pool| {
                pool.codec().free_surplus_contexts();
            });
        }
    }

    /// Frees the idle contexts of all pools and returns their bytes. With `keep_one`, one context
    /// of each kind of the current pool stays.
    ///
    /// May block. Allocates nothing.
    pub fn free_idle_contexts(&self, keep_one: bool) -> usize {
        let current = self.current();
        let mut freed = 0;
        self.for_each_pool(|pool| {
            let is_current = current.as_ref().is_some_and(|current| PoolRef::same(current, pool));
            freed += pool.codec().free_idle_contexts(keep_one && is_current);
        });
        freed
    }

    /// Calls `visit` with the current pool, the cold pool, the pools retired last, and a few others
    /// in rotation. Visits all of up to 64 pools.
    ///
    /// Takes a time that does not depend on the number of pools. Holds no lock during a visit, and
    /// makes no heap call.
    pub fn for_some_pools(&self, mut visit: impl FnMut(&PoolRef)) {
        let Some(sample) = self.shared.pools.sample_if_many() else {
            return self.for_each_pool(visit);
        };
        for pool in [self.current(), self.cold()].into_iter().flatten() {
            visit(&pool);
        }
        for (_, listed) in sample.into_iter().flatten() {
            // The rotation may repeat the current pool or one retired last, which does no harm.
            if let Some(pool) = listed.block.try_ref() {
                visit(&PoolRef(pool));
            }
        }
    }

    /// Calls `visit` with every live pool, in no particular order.
    ///
    /// Holds no lock during a visit, and makes no heap call. A pool that is made meanwhile may be
    /// left out.
    pub fn for_each_pool(&self, mut visit: impl FnMut(&PoolRef)) {
        let mut cursor = WalkCursor::default();
        while let Some(pool) = self.shared.pools.next_alive(&mut cursor) {
            visit(pool);
        }
    }
}

impl Shared {
    /// Returns the bytes that the allocators of all pools except `except` hold, including pools
    /// that await destruction. Asks every pool. Makes no heap call.
    fn allocator_bytes(&self, except: Option<&PoolRef>) -> usize {
        let mut pending = self.gate.pending_bytes();
        // A pool whose last reference is dropped during the walk may be counted twice. So the walk
        // is repeated if the pending bytes have grown, at most twice; the third result may be high.
        for last in [false, false, true] {
            let (mut sum, mut cursor) = (0, WalkCursor::default());
            while let Some(pool) = self.pools.next_alive(&mut cursor) {
                if except.is_some_and(|except| PoolRef::same(except, pool)) {
                    continue;
                }
                sum += self.ask(pool);
            }
            let now = self.gate.pending_bytes();
            if now <= pending || last {
                return sum + now;
            }
            pending = now;
        }
        unreachable!("the last walk returns")
    }

    /// Asks a pool's allocator for its bytes and records them. If it panics, returns the bytes
    /// last recorded.
    fn ask(&self, pool: &PoolRef) -> usize {
        match catch(|| pool.zpool().bytes_held()) {
            Some(bytes) => {
                self.pools.record_bytes(pool, bytes);
                bytes
            }
            None => self.pools.recorded_bytes(pool),
        }
    }

    /// Returns an upper bound of the bytes that the allocators of all pools except `except` hold.
    /// See [`PoolManager::allocator_bytes_except`].
    fn allocator_bytes_bound(&self, except: &PoolRef) -> usize {
        let Some(sample) = self.pools.sample_for_estimate() else {
            return self.allocator_bytes(Some(except));
        };
        for (_, listed) in sample.into_iter().flatten() {
            if let Some(pool) = listed.block.try_ref().map(PoolRef)
                && let Some(bytes) = catch(|| pool.zpool().bytes_held())
            {
                self.pools.record_bytes(&pool, bytes);
            }
        }
        if let Some(cold) = self.pools.cold() {
            // The cold pool grows as the current one does, so its last figure is not a bound.
            self.ask(&cold);
        }
        let current = self.pools.current().filter(|current| !PoolRef::same(current, except));
        let current = current.map_or(0, |pool| catch(|| pool.zpool().bytes_held()).unwrap_or(0));
        // Retired and pending bytes under one lock: a pool moves from one to the other under it.
        current + self.pools.recorded_bytes_except(except, || self.gate.pending_bytes())
    }

    /// Moves what a pool's allocator holds from the recorded bytes of retired pools to those of
    /// pools that await destruction, and returns it.
    pub(crate) fn charge_pending(&self, pool: &Pool) -> usize {
        // Foreign code, called on the release path.
        let bytes = catch(|| pool.zpool().bytes_held()).unwrap_or(0);
        self.pools.exclude(pool, || self.gate.add_pending_bytes(bytes));
        bytes
    }
}
