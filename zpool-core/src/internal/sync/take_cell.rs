//! A cell that holds a box or nothing.

/// Holds a `Box<T>` or nothing. Taking and swapping are one atomic exchange of a pointer, Acquire
/// and Release. Under loom a mutex replaces it.
pub(crate) struct TakeCell<T> {
    #[cfg(not(zpool_loom))]
    slot: crossbeam_utils::atomic::AtomicCell<Option<Box<T>>>,
    #[cfg(zpool_loom)]
    slot: super::Mutex<Option<Box<T>>>,
}

impl<T> TakeCell<T> {
    #[cfg(not(zpool_loom))]
    pub(crate) fn empty() -> Self {
        const {
            // Pointer-sized: for anything larger, AtomicCell would use a lock shared by the
            // process.
            assert!(size_of::<Option<Box<T>>>() == size_of::<usize>());
        }
        TakeCell { slot: crossbeam_utils::atomic::AtomicCell::new(None) }
    }

    #[cfg(zpool_loom)]
    pub(crate) fn empty() -> Self {
        TakeCell { slot: super::Mutex::new(None) }
    }

    /// Takes the value.
    #[inline]
    pub(crate) fn take(&self) -> Option<Box<T>> {
        #[cfg(not(zpool_loom))]
        return self.slot.take();
        #[cfg(zpool_loom)]
        return self.slot.lock().take();
    }

    /// Replaces the value and returns the previous one.
    #[inline]
    pub(crate) fn swap(&self, value: Option<Box<T>>) -> Option<Box<T>> {
        #[cfg(not(zpool_loom))]
        return self.slot.swap(value);
        #[cfg(zpool_loom)]
        return core::mem::replace(&mut *self.slot.lock(), value);
    }
}
