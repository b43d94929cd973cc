//! Making room: what a store does at its limit, if it was told to evict.
//!
//! ```text
//!   held      0 ─────────────────── threshold ─────────── limit
//!                                        │                  │ reached: give memory back, and evict a step if that is not enough (B7)
//!               ◄── room ───────────────►│◄── pressed ─────►│
//!                                                 until below the threshold: a store evicts as much as it adds
//! ```
//!
//! All of it happens in the store that adds, and under no lock: an entry is taken out of its shard,
//! then freed, then the listener is called. What the allocators give back by themselves meanwhile
//! (zsmalloc's compaction, on the executor) brings the store below its threshold again.

use std::fmt;
use std::hash::{BuildHasher, Hash};

use zpool_core::internal::catch;
use zpool_core::might_block;
use zpool_manager::PoolRef;

use crate::error::ErrorKind;
use crate::limit::Verdict;
use crate::marks::Mark;
use crate::object::asked;
use crate::relief::{Contexts, Reach};
use crate::shard::Item;
use crate::store::Store;

/// What a store does when it is at its limit.
///
/// # How far over the limit
///
/// A block is admitted while the store is below its limit, and memory is counted when it is taken,
/// before it is used. So each store in flight may pass the limit by what it adds itself, and a
/// batch counts as one store. That is at most the sum of:
///
/// - 256 KiB for its object's frames, the growth of the index (one segment of 64 KiB, or of 64
///   entries with their keys if that is more, of which there are two while it is rebuilt) and of
///   the allocator's tables; 512 KiB with blocks of more than 64 KiB, or from about two million
///   blocks on; more with keys of more than 1 KiB, by two such segments;
/// - a compression context, where it needs a new one. All of these together hold at most 1/4 of the
///   limit, or one context if that is more: a thread that needs a further one
///   [waits](zpool_core::compress::ContextBudget);
/// - the list of a value of several blocks, 40 bytes for each.
///
/// Loads are never refused: a decompression context that one of them makes counts as soon as it is
/// there, and the next store makes room for it, or is refused. After [`Store::set_limit`] has
/// lowered the limit, the store is over it until what is too much was evicted or removed.
///
/// # What a full store does
///
/// In this order, until it is below its limit: frees contexts that are not in use, shrinks the
/// index, gives free frames back, compacts pools with many holes. Only then it evicts, or refuses.
/// A store that refuses does that again only once something was removed from it, or 200 ms have
/// passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AtLimit {
    /// Refuses what is to be stored, with [`ErrorKind::Full`], until it holds no more than the threshold.
    #[default]
    Refuse,
    /// Removes the blocks that were not used for the longest time.
    Evict,
}

/// Receives what was evicted: key and length.
pub(crate) type Listener<K> = Box<dyn Fn(&K, usize) + Send + Sync>;

/// How to evict.
pub(crate) struct Eviction<K> {
    pub(crate) at_limit: AtLimit,
    pub(crate) spare_dense: bool,
    pub(crate) listener: Option<Listener<K>>,
}

/// At the limit 1/64 of it is evicted at a time, but from these bounds.
const STEP_SHARE: usize = 64;
const STEP: std::ops::RangeInclusive<usize> = 64 << 10..=1 << 20;

/// A step of eviction that gave the system nothing back may suffice this far over the limit: the
/// entries that come next take the places of those that went.
const SLACK: usize = 64 << 10;

/// A step of eviction measures what the store holds after each so many entries.
const MEASURED: usize = 16;

/// A step of eviction trims at most so many of the pools that its entries were in.
const TRIMMED: usize = 8;

/// Adds a pool to those to be trimmed, if it is not among them and there is room.
fn note_pool(pools: &mut [Option<PoolRef>; TRIMMED], pool: &PoolRef) {
    for slot in pools {
        match slot {
            Some(noted) if PoolRef::same(noted, pool) => return,
            Some(_) => {}
            None => {
                *slot = Some(pool.clone());
                return;
            }
        }
    }
}

impl<K> Eviction<K> {
    #[inline]
    pub(crate) fn evicts(&self) -> bool {
        self.at_limit == AtLimit::Evict
    }
}

