//! The pools that a shard's entries are in: one counted reference for all entries of a pool, and
//! how many these are.
//!
//! An entry names its pool by a number of nine bits in this list, instead of holding a reference
//! of eight bytes. The reference that the list holds keeps the pool as long as an entry of the
//! shard is in it. References that become superfluous are handed out, to be dropped when the
//! shard's lock is free.

use zpool_core::PoolId;
use zpool_manager::PoolRef;

use crate::index::packed_entry::EntryState;

/// A pool in use.
#[derive(Debug)]
struct UsedPool {
    pool: PoolRef,
    entries: u32,
}

/// The list. Numbers are reused once no entry has them.
///
/// Finding a pool's number takes as long as finding a key in a sorted list, however many retired
/// pools still have entries.
#[derive(Debug, Default)]
pub(crate) struct PoolRefs {
    /// Nearly always there is one, or two after a switch: found without another look at memory.
    first: [Option<UsedPool>; FIRST],
    more: Vec<Option<UsedPool>>,
    /// For each pool in `more`, the number of its reference and its number here, sorted. It has
    /// room for all of them. A `PoolId` would not do as a key, because an allocator chooses it.
    by_ref: Vec<(usize, u16)>,
    /// Numbers in `more` without a pool. It has room for all of them.
    free: Vec<u16>,
}

const FIRST: usize = 2;

impl PoolRefs {
    /// Returns the pool of this number, which an entry has.
    #[inline]
    pub(crate) fn get(&self, number: u16) -> &PoolRef {
        &self.used(number).expect("an entry's pool is in the list").pool
    }

    /// Counts one more entry in `pool`. Returns its number, and the reference if the list has one.
    /// `bytes` grows as the list does.
    ///
    /// # Errors
    ///
    /// Returns the reference if the shard's entries are in too many pools, or if there is no
    /// memory.
    #[inline]
    pub(crate) fn acquire(
        &mut self,
        pool: PoolRef,
        bytes: &mut usize,
    ) -> Result<(u16, Option<PoolRef>), PoolRef> {
        for (place, number) in self.first.iter_mut().zip(0..) {
            if let Some(used) = place
                && PoolRef::same(&used.pool, &pool)
            {
                used.entries += 1;
                return Ok((number, Some(pool)));
            }
        }
        self.acquire_further(pool, bytes)
    }

    #[cold]
    fn acquire_further(
        &mut self,
        pool: PoolRef,
        bytes: &mut usize,
    ) -> Result<(u16, Option<PoolRef>), PoolRef> {
        if let Ok(at) = self.find(&pool) {
            let number = self.by_ref[at].1;
            let used = self.place(number).as_mut().expect("a pool with a number is in the list");
            used.entries += 1;
            return Ok((number, Some(pool)));
        }
        let before = self.bytes();
        let number = self.add(pool);
        *bytes += self.bytes() - before;
        number.map(|number| (number, None))
    }

    fn add(&mut self, pool: PoolRef) -> Result<u16, PoolRef> {
        let reference = PoolRef::number(&pool);
        let used = UsedPool { pool, entries: 1 };
        if let Some(number) = self.first.iter().position(Option::is_none) {
            self.first[number] = Some(used);
            return Ok(number as u16);
        }
        let number = match self.free.pop() {
            Some(number) => number,
            None if FIRST + self.more.len() < EntryState::MAX_POOLS && self.reserve() => {
                self.more.push(None);
                (FIRST + self.more.len() - 1) as u16
            }
            None => return Err(used.pool),
        };
        *self.place(number) = Some(used);
        let at = self.by_ref.partition_point(|&(other, _)| other < reference);
        self.by_ref.insert(at, (reference, number));
        Ok(number)
    }

    /// Makes room for one more pool in each list.
    fn reserve(&mut self) -> bool {
        let wanted = self.more.len() + 1;
        self.more.try_reserve(1).is_ok()
            && self.by_ref.try_reserve(wanted - self.by_ref.len()).is_ok()
            && self.free.try_reserve(wanted - self.free.len()).is_ok()
    }

