//! Statistics of a manager and of its pools.

use std::time::Duration;

use crate::pools::pool::PoolLabel;

/// Counters of a manager.
///
/// Each was true at some moment during the call. While no other thread is in a call,
/// `pools_created = pools_destroyed + pools_alive`. [`pools_leaked`](crate::pools_leaked) counts
/// pools that will never be destroyed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ManagerStats {
    /// Changes of the current pool or of the cold pool.
    pub switches: u64,
    /// Pools made.
    pub pools_created: u64,
    /// Switches that took a retired pool instead of making one.
    pub pools_revived: u64,
    /// Pools destroyed.
    pub pools_destroyed: u64,
    /// Destroyed pools that were destroyed inside the call that dropped their last reference.
    /// Caused by executors that run, drop or panic on the job inside `submit`.
    pub destroyed_on_caller: u64,
    /// Destructors of allocators or contexts that panicked. The panics were caught, but memory that
    /// was not freed yet is lost.
    pub destructors_panicked: u64,
    /// Destructions of pools that the executor refused, or on which its `submit` panicked.
    pub jobs_refused: u64,
    /// Pools that exist: current, cold, retired, and awaiting destruction.
    pub pools_alive: usize,
    /// Existing pools that await destruction, without those that were given up
    /// ([`pools_leaked`](crate::pools_leaked)).
    pub pending_destroy: usize,
    /// Bytes that the allocators of pools that await destruction hold.
    pub pending_destroy_bytes: usize,
    /// The largest number of pools that awaited destruction at one time.
    pub pending_destroy_max: usize,
}

/// One pool in a snapshot.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PoolInfo {
    /// Id, name and spec.
    pub label: PoolLabel,
    /// Its state.
    pub state: PoolState,
    /// References that owners of objects and running calls hold: one per object, or fewer if an
    /// owner keeps one for many objects. (zswap keeps one per shard of its index; its statistics
    /// count the objects of each pool.)
    pub references: u64,
    /// Bytes it holds. 0 once it is dying, when it cannot be referenced.
    pub bytes_held: usize,
    /// The part of `bytes_held` that its compressor's contexts hold.
    pub context_bytes: usize,
    /// Time since it was made.
    pub age: Duration,
    /// Time since it was retired; `None` while it is current or the cold pool. A large value with
    /// references left means that an owner keeps the pool alive.
    pub retired_for: Option<Duration>,
}

/// The state of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolState {
    /// New blocks go here.
    Current,
    /// Takes blocks that are [moved](crate::PoolManager::cold) there. Not revived by a switch.
    Cold,
    /// Alive because objects are stored in it. May be revived.
    Retired,
    /// Its last reference is gone, and it awaits destruction.
    Dying,
}
