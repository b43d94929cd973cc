//! The functions of `malloc`. Large blocks are in the reserve, a part of the range table each, and
//! the rest is glibc's.
//!
//! A block of the reserve has no header. Its address is a whole page, and its length is a number of
//! pages.

use std::ffi::{c_int, c_void};
use std::ptr;

use zpool_core::internal::sync::atomic::{AtomicBool, Ordering};

use crate::calls::{NextFunction, function_of_program, set_errno};
use crate::libc_heap::{
    __libc_calloc, __libc_free, __libc_malloc, __libc_memalign, __libc_realloc,
};
use crate::space::Space;

/// Whether `malloc` was called before there was a reserve.
static CALLED: AtomicBool = AtomicBool::new(false);

/// Returns whether the program's `malloc` is the one below. To be asked before there is a reserve.
///
/// Comparing addresses is not enough: if a program takes the address of `malloc`, the symbol
/// resolves to the program's own PLT entry.
pub(crate) fn malloc_is_ours() -> bool {
    let [malloc, free] = [c"malloc", c"free"].map(function_of_program);
    if malloc == 0 || free == 0 {
        return false;
    }
    CALLED.store(false, Ordering::Relaxed);
    let malloc: *const c_void = ptr::with_exposed_provenance(malloc);
    #[expect(clippy::disallowed_methods, reason = "no other conversion makes a function")]
    // SAFETY: this is the type of the function of that name.
    let malloc: extern "C" fn(usize) -> *mut c_void = unsafe { std::mem::transmute(malloc) };
    let free: *const c_void = ptr::with_exposed_provenance(free);
    #[expect(clippy::disallowed_methods, reason = "no other conversion makes a function")]
    // SAFETY: this is the type of the function of that name.
    let free: extern "C" fn(*mut c_void) = unsafe { std::mem::transmute(free) };
    free(malloc(1));
    CALLED.load(Ordering::Relaxed)
}

/// Returns a block in the reserve, or `None` if it is one for glibc.
fn allocate(len: usize, align: usize) -> Option<*mut c_void> {
    let Some(space) = Space::get() else {
        CALLED.store(true, Ordering::Relaxed);
        return None;
    };
    if len < space.at_least {
        return None;
    }
    let range = space.allocate(len, align)?;
    Some(Space::at(range.start))
}

/// Frees a block of the reserve. In a child of a bare fork, which does not have it, this does
/// nothing.
///
/// # Safety
///
/// 1. `offset` is that of a block of this library, which is not used any more.
unsafe fn release(offset: usize) {
    let Some(space) = Space::get() else { return };
    let mut entered = space.enter();
    if let Some(range) = entered.table.open_at(offset) {
        // SAFETY: (1). If the system refuses, the block stays.
        let _ = unsafe { space.close(&mut entered, &range) };
    }
}

/// Returns the bytes of the block of the reserve at `offset`.
fn block_len(offset: usize) -> usize {
    let range = Space::get().and_then(|space| space.enter().table.open_at(offset));
    range.map_or(0, |range| range.len())
}

/// Allocates a block: `malloc(3)`.
///
/// # Safety
///
/// None: see the manual.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn malloc(len: usize) -> *mut c_void {
    // SAFETY: any length is allowed.
    allocate(len, 1).unwrap_or_else(|| unsafe { __libc_malloc(len) })
}

/// Allocates zeros: `calloc(3)`.
///
/// # Safety
///
/// None: see the manual.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn calloc(count: usize, len: usize) -> *mut c_void {
    // What was just opened is zeros.
    let block = count.checked_mul(len).and_then(|len| allocate(len, 1));
    // SAFETY: any length is allowed.
    block.unwrap_or_else(|| unsafe { __libc_calloc(count, len) })
}

/// Frees a block: `free(3)`.
///
/// # Safety
///
/// 1. The block comes from one of these functions, or is null, and is not used any more.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn free(block: *mut c_void) {
    match Space::offset_of(block.addr()) {
        // SAFETY: (1).
        Some(offset) => unsafe { release(offset) },
        // SAFETY: (1).
        None => unsafe { __libc_free(block) },
    }
}

/// Resizes a block: `realloc(3)`.
///
/// # Safety
///
/// 1. As for [`free`], if the result is not null or `len` is 0.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn realloc(block: *mut c_void, len: usize) -> *mut c_void {
    if let Some(offset) = Space::offset_of(block.addr()) {
        // SAFETY: (1).
        return unsafe { resize(block, offset, len) };
    }
    if block.is_null() {
        // SAFETY: any length is allowed.
        return unsafe { malloc(len) };
    }
    if let Some(moved) = allocate(len, 1) {
        // SAFETY: (1).
        let old_len = unsafe { malloc_usable_size(block) };
        // SAFETY: two blocks of at least that length.
        unsafe { moved.copy_from_nonoverlapping(block, old_len.min(len)) };
        // SAFETY: (1).
        unsafe { __libc_free(block) };
        return moved;
    }
    // SAFETY: (1).
    unsafe { __libc_realloc(block, len) }
}

