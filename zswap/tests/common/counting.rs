//! An allocator that counts the calls of each thread, and refuses memory on request.
#![allow(dead_code, reason = "each test file uses a part of this")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static REFUSED: Cell<Refused> = const { Cell::new(Refused::Nothing) };
}

/// Heap requests that a thread is refused.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Refused {
    Nothing,
    /// Everything.
    All,
    /// One request, after this number of others.
    Nth(u64),
    /// That one and all after it.
    From(u64),
    /// As `Nth`, of those that are to make something larger that is there: vectors that
    /// grow.
    NthGrowth(u64),
    /// All requests of at least this many bytes.
    AtLeast(usize),
}

impl Refused {
    fn is(self, bytes: usize, growth: bool) -> bool {
        let next = |n: u64, wrap: fn(u64) -> Refused| {
            REFUSED.set(n.checked_sub(1).map_or(Refused::Nothing, wrap));
            n == 0
        };
        match self {
            Refused::Nothing => false,
            Refused::All => true,
            Refused::Nth(n) => next(n, Refused::Nth),
            Refused::From(n) => {
                REFUSED.set(n.checked_sub(1).map_or(Refused::All, Refused::From));
                n == 0
            }
            Refused::NthGrowth(n) => growth && next(n, Refused::NthGrowth),
            Refused::AtLeast(most) => bytes >= most,
        }
    }
}

/// Does `work` while this thread is `refused` memory. What asks for it in a way that cannot fail
/// aborts the process.
pub(crate) fn refusing<R>(refused: Refused, work: impl FnOnce() -> R) -> R {
    REFUSED.set(refused);
    let result = work();
    REFUSED.set(Refused::Nothing);
    result
}

/// Like [`refusing`], for `Nth` and `From`. Also returns whether a request was refused.
pub(crate) fn refusing_some<R>(refused: Refused, work: impl FnOnce() -> R) -> (R, bool) {
    REFUSED.set(refused);
    let result = work();
    (result, matches!(REFUSED.replace(Refused::Nothing), Refused::Nothing | Refused::All))
}

/// Calls of the heap that `work` makes on this thread, both ways.
pub(crate) fn heap_calls(work: impl FnOnce()) -> u64 {
    let before = CALLS.get();
    work();
    CALLS.get() - before
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: forwards to the system's allocator, or gives null and changes nothing; the thread-locals
// are plain cells, which allocate nothing and do not unwind.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        if REFUSED.get().is(layout.size(), false) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's duties are the callee's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        if REFUSED.get().is(new_size, true) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's duties are the callee's.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's duties are the callee's.
        unsafe { System.dealloc(ptr, layout) }
    }
}