impl<K, S> Store<K, S> {
    /// What is evicted at a time, from a limit of `max` bytes: more than a block adds.
    fn step(&self, max: usize) -> usize {
        (max / STEP_SHARE).clamp(*STEP.start(), *STEP.end()).max(2 * self.block_size())
    }
}

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// May a block be stored in `pool`? Makes room for it where that is the policy.
    #[inline]
    pub(crate) fn admit(&self, pool: &PoolRef) -> Result<(), ErrorKind> {
        let Some(max) = self.limit().bytes() else { return Ok(()) };
        let (evicts, was_full) = (self.eviction().evicts(), self.limit().is_pressed());
        let verdict = match self.glance(max, pool, evicts)? {
            Some(Verdict::Room) => return Ok(()),
            Some(pressed) if !self.holds_what_passes(pool, max) => pressed,
            _ => {
                self.let_pass(pool, max);
                self.ask_all(max)?
            }
        };
        match verdict {
            Verdict::Room => Ok(()),
            Verdict::Pressed { .. } if evicts => Ok(()),
            Verdict::Full { .. } if evicts => self.make_room(pool, false),
            Verdict::Pressed { held } | Verdict::Full { held } => self.relieve(was_full, held),
        }
    }

    /// What the limit says at a glance; or that an allocator panicked when it was asked what it
    /// holds: then nothing is stored, and nothing older left.
    #[inline]
    fn glance(&self, max: usize, pool: &PoolRef, pays: bool) -> Result<Option<Verdict>, ErrorKind> {
        asked(|| self.limit().glance(max, pool, self.manager(), self.index().bytes(), pays))
    }

    /// What the limit says after all pools were asked.
    #[cold]
    pub(crate) fn ask_all(&self, max: usize) -> Result<Verdict, ErrorKind> {
        let (manager, index_bytes) = (self.manager(), self.index().bytes());
        asked(|| self.limit().ask_all(max, manager, index_bytes, || self.passing()))
    }

    /// Is there something that goes by itself, and so is no reason to evict: a pool that awaits
    /// destruction, or a context too large to stay idle?
    #[inline]
    fn holds_what_passes(&self, pool: &PoolRef, max: usize) -> bool {
        self.manager().pending_bytes() > 0 || pool.codec().largest_context_bytes() > max / 2
    }

    /// Lets it go.
    #[cold]
    fn let_pass(&self, pool: &PoolRef, max: usize) {
        if self.holds_what_passes(pool, max) {
            self.manager().destroy_pending();
            if !self.may_keep_one() {
                self.manager().free_idle_contexts(false);
            }
        }
    }

    /// Bytes held that are no reason to evict or refuse: [contexts in
    /// flight](Self::contexts_in_flight), and for a store that evicts, which would evict in vain
    /// for them, pools that await destruction.
    fn passing(&self) -> usize {
        let pending = if self.eviction().evicts() { self.manager().pending_bytes() } else { 0 };
        pending.saturating_add(self.contexts_in_flight())
    }

    /// What the store holds and its limit, if it is over that by more than what is
    /// [passing](Self::passing). The limit may be set anew at any time: what it is now counts, and
    /// without one there is room.
    fn over(&self, pool: &PoolRef) -> Result<Option<(usize, usize)>, ErrorKind> {
        let Some(max) = self.limit().bytes() else { return Ok(None) };
        let verdict = match self.glance(max, pool, true)? {
            Some(verdict) => verdict,
            None => self.ask_all(max)?,
        };
        match verdict {
            Verdict::Full { held } => Ok(Some((held, max))),
            _ => {
                self.limit().caught_up();
                Ok(None)
            }
        }
    }

    /// Frees unused memory, then evicts, until the store is below its limit. Needs no memory
    /// itself.
    ///
    /// While the store is over a limit that was lowered, it evicts one step, which is more than a
    /// block adds, and leaves the rest to the stores after it; unless it is to bring the store
    /// below the limit `at_once`.
    #[cold]
    fn make_room(&self, pool: &PoolRef, at_once: bool) -> Result<(), ErrorKind> {
        self.manager().destroy_pending();
        let Some(_mark) = Mark::set(self.eviction()) else {
            return self.over(pool)?.map_or(Ok(()), |(held, limit)| Err(self.full(held, limit)));
        };
        might_block("evicting");
        let Some(max) = self.limit().bytes() else { return Ok(()) };
        let step = self.step(max);
        let in_steps = || !at_once && self.limit().is_catching_up();
        if !in_steps() && self.room_without_eviction(pool, max, step)? {
            return Ok(());
        }
        loop {
            let before = self.held_exactly()?;
            let freed = self.evict_step(step);
            // Retired pools that have become empty.
            self.manager().destroy_pending();
            if freed > 0 && in_steps() {
                catch(|| pool.zpool().trim());
                self.over(pool)?;
                return Ok(());
            }
            let over = self.over_after_giving_back(pool, freed > 0, Reach::Some)?;
            let Some((held, limit)) = over else { return Ok(()) };
            if freed > 0 && held < before {
                continue;
            }
            if freed > 0 && held < limit.saturating_add(SLACK) {
                return Ok(());
            }
            // Without success so far: all pools are asked before more goes.
            match self.over_after_giving_back(pool, freed > 0, Reach::All)? {
                None => return Ok(()),
                // What stores in flight compress with is theirs: this one waits for it in their
                // line.
                Some((held, limit))
                    if freed == 0
                        && held.saturating_sub(self.manager().compression_context_bytes())
                            < limit =>
                {
                    return Ok(());
                }
                Some((held, limit)) if freed == 0 => return Err(self.full(held, limit)),
                Some(_) => {}
            }
        }
    }

    /// What the store is over its limit by after a step of eviction, and after giving back what
    /// that left behind.
    fn over_after_giving_back(
        &self,
        pool: &PoolRef,
        evicted: bool,
        reach: Reach,
    ) -> Result<Option<(usize, usize)>, ErrorKind> {
        // If there was nothing to evict it is contexts after all: all that are idle go.
        self.give_back(if evicted { Contexts::KeepOne } else { Contexts::Free }, reach);
        if self.over(pool)?.is_none() {
            return Ok(None);
        }
        // Holes in frames that others use: the objects have to move.
        self.fill_holes(0, reach);
        self.over(pool)
    }

    fn held_exactly(&self) -> Result<usize, ErrorKind> {
        asked(|| self.limit().held(self.manager(), self.index().bytes()))
    }

    /// Frees unused memory until a step below the limit. Returns false if that is not enough.
    fn room_without_eviction(
        &self,
        pool: &PoolRef,
        max: usize,
        step: usize,
    ) -> Result<bool, ErrorKind> {
        // Less would not last: the next store would be here again.
        let enough = |over: Option<(usize, usize)>| over.is_none() && self.has_room_for(step, max);
        let sweeps = self.limit().may_sweep() || !self.may_keep_one();
        let contexts = if sweeps { Contexts::KeepOne } else { Contexts::Keep };
        self.give_back(contexts, Reach::Some);
        if enough(self.over(pool)?) {
            return Ok(true);
        }
        self.fill_holes(step, Reach::Some);
        Ok(enough(self.over(pool)?))
    }

    /// Is the store so many bytes below its limit?
    fn has_room_for(&self, bytes: usize, max: usize) -> bool {
        let passing = self.passing();
        self.held_exactly()
            .map(|held| held.saturating_sub(passing.max(self.passing())))
            .is_ok_and(|held| held.saturating_add(bytes) <= max)
    }

    /// Evicts entries that cost `step` bytes together, or fewer if the store holds so much less
    /// already: what an entry really frees depends on its neighbours. Trims the pools they were in.
    /// Returns what they cost: 0 when there are none.
    fn evict_step(&self, step: usize) -> usize {
        let enough = self.held_exactly().map_or(0, |held| held.saturating_sub(step));
        let mut trimmed = [const { None }; TRIMMED];
        let (mut freed, mut evicted) = (0, 0usize);
        while freed < step
            && let Some((key, stored)) = self.index().take_coldest(self.eviction().spare_dense)
        {
            if let Some(pool) = stored.pool() {
                note_pool(&mut trimmed, pool);
            }
            freed += self.cost(&stored);
            self.tell((key, stored));
            evicted += 1;
            if evicted.is_multiple_of(MEASURED)
                && self.held_exactly().is_ok_and(|held| held <= enough)
            {
                break;
            }
        }
        for pool in trimmed.into_iter().flatten() {
            catch(|| pool.zpool().trim());
        }
        freed
    }

    /// After a block that costs `added` bytes was stored in the place of one that cost `replaced`: while the store is pressed, as much has to go; in the long run no more,
    /// however large the blocks are that go.
    #[inline]
    pub(crate) fn pay(&self, added: usize, replaced: usize) {
        if added != replaced && self.is_paying() {
            self.pay_now(added as isize - replaced as isize);
        }
    }

    #[cold]
    fn pay_now(&self, grown: isize) {
        // Blocks stored from inside an eviction listener do not evict. Otherwise a listener that
        // stores the evicted block again would recurse for ever.
        let Some(_mark) = Mark::set(self.eviction()) else { return };
        let mut owed = self.limit().owe(grown);
        while owed > 0 {
            match self.evict_one() {
                Some(cost) => owed = self.limit().owe(-(cost as isize)),
                None => return self.limit().forgive(),
            }
        }
    }

    /// Evicts the coldest entry. Returns what it cost; `None` when there is none.
    fn evict_one(&self) -> Option<usize> {
        let (key, stored) = self.index().take_coldest(self.eviction().spare_dense)?;
        let cost = self.cost(&stored);
        self.tell((key, stored));
        Some(cost)
    }

    /// Frees what was evicted, and then tells the listener. A listener that panics is counted, and that is all.
    fn tell(&self, (key, stored): Item<K>) {
        let len = stored.len();
        self.free(stored);
        let told = catch(|| {
            if let Some(listener) = &self.eviction().listener {
                listener(&key, len);
            }
            drop(key);
        });
        if told.is_none() {
            self.counters().listener_panicked();
        }
    }

    /// Sets another limit in bytes, or none (`usize::MAX` is none).
    ///
    /// If a store that evicts holds more, this evicts until it holds less, on the calling thread:
    /// it may block, for as long as that takes. Stores of other threads go on meanwhile, each of
    /// which evicts 1/64 of the limit (64 KiB to 1 MiB, two blocks at least) for its own block. A
    /// store that refuses evicts nothing: it is full until it holds less. The bound for
    /// [contexts](AtLimit) changes with the limit.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Full`] when what cannot be evicted (contexts in use, the shards of the index)
    /// is over the limit by itself. The new limit holds in any case.
    pub fn set_limit(&self, bytes: Option<usize>) -> Result<(), ErrorKind> {
        self.limit().set(bytes);
        self.manager().set_max_context_bytes(self.limit().max_context_bytes());
        let (Some(pool), true) = (self.manager().current(), self.eviction().evicts()) else {
            return Ok(());
        };
        if !self.may_keep_one() {
            self.manager().free_idle_contexts(false);
        }
        match self.over(&pool)? {
            Some(_) => self.make_room(&pool, true),
            None => Ok(()),
        }
    }
}