/// Resizes a block of the reserve: in place, if what is behind it is free.
///
/// # Safety
///
/// 1. As for [`realloc`].
unsafe fn resize(block: *mut c_void, offset: usize, len: usize) -> *mut c_void {
    let Some(space) = Space::get() else {
        set_errno(libc::ENOMEM);
        return ptr::null_mut();
    };
    let old_len = block_len(offset);
    if len == 0 {
        // SAFETY: (1).
        unsafe { release(offset) };
        return ptr::null_mut();
    }
    // If more than half of `at_least` is left, the block stays and its surplus pages are closed. A
    // smaller one moves to glibc.
    if let Some(whole) = space.whole_pages(len).filter(|_| len > space.at_least / 2) {
        let (old_end, new_end) = (offset + old_len, offset.saturating_add(whole));
        let mut entered = space.enter();
        if new_end <= old_end {
            // SAFETY: (1): the rest is given up. If the system refuses, it stays.
            let _ = unsafe { space.close(&mut entered, &(new_end..old_end)) };
            return block;
        }
        if space.grow(&mut entered, &(old_end..new_end)) {
            return block;
        }
    }
    // SAFETY: any length is allowed.
    let moved = unsafe { malloc(len) };
    if !moved.is_null() {
        // SAFETY: two blocks of at least that length.
        unsafe { moved.copy_from_nonoverlapping(block, old_len.min(len)) };
        // SAFETY: (1).
        unsafe { release(offset) };
    }
    moved
}

/// Resizes a block of items: `reallocarray(3)`.
///
/// # Safety
///
/// 1. As for [`realloc`].
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn reallocarray(
    block: *mut c_void,
    count: usize,
    len: usize,
) -> *mut c_void {
    let Some(len) = count.checked_mul(len) else {
        set_errno(libc::ENOMEM);
        return ptr::null_mut();
    };
    // SAFETY: (1).
    unsafe { realloc(block, len) }
}

/// Allocates an aligned block: `memalign(3)`.
///
/// # Safety
///
/// None: see the manual.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn memalign(align: usize, len: usize) -> *mut c_void {
    let block = if align.is_power_of_two() { allocate(len, align) } else { None };
    // SAFETY: any length is allowed; the alignment is checked or rounded there.
    block.unwrap_or_else(|| unsafe { __libc_memalign(align, len) })
}

/// Allocates an aligned block: `aligned_alloc(3)`.
///
/// # Safety
///
/// None: see the manual.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn aligned_alloc(align: usize, len: usize) -> *mut c_void {
    // SAFETY: as there.
    unsafe { memalign(align, len) }
}

/// Allocates an aligned block: `posix_memalign(3)`.
///
/// # Safety
///
/// 1. `result` may be written.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn posix_memalign(
    result: *mut *mut c_void,
    align: usize,
    len: usize,
) -> c_int {
    if !align.is_power_of_two() || !align.is_multiple_of(size_of::<usize>()) {
        return libc::EINVAL;
    }
    // SAFETY: the alignment is a power of two.
    let block = unsafe { memalign(align, len) };
    if block.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: (1).
    unsafe { *result = block };
    0
}

/// Allocates a block of whole pages: `valloc(3)`.
///
/// # Safety
///
/// None: see the manual.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn valloc(len: usize) -> *mut c_void {
    // SAFETY: a page is a power of two.
    unsafe { memalign(crate::calls::page_size(), len) }
}

/// Allocates whole pages: `pvalloc(3)`.
///
/// # Safety
///
/// None: see the manual.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn pvalloc(len: usize) -> *mut c_void {
    let page = crate::calls::page_size();
    let Some(len) = len.checked_next_multiple_of(page) else {
        set_errno(libc::ENOMEM);
        return ptr::null_mut();
    };
    // SAFETY: a page is a power of two.
    unsafe { memalign(page, len) }
}

/// Returns the bytes of a block: `malloc_usable_size(3)`.
///
/// # Safety
///
/// 1. The block comes from one of these functions, or is null.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn malloc_usable_size(block: *mut c_void) -> usize {
    // Looked up, because it has no second name, as the others have.
    static OF_GLIBC: NextFunction = NextFunction::new(c"malloc_usable_size");
    if block.is_null() {
        return 0;
    }
    if let Some(offset) = Space::offset_of(block.addr()) {
        return block_len(offset);
    }
    let function = OF_GLIBC.address();
    if function == 0 {
        return 0;
    }
    let function: *const c_void = ptr::with_exposed_provenance(function);
    #[expect(clippy::disallowed_methods, reason = "no other conversion makes a function")]
    // SAFETY: this is the type of the function of that name.
    let function: extern "C" fn(*mut c_void) -> usize = unsafe { std::mem::transmute(function) };
    function(block)
}
