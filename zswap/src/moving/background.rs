//! Draining on the executor, in small steps.
//!
//! ```text
//!   switch ─► request ─► job: a step ─► wait, to keep to a share of a CPU ─► job: a step ...
//!                          └ nothing left, stuck, paused, or at the limit for long: no next job
//! ```
//!
//! The job holds the store weakly between its steps, so a store can be dropped at any time.

use std::hash::{BuildHasher, Hash};
use std::time::{Duration, Instant};

use zpool_core::exec::Job;
use zpool_core::internal::catch;
use zpool_core::spec::PoolSpec;
use zpool_manager::{SwitchError, Switched};

use crate::stats::drain_report::{DrainBudget, DrainEnd, DrainProgress};
use crate::store::drain_state::DrainPolicy;
use crate::store::{Store, WeakStore};

/// Work of one step: other jobs of the executor, those of other stores included, wait for it.
const STEP: DrainBudget = DrainBudget::entries(256).with_time(Duration::from_millis(2));

/// Wait before a step that found no room is repeated: the first, and the longest. Each is twice as
/// long as the one before.
const RETRY: Duration = Duration::from_millis(20);
const LONGEST_RETRY: Duration = Duration::from_secs(1);

/// Steps in a row without room after which a drain gives up. An executor without a clock runs them
/// one after the other, so they are bounded in number.
const RETRIES: u32 = 60;

impl<K, S> Store<K, S>
where
    K: Hash + Eq + Clone + Send + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Switches to a pool of `spec`, as [`switch`](Self::switch) does, and drains the retired pools
    /// on the executor, in steps of some milliseconds. Does not wait for that.
    ///
    /// The drain takes the share of a CPU that the [policy](crate::StoreBuilder::drain) sets, or
    /// 50 % of one without a policy. A later switch redirects it. If the store stays at its limit
    /// for about 1 minute, or there is no memory, the drain gives up until
    /// [`resume_drain`](Self::resume_drain) or the next switch. An executor that runs jobs on the
    /// caller drains before this returns.
    ///
    /// A running step keeps the store alive: if the last clone is dropped meanwhile, the memory is
    /// freed when the step ends.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.store(1, b"a page of memory ".repeat(240))?;
    /// store.switch_and_drain(&"zsmalloc(chain=8)+lz4".parse()?)?;
    /// while store.drain_progress().is_active {
    ///     std::thread::yield_now();
    /// }
    /// assert_eq!(store.stats().moved, 1);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`switch`](Self::switch). Then no drain begins.
    pub fn switch_and_drain(&self, spec: &PoolSpec) -> Result<Switched, SwitchError> {
        let switched = self.manager().switch(spec)?;
        self.request_drain(Duration::ZERO);
        Ok(switched)
    }

    /// Resumes a drain that was paused, or that gave up. Begins one if there is none and a retired
    /// pool has blocks.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.store(1, b"a page of memory ".repeat(240))?;
    /// store.pause_drain();
    /// store.switch_and_drain(&"zsmalloc(chain=8)+lz4".parse()?)?;
    /// assert_eq!(store.stats().moved, 0);
    /// store.resume_drain();
    /// while store.drain_progress().is_active {
    ///     std::thread::yield_now();
    /// }
    /// assert_eq!(store.stats().moved, 1);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resume_drain(&self) {
        self.drain_state().background.lock().is_paused = false;
        if self.blocks_to_drain() > 0 {
            self.request_drain(Duration::ZERO);
        }
    }

    /// Begins a drain after `delay`, or lets the one under way continue for this request as well.
    fn request_drain(&self, delay: Duration) {
        let mut background = self.drain_state().background.lock();
        background.requests += 1;
        (background.moved, background.fruitless, background.is_wanted) = (0, 0, true);
        if background.is_paused || std::mem::replace(&mut background.has_job, true) {
            return;
        }
        let requests = background.requests;
        drop(background);
        self.submit_drain(requests, delay);
    }

    fn submit_drain(&self, requests: u64, delay: Duration) {
        let step = PendingStep { store: Some(self.downgrade()), requests };
        let job = Job::try_new("drain retired pools", || move || step.run());
        let submit = |job| match delay.is_zero() {
            true => self.manager().executor().submit(job),
            false => self.manager().executor().submit_later(delay, job),
        };
        let submitted = job.and_then(|job| catch(|| submit(job).is_ok()));
        if submitted != Some(true) {
            // Refused: the next request tries again.
            self.drain_state().background.lock().has_job = false;
        }
    }

    /// Runs one step. Returns the wait before the next one, or `None` if there is none.
    fn background_step(&self) -> Option<Duration> {
        let state = self.drain_state();
        let requests = {
            let mut background = state.background.lock();
            if background.is_paused || !background.is_wanted {
                background.has_job = false;
                return None;
            }
            background.requests
        };
        let began = Instant::now();
        // A key that panics ends the drain.
        let report = catch(|| self.drain(STEP));
        let took = began.elapsed();
        let mut background = state.background.lock();
        let end = report.map_or(DrainEnd::Stuck, |report| report.end);
        let moved = report.map_or(0, |report| report.moved);
        background.last_end = Some(end);
        background.moved += moved;
        background.fruitless = if moved > 0 { 0 } else { background.fruitless + 1 };
        let no_room = matches!(end, DrainEnd::Limit | DrainEnd::OutOfMemory);
        let goes_on = match end {
            DrainEnd::Budget => true,
            _ if background.requests != requests => true,
            _ => no_room && background.fruitless < RETRIES,
        };
        if !goes_on {
            (background.is_wanted, background.has_job) = (false, false);
            return None;
        }
        let share = u32::from(state.policy.share_percent());
        let pause = took * (100 - share) / share;
        let retry = RETRY.saturating_mul(1 << background.fruitless.min(16)).min(LONGEST_RETRY);
        Some(if no_room { pause.max(retry) } else { pause })
    }
}

