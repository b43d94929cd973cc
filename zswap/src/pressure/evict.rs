//! Eviction: how a store at its limit removes blocks.
//!
//! ```text
//!   held     0 ───────────── low watermark ──────────── limit
//!              ◄── room ──────────►│◄── above the low ───►│ reached: release memory, and evict a
//!                                       watermark           step if that is not enough (B7)
//!                                  until held falls below it: a store evicts as much as it adds
//! ```
//!
//! Eviction runs in the call that needs room, or in the tier's job, with no lock held: an entry is
//! taken out of its shard, then freed, then the listener is called. A listener that decides is
//! called before that: see [`candidates`](super::candidates). What the allocators release by
//! themselves meanwhile (zsmalloc's compaction, on the executor) brings the store below its low
//! watermark again.

use std::hash::{BuildHasher, Hash};

use zpool_core::internal::catch;
use zpool_core::might_block;
use zpool_manager::PoolRef;

use crate::index::shard::Item;
use crate::limit::Admission;
use crate::limit::eviction_scope::EvictionScope;
use crate::pressure::release::{IdleContexts, PoolScope};
use crate::pressure::steps::ReliefStep;
use crate::store::Store;
use crate::value::Value;
use crate::value::error::Error;
use crate::value::pooled_object::call_allocator;

/// At the limit, 1/64 of it is evicted at a time, within these bounds.
const STEP_SHARE: usize = 64;
const STEP: std::ops::RangeInclusive<usize> = 64 << 10..=1 << 20;

/// A step of eviction that released nothing to the system suffices up to this far above the limit:
/// the next entries reuse the memory of the evicted ones.
const SLACK: usize = 64 << 10;

