//! The cold pool: a second pool that takes objects while another one is current.
//!
//! ```text
//!   current   ◄── new blocks        cold   ◄── blocks that an owner moves there
//!      │ switch                        │ set_cold, remove_cold
//!      ▼                               ▼
//!   retired ◄──────────────────────────┘     may become either again
//! ```
//!
//! It has an identity reference, as the current pool does, so it lives on when it is empty. It is
//! not retired: a switch to its spec makes another pool instead of reviving it.

use zpool_core::internal::Counted;
use zpool_core::internal::sync::atomic::Ordering;
use zpool_core::might_block;
use zpool_core::spec::PoolSpec;

use crate::error::SwitchError;
use crate::manager::PoolManager;
use crate::observe::PoolEventKind;
use crate::pools::pool::PoolRef;
use crate::shared::count;
use crate::switch::{Attempt, KeptPlugins, Switched};

impl PoolManager {
    /// Returns a reference to the cold pool, or `None` if there is none.
    ///
    /// Costs one atomic load and one count. Never blocks.
    #[inline]
    pub fn cold(&self) -> Option<PoolRef> {
        self.shared.pools.cold()
    }

    /// Makes a pool of `spec` the cold pool. The previous one is retired, as by a switch.
    ///
    /// The manager puts nothing there: the owner of the objects moves them.
    ///
    /// # Errors
    ///
    /// As for [`switch`](Self::switch). Then nothing has changed.
    ///
    /// # Concurrency
    ///
    /// As for [`switch`](Self::switch).
    pub fn set_cold(&self, spec: &PoolSpec) -> Result<Switched, SwitchError> {
        might_block("changing the cold pool");
        self.attempt(|_, kept| self.set_cold_locked(spec, kept))
    }

    fn set_cold_locked(
        &self,
        spec: &PoolSpec,
        kept: &mut KeptPlugins,
    ) -> Result<Attempt, SwitchError> {
        let plan = self.resolve(&spec.allocator, &spec.compressor, kept)?;
        if let Some(cold) = self.cold().filter(|cold| *cold.spec() == plan.spec) {
            return Ok(Attempt::Done(Switched::Unchanged(cold.id()), None));
        }
        let pools = &self.shared.pools;
        if self.config.revive
            && let Some(pool) = pools.find_retired(&plan.spec)
        {
            let revived = Counted::revive(&pool.0);
            debug_assert!(revived, "a pool that is listed, alive and has no role is retired");
            pool.codec().revive_compression();
            let old = self.replace_cold(|| pools.publish_cold(Some(&pool)));
            count(&self.shared.counters.revived);
            self.shared.notifier.notify_pool(PoolEventKind::Revived, &pool);
            return Ok(Attempt::Done(Switched::Revived(pool.id()), old));
        }
        if self.shared.gate.pending() >= self.config.max_pending {
            return Ok(Attempt::TooManyPending);
        }
        let pool = self.construct(plan)?;
        let id = pool.id();
        count(&self.shared.counters.created);
        self.shared.notifier.notify_pool(PoolEventKind::Created, &pool);
        let old = self.replace_cold(|| pools.publish_new_cold(pool));
        Ok(Attempt::Done(Switched::Created(id), old))
    }

    /// Retires the cold pool. Returns false, without effect, if there is none or if called from a
    /// constructor or an observer.
    ///
    /// # Concurrency
    ///
    /// May block: it waits for switches.
    pub fn remove_cold(&self) -> bool {
        might_block("retiring the cold pool");
        if crate::switch::is_inside_switch() {
            return false;
        }
        let locked = self.switch_mutex.lock();
        let there = self.cold().is_some();
        let old = there.then(|| self.replace_cold(|| self.shared.pools.publish_cold(None)));
        drop(locked);
        old.flatten().into_iter().for_each(|old| self.free_contexts_later(old));
        there
    }

    /// Publishes another cold pool, then retires the previous one and returns a reference to it.
    fn replace_cold(
        &self,
        publish: impl FnOnce() -> Option<std::sync::Arc<Counted<crate::pools::pool::Pool>>>,
    ) -> Option<PoolRef> {
        let old = publish();
        // Release: pairs with the Acquire in `PoolManager::switches`.
        self.shared.counters.switches.fetch_add(1, Ordering::Release);
        self.retire(old?)
    }
}
