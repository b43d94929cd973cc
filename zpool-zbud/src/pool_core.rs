//! The components of a pool, shared with its job and with the guards that borrow it.

use core::fmt;
use core::ops::{Deref, DerefMut};
use std::sync::{Arc, Weak};

use zpool_core::exec::{Executor, Job};
use zpool_core::internal::catch;
use zpool_core::internal::sync::atomic::{AtomicUsize, Ordering};
use zpool_core::internal::sync::{Condvar, Mutex, MutexGuard};
use zpool_core::page::PageSource;
use zpool_core::{HandleMint, Pins};

use crate::geometry::{BuddyIndex, Geometry};
use crate::state::ZbudState;
use crate::table::RunTable;

/// The most bytes of empty pages that are kept for the next inserts. Above this, a batch of pages
/// is released.
const EMPTY_BYTES_HIGH_WATERMARK: usize = 128 << 10;

/// Bytes of empty pages that such a release keeps.
const EMPTY_BYTES_LOW_WATERMARK: usize = 32 << 10;

/// Heap bytes besides the pool itself: the counts of its `Arc`, and the node of its job.
const OTHER_HEAP: usize = 2 * size_of::<usize>() + 64;

pub(crate) struct ZbudCore {
    pub(crate) mint: HandleMint,
    pub(crate) geometry: Geometry,
    pub(crate) source: Arc<dyn PageSource>,
    pub(crate) table: RunTable,
    state: Mutex<ZbudState>,
    /// Notified when no job runs any more.
    quiet: Condvar,
    /// A copy of [`ZbudState::resident`] that is read without the lock.
    resident: AtomicUsize,
    /// Bytes of this value and of the tables.
    metadata: AtomicUsize,
    /// An executor that takes jobs inside a no-block section. No other kind is of use, because
    /// `free` promises never to block.
    executor: Option<Arc<dyn Executor>>,
    me: Weak<ZbudCore>,
    /// Whether freed objects are overwritten.
    pub(crate) wipe: bool,
}

impl ZbudCore {
    pub(crate) fn new(
        geometry: Geometry,
        source: Arc<dyn PageSource>,
        executor: Option<Arc<dyn Executor>>,
        wipe: bool,
    ) -> Arc<ZbudCore> {
        let executor = executor.filter(|executor| executor.capabilities().submit_in_no_block);
        let core = Arc::new_cyclic(|me| ZbudCore {
            mint: HandleMint::new(),
            geometry,
            source,
            table: RunTable::new(),
            state: Mutex::new(ZbudState::new()),
            quiet: Condvar::new(),
            resident: AtomicUsize::new(0),
            metadata: AtomicUsize::new(0),
            executor,
            me: me.clone(),
            wipe,
        });
        {
            let mut state = core.lock();
            if core.executor.is_some() {
                state.job().set_has_executor();
            }
            core.count_metadata(&state);
        }
        core
    }

