//! The limit of a store in bytes, as the operating system counts them, and the low watermark below
//! it.
//!
//! Held bytes are those of all pools (also retired ones and those that await destruction), of their
//! compressors' contexts, and of the index. Walking all pools takes a lock and a heap call, so a
//! store usually asks only the current pool. For the others it uses what they held at the last
//! switch. That is an upper bound: they are retired, and their allocators only shrink. The cold
//! pool is neither current nor retired, and is asked as well. Loads may add contexts to any pool,
//! so contexts are counted in one place.
//!
//! All pools are walked in these cases:
//!
//! - the bound reaches the limit, or the low watermark if the limit was reached before;
//! - there was a switch since the last walk;
//! - the block goes to a pool that is no longer current;
//! - a pool awaits destruction, or a context is more than half of the limit.
//!
//! A batch that began before a switch may add any number of blocks to a retired pool. A drain
//! checks the count of switches before each entry. So it adds at most one entry to a pool that was
//! retired meanwhile, like a store in flight.
//!
//! Stores in flight are not counted, so the limit is exceeded by at most what they add.

mod debt;
pub(crate) mod decision;
pub(crate) mod eviction_scope;
pub(crate) mod policy;

use std::time::{Duration, Instant};

use zpool_core::internal::sync::Mutex;
use zpool_core::internal::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use zpool_manager::{PoolManager, PoolRef};

use self::debt::EvictionDebt;

/// In the place of a count of switches: nothing is known yet.
const NEVER: u64 = u64::MAX;

/// No limit.
const NONE: usize = usize::MAX;

/// Compression contexts may hold 1/4 of the limit, but always one context in each pool.
const CONTEXT_SHARE: usize = 4;

/// Shortest time between two attempts of a full store to release memory, if nothing was removed
/// from it meanwhile. Even then guards may have been dropped, and contexts may be idle.
const RETRY: Duration = Duration::from_millis(200);

/// Shortest time between two releases of idle contexts before an eviction. A store that needs one
/// again creates it anew.
const SWEEP: Duration = Duration::from_millis(100);

/// A limit, and whether it was reached.
#[derive(Debug)]
pub(crate) struct Limit {
    /// The bytes at which the store is full.
    max: AtomicUsize,
    /// Once full, it stays so until it holds no more than this part of it.
    accept_percent: u8,
    full: AtomicBool,
    debt: EvictionDebt,
    /// Whether the limit was lowered and the store is not below it yet.
    catching_up: AtomicBool,
    /// Whether something was removed since the store last looked for memory to release.
    removed: AtomicBool,
    /// When it last looked for memory to release, and when it last freed idle contexts.
    tried: Cooldown,
    swept: Cooldown,
    /// Upper bound of the bytes that all pools held, except the cold pool and...
    other_bytes: AtomicUsize,
    /// ...the pool of this id...
    excluded_pool: AtomicU64,
    /// ...as long as the manager has made this many switches.
    as_of_switches: AtomicU64,
    /// Held while those three are written.
    refresh: Mutex<()>,
    /// Held bytes from which on the job of a tier writes. [`NONE`] without a tier.
    relief_from: AtomicUsize,
    has_tier: bool,
    /// A store that holds at least that much was admitted.
    relief_wanted: AtomicBool,
}

/// How thoroughly a full store looks for memory to release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReleaseAttempt {
    /// Not at all: nothing has changed since the last attempt.
    No,
    /// Compacts only pools whose estimated gain is as much as is needed.
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

    /// Returns whether `interval` has passed. If so, it begins anew.
    fn is_due(&self, interval: Duration) -> bool {
        let now = self.born.elapsed().as_micros() as u64 + 1;
        // Relaxed: if two threads find it due at once, both act.
        let last = self.last.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) > interval.as_micros() as u64;
        if due {
            self.last.store(now, Ordering::Relaxed);
        }
        due
    }
}

/// Verdict of the limit about one more block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// There is room.
    Room,
    /// Below the limit, but above the low watermark since the limit was reached.
    AboveLowWatermark { held: usize },
    /// At the limit.
    Full { held: usize },
}

impl Limit {
    /// Creates a limit of `max` bytes, or none. Its low watermark is `accept_percent` of it.
    pub(crate) fn new(max: Option<usize>, accept_percent: u8) -> Limit {
        Limit {
            max: AtomicUsize::new(max.unwrap_or(NONE)),
            accept_percent,
            full: AtomicBool::new(false),
            debt: EvictionDebt::default(),
            catching_up: AtomicBool::new(false),
            removed: AtomicBool::new(true),
            tried: Cooldown::never(),
            swept: Cooldown::never(),
            other_bytes: AtomicUsize::new(0),
            excluded_pool: AtomicU64::new(0),
            as_of_switches: AtomicU64::new(NEVER),
            refresh: Mutex::new(()),
            relief_from: AtomicUsize::new(NONE),
            has_tier: false,
            relief_wanted: AtomicBool::new(false),
        }
    }

