//! A global allocator that counts the calls of each thread, and refuses memory on request.
//!
//! A test program with this allocator needs a binary of its own, because the allocator is that of
//! the whole process:
//!
//! ```
//! use zpool_testing::heap::CountingAllocator;
//!
//! #[global_allocator]
//! static ALLOCATOR: CountingAllocator = CountingAllocator;
//! # fn main() {}
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::OnceLock;

std::thread_local! {
    static HEAP: Cell<Heap> = const { Cell::new(Heap { allocations: 0, frees: 0, bytes: 0 }) };
    static REFUSAL: Cell<Refusal> = const { Cell::new(Refusal::Nothing) };
}

/// Called at each heap call of any thread.
static HOOK: OnceLock<fn()> = OnceLock::new();

/// The system's allocator, with each call counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct CountingAllocator;

/// The heap calls of one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heap {
    /// Allocations that were not refused here. A reallocation is one of them and a free.
    pub allocations: u64,
    /// Frees.
    pub frees: u64,
    /// Bytes allocated less bytes freed.
    pub bytes: isize,
}

/// The requests for memory that a thread is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// None.
    Nothing,
    /// All of them.
    All,
    /// The one after this many others.
    Nth(u64),
    /// The one after this many others, and all later ones.
    From(u64),
    /// The one after this many others, of those that grow an allocation, such as a vector's.
    NthGrowth(u64),
    /// All requests of at least this many bytes.
    AtLeast(usize),
}

impl Heap {
    /// Returns the calls of this thread so far.
    pub fn now() -> Heap {
        HEAP.get()
    }

    /// Returns the calls of this thread since `before`.
    pub fn since(before: Heap) -> Heap {
        let now = Heap::now();
        Heap {
            allocations: now.allocations - before.allocations,
            frees: now.frees - before.frees,
            bytes: now.bytes - before.bytes,
        }
    }

    /// Returns allocations and frees together.
    pub fn calls(self) -> u64 {
        self.allocations + self.frees
    }
}

/// Returns the allocations and frees of this thread so far, for the counter of a suite.
pub fn calls() -> u64 {
    Heap::now().calls()
}

/// Returns the heap calls that `work` makes on this thread.
pub fn calls_of(work: impl FnOnce()) -> u64 {
    let before = Heap::now();
    work();
    Heap::since(before).calls()
}

/// Runs `work` while this thread is refused memory. A request that cannot fail aborts the process.
pub fn refusing<R>(refusal: Refusal, work: impl FnOnce() -> R) -> R {
    refusing_some(refusal, work).0
}

/// Runs `work` while this thread is refused memory, by `Nth`, `NthGrowth` or `From`. Also returns
/// whether a request was refused.
pub fn refusing_some<R>(refusal: Refusal, work: impl FnOnce() -> R) -> (R, bool) {
    REFUSAL.set(refusal);
    let result = work();
    (result, matches!(REFUSAL.replace(Refusal::Nothing), Refusal::Nothing | Refusal::All))
}

/// Runs `work`, which is not under test, while this thread is refused nothing. Its requests do not
/// count down a [`Refusal`], but [`Heap`] counts them.
pub fn exempt<R>(work: impl FnOnce() -> R) -> R {
    let refusal = REFUSAL.replace(Refusal::Nothing);
    let result = work();
    REFUSAL.set(refusal);
    result
}

/// Calls `hook` at each heap call of any thread from now on. It must make none itself.
///
/// # Panics
///
/// If there is a hook already.
pub fn on_each_call(hook: fn()) {
    assert!(HOOK.set(hook).is_ok(), "one hook per process");
}

impl Refusal {
    /// Counts a request of `bytes` down, and returns whether it is refused.
    fn refuses(self, bytes: usize, grows: bool) -> bool {
        let countdown = |n: u64, at_zero: Refusal, others: fn(u64) -> Refusal| {
            REFUSAL.set(n.checked_sub(1).map_or(at_zero, others));
            n == 0
        };
        match self {
            Refusal::Nothing => false,
            Refusal::All => true,
            Refusal::Nth(n) => countdown(n, Refusal::Nothing, Refusal::Nth),
            Refusal::From(n) => countdown(n, Refusal::All, Refusal::From),
            Refusal::NthGrowth(n) => grows && countdown(n, Refusal::Nothing, Refusal::NthGrowth),
            Refusal::AtLeast(least) => bytes >= least,
        }
    }
}

fn count(allocated: Option<usize>, freed: Option<usize>) {
    let mut heap = HEAP.get();
    heap.allocations += u64::from(allocated.is_some());
    heap.frees += u64::from(freed.is_some());
    heap.bytes += allocated.unwrap_or(0) as isize - freed.unwrap_or(0) as isize;
    HEAP.set(heap);
    if let Some(hook) = HOOK.get() {
        hook();
    }
}

// SAFETY: forwards to the system's allocator, or returns null and changes nothing. The counters are
// plain cells without destructors, so counting neither allocates nor unwinds. A hook must do
// neither.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if REFUSAL.get().refuses(layout.size(), false) {
            return std::ptr::null_mut();
        }
        count(Some(layout.size()), None);
        // SAFETY: the caller's duties are the callee's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if REFUSAL.get().refuses(new_size, true) {
            return std::ptr::null_mut();
        }
        count(Some(new_size), Some(layout.size()));
        // SAFETY: the caller's duties are the callee's.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(None, Some(layout.size()));
        // SAFETY: the caller's duties are the callee's.
        unsafe { System.dealloc(ptr, layout) }
    }
}
