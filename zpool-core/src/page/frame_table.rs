//! A table of fixed length for an index: a small one on the heap, a larger one in whole frames.
//!
//! ```text
//!   bytes   0 ────────────── 8 KiB ───────────────────────────────►
//!             heap, exact            mapped frames, charged when made, returned when dropped
//! ```
//!
//! A growing table leaves holes in a heap that no later request fits. Mapped frames leave no holes,
//! and [`bytes`](FrameTable::bytes) equals what the system counts.

use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use super::{OutOfFrames, PageSource, Run};

/// Tables of at least this many bytes lie in frames. Below, half a frame of rounding would cost
/// more than the holes in the heap.
const MAPPED_FROM: usize = 8 << 10;

/// A boxed slice whose allocation can fail, and whose size in memory is known exactly.
///
/// All tables of the process take their frames from one source, so small tables share mappings.
/// Making or dropping a table that lies in frames may block.
pub struct FrameTable<T> {
    /// # Invariants
    ///
    /// 1. Points to `len` initialized values at the front of what `storage` describes: a vector's
    ///    allocation of that capacity, or a run of the table source that is used by this table
    ///    alone, is at least `len * size_of::<T>()` bytes long, and whose frames are charged.
    first: NonNull<T>,
    len: usize,
    storage: Storage,
    owns: PhantomData<T>,
}

#[derive(Debug)]
enum Storage {
    Heap { capacity: usize },
    Frames(Run),
}

// SAFETY: a table owns its values, as a boxed slice does; a run may be used by any thread.
unsafe impl<T: Send> Send for FrameTable<T> {}
// SAFETY: as above; `&FrameTable` lends `&T` only.
unsafe impl<T: Sync> Sync for FrameTable<T> {}

/// Returns the source of the frames of all tables. It is separate from the source of the pools,
/// whose charged frames must not include an index.
fn source() -> &'static dyn PageSource {
    use std::sync::OnceLock;
    #[cfg(unix)]
    type Source = super::MmapSource;
    #[cfg(not(unix))]
    type Source = super::HeapSource;
    static SOURCE: OnceLock<Source> = OnceLock::new();
    #[cfg(unix)]
    return SOURCE.get_or_init(super::MmapSource::new);
    #[cfg(not(unix))]
    return SOURCE.get_or_init(|| super::HeapSource::new(4096));
}

impl<T> FrameTable<T> {
    /// Makes an empty table, which holds no memory.
    pub const fn new() -> FrameTable<T> {
        let storage = Storage::Heap { capacity: 0 };
        FrameTable { first: NonNull::dangling(), len: 0, storage, owns: PhantomData }
    }

    /// Returns the largest length that costs no more memory than `len`: whole frames, filled up.
    pub fn filled_up(len: usize) -> usize {
        let bytes = len.saturating_mul(size_of::<T>());
        if bytes < MAPPED_FROM || !Self::lies_in_frames() {
            return len;
        }
        bytes.div_ceil(source().frame_size()).saturating_mul(source().frame_size()) / size_of::<T>()
    }

    /// Returns whether frames satisfy the alignment of the values. Otherwise tables lie on the
    /// heap.
    fn lies_in_frames() -> bool {
        align_of::<T>() <= source().frame_size()
    }

    /// Returns the bytes of memory that the table occupies.
    pub fn bytes(&self) -> usize {
        match &self.storage {
            Storage::Heap { capacity } => capacity * size_of::<T>(),
            Storage::Frames(run) => run.len(),
        }
    }
}

impl<T: Default> FrameTable<T> {
    /// Makes a table of `len` default values.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`] if the heap or the system has no memory for it.
    ///
    /// # Panics
    ///
    /// If `T` has no size, or if its `default` panics.
    pub fn try_new(len: usize) -> Result<FrameTable<T>, OutOfFrames> {
        assert!(size_of::<T>() > 0, "a table of values without a size");
        let bytes = len.checked_mul(size_of::<T>()).ok_or(OutOfFrames)?;
        if bytes < MAPPED_FROM || !Self::lies_in_frames() {
            return FrameTable::on_heap(len);
        }
        FrameTable::in_frames(len, bytes)
    }

    fn on_heap(len: usize) -> Result<FrameTable<T>, OutOfFrames> {
        let mut values = Vec::new();
        values.try_reserve_exact(len).map_err(|_| OutOfFrames)?;
        values.resize_with(len, T::default);
        let mut values = ManuallyDrop::new(values);
        let storage = Storage::Heap { capacity: values.capacity() };
        let first = NonNull::new(values.as_mut_ptr()).unwrap_or(NonNull::dangling());
        Ok(FrameTable { first, len, storage, owns: PhantomData })
    }

