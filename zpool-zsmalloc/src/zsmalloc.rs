//! The pool as its users see it.

use std::sync::Arc;

use zpool_core::{
    Capabilities, CompactionBudget, CompactionReport, FreeError, Handle, PoolConfig, PoolError,
    PoolId, PoolStats, ReadGuard, Violation, ZPool, might_block,
};

use crate::geometry::size_class::{ClassTable, SizeClass};
use crate::reclaim::Reclaimer;

/// A pool of the [`ZsmallocDriver`](crate::ZsmallocDriver).
///
/// Dropping it releases everything with one call to the page source, live objects included, and
/// makes no heap allocation. It waits for a job of its own that is running.
#[derive(Debug)]
pub struct Zsmalloc {
    inner: Arc<Reclaimer>,
}

impl Zsmalloc {
    pub(crate) fn new(config: &PoolConfig, table: Arc<ClassTable>, compact: bool) -> Zsmalloc {
        Zsmalloc { inner: Reclaimer::new(config, table, compact) }
    }

    /// Returns how many zspages this pool can have. An insert that needs one more fails with
    /// [`PoolError::TooManyPages`].
    pub fn max_zspages(&self) -> u32 {
        self.inner.pool().zspages().limit()
    }

    /// Returns the size classes of this pool, smallest first.
    pub fn classes(&self) -> &[SizeClass] {
        self.inner.pool().table().classes()
    }
}

impl Drop for Zsmalloc {
    fn drop(&mut self) {
        // Closes the pool even if the check below panics: that is the caller's bug, and no reason
        // to leak.
        let _closing = TearDownOnDrop(&self.inner);
        might_block("Zsmalloc::drop");
    }
}

struct TearDownOnDrop<'a>(&'a Reclaimer);

impl Drop for TearDownOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl ZPool for Zsmalloc {
    fn id(&self) -> PoolId {
        self.inner.pool().handles().pool_id()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::new(self.inner.pool().table().config().max_object_len)
            .compacting()
            .estimating()
            .wiping()
    }

    fn footprint(&self, len: usize) -> usize {
        self.inner.pool().table().footprint(len)
    }

    fn insert(&self, object: &[u8]) -> Result<Handle, PoolError> {
        self.inner.remake_missing_job();
        let pool = self.inner.pool();
        pool.check_len(object.len())?;
        might_block("Zsmalloc::insert");
        self.inner.reclaim_before_insert();
        pool.insert(object)
    }

    #[inline]
    fn read(&self, handle: &Handle) -> Result<ReadGuard<'_>, PoolError> {
        self.inner.pool().read(handle)
    }

    fn free(&self, handle: Handle) -> Result<(), FreeError> {
        self.inner.pool().free(handle)
    }

    fn free_many(&self, handles: &mut dyn Iterator<Item = Handle>) -> usize {
        self.inner.pool().free_many(handles)
    }

    fn exchange(&self, handle: &Handle, other: &mut Handle) -> bool {
        self.inner.pool().exchange(handle, other)
    }

    fn bytes_held(&self) -> usize {
        self.inner.pool().bytes_held()
    }

    fn stats(&self) -> PoolStats {
        self.inner.pool().stats()
    }

    fn survey(&self) -> PoolStats {
        self.inner.pool().survey()
    }

    fn validate(&self) -> Result<(), Violation> {
        self.inner.pool().validate()
    }

    fn compact(&self, budget: CompactionBudget) -> CompactionReport {
        self.inner.remake_missing_job();
        self.inner.compact(budget)
    }

    fn trim(&self) -> usize {
        self.inner.remake_missing_job();
        self.inner.trim()
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use std::sync::Arc;

    use zpool_core::page::HeapSource;
    use zpool_core::{CompactionBudget, Handle, PoolConfig, ReadGuard, ZPool, ZPoolDriver};

    use crate::collections::walk_counter::walks;

    fn next(seed: &mut u64) -> usize {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed as usize
    }

    fn pool(max: usize, params: &str, frame: usize) -> Box<dyn ZPool> {
        let spec: zpool_core::spec::Component = params.parse().unwrap();
        let config =
            PoolConfig::new(Arc::new(HeapSource::new(frame)), max).with_params(spec.params);
        crate::ZsmallocDriver.create(&config).unwrap()
    }

    /// Under random inserts, frees one by one and many at once, guards, zombies, compactions and
    /// trims, the counts that are kept equal those of a walk. Objects are much shorter than a frame
    /// and much longer, in zspages of many lengths.
    #[test]
    fn stats_kept_equal_survey() {
        for (max, params, frame) in [
            (4096, "zsmalloc", 4096),
            (4096, "zsmalloc(chain=1)", 4096),
            (200, "zsmalloc(step=8)", 4096),
            (65_536, "zsmalloc(chain=64,step=64)", 4096),
            (9000, "zsmalloc(chain=5)", 16_384),
        ] {
            let pool = pool(max, params, frame);
            let mut seed = max as u64 + 77;
            let mut live: Vec<Handle> = Vec::new();
            let mut guards: Vec<ReadGuard<'_>> = Vec::new();
            for step in 0..if cfg!(miri) { 100 } else { 1200 } {
                match next(&mut seed) % 16 {
                    0..=6 => {
                        let len = 1 + next(&mut seed) % if step % 3 == 0 { max } else { max / 7 };
                        live.push(pool.insert(&vec![7; len]).unwrap());
                    }
                    7..=11 if !live.is_empty() => {
                        pool.free(live.swap_remove(next(&mut seed) % live.len())).unwrap();
                    }
                    12 if !live.is_empty() => {
                        guards.push(pool.read(&live[next(&mut seed) % live.len()]).unwrap())
                    }
                    13 if !guards.is_empty() => {
                        drop(guards.swap_remove(next(&mut seed) % guards.len()))
                    }
                    14 if step % 50 == 0 => {
                        let from = next(&mut seed) % (live.len() + 1);
                        assert_eq!(pool.free_many(&mut live.drain(from..)), 0);
                    }
                    15 if step % 40 == 0 => {
                        pool.compact(CompactionBudget::moves(next(&mut seed) % 100));
                    }
                    15 if step % 40 == 1 => {
                        pool.trim();
                    }
                    _ => continue,
                }
                assert_eq!(pool.stats(), pool.survey(), "{params}, step {step}");
            }
            pool.validate().unwrap();
        }
    }

    /// Statistics take no walk over handles or zspages, whatever is in the pool. A survey does.
    #[test]
    fn stats_walk_over_nothing() {
        let pool = pool(4096, "zsmalloc", 4096);
        let _live: Vec<_> = (1..3000).map(|len| pool.insert(&vec![1; len]).unwrap()).collect();
        let before = walks();
        let stats = pool.stats();
        assert_eq!((walks(), stats.objects), (before, 2999));
        pool.survey();
        assert!(walks() > before + 1);
    }
}
