//! Arguments and results of [`ZPool::compact`](crate::ZPool::compact) and
//! [`ZPool::reclaim`](crate::ZPool::reclaim).

use core::fmt;

use crate::error::PoolError;
use crate::handle::HandleId;

/// A bound on the work of one [`compact`](crate::ZPool::compact) call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactionBudget {
    /// The most objects to move.
    pub max_moves: usize,
}

impl CompactionBudget {
    /// No bound.
    pub const UNLIMITED: CompactionBudget = CompactionBudget { max_moves: usize::MAX };

    /// Returns a budget of `max_moves` moved objects.
    pub const fn moves(max_moves: usize) -> CompactionBudget {
        CompactionBudget { max_moves }
    }
}

/// The result of a [`compact`](crate::ZPool::compact) call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactionReport {
    /// Bytes that the pool estimated it could release, before it began.
    pub estimated_bytes: usize,
    /// Bytes of frames released.
    pub freed_bytes: usize,
    /// Objects moved.
    pub moved_objects: usize,
    /// Objects that were not moved because a guard held them.
    pub pinned_objects: usize,
    /// Whether the budget ended the call while there was still something to gain.
    pub exhausted: bool,
}

/// The owner of objects, which [`reclaim`](crate::ZPool::reclaim) asks to evict some.
pub trait Evict {
    /// Evicts the object named `id`: writes it elsewhere or forgets it, and frees its handle before
    /// returning `Ok`.
    ///
    /// The pool calls this with no lock held, and never twice at the same time for one object.
    /// Another thread may free the object at any moment, so an unknown `id` is not an error: return
    /// `Ok`.
    ///
    /// # Errors
    ///
    /// [`NotEvicted`] if the object has to stay. The pool then tries another page.
    fn evict(&mut self, id: HandleId) -> Result<(), NotEvicted>;
}

/// The owner keeps an object that it was asked to evict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotEvicted;

/// The result of a [`reclaim`](crate::ZPool::reclaim) call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReclaimReport {
    /// Pages released.
    pub pages: usize,
}

/// The error of a [`reclaim`](crate::ZPool::reclaim) that released fewer pages than requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReclaimError {
    /// The reason why it stopped.
    pub error: PoolError,
    /// The pages released before that.
    pub report: ReclaimReport,
}

impl ReclaimError {
    /// Returns the error of a pool that cannot reclaim.
    pub fn unsupported() -> ReclaimError {
        ReclaimError { error: PoolError::Unsupported("reclaim"), report: ReclaimReport::default() }
    }
}

impl fmt::Display for ReclaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reclaim stopped after {} pages: {}", self.report.pages, self.error)
    }
}

impl core::error::Error for ReclaimError {}
