//! Walks over the pools: all at one moment, one after the other, or a bounded number of them.

use std::sync::Arc;

use crate::books::WALKED;
use crate::hub::Hub;
use crate::manager::PoolManager;
use crate::pool::PoolRef;
use crate::pool_list::Listed;

/// A pool in a snapshot.
pub(crate) struct Seen {
    pub(crate) listed: Listed,
    /// `None` when its last reference has gone.
    pub(crate) pool: Option<PoolRef>,
    pub(crate) is_current: bool,
    /// What was last known of the bytes of a retired one's allocator.
    pub(crate) booked: usize,
}

/// Where a walk over the pools is: at one that it holds.
#[derive(Default)]
pub(crate) struct Cursor {
    next_slot: usize,
    pool: Option<PoolRef>,
}

impl Hub {
    /// The next pool that is alive behind the one that `cursor` has, which is dropped: with no lock
    /// held, since that may release it. For walks that make no heap call.
    pub(crate) fn next_alive<'c>(&self, cursor: &'c mut Cursor) -> Option<&'c PoolRef> {
        let alive = |(slot, listed): (usize, &Listed)| Some((slot, listed.block.try_ref()?));
        let next = self.pools.lock().iter_from(cursor.next_slot).find_map(alive);
        let before = match next {
            Some((slot, pool)) => {
                cursor.next_slot = slot + 1;
                cursor.pool.replace(pool)
            }
            None => cursor.pool.take(),
        };
        drop(before);
        cursor.pool.as_ref()
    }

    /// All pools at one moment (B49), oldest first. To be dropped where the last reference of a
    /// pool may be: it may hold that. Takes as long as there are pools.
    pub(crate) fn snapshot(&self) -> Vec<Seen> {
        self.warm();
        let mut seen = Vec::new();
        loop {
            let pools = self.pools.lock();
            if pools.len() > seen.capacity() {
                let room = pools.len();
                drop(pools);
                seen.reserve(room);
                continue;
            }
            let current = self.current.block();
            let is_current =
                |block| current.as_ref().is_some_and(|current| Arc::ptr_eq(current, block));
            seen.extend(pools.iter().map(|(_, listed, booked)| Seen {
                listed: listed.clone(),
                // Under the lock: what is current keeps its identity reference until another one
                // is, and that takes the lock.
                pool: listed.block.try_ref(),
                is_current: is_current(&listed.block),
                booked,
            }));
            drop(pools);
            seen.sort_by_key(|seen| seen.listed.place.get().map(|place| place.number));
            return seen;
        }
    }
}

impl PoolManager {
    /// Calls `visit` with the current pool, the pools retired last, and a few others in rotation,
    /// with no lock held: in a time that does not depend on how many pools there are. Up to 64
    /// pools are all visited. Makes no heap call.
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

    /// Calls `visit` with every pool that is alive, in no order, with no lock held. Makes no heap
    /// call. A pool that is made meanwhile may be left out.
    pub fn for_each_pool(&self, mut visit: impl FnMut(&PoolRef)) {
        let mut cursor = Cursor::default();
        while let Some(pool) = self.hub.next_alive(&mut cursor) {
            visit(pool);
        }
    }
}