    /// Returns the limit, if there is one.
    #[inline]
    pub(crate) fn bytes(&self) -> Option<usize> {
        // Relaxed: a thread that sees a new limit late applies the old one once more.
        let max = self.max.load(Ordering::Relaxed);
        (max != NONE).then_some(max)
    }

    /// Notes from now on when the store reaches its low watermark, for a tier.
    pub(crate) fn watch_low_watermark(&mut self) {
        self.has_tier = true;
        self.set_relief_from(self.bytes());
    }

    fn set_relief_from(&self, max: Option<usize>) {
        let from = max.filter(|_| self.has_tier).map_or(NONE, |max| self.low_watermark(max));
        // Relaxed: as for the limit.
        self.relief_from.store(from, Ordering::Relaxed);
    }

    /// Returns whether the store has reached its low watermark since the last call.
    #[inline]
    pub(crate) fn take_relief_wanted(&self) -> bool {
        // Loaded first, so that threads share the cache line. Relaxed: a hint.
        self.relief_wanted.load(Ordering::Relaxed)
            && self.relief_wanted.swap(false, Ordering::Relaxed)
    }

    /// Sets another limit, or none.
    pub(crate) fn set(&self, max: Option<usize>) {
        self.set_relief_from(max);
        let max = max.unwrap_or(NONE);
        // Relaxed: as above.
        let before = self.max.swap(max, Ordering::Relaxed);
        self.catching_up.store(max < before, Ordering::Relaxed);
        self.full.store(false, Ordering::Relaxed);
        self.removed.store(true, Ordering::Relaxed);
        self.debt.reset();
    }

    /// Returns the bytes that all compression contexts together may hold.
    pub(crate) fn max_context_bytes(&self) -> Option<usize> {
        self.bytes().map(|max| max / CONTEXT_SHARE)
    }

    /// Returns whether the limit was lowered, and the store was not below it since.
    pub(crate) fn is_catching_up(&self) -> bool {
        // Relaxed, here and below: a thread that is late to see it evicts a step more or less.
        self.catching_up.load(Ordering::Relaxed)
    }

    /// Notes that the store is below its limit.
    pub(crate) fn caught_up(&self) {
        if self.is_catching_up() {
            self.catching_up.store(false, Ordering::Relaxed);
        }
    }

    /// Notes that something was removed from a full store, so there may be memory to release.
    #[inline]
    pub(crate) fn note_removed(&self) {
        // Loaded first, so that removing threads share the cache line. Relaxed: a hint.
        if !self.removed.load(Ordering::Relaxed) {
            self.removed.store(true, Ordering::Relaxed);
        }
    }

    /// Decides whether to look for memory to release, and counts as such an attempt.
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

    /// Decides whether to free idle contexts, and counts as doing so.
    pub(crate) fn may_free_contexts(&self) -> bool {
        self.swept.is_due(SWEEP)
    }

    /// Returns whether the limit was reached, and the store was not below its low watermark since.
    #[inline]
    pub(crate) fn above_low_watermark(&self) -> bool {
        // Relaxed: a thread that sees the flag late applies the other threshold once more.
        self.full.load(Ordering::Relaxed)
    }

    /// Judges one more block in `pool` by an upper bound. Returns `None` if all pools have to be
    /// asked.
    ///
    /// If `evicts_growth`, a store above its low watermark evicts what it adds, so a bound below
    /// the limit is enough.
    #[inline]
    pub(crate) fn admit_by_bound(
        &self,
        max: usize,
        pool: &PoolRef,
        manager: &PoolManager,
        index_bytes: usize,
        evicts_growth: bool,
    ) -> Option<Admission> {
        // Acquire: pairs with the Release in `measure_pools`: the bound is that of the count.
        if self.as_of_switches.load(Ordering::Acquire) != manager.switches()
            || self.excluded_pool.load(Ordering::Relaxed) != pool.id().get()
        {
            return None;
        }
        let full = self.above_low_watermark();
        let below = if full { self.low_watermark(max) } else { max };
        let other_bytes = self.other_bytes.load(Ordering::Relaxed);
        let held = pool.zpool().bytes_held()
            + other_bytes
            + cold_bytes(manager, pool)
            + manager.context_bytes()
            + index_bytes;
        if held >= self.relief_from.load(Ordering::Relaxed) {
            self.relief_wanted.store(true, Ordering::Relaxed);
        }
        if held < below {
            self.set_above_low_watermark(full, false);
            return Some(Admission::Room);
        }
        (evicts_growth && held < max).then_some(Admission::AboveLowWatermark { held })
    }

