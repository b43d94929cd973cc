//! The locks, atomics and threads of the workspace.
//!
//! Normally these are [parking_lot](https://docs.rs/parking_lot)'s locks and core's atomics. (std's
//! locks cause false reports of ThreadSanitizer, because std is not instrumented.) With `--cfg
//! zpool_loom` they are loom's, so that protocols can be model-checked. Statics, such as id
//! counters and the check policy, are core's atomics in both cases: they are part of no protocol.

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
        AtomicBool, AtomicIsize, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, fence,
    };

    #[cfg(not(zpool_loom))]
    pub use core::sync::atomic::{
        AtomicBool, AtomicIsize, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, fence,
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

/// Waits for an unpark, or until `timeout` has passed. May also return spuriously. In a model it
/// never times out, since loom has no clock.
pub fn park_timeout(timeout: core::time::Duration) {
    #[cfg(zpool_loom)]
    {
        let _ = timeout;
        thread::park();
    }
    #[cfg(not(zpool_loom))]
    std::thread::park_timeout(timeout);
}

/// Hints to the processor, or to loom's scheduler, that this thread waits for a bounded step of
/// another one.
#[inline]
pub fn spin_hint() {
    #[cfg(zpool_loom)]
    loom::thread::yield_now();
    #[cfg(not(zpool_loom))]
    core::hint::spin_loop();
}

pub(crate) mod take_cell;
