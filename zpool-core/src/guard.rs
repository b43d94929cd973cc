//! Guards, through which objects are read.

use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;
use std::sync::Arc;

/// The back end's side of a pin: a [`ReadGuard`] calls it when it is dropped.
///
/// Called exactly once for each guard made with [`ReadGuard::pinned`] that is dropped, on the
/// thread that drops it, possibly inside a [`NoBlock`](crate::NoBlock) section and during
/// unwinding. It must not block and should not panic: a panic unwinds out of the guard's drop, and
/// ends the process if the thread is unwinding already.
pub trait Pins: Sync {
    /// Releases the pin that `token` identifies, which the back end passed to
    /// [`ReadGuard::pinned`].
    fn unpin(&self, token: u64);
}

/// Borrows the bytes of one object, exactly as inserted, and pins them.
///
/// While the object is *pinned*, compaction skips it. Freeing its handle succeeds at once, but the
/// bytes stay until the last guard is dropped.
///
/// A guard borrows the pool, not the handle, holds no lock, and may be sent to another thread. A
/// leaked guard (`mem::forget`) pins its object for ever, which costs its bytes and nothing else.
pub struct ReadGuard<'a> {
    /// Not a reference: after `unpin` in `drop`, other threads may write the bytes while this field
    /// still exists.
    ///
    /// # Invariants
    ///
    /// 1. Points to initialized bytes that no thread writes until the hold is released, which only
    ///    `drop` does.
    bytes: NonNull<[u8]>,
    hold: Hold<'a>,
    lifetime: PhantomData<&'a [u8]>,
}

enum Hold<'a> {
    /// Keeps the allocation that `bytes` points into.
    Shared {
        _object: Arc<[u8]>,
    },
    Pin {
        pins: &'a dyn Pins,
        token: u64,
    },
}

// SAFETY: a guard is a shared slice (Send because u8 is Sync), plus an Arc<[u8]> or a `&dyn Pins`
// with `Pins: Sync`; no part of it is tied to the thread that made it.
unsafe impl Send for ReadGuard<'_> {}
// SAFETY: `&ReadGuard` only lends `&[u8]`.
unsafe impl Sync for ReadGuard<'_> {}

impl<'a> ReadGuard<'a> {
    /// Makes a guard of a shared object, for back ends that keep objects in `Arc`s or lend copies.
    pub fn shared(object: Arc<[u8]>) -> ReadGuard<'static> {
        // Invariant 1: an Arc's contents are immutable while shared, and the guard keeps its own
        // count until it is dropped.
        ReadGuard {
            bytes: NonNull::from(&*object),
            hold: Hold::Shared { _object: object },
            lifetime: PhantomData,
        }
    }

    /// Makes a guard of bytes that stay in place until the guard's drop calls `pins.unpin(token)`.
    #[inline]
    pub fn pinned(bytes: &'a [u8], pins: &'a dyn Pins, token: u64) -> ReadGuard<'a> {
        // Invariant 1: for safe callers the borrow guarantees it; a caller with `unsafe` made the
        // slice under the same promise.
        ReadGuard {
            bytes: NonNull::from(bytes),
            hold: Hold::Pin { pins, token },
            lifetime: PhantomData,
        }
    }
}

impl Deref for ReadGuard<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: invariant 1; the result borrows `self`, so it is gone before `drop` releases the
        // hold.
        unsafe { self.bytes.as_ref() }
    }
}

impl AsRef<[u8]> for ReadGuard<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for ReadGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Hold::Pin { pins, token } = self.hold {
            pins.unpin(token);
        }
    }
}

impl fmt::Debug for ReadGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hold = match self.hold {
            Hold::Shared { .. } => "shared",
            Hold::Pin { .. } => "pinned",
        };
        f.debug_struct("ReadGuard").field("len", &self.len()).field("hold", &hold).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Last(AtomicU64);
    impl Pins for Last {
        fn unpin(&self, token: u64) {
            self.0.fetch_add(token, Ordering::Relaxed);
        }
    }

    /// A guard unpins once, with its token, on whichever thread it is dropped.
    #[test]
    fn guard_unpins_once_on_any_thread() {
        let (last, bytes) = (Last(AtomicU64::new(0)), [1, 2, 3]);
        let guard = ReadGuard::pinned(&bytes, &last, 42);
        assert_eq!(&*guard, &[1, 2, 3]);
        std::thread::scope(|s| {
            s.spawn(move || drop(guard));
        });
        assert_eq!(last.0.load(Ordering::Relaxed), 42);
    }

    /// A shared guard keeps its object alive.
    #[test]
    fn shared_guard_keeps_its_object() {
        let object: Arc<[u8]> = Arc::from(&b"kept"[..]);
        let guard = ReadGuard::shared(object.clone());
        drop(object);
        assert_eq!(&*guard, b"kept");
    }
}
