//! The limit: what the store may hold, in bytes as the operating system counts them, and the hysteresis around it.
//!
//! What is held is the sum over all pools (retired ones and those that await destruction included), the contexts of their compressors, and the index. Walking
//! the pools takes a lock and a heap call, so a store asks only the current pool, and for all others uses what they held at the last switch: they are retired
//! and their allocators only shrink, so that is an upper bound; contexts, which loads may add to any of them, are counted in one place. Only where the bound
//! says no, the pools are walked and the exact figure decides; and where the block is going to another pool than the one that is current by now, since a batch
//! that began before the switch may add any number of them to a retired pool.
//!
//! What is being stored while the limit is checked is not counted, so the limit is overshot by at most what the stores in flight add.

pub(crate) mod eviction_scope;
pub(crate) mod policy;

use std::time::{Duration, Instant};

use zpool_core::internal::sync::Mutex;
use zpool_core::internal::sync::atomic::{
    AtomicBool, AtomicIsize, AtomicU64, AtomicUsize, Ordering,
};
use zpool_manager::{PoolManager, PoolRef};

/// No count of switches: nothing is known yet.
const NEVER: u64 = u64::MAX;

/// No limit.
const NONE: usize = usize::MAX;

/// Compression contexts may hold one part in so many of the limit, but one context in any case.
const CONTEXT_SHARE: usize = 4;

/// A full store that refuses looks at most this often for memory to give back, unless something was
/// removed from it: guards that pinned objects may be gone, and contexts idle.
const RETRY: Duration = Duration::from_millis(200);

/// Idle contexts are freed at most this often before anything is evicted, since stores that need
/// them again make them anew.
const SWEEP: Duration = Duration::from_millis(100);

/// A limit, and whether it was reached.
#[derive(Debug)]
pub(crate) struct Limit {
    /// At this many bytes the store is full.
    max: AtomicUsize,
    /// Once full, it stays so until it holds no more than this part of it.
    accept_percent: u8,
    full: AtomicBool,
    /// Eviction debt in bytes: stored since the limit was reached, minus evicted or removed since.
    /// Negative means credit.
    owed: AtomicIsize,
    /// The limit was lowered, and the store is not below it yet.
    catching_up: AtomicBool,
    /// Something was removed since the store last looked for memory to give back.
    removed: AtomicBool,
    /// When it did that, and when it last freed idle contexts.
    tried: Cooldown,
    swept: Cooldown,
    /// What all pools but the current one held at most...
    others: AtomicUsize,
    /// ...which is the one of this number...
    besides: AtomicU64,
    /// ...as long as the manager has made this many switches.
    as_of: AtomicU64,
    /// Held while those three are written.
    refresh: Mutex<()>,
}

/// How a full store looks for memory to give back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReleaseAttempt {
    /// Not at all: nothing has changed since it last did.
    No,
    /// Compacts only pools that estimate to gain what is needed.
    ByEstimate,
    /// Compacts all pools.
    Thorough,
}

/// The last time that something was done.
#[derive(Debug)]
struct Cooldown {
    born: Instant,
    /// Microseconds after that, plus one; 0: never.
    last: AtomicU64,
}

impl Cooldown {
    fn never() -> Cooldown {
        Cooldown { born: Instant::now(), last: AtomicU64::new(0) }
    }

    /// Is it due again, after `interval`? If so, it counts as done now.
    fn is_due(&self, interval: Duration) -> bool {
        let now = self.born.elapsed().as_micros() as u64 + 1;
        // Relaxed: two threads that find it due at once both do it.
        let last = self.last.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) > interval.as_micros() as u64;
        if due {
            self.last.store(now, Ordering::Relaxed);
        }
        due
    }
}

