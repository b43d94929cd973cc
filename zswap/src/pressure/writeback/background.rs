//! The job that writes before a storing thread has to: from the low watermark on, a segment at a
//! time.
//!
//! ```text
//!   store above the low watermark ─► job: a segment ─► still above? job: a segment ...
//! ```
//!
//! The job holds the store weakly until it runs. Other jobs of the executor run between its
//! segments. An executor that runs jobs on the caller gets none: there the storing thread writes
//! when it has to, at the limit.

use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use zpool_core::exec::Job;
use zpool_core::internal::catch;
use zpool_core::internal::sync::atomic::Ordering;

use super::Writeback;
use crate::limit::eviction_scope::EvictionScope;
use crate::store::{Store, WeakStore};

impl<K, S> Store<K, S> {
    /// Requests the job, if there is none.
    #[cold]
    pub(crate) fn request_writeback(&self) {
        let (Some(tier), Some(start)) = (self.index().tier(), self.start_writeback()) else {
            return;
        };
        // Relaxed: one of the threads that find it unset submits the job.
        if tier.is_on() && !tier.has_job.swap(true, Ordering::Relaxed) {
            start(self);
        }
    }
}

/// Submits the job.
pub(crate) fn start_writeback<K, S>(store: &Store<K, S>)
where
    K: Hash + Eq + Send + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    if store.manager().executor().capabilities().runs_on_caller {
        return finish(store);
    }
    let pending = PendingWriteback { store: Some(store.downgrade()) };
    let job = Job::try_new("write cold blocks to the tier", || move || pending.run());
    if let Some(job) = job {
        // Refused: its drop says so.
        catch(|| store.manager().executor().submit(job).is_ok());
    }
}

fn finish<K, S>(store: &Store<K, S>) {
    if let Some(tier) = store.index().tier() {
        // Relaxed: as in `request_writeback`.
        tier.has_job.store(false, Ordering::Relaxed);
    }
}

/// A job that is queued. If it is dropped without having run, the next store requests another one.
struct PendingWriteback<K, S> {
    /// `None` once it runs.
    store: Option<WeakStore<K, S>>,
}

impl<K, S> PendingWriteback<K, S>
where
    K: Hash + Eq + Send + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    fn run(mut self) {
        let Some(store) = self.store.take().and_then(|store| store.upgrade()) else { return };
        // A key that panics ends the job; the next store requests another one.
        if catch(|| store.write_in_background()).unwrap_or(false) {
            start_writeback(&store);
        } else {
            finish(&store);
        }
    }
}

impl<K, S> Drop for PendingWriteback<K, S> {
    fn drop(&mut self) {
        if let Some(store) = self.store.take().and_then(|store| store.upgrade()) {
            finish(&store);
        }
    }
}

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Writes one segment. Returns whether another one should be.
    fn write_in_background(&self) -> bool {
        let above = || {
            let max = self.limit().bytes();
            max.is_some_and(|max| {
                let from = self.limit().low_watermark(max);
                self.measure_held().is_ok_and(|held| held >= from)
            })
        };
        let Some(_scope) = EvictionScope::enter(self.eviction()) else { return false };
        if !above() {
            return false;
        }
        match self.write_segment(Duration::ZERO) {
            Writeback::Freed(freed) => {
                if self.limit().above_low_watermark() {
                    self.limit().debt().credit(freed);
                }
                above()
            }
            Writeback::Waited | Writeback::Busy | Writeback::Nothing => false,
        }
    }
}
