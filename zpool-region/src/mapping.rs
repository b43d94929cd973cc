//! Private anonymous memory: the region's own, and the engine's buffers.

use std::ptr::{self, NonNull};
use std::{io, slice};

use rustix::mm::{
    Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munlock, munmap,
};

/// A mapping of whole pages, unmapped when it is dropped.
///
/// Never uses huge pages. Excluded from core dumps, and from forked children unless
/// [`set_inherited`](Self::set_inherited) says otherwise.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// The start of `len` bytes that only this value unmaps.
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread.
unsafe impl Send for Mapping {}
// SAFETY: its methods are system calls, or have numbered promises about other accesses.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes, a multiple of the page size. They read as zeros.
    pub(crate) fn new(len: usize) -> io::Result<Mapping> {
        Mapping::with_access(len, ProtFlags::READ | ProtFlags::WRITE)
    }

    /// Maps `len` bytes, a multiple of the page size, of which none may be accessed yet.
    pub(crate) fn inaccessible(len: usize) -> io::Result<Mapping> {
        Mapping::with_access(len, ProtFlags::empty())
    }

    fn with_access(len: usize, access: ProtFlags) -> io::Result<Mapping> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let base = unsafe { mmap_anonymous(ptr::null_mut(), len, access, flags) }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mapping = Mapping { base, len };
        // Without this a child would read zeros where the parent's page is missing.
        mapping.advise(Advice::LinuxDontFork)?;
        // Refused where the kernel has no huge pages, or writes no dumps: nothing to decline.
        let _ = mapping.advise(Advice::LinuxNoHugepage);
        let _ = mapping.advise(Advice::LinuxDontDump);
        Ok(mapping)
    }

    fn advise(&self, advice: Advice) -> io::Result<()> {
        // SAFETY: our own mapping; none of the advices above changes contents.
        unsafe { madvise(self.base.as_ptr().cast(), self.len, advice) }.map_err(io::Error::from)
    }

    /// Returns the address of the first byte.
    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Returns the bytes of the mapping.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the address of the byte at `offset`, which may be the end.
    ///
    /// # Panics
    ///
    /// If `offset` is beyond the end.
    pub(crate) fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset <= self.len, "an offset beyond the end of a mapping");
        self.base.as_ptr().wrapping_add(offset)
    }

    /// Lends bytes to be read.
    ///
    /// # Safety
    ///
    /// 1. An access to any page of the range is answered: the page is there, or is filled.
    /// 2. Nothing writes to the range while the slice lives.
    ///
    /// # Panics
    ///
    /// If the range is not inside.
    pub(crate) unsafe fn bytes(&self, offset: usize, len: usize) -> &[u8] {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len));
        // SAFETY: mapped memory, initialized by the system; (1) and (2).
        unsafe { slice::from_raw_parts(self.at(offset), len) }
    }

    /// Lends bytes to be written.
    ///
    /// # Safety
    ///
    /// 1. As for [`bytes`](Self::bytes).
    /// 2. There is no other access to the range while the slice lives.
    ///
    /// # Panics
    ///
    /// If the range is not inside.
    #[allow(clippy::mut_from_ref, reason = "the promise (2) is the exclusive borrow")]
    pub(crate) unsafe fn bytes_mut(&self, offset: usize, len: usize) -> &mut [u8] {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len));
        // SAFETY: mapped memory, initialized by the system; (1) and (2).
        unsafe { slice::from_raw_parts_mut(self.at(offset), len) }
    }

    /// Returns pages to the system: they are missing afterwards.
    ///
    /// # Safety
    ///
    /// 1. The range is whole pages, and there is no reference into it.
    /// 2. Their contents are not needed, and later accesses are answered or do not happen.
    ///
    /// # Errors
    ///
    /// If the memory is locked.
    pub(crate) unsafe fn discard(&self, offset: usize, len: usize) -> io::Result<()> {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len));
        let start = self.at(offset).cast();
        // SAFETY: (1) and (2).
        unsafe { madvise(start, len, Advice::LinuxDontNeed) }.map_err(io::Error::from)
    }

    /// Returns pages to the system, even those that the program has locked.
    ///
    /// # Safety
    ///
    /// 1. As for [`discard`](Self::discard), and so is (2).
    ///
    /// # Errors
    ///
    /// If the system refuses the advice altogether.
    pub(crate) unsafe fn discard_even_locked(&self, offset: usize, len: usize) -> io::Result<()> {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len));
        let start = self.at(offset).cast();
        // SAFETY: (1).
        unsafe { madvise(start, len, Advice::LinuxDontneedLocked) }.map_err(io::Error::from)
    }

    /// Sets whether the program may access pages.
    ///
    /// # Safety
    ///
    /// 1. The range is whole pages. If they become inaccessible, there is no reference into them.
    pub(crate) unsafe fn set_accessible(
        &self,
        offset: usize,
        len: usize,
        accessible: bool,
    ) -> io::Result<()> {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len));
        let readable = MprotectFlags::READ | MprotectFlags::WRITE;
        let access = if accessible { readable } else { MprotectFlags::empty() };
        // SAFETY: (1); contents do not change.
        unsafe { mprotect(self.at(offset).cast(), len, access) }.map_err(io::Error::from)
    }

    /// Sets whether a child that is forked from now on has a part of this memory.
    pub(crate) fn set_inherited(
        &self,
        offset: usize,
        len: usize,
        inherited: bool,
    ) -> io::Result<()> {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len));
        let advice = if inherited { Advice::LinuxDoFork } else { Advice::LinuxDontFork };
        // SAFETY: our own mapping; contents do not change.
        unsafe { madvise(self.at(offset).cast(), len, advice) }.map_err(io::Error::from)
    }

    /// Copies pages that this process shares with a forked one, so that it has frames of its own.
    pub(crate) fn unshare(&self, offset: usize, len: usize) -> io::Result<()> {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len));
        let start = self.at(offset).cast();
        // SAFETY: our own mapping; contents do not change.
        unsafe { madvise(start, len, Advice::LinuxPopulateWrite) }.map_err(io::Error::from)
    }

    /// Unlocks memory that the program has locked as a whole (`mlockall`).
    pub(crate) fn unlock(&self) -> io::Result<()> {
        // SAFETY: our own mapping; contents do not change.
        unsafe { munlock(self.base.as_ptr().cast(), self.len) }.map_err(io::Error::from)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nothing refers to any more.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        // If the process has too many mappings, a part cannot be cut out; a whole one always can.
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}
