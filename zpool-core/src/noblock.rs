//! Sections that must not block, and the check that no operation in them does.
//!
//! The kernel's original bug was a destructor that slept where its caller must not sleep. Here that
//! rule is a checked contract. A thread opens a [`NoBlock`] section, and every operation that may
//! block calls [`might_block`]. A process-wide policy decides what a violation does; it is off by
//! default.
//!
//! To *block* is to wait without bound: for the operating system's memory calls, a plug-in's
//! constructor or destructor, I/O, a flush, or another job. Leaf locks of the pools do not count:
//! they are held for a bounded time with no foreign code under them.

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::panic::Location;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::OnceLock;

/// The effect of [`might_block`] inside a [`NoBlock`] section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum CheckPolicy {
    /// None, at the cost of one relaxed load. The default.
    Off = 0,
    /// Counts the violation and remembers the first.
    Count = 1,
    /// Counts, and panics with the operation's name. While the thread is unwinding, only counts,
    /// since a second panic would abort.
    Panic = 2,
}

static POLICY: AtomicU8 = AtomicU8::new(CheckPolicy::Off as u8);
static VIOLATIONS: AtomicU64 = AtomicU64::new(0);
static FIRST: OnceLock<BlockViolation> = OnceLock::new();

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// A section of the current thread in which no operation may block. It ends when this is dropped,
/// and may be nested.
#[must_use = "the section ends when this is dropped"]
#[derive(Debug)]
pub struct NoBlock {
    /// A section belongs to its thread.
    not_send: PhantomData<*const ()>,
}

impl NoBlock {
    /// Opens a section.
    #[inline]
    pub fn enter() -> NoBlock {
        DEPTH.with(|d| d.set(d.get() + 1));
        NoBlock { not_send: PhantomData }
    }

    /// Returns whether this thread is inside a section.
    #[inline]
    pub fn is_active() -> bool {
        DEPTH.with(|d| d.get() > 0)
    }
}

impl Drop for NoBlock {
    #[inline]
    fn drop(&mut self) {
        DEPTH.with(|d| d.set(d.get() - 1));
    }
}

/// A call inside a [`NoBlock`] section of an operation that may block.
#[derive(Debug, Clone, Copy)]
pub struct BlockViolation {
    /// The operation's own name for itself.
    pub operation: &'static str,
    /// The place where it called [`might_block`].
    pub location: &'static Location<'static>,
}

impl fmt::Display for BlockViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` may block, but was called inside a no-block section ({})",
            self.operation, self.location
        )
    }
}

/// Declares that the caller is about to do something that may block.
///
/// # Panics
///
/// Under [`CheckPolicy::Panic`], inside a [`NoBlock`] section, unless the thread is already
/// panicking.
#[inline]
#[track_caller]
pub fn might_block(operation: &'static str) {
    // Relaxed: a policy that is set after a thread has started may miss its first operations.
    if POLICY.load(Ordering::Relaxed) != CheckPolicy::Off as u8 && NoBlock::is_active() {
        violated(BlockViolation { operation, location: Location::caller() });
    }
}

#[cold]
#[track_caller]
fn violated(violation: BlockViolation) {
    // Relaxed: statistics only.
    VIOLATIONS.fetch_add(1, Ordering::Relaxed);
    let _ = FIRST.set(violation);
    if POLICY.load(Ordering::Relaxed) == CheckPolicy::Panic as u8 && !std::thread::panicking() {
        panic!("{violation}");
    }
}

/// Sets the policy for the whole process and returns the previous one.
pub fn set_check_policy(policy: CheckPolicy) -> CheckPolicy {
    // Relaxed: see might_block.
    match POLICY.swap(policy as u8, Ordering::Relaxed) {
        0 => CheckPolicy::Off,
        1 => CheckPolicy::Count,
        _ => CheckPolicy::Panic,
    }
}

/// Returns the number of violations since the process started.
pub fn violations() -> u64 {
    VIOLATIONS.load(Ordering::Relaxed)
}

/// Returns the first violation of the process, if there was one.
pub fn first_violation() -> Option<BlockViolation> {
    FIRST.get().copied()
}
