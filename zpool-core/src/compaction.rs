//! What [`ZPool::compact`](crate::ZPool::compact) and [`ZPool::reclaim`](crate::ZPool::reclaim) are given and give back.

use core::fmt;

use crate::error::PoolError;
use crate::handle::HandleId;

/// How much one call of [`compact`](crate::ZPool::compact) may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactionBudget {
    /// Objects it may move at most.
    pub max_moves: usize,
}

impl CompactionBudget {
    /// As much as there is to gain.
    pub const UNLIMITED: CompactionBudget = CompactionBudget { max_moves: usize::MAX };

    /// At most `max_moves` objects.
    pub const fn moves(max_moves: usize) -> CompactionBudget {
        CompactionBudget { max_moves }
    }
}

/// What a call of [`compact`](crate::ZPool::compact) did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactionReport {
    /// Bytes that the pool estimated it could give back, before it began.
    pub estimated_bytes: usize,
    /// Bytes of frames given back.
    pub freed_bytes: usize,
    /// Objects moved.
    pub moved_objects: usize,
    /// Objects that stayed where they are because a guard held them.
    pub pinned_objects: usize,
    /// More could be gained: the budget ended the call.
    pub exhausted: bool,
}

/// The owner of objects, asked by [`reclaim`](crate::ZPool::reclaim) to give some up.
pub trait Evict {
    /// Gives up the object named `id`: writes it elsewhere or forgets it, and frees its handle in the pool before it returns `Ok`.
    ///
    /// The pool calls this with no lock held, never twice at the same time for one object. The object may be freed by somebody
    /// else at any moment, so an unknown `id` is no error: return `Ok`.
    ///
    /// # Errors
    ///
    /// [`NotEvicted`] when the object has to stay: the pool tries another page.
    fn evict(&mut self, id: HandleId) -> Result<(), NotEvicted>;
}

/// The owner keeps the object for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotEvicted;

/// What a call of [`reclaim`](crate::ZPool::reclaim) did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReclaimReport {
    /// Pages given back.
    pub pages: usize,
}

/// A [`reclaim`](crate::ZPool::reclaim) that gave back fewer pages than asked, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReclaimError {
    /// Why it stopped.
    pub error: PoolError,
    /// What was given back before it did.
    pub report: ReclaimReport,
}

impl ReclaimError {
    /// The answer of a pool that cannot reclaim.
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
