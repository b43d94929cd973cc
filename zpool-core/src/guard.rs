//! The guard through which an object is read.

use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;
use std::sync::Arc;

/// What a [`ReadGuard`] calls when it goes: the back end's side of a pin.
///
/// Called exactly once for each guard made with [`ReadGuard::pinned`] that is dropped, on the
/// thread that drops it, possibly inside a [`NoBlock`](crate::NoBlock) section and during
/// unwinding: it must not block and should not panic. A panic comes out of the guard's drop; during
/// unwinding, or with `panic = "abort"`, it ends the process.
pub trait Pins: Sync {
    /// Takes back the pin that `token` stands for; `token` is what the back end gave the guard.
    fn unpin(&self, token: u64);
}

/// Borrows the bytes of one object, exactly as inserted, and keeps them where they are.
///
/// While it lives the object is *pinned*: compaction skips it, and a free of its handle succeeds at once but leaves the bytes to the last guard.
/// It borrows the pool, not the handle, holds no lock, and may be sent to another thread. A guard that is leaked
/// (`mem::forget`) pins its object for ever, which costs its bytes and nothing else.
pub struct ReadGuard<'a> {
    /// Not a reference: once `unpin` has run in `drop`, the bytes may be written by others while this field still exists.
    ///
    /// # Invariants
    ///
    /// 1. Points to initialized bytes that nobody writes until the hold is given up (in `drop`, and nowhere else).
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

// SAFETY: a guard is a shared slice (Send because u8 is Sync), plus an Arc<[u8]> or a `&dyn Pins` with `Pins: Sync`; no part of it is tied to
// the thread that made it.
unsafe impl Send for ReadGuard<'_> {}
// SAFETY: `&ReadGuard` only gives out `&[u8]`.
unsafe impl Sync for ReadGuard<'_> {}

impl<'a> ReadGuard<'a> {
    /// A guard over an object that is shared by counting: for back ends that keep their objects in `Arc`s, or hand out copies.
    pub fn shared(object: Arc<[u8]>) -> ReadGuard<'static> {
        // Invariant 1: an Arc's contents are immutable while shared, and the guard keeps its own count until it is dropped.
        ReadGuard {
            bytes: NonNull::from(&*object),
            hold: Hold::Shared { _object: object },
            lifetime: PhantomData,
        }
    }

    /// A guard over bytes that stay in place until `pins.unpin(token)` has been called, which the guard does when it is dropped.
    #[inline]
    pub fn pinned(bytes: &'a [u8], pins: &'a dyn Pins, token: u64) -> ReadGuard<'a> {
        // Invariant 1: for safe callers the borrow itself says so; a caller with `unsafe` made the slice under the same promise.
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
        // SAFETY: invariant 1; the result borrows `self`, so it is gone before `drop` gives up the hold.
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

    #[test]
    fn unpins_once_with_its_token_wherever_it_is_dropped() {
        let (last, bytes) = (Last(AtomicU64::new(0)), [1, 2, 3]);
        let guard = ReadGuard::pinned(&bytes, &last, 42);
        assert_eq!(&*guard, &[1, 2, 3]);
        std::thread::scope(|s| {
            s.spawn(move || drop(guard));
        });
        assert_eq!(last.0.load(Ordering::Relaxed), 42);
    }

    #[test]
    fn a_shared_guard_keeps_its_object() {
        let object: Arc<[u8]> = Arc::from(&b"kept"[..]);
        let guard = ReadGuard::shared(object.clone());
        drop(object);
        assert_eq!(&*guard, b"kept");
    }
}
