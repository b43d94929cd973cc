//! The one place where the workspace takes its locks, atomics and threads from.
//!
//! Normally these are [parking_lot](https://docs.rs/parking_lot)'s locks (std's show false races under ThreadSanitizer, because std is
//! not instrumented) and core's atomics. With `--cfg zpool_loom` they are loom's, so that the protocols built on them can be
//! model-checked. Statics (id counters, the check policy) stay core's atomics in both: they are not part of any protocol.

#[cfg(zpool_loom)]
mod loom_locks;
mod mark;
mod worker;

pub use mark::ThreadMark;
pub use worker::spawn_worker;

#[cfg(not(zpool_loom))]
pub use parking_lot::{Condvar, Mutex, MutexGuard};

#[cfg(zpool_loom)]
pub use loom_locks::{Condvar, Mutex, MutexGuard};

/// Atomics: core's, or loom's under `--cfg zpool_loom`.
pub mod atomic {
    #[cfg(zpool_loom)]
    pub use loom::sync::atomic::{
        AtomicBool, AtomicIsize, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, fence,
    };

    #[cfg(not(zpool_loom))]
    pub use core::sync::atomic::{
        AtomicBool, AtomicIsize, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, fence,
    };

    pub use core::sync::atomic::Ordering;
}

/// Threads: std's, or loom's under `--cfg zpool_loom`.
pub mod thread {
    #[cfg(zpool_loom)]
    pub use loom::thread::{
        Builder, JoinHandle, Thread, ThreadId, current, park, spawn, yield_now,
    };

    #[cfg(not(zpool_loom))]
    pub use std::thread::{Builder, JoinHandle, Thread, ThreadId, current, park, spawn, yield_now};
}

/// Waits for an unpark, or until `timeout` has passed (never, in the model: loom has no clock). May also return for no reason.
pub fn park_timeout(timeout: core::time::Duration) {
    #[cfg(zpool_loom)]
    {
        let _ = timeout;
        thread::park();
    }
    #[cfg(not(zpool_loom))]
    std::thread::park_timeout(timeout);
}

/// Tells the processor (or loom's scheduler) that this thread waits for another one's bounded step.
#[inline]
pub fn spin_hint() {
    #[cfg(zpool_loom)]
    loom::thread::yield_now();
    #[cfg(not(zpool_loom))]
    core::hint::spin_loop();
}

pub(crate) mod take_cell;
