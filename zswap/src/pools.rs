//! The pools that a shard's entries are in: one counted reference for all entries of a pool, and how many these are.
//!
//! An entry names its pool by a number of eleven bits in this list, instead of holding a reference of eight bytes. The reference that the list holds keeps the
//! pool as long as an entry of the shard is in it. References that become superfluous are handed out, to be dropped when the shard's lock is free.

use zpool_core::PoolId;
use zpool_manager::PoolRef;

use crate::entry::Place;

/// A pool in use.
#[derive(Debug)]
struct Used {
    pool: PoolRef,
    entries: u32,
}

/// The list. Numbers are reused once no entry has them.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    /// Nearly always there is one, or two after a switch: found without another look at memory.
    first: [Option<Used>; FIRST],
    more: Vec<Option<Used>>,
}

const FIRST: usize = 2;

impl Pools {
    /// The pool of this number, which an entry has.
    #[inline]
    pub(crate) fn get(&self, number: u16) -> &PoolRef {
        &self.used(number).expect("an entry's pool is in the list").pool
    }

    /// One more entry in `pool`: its number, and the reference if that was not needed. `bytes` grows as the list does.
    ///
    /// # Errors
    ///
    /// Gives the reference back when the shard's entries are in too many pools, or there is no memory.
    #[inline]
    pub(crate) fn enter(
        &mut self,
        pool: PoolRef,
        bytes: &mut usize,
    ) -> Result<(u16, Option<PoolRef>), PoolRef> {
        for (place, number) in self.first.iter_mut().chain(&mut self.more).zip(0..) {
            if let Some(used) = place
                && PoolRef::same(&used.pool, &pool)
            {
                used.entries += 1;
                return Ok((number, Some(pool)));
            }
        }
        self.add(pool, bytes).map(|number| (number, None))
    }

    #[cold]
    fn add(&mut self, pool: PoolRef, bytes: &mut usize) -> Result<u16, PoolRef> {
        let free = self.first.iter_mut().chain(&mut self.more).zip(0..).find(|(used, _)| used.is_none());
        let used = Used { pool, entries: 1 };
        if let Some((place, number)) = free {
            *place = Some(used);
            return Ok(number);
        }
        let number = FIRST + self.more.len();
        let before = self.bytes();
        if number == Place::MAX_POOLS || self.more.try_reserve(1).is_err() {
            return Err(used.pool);
        }
        *bytes += self.bytes() - before;
        self.more.push(Some(used));
        Ok(number as u16)
    }

    /// One entry less in the pool of this number: a reference, for the entry to be freed with.
    #[inline]
    pub(crate) fn leave(&mut self, number: u16) -> PoolRef {
        self.one_less(number).unwrap_or_else(|| self.get(number).clone())
    }

    /// The same where the caller has a reference to that pool already: gives the list's own, if it is not needed any more.
    #[inline]
    pub(crate) fn one_less(&mut self, number: u16) -> Option<PoolRef> {
        let place = self.place(number);
        let used = place.as_mut().expect("an entry's pool is in the list");
        used.entries -= 1;
        if used.entries > 0 { None } else { place.take().map(|used| used.pool) }
    }

    /// Pools with how many entries are in each.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (PoolId, usize)> {
        self.first.iter().chain(&self.more).flatten().map(|used| (used.pool.id(), used.entries as usize))
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        self.more.capacity() * size_of::<Option<Used>>()
    }

    fn used(&self, number: u16) -> Option<&Used> {
        let number = usize::from(number);
        match self.first.get(number) {
            Some(used) => used.as_ref(),
            None => self.more.get(number - FIRST)?.as_ref(),
        }
    }

    fn place(&mut self, number: u16) -> &mut Option<Used> {
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
        let (mut list, mut bytes, mut numbers) = (Pools::default(), 0, Vec::new());
        for chain in 1..=8 {
            manager.switch(&format!("zsmalloc(chain={chain})+lz4").parse().unwrap()).unwrap();
            let pool = manager.current().unwrap();
            let (number, spare) = list.enter(pool.clone(), &mut bytes).unwrap();
            assert!(spare.is_none() && PoolRef::same(list.get(number), &pool));
            let (again, spare) = list.enter(pool, &mut bytes).unwrap();
            assert_eq!((again, spare.is_some()), (number, true));
            assert_eq!((bytes, bytes > 0), (list.bytes(), chain > FIRST));
            numbers.push(number);
        }
        assert_eq!(numbers, (0..8).collect::<Vec<u16>>());
        let held = bytes;
        assert!(list.one_less(5).is_none());
        let last = list.one_less(5).expect("nobody needs it any more");
        assert_eq!(list.entries().count(), 7);
        assert_eq!(list.enter(last, &mut bytes).unwrap().0, 5);
        assert_eq!((bytes, list.bytes()), (held, held));
    }
}
