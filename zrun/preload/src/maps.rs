//! `mmap`, `munmap`, `madvise` and `mprotect`.
//!
//! Each first looks whether the call is about the reserve, and passes it to the system otherwise.

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::ptr;

use crate::calls::{self, FAILED, MapRequest, fail};
use crate::range_table::RangeState;
use crate::space::{Entered, Space};

const READ_WRITE: c_int = libc::PROT_READ | libc::PROT_WRITE;
const ANONYMOUS: c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
/// Flags that change nothing for memory of the reserve.
const HARMLESS: c_int = libc::MAP_NORESERVE | libc::MAP_POPULATE | libc::MAP_NONBLOCK;

/// Advice that a region has no use for: it changes no contents.
const HINTS: [c_int; 13] = [
    libc::MADV_NORMAL,
    libc::MADV_RANDOM,
    libc::MADV_SEQUENTIAL,
    libc::MADV_WILLNEED,
    libc::MADV_HUGEPAGE,
    libc::MADV_NOHUGEPAGE,
    libc::MADV_COLD,
    libc::MADV_MERGEABLE,
    libc::MADV_UNMERGEABLE,
    libc::MADV_DODUMP,
    libc::MADV_DONTDUMP,
    libc::MADV_DOFORK,
    MADV_COLLAPSE,
];
const MADV_COLLAPSE: c_int = 25;

impl MapRequest {
    /// Returns whether the mapping would be ordinary memory, wherever it is.
    fn is_ordinary(&self) -> bool {
        self.access == READ_WRITE && self.flags & !(HARMLESS | libc::MAP_FIXED) == ANONYMOUS
    }
}

/// Maps memory: `mmap(2)`.
///
/// # Safety
///
/// 1. As for the system call: with `MAP_FIXED`, what is in the range is given up.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn mmap(
    address: *mut c_void,
    len: usize,
    access: c_int,
    flags: c_int,
    descriptor: c_int,
    offset: i64,
) -> *mut c_void {
    let address = address.addr();
    let request = MapRequest { address, len, access, flags, descriptor, offset };
    let fixed = flags & libc::MAP_FIXED != 0;
    if let Some(space) = Space::get() {
        if fixed && let Some(range) = Space::overlap(address, len) {
            // SAFETY: (1).
            return unsafe { map_fixed(space, request, range) };
        }
        if !fixed && address == 0 && len >= space.at_least && request.is_ordinary() {
            // A reserve that is full is no reason to fail.
            if let Some(range) = space.allocate(len, space.page) {
                return Space::at(range.start);
            }
        }
    }
    // SAFETY: (1).
    unsafe { request.map() }
}

/// Maps memory: `mmap64`, which is the same function on 64-bit systems.
///
/// # Safety
///
/// 1. As for [`mmap`].
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn mmap64(
    address: *mut c_void,
    len: usize,
    access: c_int,
    flags: c_int,
    descriptor: c_int,
    offset: i64,
) -> *mut c_void {
    // SAFETY: (1).
    unsafe { mmap(address, len, access, flags, descriptor, offset) }
}

/// Maps over a range of the reserve.
///
/// # Safety
///
/// 1. The program gives up what is in the range.
unsafe fn map_fixed(
    space: &'static Space,
    request: MapRequest,
    range: Range<usize>,
) -> *mut c_void {
    let MapRequest { address, len, .. } = request;
    let unaligned = !address.is_multiple_of(space.page);
    let Some(whole) = space.whole_pages(len).filter(|_| !unaligned) else {
        calls::set_errno(libc::EINVAL);
        return FAILED;
    };
    let range = range.start..range.end.next_multiple_of(space.page);
    let mut entered = space.enter();
    let result = if request.is_ordinary() && range.len() == whole {
        // SAFETY: (1).
        unsafe { map_zeros(space, &mut entered, &range) }
    } else {
        // SAFETY: (1).
        unsafe { map_over(space, &mut entered, request, &range) }
    };
    drop(entered);
    match result {
        Ok(()) => ptr::with_exposed_provenance_mut(address),
        Err(error) => {
            calls::set_errno(error);
            FAILED
        }
    }
}

