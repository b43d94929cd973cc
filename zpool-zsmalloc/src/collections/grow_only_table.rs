//! A grow-only segmented table. Entries never move, so a reader needs no lock, only two dependent
//! loads.
//!
//! ```text
//!   level     0                1                 2               level l has 8 chunks of
//!   chunks  | 8 pointers     | 8 pointers      | 8 pointers ...  8 << l entries; together 64 << l
//!              │                │                 not yet allocated: null
//!              ▼                ▼
//!            | 8 entries      | 16 entries
//! ```
//!
//! Chunks grow with the table, so there are few of them. In a large table each is 1/15 to 1/8 of
//! the entries before it, so at most 1/9 of the table is unused; in one of some hundred entries it
//! may be more.

use core::fmt;
use core::marker::PhantomData;
use core::ptr::{self, NonNull};

use zpool_core::internal::sync::atomic::{AtomicPtr, Ordering};

use super::fallible::try_boxed_defaults;

/// Entries of level 0, and their logarithm.
const FIRST: u32 = 1 << FIRST_BITS;
const FIRST_BITS: u32 = 6;
const CHUNKS: usize = 1 << CHUNK_BITS;
const CHUNK_BITS: u32 = 3;
/// Entries of the shortest chunk. Every chunk has a multiple of them.
pub(crate) const SHORTEST_CHUNK: u32 = FIRST >> CHUNK_BITS;
const LEVELS: usize = 22;
const _: () = assert!(FIRST_BITS > CHUNK_BITS, "a chunk has entries");

/// The most entries that a table can have.
pub(crate) const CAPACITY: u32 = FIRST * ((1 << LEVELS) - 1);

/// The table. Its owner assigns the indices, which are dense from 0.
pub(crate) struct GrowOnlyTable<T> {
    /// # Invariants
    ///
    /// 1. A pointer is null, or points to the slice of a box with as many entries as a chunk has
    ///    in that place ([`TablePosition::chunk_len`]). The table owns the box until the table is
    ///    dropped.
    chunks: [AtomicPtr<T>; LEVELS * CHUNKS],
    owned: PhantomData<Box<[T]>>,
}

impl<T: Default> GrowOnlyTable<T> {
    /// Returns an empty table. It has allocated nothing.
    pub(crate) fn new() -> GrowOnlyTable<T> {
        let chunks = core::array::from_fn(|_| AtomicPtr::new(ptr::null_mut()));
        GrowOnlyTable { chunks, owned: PhantomData }
    }

    /// Returns the entry, if its chunk was allocated.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        let at = TablePosition::of(index)?;
        // Acquire: pairs with the Release in `ensure`, so the entries are initialized.
        let chunk = NonNull::new(self.chunks.get(at.chunk)?.load(Ordering::Acquire))?;
        // SAFETY: invariant 1, and a position's offset is below its chunk's length.
        let entry = unsafe { chunk.add(at.offset) };
        // SAFETY: as above; entries are only shared, and live as long as the table.
        Some(unsafe { entry.as_ref() })
    }

    /// Allocates the chunk of `index`, if no other thread has. Returns the bytes that this call
    /// allocated, or `None` if the heap refuses.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`CAPACITY`].
    pub(crate) fn ensure(&self, index: u32) -> Option<usize> {
        let at = TablePosition::of(index).expect("an index below the table's capacity");
        let place = &self.chunks[at.chunk];
        // Relaxed: a test for null only; a user loads the pointer again.
        if !place.load(Ordering::Relaxed).is_null() {
            return Some(0);
        }
        let entries: Box<[T]> = try_boxed_defaults(at.chunk_len())?;
        let bytes = size_of_val::<[T]>(&entries);
        let made = Box::into_raw(entries).cast::<T>();
        // Release: pairs with the Acquire in `get`. Relaxed on failure: another thread was faster,
        // and this call does not look at what that thread made.
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

impl<T> Drop for GrowOnlyTable<T> {
    fn drop(&mut self) {
        for (chunk, place) in self.chunks.iter().enumerate() {
            // Relaxed: the dropping thread has the table alone.
            let made = place.load(Ordering::Relaxed);
            if !made.is_null() {
                // SAFETY: invariant 1; the table is being dropped.
                unsafe { drop_chunk(made, TablePosition { chunk, offset: 0 }.chunk_len()) };
            }
        }
    }
}

impl<T> fmt::Debug for GrowOnlyTable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made =
            self.chunks.iter().filter(|place| !place.load(Ordering::Relaxed).is_null()).count();
        f.debug_struct("GrowOnlyTable").field("chunks", &made).finish_non_exhaustive()
    }
}

/// Drops a chunk.
///
/// # Safety
///
/// 1. `entries` came from a box of a slice of `len` entries, and is not used afterwards.
unsafe fn drop_chunk<T>(entries: *mut T, len: usize) {
    let slice = ptr::slice_from_raw_parts_mut(entries, len);
    // SAFETY: (1).
    drop(unsafe { Box::from_raw(slice) });
}

struct TablePosition {
    /// Place among all chunks. Beyond the last one if the index is too large.
    chunk: usize,
    offset: usize,
}

impl TablePosition {
    #[inline]
    fn of(index: u32) -> Option<TablePosition> {
        // Level l begins at index FIRST * (2^l - 1), which is 2^(l + FIRST_BITS) once FIRST is
        // added. So the top bit is the level, and the next bits are the chunk.
        let shifted = index.checked_add(FIRST)?;
        let bits = shifted.ilog2();
        let chunk_bits = bits - CHUNK_BITS;
        let level = (bits - FIRST_BITS) as usize;
        let chunk = level * CHUNKS + ((shifted >> chunk_bits) as usize & (CHUNKS - 1));
        let offset = (shifted & ((1 << chunk_bits) - 1)) as usize;
        Some(TablePosition { chunk, offset })
    }

    /// Returns the entries of the chunk, which are more than any offset in it.
    fn chunk_len(&self) -> usize {
        (FIRST as usize >> CHUNK_BITS) << (self.chunk / CHUNKS)
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Every index has an entry of its own, and entries stay where they are while the table grows.
    #[test]
    fn get_after_growth_returns_same_entry() {
        let table = GrowOnlyTable::<AtomicU32>::new();
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

    /// The capacity is exactly where the last level ends.
    #[test]
    fn position_of_capacity_is_past_last_level() {
        let last = TablePosition::of(CAPACITY - 1).unwrap();
        assert_eq!((last.chunk, last.offset), (LEVELS * CHUNKS - 1, last.chunk_len() - 1));
        assert!(
            TablePosition::of(CAPACITY).unwrap().chunk >= LEVELS * CHUNKS
                && TablePosition::of(u32::MAX).is_none()
        );
        let table = GrowOnlyTable::<u8>::new();
        assert!(table.get(CAPACITY).is_none() && table.get(u32::MAX).is_none());
    }
}
