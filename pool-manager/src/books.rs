//! What all pools hold, in a time that does not depend on how many there are.

use zpool_core::exec::contained;
use zpool_core::sync::atomic::Ordering;

use crate::hub::Hub;
use crate::pool::{Pool, PoolRef};

/// Lists with more pools than this are not walked where a store waits.
const WALKED: usize = 64;
/// How many bounded looks a walk over all pools is worth: one for each so many pools.
const POOLS_A_LOOK: usize = 8;

impl Hub {
    /// Bytes that the allocators of all pools hold but that of `besides`, those included that await
    /// destruction. Asks every pool.
    pub(crate) fn allocator_bytes(&self, besides: Option<&PoolRef>) -> usize {
        let mut sum = 0;
        for seen in self.snapshot() {
            let Some(pool) = &seen.pool else { continue };
            if besides.is_some_and(|besides| PoolRef::same(besides, pool)) {
                continue;
            }
            // An allocator that panics holds what it said last.
            let bytes = contained(|| pool.zpool().bytes_held()).unwrap_or(seen.booked);
            sum += bytes;
            self.book(pool, bytes);
        }
        // After the walk: none of those in it comes to await destruction before it ends. Relaxed:
        // statistics only.
        sum + self.counters.pending_bytes.load(Ordering::Relaxed)
    }

    /// The same, in a time that does not depend on how many pools there are: where they are many,
    /// most figures are from an earlier look, and since retired pools shrink, the sum is at least
    /// what they hold. Every so often all are asked, so that a few calls later it is exact.
    pub(crate) fn allocator_bytes_soon(&self, besides: &PoolRef) -> usize {
        let mut pools = self.pools.lock();
        let alive = pools.len();
        // Relaxed: a thread that loses the race asks all pools once more than needed.
        let looks = self.looks.fetch_add(1, Ordering::Relaxed);
        if alive <= WALKED || looks >= alive / POOLS_A_LOOK {
            drop(pools);
            self.looks.store(0, Ordering::Relaxed);
            return self.allocator_bytes(Some(besides));
        }
        let sample = pools.sample();
        drop(pools);
        for (_, listed) in sample.into_iter().flatten() {
            if let Some(pool) = listed.block.try_ref()
                && let Some(bytes) = contained(|| pool.zpool().bytes_held())
            {
                self.book(&pool, bytes);
            }
        }
        let current = self.current.get().filter(|current| !PoolRef::same(current, besides));
        let current = current.map_or(0, |pool| contained(|| pool.zpool().bytes_held()).unwrap_or(0));
        let mut pools = self.pools.lock();
        let retired = pools.booked_besides(besides.place().get().copied());
        // Under the lock: a pool goes from one to the other under it. Relaxed: statistics only.
        current + retired + self.counters.pending_bytes.load(Ordering::Relaxed)
    }

    /// Enters what the allocator of a pool holds, if the pool is retired.
    pub(crate) fn book(&self, pool: &Pool, bytes: usize) {
        let Some(&place) = pool.place().get() else { return };
        self.pools.lock().book(place, bytes);
    }

    /// Puts what the allocator of a pool holds, which is out of reach from now on, on the books
    /// until it is destroyed. Returns how much that is.
    pub(crate) fn owe(&self, pool: &Pool) -> usize {
        // Foreign code, on the release path.
        let bytes = contained(|| pool.zpool().bytes_held()).unwrap_or(0);
        let mut pools = self.pools.lock();
        if let Some(&place) = pool.place().get() {
            pools.strike(place);
        }
        // Relaxed: statistics only.
        self.counters.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
        bytes
    }
}
