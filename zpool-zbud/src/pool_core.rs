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
use crate::state::{JobState, ZbudState};
use crate::table::RunTable;

/// The most bytes of empty pages that are kept for the next inserts. Beyond this a batch of them is
/// released.
const KEPT_AT_MOST: usize = 128 << 10;

/// Bytes of empty pages that such a release keeps.
const KEPT_AFTER: usize = 32 << 10;

/// Heap bytes besides the pool itself: the counts of its `Arc`, and the node of its job.
const OTHER_HEAP: usize = 2 * size_of::<usize>() + 64;

pub(crate) struct ZbudCore {
    pub(crate) mint: HandleMint,
    pub(crate) geometry: Geometry,
    pub(crate) source: Arc<dyn PageSource>,
    pub(crate) table: RunTable,
    state: Mutex<ZbudState>,
    /// Notified when `ZbudState::working` falls to 0.
    quiet: Condvar,
    /// A copy of `ZbudState::resident` that is read without the lock.
    resident: AtomicUsize,
    /// Bytes of this value and of the tables.
    metadata: AtomicUsize,
    /// An executor that takes jobs inside a no-block section. No other kind is of use, because
    /// `free` promises never to block.
    executor: Option<Arc<dyn Executor>>,
    me: Weak<ZbudCore>,
    /// Objects that are gone are overwritten.
    pub(crate) wipe: bool,
}

impl ZbudCore {
    pub(crate) fn new(
        geometry: Geometry,
        source: Arc<dyn PageSource>,
        executor: Option<Arc<dyn Executor>>,
        wipe: bool,
    ) -> Arc<ZbudCore> {
        let executor = executor.filter(|executor| executor.properties().submit_in_no_block);
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
                state.job = JobState::Missing;
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
        let bytes = size_of::<ZbudCore>()
            + OTHER_HEAP
            + RunTable::bytes(state.pages.runs())
            + state.pages.bytes();
        // Relaxed: statistics only.
        self.metadata.store(bytes, Ordering::Relaxed);
    }

    /// Returns whether there are more empty pages than are kept. Pages that the system refused to
    /// take do not count, so that they are not offered to it again and again.
    pub(crate) fn has_excess_empty(&self, state: &ZbudState) -> bool {
        state.empty.len().saturating_sub(state.refused)
            > (KEPT_AT_MOST / self.geometry.page()).max(1)
    }

    /// Returns how many empty pages a release keeps.
    pub(crate) fn kept(&self) -> usize {
        KEPT_AFTER / self.geometry.page()
    }

    /// Unlocks after pages may have become empty, and submits the job if there is enough to do. A
    /// panic of the executor is contained: the caller's object is freed.
    pub(crate) fn unlock_and_submit(&self, mut state: StateGuard<'_>) {
        let job = if self.has_excess_empty(&state) { state.take_job() } else { None };
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
        let missing = matches!(self.lock().job, JobState::Missing);
        if missing && let Some(job) = self.new_job() {
            self.put_job(job);
        }
    }

    /// Makes the next job, after the last one has ended or was dropped. Without memory for it, the
    /// job is missing until a later insert.
    fn renew_job(&self) {
        {
            let mut state = self.lock();
            if state.closing || !matches!(state.job, JobState::Out) {
                return;
            }
            state.job = JobState::Missing;
        }
        self.make_missing_job();
    }

    /// Makes a job ready for the next free, unless there is one.
    fn put_job(&self, job: Job) {
        let surplus = {
            let mut state = self.lock();
            match state.job {
                JobState::Out | JobState::Missing if !state.closing => {
                    state.job = JobState::Ready(job);
                    return;
                }
                _ => job,
            }
        };
        // Not under the lock.
        drop(surplus);
    }

    fn new_job(&self) -> Option<Job> {
        let token = JobToken(self.me.clone());
        Job::try_new("zbud: release empty pages", || move || token.run())
    }

    fn run_job(&self) {
        let mut state = self.lock();
        if state.closing {
            return;
        }
        state.working += 1;
        drop(state);
        let running = RunningJob(self);
        let mut next = self.new_job();
        loop {
            while self.release_some(self.kept()) {}
            let mut state = self.lock();
            // Pages that became empty meanwhile found no job to submit.
            if self.has_excess_empty(&state) {
                continue;
            }
            if matches!(state.job, JobState::Out)
                && let Some(job) = next.take()
            {
                state.job = JobState::Ready(job);
            }
            break;
        }
        drop(running);
    }

    /// Stops the jobs: none starts any more, and this waits for one that runs.
    pub(crate) fn stop_jobs(&self) {
        let mut state = self.lock();
        state.closing = true;
        let job = state.take_job();
        while state.working > 0 {
            self.quiet.wait(&mut state.state);
        }
        drop(state);
        drop(job);
    }
}

/// Travels with the job. However the job ends, the pool gets its next one: also if the page source
/// panics, or if an executor drops the job without running it.
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
            state.zombies -= 1;
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

/// A job that runs. Ends when dropped, also if the page source panics.
struct RunningJob<'a>(&'a ZbudCore);

impl Drop for RunningJob<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.working -= 1;
        if state.working == 0 {
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
        self.core.resident.store(self.state.resident, Ordering::Relaxed);
    }
}
