//! A buffer with an alignment of its own.

use core::fmt;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use std::alloc::{Layout, alloc_zeroed};

/// A buffer on the heap that begins at a multiple of its alignment, as direct I/O needs it.
///
/// Derefs to its bytes, which are zeros at first. Its length never changes.
pub struct AlignedBytes {
    /// # Invariants
    ///
    /// 1. Points to an allocation made with `layout`, which only this value uses and frees. Its
    ///    first `len` bytes are initialized.
    start: NonNull<u8>,
    len: usize,
    layout: Layout,
}

// SAFETY: the buffer owns plain bytes (invariant 1), which any thread may use and free.
unsafe impl Send for AlignedBytes {}
// SAFETY: as above; `&AlignedBytes` only reads them.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    /// Allocates `len` bytes of zeros at a multiple of `alignment`, which must be a power of two.
    ///
    /// # Errors
    ///
    /// [`AllocationRefused`] if the heap has no memory, or if there is no such layout.
    pub fn zeroed(len: usize, alignment: usize) -> Result<AlignedBytes, AllocationRefused> {
        let refused = AllocationRefused { len, alignment };
        // At least 1, because the allocator takes no layout of 0 bytes.
        let layout = Layout::from_size_align(len.max(1), alignment).map_err(|_| refused)?;
        // SAFETY: the layout has more than 0 bytes.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(refused)?;
        Ok(AlignedBytes { start, len, layout })
    }

    /// Returns the alignment in bytes that the buffer was made with.
    pub fn alignment(&self) -> usize {
        self.layout.align()
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: initialized and ours (invariant 1), and borrowed together with `self`.
        unsafe { NonNull::slice_from_raw_parts(self.start, self.len).as_ref() }
    }
}

impl DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: initialized and ours (invariant 1), and borrowed exclusively together with
        // `self`.
        unsafe { NonNull::slice_from_raw_parts(self.start, self.len).as_mut() }
    }
}

impl Drop for AlignedBytes {
    #[expect(clippy::disallowed_methods, reason = "a buffer of the heap, not frames")]
    fn drop(&mut self) {
        // SAFETY: allocated with this very layout, and no longer used (invariant 1).
        unsafe { std::alloc::dealloc(self.start.as_ptr(), self.layout) };
    }
}

impl fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBytes({} bytes, aligned to {})", self.len, self.alignment())
    }
}

/// The error of a buffer for which the heap has no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllocationRefused {
    len: usize,
    alignment: usize,
}

impl fmt::Display for AllocationRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AllocationRefused { len, alignment } = self;
        write!(
            f,
            "the heap gave no {len} bytes aligned to {alignment}: free memory and try again, or \
             use smaller segments"
        )
    }
}

impl core::error::Error for AllocationRefused {}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    /// A buffer begins at its alignment, holds zeros, and keeps what is written.
    #[test]
    fn buffer_is_aligned_and_zeroed() {
        for (len, alignment) in [(0, 1), (1, 4096), (4096, 512), (70_000, 1 << 16)] {
            let mut bytes = AlignedBytes::zeroed(len, alignment).unwrap();
            assert_eq!((bytes.len(), bytes.alignment()), (len, alignment));
            assert_eq!(bytes.as_ptr().addr() % alignment, 0);
            assert!(bytes.iter().all(|byte| *byte == 0));
            bytes.fill(7);
            assert!(bytes.iter().all(|byte| *byte == 7));
        }
    }

    /// A layout that cannot be is an error.
    #[test]
    fn impossible_layout_is_refused() {
        for (len, alignment) in [(1, 0), (1, 3), (usize::MAX, 1), (isize::MAX as usize, 4096)] {
            let refused = AlignedBytes::zeroed(len, alignment).unwrap_err();
            assert_eq!(refused, AllocationRefused { len, alignment });
        }
    }
}
