//! Making room: what a store does at its limit, if it was told to evict.
//!
//! ```text
//!   held      0 ─────────────────── threshold ─────────── limit
//!                                        │                  │ reached: evict a step, have the pools give frames back, look again (B7); until below
//!               ◄── room ───────────────►│◄── pressed ─────►│
//!                                                 until below the threshold: whoever adds to what is stored evicts as much in exchange
//! ```
//!
//! All of it happens in the store that adds, and under no lock: an entry is taken out of its shard, then freed, then the listener is told. What the allocators
//! give back by themselves meanwhile (zsmalloc's compaction, on the executor) brings the store below its threshold again.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, Hash};

use zpool_core::exec::contained;
use zpool_core::{CompactionBudget, might_block};
use zpool_manager::PoolRef;

use crate::error::ErrorKind;
use crate::limit::Verdict;
use crate::object::asked;
use crate::shard::Item;
use crate::store::Store;
use crate::stored::Stored;

/// What a store does when it is at its limit.
///
/// # How far over the limit
///
/// What is stored is admitted below the limit, so each store in flight may pass it by what it adds itself: its object's frames, the growth of a shard's table (a
/// 512th of the index at most) and of the allocator's tables, together at most 256 KiB (in stores of up to some two million blocks of up to 64 KiB under keys of
/// eight bytes; with longer blocks 512 KiB), and besides that a compression context where it needs a new one, and the list of a value of several blocks, 40 bytes for
/// each. So may a batch of them. Loads are never refused: a context that one of them makes counts as soon as it is there, and the next store makes room for it, or is refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AtLimit {
    /// Refuses what is to be stored, with [`ErrorKind::Full`], until it holds no more than the threshold.
    #[default]
    Refuse,
    /// Removes the blocks that were not used for the longest time.
    Evict,
}

/// Is told what was evicted.
pub(crate) type Listener<K> = Box<dyn Fn(&K, usize) + Send + Sync>;

/// How to evict.
pub(crate) struct Eviction<K> {
    pub(crate) at_limit: AtLimit,
    pub(crate) spare_dense: bool,
    pub(crate) listener: Option<Listener<K>>,
}

/// What an entry costs besides its object: its place in the index and its handle, roughly.
const ENTRY_BYTES: usize = 40;

/// At the limit a sixty-fourth of it is evicted at a time, but from these bounds.
const STEP_SHARE: usize = 64;
const STEP: std::ops::RangeInclusive<usize> = 64 << 10..=1 << 20;

/// Stores that a thread evicts from, one in a listener of the other.
const NESTED: usize = 8;

thread_local! {
    /// The stores that this thread is evicting from (addresses; 0: none): whatever it calls, a listener that stores, say, makes no more room in those. Others,
    /// a second tier for instance, make their own.
    static EVICTING: Cell<[usize; NESTED]> = const { Cell::new([0; NESTED]) };
}

/// Marks this thread as evicting from a store while it lives; there is one at a time for each store.
struct Mark {
    place: usize,
}

impl Mark {
    fn set<K>(store: &Eviction<K>) -> Option<Mark> {
        let (mut all, this) = (EVICTING.get(), std::ptr::from_ref(store).addr());
        if all.contains(&this) {
            return None;
        }
        let place = all.iter().position(|&other| other == 0)?;
        all[place] = this;
        EVICTING.set(all);
        Some(Mark { place })
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let mut all = EVICTING.get();
        all[self.place] = 0;
        EVICTING.set(all);
    }
}

impl<K> Eviction<K> {
    #[inline]
    pub(crate) fn evicts(&self) -> bool {
        self.at_limit == AtLimit::Evict
    }
}

