//! The pool as its users see it.

use std::sync::Arc;

use zpool_core::{
    Capabilities, CompactionBudget, CompactionReport, FreeError, Handle, PoolConfig, PoolError,
    PoolId, PoolStats, ReadGuard, Violation, ZPool, might_block,
};

use crate::geometry::size_class::{ClassTable, SizeClass};
use crate::pool::core::PoolCore;

/// A pool of the [`ZsmallocDriver`](crate::ZsmallocDriver).
///
/// Dropping it gives back everything with one call to the page source, live objects included, and
/// makes no heap allocation. It waits for a job of its own that is running.
#[derive(Debug)]
pub struct Zsmalloc {
    inner: Arc<PoolCore>,
}

impl Zsmalloc {
    pub(crate) fn new(config: &PoolConfig, table: Arc<ClassTable>, compact: bool) -> Zsmalloc {
        let inner = Arc::new(PoolCore::new(config, table, compact));
        inner.prepare_job();
        Zsmalloc { inner }
    }

    /// Returns how many zspages this pool can have. An insert that needs one more fails with
    /// [`PoolError::TooManyPages`].
    pub fn max_zspages(&self) -> u32 {
        self.inner.zspages.limit()
    }

    /// The size classes of this pool, smallest first.
    pub fn classes(&self) -> &[SizeClass] {
        self.inner.table.classes()
    }
}

impl Drop for Zsmalloc {
    fn drop(&mut self) {
        // Also when the check below panics: what is found is the caller's bug, and no reason to
        // leak.
        let _closing = Closing(&self.inner);
        might_block("Zsmalloc::drop");
    }
}

struct Closing<'a>(&'a PoolCore);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close_gate();
        self.0.tear_down();
    }
}

impl ZPool for Zsmalloc {
    fn id(&self) -> PoolId {
        self.inner.mint.pool_id()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::new(self.inner.table.config().max_object_len)
            .compacting()
            .estimating()
            .wiping()
    }

    fn footprint(&self, len: usize) -> usize {
        self.inner.table.footprint(len)
    }

    fn insert(&self, object: &[u8]) -> Result<Handle, PoolError> {
        self.inner.remake_job();
        self.inner.insert(object)
    }

    #[inline]
    fn read(&self, handle: &Handle) -> Result<ReadGuard<'_>, PoolError> {
        self.inner.read(handle)
    }

    fn free(&self, handle: Handle) -> Result<(), FreeError> {
        self.inner.free(handle)
    }

    fn free_many(&self, handles: &mut dyn Iterator<Item = Handle>) -> usize {
        self.inner.free_many(handles)
    }

    fn exchange(&self, handle: &Handle, other: &mut Handle) -> bool {
        self.inner.exchange(handle, other)
    }

    fn bytes_held(&self) -> usize {
        self.inner.bytes_held()
    }

    fn stats(&self) -> PoolStats {
        self.inner.stats()
    }

    fn survey(&self) -> PoolStats {
        self.inner.survey()
    }

    fn validate(&self) -> Result<(), Violation> {
        self.inner.validate()
    }

    fn compact(&self, budget: CompactionBudget) -> CompactionReport {
        self.inner.remake_job();
        self.inner.compact(budget)
    }

    fn trim(&self) -> usize {
        self.inner.remake_job();
        self.inner.trim()
    }
}