    pub(crate) fn lock(&self) -> StateGuard<'_> {
        StateGuard { state: self.state.lock(), core: self }
    }

    pub(crate) fn bytes_held(&self) -> usize {
        // Relaxed: statistics only; as is the next.
        self.resident.load(Ordering::Relaxed) * self.geometry.frame() + self.metadata()
    }

    pub(crate) fn metadata(&self) -> usize {
        self.metadata.load(Ordering::Relaxed)
    }

    /// Updates the count of heap bytes after the tables have grown.
    pub(crate) fn count_metadata(&self, state: &ZbudState) {
        let bytes =
            size_of::<ZbudCore>() + OTHER_HEAP + RunTable::bytes(state.runs()) + state.heap_bytes();
        // Relaxed: statistics only.
        self.metadata.store(bytes, Ordering::Relaxed);
    }

    /// Returns whether there are more empty pages than are kept. Pages that the system refused to
    /// take do not count, so that they are not offered to it again and again.
    pub(crate) fn has_excess_empty(&self, state: &ZbudState) -> bool {
        state.releasable_pages() > (EMPTY_BYTES_HIGH_WATERMARK / self.geometry.page()).max(1)
    }

    /// Returns how many empty pages a release keeps.
    pub(crate) fn kept(&self) -> usize {
        EMPTY_BYTES_LOW_WATERMARK / self.geometry.page()
    }

    /// Unlocks after pages may have become empty, and submits the job if there is enough to do. A
    /// panic of the executor is contained: the caller's object is freed.
    pub(crate) fn unlock_and_submit(&self, mut state: StateGuard<'_>) {
        let job = if self.has_excess_empty(&state) { state.job().take() } else { None };
        drop(state);
        let (Some(job), Some(executor)) = (job, &self.executor) else { return };
        match catch(|| executor.submit(job)) {
            Some(Ok(())) => {}
            // The next free tries again. Inserts and trim do the work meanwhile.
            Some(Err(refused)) => self.put_job(refused.job),
            // Unwinding has dropped the job, which made the next one. If it has not, the executor
            // keeps it or has leaked it, and another one does no harm.
            None => self.renew_job(),
        }
    }

    /// Makes the job if it is missing. Called where heap memory may be allocated.
    pub(crate) fn make_missing_job(&self) {
        let missing = self.lock().job().is_missing();
        if missing && let Some(job) = self.new_job() {
            self.put_job(job);
        }
    }

    /// Makes the next job, after the last one has ended or was dropped. Without memory for it, the
    /// job is missing until a later insert.
    fn renew_job(&self) {
        if self.lock().job().end_submitted() {
            self.make_missing_job();
        }
    }

    /// Makes a job ready for the next free, unless there is one.
    fn put_job(&self, job: Job) {
        let surplus = self.lock().job().put(job);
        // Not under the lock.
        drop(surplus);
    }

    fn new_job(&self) -> Option<Job> {
        let token = JobToken(self.me.clone());
        Job::try_new("zbud: release empty pages", || move || token.run())
    }

    fn run_job(&self) {
        if !self.lock().job().begin_run() {
            return;
        }
        let running = RunningJob(self);
        let mut next = self.new_job();
        loop {
            while self.release_some(self.kept()) {}
            let mut state = self.lock();
            // Pages that became empty meanwhile found no job to submit.
            if self.has_excess_empty(&state) {
                continue;
            }
            state.job().put_if_submitted(&mut next);
            break;
        }
        drop(running);
    }

    /// Stops the jobs: none starts any more, and this waits for one that runs.
    pub(crate) fn stop_jobs(&self) {
        let mut state = self.lock();
        let job = state.job().close();
        while state.job().is_running() {
            self.quiet.wait(&mut state.state);
        }
        drop(state);
        drop(job);
    }
}

/// Travels with the job. However the job ends, the pool gets its next one, even if the page source
/// panics or an executor drops the job without running it.
struct JobToken(Weak<ZbudCore>);

impl JobToken {
    fn run(self) {
        if let Some(core) = self.0.upgrade() {
            core.run_job();
        }
    }
}

impl Drop for JobToken {
    fn drop(&mut self) {
        if let Some(core) = self.0.upgrade() {
            core.renew_job();
        }
    }
}

impl Pins for ZbudCore {
    fn unpin(&self, token: u64) {
        let index = BuddyIndex::from_bits(token as u32);
        let Some((_, buddy)) = self.table.buddy(index) else {
            debug_assert!(false, "a guard of {index:?}, which is not there");
            return;
        };
        if buddy.unpin() {
            let mut state = self.lock();
            let len = buddy.finish_zombie();
            state.end_zombie();
            self.vacate(&mut state, index, len);
            self.unlock_and_submit(state);
        }
    }
}

impl fmt::Debug for ZbudCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zbud")
            .field("id", &self.mint.pool_id())
            .field("page", &self.geometry.page())
            .field("bytes_held", &self.bytes_held())
            .finish_non_exhaustive()
    }
}

/// A running job. Ends when dropped, even if the page source panics.
struct RunningJob<'a>(&'a ZbudCore);

impl Drop for RunningJob<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if state.job().end_run() {
            self.0.quiet.notify_all();
        }
    }
}

/// The state, while this thread holds the pool's lock. It is the only lock, and none is taken under
/// it.
pub(crate) struct StateGuard<'a> {
    state: MutexGuard<'a, ZbudState>,
    core: &'a ZbudCore,
}

impl Deref for StateGuard<'_> {
    type Target = ZbudState;
    fn deref(&self) -> &ZbudState {
        &self.state
    }
}

impl DerefMut for StateGuard<'_> {
    fn deref_mut(&mut self) -> &mut ZbudState {
        &mut self.state
    }
}

