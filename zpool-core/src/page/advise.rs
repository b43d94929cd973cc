//! What the system is told about memory that is mapped: how to back it, what to leave out of dumps, and what is not needed any more.

use core::ptr::NonNull;

use rustix::mm::{Advice, madvise};

/// A frame is what is charged: a huge page would make 512 of them resident at one touch.
pub(super) fn no_huge_pages(base: NonNull<u8>, len: usize) {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: our own mapping; the advice changes no contents.
        let result = unsafe { madvise(base.as_ptr().cast(), len, Advice::LinuxNoHugepage) };
        // EINVAL where the kernel has no huge pages: then there is nothing to forbid.
        let _ = result;
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (base, len);
}

/// Makes frames resident. What is in them stays.
///
/// # Safety
///
/// 1. The range is mapped memory.
pub(super) unsafe fn populate(base: NonNull<u8>, len: usize) {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: (1); the advice changes no contents.
        let result = unsafe { madvise(base.as_ptr().cast(), len, Advice::LinuxPopulateWrite) };
        // EINVAL before Linux 5.14, and others where memory is short: then each is faulted in when it is written.
        let _ = result;
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (base, len);
}

/// Leaves a mapping out of core dumps.
pub(super) fn no_dump(base: NonNull<u8>, len: usize) {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: our own mapping; the advice changes no contents.
        let result = unsafe { madvise(base.as_ptr().cast(), len, Advice::LinuxDontDump) };
        debug_assert!(result.is_ok(), "every kernel since 3.4 knows this: {result:?}");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (base, len);
}

/// Gives frames back to the system. Returns whether it took them. On Linux they read as zero
/// afterwards; elsewhere the system may leave what was in them.
///
/// # Safety
///
/// 1. The range is whole frames of a private anonymous mapping of ours.
/// 2. There is no reference into it, and no thread reads or writes it during the call.
pub(super) unsafe fn dont_need(base: NonNull<u8>, len: usize) -> bool {
    if len == 0 {
        return true;
    }
    #[cfg(target_os = "linux")]
    let advice = Advice::LinuxDontNeed;
    #[cfg(not(target_os = "linux"))]
    let advice = Advice::DontNeed;
    // SAFETY: (1) and (2); the contents may go.
    unsafe { madvise(base.as_ptr().cast(), len, advice) }.is_ok()
}

/// Gives many ranges back. One call into the system, where it has that: a call takes the mapping's
/// lock and interrupts every processor that runs a thread of ours, which costs that thread more
/// than the page it loses. Returns for how many ranges, from the front, one call did it.
///
/// # Safety
///
/// As for `dont_need`, for each.
pub(super) unsafe fn dont_need_at_once(ranges: &[(NonNull<u8>, usize)]) -> usize {
    #[cfg(target_os = "linux")]
    if ranges.len() > 1 {
        // SAFETY: (1) and (2).
        return unsafe { vectored::dont_need(ranges) };
    }
    let _ = ranges;
    0
}

/// `process_madvise` of this very process, which Linux has since 6.15.
#[cfg(target_os = "linux")]
mod vectored {
    use core::ffi::{c_int, c_long, c_uint};
    use core::ptr::NonNull;

    use crate::sync::atomic::Ordering;

    /// The calling thread's process, in the place of a file descriptor.
    const PIDFD_SELF: c_int = -10_000;

    /// Ranges that one call takes.
    const MOST: usize = 1024;

    /// Gives ranges back as long as the system takes them so. Returns how many.
    ///
    /// # Safety
    ///
    /// As for `dont_need`, for each.
    pub(super) unsafe fn dont_need(ranges: &[(NonNull<u8>, usize)]) -> usize {
        // An older system, or one that forbids the call: asked once. No loom atomic, since it outlives models.
        static REFUSED: core::sync::atomic::AtomicBool = core::sync::atomic::AtomicBool::new(false);
        let mut done = 0;
        for chunk in ranges.chunks(MOST) {
            if REFUSED.load(Ordering::Relaxed) {
                break;
            }
            let vector: Vec<libc::iovec> = chunk
                .iter()
                .map(|&(base, len)| libc::iovec { iov_base: base.as_ptr().cast(), iov_len: len })
                .collect();
            let all: usize = chunk.iter().map(|&(_, len)| len).sum();
            // SAFETY: the arguments are those of process_madvise(2); the vector has as many ranges as it says, and their contents may go, by (1) and (2).
            let advised = unsafe {
                libc::syscall(
                    libc::SYS_process_madvise,
                    PIDFD_SELF,
                    vector.as_ptr(),
                    vector.len(),
                    libc::MADV_DONTNEED,
                    0 as c_uint,
                )
            };
            if advised != all as c_long {
                REFUSED.store(advised < 0, Ordering::Relaxed);
                break;
            }
            done += chunk.len();
        }
        done
    }
}