/// Begins a drain after a switch, as the policy says.
pub(crate) fn start_drain<K, S>(store: &Store<K, S>)
where
    K: Hash + Eq + Clone + Send + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    if let DrainPolicy::After { idle, .. } = store.drain_state().policy {
        store.request_drain(idle);
    }
}

/// A job of a drain that was asked for as many times as `requests` says. If an executor drops the
/// job, the next request makes another one.
struct PendingStep<K, S> {
    /// `None` once it runs.
    store: Option<WeakStore<K, S>>,
    requests: u64,
}

impl<K, S> PendingStep<K, S>
where
    K: Hash + Eq + Clone + Send + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    fn run(mut self) {
        if let Some(store) = self.store.take().and_then(|store| store.upgrade()) {
            run_step(&store, self.requests);
        }
    }
}

impl<K, S> Drop for PendingStep<K, S> {
    fn drop(&mut self) {
        if let Some(store) = self.store.take().and_then(|store| store.upgrade()) {
            store.drain_state().background.lock().has_job = false;
        }
    }
}

fn run_step<K, S>(store: &Store<K, S>, requests: u64)
where
    K: Hash + Eq + Clone + Send + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    let idle = match store.drain_state().policy {
        DrainPolicy::After { idle, .. } => idle,
        DrainPolicy::Never => Duration::ZERO,
    };
    let newest = store.drain_state().background.lock().requests;
    if newest != requests && !idle.is_zero() {
        // There was a switch since, so the idle time begins anew.
        return store.submit_drain(newest, idle);
    }
    let on_caller = store.manager().executor().capabilities().runs_on_caller;
    while let Some(pause) = store.background_step() {
        if !on_caller {
            let requests = store.drain_state().background.lock().requests;
            return store.submit_drain(requests, pause);
        }
    }
}

impl<K, S> Store<K, S> {
    /// Pauses a drain on the executor, and keeps others from beginning, until
    /// [`resume_drain`](Self::resume_drain). A running step continues for some milliseconds. Calls
    /// of [`drain`](Self::drain) are not affected.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.pause_drain();
    /// assert!(store.drain_progress().is_paused);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pause_drain(&self) {
        self.drain_state().background.lock().is_paused = true;
    }

    /// Returns the state of the drain on the executor. Walks the shards of the index.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// let progress = store.drain_progress();
    /// assert!(!progress.is_active && !progress.is_paused);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn drain_progress(&self) -> DrainProgress {
        let remaining = self.blocks_to_drain();
        let background = self.drain_state().background.lock();
        DrainProgress {
            is_active: background.has_job && !background.is_paused,
            is_paused: background.is_paused,
            moved: background.moved,
            remaining,
            last_end: background.last_end,
        }
    }
}