    /// Judges one more block by what all pools hold. Transient bytes, which will be freed without
    /// an eviction, do not count as held.
    pub(crate) fn admit_by_measure(
        &self,
        max: usize,
        manager: &PoolManager,
        index_bytes: usize,
        transient_bytes: impl Fn() -> usize,
    ) -> Admission {
        // Measured before and after, because transient bytes may appear or disappear in between.
        let before = transient_bytes();
        let held = self.measure_pools(manager) + index_bytes;
        self.judge(max, held, before.max(transient_bytes()))
    }

    /// Returns the bytes held, by asking every pool.
    pub(crate) fn held(&self, manager: &PoolManager, index_bytes: usize) -> usize {
        self.measure_pools(manager) + index_bytes
    }

    /// Judges a store that holds exactly `held` bytes, some of them transient.
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

    /// Returns the store's eviction debt.
    #[inline]
    pub(crate) fn debt(&self) -> &EvictionDebt {
        &self.debt
    }

    /// Returns the bytes below which a store that was full takes blocks again.
    pub(crate) fn low_watermark(&self, max: usize) -> usize {
        let threshold = max as u128 * u128::from(self.accept_percent) / 100;
        usize::try_from(threshold).unwrap_or(max).saturating_add(1).min(max)
    }

    #[inline]
    pub(crate) fn set_above_low_watermark(&self, was: bool, is: bool) {
        if was != is {
            self.debt.reset();
            self.full.store(is, Ordering::Relaxed);
        }
    }

    /// Sums up all pools, and remembers the part of those that are not current.
    #[cold]
    fn measure_pools(&self, manager: &PoolManager) -> usize {
        let before = manager.switches();
        let Some(current) = manager.current() else { return manager.bytes_held() };
        // Before the others are asked: what moves to it meanwhile counts as theirs.
        let cold_bytes = cold_bytes(manager, &current);
        let other_bytes = manager.allocator_bytes_except(&current).saturating_sub(cold_bytes);
        self.remember(other_bytes, current.id().get(), before, || manager.switches());
        current.zpool().bytes_held() + other_bytes + cold_bytes + manager.context_bytes()
    }

    /// Remembers what the pools except `excluded_pool` held after `before` switches, unless there
    /// was another switch since.
    fn remember(
        &self,
        other_bytes: usize,
        excluded_pool: u64,
        before: u64,
        switches: impl FnOnce() -> u64,
    ) {
        let _refresh = self.refresh.lock();
        // The count is unchanged. So `excluded_pool` was current all the time, or a switch has
        // published it and not counted itself yet. What is written then becomes invalid when the
        // switch is counted.
        if switches() == before {
            // A reader between the stores uses the new bound with the old count, once.
            self.other_bytes.store(other_bytes, Ordering::Relaxed);
            self.excluded_pool.store(excluded_pool, Ordering::Relaxed);
            // Release: pairs with the Acquire in `admit_by_bound`.
            self.as_of_switches.store(before, Ordering::Release);
        }
    }
}

/// Returns the bytes of the cold pool, if there is one besides `pool`.
fn cold_bytes(manager: &PoolManager, pool: &PoolRef) -> usize {
    let cold = manager.cold().filter(|cold| !PoolRef::same(cold, pool));
    cold.map_or(0, |cold| cold.zpool().bytes_held())
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    /// A figure from before a switch is not valid after it.
    #[test]
    fn walk_during_switch_is_not_remembered() {
        let limit = Limit::new(Some(1 << 20), 90);
        let remembered = || {
            let (other_bytes, excluded_pool) = (&limit.other_bytes, &limit.excluded_pool);
            (
                other_bytes.load(Ordering::Relaxed),
                excluded_pool.load(Ordering::Relaxed),
                limit.as_of_switches.load(Ordering::Relaxed),
            )
        };
        limit.remember(1000, 1, 5, || 6);
        assert_eq!(remembered(), (0, 0, NEVER));
        limit.remember(1000, 1, 5, || 5);
        assert_eq!(remembered(), (1000, 1, 5));
        limit.remember(2000, 2, 6, || 7);
        assert_eq!(remembered(), (1000, 1, 5));
    }

    /// A store with nothing to release does not look for it again and again.
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

    /// Eviction debt adds up until the store becomes full, or falls below its low watermark.
    #[test]
    fn debt_resets_when_watermark_is_crossed() {
        let limit = Limit::new(Some(1 << 20), 90);
        let debt = limit.debt();
        assert_eq!((debt.charge(4000), debt.credit(4096), debt.charge(100)), (4000, -96, 4));
        limit.set_above_low_watermark(false, false);
        assert_eq!(debt.charge(0), 4);
        limit.set_above_low_watermark(false, true);
        assert_eq!((debt.charge(7), limit.above_low_watermark()), (7, true));
        limit.set_above_low_watermark(true, false);
        assert_eq!((debt.charge(5), limit.above_low_watermark()), (5, false));
        limit.set(Some(2 << 20));
        assert_eq!(debt.charge(-1), -1);
    }
}
