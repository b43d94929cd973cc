//! An arena: a mapping that runs are cut from.
//!
//! ```text
//!   | cut into runs      | open: accessible, not resident   | reserved: no access          |
//!   0                    bump                               opened                       len
//! ```
//!
//! Address space is reserved without access and opened in steps, just before it is cut. So no more
//! than one step becomes resident if the program locks all its memory (`mlockall`). A system that
//! accounts for writable memory accounts only for what is cut.

use core::ptr::{self, NonNull};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

use super::OutOfFrames;
use super::advise::{learn_from_fresh, lock_on_fault, no_dump, no_huge_pages};

/// Bytes of address space in an arena. A longer run gets an arena of its own length. 32-bit
/// processes have little address space, so their arenas are smaller.
pub(super) const ARENA_LEN: usize =
    if cfg!(target_pointer_width = "64") { 64 << 20 } else { 8 << 20 };

/// Bytes that are opened in one step.
const STEP: usize = 1 << 20;

/// A mapping, with the part that is cut.
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
    /// Frames of its free runs for which the system holds memory.
    pub(super) retained: usize,
}

// SAFETY: `base` is a mapping that any thread may use; the owner orders accesses to the struct.
unsafe impl Send for Arena {}

impl Arena {
    /// Reserves address space for an arena with room for `len` bytes: the usual size, or less if
    /// the system allows less.
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
                // Under a limit on address space, or without overcommit, a smaller arena may
                // succeed.
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

    /// Cuts off `len` bytes and opens them. At least that many must be [left](Self::left).
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`] if the system refuses access. Then nothing is cut.
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

    /// Makes all of the arena uncut again. No run of it is out, and no free run is listed.
    pub(super) fn reset(&mut self) {
        debug_assert!(self.runs == 0 && self.retained == 0, "an arena to use again: {self:?}");
        self.bump = 0;
    }

    /// Unmaps the arena. Returns whether the system did.
    pub(super) fn unmap(self) -> bool {
        assert_eq!(self.runs, 0, "no run of an unmapped arena is out");
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

/// Private memory that the system does not account for before it is used.
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

/// Private memory, on systems without such a flag.
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
