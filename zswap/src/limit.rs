//! The limit: what the store may hold, in bytes as the operating system counts them, and the hysteresis around it.
//!
//! What is held is the sum over all pools (retired ones and those that await destruction included), the contexts of their compressors, and the index. Walking
//! the pools takes a lock and a heap call, so a store asks only the current pool, and for all others uses what they held at the last switch: they are retired
//! and their allocators only shrink, so that is an upper bound; contexts, which loads may add to any of them, are counted in one place. Only where the bound
//! says no, the pools are walked and the exact figure decides; and where the block is going to another pool than the one that is current by now, since a batch
//! that began before the switch may add any number of them to a retired pool.
//!
//! What is being stored while the limit is checked is not counted, so the limit is overshot by at most what the stores in flight add.

use zpool_core::sync::Mutex;
use zpool_core::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, AtomicUsize, Ordering};
use zpool_manager::{PoolManager, PoolRef};

/// No count of switches: nothing is known yet.
const NEVER: u64 = u64::MAX;

/// No limit.
const NONE: usize = usize::MAX;

/// A limit, and whether it was reached.
#[derive(Debug)]
pub(crate) struct Limit {
    /// At this many bytes the store is full.
    max: AtomicUsize,
    /// Once full, it stays so until it holds no more than this part of it.
    accept_percent: u8,
    full: AtomicBool,
    /// Bytes by which what is stored has grown since it became full, less what was evicted for that: below 0 where more was removed or evicted than was stored.
    owed: AtomicIsize,
    /// What all pools but the current one held at most...
    others: AtomicUsize,
    /// ...which is the one of this number...
    besides: AtomicU64,
    /// ...as long as the manager has made this many switches.
    as_of: AtomicU64,
    /// Held while those three are written.
    refresh: Mutex<()>,
}

/// What the limit says to one more block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There is room.
    Room,
    /// Below the limit, but it was reached and the threshold is not yet.
    Pressed { held: usize },
    /// At the limit.
    Full { held: usize },
}

impl Limit {
    /// A limit of `max` bytes, or none; once full, the store takes blocks again at `accept_percent` of it.
    pub(crate) fn new(max: Option<usize>, accept_percent: u8) -> Limit {
        Limit {
            max: AtomicUsize::new(max.unwrap_or(NONE)),
            accept_percent,
            full: AtomicBool::new(false),
            owed: AtomicIsize::new(0),
            others: AtomicUsize::new(0),
            besides: AtomicU64::new(0),
            as_of: AtomicU64::new(NEVER),
            refresh: Mutex::new(()),
        }
    }

    /// The limit, if there is one.
    #[inline]
    pub(crate) fn bytes(&self) -> Option<usize> {
        // Relaxed: whoever is late to see a new limit goes by the old one once more.
        let max = self.max.load(Ordering::Relaxed);
        (max != NONE).then_some(max)
    }

    /// Sets another limit, or none.
    pub(crate) fn set(&self, max: Option<usize>) {
        // Relaxed: as above.
        self.max.store(max.unwrap_or(NONE), Ordering::Relaxed);
        self.full.store(false, Ordering::Relaxed);
        self.forgive();
    }

    /// Was the limit reached, and the threshold not yet?
    #[inline]
    pub(crate) fn is_pressed(&self) -> bool {
        // Relaxed: whoever is late to see the flag goes by the other threshold once more.
        self.full.load(Ordering::Relaxed)
    }

    /// May a block be stored in `pool`? Only where there [is](Self::bytes) a limit, `max`.
    ///
    /// `pays`: a store under pressure makes room for its own, so that an upper bound below the limit is all it has to know.
    #[inline]
    pub(crate) fn ask(
        &self,
        max: usize,
        pool: &PoolRef,
        manager: &PoolManager,
        index_bytes: usize,
        pays: bool,
    ) -> Verdict {
        let full = self.is_pressed();
        let below = if full { self.accept_below(max) } else { max };
        // Acquire: pairs with the Release in `walk`: the bound is that of the count.
        if self.as_of.load(Ordering::Acquire) == manager.switches()
            && self.besides.load(Ordering::Relaxed) == pool.id().get()
        {
            let others = self.others.load(Ordering::Relaxed);
            let held = pool.zpool().bytes_held() + others + manager.context_bytes() + index_bytes;
            if held < below {
                self.set_full(full, false);
                return Verdict::Room;
            }
            if pays && held < max {
                return Verdict::Pressed { held };
            }
        }
        let held = self.walk(manager) + index_bytes;
        self.set_full(full, held >= below);
        if held < below {
            Verdict::Room
        } else if held < max {
            Verdict::Pressed { held }
        } else {
            Verdict::Full { held }
        }
    }

    /// What is stored has grown by so many bytes, or less than none. Gives how much is to be evicted for that and what came before.
    pub(crate) fn owe(&self, bytes: isize) -> isize {
        // Relaxed: an account. Two who pay the same debt evict too much once, and that counts.
        self.owed.fetch_add(bytes, Ordering::Relaxed).wrapping_add(bytes)
    }

    /// There is nothing left to pay with.
    pub(crate) fn forgive(&self) {
        // Relaxed: as above.
        self.owed.store(0, Ordering::Relaxed);
    }

    /// Once full, the store takes blocks again below this many bytes.
    fn accept_below(&self, max: usize) -> usize {
        let threshold = max as u128 * u128::from(self.accept_percent) / 100;
        usize::try_from(threshold).unwrap_or(max).saturating_add(1).min(max)
    }

    #[inline]
    pub(crate) fn set_full(&self, was: bool, is: bool) {
        if was != is {
            self.forgive();
            self.full.store(is, Ordering::Relaxed);
        }
    }

    /// What all pools hold now; and remembers the part of those that are not current.
    #[cold]
    fn walk(&self, manager: &PoolManager) -> usize {
        let before = manager.switches();
        let Some(current) = manager.current() else { return manager.bytes_held() };
        let others = manager.allocator_bytes_besides(&current);
        let refresh = self.refresh.lock();
        // Unchanged: so `current` was current all the time, or is the successor that a switch has published and not counted yet. What is
        // written in that moment ends with the count.
        if manager.switches() == before {
            // A reader between the stores uses the new bound with the old count, once.
            self.others.store(others, Ordering::Relaxed);
            self.besides.store(current.id().get(), Ordering::Relaxed);
            // Release: pairs with the Acquire in `ask`.
            self.as_of.store(before, Ordering::Release);
        }
        drop(refresh);
        current.zpool().bytes_held() + others + manager.context_bytes()
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_is_summed_up_until_the_store_is_full_or_below_the_threshold_anew() {
        let limit = Limit::new(Some(1 << 20), 90);
        assert_eq!((limit.owe(4000), limit.owe(-4096), limit.owe(100)), (4000, -96, 4));
        limit.set_full(false, false);
        assert_eq!(limit.owe(0), 4);
        limit.set_full(false, true);
        assert_eq!((limit.owe(7), limit.is_pressed()), (7, true));
        limit.set_full(true, false);
        assert_eq!((limit.owe(5), limit.is_pressed()), (5, false));
        limit.set(Some(2 << 20));
        assert_eq!(limit.owe(-1), -1);
    }
}