impl Drop for StateGuard<'_> {
    fn drop(&mut self) {
        // Relaxed: statistics only.
        self.core.resident.store(self.state.resident(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc;
    use std::thread;

    use zpool_core::exec::Manual;
    use zpool_core::page::{HeapSource, ObservedSource, SourceCall};
    use zpool_core::{PoolConfig, ZPoolDriver};

    use super::*;
    use crate::ZbudDriver;
    use crate::memory::ClaimedChunks;

    /// Makes a pool with pages of 4 KiB whose source reports its calls to `observe`.
    fn core_over(
        executor: Arc<dyn Executor>,
        observe: impl Fn(SourceCall) + Send + Sync + 'static,
    ) -> Arc<ZbudCore> {
        let source = Arc::new(ObservedSource::new(Arc::new(HeapSource::new(4096)), observe));
        ZbudCore::new(Geometry::new(4096, 4096), source, Some(executor), false)
    }

    /// The pool's drop waits for a job that runs, and only then releases memory. The job ends the
    /// wait.
    #[test]
    fn drop_waits_for_running_job() {
        let manual = Arc::new(Manual::new());
        let (in_job, job_is_in) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        let may_go = std::sync::Mutex::new(may_go);
        let gone = Arc::new(AtomicBool::new(false));
        let released = gone.clone();
        let observe = move |call| match call {
            SourceCall::Discard(_) => {
                in_job.send(()).unwrap();
                may_go.lock().unwrap().recv().unwrap();
                assert!(!released.load(Ordering::SeqCst), "the job still works");
            }
            SourceCall::ReleaseAll(_) => released.store(true, Ordering::SeqCst),
            _ => {}
        };
        let core = core_over(manual.clone(), observe);
        // More empty pages than are kept, and few enough for one call of the source.
        let pages: Vec<_> = (0..40).map(|_| ClaimedChunks::take(&core, 4096).unwrap()).collect();
        pages.into_iter().for_each(|page| {
            drop(page);
            core.unlock_and_submit(core.lock());
        });
        assert_eq!(manual.pending(), 1);
        thread::scope(|scope| {
            let job = scope.spawn(|| manual.run_one());
            job_is_in.recv().unwrap();
            let closing = scope.spawn(|| core.close());
            // The drop has the lock from here to its wait.
            while !core.lock().job().is_closing() {
                thread::yield_now();
            }
            // A wake-up without a reason shows that a thread waits, and does not end the wait.
            let waiting = core.quiet.notify_all();
            go.send(()).unwrap();
            assert!(job.join().unwrap());
            closing.join().unwrap();
            assert_eq!(waiting, 1, "the drop waits");
        });
        assert!(gone.load(Ordering::SeqCst));
        assert_eq!(manual.jobs_panicked(), 0);
        assert!(!core.lock().job().is_running());
    }

    /// The job is made with the first pages. If the heap refused the next one, an insert makes it,
    /// whether it adds pages or finds too many empty ones.
    #[test]
    fn insert_makes_missing_job() {
        let manual = Arc::new(Manual::new());
        let core = core_over(manual.clone(), |_| {});
        let is_ready = || core.lock().job().is_ready();
        assert!(!is_ready(), "an unused pool makes no job");
        let first = ClaimedChunks::take(&core, 4096).unwrap();
        assert!(is_ready());
        let lose_job = || {
            let mut state = core.lock();
            let job = state.job().take();
            assert!(state.job().end_submitted());
            drop(state);
            // Not under the lock.
            drop(job);
            assert!(!is_ready());
        };
        lose_job();
        let mut pages: Vec<_> =
            (0..64).map(|_| ClaimedChunks::take(&core, 4096).unwrap()).collect();
        assert!(is_ready(), "the last of these needs a new run");
        lose_job();
        pages.clear();
        assert!(core.has_excess_empty(&core.lock()));
        drop(ClaimedChunks::take(&core, 4096).unwrap());
        assert!(is_ready());
        drop(first);
        core.close();
    }

    /// The driver's pool has a job only if there is an executor that a free may use.
    #[test]
    fn job_needs_executor() {
        let config = PoolConfig::new(Arc::new(HeapSource::new(4096)), 4096);
        let pool = ZbudDriver.create(&config).unwrap();
        drop(pool.insert(&[1]).unwrap());
        let core = ZbudCore::new(Geometry::new(4096, 4096), config.source, None, false);
        drop(ClaimedChunks::take(&core, 1).unwrap());
        core.make_missing_job();
        assert!(!core.lock().job().is_ready() && !core.lock().job().is_missing());
        core.close();
    }
}
