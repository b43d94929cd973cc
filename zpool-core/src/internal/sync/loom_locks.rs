//! loom's locks with parking_lot's interface: no poisoning, `try_lock` returns an `Option`, and a
//! condition variable borrows the guard.

use core::ops::{Deref, DerefMut};
use std::time::Duration;

/// See [`parking_lot::Mutex`].
#[derive(Debug)]
pub struct Mutex<T>(loom::sync::Mutex<T>);

/// See [`parking_lot::MutexGuard`].
#[derive(Debug)]
pub struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

/// See [`parking_lot::Condvar`].
#[derive(Debug)]
pub struct Condvar(loom::sync::Condvar);

/// The result of [`Condvar::wait_for`]. loom has no clock, so a wait never times out.
#[derive(Debug, Clone, Copy)]
pub struct WaitTimeoutResult;

impl WaitTimeoutResult {
    /// Returns false: see the type.
    pub fn timed_out(self) -> bool {
        false
    }
}

impl<T> Mutex<T> {
    /// Makes a mutex.
    pub fn new(value: T) -> Self {
        Mutex(loom::sync::Mutex::new(value))
    }

    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().unwrap_or_else(|e| e.into_inner())))
    }

    /// Locks the mutex if it is free.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok().map(|g| MutexGuard(Some(g)))
    }

    /// Waits for the lock, since the model has no clock.
    pub fn try_lock_for(&self, _timeout: Duration) -> Option<MutexGuard<'_, T>> {
        Some(self.lock())
    }

    /// Returns the value, which no other thread can lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(|e| e.into_inner())
    }

    /// Returns the value.
    pub fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(|e| e.into_inner())
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Condvar::new()
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Mutex::new(T::default())
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0.as_ref().expect("a guard is empty only inside Condvar::wait")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("a guard is empty only inside Condvar::wait")
    }
}

impl Condvar {
    /// Makes a condition variable.
    pub fn new() -> Self {
        Condvar(loom::sync::Condvar::new())
    }

    /// Unlocks the mutex, waits for a notification, and locks it again.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let inner = guard.0.take().expect("a guard is empty only inside Condvar::wait");
        guard.0 = Some(self.0.wait(inner).unwrap_or_else(|e| e.into_inner()));
    }

    /// Waits as [`wait`](Self::wait) does, since the model has no clock.
    pub fn wait_for<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        _timeout: Duration,
    ) -> WaitTimeoutResult {
        self.wait(guard);
        WaitTimeoutResult
    }

    /// Wakes one waiter.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes all waiters.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}
