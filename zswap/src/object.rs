//! An object in a pool, with what keeps the pool: freed when it is dropped. The one place where an allocator is called.
//!
//! Allocators are plug-ins, so what they panic with is contained here: the store's locks and books never see an unwinding of theirs.

use std::panic::{AssertUnwindSafe, catch_unwind};

use zpool_core::exec::{self, swallowed_message};
use zpool_core::{Handle, PoolError, ReadGuard};
use zpool_manager::{Pool, PoolRef};

use crate::error::ErrorKind;

/// An object that is in no index, or not any more: its handle, and a reference to the pool that it is in.
#[derive(Debug)]
pub(crate) struct Object {
    /// There until the object is freed or goes into an index, which is the last thing that happens to this.
    held: Option<(PoolRef, Handle)>,
}

impl Object {
    #[inline]
    pub(crate) fn new(pool: PoolRef, handle: Handle) -> Object {
        Object { held: Some((pool, handle)) }
    }

    #[inline]
    pub(crate) fn pool(&self) -> &PoolRef {
        &self.held().0
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.held().1
    }

    #[inline]
    pub(crate) fn handle_mut(&mut self) -> &mut Handle {
        &mut self.held.as_mut().expect("there until the end").1
    }

    /// Exchanges this object with that of `kept`, a handle of the same pool that stays what it is. False where the pool declines.
    ///
    /// # Errors
    ///
    /// When the allocator panicked: then nobody knows what either handle names.
    #[inline]
    pub(crate) fn exchange(&mut self, kept: &Handle) -> Result<bool, ErrorKind> {
        let (pool, handle) = self.held.as_mut().expect("there until the end");
        asked(|| pool.zpool().exchange(kept, handle))
    }

    /// Puts the reference to another pool in the place of this one, for another handle that goes with it: `change` gives it, and whatever else there is to give.
    /// `None` where `change` gives back what it was given.
    #[inline]
    pub(crate) fn change_pool<R>(
        &mut self,
        change: impl FnOnce(PoolRef) -> Result<(PoolRef, R), PoolRef>,
    ) -> Option<R> {
        let (pool, handle) = self.held.take().expect("there until the end");
        let (pool, result) = match change(pool) {
            Ok((pool, result)) => (pool, Some(result)),
            Err(pool) => (pool, None),
        };
        self.held = Some((pool, handle));
        result
    }

    #[inline]
    fn held(&self) -> &(PoolRef, Handle) {
        self.held.as_ref().expect("there until the end")
    }

    /// Frees the object. False when the allocator did not: then it is lost until its pool goes.
    #[inline]
    pub(crate) fn free(mut self) -> bool {
        self.give_back()
    }

    #[inline]
    fn give_back(&mut self) -> bool {
        let Some((pool, handle)) = self.held.take() else { return true };
        exec::contained(|| pool.zpool().free(handle).is_ok()).unwrap_or(false)
    }

    /// The handle and a reference to its pool, for an index to keep.
    #[inline]
    pub(crate) fn into_parts(mut self) -> (PoolRef, Handle) {
        self.held.take().expect("there until the end")
    }
}

impl Drop for Object {
    #[inline]
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Pins the object of `handle` in `pool`. Never blocks.
#[inline]
pub(crate) fn pin<'p>(pool: &'p Pool, handle: &Handle) -> Result<ReadGuard<'p>, ErrorKind> {
    contained(|| pool.zpool().read(handle))
}

/// Puts `bytes` into `pool`. May block.
#[inline]
pub(crate) fn insert(pool: &Pool, bytes: &[u8]) -> Result<Handle, ErrorKind> {
    contained(|| pool.zpool().insert(bytes))
}

/// Whatever else asks allocators and may say that one panicked.
#[inline]
pub(crate) fn asked<R>(ask: impl FnOnce() -> R) -> Result<R, ErrorKind> {
    contained(|| Ok(ask()))
}

#[inline]
fn contained<R>(call: impl FnOnce() -> Result<R, PoolError>) -> Result<R, ErrorKind> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(ErrorKind::Pool),
        Err(panic) => Err(ErrorKind::AllocatorPanicked(swallowed_message(panic))),
    }
}