impl<K, S> Store<K, S> {
    /// Returns the bytes to evict per step at a limit of `max` bytes: more than a block adds.
    fn step(&self, max: usize) -> usize {
        (max / STEP_SHARE).clamp(*STEP.start(), *STEP.end()).max(2 * self.block_size())
    }
}

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Admits a block to `pool`, or refuses it. Makes room first, if that is the policy.
    #[inline]
    pub(crate) fn admit(&self, pool: &PoolRef) -> Result<(), Error> {
        let Some(max) = self.limit().bytes() else { return Ok(()) };
        let (evicts, was_full) = (self.relieves_memory(), self.limit().above_low_watermark());
        let verdict = self.admit_by_bound(max, pool, evicts)?;
        if self.limit().take_relief_wanted() {
            self.request_writeback();
        }
        let verdict = match verdict {
            Some(Admission::Room) => return Ok(()),
            Some(verdict) if !self.has_transient_bytes(pool, max) => verdict,
            _ => {
                self.release_transient(pool, max);
                self.admit_by_measure(max)?
            }
        };
        match verdict {
            Admission::Room => Ok(()),
            Admission::AboveLowWatermark { .. } if evicts => Ok(()),
            Admission::Full { .. } if evicts => self.make_room(pool, false),
            Admission::AboveLowWatermark { held } | Admission::Full { held } => {
                self.release_or_refuse(was_full, held)
            }
        }
    }

    /// Judges by an upper bound of the held bytes. If an allocator panics in `bytes_held`, that is
    /// an error: nothing is stored then, and the older value is removed.
    #[inline]
    pub(crate) fn admit_by_bound(
        &self,
        max: usize,
        pool: &PoolRef,
        evicts_growth: bool,
    ) -> Result<Option<Admission>, Error> {
        call_allocator(|| {
            let index_bytes = self.index().bytes();
            self.limit().admit_by_bound(max, pool, self.manager(), index_bytes, evicts_growth)
        })
    }

    /// Judges by what all pools hold.
    #[cold]
    pub(crate) fn admit_by_measure(&self, max: usize) -> Result<Admission, Error> {
        let (manager, index_bytes) = (self.manager(), self.index().bytes());
        call_allocator(|| {
            self.limit().admit_by_measure(max, manager, index_bytes, || self.transient_bytes())
        })
    }

    /// Returns whether some held bytes are going to be freed in any case, and so are no reason to
    /// evict: a pool that awaits destruction, or a context too large to stay idle.
    #[inline]
    fn has_transient_bytes(&self, pool: &PoolRef, max: usize) -> bool {
        self.manager().pending_bytes() > 0 || pool.codec().largest_context_bytes() > max / 2
    }

    /// Frees those bytes.
    #[cold]
    fn release_transient(&self, pool: &PoolRef, max: usize) {
        if self.has_transient_bytes(pool, max) {
            self.manager().destroy_pending();
            if !self.may_keep_idle_context() {
                self.manager().free_idle_contexts(false);
            }
        }
    }

    /// Returns the held bytes that are no reason to evict or refuse: [contexts in
    /// flight](Self::in_flight_context_bytes), and pools that await destruction if the store
    /// evicts. It would evict for those in vain.
    fn transient_bytes(&self) -> usize {
        let pending = if self.relieves_memory() { self.manager().pending_bytes() } else { 0 };
        pending.saturating_add(self.in_flight_context_bytes())
    }

    /// Returns the held bytes and the limit, if the store is over it by more than its [transient
    /// bytes](Self::transient_bytes). The limit may change at any time: the current one counts, and
    /// without one there is room.
    fn over_limit(&self, pool: &PoolRef) -> Result<Option<(usize, usize)>, Error> {
        let Some(max) = self.limit().bytes() else { return Ok(None) };
        let verdict = match self.admit_by_bound(max, pool, true)? {
            Some(verdict) => verdict,
            None => self.admit_by_measure(max)?,
        };
        match verdict {
            Admission::Full { held } => Ok(Some((held, max))),
            _ => {
                self.limit().caught_up();
                Ok(None)
            }
        }
    }

    /// Frees unused memory, then evicts, until the store is below its limit. Needs no memory
    /// itself.
    ///
    /// While the store is over a limit that was lowered, this evicts one step, which is more than a
    /// block adds, and leaves the rest to later calls. With `at_once`, it brings the store below
    /// the limit.
    #[cold]
    fn make_room(&self, pool: &PoolRef, at_once: bool) -> Result<(), Error> {
        self.manager().destroy_pending();
        let Some(_scope) = EvictionScope::enter(self.eviction()) else {
            return self
                .over_limit(pool)?
                .map_or(Ok(()), |(held, limit)| Err(self.full_error(held, limit, 0)));
        };
        might_block("evicting");
        let Some(max) = self.limit().bytes() else { return Ok(()) };
        let step = self.step(max);
        let in_steps = || !at_once && self.limit().is_catching_up();
        if !in_steps() && self.room_without_eviction(pool, max, step)? {
            return Ok(());
        }
        loop {
            let before = self.measure_held()?;
            let ReliefStep { freed, kept } = self.relieve_step(step);
            // Retired pools that have become empty.
            self.manager().destroy_pending();
            if freed > 0 && in_steps() {
                catch(|| pool.zpool().trim());
                self.over_limit(pool)?;
                return Ok(());
            }
            let over = self.over_limit_after_release(pool, freed > 0, PoolScope::Some)?;
            let Some((held, limit)) = over else { return Ok(()) };
            if freed > 0 && held < before {
                continue;
            }
            if freed > 0 && held < limit.saturating_add(SLACK) {
                return Ok(());
            }
            // That was not enough, so release what all pools have before more is evicted.
            match self.over_limit_after_release(pool, freed > 0, PoolScope::All)? {
                None => return Ok(()),
                // Contexts in use belong to stores in flight: this one waits for one of them.
                Some((held, limit))
                    if freed == 0
                        && held.saturating_sub(self.manager().compression_context_bytes())
                            < limit =>
                {
                    return Ok(());
                }
                Some((held, limit)) if freed == 0 => {
                    return Err(self.full_error(held, limit, kept));
                }
                Some(_) => {}
            }
        }
    }

    /// Releases what a step of eviction left behind. Returns the held bytes and the limit, if the
    /// store is still over it.
    fn over_limit_after_release(
        &self,
        pool: &PoolRef,
        evicted: bool,
        scope: PoolScope,
    ) -> Result<Option<(usize, usize)>, Error> {
        // If there was nothing to evict, contexts hold the memory, so free all idle ones.
        self.release_unused(
            if evicted { IdleContexts::KeepOne } else { IdleContexts::Free },
            scope,
        );
        if self.over_limit(pool)?.is_none() {
            return Ok(None);
        }
        // There are holes in frames that are in use, so the objects have to move.
        self.compact_pools(0, scope);
        self.over_limit(pool)
    }

    pub(crate) fn measure_held(&self) -> Result<usize, Error> {
        call_allocator(|| self.limit().held(self.manager(), self.index().bytes()))
    }

    /// Frees unused memory until a step below the limit. Returns false if that is not enough.
    fn room_without_eviction(
        &self,
        pool: &PoolRef,
        max: usize,
        step: usize,
    ) -> Result<bool, Error> {
        // Less would not last: the next store would have to do the same again.
        let enough = |over: Option<(usize, usize)>| over.is_none() && self.has_room_for(step, max);
        let sweeps = self.limit().may_free_contexts() || !self.may_keep_idle_context();
        let contexts = if sweeps { IdleContexts::KeepOne } else { IdleContexts::Keep };
        self.release_unused(contexts, PoolScope::Some);
        if enough(self.over_limit(pool)?) {
            return Ok(true);
        }
        self.compact_pools(step, PoolScope::Some);
        Ok(enough(self.over_limit(pool)?))
    }

    /// Returns whether the store is at least `bytes` below its limit.
    fn has_room_for(&self, bytes: usize, max: usize) -> bool {
        let transient_bytes = self.transient_bytes();
        self.measure_held()
            .map(|held| held.saturating_sub(transient_bytes.max(self.transient_bytes())))
            .is_ok_and(|held| held.saturating_add(bytes) <= max)
    }

    /// Charges the eviction debt: a block that costs `added` bytes has replaced one that cost
    /// `replaced`. Above the low watermark, evicts as much as was added, and in the long run no
    /// more, however large the evicted blocks are.
    #[inline]
    pub(crate) fn charge_eviction_debt(&self, added: usize, replaced: usize) {
        if added != replaced && self.evicts_for_debt() {
            self.evict_for_debt(added as isize - replaced as isize);
        }
    }

    #[cold]
    fn evict_for_debt(&self, grown: isize) {
        // Blocks stored from inside an eviction listener do not evict. Otherwise a listener that
        // stores the evicted block again would recurse for ever.
        let Some(_scope) = EvictionScope::enter(self.eviction()) else { return };
        let mut owed = self.limit().debt().charge(grown);
        while owed > 0 {
            match self.relieve_one() {
                Some(cost) => owed = self.limit().debt().credit(cost),
                None => return self.limit().debt().reset(),
            }
        }
    }

    /// Sets another limit in bytes, or none (`usize::MAX` is none).
    ///
    /// If a store that evicts holds more, this evicts until it holds less, on the calling thread:
    /// it may block, for as long as that takes. Other threads can store meanwhile. Each of these
    /// calls evicts 1/64 of the limit (64 KiB to 1 MiB, but at least two blocks) for its own block.
    /// A store that refuses evicts nothing: it is full until it holds less. The bound for
    /// [contexts](crate::AtLimit) changes with the limit.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// # let page = |n: u64| (n * 600..n * 600 + 600).map(|n| n.to_string()).collect::<String>();
    /// use zswap::{AtLimit, Store};
    ///
    /// let store = Store::builder().limit_bytes(8 << 20).at_limit(AtLimit::Evict).build()?;
    /// for key in 0..1000 {
    ///     store.store(key, page(key))?;
    /// }
    /// store.set_limit(Some(1 << 20))?;
    /// assert!(store.bytes_held() <= 1 << 20 && store.stats().evicted > 0);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Full`] when what cannot be evicted (contexts in use, the shards of the index, what
    /// a [listener](crate::StoreBuilder::on_evict_with) keeps) is over the limit by itself. The new
    /// limit holds in any case.
    pub fn set_limit(&self, bytes: Option<usize>) -> Result<(), Error> {
        self.limit().set(bytes);
        self.manager().set_max_context_bytes(self.limit().max_context_bytes());
        let (Some(pool), true) = (self.manager().current(), self.relieves_memory()) else {
            return Ok(());
        };
        if !self.may_keep_idle_context() {
            self.manager().free_idle_contexts(false);
        }
        match self.over_limit(&pool)? {
            Some(_) => self.make_room(&pool, true),
            None => Ok(()),
        }
    }
}

