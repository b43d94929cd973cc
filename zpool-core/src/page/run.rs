//! A run of frames: the memory behind a zspage or a zbud page.

use core::fmt;
use core::ptr::NonNull;

/// A contiguous run of frames that a [`PageSource`](super::PageSource) handed out.
///
/// Not `Clone`: its holder may release it. Dropping it leaks its address space. All offsets are in
/// bytes from the front. Every access is bounds-checked, so the caller only promises how other
/// threads use the bytes.
pub struct Run {
    /// # Invariants
    ///
    /// 1. Points to `len` bytes, initialized, readable and writable until the run is released
    ///    (`new`, 1).
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a run is memory that any thread may use (1 of `new`).
unsafe impl Send for Run {}
// SAFETY: as above; `&Run` reaches the bytes only through unsafe functions whose callers rule out
// races.
unsafe impl Sync for Run {}

impl Run {
    /// Makes the run of `len` bytes at `base`, for implementers of
    /// [`PageSource`](super::PageSource).
    ///
    /// # Safety
    ///
    /// 1. `base` points to `len` bytes of initialized memory, readable and writable from any
    ///    thread, that no other code uses until the run is released.
    pub unsafe fn new(base: NonNull<u8>, len: usize) -> Run {
        Run { base, len }
    }

    /// Returns the address of the front.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns false: a run has at least one frame.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Safety
    ///
    /// 1. There is no reference into this range, and no thread reads or writes it during the call.
    ///
    /// # Panics
    ///
    /// If the range does not lie inside the run.
    #[inline]
    pub unsafe fn write(&self, offset: usize, bytes: &[u8]) {
        let at = self.at(offset, bytes.len());
        // SAFETY: `at` is inside the run, whose memory is valid (invariant 1); it does not overlap
        // `bytes`, a reference, by (1).
        unsafe { at.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
    }

    /// Overwrites `len` bytes at `offset` with zeros.
    ///
    /// # Safety
    ///
    /// 1. As for [`write`](Self::write).
    ///
    /// # Panics
    ///
    /// If the range does not lie inside the run.
    pub unsafe fn wipe(&self, offset: usize, len: usize) {
        let at = self.at(offset, len);
        // SAFETY: `at` is inside the run, whose memory is valid (invariant 1), and not in use by
        // (1).
        unsafe { at.write_bytes(0, len) };
    }

    /// Copies `len` bytes from `source_offset` of `source`, which may be this run, with overlap.
    ///
    /// # Safety
    ///
    /// 1. There is no reference into the target range, and no thread reads or writes it during the
    ///    call.
    /// 2. No thread writes the source range during the call.
    ///
    /// # Panics
    ///
    /// If a range does not lie inside its run.
    #[inline]
    pub unsafe fn copy_from(&self, offset: usize, source: &Run, source_offset: usize, len: usize) {
        let (to, from) = (self.at(offset, len), source.at(source_offset, len));
        // SAFETY: both ranges are valid (invariant 1 of each run), and unobserved by (1) and (2).
        unsafe { to.copy_from(from, len) };
    }

    /// Borrows the `len` bytes at `offset`.
    ///
    /// # Safety
    ///
    /// 1. For the whole of `'a`, no thread writes this range, its frames are not discarded, and the
    ///    run is not released. `'a` may be longer than the borrow of `self`.
    ///
    /// # Panics
    ///
    /// If the range does not lie inside the run.
    #[inline]
    pub unsafe fn slice<'a>(&self, offset: usize, len: usize) -> &'a [u8] {
        let at = self.at(offset, len);
        // SAFETY: valid and initialized by invariant 1, immutable for `'a` by (1).
        unsafe { NonNull::slice_from_raw_parts(at, len).as_ref() }
    }

    /// Returns the address of `offset`, after checking that `len` bytes from there are inside.
    #[inline]
    fn at(&self, offset: usize, len: usize) -> NonNull<u8> {
        assert!(
            offset <= self.len && len <= self.len - offset,
            "{len} bytes at {offset} in a run of {}",
            self.len
        );
        // SAFETY: inside the allocation, just checked.
        unsafe { self.base.add(offset) }
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Run({:?}, {} bytes)", self.base, self.len)
    }
}