/// What the limit says to one more block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// There is room.
    Room,
    /// Below the limit, but it was reached and the threshold is not yet.
    AboveLowWatermark { held: usize },
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
            catching_up: AtomicBool::new(false),
            removed: AtomicBool::new(true),
            tried: Cooldown::never(),
            swept: Cooldown::never(),
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
        let max = max.unwrap_or(NONE);
        // Relaxed: as above.
        let before = self.max.swap(max, Ordering::Relaxed);
        self.catching_up.store(max < before, Ordering::Relaxed);
        self.full.store(false, Ordering::Relaxed);
        self.removed.store(true, Ordering::Relaxed);
        self.reset_debt();
    }

    /// What compression contexts may hold together.
    pub(crate) fn max_context_bytes(&self) -> Option<usize> {
        self.bytes().map(|max| max / CONTEXT_SHARE)
    }

    /// Was the limit lowered, and the store not seen below it since?
    pub(crate) fn is_catching_up(&self) -> bool {
        // Relaxed, here and below: a thread that is late to see it evicts a step more or less.
        self.catching_up.load(Ordering::Relaxed)
    }

    /// The store is below its limit.
    pub(crate) fn caught_up(&self) {
        if self.is_catching_up() {
            self.catching_up.store(false, Ordering::Relaxed);
        }
    }

    /// Something was removed from a full store: it may be worth while to look for memory to give
    /// back.
    #[inline]
    pub(crate) fn note_removed(&self) {
        // Looked at first, so that removing threads share the line. Relaxed: a hint.
        if !self.removed.load(Ordering::Relaxed) {
            self.removed.store(true, Ordering::Relaxed);
        }
    }

    /// Is it worth while to look for memory to give back? If so, it counts as done.
    pub(crate) fn next_attempt(&self) -> ReleaseAttempt {
        let due = self.tried.is_due(RETRY);
        let removed = self.removed.swap(false, Ordering::Relaxed);
        if due {
            ReleaseAttempt::Thorough
        } else if removed {
            ReleaseAttempt::ByEstimate
        } else {
            ReleaseAttempt::No
        }
    }

    /// Are idle contexts to be freed? If so, it counts as done.
    pub(crate) fn may_free_contexts(&self) -> bool {
        self.swept.is_due(SWEEP)
    }

    /// Was the limit reached, and the threshold not yet?
    #[inline]
    pub(crate) fn above_low_watermark(&self) -> bool {
        // Relaxed: whoever is late to see the flag goes by the other threshold once more.
        self.full.load(Ordering::Relaxed)
    }

    /// What the limit, `max`, says to one more block in `pool`, if that can be told without asking
    /// every pool.
    ///
    /// `pays`: a store under pressure makes room for its own, so that an upper bound below the
    /// limit is all it has to know.
    #[inline]
    pub(crate) fn admit_by_bound(
        &self,
        max: usize,
        pool: &PoolRef,
        manager: &PoolManager,
        index_bytes: usize,
        pays: bool,
    ) -> Option<Admission> {
        // Acquire: pairs with the Release in `measure_pools`: the bound is that of the count.
        if self.as_of.load(Ordering::Acquire) != manager.switches()
            || self.besides.load(Ordering::Relaxed) != pool.id().get()
        {
            return None;
        }
        let full = self.above_low_watermark();
        let below = if full { self.low_watermark(max) } else { max };
        let others = self.others.load(Ordering::Relaxed);
        let held = pool.zpool().bytes_held() + others + manager.context_bytes() + index_bytes;
        if held < below {
            self.set_above_low_watermark(full, false);
            return Some(Admission::Room);
        }
        (pays && held < max).then_some(Admission::AboveLowWatermark { held })
    }

    /// What the limit, `max`, says after every pool was asked. Bytes that are `transient_bytes`, because
    /// they go by themselves, do not count: neither as held nor as a reason to evict for other
    /// stores.
    pub(crate) fn admit_by_measure(
        &self,
        max: usize,
        manager: &PoolManager,
        index_bytes: usize,
        transient_bytes: impl Fn() -> usize,
    ) -> Admission {
        // Before and after: they may come or go in the middle.
        let before = transient_bytes();
        let held = self.measure_pools(manager) + index_bytes;
        self.judge(max, held, before.max(transient_bytes()))
    }

    /// What is held, asking every pool.
    pub(crate) fn held(&self, manager: &PoolManager, index_bytes: usize) -> usize {
        self.measure_pools(manager) + index_bytes
    }

    /// What the limit says to a store that holds exactly `held`, of which some bytes are `transient_bytes`.
    fn judge(&self, max: usize, held: usize, transient_bytes: usize) -> Admission {
        let full = self.above_low_watermark();
        let below = if full { self.low_watermark(max) } else { max };
        let counted = held.saturating_sub(transient_bytes);
        self.set_above_low_watermark(full, counted >= below);
        if counted < below {
            Admission::Room
        } else if counted < max {
            Admission::AboveLowWatermark { held }
        } else {
            Admission::Full { held }
        }
    }

    /// What is stored has grown by so many bytes, or less than none. Gives how much is to be evicted for that and what came before.
    pub(crate) fn owe(&self, bytes: isize) -> isize {
        // Relaxed: an account. Two who pay the same debt evict too much once, and that counts.
        self.owed.fetch_add(bytes, Ordering::Relaxed).wrapping_add(bytes)
    }

    /// There is nothing left to pay with.
    pub(crate) fn reset_debt(&self) {
        // Relaxed: as above.
        self.owed.store(0, Ordering::Relaxed);
    }

    /// Once full, the store takes blocks again below this many bytes.
    pub(crate) fn low_watermark(&self, max: usize) -> usize {
        let threshold = max as u128 * u128::from(self.accept_percent) / 100;
        usize::try_from(threshold).unwrap_or(max).saturating_add(1).min(max)
    }

    #[inline]
    pub(crate) fn set_above_low_watermark(&self, was: bool, is: bool) {
        if was != is {
            self.reset_debt();
            self.full.store(is, Ordering::Relaxed);
        }
    }

    /// What all pools hold now; and remembers the part of those that are not current.
    #[cold]
    fn measure_pools(&self, manager: &PoolManager) -> usize {
        let before = manager.switches();
        let Some(current) = manager.current() else { return manager.bytes_held() };
        let others = manager.allocator_bytes_besides(&current);
        self.remember(others, current.id().get(), before, || manager.switches());
        current.zpool().bytes_held() + others + manager.context_bytes()
    }

    /// Remembers what pools besides `besides` held, when there had been `before` switches, unless
    /// there was another one since.
    fn remember(&self, others: usize, besides: u64, before: u64, switches: impl FnOnce() -> u64) {
        let _refresh = self.refresh.lock();
        // Unchanged: so `besides` was current all the time, or is the successor that a switch has
        // published and not counted yet. What is written in that moment ends with the count.
        if switches() == before {
            // A reader between the stores uses the new bound with the old count, once.
            self.others.store(others, Ordering::Relaxed);
            self.besides.store(besides, Ordering::Relaxed);
            // Release: pairs with the Acquire in `admit_by_bound`.
            self.as_of.store(before, Ordering::Release);
        }
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    /// What a walk found before a switch says nothing about the time after it.
    #[test]
    fn walk_during_switch_is_not_remembered() {
        let limit = Limit::new(Some(1 << 20), 90);
        let remembered = || {
            let (others, besides) = (&limit.others, &limit.besides);
            (
                others.load(Ordering::Relaxed),
                besides.load(Ordering::Relaxed),
                limit.as_of.load(Ordering::Relaxed),
            )
        };
        limit.remember(1000, 1, 5, || 6);
        assert_eq!(remembered(), (0, 0, NEVER));
        limit.remember(1000, 1, 5, || 5);
        assert_eq!(remembered(), (1000, 1, 5));
        limit.remember(2000, 2, 6, || 7);
        assert_eq!(remembered(), (1000, 1, 5));
    }

    /// A store that has nothing to give back does not look for it again and again.
    #[test]
    fn attempt_without_removal_waits() {
        let moment = Cooldown::never();
        assert!(moment.is_due(Duration::MAX / 2), "never done");
        assert!(!moment.is_due(Duration::from_secs(3600)));
        let limit = Limit::new(Some(1 << 20), 90);
        assert_eq!(limit.next_attempt(), ReleaseAttempt::Thorough);
        limit.tried.last.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(limit.next_attempt(), ReleaseAttempt::No);
        limit.note_removed();
        assert_eq!(
            (limit.next_attempt(), limit.next_attempt()),
            (ReleaseAttempt::ByEstimate, ReleaseAttempt::No)
        );
    }

    #[test]
    fn what_is_owed_is_summed_up_until_the_store_is_full_or_below_the_threshold_anew() {
        let limit = Limit::new(Some(1 << 20), 90);
        assert_eq!((limit.owe(4000), limit.owe(-4096), limit.owe(100)), (4000, -96, 4));
        limit.set_above_low_watermark(false, false);
        assert_eq!(limit.owe(0), 4);
        limit.set_above_low_watermark(false, true);
        assert_eq!((limit.owe(7), limit.above_low_watermark()), (7, true));
        limit.set_above_low_watermark(true, false);
        assert_eq!((limit.owe(5), limit.above_low_watermark()), (5, false));
        limit.set(Some(2 << 20));
        assert_eq!(limit.owe(-1), -1);
    }
}
