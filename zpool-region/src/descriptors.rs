//! A table of descriptors that a thread has for itself.

use std::os::fd::RawFd;

/// Makes a table of descriptors for the calling thread alone, with these two in it and no other.
///
/// Our two descriptors stay open even if the program closes them. All others are closed here,
/// because a leftover copy of a pipe's write end would keep its reader from seeing end-of-file. If
/// the system refuses, the thread keeps the program's table.
pub(crate) fn keep_only(kept: [RawFd; 2]) {
    // SAFETY: from here on the thread has a copy of the table. Owners of descriptors on other
    // threads do not notice, and this thread uses only the two.
    if unsafe { libc::unshare(libc::CLONE_FILES) } != 0 {
        return;
    }
    let [low, high] = [kept[0].min(kept[1]), kept[0].max(kept[1])];
    close_range(0, low - 1);
    close_range(low + 1, high - 1);
    close_range(high + 1, RawFd::MAX);
}

fn close_range(first: RawFd, last: RawFd) {
    if first <= last {
        // SAFETY: descriptors of this thread's table, which nothing on this thread owns.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}
