//! Threads that wait for a compression context, because their codec may not make another one.
//!
//! ```text
//!   wait:    lock ─► attention += WAITER ─► take from the cells ─► none: wait for a notification
//!   return:  put into a cell ─► attention? ─► lock, take it out again, hand it over, notify
//! ```
//!
//! No wake-up is lost. A waiter raises `attention` and then empties a cell by an exchange. A thread
//! that returns a context fills the cell by an exchange and then reads `attention`. The two
//! exchanges are ordered: either the waiter finds the context, or the other thread sees the waiter.
//!
//! A context is handed over to a waiter. Otherwise the thread that returned it could take it again
//! before the waiter runs.

use crate::internal::sync::atomic::{AtomicUsize, Ordering};
use crate::internal::sync::{Condvar, Mutex};

use super::ContextBudget;

/// Compression contexts are not kept: the pool is retired.
pub(super) const RETIRED: usize = 1;
/// There may be more contexts than the budget allows.
pub(super) const SURPLUS: usize = 2;
/// Added once for each waiting thread.
const WAITER: usize = 4;

/// The threads that wait for a `T` of a codec.
pub(super) struct WaitQueue<T> {
    /// The flags above: a thread that returns a context acts on them.
    attention: AtomicUsize,
    state: Mutex<WaitState<T>>,
    moved: Condvar,
}

struct WaitState<T> {
    waiting: usize,
    /// Contexts that exist or are being made.
    alive: usize,
    /// A context on its way to a waiter.
    handed: Option<Box<T>>,
    /// Incremented when a context is returned, freed or made.
    progress: u64,
}

impl<T> WaitQueue<T> {
    pub(super) fn new() -> WaitQueue<T> {
        let state = WaitState { waiting: 0, alive: 0, handed: None, progress: 0 };
        WaitQueue {
            attention: AtomicUsize::new(0),
            state: Mutex::new(state),
            moved: Condvar::new(),
        }
    }

    /// Returns the flags: almost always 0.
    #[inline]
    pub(super) fn attention(&self) -> usize {
        // Relaxed: ordered by the exchange of the cell, see the module. A fence here would wait for
        // all earlier writes, including the object in the pool.
        self.attention.load(Ordering::Relaxed)
    }

    /// Sets or clears one of the flags.
    pub(super) fn set(&self, flag: usize, on: bool) {
        // Relaxed: setting is ordered by the exchanges of cells that follow it. A thread that still
        // sees a cleared flag only does some needless work.
        if on {
            self.attention.fetch_or(flag, Ordering::Relaxed);
        } else {
            self.attention.fetch_and(!flag, Ordering::Relaxed);
        }
    }

    /// Waits for a context that `take` finds or another thread hands over.
    ///
    /// Returns `None` if the caller has to make a context, which is then counted as alive. That is:
    ///
    /// - at once, if `may_wait` is false;
    /// - as soon as `may_make`, which gets the number of contexts alive, allows it;
    /// - after [`ContextBudget::MAX_WAIT`] without progress.
    pub(super) fn wait(
        &self,
        may_wait: bool,
        take: impl Fn() -> Option<Box<T>>,
        may_make: impl Fn(usize) -> bool,
    ) -> Option<Box<T>> {
        let mut state = self.state.lock();
        if !may_wait || may_make(state.alive) {
            state.alive += 1;
            return None;
        }
        state.waiting += 1;
        self.attention.fetch_add(WAITER, Ordering::Relaxed);
        let mut stalled = false;
        let found = loop {
            if let Some(found) = state.handed.take().or_else(&take) {
                break Some(found);
            }
            if stalled || may_make(state.alive) {
                state.alive += 1;
                // A new context is progress for the other waiters, so they do not each make one.
                state.progress += 1;
                break None;
            }
            let seen = state.progress;
            let timed_out = self.moved.wait_for(&mut state, ContextBudget::MAX_WAIT).timed_out();
            stalled = timed_out && state.progress == seen;
        };
        state.waiting -= 1;
        self.attention.fetch_sub(WAITER, Ordering::Relaxed);
        found
    }

