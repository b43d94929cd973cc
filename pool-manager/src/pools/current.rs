//! The current pool: one atomic pointer for readers, replaced by switchers.
//!
//! The pointer owns the block with the pool's count, not the pool itself. So a reader whose guard
//! outlives a switch may free the block, but never the pool. Under loom a mutex replaces arc-swap,
//! which has no loom model.

use std::fmt;
use std::sync::Arc;

use zpool_core::internal::{Counted, Ref, Released};

use self::cell::Cell;

/// The current value, for readers.
pub(crate) struct Current<T: Released> {
    cell: Cell<T>,
}

impl<T: Released> Current<T> {
    /// Makes a pointer without a current value.
    pub(crate) fn none() -> Current<T> {
        Current { cell: Cell::none() }
    }

    /// Returns a reference to the current value, or `None` if there is none.
    ///
    /// Never fails because of a switch (B50): a value whose count is zero was replaced before, so
    /// the next load finds its successor.
    #[inline]
    pub(crate) fn get(&self) -> Option<Ref<T>> {
        loop {
            match self.cell.with(Counted::try_ref) {
                None => return None,
                Some(Some(reference)) => return Some(reference),
                Some(None) => zpool_core::internal::sync::spin_hint(),
            }
        }
    }

    /// Returns the block of the current value.
    pub(crate) fn block(&self) -> Option<Arc<Counted<T>>> {
        self.cell.load()
    }

    /// Makes `next` current. The caller holds the previous block, and retires it after this.
    pub(crate) fn set(&self, next: Option<Arc<Counted<T>>>) {
        self.cell.store(next);
    }
}

#[cfg(not(zpool_loom))]
mod cell {
    use super::{Arc, Counted, Released};
    use arc_swap::ArcSwapOption;

    pub(super) struct Cell<T: Released>(ArcSwapOption<Counted<T>>);

    impl<T: Released> Cell<T> {
        pub(super) fn none() -> Self {
            Cell(ArcSwapOption::empty())
        }

        #[inline]
        pub(super) fn with<R>(&self, look: impl FnOnce(&Counted<T>) -> R) -> Option<R> {
            let guard = self.0.load();
            guard.as_deref().map(look)
        }

        pub(super) fn load(&self) -> Option<Arc<Counted<T>>> {
            self.0.load_full()
        }

        pub(super) fn store(&self, next: Option<Arc<Counted<T>>>) {
            self.0.store(next);
        }
    }
}

#[cfg(zpool_loom)]
mod cell {
    use super::{Arc, Counted, Released};
    use zpool_core::internal::sync::Mutex;

    pub(super) struct Cell<T: Released>(Mutex<Option<Arc<Counted<T>>>>);

    impl<T: Released> Cell<T> {
        pub(super) fn none() -> Self {
            Cell(Mutex::new(None))
        }

        pub(super) fn with<R>(&self, look: impl FnOnce(&Counted<T>) -> R) -> Option<R> {
            // Cloned out, so that `look` runs without the lock, as behind arc-swap's guard.
            self.load().as_deref().map(look)
        }

        pub(super) fn load(&self) -> Option<Arc<Counted<T>>> {
            self.0.lock().clone()
        }

        pub(super) fn store(&self, next: Option<Arc<Counted<T>>>) {
            let old = core::mem::replace(&mut *self.0.lock(), next);
            drop(old);
        }
    }
}

impl<T: Released> fmt::Debug for Current<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Current").field(&self.block()).finish()
    }
}

/// A model, explored by loom (`ci/loom.sh`).
#[cfg(all(test, zpool_loom))]
mod models {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use zpool_core::internal::Dying;
    use zpool_core::internal::sync::thread;

    struct Value(usize, Arc<AtomicUsize>);

    impl Released for Value {
        fn released(dying: Dying<Self>) {
            dying.1.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// B50: a reader finds a live value during two switches in a row, and each replaced value is
    /// released once. Preemption bound 2.
    #[test]
    fn loom_b50_reader_finds_live_value_during_switches() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let released = Arc::new(AtomicUsize::new(0));
            let block = |n| Counted::new(Value(n, released.clone()));
            let (current, first) = (Arc::new(Current::none()), block(1));
            current.set(Some(first.clone()));
            let seen = current.clone();
            let reader = thread::spawn(move || {
                zpool_core::internal::set_loom_cpu(1);
                let found = seen.get().expect("there is always a current value");
                assert!((1..=3).contains(&found.0));
            });
            let second = block(2);
            current.set(Some(second.clone()));
            first.retire();
            let third = block(3);
            current.set(Some(third.clone()));
            second.retire();
            reader.join().unwrap();
            assert_eq!(released.load(Ordering::Relaxed), 2);
            current.set(None);
            third.retire();
            assert_eq!(released.load(Ordering::Relaxed), 3);
        });
    }
}
