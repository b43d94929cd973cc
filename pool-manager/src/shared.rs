//! The state that a manager shares with its pools, and that outlives the manager.

use std::fmt;
use std::sync::Arc;

use zpool_core::compress::ContextBudget;
use zpool_core::exec::Executor;
use zpool_core::internal::sync::atomic::{AtomicU64, Ordering};

use crate::observe::Notifier;
use crate::pools::pool_list::PoolList;
use crate::release::release_gate::ReleaseGate;

/// Shared by a manager and all its pools.
pub(crate) struct Shared {
    pub(crate) pools: PoolList,
    pub(crate) gate: ReleaseGate,
    pub(crate) counters: ManagerCounters,
    /// The account in which the codecs of all pools count their contexts, with its bound.
    pub(crate) contexts: Arc<ContextBudget>,
    pub(crate) notifier: Notifier,
}

/// Events so far. All but `switches` are statistics: relaxed, and not synchronized with the others.
/// `switches` publishes the current pool: see `PoolManager::switches`.
#[derive(Debug, Default)]
pub(crate) struct ManagerCounters {
    pub(crate) switches: AtomicU64,
    pub(crate) created: AtomicU64,
    pub(crate) revived: AtomicU64,
    pub(crate) destroyed: AtomicU64,
    pub(crate) destroyed_on_caller: AtomicU64,
    pub(crate) destructors_panicked: AtomicU64,
}

/// Adds one to a statistic.
pub(crate) fn count(counter: &AtomicU64) {
    // Relaxed: statistics only.
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Shared {
    pub(crate) fn new(executor: Arc<dyn Executor>, notifier: Notifier) -> Arc<Shared> {
        Arc::new(Shared {
            pools: PoolList::new(),
            gate: ReleaseGate::new(executor),
            counters: ManagerCounters::default(),
            contexts: Arc::default(),
            notifier,
        })
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("alive", &self.pools.len())
            .field("pending", &self.gate.pending())
            .finish_non_exhaustive()
    }
}