impl<K, S> Store<K, S> {
    /// Does what is stored now have to make room for itself?
    #[inline]
    fn is_paying(&self) -> bool {
        // The flag may be left over from a limit that there was.
        self.limit().is_pressed() && self.limit().bytes().is_some() && self.eviction().evicts()
    }

    /// Frees an item that its owner removed, and credits its cost to the eviction debt, so that
    /// alternating stores and removals evict nothing. A store that refuses learns that it may have
    /// room again.
    #[inline]
    pub(crate) fn removed(&self, item: Option<Item<K>>) -> bool {
        if let Some((_, stored)) = &item
            && self.limit().is_pressed()
        {
            if self.is_paying() {
                self.limit().owe(-(self.cost(stored) as isize));
            }
            let removed = self.discard(item);
            self.limit().note_removed();
            return removed;
        }
        self.discard(item)
    }
}

impl<K> fmt::Debug for Eviction<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Eviction")
            .field("at_limit", &self.at_limit)
            .field("spare_dense", &self.spare_dense)
            .field("listener", &self.listener.is_some())
            .finish()
    }
}

#[cfg(all(test, not(zpool_loom), feature = "zsmalloc", feature = "lz4"))]
mod tests {
    use super::*;

    /// A store that saw the limit just before it was taken away notes that it was reached, just after: nobody would ever strike that out.
    #[test]
    fn a_limit_that_is_gone_evicts_nothing_whatever_it_left_behind() {
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
        (0..400).for_each(|key| store.store(key, &block()).unwrap());
        let (evicted, len) = (store.stats().evicted, store.len());
        assert!(evicted > 0 && store.limit().is_pressed(), "the limit was reached");
        store.limit().set(None);
        store.limit().set_full(false, true);
        (1000..1400).for_each(|key| store.store(key, &block()).unwrap());
        assert_eq!((store.stats().evicted, store.len()), (evicted, len + 400));
        store.set_limit(Some(64 << 20)).unwrap();
        (2000..2100).for_each(|key| store.store(key, &block()).unwrap());
        assert_eq!((store.stats().evicted, store.limit().is_pressed()), (evicted, false));
    }
}
