//! Advice to the operating system about mapped memory, with a check of its effect.
//!
//! Advice can be refused (locked memory, a seccomp filter, an old kernel), and some systems accept
//! it without effect. Pools account for the memory that the system really holds. So [`dont_need`]
//! tries the next way if one is refused, checks whether the frames are gone, and returns the
//! result.

use core::ptr::NonNull;

#[cfg(any(target_os = "linux", target_os = "android"))]
use rustix::mm::{Advice, madvise};

/// Declines huge pages. Frames are charged one by one, and one write to a huge page would make 512
/// of them resident.
pub(super) fn no_huge_pages(base: NonNull<u8>, len: usize) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        // SAFETY: our own mapping; the advice changes no contents.
        let result = unsafe { madvise(base.as_ptr().cast(), len, Advice::LinuxNoHugepage) };
        // EINVAL if the kernel has no huge pages: then there is nothing to decline.
        let _ = result;
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (base, len);
}

/// Makes frames resident and keeps their contents.
///
/// # Safety
///
/// 1. The range is mapped memory.
pub(super) unsafe fn populate(base: NonNull<u8>, len: usize) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        // SAFETY: (1); the advice changes no contents.
        let result = unsafe { madvise(base.as_ptr().cast(), len, Advice::LinuxPopulateWrite) };
        // EINVAL before Linux 5.14, other errors if memory is short: then each frame is faulted in
        // when it is written.
        let _ = result;
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (base, len);
}

/// Leaves a mapping out of core dumps.
pub(super) fn no_dump(base: NonNull<u8>, len: usize) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        // SAFETY: our own mapping; the advice changes no contents.
        let result = unsafe { madvise(base.as_ptr().cast(), len, Advice::LinuxDontDump) };
        // Every kernel since 3.4 has this, but a seccomp filter may refuse it.
        let _ = result;
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (base, len);
}

/// Returns frames to the system. Returns whether it holds no memory for them any more. On Linux
/// they then read as zero; on other systems they may keep their contents.
///
/// # Safety
///
/// 1. The range is whole frames of a private anonymous mapping of ours, readable and writable.
/// 2. There is no reference into it, and no thread reads or writes it during the call.
pub(super) unsafe fn dont_need(base: NonNull<u8>, len: usize) -> bool {
    if len == 0 {
        return true;
    }
    // SAFETY: (1) and (2).
    unsafe { system::dont_need(base, len) }
}

/// Returns many ranges by one system call, if there is one. Each call locks the mapping and
/// interrupts every processor that runs a thread of the process, which costs such a thread more
/// than the page it loses. Returns how many ranges, from the front, are gone; the caller tries the
/// others one by one.
///
/// # Safety
///
/// As for [`dont_need`], for each.
pub(super) unsafe fn dont_need_at_once(ranges: &[(NonNull<u8>, usize)]) -> usize {
    #[cfg(target_os = "linux")]
    if ranges.len() > 1 {
        // SAFETY: (1) and (2).
        return unsafe { vectored::dont_need(ranges) };
    }
    let _ = ranges;
    0
}

/// Prepares address space that `mprotect` is about to make writable. If the program locks its
/// memory (`mlockall` with `MCL_FUTURE`), that call would make all of it resident. So this locks it
/// on fault instead or, if that is not possible, unlocks it.
///
/// # Safety
///
/// 1. The range is whole frames of a mapping of ours.
pub(super) unsafe fn lock_on_fault(base: NonNull<u8>, len: usize) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    // SAFETY: (1).
    unsafe {
        system::lock_on_fault(base, len)
    };
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (base, len);
}

/// Returns how many frames of a range the system holds memory for: all, if it cannot tell.
///
/// # Safety
///
/// 1. The range is whole frames of a mapping of ours.
pub(super) unsafe fn resident(base: NonNull<u8>, len: usize) -> usize {
    let frame = super::os_frame_size();
    #[cfg(any(target_os = "linux", target_os = "android"))]
    // SAFETY: (1).
    if let Some(frames) = unsafe { system::resident(base, len, frame) } {
        return frames;
    }
    let _ = base;
    len / frame
}

