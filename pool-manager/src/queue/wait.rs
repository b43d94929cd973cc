//! Waits that also end when the awaited thread is gone.
//!
//! These are not deadlines. After each interval without a notification, a waiter only checks
//! whether the event can still happen. If it cannot, the waiter does the work itself.

use std::time::Duration;

use zpool_core::internal::sync::{Condvar, Mutex, MutexGuard};

/// Interval without a notification after which a waiter checks whether the other thread still
/// exists.
pub(crate) const LIVENESS_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Waits until `done` holds. Returns false if it does not and `owner_is_gone` reports that it never
/// will.
pub(crate) fn wait_unless<T>(
    lock: &Mutex<T>,
    moved: &Condvar,
    mut done: impl FnMut(&T) -> bool,
    owner_is_gone: impl Fn() -> bool,
) -> bool {
    // A thread that is gone may have held the lock.
    let Some(mut state) = lock_unless(lock, &owner_is_gone) else { return false };
    while !done(&state) {
        if moved.wait_for(&mut state, LIVENESS_CHECK_INTERVAL).timed_out()
            && !done(&state)
            && owner_is_gone()
        {
            return false;
        }
    }
    true
}

/// Locks `lock`, or returns `None` if it is held and `owner_is_gone` reports that it always will
/// be.
pub(crate) fn lock_unless<T>(
    lock: &Mutex<T>,
    owner_is_gone: impl Fn() -> bool,
) -> Option<MutexGuard<'_, T>> {
    loop {
        if let Some(guard) = lock.try_lock_for(LIVENESS_CHECK_INTERVAL) {
            return Some(guard);
        }
        if owner_is_gone() {
            return None;
        }
    }
}
