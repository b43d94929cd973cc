//! Counts walks over tables, so that a test can show that an operation takes none.

use core::cell::Cell;

thread_local! {
    static WALKS: Cell<usize> = const { Cell::new(0) };
}

/// Counts one walk of this thread.
pub(crate) fn count_walk() {
    WALKS.set(WALKS.get() + 1);
}

/// Returns the walks of this thread so far.
pub(crate) fn walks() -> usize {
    WALKS.get()
}