/// Maps zeros over a range of the reserve, whatever it was.
///
/// # Safety
///
/// 1. The program gives up what is in the range.
unsafe fn map_zeros(
    space: &Space,
    entered: &mut Entered,
    range: &Range<usize>,
) -> Result<(), c_int> {
    for (piece, state) in entered.table.pieces(range) {
        if state == RangeState::GivenUp {
            let fixed = ANONYMOUS | libc::MAP_FIXED;
            let request = MapRequest {
                address: Space::at(piece.start).addr(),
                len: piece.len(),
                access: READ_WRITE,
                flags: fixed,
                descriptor: -1,
                offset: 0,
            };
            // SAFETY: (1): the range is not the region's any more.
            if unsafe { request.map() } == FAILED {
                return Err(calls::errno());
            }
            continue;
        }
        // Closed and opened, so that its access is as asked for.
        // SAFETY: (1).
        unsafe { space.close(entered, &piece) }?;
        let opened = space.reserve.open(piece.clone());
        opened.map_err(|error| error.raw_os_error().unwrap_or(libc::ENOMEM))?;
        entered.table.set(&piece, RangeState::Used);
    }
    Ok(())
}

/// Takes a range out of the reserve, and maps what was asked for over it.
///
/// # Safety
///
/// 1. The program gives up what is in the range.
unsafe fn map_over(
    space: &Space,
    entered: &mut Entered,
    request: MapRequest,
    range: &Range<usize>,
) -> Result<(), c_int> {
    // A request that fails must not cost what is there, so it has to succeed elsewhere first.
    let elsewhere = MapRequest { address: 0, flags: request.flags & !libc::MAP_FIXED, ..request };
    // SAFETY: (1) not fixed.
    let tried = unsafe { elsewhere.map() };
    if tried == FAILED {
        return Err(calls::errno());
    }
    // SAFETY: (1) ours, and unused.
    unsafe { calls::munmap(tried.addr(), request.len) };
    // SAFETY: (1).
    unsafe { space.give_up(entered, range) }?;
    // SAFETY: (1).
    if unsafe { request.map() } == FAILED { Err(calls::errno()) } else { Ok(()) }
}

/// Unmaps memory: `munmap(2)`.
///
/// # Safety
///
/// 1. As for the system call: what is in the range is given up.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn munmap(address: *mut c_void, len: usize) -> c_int {
    let address = address.addr();
    let found = Space::get().zip(Space::overlap(address, len));
    let Some((space, _)) = found.filter(|(space, _)| address.is_multiple_of(space.page)) else {
        // SAFETY: (1).
        return unsafe { calls::munmap(address, len) };
    };
    // SAFETY: (1).
    let each = |entered: &mut Entered, piece: &Range<usize>| unsafe { space.close(entered, piece) };
    // SAFETY: (1).
    let outside = |start: usize, len: usize| unsafe { calls::munmap(start, len) };
    for_all_parts(space, address, len, each, outside)
}

/// Advises the system: `madvise(2)`.
///
/// # Safety
///
/// 1. As for the system call.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn madvise(address: *mut c_void, len: usize, advice: c_int) -> c_int {
    let address = address.addr();
    let found = Space::get().zip(Space::overlap(address, len));
    let Some((space, _)) = found.filter(|(space, _)| address.is_multiple_of(space.page)) else {
        // SAFETY: (1).
        return unsafe { calls::madvise(address, len, advice) };
    };
    // SAFETY: (1).
    let outside = |start: usize, len: usize| unsafe { calls::madvise(start, len, advice) };
    match advice {
        // The system may free such pages at once, too.
        libc::MADV_DONTNEED | libc::MADV_FREE | libc::MADV_DONTNEED_LOCKED => {
            let each = |_: &mut Entered, piece: &Range<usize>| {
                // SAFETY: (1): the program gives up what is there.
                unsafe { space.reserve.discard(piece.clone()) };
                Ok(())
            };
            for_all_parts(space, address, len, each, outside)
        }
        libc::MADV_PAGEOUT => {
            let each = |_: &mut Entered, piece: &Range<usize>| {
                space.reserve.evict(piece.clone());
                Ok(())
            };
            for_all_parts(space, address, len, each, outside)
        }
        advice if HINTS.contains(&advice) => {
            for_all_parts(space, address, len, |_, _| Ok(()), outside)
        }
        // These access every page, as the program could.
        // SAFETY: (1).
        libc::MADV_POPULATE_READ | libc::MADV_POPULATE_WRITE => outside(address, len),
        _ => fail(libc::EINVAL),
    }
}

