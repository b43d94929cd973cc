//! Waits that also end when the awaited thread is gone.
//!
//! These are not deadlines. After a while without news, a waiter only checks whether the event can
//! still happen. If it cannot, the waiter does the work itself.

use std::time::Duration;

use zpool_core::internal::sync::{Condvar, Mutex, MutexGuard};

/// Interval at which a waiter without news checks whether the other thread still exists.
pub(crate) const PATIENCE: Duration = Duration::from_millis(50);

/// Waits until `done` holds. Returns false if it does not and `hopeless` reports that it never
/// will.
pub(crate) fn wait_unless<T>(
    lock: &Mutex<T>,
    moved: &Condvar,
    mut done: impl FnMut(&T) -> bool,
    hopeless: impl Fn() -> bool,
) -> bool {
    // A thread that is gone may have held the lock.
    let Some(mut state) = lock_unless(lock, &hopeless) else { return false };
    while !done(&state) {
        if moved.wait_for(&mut state, PATIENCE).timed_out() && !done(&state) && hopeless() {
            return false;
        }
    }
    true
}

/// Locks `lock`, or returns `None` if it is held and `hopeless` reports that it always will be.
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