impl<K, S> Store<K, S> {
    /// Returns whether a store that adds bytes has to evict as many, or write them to the tier.
    #[inline]
    pub(crate) fn evicts_for_debt(&self) -> bool {
        // The flag may be left over from an earlier limit.
        self.limit().above_low_watermark()
            && self.limit().bytes().is_some()
            && (self.eviction().evicts() || self.writes_back())
    }

    /// Frees an item that its owner removed, and credits its cost to the eviction debt, so that
    /// alternating stores and removals evict nothing. Notes for a store that refuses that it may
    /// have room again.
    #[inline]
    pub(crate) fn free_removed(&self, item: Option<Item<K>>) -> bool {
        if let Some((_, stored)) = &item
            && self.limit().above_low_watermark()
        {
            if self.evicts_for_debt() {
                self.limit().debt().credit(self.cost(stored));
            }
            let removed = self.free_item(item);
            self.limit().note_removed();
            return removed;
        }
        self.free_item(item)
    }

    /// Frees a value that its owner removed, as [`free_removed`](Self::free_removed) does.
    pub(crate) fn free_removed_value(&self, value: Value) {
        if self.evicts_for_debt() {
            self.limit().debt().credit(self.cost(&value));
        }
        self.free(value);
        if self.limit().above_low_watermark() {
            self.limit().note_removed();
        }
    }
}