/// Checks with a fresh, untouched mapping whether `mincore` can be relied on: some systems report
/// every frame as resident.
///
/// # Safety
///
/// 1. The range is whole frames of a mapping of ours that was never accessible.
pub(super) unsafe fn learn_from_fresh(base: NonNull<u8>) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    // SAFETY: (1).
    unsafe {
        system::learn_from_fresh(base)
    };
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = base;
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    use core::ptr::NonNull;
    use core::sync::atomic::{AtomicBool, Ordering};

    use rustix::io::Errno;
    use rustix::mm::{Advice, MlockFlags, MsyncFlags, madvise, mlock_with, msync, munlock};

    /// Whether `mincore` reports untouched frames as resident. Not a loom atomic: it outlives
    /// models.
    static MINCORE_IS_USELESS: AtomicBool = AtomicBool::new(false);

    /// Frames of a range that are checked after the system has accepted advice.
    const CHECKED_FRAMES: usize = 64;

    /// Implements the parent's function of this name.
    ///
    /// # Safety
    ///
    /// As for the parent's.
    pub(super) unsafe fn dont_need(base: NonNull<u8>, len: usize) -> bool {
        // SAFETY: (1) and (2).
        let probe = unsafe { ResidencyProbe::before(base, len) };
        // SAFETY: (1) and (2); the contents may go.
        let accepted = match unsafe { madvise(base.as_ptr().cast(), len, Advice::LinuxDontNeed) } {
            Ok(()) => true,
            // SAFETY: (1) and (2).
            Err(Errno::INVAL) => unsafe { dont_need_locked(base, len) },
            Err(_) => false,
        };
        // SAFETY: (1) and (2).
        if accepted && unsafe { probe.is_gone() } {
            return true;
        }
        // SAFETY: (1) and (2).
        let moved = unsafe { move_away(base, len) };
        // SAFETY: (1) and (2).
        moved && unsafe { probe.is_gone() }
    }

    /// Returns frames without advice: moves them to another address, which leaves the range mapped
    /// and empty, and unmaps that (Linux 5.7). Returns whether the system did.
    ///
    /// # Safety
    ///
    /// As for `dont_need`.
    #[cfg(target_os = "linux")]
    unsafe fn move_away(base: NonNull<u8>, len: usize) -> bool {
        use core::ffi::{c_int, c_void};
        use core::ptr;

        /// Not every C library that the libc crate supports defines it.
        const MREMAP_DONTUNMAP: c_int = 4;
        let (flags, anywhere) =
            (libc::MREMAP_MAYMOVE | MREMAP_DONTUNMAP, ptr::null_mut::<c_void>());
        // SAFETY: (1) and (2): the range stays mapped as it is, and its contents may go. The kernel
        // chooses the new address, where nothing is.
        let moved = unsafe { libc::mremap(base.as_ptr().cast(), len, len, flags, anywhere) };
        if moved == libc::MAP_FAILED {
            return false;
        }
        // SAFETY: just mapped, and known to us alone.
        unsafe { rustix::mm::munmap(moved, len) }.is_ok()
    }

    /// Does nothing: libc has no `mremap` for Android.
    ///
    /// # Safety
    ///
    /// As for `dont_need`.
    #[cfg(not(target_os = "linux"))]
    unsafe fn move_away(_base: NonNull<u8>, _len: usize) -> bool {
        false
    }

    /// Unlocks frames and returns them to the system. Returns whether the system accepted that.
    ///
    /// # Safety
    ///
    /// As for `dont_need`.
    unsafe fn dont_need_locked(base: NonNull<u8>, len: usize) -> bool {
        let at = base.as_ptr().cast();
        // SAFETY: (1) and (2); the contents may go. The range stays locked, and so does what is
        // written there next.
        if unsafe { madvise(at, len, Advice::LinuxDontneedLocked) }.is_ok() {
            return true;
        }
        // Before Linux 5.18. If nothing is locked, it is `madvise` itself that is refused.
        // SAFETY: (1).
        if unsafe { is_locked(base, len) } != Some(true) {
            return false;
        }
        // SAFETY: (1); this changes no contents.
        if unsafe { munlock(at, len) }.is_err() {
            return false;
        }
        // SAFETY: (1) and (2); the contents may go.
        let result = unsafe { madvise(at, len, Advice::LinuxDontNeed) };
        // Locks the range again, as the program wanted. If this fails, its frames may be swapped.
        // SAFETY: (1); on fault, so it makes nothing resident.
        let _ = unsafe { mlock_with(at, len, MlockFlags::ONFAULT) };
        result.is_ok()
    }

    /// Returns whether the program has locked some of the range; `None` if the system does not
    /// tell.
    ///
    /// # Safety
    ///
    /// 1. The range is whole frames of a mapping of ours.
    unsafe fn is_locked(base: NonNull<u8>, len: usize) -> Option<bool> {
        // Anonymous memory has no backing file, so this does nothing except report locked memory by
        // EBUSY.
        // SAFETY: (1).
        match unsafe { msync(base.as_ptr().cast(), len, MsyncFlags::INVALIDATE) } {
            Ok(()) => Some(false),
            Err(Errno::BUSY) => Some(true),
            Err(_) => None,
        }
    }

    /// Implements the parent's function of this name.
    ///
    /// # Safety
    ///
    /// As for the parent's.
    pub(super) unsafe fn lock_on_fault(base: NonNull<u8>, len: usize) {
        let at = base.as_ptr().cast();
        // SAFETY: (1).
        let locked = unsafe { is_locked(base, len) };
        // SAFETY: (1); on fault, so it makes nothing resident.
        if locked == Some(true) && unsafe { mlock_with(at, len, MlockFlags::ONFAULT) }.is_ok() {
            return;
        }
        if locked != Some(false) {
            // SAFETY: (1); this changes no contents, and nothing where nothing is locked.
            let _ = unsafe { munlock(at, len) };
        }
    }

    /// Checks whether frames are resident, before and after they are returned to the system.
    pub(super) struct ResidencyProbe {
        base: NonNull<u8>,
        len: usize,
        by_contents: bool,
    }

    impl ResidencyProbe {
        /// Prepares the check of a range.
        ///
        /// # Safety
        ///
        /// As for `dont_need`.
        pub(super) unsafe fn before(base: NonNull<u8>, len: usize) -> ResidencyProbe {
            // Relaxed: a hint. Both ways of checking are right.
            let by_contents = MINCORE_IS_USELESS.load(Ordering::Relaxed);
            if by_contents {
                // SAFETY: (1) and (2); whole frames have a first byte.
                unsafe { base.write_volatile(1) };
            }
            ResidencyProbe { base, len, by_contents }
        }

        /// Returns whether the first frames of the range are gone.
        ///
        /// # Safety
        ///
        /// As for `dont_need`.
        pub(super) unsafe fn is_gone(&self) -> bool {
            if self.by_contents {
                // SAFETY: (1) and (2). A returned frame reads as zero.
                return unsafe { self.base.read_volatile() } == 0;
            }
            let frame = super::super::os_frame_size();
            let len = self.len.min(CHECKED_FRAMES * frame);
            // A system that cannot report residency is trusted.
            // SAFETY: (1).
            unsafe { resident(self.base, len, frame) }.is_none_or(|frames| frames == 0)
        }
    }

    /// Returns how many frames are resident; `None` if the system does not tell.
    ///
    /// # Safety
    ///
    /// 1. The range is whole frames of a mapping of ours.
    pub(super) unsafe fn resident(base: NonNull<u8>, len: usize, frame: usize) -> Option<usize> {
        if MINCORE_IS_USELESS.load(Ordering::Relaxed) {
            return None;
        }
        let mut frames = [0u8; CHECKED_FRAMES];
        let (mut at, mut count) = (0, 0);
        while at < len {
            let part = (len - at).min(CHECKED_FRAMES * frame);
            // SAFETY: inside the range.
            let from = unsafe { base.add(at) };
            // SAFETY: mapped memory by (1), and a byte for each frame of it.
            if unsafe { libc::mincore(from.as_ptr().cast(), part, frames.as_mut_ptr().cast()) } != 0
            {
                return None;
            }
            count += frames[..part / frame].iter().filter(|&&byte| byte & 1 == 1).count();
            at += part;
        }
        Some(count)
    }

    /// Implements the parent's function of this name.
    ///
    /// # Safety
    ///
    /// As for the parent's.
    pub(super) unsafe fn learn_from_fresh(base: NonNull<u8>) {
        let frame = super::super::os_frame_size();
        // SAFETY: (1).
        if unsafe { resident(base, frame, frame) } == Some(1) {
            // Relaxed: see `ResidencyProbe::before`.
            MINCORE_IS_USELESS.store(true, Ordering::Relaxed);
        }
    }
}

