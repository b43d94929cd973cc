//! Pools whose guards show the pool's own bytes, with one bug in that at a time. They wrap the pool
//! of the docs and corrupt its guards.
//!
//! The others of this folder hand out copies or share an `Arc`, so their bugs cannot touch the
//! bytes of a guard.

use std::fmt::Debug;
use std::sync::Arc;

use zpool_core::internal::sync::Mutex;
use zpool_core::page::PageSource;
use zpool_core::{
    Capabilities, CreateError, FreeError, Handle, Pins, PoolConfig, PoolError, PoolId, PoolStats,
    ReadGuard, Violation, ZPool, ZPoolDriver,
};

#[allow(missing_docs, unreachable_pub, reason = "a listing, as a program would have it")]
#[path = "../../tutorial/blocks/mod.rs"]
mod blocks;

planted! {
    /// The bug of a [`Pinned`] pool.
    enum Flaw {
        bugs {
            DoesNotPin,
            ReusesBytesUnderAGuard,
            NeverUnpins,
        }
        oddities {
            Nothing,
        }
    }
}

use Flaw::*;

pub(crate) struct Pinned {
    inner: Box<dyn ZPool>,
    flaw: Flaw,
    /// Address and length of the last object that was freed under a guard.
    zombie: Mutex<Option<(usize, usize)>>,
}

impl Pinned {
    pub(crate) fn new(flaw: Flaw, source: Arc<dyn PageSource>) -> Result<Pinned, CreateError> {
        let inner = blocks::BlocksDriver.create(&PoolConfig::new(source, super::MAX_LEN))?;
        Ok(Pinned { inner, flaw, zombie: Mutex::default() })
    }

    pub(crate) fn facts(_: Flaw) -> Capabilities {
        Capabilities::new(super::MAX_LEN)
    }

    fn overwrite_the_zombie(&self, object: &[u8]) {
        let Some((address, len)) = self.zombie.lock().take() else { return };
        if self.inner.stats().zombies > 0 {
            // SAFETY: none, which is the bug. The block is in use, so the bytes are there, but they
            // belong to another object.
            unsafe { std::ptr::copy(object.as_ptr(), address as *mut u8, len.min(object.len())) };
        }
    }
}

/// Guards that hold nothing.
struct NoPins;

impl Pins for NoPins {
    fn unpin(&self, _: u64) {}
}

impl ZPool for Pinned {
    fn id(&self) -> PoolId {
        self.inner.id()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn insert(&self, object: &[u8]) -> Result<Handle, PoolError> {
        let handle = self.inner.insert(object)?;
        self.overwrite_the_zombie(object);
        Ok(handle)
    }

    fn read(&self, handle: &Handle) -> Result<ReadGuard<'_>, PoolError> {
        let guard = self.inner.read(handle)?;
        if matches!(self.flaw, Nothing | ReusesBytesUnderAGuard) {
            return Ok(guard);
        }
        // SAFETY: for `NeverUnpins`, the pin that is forgotten below. For `DoesNotPin` none, which
        // is the bug.
        let bytes = unsafe { std::slice::from_raw_parts(guard.as_ptr(), guard.len()) };
        if self.flaw == NeverUnpins {
            std::mem::forget(guard);
        }
        Ok(ReadGuard::pinned(bytes, &NoPins, 0))
    }

    fn free(&self, handle: Handle) -> Result<(), FreeError> {
        let place = self.inner.read(&handle).map(|guard| (guard.as_ptr() as usize, guard.len()));
        let zombies = self.inner.stats().zombies;
        self.inner.free(handle)?;
        if self.flaw == ReusesBytesUnderAGuard && self.inner.stats().zombies > zombies {
            *self.zombie.lock() = place.ok();
        }
        Ok(())
    }

    fn bytes_held(&self) -> usize {
        self.inner.bytes_held()
    }

    fn stats(&self) -> PoolStats {
        self.inner.stats()
    }

    fn validate(&self) -> Result<(), Violation> {
        self.inner.validate()
    }

    fn trim(&self) -> usize {
        self.inner.trim()
    }
}

impl Debug for Pinned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pinned({:?})", self.flaw)
    }
}
