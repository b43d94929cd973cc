//! An object in a pool, with what keeps the pool: freed when it is dropped. The one place where an allocator is called.
//!
//! Allocators are plug-ins, so what they panic with is contained here: the store's locks and books never see an unwinding of theirs.

use std::panic::{AssertUnwindSafe, catch_unwind};

use zpool_core::exec::panic_message;
use zpool_core::{Handle, HandleId, PoolError, PoolId, ReadGuard};
use zpool_manager::{Pool, PoolRef};

use crate::error::ErrorKind;

/// A stored object: its handle, and a reference to the pool that it is in.
#[derive(Debug)]
pub(crate) struct Object {
    pool: PoolRef,
    /// There until the object is freed, which is the last thing that happens to it.
    handle: Option<Handle>,
}

/// Tells one stored object from every other, as long as a guard holds it: no allocator gives a pinned object's handle out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ObjectId {
    pool: PoolId,
    handle: HandleId,
}

impl Object {
    pub(crate) fn new(pool: PoolRef, handle: Handle) -> Object {
        Object { pool, handle: Some(handle) }
    }

    #[inline]
    pub(crate) fn pool(&self) -> &PoolRef {
        &self.pool
    }

    /// Pins the object in `pool`, a reference to its own pool which the caller holds longer than this entry may live. Never blocks.
    #[inline]
    pub(crate) fn pin<'p>(&self, pool: &'p PoolRef) -> Result<ReadGuard<'p>, ErrorKind> {
        contained(|| pool.zpool().read(self.handle()))
    }

    #[inline]
    pub(crate) fn id(&self) -> ObjectId {
        ObjectId { pool: self.pool.id(), handle: self.handle().id() }
    }

    /// Frees the object. False when the allocator did not: then it is lost until its pool goes.
    pub(crate) fn free(mut self) -> bool {
        self.give_back()
    }

    fn handle(&self) -> &Handle {
        self.handle.as_ref().expect("there until the object is freed")
    }

    #[inline]
    fn give_back(&mut self) -> bool {
        let Some(handle) = self.handle.take() else { return true };
        let free = || self.pool.zpool().free(handle).is_ok();
        catch_unwind(AssertUnwindSafe(free)).unwrap_or(false)
    }
}

impl Drop for Object {
    #[inline]
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Puts `bytes` into `pool`. May block.
#[inline]
pub(crate) fn insert(pool: &Pool, bytes: &[u8]) -> Result<Handle, ErrorKind> {
    contained(|| pool.zpool().insert(bytes))
}

#[inline]
fn contained<R>(call: impl FnOnce() -> Result<R, PoolError>) -> Result<R, ErrorKind> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(ErrorKind::Pool),
        Err(panic) => Err(ErrorKind::AllocatorPanicked(panic_message(&*panic))),
    }
}
