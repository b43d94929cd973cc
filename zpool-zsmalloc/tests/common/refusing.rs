//! A global allocator that refuses heap calls of a thread on request. Included by the test programs
//! that need it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

std::thread_local! {
    /// Allocations until one is refused. Negative: none is.
    static LEFT: Cell<i64> = const { Cell::new(-1) };
    /// All allocations after that one are refused as well.
    static FROM: Cell<bool> = const { Cell::new(false) };
    static REFUSED: Cell<u64> = const { Cell::new(0) };
}

/// Runs `work` while this thread's allocation number `n` is refused, and if `from`, all after it.
/// Returns what `work` did and how many were refused.
pub(crate) fn refusing<R>(n: i64, from: bool, work: impl FnOnce() -> R) -> (R, u64) {
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            LEFT.set(-1);
        }
    }
    REFUSED.set(0);
    FROM.set(from);
    LEFT.set(n);
    let end = End;
    let result = work();
    drop(end);
    (result, REFUSED.get())
}

/// Runs `work`, which is not the pool's, without refusals.
pub(crate) fn exempt<R>(work: impl FnOnce() -> R) -> R {
    let left = LEFT.replace(-1);
    let result = work();
    LEFT.set(left);
    result
}

fn refuses() -> bool {
    match LEFT.get() {
        left if left < 0 => return false,
        0 if FROM.get() => {}
        left => {
            LEFT.set(left - 1);
            if left > 0 {
                return false;
            }
        }
    }
    REFUSED.set(REFUSED.get() + 1);
    true
}

struct Refusing;

#[global_allocator]
static REFUSING: Refusing = Refusing;

// SAFETY: forwards to the system's allocator or returns null, which means that there is no memory.
// The cells allocate nothing and do not unwind. Reallocation is the trait's own, made of these two.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if refuses() {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's duties are the callee's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's duties are the callee's.
        unsafe { System.dealloc(ptr, layout) }
    }
}