/// Systems whose `MADV_DONTNEED` frees nothing, and whose `MADV_FREE` lets the system take frames
/// when it needs them. We count those as returned, as allocators do.
#[cfg(any(
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "solaris",
    target_os = "illumos",
))]
mod system {
    use core::ptr::NonNull;

    /// Implements the parent's function of this name.
    ///
    /// # Safety
    ///
    /// As for the parent's.
    pub(super) unsafe fn dont_need(base: NonNull<u8>, len: usize) -> bool {
        // SAFETY: (1) and (2); the contents may go.
        unsafe { libc::madvise(base.as_ptr().cast(), len, libc::MADV_FREE) == 0 }
    }
}

/// Other systems, which have no advice known to free memory.
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "solaris",
    target_os = "illumos",
)))]
mod system {
    use core::ptr::NonNull;

    /// Does nothing and returns false.
    ///
    /// # Safety
    ///
    /// As for the parent's.
    pub(super) unsafe fn dont_need(_base: NonNull<u8>, _len: usize) -> bool {
        false
    }
}

/// `process_madvise` for the calling process, which Linux supports since 6.15.
#[cfg(target_os = "linux")]
mod vectored {
    use core::ffi::{c_int, c_long, c_uint};
    use core::ptr::{self, NonNull};
    use core::sync::atomic::{AtomicBool, Ordering};

