//! A table that grows and never moves what is in it, so that it can be read without a lock.
//!
//! ```text
//!   levels   [0]──► 8 chunks of 8       level l has 8 chunks of 8 << l entries; together 64 << l
//!            [1]──► 8 chunks of 16
//!            [2]──► 8 chunks of 32      a chunk ──► | entry | entry | ...
//!            [3]    not yet allocated
//! ```
//!
//! Chunks grow with the table, so there are few; each is at most an eighth of what was there, so on average a sixteenth of the table is unused.

use std::sync::OnceLock;

/// Entries of level 0, and its logarithm.
const FIRST: u32 = 1 << FIRST_BITS;
const FIRST_BITS: u32 = 6;
const CHUNKS: usize = 8;
const CHUNK_BITS: u32 = 3;
const LEVELS: usize = 22;
const _: () = assert!(CHUNKS == 1 << CHUNK_BITS && FIRST_BITS > CHUNK_BITS, "a chunk has entries");

/// Entries that fit a table.
pub(crate) const CAPACITY: u32 = FIRST * ((1 << LEVELS) - 1);

type Level<T> = [OnceLock<Box<[T]>>; CHUNKS];

/// The table. Indices are dense from 0; who hands them out is another's business.
#[derive(Debug)]
pub(crate) struct Chunked<T> {
    levels: [OnceLock<Box<Level<T>>>; LEVELS],
}

impl<T: Default> Chunked<T> {
    /// An empty table, which has allocated nothing.
    pub(crate) fn new() -> Chunked<T> {
        Chunked { levels: [const { OnceLock::new() }; LEVELS] }
    }

    /// The entry, if its chunk was made.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        let at = Position::of(index)?;
        self.levels[at.level].get()?[at.chunk].get()?.get(at.offset)
    }

    /// Makes the chunk of `index` if nobody has. Gives the bytes that this call allocated.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`CAPACITY`].
    pub(crate) fn ensure(&self, index: u32) -> usize {
        let at = Position::of(index).expect("an index below the table's capacity");
        let mut allocated = 0;
        let level = self.levels[at.level].get_or_init(|| {
            allocated += size_of::<Level<T>>();
            Box::new([const { OnceLock::new() }; CHUNKS])
        });
        level[at.chunk].get_or_init(|| {
            let entries = at.chunk_len();
            allocated += entries * size_of::<T>();
            (0..entries).map(|_| T::default()).collect()
        });
        allocated
    }
}

struct Position {
    level: usize,
    chunk: usize,
    offset: usize,
}

impl Position {
    #[inline]
    fn of(index: u32) -> Option<Position> {
        // Level l begins at index FIRST * (2^l - 1), so at 2^(l + FIRST_BITS) once FIRST is added: the level is the top bit.
        let shifted = index.checked_add(FIRST)?;
        let bits = shifted.ilog2();
        let level = (bits - FIRST_BITS) as usize;
        if level >= LEVELS {
            return None;
        }
        let chunk_bits = bits - CHUNK_BITS;
        let chunk = (shifted >> chunk_bits) as usize & (CHUNKS - 1);
        let offset = (shifted & ((1 << chunk_bits) - 1)) as usize;
        Some(Position { level, chunk, offset })
    }

    fn chunk_len(&self) -> usize {
        (FIRST as usize >> CHUNK_BITS) << self.level
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn every_index_has_a_place_of_its_own_that_stays() {
        let table = Chunked::<AtomicU32>::new();
        assert!(table.get(0).is_none());
        let mut bytes = 0;
        for i in 0..5_000 {
            bytes += table.ensure(i);
            table.get(i).unwrap().store(i + 1, Ordering::Relaxed);
        }
        let first: *const AtomicU32 = table.get(0).unwrap();
        assert!((0..5_000).all(|i| table.get(i).unwrap().load(Ordering::Relaxed) == i + 1));
        assert!(std::ptr::eq(first, table.get(0).unwrap()));
        assert!((20_000..24_600).contains(&bytes), "{bytes} bytes for 5000 entries of 4");
    }

    #[test]
    fn the_capacity_is_where_the_last_level_ends() {
        assert!(Position::of(CAPACITY - 1).is_some());
        assert!(Position::of(CAPACITY).is_none() && Position::of(u32::MAX).is_none());
        let last = Position::of(CAPACITY - 1).unwrap();
        assert_eq!((last.level, last.chunk, last.offset), (LEVELS - 1, CHUNKS - 1, last.chunk_len() - 1));
    }
}
