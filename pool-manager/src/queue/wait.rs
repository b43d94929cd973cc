//! Waits that end also when the thread that is waited for is gone.
//!
//! Nothing here is a deadline: after a while without news a waiter only looks whether what it waits
//! for can still come, and does it itself if it cannot.

use std::time::Duration;

use zpool_core::internal::sync::{Condvar, Mutex, MutexGuard};

/// How long a waiter waits without news before it looks whether the other thread is still there.
pub(crate) const PATIENCE: Duration = Duration::from_millis(50);

/// Waits until `done` holds. Returns false if it does not and `hopeless` says that it never will.
pub(crate) fn wait_unless<T>(
    lock: &Mutex<T>,
    moved: &Condvar,
    mut done: impl FnMut(&T) -> bool,
    hopeless: impl Fn() -> bool,
) -> bool {
    // A thread that is gone may have had the lock.
    let Some(mut state) = lock_unless(lock, &hopeless) else { return false };
    while !done(&state) {
        if moved.wait_for(&mut state, PATIENCE).timed_out() && !done(&state) && hopeless() {
            return false;
        }
    }
    true
}

/// Locks `lock`, or returns `None` if it is held and `hopeless` says that it always will be.
pub(crate) fn lock_unless<T>(
    lock: &Mutex<T>,
    hopeless: impl Fn() -> bool,
) -> Option<MutexGuard<'_, T>> {
    loop {
        if let Some(guard) = lock.try_lock_for(PATIENCE) {
            return Some(guard);
        }
        if hopeless() {
            return None;
        }
    }
}