    fn in_frames(len: usize, bytes: usize) -> Result<FrameTable<T>, OutOfFrames> {
        let source = source();
        debug_assert!(FrameTable::<T>::lies_in_frames());
        let frames = bytes.div_ceil(source.frame_size());
        source.charge(frames)?;
        let run = match source.reserve(frames) {
            Ok(run) => run,
            Err(error) => {
                source.uncharge(frames);
                return Err(error);
            }
        };
        source.populate(&run, 0..frames);
        let first = run.base().cast::<T>();
        let mut table =
            FrameTable { first, len: 0, storage: Storage::Frames(run), owns: PhantomData };
        // One by one, so that a `default` that panics leaves a valid table of the values so far.
        while table.len < len {
            // SAFETY: `table.len < len`, and the run has room for `len` values.
            let place = unsafe { table.first.add(table.len) };
            // SAFETY: inside the run, which is ours, aligned for `T` as `try_new` found, and no
            // value is there.
            unsafe { place.write(T::default()) };
            table.len += 1;
        }
        Ok(table)
    }
}

impl<T> Deref for FrameTable<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: invariant 1; shared borrows of the table allow no write.
        unsafe { NonNull::slice_from_raw_parts(self.first, self.len).as_ref() }
    }
}

impl<T> DerefMut for FrameTable<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: invariant 1; the table is borrowed alone.
        unsafe { NonNull::slice_from_raw_parts(self.first, self.len).as_mut() }
    }
}

impl<T> Drop for FrameTable<T> {
    fn drop(&mut self) {
        /// Returns the memory, even if a value's drop panics.
        struct Memory(Storage);
        impl Drop for Memory {
            fn drop(&mut self) {
                if let Storage::Frames(run) =
                    core::mem::replace(&mut self.0, Storage::Heap { capacity: 0 })
                {
                    let frames = run.len() / source().frame_size();
                    // SAFETY: (1) a run of this source (invariant 1 of `first`); (2) its only
                    // user is being dropped, and its values are gone.
                    unsafe { source().release(run) };
                    source().uncharge(frames);
                }
            }
        }
        match core::mem::replace(&mut self.storage, Storage::Heap { capacity: 0 }) {
            Storage::Heap { capacity } => {
                // SAFETY: invariant 1: these are the parts of a vector, which nothing else owns.
                drop(unsafe { Vec::from_raw_parts(self.first.as_ptr(), self.len, capacity) });
            }
            frames => {
                let _memory = Memory(frames);
                let values = NonNull::slice_from_raw_parts(self.first, self.len);
                // SAFETY: `len` initialized values (invariant 1), which nothing uses after this.
                unsafe { values.drop_in_place() };
            }
        }
    }
}

impl<T> Default for FrameTable<T> {
    fn default() -> Self {
        FrameTable::new()
    }
}

impl<T> fmt::Debug for FrameTable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameTable")
            .field("len", &self.len)
            .field("storage", &self.storage)
            .finish()
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Tables on both sides of the bound keep their values and report their bytes.
    #[test]
    fn tables_of_any_length_keep_values() {
        let frame = source().frame_size();
        for len in [0, 1, 100, MAPPED_FROM / 8 - 1, MAPPED_FROM / 8, 10_000, 1 << 17] {
            let mut table = FrameTable::<u64>::try_new(len).unwrap();
            assert_eq!((table.len(), table.iter().sum::<u64>()), (len, 0));
            (0..len).for_each(|at| table[at] = at as u64);
            assert!((0..len).all(|at| table[at] == at as u64));
            let exact = len * 8;
            let held = if exact < MAPPED_FROM { exact } else { exact.next_multiple_of(frame) };
            assert_eq!(table.bytes(), held);
            let full = FrameTable::<u64>::filled_up(len);
            assert_eq!(FrameTable::<u64>::try_new(full).unwrap().bytes(), held);
        }
    }

    /// Values that are more aligned than a frame lie on the heap, whatever their number.
    #[test]
    fn values_over_frame_alignment_lie_on_heap() {
        #[derive(Default)]
        #[repr(align(8192))]
        struct Aligned(u64);
        for len in [1, 2, 100] {
            let mut table =
                FrameTable::<Aligned>::try_new(FrameTable::<Aligned>::filled_up(len)).unwrap();
            assert_eq!((table.len(), table.bytes()), (len, len * 8192));
            (0..len).for_each(|at| table[at].0 = at as u64);
            assert!((0..len).all(|at| table[at].0 == at as u64));
            assert_eq!(table.as_ptr().addr() % 8192, 0);
        }
    }

    /// A length that no address space holds is an error.
    #[test]
    fn absurd_length_is_error() {
        assert!(FrameTable::<u64>::try_new(usize::MAX).is_err());
        assert!(FrameTable::<u64>::try_new(usize::MAX / 16).is_err());
    }

    /// Every value is dropped once, in frames and on the heap, even if one of them panics.
    #[test]
    fn drop_that_panics_drops_the_rest() {
        #[derive(Default)]
        struct Value(Option<(Arc<AtomicUsize>, bool)>);
        impl Drop for Value {
            fn drop(&mut self) {
                if let Some((dropped, panics)) = &self.0 {
                    dropped.fetch_add(1, Ordering::Relaxed);
                    assert!(!panics, "a value that panics when it is dropped");
                }
            }
        }
        for len in [10, 5_000] {
            let dropped = Arc::new(AtomicUsize::new(0));
            let mut table = FrameTable::<Value>::try_new(len).unwrap();
            for at in 0..len {
                table[at] = Value(Some((dropped.clone(), at == 3)));
            }
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(table)));
            assert_eq!((result.is_err(), dropped.load(Ordering::Relaxed)), (true, len));
        }
    }
}
