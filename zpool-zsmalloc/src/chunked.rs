//! A table that grows and never moves what is in it, so that it can be read without a lock: two loads that depend on each other.
//!
//! ```text
//!   level     0                1                 2               level l has 8 chunks of 8 << l entries; together 64 << l
//!   chunks  | 8 pointers     | 8 pointers      | 8 pointers ...  in one array
//!              │                │                 not yet allocated: null
//!              ▼                ▼
//!            | 8 entries      | 16 entries
//! ```
//!
//! Chunks grow with the table, so there are few; each is at most an eighth of what was there, so on average a sixteenth of the table is unused.

use core::fmt;
use core::marker::PhantomData;
use core::ptr::{self, NonNull};

use zpool_core::internal::sync::atomic::{AtomicPtr, Ordering};

use crate::few::boxed_defaults;

/// Entries of level 0, and its logarithm.
const FIRST: u32 = 1 << FIRST_BITS;
const FIRST_BITS: u32 = 6;
const CHUNKS: usize = 1 << CHUNK_BITS;
const CHUNK_BITS: u32 = 3;
/// Entries of the shortest chunk, which divide those of every other.
pub(crate) const SHORTEST_CHUNK: u32 = FIRST >> CHUNK_BITS;
const LEVELS: usize = 22;
const _: () = assert!(FIRST_BITS > CHUNK_BITS, "a chunk has entries");

/// Entries that fit a table.
pub(crate) const CAPACITY: u32 = FIRST * ((1 << LEVELS) - 1);

/// The table. Indices are dense from 0; who hands them out is another's business.
pub(crate) struct Chunked<T> {
    /// # Invariants
    ///
    /// 1. Null, or the slice of a box of as many entries as a chunk at that place has ([`Position::chunk_len`]); the table owns it, and it stays until the
    ///    table is dropped.
    chunks: [AtomicPtr<T>; LEVELS * CHUNKS],
    owned: PhantomData<Box<[T]>>,
}

impl<T: Default> Chunked<T> {
    /// An empty table, which has allocated nothing.
    pub(crate) fn new() -> Chunked<T> {
        let chunks = core::array::from_fn(|_| AtomicPtr::new(ptr::null_mut()));
        Chunked { chunks, owned: PhantomData }
    }

    /// The entry, if its chunk was made.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        let at = Position::of(index)?;
        // Acquire: pairs with the Release in `ensure`: the entries are there.
        let chunk = NonNull::new(self.chunks.get(at.chunk)?.load(Ordering::Acquire))?;
        // SAFETY: invariant 1, and a position's offset is below its chunk's length.
        let entry = unsafe { chunk.add(at.offset) };
        // SAFETY: as above; entries are only shared, and live as long as the table.
        Some(unsafe { entry.as_ref() })
    }

    /// Makes the chunk of `index` if no other thread has. Returns the bytes that this call
    /// allocated, or `None` if the heap refuses.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`CAPACITY`].
    pub(crate) fn ensure(&self, index: u32) -> Option<usize> {
        let at = Position::of(index).expect("an index below the table's capacity");
        let place = &self.chunks[at.chunk];
        // Relaxed: only whether it is there; who uses it loads it again.
        if !place.load(Ordering::Relaxed).is_null() {
            return Some(0);
        }
        let entries: Box<[T]> = boxed_defaults(at.chunk_len())?;
        let bytes = size_of_val::<[T]>(&entries);
        let made = Box::into_raw(entries).cast::<T>();
        // Release: pairs with the Acquire in `get`. Relaxed on failure: somebody was faster, and what he made is not looked at.
        match place.compare_exchange(ptr::null_mut(), made, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => Some(bytes),
            Err(_) => {
                // SAFETY: made above, of this length, and never shared.
                unsafe { drop_chunk(made, at.chunk_len()) };
                Some(0)
            }
        }
    }
}

impl<T> Drop for Chunked<T> {
    fn drop(&mut self) {
        for (chunk, place) in self.chunks.iter().enumerate() {
            // Relaxed: dropped by one who has it alone.
            let made = place.load(Ordering::Relaxed);
            if !made.is_null() {
                // SAFETY: invariant 1; the table goes.
                unsafe { drop_chunk(made, Position { chunk, offset: 0 }.chunk_len()) };
            }
        }
    }
}

impl<T> fmt::Debug for Chunked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made =
            self.chunks.iter().filter(|place| !place.load(Ordering::Relaxed).is_null()).count();
        f.debug_struct("Chunked").field("chunks", &made).finish_non_exhaustive()
    }
}

/// Drops a chunk.
///
/// # Safety
///
/// 1. `entries` is what a box of a slice of `len` entries was turned into, and nobody uses it afterwards.
unsafe fn drop_chunk<T>(entries: *mut T, len: usize) {
    let slice = ptr::slice_from_raw_parts_mut(entries, len);
    // SAFETY: (1).
    drop(unsafe { Box::from_raw(slice) });
}

struct Position {
    /// Place among all chunks; beyond the last one for an index that is too large.
    chunk: usize,
    offset: usize,
}

impl Position {
    #[inline]
    fn of(index: u32) -> Option<Position> {
        // Level l begins at index FIRST * (2^l - 1), so at 2^(l + FIRST_BITS) once FIRST is added: the level is the top bit, the chunk the next ones.
        let shifted = index.checked_add(FIRST)?;
        let bits = shifted.ilog2();
        let chunk_bits = bits - CHUNK_BITS;
        let level = (bits - FIRST_BITS) as usize;
        let chunk = level * CHUNKS + ((shifted >> chunk_bits) as usize & (CHUNKS - 1));
        let offset = (shifted & ((1 << chunk_bits) - 1)) as usize;
        Some(Position { chunk, offset })
    }

    /// Entries of the chunk: more than any offset in it.
    fn chunk_len(&self) -> usize {
        (FIRST as usize >> CHUNK_BITS) << (self.chunk / CHUNKS)
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
            bytes += table.ensure(i).unwrap();
            table.get(i).unwrap().store(i + 1, Ordering::Relaxed);
        }
        let first: *const AtomicU32 = table.get(0).unwrap();
        assert!((0..5_000).all(|i| table.get(i).unwrap().load(Ordering::Relaxed) == i + 1));
        assert!(std::ptr::eq(first, table.get(0).unwrap()));
        assert!((20_000..24_600).contains(&bytes), "{bytes} bytes for 5000 entries of 4");
    }

    #[test]
    fn the_capacity_is_where_the_last_level_ends() {
        let last = Position::of(CAPACITY - 1).unwrap();
        assert_eq!((last.chunk, last.offset), (LEVELS * CHUNKS - 1, last.chunk_len() - 1));
        assert!(
            Position::of(CAPACITY).unwrap().chunk >= LEVELS * CHUNKS
                && Position::of(u32::MAX).is_none()
        );
        let table = Chunked::<u8>::new();
        assert!(table.get(CAPACITY).is_none() && table.get(u32::MAX).is_none());
    }
}
