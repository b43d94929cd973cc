//! An object in a pool, with a reference that keeps the pool. It is freed when it is dropped.
//!
//! Allocators are plug-ins, so their panics are contained: they never unwind through the store's
//! locks and accounts. Inserts, pins and exchanges of objects go through here. Other calls are
//! contained where they are made.

use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};

use zpool_core::compress::CodecError;
use zpool_core::internal::take_panic_message;
use zpool_core::{Handle, PoolError, ReadGuard};
use zpool_manager::{Pool, PoolRef};

use crate::value::ValueId;
use crate::value::error::Error;

/// An object that is not yet in the index, or no longer: its handle, and a reference to the pool
/// that it is in.
#[derive(Debug)]
pub(crate) struct PooledObject {
    /// Present until the object is freed or goes into an index, which is the last thing that
    /// happens to this.
    held: Option<(PoolRef, Handle)>,
}

impl PooledObject {
    #[inline]
    pub(crate) fn new(pool: PoolRef, handle: Handle) -> PooledObject {
        PooledObject { held: Some((pool, handle)) }
    }

    #[inline]
    pub(crate) fn pool(&self) -> &PoolRef {
        &self.held().0
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.held().1
    }

    /// Returns the object's id: unique while the object is pinned or watched.
    pub(crate) fn id(&self) -> ValueId {
        let (pool, handle) = self.held();
        ValueId::Pooled { pool: pool.id(), handle: handle.id() }
    }

    #[inline]
    pub(crate) fn handle_mut(&mut self) -> &mut Handle {
        &mut self.held.as_mut().expect("there until the end").1
    }

    /// Exchanges this object with that of `kept`, a handle of the same pool that keeps its value.
    /// Returns false if the pool declines.
    ///
    /// # Errors
    ///
    /// If the allocator panicked. Then it is unknown which object either handle names.
    #[inline]
    pub(crate) fn exchange(&mut self, kept: &Handle) -> Result<bool, Error> {
        let (pool, handle) = self.held.as_mut().expect("there until the end");
        call_allocator(|| pool.zpool().exchange(kept, handle))
    }

    /// Replaces the reference to the pool, to go with another handle. `change` returns the new
    /// reference and a result. Returns `None` if `change` returns its argument.
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

    /// Frees the object. Returns false if the allocator did not: then it is lost until its pool is
    /// destroyed.
    #[inline]
    pub(crate) fn free(mut self) -> bool {
        self.release_unused()
    }

    #[inline]
    fn release_unused(&mut self) -> bool {
        let Some((pool, handle)) = self.held.take() else { return true };
        zpool_core::internal::catch(|| pool.zpool().free(handle).is_ok()).unwrap_or(false)
    }

    /// Returns the handle and a reference to its pool, for an index to keep.
    #[inline]
    pub(crate) fn into_parts(mut self) -> (PoolRef, Handle) {
        self.held.take().expect("there until the end")
    }
}

impl Drop for PooledObject {
    #[inline]
    fn drop(&mut self) {
        self.release_unused();
    }
}

/// The bytes of an object, pinned. Its unpin is the allocator's code, so a bare [`ReadGuard`] may
/// unwind when it is dropped, even during another unwinding. This one does not.
#[derive(Debug)]
pub(crate) struct PinnedObject<'p> {
    /// `None` once it is unpinned.
    guard: Option<ReadGuard<'p>>,
}

impl PinnedObject<'_> {
    /// Unpins the object. Returns false if the allocator panicked: then the object may stay pinned.
    #[inline]
    pub(crate) fn unpin(&mut self) -> bool {
        let Some(guard) = self.guard.take() else { return true };
        zpool_core::internal::catch(|| drop(guard)).is_some()
    }
}

impl Deref for PinnedObject<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.guard.as_deref().unwrap_or_default()
    }
}

impl Drop for PinnedObject<'_> {
    #[inline]
    fn drop(&mut self) {
        self.unpin();
    }
}

/// Pins the object of `handle` in `pool`. Never blocks.
#[inline]
pub(crate) fn pin<'p>(pool: &'p Pool, handle: &Handle) -> Result<PinnedObject<'p>, Error> {
    call(|| pool.zpool().read(handle)).map(|guard| PinnedObject { guard: Some(guard) })
}

/// Puts `bytes` into `pool`. May block.
#[inline]
pub(crate) fn insert(pool: &Pool, bytes: &[u8]) -> Result<Handle, Error> {
    call(|| pool.zpool().insert(bytes))
}

/// Calls any other method of an allocator.
///
/// # Errors
///
/// [`Error::AllocatorPanicked`].
#[inline]
pub(crate) fn call_allocator<R>(ask: impl FnOnce() -> R) -> Result<R, Error> {
    call(|| Ok(ask()))
}

/// Calls a method of a compressor whose panics its codec does not contain.
///
/// # Errors
///
/// [`CodecError::Panicked`].
pub(crate) fn call_compressor<R>(ask: impl FnOnce() -> R) -> Result<R, Error> {
    catch_unwind(AssertUnwindSafe(ask))
        .map_err(|panic| Error::Codec(CodecError::Panicked(take_panic_message(panic))))
}

#[inline]
fn call<R>(call: impl FnOnce() -> Result<R, PoolError>) -> Result<R, Error> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(Error::Pool),
        Err(panic) => Err(Error::AllocatorPanicked(take_panic_message(panic))),
    }
}
