//! One arena: a mapping that runs are cut from.
//!
//! ```text
//!   | cut into runs      | open: readable, writable, not resident  | reserved: no access               |
//!   0                    bump                                      opened                            len
//! ```
//!
//! Address space is reserved without access and opened a step at a time, just before it is cut. So
//! no more than a step becomes resident when the program locks all its memory (`mlockall`), and
//! where the system accounts for writable memory, it accounts for what is cut only.

use core::ptr::{self, NonNull};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

use super::OutOfFrames;
use super::advise::{learn_from_fresh, lock_on_fault, no_dump, no_huge_pages};

/// Bytes of address space in an arena; a longer run gets an arena of its own length. Where a
/// process has 4 GiB of it at most, less.
pub(super) const ARENA_LEN: usize =
    if cfg!(target_pointer_width = "64") { 64 << 20 } else { 8 << 20 };

/// Bytes that are opened at a time.
const STEP: usize = 1 << 20;

/// A mapping, and how much of it is cut.
#[derive(Debug)]
pub(super) struct Arena {
    base: NonNull<u8>,
    len: usize,
    /// Bytes cut off so far.
    bump: usize,
    /// Bytes from the front that are readable and writable.
    opened: usize,
    /// Runs handed out and not released.
    pub(super) runs: usize,
    /// Frames of its free runs that the system holds memory for.
    pub(super) retained: usize,
}

// SAFETY: `base` is a mapping that any thread may use; access to the struct is the owner's
// business.
unsafe impl Send for Arena {}

impl Arena {
    /// Reserves address space for an arena with room for `len` bytes: the usual size, or as much as
    /// the system allows.
    pub(super) fn map(len: usize, excluded_from_dumps: bool) -> Result<Arena, OutOfFrames> {
        let mut want = len.max(ARENA_LEN);
        loop {
            // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no other
            // memory.
            let base =
                unsafe { mmap_anonymous(ptr::null_mut(), want, ProtFlags::empty(), flags()) };
            match base.map(|base| NonNull::new(base.cast::<u8>())) {
                Ok(Some(base)) => {
                    // SAFETY: just mapped, without access.
                    unsafe { learn_from_fresh(base) };
                    let arena = Arena { base, len: want, bump: 0, opened: 0, runs: 0, retained: 0 };
                    no_huge_pages(base, want);
                    if excluded_from_dumps {
                        no_dump(base, want);
                    }
                    return Ok(arena);
                }
                // Under a limit on address space, or with overcommit off, a smaller arena may do.
                _ if want / 2 >= len => want /= 2,
                _ => return Err(OutOfFrames),
            }
        }
    }

    /// Returns the address it begins at.
    pub(super) fn addr(&self) -> usize {
        self.base.as_ptr().addr()
    }

    /// Returns whether the address lies inside.
    pub(super) fn contains(&self, addr: usize) -> bool {
        (self.addr()..self.addr() + self.len).contains(&addr)
    }

    /// Returns the bytes that are not cut off yet.
    pub(super) fn left(&self) -> usize {
        self.len - self.bump
    }

    /// Cuts off `len` bytes, of which there are enough left, and opens them.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`], if the system refuses access: then nothing is cut.
    pub(super) fn cut(&mut self, len: usize) -> Result<NonNull<u8>, OutOfFrames> {
        let end = self.bump + len;
        if end > self.opened {
            let to = end.next_multiple_of(STEP).min(self.len);
            // SAFETY: inside the mapping: `opened` and `to` are at most `len`.
            let from = unsafe { self.base.add(self.opened) };
            // SAFETY: never cut, so no run lies there.
            unsafe { open(from, to - self.opened) }?;
            self.opened = to;
        }
        let at = self.at(self.addr() + self.bump);
        self.bump = end;
        Ok(at)
    }

    /// Makes the whole arena uncut again. No run is out, and no free run of it is listed.
    pub(super) fn reset(&mut self) {
        debug_assert!(self.runs == 0 && self.retained == 0, "an arena to use again: {self:?}");
        self.bump = 0;
    }

    /// Unmaps it. Returns whether the system did.
    pub(super) fn unmap(self) -> bool {
        assert_eq!(self.runs, 0, "no run of an arena that goes is out");
        // SAFETY: our own mapping, whole, without a run handed out.
        unsafe { munmap(self.base.as_ptr().cast(), self.len) }.is_ok()
    }

    /// Returns the pointer to `addr`, which lies inside.
    pub(super) fn at(&self, addr: usize) -> NonNull<u8> {
        assert!(self.contains(addr), "inside the arena");
        // SAFETY: inside the mapping, just checked.
        unsafe { self.base.add(addr - self.addr()) }
    }
}

const READ_WRITE: MprotectFlags = MprotectFlags::READ.union(MprotectFlags::WRITE);

/// Makes a range readable and writable, without making it resident.
///
/// # Safety
///
/// 1. The range is part of a mapping of ours, and no run that is out lies there.
unsafe fn open(base: NonNull<u8>, len: usize) -> Result<(), OutOfFrames> {
    // SAFETY: (1).
    unsafe { lock_on_fault(base, len) };
    // SAFETY: (1).
    unsafe { mprotect(base.as_ptr().cast(), len, READ_WRITE) }.map_err(|_| OutOfFrames)
}

/// Private memory that counts against no account of the system before it is used.
#[cfg(not(any(
    target_os = "aix",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "hurd",
    target_os = "nto",
    target_os = "redox",
)))]
fn flags() -> MapFlags {
    MapFlags::PRIVATE | MapFlags::NORESERVE
}

/// Private memory, on systems that have no flag for more.
#[cfg(any(
    target_os = "aix",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "hurd",
    target_os = "nto",
    target_os = "redox",
))]
fn flags() -> MapFlags {
    MapFlags::PRIVATE
}
