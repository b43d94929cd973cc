//! Threads that wait for a compression context, in a codec that may not make another one.
//!
//! ```text
//!   wait:    lock ─► attention += WAITER ─► take from the cells ─► none: wait for a notification
//!   return:  put into a cell ─► attention? ─► lock, take it out again, hand it over, notify
//! ```
//!
//! No wake-up is lost. A waiter raises `attention` before it looks into a cell, by an exchange; who
//! returns a context fills the cell, by an exchange as well, and reads `attention` after that. The
//! two exchanges of that cell are ordered: either the waiter finds the context, or the thread that
//! returns it sees the waiter. Contexts are handed over, because a thread that returned one would
//! otherwise take it again before a waiter runs.

use crate::internal::sync::atomic::{AtomicUsize, Ordering};
use crate::internal::sync::{Condvar, Mutex};

use super::ContextBudget;

/// Compression contexts are not kept: the pool is retired.
pub(super) const RETIRED: usize = 1;
/// There may be more contexts than the budget allows.
pub(super) const SURPLUS: usize = 2;
/// A thread waits; so many of these as threads do.
const WAITER: usize = 4;

/// The line of a codec's waiters for a `T`.
pub(super) struct Line<T> {
    /// What a thread that returns a context has to see to: the flags above.
    attention: AtomicUsize,
    state: Mutex<State<T>>,
    moved: Condvar,
}

struct State<T> {
    waiting: usize,
    /// Contexts that exist or are being made.
    alive: usize,
    /// On its way to a waiter.
    handed: Option<Box<T>>,
    /// Grows when a context came back or went.
    progress: u64,
}

impl<T> Line<T> {
    pub(super) fn new() -> Line<T> {
        let state = State { waiting: 0, alive: 0, handed: None, progress: 0 };
        Line { attention: AtomicUsize::new(0), state: Mutex::new(state), moved: Condvar::new() }
    }

    /// Returns what needs attention: 0 nearly always.
    #[inline]
    pub(super) fn attention(&self) -> usize {
        // Relaxed: ordered by the exchange of the cell, see the module. (A fence here would wait
        // for all writes before it, the object in the pool included.)
        self.attention.load(Ordering::Relaxed)
    }

    /// Sets or clears one of the flags.
    pub(super) fn set(&self, flag: usize, on: bool) {
        // Relaxed: ordered by the exchanges of the cells that follow where it is set; a thread that
        // still sees it only does more than it has to.
        if on {
            self.attention.fetch_or(flag, Ordering::Relaxed);
        } else {
            self.attention.fetch_and(!flag, Ordering::Relaxed);
        }
    }

    /// Waits for a context that `take` finds or another thread hands over. Returns `None` when the
    /// caller is to make one, which is counted as alive then: at once if `may_make` allows it or
    /// `may_wait` is false, else as soon as it does, or when no context has come back for so long
    /// that those that are out may be lost. `may_make` gets how many are alive.
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
                // One that is made is progress for the others that wait: they do not each make one.
                state.progress += 1;
                break None;
            }
            let seen = state.progress;
            let timed_out = self.moved.wait_for(&mut state, ContextBudget::PATIENCE).timed_out();
            stalled = timed_out && state.progress == seen;
        };
        state.waiting -= 1;
        self.attention.fetch_sub(WAITER, Ordering::Relaxed);
        found
    }

    /// A context is back in its cell: hands it to a waiter, if there is one.
    pub(super) fn hand_on(&self, take: impl FnOnce() -> Option<Box<T>>) {
        let mut state = self.state.lock();
        state.progress += 1;
        if state.waiting > 0 && state.handed.is_none() {
            state.handed = take();
        }
        drop(state);
        self.moved.notify_one();
    }

    /// A context is gone, or was not made: a waiter may make another one.
    pub(super) fn gone(&self) {
        let mut state = self.state.lock();
        state.alive -= 1;
        state.progress += 1;
        let waiting = state.waiting > 0;
        drop(state);
        if waiting {
            self.moved.notify_one();
        }
    }

    /// Contexts that exist or are being made.
    pub(super) fn alive(&self) -> usize {
        self.state.lock().alive
    }
}

/// A model, explored by loom (`ci/loom.sh`).
#[cfg(all(test, zpool_loom))]
mod models {
    use std::sync::Arc;

    use super::*;
    use crate::internal::sync::take_cell::TakeCell;
    use crate::internal::sync::thread;

    /// Two threads wait for the one context there may be while a third returns it: both get it, one
    /// after the other. A wake-up that is lost is a deadlock here, since the model has no clock.
    /// Preemption bound 2; some seconds.
    #[test]
    fn loom_waiters_get_the_one_context() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let shared = Arc::new((Line::new(), TakeCell::empty()));
            assert!(
                shared.0.wait(true, || None, |alive| alive == 0).is_none(),
                "the first one is made"
            );
            let give_back = |(line, cell): &(Line<u32>, TakeCell<u32>), context| {
                assert!(cell.swap(Some(context)).is_none(), "there is one");
                if line.attention() != 0 {
                    line.hand_on(|| cell.take());
                }
            };
            let waiters: Vec<_> = (0..2)
                .map(|_| {
                    let shared = shared.clone();
                    thread::spawn(move || {
                        let (line, cell) = &*shared;
                        let found = cell.take();
                        let context =
                            found.or_else(|| line.wait(true, || cell.take(), |alive| alive == 0));
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