#[cfg(all(test, not(zpool_loom), feature = "zsmalloc", feature = "lz4"))]
mod tests {
    use super::*;
    use crate::limit::policy::AtLimit;

    /// A store that saw the limit just before it was removed may set the flag just after. No later
    /// call clears that flag.
    #[test]
    fn removed_limit_evicts_nothing() {
        let store =
            Store::<u64>::builder().limit_bytes(1 << 20).at_limit(AtLimit::Evict).build().unwrap();
        let mut noise = 1u64;
        let mut block = || -> Vec<u8> {
            let mut next = || {
                noise = noise.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
                (noise >> 56) as u8
            };
            (0..4096).map(|_| next()).collect()
        };
        (0..400).for_each(|key| store.store(key, block()).unwrap());
        let (evicted, len) = (store.stats().evicted, store.len());
        assert!(evicted > 0 && store.limit().above_low_watermark(), "the limit was reached");
        store.limit().set(None);
        store.limit().set_above_low_watermark(false, true);
        (1000..1400).for_each(|key| store.store(key, block()).unwrap());
        assert_eq!((store.stats().evicted, store.len()), (evicted, len + 400));
        store.set_limit(Some(64 << 20)).unwrap();
        (2000..2100).for_each(|key| store.store(key, block()).unwrap());
        assert_eq!((store.stats().evicted, store.limit().above_low_watermark()), (evicted, false));
    }
}
