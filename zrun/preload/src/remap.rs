//! `mremap`: a part of the reserve shrinks and grows in place, or is copied to a larger one.

use std::ffi::{c_int, c_void};
use std::ops::Range;

use crate::calls::{self, FAILED};
use crate::range_table::RangeState;
use crate::space::Space;

/// Moves or resizes a mapping: `mremap(2)`.
///
/// # Safety
///
/// 1. As for the system call.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn mremap(
    old: *mut c_void,
    old_len: usize,
    new_len: usize,
    flags: c_int,
    new: *mut c_void,
) -> *mut c_void {
    let (old, new) = (old.addr(), new.addr());
    let Some(space) = Space::get() else {
        // SAFETY: (1).
        return unsafe { calls::mremap(old, old_len, new_len, flags, new) };
    };
    let range = Space::overlap(old, old_len.max(1));
    // A range that begins before the reserve is two mappings, which cannot be moved at once.
    let starts_here = Space::offset_of(old).is_some();
    let moves_here = flags & libc::MREMAP_FIXED != 0 && Space::overlap(new, new_len).is_some();
    let result = match range {
        // SAFETY: (1).
        None if !moves_here => unsafe {
            return calls::mremap(old, old_len, new_len, flags, new);
        },
        Some(range) if starts_here && !moves_here && flags & !libc::MREMAP_MAYMOVE == 0 => {
            // SAFETY: (1).
            unsafe { resize(space, range, old_len, new_len, flags) }
        }
        // Into the reserve, or from it to a place of the program's choice.
        _ => Err(libc::EINVAL),
    };
    result.map_or_else(
        |error| {
            calls::set_errno(error);
            FAILED
        },
        Space::at,
    )
}

/// Resizes an open part of the reserve. Returns its offset, which is a new one if it moved.
///
/// # Safety
///
/// 1. As for `mremap(2)`: if the part moves, or shrinks, what was there is given up.
unsafe fn resize(
    space: &'static Space,
    range: Range<usize>,
    old_len: usize,
    new_len: usize,
    flags: c_int,
) -> Result<usize, c_int> {
    let whole = |len| space.whole_pages(len).filter(|&len| len > 0).ok_or(libc::EINVAL);
    let (old_len, new_len) = (whole(old_len)?, whole(new_len)?);
    let old = range.start..range.start + old_len;
    if !old.start.is_multiple_of(space.page) || old.end > space.reserve.len() {
        return Err(libc::EFAULT);
    }
    let new = old.start..old.start.checked_add(new_len).ok_or(libc::ENOMEM)?;
    let mut entered = space.enter();
    let pieces = entered.table.pieces(&old);
    if !pieces.iter().all(|(_, state)| state.is_open()) {
        return Err(libc::EFAULT);
    }
    if new.end <= old.end {
        // SAFETY: (1).
        unsafe { space.close(&mut entered, &(new.end..old.end)) }?;
        return Ok(old.start);
    }
    // What is appended, or moved, would have to be as accessible as the rest.
    if !pieces.iter().all(|(_, state)| *state == RangeState::Used) {
        return Err(libc::ENOMEM);
    }
    if space.grow(&mut entered, &(old.end..new.end)) {
        return Ok(old.start);
    }
    drop(entered);
    if flags & libc::MREMAP_MAYMOVE == 0 {
        return Err(libc::ENOMEM);
    }
    let moved = space.allocate(new_len, space.page).ok_or(libc::ENOMEM)?;
    // SAFETY: both open, and apart. If other threads write meanwhile, they race with `mremap`.
    unsafe { Space::at(moved.start).copy_from_nonoverlapping(Space::at(old.start), old_len) };
    let mut entered = space.enter();
    // SAFETY: (1). If the system refuses, the old part stays.
    let _ = unsafe { space.close(&mut entered, &old) };
    Ok(moved.start)
}