/// Calls `each` for the open pieces of a range of addresses, and `outside` for those that are not
/// the region's. Returns 0, or sets the error number.
fn for_all_parts(
    space: &'static Space,
    address: usize,
    len: usize,
    mut each: impl FnMut(&mut Entered, &Range<usize>) -> Result<(), c_int>,
    outside: impl Fn(usize, usize) -> c_int,
) -> c_int {
    let Some(len) = space.whole_pages(len) else { return fail(libc::EINVAL) };
    let Some(range) = Space::overlap(address, len) else { return outside(address, len) };
    let (start, end) = (Space::at(range.start).addr(), Space::at(range.end).addr());
    let mut entered = space.enter();
    let mut result = Ok(());
    for (piece, state) in entered.table.pieces(&range) {
        let done = match state {
            RangeState::Free => Ok(()),
            RangeState::Used | RangeState::Protected => each(&mut entered, &piece),
            RangeState::GivenUp => match outside(Space::at(piece.start).addr(), piece.len()) {
                0 => Ok(()),
                _ => Err(calls::errno()),
            },
        };
        result = result.and(done);
    }
    drop(entered);
    let mut failed = result.err().map_or(0, fail);
    for (from, until) in [(address, start), (end, address + len)] {
        if from < until {
            failed = failed.min(outside(from, until - from));
        }
    }
    failed
}

/// Sets access: `mprotect(2)`.
///
/// # Safety
///
/// 1. As for the system call.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn mprotect(address: *mut c_void, len: usize, access: c_int) -> c_int {
    let address = address.addr();
    if let Some((space, range)) = Space::get().zip(Space::overlap(address, len)) {
        let range = range.start / space.page * space.page
            ..range.end.next_multiple_of(space.page).min(space.reserve.len());
        let mut entered = space.enter();
        for (piece, state) in entered.table.pieces(&range) {
            match state {
                // It would become accessible, and nothing would serve it.
                RangeState::Free => {
                    drop(entered);
                    return fail(libc::ENOMEM);
                }
                // Remembered, because `mremap` does not move or grow protected parts.
                RangeState::Used if access != READ_WRITE => {
                    entered.table.protect(&piece);
                }
                RangeState::Used | RangeState::Protected | RangeState::GivenUp => {}
            }
        }
    }
    // userfaultfd reports no fault on inaccessible pages, so mprotect does not interfere with the
    // region.
    // SAFETY: (1).
    unsafe { calls::mprotect(address, len, access) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    const MIB: usize = 1 << 20;

    /// Keeps a page below 64 MiB of free addresses, so that the memory that an engine maps after
    /// its reserve goes there, and not below the reserve.
    fn leave_hole() {
        let flags = ANONYMOUS | libc::MAP_NORESERVE;
        let (page, len) = (calls::page_size(), 64 * MIB);
        let access = libc::PROT_NONE;
        let request =
            MapRequest { address: 0, len: page + len, access, flags, descriptor: -1, offset: 0 };
        // SAFETY: (1) not fixed.
        let start = unsafe { request.map() };
        assert_ne!(start, FAILED);
        // SAFETY: (1) ours, and unused.
        assert_eq!(unsafe { calls::munmap(start.addr() + page, len) }, 0);
    }

    /// A fixed mapping that begins before the reserve replaces its first part, and is where it was
    /// asked for.
    #[test]
    fn fixed_mapping_from_before_the_reserve() {
        leave_hole();
        let settings = Settings { limit: 16 * MIB, at_least: MIB, spec: None, report: None };
        let space = match Space::make(settings) {
            Ok(space) => space,
            Err(error) => return println!("skipped: {error}"),
        };
        let range = space.allocate(MIB, space.page).expect("an empty reserve");
        assert_eq!(range.start, 0);
        let first: *mut u8 = Space::at(0).cast();
        // SAFETY: open memory, which nothing else uses.
        unsafe { first.write(7) };
        let before = Space::at(0).wrapping_byte_sub(MIB);
        let fixed = libc::MAP_FIXED_NOREPLACE | ANONYMOUS;
        let request = MapRequest {
            address: before.addr(),
            len: MIB,
            access: READ_WRITE,
            flags: fixed,
            descriptor: -1,
            offset: 0,
        };
        // SAFETY: (1) replaces nothing.
        if unsafe { request.map() } == FAILED {
            return println!("skipped: other memory is below the reserve");
        }
        // SAFETY: (1) ours, and not used any more.
        let mapped =
            unsafe { mmap(before, 2 * MIB, READ_WRITE, ANONYMOUS | libc::MAP_FIXED, -1, 0) };
        assert_eq!(mapped, before);
        let pieces = space.enter().table.pieces(&range);
        assert_eq!(pieces, [(range, RangeState::GivenUp)]);
        for byte in [before.cast(), first] {
            // SAFETY: mapped above, and nothing else uses it.
            assert_eq!(unsafe { byte.read() }, 0_u8);
        }
    }
}
