//! What a manager has done and what it has now.

use std::time::Duration;

use crate::pool::PoolLabel;

/// A manager's counters. Each was true at some moment during the call; when nothing runs,
/// `pools_created = pools_destroyed + pools_alive`. [`pools_leaked`](crate::pools_leaked) counts
/// those that will never be destroyed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ManagerStats {
    /// Changes of the current pool.
    pub switches: u64,
    /// Pools made.
    pub pools_created: u64,
    /// Switches that took a retired pool instead of making one.
    pub pools_revived: u64,
    /// Pools destroyed.
    pub pools_destroyed: u64,
    /// Pools of these that were destroyed inside the call that dropped their last reference: only
    /// with an executor that runs jobs on the caller.
    pub destroyed_on_caller: u64,
    /// Destructors of allocators or contexts that panicked; contained, but what they had not freed
    /// yet is lost.
    pub destructors_panicked: u64,
    /// Jobs that the executor did not take.
    pub jobs_refused: u64,
    /// Pools that exist: current, retired, and awaiting destruction.
    pub pools_alive: usize,
    /// Pools of these that await destruction, without those that were given up
    /// ([`pools_leaked`](crate::pools_leaked)).
    pub pending_destroy: usize,
    /// Bytes that the allocators of those hold.
    pub pending_destroy_bytes: usize,
    /// The most there ever were of those at a time.
    pub pending_destroy_max: usize,
}

/// One pool in a snapshot.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PoolInfo {
    /// Id, name and spec.
    pub label: PoolLabel,
    /// Where it is in its life.
    pub state: PoolState,
    /// References that owners of objects and running calls hold: one an object, or fewer where an
    /// owner keeps one for many (zswap: one for each shard of its index; its statistics count the
    /// objects of each pool).
    pub references: u64,
    /// Bytes it holds; 0 once it is dying, when nobody may look any more.
    pub bytes_held: usize,
    /// Of those, bytes of its compressor's contexts; the rest is the allocator's.
    pub context_bytes: usize,
    /// Time since it was made.
    pub age: Duration,
    /// Time since it was retired; `None` while current. A large value with references left is a
    /// pool that something keeps alive.
    pub retired_for: Option<Duration>,
}

/// Where a pool is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolState {
    /// New blocks go here.
    Current,
    /// Kept by what is stored in it; may be revived.
    Retired,
    /// Its last reference has gone: waits for its destruction.
    Dying,
}