    /// Hands a context that was returned to its cell to a waiter, if there is one.
    pub(super) fn hand_to_waiter(&self, take: impl FnOnce() -> Option<Box<T>>) {
        let mut state = self.state.lock();
        state.progress += 1;
        if state.waiting > 0 && state.handed.is_none() {
            state.handed = take();
        }
        drop(state);
        self.moved.notify_one();
    }

    /// Notes that a context was freed or not made, so that a waiter may make another one.
    pub(super) fn context_freed(&self) {
        let mut state = self.state.lock();
        state.alive -= 1;
        state.progress += 1;
        let waiting = state.waiting > 0;
        drop(state);
        if waiting {
            self.moved.notify_one();
        }
    }

    /// Returns the number of contexts that exist or are being made.
    pub(super) fn alive(&self) -> usize {
        self.state.lock().alive
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    /// A context is handed over only while a thread waits. It would stay out of reach otherwise.
    #[test]
    fn context_without_waiter_is_not_taken() {
        let queue = WaitQueue::<u32>::new();
        let nothing = || panic!("no thread waits");
        queue.hand_to_waiter(nothing);
        for n in 0..3 {
            let found = queue.wait(true, || Some(Box::new(n)), |_| false);
            assert_eq!((found.as_deref(), queue.attention()), (Some(&n), 0));
            queue.hand_to_waiter(nothing);
        }
        assert_eq!(queue.alive(), 0, "none was made");
    }

    /// A thread that may not wait, or may make a context, gets none. The one that it makes counts
    /// until it is freed.
    #[test]
    fn contexts_to_be_made_are_counted() {
        let queue = WaitQueue::<u32>::new();
        let never = || panic!("it does not wait");
        assert!(queue.wait(false, never, |_| panic!("it is not asked")).is_none());
        assert!(queue.wait(true, never, |alive| alive == 1).is_none());
        assert_eq!((queue.alive(), queue.attention()), (2, 0));
        queue.context_freed();
        assert_eq!(queue.alive(), 1);
    }

    /// The flags are set and cleared one by one.
    #[test]
    fn flags_are_independent() {
        let queue = WaitQueue::<u32>::new();
        queue.set(RETIRED, true);
        queue.set(SURPLUS, true);
        queue.set(SURPLUS, true);
        assert_eq!(queue.attention(), RETIRED | SURPLUS);
        queue.set(RETIRED, false);
        assert_eq!(queue.attention(), SURPLUS);
        queue.set(SURPLUS, false);
        assert_eq!(queue.attention(), 0);
    }
}

/// A model, explored by loom (`ci/loom.sh`).
#[cfg(all(test, zpool_loom))]
mod models {
    use std::sync::Arc;

    use super::*;
    use crate::internal::sync::take_cell::TakeCell;
    use crate::internal::sync::thread;

    /// Two threads wait for the only context while a third returns it: both get it, one after the
    /// other. A lost wake-up is a deadlock here, since the model has no clock. Preemption bound 2.
    #[test]
    fn loom_waiters_get_the_one_context() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let shared = Arc::new((WaitQueue::new(), TakeCell::empty()));
            assert!(
                shared.0.wait(true, || None, |alive| alive == 0).is_none(),
                "the first one is made"
            );
            let give_back = |(queue, cell): &(WaitQueue<u32>, TakeCell<u32>), context| {
                assert!(cell.swap(Some(context)).is_none(), "there is one");
                if queue.attention() != 0 {
                    queue.hand_to_waiter(|| cell.take());
                }
            };
            let waiters: Vec<_> = (0..2)
                .map(|_| {
                    let shared = shared.clone();
                    thread::spawn(move || {
                        let (queue, cell) = &*shared;
                        let found = cell.take();
                        let context =
                            found.or_else(|| queue.wait(true, || cell.take(), |alive| alive == 0));
                        give_back(&shared, context.expect("none is made while one is alive"));
                    })
                })
                .collect();
            give_back(&shared, Box::new(7));
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
            assert_eq!(shared.1.take(), Some(Box::new(7)));
        });
    }
}
