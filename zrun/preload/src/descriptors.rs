//! `close` and its like, which spare the descriptors of the reserve: a program that closes all it
//! does not know would otherwise lose its memory.

use std::ffi::{c_int, c_uint};

use crate::calls::fail;
use crate::space::Space;

/// Returns whether a descriptor is one of the reserve's.
fn is_ours(descriptor: c_int) -> bool {
    Space::get().is_some_and(|space| space.reserve.descriptors().contains(&descriptor))
}

/// Closes a descriptor: `close(2)`. To the program, those of the reserve are not open.
///
/// # Safety
///
/// 1. The program owns the descriptor.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn close(descriptor: c_int) -> c_int {
    if is_ours(descriptor) {
        return fail(libc::EBADF);
    }
    // SAFETY: (1).
    unsafe { libc::syscall(libc::SYS_close, descriptor) as c_int }
}

/// Closes a range of descriptors: `close_range(2)`.
///
/// # Safety
///
/// 1. The program owns the descriptors.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    let mut ours = Space::get().map_or([0; 2], |space| space.reserve.descriptors());
    ours.sort_unstable();
    let mut from = first;
    if first <= last {
        for ours in ours.map(|ours| ours as c_uint) {
            if Space::get().is_none() || !(from..=last).contains(&ours) {
                continue;
            }
            if from < ours {
                // SAFETY: (1).
                let closed = unsafe { close_range_by_system(from, ours - 1, flags) };
                if closed != 0 {
                    return closed;
                }
            }
            from = ours + 1;
        }
        if from > last {
            return 0;
        }
    }
    // SAFETY: (1).
    unsafe { close_range_by_system(from, last, flags) }
}

/// # Safety
///
/// 1. As for [`close_range`].
unsafe fn close_range_by_system(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    // SAFETY: (1).
    unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) as c_int }
}

/// Closes all descriptors from one on: `closefrom(3)`.
///
/// # Safety
///
/// 1. The program owns the descriptors.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn closefrom(first: c_int) {
    // SAFETY: (1).
    unsafe { close_range(first.max(0) as c_uint, c_uint::MAX, 0) };
}

/// Makes one descriptor stand for another: `dup2(2)`. Those of the reserve cannot be replaced.
///
/// # Safety
///
/// 1. The program owns `new`, if it is open.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn dup2(old: c_int, new: c_int) -> c_int {
    if is_ours(new) {
        return fail(libc::EBUSY);
    }
    if old == new {
        // SAFETY: changes nothing; fails if it is not open, as `dup2` does.
        let open = unsafe { libc::fcntl(old, libc::F_GETFD) };
        return if open < 0 { -1 } else { new };
    }
    // SAFETY: (1).
    unsafe { libc::syscall(libc::SYS_dup3, old, new, 0) as c_int }
}

/// Makes one descriptor stand for another: `dup3(2)`.
///
/// # Safety
///
/// 1. As for [`dup2`].
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int {
    if is_ours(new) {
        return fail(libc::EBUSY);
    }
    // SAFETY: (1).
    unsafe { libc::syscall(libc::SYS_dup3, old, new, flags) as c_int }
}