    /// Returns the number of `pool`, if an entry is in it.
    pub(crate) fn number_of(&self, pool: &PoolRef) -> Option<u16> {
        let is_it = |used: &Option<UsedPool>| {
            used.as_ref().is_some_and(|used| PoolRef::same(&used.pool, pool))
        };
        match self.first.iter().position(is_it) {
            Some(number) => Some(number as u16),
            None => self.find(pool).ok().map(|at| self.by_ref[at].1),
        }
    }

    /// Finds `pool` in the order of references, or the place to insert it.
    fn find(&self, pool: &PoolRef) -> Result<usize, usize> {
        self.by_ref.binary_search_by_key(&PoolRef::number(pool), |&(number, _)| number)
    }

    /// Counts one entry less in the pool of this number. Returns a reference for the entry to be
    /// freed with.
    #[inline]
    pub(crate) fn release(&mut self, number: u16) -> PoolRef {
        self.release_one(number).unwrap_or_else(|| self.get(number).clone())
    }

    /// Counts one entry less, for a caller that has a reference to that pool. Returns that of the
    /// list if it was the last entry.
    #[inline]
    pub(crate) fn release_one(&mut self, number: u16) -> Option<PoolRef> {
        let place = self.place(number);
        let used = place.as_mut().expect("an entry's pool is in the list");
        used.entries -= 1;
        if used.entries > 0 {
            return None;
        }
        let pool = place.take().map(|used| used.pool)?;
        if usize::from(number) >= FIRST {
            if let Ok(at) = self.find(&pool) {
                self.by_ref.remove(at);
            }
            self.free.push(number);
        }
        Some(pool)
    }

    /// Iterates over the pools, with the number of entries in each.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (PoolId, usize)> {
        self.first
            .iter()
            .chain(&self.more)
            .flatten()
            .map(|used| (used.pool.id(), used.entries as usize))
    }

    /// Returns the bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        self.more.capacity() * size_of::<Option<UsedPool>>()
            + self.by_ref.capacity() * size_of::<(usize, u16)>()
            + self.free.capacity() * size_of::<u16>()
    }

    fn used(&self, number: u16) -> Option<&UsedPool> {
        let number = usize::from(number);
        match self.first.get(number) {
            Some(used) => used.as_ref(),
            None => self.more.get(number - FIRST)?.as_ref(),
        }
    }

    fn place(&mut self, number: u16) -> &mut Option<UsedPool> {
        let number = usize::from(number);
        if number < FIRST { &mut self.first[number] } else { &mut self.more[number - FIRST] }
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use std::sync::Arc;

    use zpool_manager::{PoolManager, Registry};

    use super::*;

    #[test]
    fn numbers_are_used_again_and_every_byte_is_counted() {
        let registry = Registry::new();
        registry.register_allocator(Arc::new(zpool_zsmalloc::ZsmallocDriver)).unwrap();
        registry.register_compressor(Arc::new(zpool_lz4::Lz4Driver)).unwrap();
        let manager = PoolManager::builder(Arc::new(registry)).build_idle().unwrap();
        let (mut list, mut bytes, mut numbers) = (PoolRefs::default(), 0, Vec::new());
        for chain in 1..=8 {
            manager.switch(&format!("zsmalloc(chain={chain})+lz4").parse().unwrap()).unwrap();
            let pool = manager.current().unwrap();
            let (number, unused_ref) = list.acquire(pool.clone(), &mut bytes).unwrap();
            assert!(unused_ref.is_none() && PoolRef::same(list.get(number), &pool));
            let (again, unused_ref) = list.acquire(pool, &mut bytes).unwrap();
            assert_eq!((again, unused_ref.is_some()), (number, true));
            assert_eq!((bytes, bytes > 0), (list.bytes(), chain > FIRST));
            numbers.push(number);
        }
        assert_eq!(numbers, (0..8).collect::<Vec<u16>>());
        let held = bytes;
        assert!(list.release_one(5).is_none());
        let last = list.release_one(5).expect("the last entry is gone");
        assert_eq!(list.entries().count(), 7);
        assert_eq!(list.acquire(last, &mut bytes).unwrap().0, 5);
        assert_eq!((bytes, list.bytes()), (held, held));
    }
}
