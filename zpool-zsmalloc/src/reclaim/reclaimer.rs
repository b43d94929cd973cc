//! [`Reclaimer`]: a pool together with the state of its reclaim.

use std::sync::Arc;
use std::time::Instant;

use zpool_core::PoolConfig;
use zpool_core::internal::sync::Mutex;
use zpool_core::internal::sync::atomic::AtomicBool;

use super::release;
use crate::geometry::size_class::ClassTable;
use crate::pool::PoolCore;

/// A pool that releases memory in the background, shared with its own job.
#[derive(Debug)]
pub(crate) struct Reclaimer {
    pub(super) pool: PoolCore,
    /// Whether a thread compacts.
    pub(super) compacting: AtomicBool,
    /// Whether the background job may move objects.
    pub(super) compact_in_background: bool,
    /// End of the cooldown after the last background compaction.
    pub(super) cooldown_end: Mutex<Option<Instant>>,
    /// Whether the pool had inserts, as seen by the last job that did not continue another one.
    pub(super) in_use: AtomicBool,
}

impl Reclaimer {
    /// Creates a pool and its job. With `compact_in_background`, the job may move objects.
    pub(crate) fn new(
        config: &PoolConfig,
        table: Arc<ClassTable>,
        compact_in_background: bool,
    ) -> Arc<Reclaimer> {
        let pool = PoolCore::new(config, table, size_of::<Reclaimer>());
        let reclaimer = Arc::new(Reclaimer::of(pool, compact_in_background));
        reclaimer.prepare_job();
        reclaimer
    }

    pub(super) fn of(pool: PoolCore, compact_in_background: bool) -> Reclaimer {
        Reclaimer {
            pool,
            compacting: AtomicBool::new(false),
            compact_in_background,
            cooldown_end: Mutex::new(None),
            in_use: AtomicBool::new(false),
        }
    }

    #[inline]
    pub(crate) fn pool(&self) -> &PoolCore {
        &self.pool
    }

    /// Ends the pool: waits for a running job, and releases everything, live objects included,
    /// without a heap call. The caller is its last user.
    pub(crate) fn close(&self) {
        self.pool.jobs().close();
        release::tear_down(&self.pool);
    }
}