    use super::system::ResidencyProbe;

    /// The calling thread's process, in place of a file descriptor.
    const PIDFD_SELF: c_int = -10_000;

    /// Ranges of one call, which are listed on the stack.
    const MAX_RANGES: usize = 128;

    /// Returns ranges to the system until it refuses some. Returns the number of ranges that are
    /// gone.
    ///
    /// # Safety
    ///
    /// As for the parent's.
    pub(super) unsafe fn dont_need(ranges: &[(NonNull<u8>, usize)]) -> usize {
        // Whether the call is refused, by an older system or by one that forbids it. Not a loom
        // atomic, since it outlives models.
        static REFUSED: AtomicBool = AtomicBool::new(false);
        let mut done = 0;
        for chunk in ranges.chunks(MAX_RANGES) {
            if REFUSED.load(Ordering::Relaxed) {
                break;
            }
            // SAFETY: (1) and (2).
            let probe = unsafe { ResidencyProbe::before(chunk[0].0, chunk[0].1) };
            // SAFETY: (1) and (2).
            let advised = unsafe { advise(chunk) };
            // Locked memory is refused as well. The other ways, which can free it, take one range
            // each.
            REFUSED.store(advised < 0, Ordering::Relaxed);
            let all: usize = chunk.iter().map(|&(_, len)| len).sum();
            // SAFETY: (1) and (2).
            if advised != all as c_long || !unsafe { probe.is_gone() } {
                break;
            }
            done += chunk.len();
        }
        done
    }

    /// Makes the call, for at most [`MAX_RANGES`] ranges. Returns the bytes advised, or -1.
    ///
    /// # Safety
    ///
    /// As for `dont_need`.
    unsafe fn advise(ranges: &[(NonNull<u8>, usize)]) -> c_long {
        let mut vector = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; MAX_RANGES];
        for (entry, &(base, len)) in vector.iter_mut().zip(ranges) {
            *entry = libc::iovec { iov_base: base.as_ptr().cast(), iov_len: len };
        }
        // SAFETY: the arguments are those of process_madvise(2); the vector has as many ranges as
        // it says, and their contents may go, by (1) and (2).
        unsafe {
            libc::syscall(
                libc::SYS_process_madvise,
                PIDFD_SELF,
                vector.as_ptr(),
                ranges.len().min(MAX_RANGES),
                libc::MADV_DONTNEED,
                0 as c_uint,
            )
        }
    }
}