/// What it costs to keep something.
pub(crate) fn cost(stored: &Stored) -> usize {
    stored.object_len() + ENTRY_BYTES
}

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// May a block be stored in `pool`? Makes room for it where that is the policy.
    #[inline]
    pub(crate) fn admit(&self, pool: &PoolRef) -> Result<(), ErrorKind> {
        let Some(max) = self.limit().bytes() else { return Ok(()) };
        let evicts = self.eviction().evicts();
        match self.verdict(max, pool, evicts)? {
            Verdict::Room => Ok(()),
            Verdict::Pressed { .. } if evicts => Ok(()),
            Verdict::Full { .. } if evicts => self.make_room(pool),
            Verdict::Pressed { held } | Verdict::Full { held } => Err(ErrorKind::Full { held, limit: max }),
        }
    }

    /// What the limit says; or that an allocator panicked when it was asked what it holds: then nothing is stored, and nothing older left.
    #[inline]
    fn verdict(&self, max: usize, pool: &PoolRef, pays: bool) -> Result<Verdict, ErrorKind> {
        asked(|| self.limit().ask(max, pool, self.manager(), self.index().bytes(), pays))
    }

    /// Evicts until the store is below its limit.
    #[cold]
    fn make_room(&self, pool: &PoolRef) -> Result<(), ErrorKind> {
        // The limit may be set anew meanwhile: what it is now counts, and without one there is room.
        let over = || -> Result<Option<(usize, usize)>, ErrorKind> {
            let Some(max) = self.limit().bytes() else { return Ok(None) };
            Ok(match self.verdict(max, pool, true)? {
                Verdict::Full { held } => Some((held, max)),
                _ => None,
            })
        };
        let Some(_mark) = Mark::set(self.eviction()) else {
            return over()?.map_or(Ok(()), |(held, limit)| Err(ErrorKind::Full { held, limit }));
        };
        might_block("evicting");
        loop {
            let max = self.limit().bytes().unwrap_or(usize::MAX);
            let step = (max / STEP_SHARE).clamp(*STEP.start(), *STEP.end());
            let mut pools = vec![pool.clone()];
            let mut freed = 0;
            while freed < step
                && let Some(cost) = self.evict_one(|pool| {
                    if !pools.iter().any(|known| PoolRef::same(known, pool)) {
                        pools.push(pool.clone());
                    }
                })
            {
                freed += cost;
            }
            for pool in &pools {
                contained(|| pool.zpool().trim());
            }
            if over()?.is_none() {
                return Ok(());
            }
            // Holes in frames that others use: the objects have to move.
            for pool in &pools {
                contained(|| pool.zpool().compact(CompactionBudget::UNLIMITED));
                contained(|| pool.zpool().trim());
            }
            self.index().shrink(|key| self.hash(key));
            drop(pools);
            match over()? {
                Some((held, limit)) if freed == 0 => return Err(ErrorKind::Full { held, limit }),
                Some(_) => {}
                None => return Ok(()),
            }
        }
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
        // What a listener stores is for nothing: if it stored what it is told of, there would be no end to it.
        let Some(_mark) = Mark::set(self.eviction()) else { return };
        let mut owed = self.limit().owe(grown);
        while owed > 0 {
            match self.evict_one(|_| ()) {
                Some(cost) => owed = self.limit().owe(-(cost as isize)),
                None => return self.limit().forgive(),
            }
        }
    }

    /// Evicts the coldest entry, whose pool `from` is told. Gives what it cost; `None` when there is none.
    fn evict_one(&self, from: impl FnOnce(&PoolRef)) -> Option<usize> {
        let (key, stored) = self.index().take_coldest(self.eviction().spare_dense)?;
        if let Stored::Block(block) = &stored {
            from(block.object.pool());
        }
        let cost = cost(&stored);
        self.tell((key, stored));
        Some(cost)
    }

    /// Frees what was evicted, and then tells the listener. A listener that panics is counted, and that is all.
    fn tell(&self, (key, stored): Item<K>) {
        let len = stored.len();
        self.free(stored);
        let told = contained(|| {
            if let Some(listener) = &self.eviction().listener {
                listener(&key, len);
            }
            drop(key);
        });
        if told.is_none() {
            self.counters().listener_panicked();
        }
    }

    /// Sets another limit in bytes, or none (`usize::MAX` is none). A store that evicts and holds more makes room at once, which may block; one that refuses is full until what
    /// it holds has become less.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Full`] when what cannot be evicted (contexts, the shards of the index) is over the limit by itself. The new limit holds in any case.
    pub fn set_limit(&self, bytes: Option<usize>) -> Result<(), ErrorKind> {
        self.limit().set(bytes);
        if !self.eviction().evicts() {
            return Ok(());
        }
        match self.manager().current() {
            Some(pool) => self.admit(&pool),
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

    /// Frees what its owner has removed, which pays for as much that is stored later: what comes and goes by turns evicts nothing.
    #[inline]
    pub(crate) fn removed(&self, item: Option<Item<K>>) -> bool {
        if let Some((_, stored)) = &item
            && self.is_paying()
        {
            self.limit().owe(-(cost(stored) as isize));
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
        let store = Store::<u64>::builder().limit_bytes(1 << 20).at_limit(AtLimit::Evict).build().unwrap();
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
