//! The heap of this library: that of glibc, past the functions that this library replaces.

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;

unsafe extern "C" {
    pub(crate) fn __libc_malloc(len: usize) -> *mut c_void;
    pub(crate) fn __libc_calloc(count: usize, len: usize) -> *mut c_void;
    pub(crate) fn __libc_realloc(block: *mut c_void, len: usize) -> *mut c_void;
    pub(crate) fn __libc_memalign(align: usize, len: usize) -> *mut c_void;
    pub(crate) fn __libc_free(block: *mut c_void);
}

/// The alignment of every block of glibc.
const ALIGN: usize = 16;

/// The allocator of all Rust code in this library, statement Z1 of the crate's essay.
#[derive(Debug)]
struct LibcHeap;

#[cfg_attr(not(test), global_allocator)]
static HEAP: LibcHeap = LibcHeap;

// SAFETY: glibc's own functions, which keep the promises of an allocator.
unsafe impl GlobalAlloc for LibcHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = if layout.align() <= ALIGN {
            // SAFETY: any length is allowed.
            unsafe { __libc_malloc(layout.size()) }
        } else {
            // SAFETY: the alignment is a power of two.
            unsafe { __libc_memalign(layout.align(), layout.size()) }
        };
        block.cast()
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= ALIGN {
            // SAFETY: any length is allowed.
            return unsafe { __libc_calloc(1, layout.size()) }.cast();
        }
        // SAFETY: as for `alloc`.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: a block of that length.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: a block of one of the functions above.
        unsafe { __libc_free(block.cast()) };
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        if layout.align() <= ALIGN {
            // SAFETY: a block of one of the functions above.
            return unsafe { __libc_realloc(block.cast(), len) }.cast();
        }
        // SAFETY: the alignment is that of a layout, and the length was checked by the caller.
        let new = unsafe { Layout::from_size_align_unchecked(len, layout.align()) };
        // SAFETY: as for `alloc`.
        let moved = unsafe { self.alloc(new) };
        if !moved.is_null() {
            // SAFETY: two blocks of at least that length.
            unsafe { moved.copy_from_nonoverlapping(block, len.min(layout.size())) };
            // SAFETY: the block is not used any more.
            unsafe { self.dealloc(block, layout) };
        }
        moved
    }
}
