//! What all pools hold, in a time that does not depend on how many there are.

use zpool_core::internal::contained;
use zpool_core::internal::sync::atomic::Ordering;

use crate::hub::Hub;
use crate::pool::{Pool, PoolRef};
use crate::walk::Cursor;

/// Lists with more pools than this are not walked where a store waits.
pub(crate) const WALKED: usize = 64;
/// How many bounded looks a walk over all pools is worth: one for each so many pools.
const POOLS_A_LOOK: usize = 8;

impl Hub {
    /// Bytes that the allocators of all pools hold but that of `besides`, those included that await
    /// destruction. Asks every pool. Makes no heap call.
    pub(crate) fn allocator_bytes(&self, besides: Option<&PoolRef>) -> usize {
        // Relaxed, here and below: statistics only.
        let mut pending = self.counters.pending_bytes.load(Ordering::Relaxed);
        // A pool that comes to await destruction during the walk may be counted twice: then once
        // more. Three walks at most; after that it may be too much, for this caller.
        for last in [false, false, true] {
            let (mut sum, mut cursor) = (0, Cursor::default());
            while let Some(pool) = self.next_alive(&mut cursor) {
                if besides.is_some_and(|besides| PoolRef::same(besides, pool)) {
                    continue;
                }
                sum += self.ask(pool);
            }
            let now = self.counters.pending_bytes.load(Ordering::Relaxed);
            if now <= pending || last {
                return sum + now;
            }
            pending = now;
        }
        unreachable!("the last walk returns")
    }

    /// What the allocator of a pool holds, which is booked. One that panics holds what it said
    /// last.
    fn ask(&self, pool: &PoolRef) -> usize {
        match contained(|| pool.zpool().bytes_held()) {
            Some(bytes) => {
                self.book(pool, bytes);
                bytes
            }
            None => {
                let place = pool.place().get().copied();
                place.map_or(0, |place| self.pools.lock().booked(place))
            }
        }
    }

    /// Sums the same bytes in a time that does not depend on how many pools there are: of many
    /// pools, most figures are from an earlier look, and since retired pools shrink, the sum is at
    /// least what they hold. Every so often all are asked, so that a few calls later it is exact.
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
        let current =
            current.map_or(0, |pool| contained(|| pool.zpool().bytes_held()).unwrap_or(0));
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
