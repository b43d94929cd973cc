//! `Arc` and `Box` that can fail to be made, for code that must survive a refused allocation.

use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::ptr::NonNull;
use std::alloc::{Layout, alloc};

use crate::internal::sync::atomic::{AtomicUsize, Ordering, fence};

/// Moves `value` to the heap. Unlike `Box::new`, survives a refused allocation.
///
/// The box may become one of a trait object.
///
/// # Errors
///
/// Returns `value` if the heap has no memory.
///
/// # Example
///
/// ```
/// use zpool_core::{compress::CodecError, internal::try_box};
///
/// fn boxed() -> Result<Box<dyn std::fmt::Debug>, CodecError> {
///     Ok(try_box([7; 100]).map_err(|_| CodecError::OutOfMemory)?)
/// }
/// assert!(boxed().is_ok());
/// ```
#[expect(clippy::disallowed_methods, reason = "a box that can fail to be made, not frames")]
pub fn try_box<T>(value: T) -> Result<Box<T>, T> {
    let layout = Layout::new::<T>();
    if layout.size() == 0 {
        // Makes no heap call.
        return Ok(Box::new(value));
    }
    // SAFETY: the layout has more than 0 bytes.
    let Some(place) = NonNull::new(unsafe { alloc(layout) }.cast::<T>()) else { return Err(value) };
    // SAFETY: freshly allocated with this very layout.
    unsafe { place.write(value) };
    // SAFETY: allocated with the layout of a `T`, as a box is; holds a value; nothing else owns it.
    Ok(unsafe { Box::from_raw(place.as_ptr()) })
}

/// A shared value like `Arc`, made by the fallible [`try_new`](TryArc::try_new).
///
/// `Arc::new` ends the process if the heap refuses.
pub struct TryArc<T> {
    /// # Invariants
    ///
    /// 1. Points to a `CountedBox` that was boxed by `try_new`, and that lives until its count,
    ///    which is the number of `TryArc`s that point to it, is 0.
    inner: NonNull<CountedBox<T>>,
    owns: PhantomData<CountedBox<T>>,
}

struct CountedBox<T> {
    owners: AtomicUsize,
    value: T,
}

// SAFETY: as for `Arc`: owners in several threads share the value and any of them may drop it.
unsafe impl<T: Send + Sync> Send for TryArc<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for TryArc<T> {}

impl<T> TryArc<T> {
    /// Bytes on the heap, without those that the value owns.
    pub const HEAP_BYTES: usize = size_of::<CountedBox<T>>();

    /// Moves `value` to the heap, with one owner.
    ///
    /// # Errors
    ///
    /// Returns `value` if the heap has no memory.
    #[expect(clippy::disallowed_methods, reason = "a box that can fail to be made, not frames")]
    pub fn try_new(value: T) -> Result<TryArc<T>, T> {
        // SAFETY: the layout has more than 0 bytes: the count.
        let place = unsafe { alloc(Layout::new::<CountedBox<T>>()) };
        let Some(inner) = NonNull::new(place.cast::<CountedBox<T>>()) else { return Err(value) };
        // SAFETY: freshly allocated with this very layout.
        unsafe { inner.write(CountedBox { owners: AtomicUsize::new(1), value }) };
        Ok(TryArc { inner, owns: PhantomData })
    }

    /// Returns the value, if this is its last owner.
    pub fn into_inner(self) -> Option<T> {
        let this = ManuallyDrop::new(self);
        this.release().then(|| {
            // SAFETY: allocated by `try_new` as a box of it would be; no other owner is left.
            let inner = unsafe { Box::from_raw(this.inner.as_ptr()) };
            inner.value
        })
    }

    fn inner(&self) -> &CountedBox<T> {
        // SAFETY: invariant 1: this is one of the owners that are counted.
        unsafe { self.inner.as_ref() }
    }

    /// Removes one owner from the count. Returns whether it was the last.
    fn release(&self) -> bool {
        // Release: this owner's use of the value happens before the value is dropped...
        if self.inner().owners.fetch_sub(1, Ordering::Release) != 1 {
            return false;
        }
        // ...by the last owner. Acquire: pairs with the Release of all others.
        fence(Ordering::Acquire);
        true
    }
}

impl<T> Deref for TryArc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner().value
    }
}

impl<T> Clone for TryArc<T> {
    fn clone(&self) -> TryArc<T> {
        // Relaxed: the count is not 0, since this owner is counted.
        let before = self.inner().owners.fetch_add(1, Ordering::Relaxed);
        assert!(before < usize::MAX / 2, "owners were leaked until the count could overflow");
        TryArc { inner: self.inner, owns: PhantomData }
    }
}

impl<T> Drop for TryArc<T> {
    fn drop(&mut self) {
        if self.release() {
            // SAFETY: allocated by `try_new` as a box of it would be; no other owner is left.
            drop(unsafe { Box::from_raw(self.inner.as_ptr()) });
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for TryArc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A box owns its value, whatever its size and alignment, and drops it once.
    #[test]
    fn try_box_owns_value_of_any_layout() {
        #[repr(align(256))]
        struct Aligned(u8);
        let boxed = try_box(Aligned(7)).ok().unwrap();
        assert_eq!((boxed.0, core::ptr::from_ref(&*boxed).addr() % 256), (7, 0));
        assert_eq!(*try_box(()).unwrap(), ());
        let witness = Arc::new(());
        let boxed: Box<dyn Send> = try_box(witness.clone()).unwrap();
        assert_eq!(Arc::strong_count(&witness), 2);
        drop(boxed);
        assert_eq!(Arc::strong_count(&witness), 1);
    }

    /// The value is dropped once, with its last owner, in any thread.
    #[test]
    fn value_is_dropped_with_last_owner() {
        let witness = Arc::new(());
        let shared = TryArc::try_new((7, witness.clone())).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let shared = shared.clone();
                scope.spawn(move || (0..1_000).for_each(|_| assert_eq!(shared.clone().0, 7)));
            }
        });
        assert_eq!(Arc::strong_count(&witness), 2);
        let second = shared.clone();
        assert!(shared.into_inner().is_none());
        let (seven, inside) = second.into_inner().unwrap();
        assert_eq!((seven, Arc::strong_count(&witness)), (7, 2));
        drop(inside);
        drop(TryArc::try_new(witness.clone()).unwrap());
        assert_eq!(Arc::strong_count(&witness), 1);
    }
}
