//! Allocators under test, in a form that pools and plain boxes share.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use zpool_core::exec::DrainExecutor;
use zpool_core::{CompactionBudget, Handle, PoolError, ReadGuard, ZPool};

/// An allocator under test.
pub trait AllocatorUnderTest {
    /// The token of an object.
    type Token;

    /// The reason why an object could not be inserted or freed.
    type Error: fmt::Display;

    /// Keeps a copy of `object`.
    ///
    /// # Errors
    ///
    /// The implementer's own.
    fn insert(&mut self, object: &[u8]) -> Result<Self::Token, Self::Error>;

    /// Frees an object.
    ///
    /// # Errors
    ///
    /// The implementer's own.
    fn free(&mut self, token: Self::Token) -> Result<(), Self::Error>;

    /// Returns whether the object has exactly these bytes.
    fn holds(&self, token: &Self::Token, bytes: &[u8]) -> bool;

    /// Waits until work in the background is done.
    fn settle(&mut self);

    /// Compacts the objects.
    fn compact(&mut self);

    /// Releases memory without moving an object.
    fn trim(&mut self);
}

/// A pool, and the executor that it was made with.
#[derive(Debug)]
pub struct PoolAllocator<E> {
    /// The pool itself.
    pub pool: Box<dyn ZPool>,
    /// The executor of its background work.
    pub executor: Arc<E>,
}

impl<E: DrainExecutor> AllocatorUnderTest for PoolAllocator<E> {
    type Token = Handle;
    type Error = PoolError;

    fn insert(&mut self, object: &[u8]) -> Result<Handle, PoolError> {
        self.pool.insert(object)
    }

    fn free(&mut self, token: Handle) -> Result<(), PoolError> {
        self.pool.free(token).map_err(|error| error.error().clone())
    }

    fn holds(&self, token: &Handle, bytes: &[u8]) -> bool {
        self.pool.read(token).is_ok_and(|guard: ReadGuard<'_>| *guard == *bytes)
    }

    /// Waits until the pool's jobs are done. A job may submit the next one or postpone itself, so
    /// we wait until nothing has changed for a while.
    fn settle(&mut self) {
        // A pool whose work does not end is measured as it is then.
        const MAX_ATTEMPTS: usize = 100;
        // Longer than any pool postpones work.
        const LONGEST_DELAY: Duration = Duration::from_millis(25);
        for _ in 0..MAX_ATTEMPTS {
            self.executor.flush().expect("this thread is not one of the executor's");
            let before = self.pool.bytes_held();
            thread::sleep(LONGEST_DELAY);
            self.executor.flush().expect("this thread is not one of the executor's");
            if self.pool.bytes_held() == before {
                break;
            }
        }
    }

    fn compact(&mut self) {
        self.pool.compact(CompactionBudget::UNLIMITED);
    }

    fn trim(&mut self) {
        self.pool.trim();
    }
}

/// One box per object, on the global allocator of this program.
#[derive(Debug, Clone, Copy, Default)]
pub struct BoxAllocator;

impl AllocatorUnderTest for BoxAllocator {
    type Token = Box<[u8]>;
    type Error = Infallible;

    fn insert(&mut self, object: &[u8]) -> Result<Box<[u8]>, Infallible> {
        Ok(Box::from(object))
    }

    fn free(&mut self, token: Box<[u8]>) -> Result<(), Infallible> {
        drop(token);
        Ok(())
    }

    fn holds(&self, token: &Box<[u8]>, bytes: &[u8]) -> bool {
        **token == *bytes
    }

    fn settle(&mut self) {}

    /// Boxes cannot move.
    fn compact(&mut self) {}

    fn trim(&mut self) {}
}
