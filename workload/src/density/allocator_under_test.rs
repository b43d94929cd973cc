//! Who keeps objects, in a form that pools and plain boxes share.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use zpool_core::exec::DrainExecutor;
use zpool_core::{CompactionBudget, Handle, PoolError, ReadGuard, ZPool};

/// An allocator under test.
pub trait AllocatorUnderTest {
    /// What names an object.
    type Token;

    /// Why an object could not be kept or given up.
    type Error: fmt::Display;

    /// Keeps a copy of `object`.
    ///
    /// # Errors
    ///
    /// The implementer's own.
    fn insert(&mut self, object: &[u8]) -> Result<Self::Token, Self::Error>;

    /// Gives an object up.
    ///
    /// # Errors
    ///
    /// The implementer's own.
    fn free(&mut self, token: Self::Token) -> Result<(), Self::Error>;

    /// Are these the bytes that were inserted?
    fn holds(&self, token: &Self::Token, bytes: &[u8]) -> bool;

    /// Waits until work in the background is done.
    fn settle(&mut self);

    /// Packs what it keeps.
    fn compact(&mut self);

    /// Gives back whatever it can without moving an object.
    fn trim(&mut self);
}

/// A pool, and the executor that it was made with.
#[derive(Debug)]
pub struct PoolAllocator<E> {
    /// The pool.
    pub pool: Box<dyn ZPool>,
    /// Where it does its work in the background.
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

    /// A job may submit the next one, or put itself off: waits until nothing has come of those before for a while.
    fn settle(&mut self) {
        // Work that does not end would be the pool's fault; what it holds after so long says so.
        const PATIENCE: usize = 100;
        // Longer than any pool puts work off.
        const PUT_OFF: Duration = Duration::from_millis(25);
        for _ in 0..PATIENCE {
            self.executor.flush().expect("this thread is none of the executor's");
            let before = self.pool.bytes_held();
            thread::sleep(PUT_OFF);
            self.executor.flush().expect("this thread is none of the executor's");
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

/// A box an object, on the allocator of this program.
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

    /// Boxes stay where they are.
    fn compact(&mut self) {}

    fn trim(&mut self) {}
}
