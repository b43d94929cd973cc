//! Releasing memory without evicting a block: before a full store evicts or refuses, and for
//! [`Store::trim`] and [`Store::compact`].
//!
//! ```text
//!   cheap first:  pools that await destruction ─► idle contexts ─► surplus of the index
//!                   ─► free frames of the pools ─► holes between objects: compaction
//! ```
//!
//! The order and its reasons: docs/decisions/0032. No lock of the store is held while an allocator
//! or a compressor works. If one panics, nothing is released and no harm is done.

use std::hash::{BuildHasher, Hash};

use zpool_core::internal::catch;
use zpool_core::{CompactionBudget, might_block};
use zpool_manager::PoolRef;

use crate::limit::{Admission, ReleaseAttempt};
use crate::store::Store;
use crate::value::error::Error;

/// Contexts to free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdleContexts {
    /// None.
    Keep,
    /// Those not in use, except one of each kind for the current pool: the next block needs it.
    KeepOne,
    /// All that are not in use.
    Free,
}

/// Pools to release memory of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PoolScope {
    /// Those in use and some others, so that the time does not depend on the number of pools.
    Some,
    /// Every one.
    All,
}

/// # Release memory
impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Releases free memory to the system: pools that await destruction, frames of all other pools
    /// that hold no object, index memory beyond what the entries need, and contexts that no thread
    /// uses. Returns the released bytes.
    ///
    /// Moves no object, so frames that are partly used stay: see [`compact`](Self::compact) for
    /// those. Contexts are created again when they are needed. A full store does this by itself
    /// before it evicts or refuses.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// for key in 0..1000 {
    ///     store.store(key, format!("{key:>3000}").as_bytes())?;
    /// }
    /// for key in 0..1000 {
    ///     store.invalidate(&key);
    /// }
    /// let held = store.bytes_held();
    /// let given_back = store.trim();
    /// assert!(given_back > 0 && store.bytes_held() < held);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Concurrency
    ///
    /// May block. Any number of threads may use the store meanwhile. What they store may take the
    /// memory again, and is not subtracted from the result.
    pub fn trim(&self) -> usize {
        might_block("Store::trim");
        let destroyed = self.manager().destroy_pending();
        destroyed + self.release_unused(IdleContexts::Free, PoolScope::All)
    }

    /// Moves objects together so that frames become empty, releases those frames, then
    /// [trims](Self::trim). Moves at most as many objects as `budget` allows, over all pools.
    /// Returns the released bytes.
    ///
    /// Pools that [cannot compact](zpool_core::Capabilities::can_compact) are only trimmed.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// use zswap::CompactionBudget;
    ///
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// for key in 0..1000 {
    ///     store.store(key, format!("{key:>3000}").as_bytes())?;
    /// }
    /// store.retain(|key, _| key % 10 == 0);
    /// // Every frame has a block or two left: trimming frees few frames, moving blocks frees most.
    /// store.compact(CompactionBudget::UNLIMITED);
    /// assert_eq!(store.load_vec(&990)?.unwrap(), format!("{:>3000}", 990).as_bytes());
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Concurrency
    ///
    /// As for [`trim`](Self::trim). A pool that another thread is compacting is only trimmed.
    pub fn compact(&self, budget: CompactionBudget) -> usize {
        might_block("Store::compact");
        let mut left = budget.max_moves;
        let mut freed = self.manager().destroy_pending();
        self.manager().for_each_pool(|pool| {
            let report =
                catch(|| pool.zpool().compact(CompactionBudget::moves(left))).unwrap_or_default();
            left = left.saturating_sub(report.moved_objects);
            freed += report.freed_bytes;
        });
        freed + self.release_unused(IdleContexts::Free, PoolScope::All)
    }

    /// Releases what costs little to find. Returns roughly how many bytes.
    pub(crate) fn release_unused(&self, contexts: IdleContexts, scope: PoolScope) -> usize {
        let mut freed = 0;
        if contexts != IdleContexts::Keep {
            freed += self.manager().free_idle_contexts(
                contexts == IdleContexts::KeepOne && self.may_keep_idle_context(),
            );
            if let Some(tier) = self.index().tier() {
                freed += tier.codecs.free_idle_contexts();
            }
        }
        freed += self.shrink_index();
        self.visit(scope, |pool| {
            freed += catch(|| pool.zpool().trim()).unwrap_or(0);
        });
        freed
    }

    fn visit(&self, scope: PoolScope, visit: impl FnMut(&PoolRef)) {
        match scope {
            PoolScope::Some => self.manager().for_some_pools(visit),
            PoolScope::All => self.manager().for_each_pool(visit),
        }
    }

    /// Releases index memory that the entries do not need. Returns how many bytes.
    pub(crate) fn shrink_index(&self) -> usize {
        let before = self.index().bytes();
        self.index().shrink(|key| self.hash(key));
        before.saturating_sub(self.index().bytes())
    }

    /// Compacts every pool that could release `min_gain` bytes or more by its own estimate, and
    /// those that [make no estimate](zpool_core::Capabilities::estimates_compaction). Returns the
    /// released bytes.
    pub(crate) fn compact_pools(&self, min_gain: usize, scope: PoolScope) -> usize {
        let mut freed = 0;
        self.visit(scope, |pool| {
            let zpool = pool.zpool();
            let compacted = catch(|| {
                let capabilities = zpool.capabilities();
                if !capabilities.can_compact {
                    return 0;
                }
                if !capabilities.estimates_compaction {
                    return zpool.compact(CompactionBudget::UNLIMITED).freed_bytes + zpool.trim();
                }
                // A budget of no moves asks for the estimate only.
                let estimate = zpool.compact(CompactionBudget::moves(0));
                if estimate.estimated_bytes < min_gain {
                    return estimate.freed_bytes;
                }
                let report = zpool.compact(CompactionBudget::UNLIMITED);
                estimate.freed_bytes + report.freed_bytes + zpool.trim()
            });
            freed += compacted.unwrap_or(0);
        });
        freed
    }

    /// Returns whether one context may stay idle: only if it is a small part of the limit.
    pub(crate) fn may_keep_idle_context(&self) -> bool {
        let largest =
            self.manager().current().map_or(0, |pool| pool.codec().largest_context_bytes());
        self.limit().bytes().is_none_or(|max| largest <= max / 2)
    }

    /// Releases memory for a full store that refuses, and refuses only if that is not enough.
    ///
    /// A full store with nothing to release refuses quickly: it looks again only once something was
    /// removed, or some time has passed.
    #[cold]
    pub(crate) fn release_or_refuse(&self, was_full: bool, mut held: usize) -> Result<(), Error> {
        let attempt = self.limit().next_attempt();
        if attempt != ReleaseAttempt::No {
            might_block("giving memory back");
            for step in 0..3 {
                match step {
                    0 => self.release_unused(IdleContexts::KeepOne, PoolScope::All),
                    1 => self.compact_pools(self.min_gain(attempt, held), PoolScope::All),
                    _ => self.release_unused(IdleContexts::Free, PoolScope::All),
                };
                match self.still_full(was_full)? {
                    None => return Ok(()),
                    Some(now) => held = now,
                }
            }
        }
        match self.limit().bytes() {
            Some(max) => Err(self.full_error(held, max, 0)),
            None => Ok(()),
        }
    }

    /// Returns the held bytes if the store is still full. The limit may change meanwhile: the
    /// current one counts, and without one there is room.
    fn still_full(&self, was_full: bool) -> Result<Option<usize>, Error> {
        let Some(max) = self.limit().bytes() else { return Ok(None) };
        if !was_full {
            // The store has not refused a block yet, so being below the limit is enough.
            self.limit().set_above_low_watermark(true, false);
        }
        match self.admit_by_measure(max)? {
            Admission::Room => Ok(None),
            Admission::AboveLowWatermark { held } | Admission::Full { held } => Ok(Some(held)),
        }
    }

    /// Returns the bytes of compression contexts in use that are no reason to evict or refuse. If
    /// one context is more than half of the limit, none stays idle, and those in use belong to
    /// stores in flight; a store that is admitted waits for one of them instead of adding one.
    /// Returns 0 if contexts are smaller.
    pub(crate) fn in_flight_context_bytes(&self) -> usize {
        if self.may_keep_idle_context() { 0 } else { self.manager().compression_context_bytes() }
    }

    /// Returns what a pool must gain by its own estimate to be compacted in a store that holds
    /// `held` bytes. It is less than what is needed, because it is an estimate, and other pools may
    /// gain too.
    fn min_gain(&self, attempt: ReleaseAttempt, held: usize) -> usize {
        let max = self.limit().bytes().unwrap_or(usize::MAX);
        let needed = held.saturating_sub(self.limit().low_watermark(max));
        if attempt == ReleaseAttempt::Thorough { 0 } else { needed / 4 }
    }

    /// Returns the error of a full store that can release nothing more, and in which a listener has
    /// kept `kept` entries.
    pub(crate) fn full_error(&self, held: usize, limit: usize, kept: usize) -> Error {
        let threshold =
            if self.relieves_memory() { limit } else { self.limit().low_watermark(limit) };
        Error::Full { held, limit, threshold, kept }
    }
}

#[cfg(all(test, not(zpool_loom), feature = "zsmalloc", feature = "lz4"))]
mod tests {
    use crate::limit::policy::AtLimit;
    use crate::store::Store;

    /// A context may stay idle up to half of the limit.
    #[test]
    fn idle_context_may_be_half_of_limit() {
        let builder = Store::<u64>::builder().limit_bytes(64 << 20).at_limit(AtLimit::Evict);
        let store = builder.build().unwrap();
        store.store(1, [[1, 2, 3, 4, 5, 6, 7, 8].as_slice(), &[9; 4088]].concat()).unwrap();
        let largest = store.manager().current().unwrap().codec().largest_context_bytes();
        assert!(largest > 0, "the block was compressed");
        store.limit().set(Some(2 * largest));
        assert!(store.may_keep_idle_context());
        store.limit().set(Some(2 * largest - 1));
        assert!(!store.may_keep_idle_context());
        store.limit().set(None);
        assert!(store.may_keep_idle_context());
    }
}
