//! Switching: another allocator, another compressor, or both, while data lives in the pools.
//!
//! While it calls plug-ins, a switch holds the switch mutex and no other lock. It makes the new
//! pool, publishes it, and only then retires the previous one.
//!
//! Destructors of plug-ins run before the mutex is locked or after it is unlocked, so a destructor
//! may switch, or take a lock that another switching thread holds. That concerns refused jobs,
//! unused results of an attempt, and the last reference to the previous pool.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use zpool_core::compress::{Codec, Compressor, CompressorDriver};
use zpool_core::exec::Job;
use zpool_core::internal::Counted;
use zpool_core::internal::sync::atomic::Ordering;
use zpool_core::internal::{catch, in_job, take_panic_message};
use zpool_core::spec::{Component, Params, PoolSpec};
use zpool_core::{CreateError, PoolConfig, PoolId, ZPoolDriver, might_block};

use crate::error::SwitchError;
use crate::manager::PoolManager;
use crate::observe::{PoolEventKind, is_observing};
use crate::pools::pool::{Drivers, Pool, PoolRef};
use crate::registry::DriverUse;
use crate::release::destroy;
use crate::shared::{Shared, count};

/// Time for which a retired pool keeps its compression contexts in case it is revived.
const CONTEXT_GRACE: Duration = Duration::from_millis(100);

/// The allocator and the compressor that were requested last, each remembered separately, even if
/// no pool could be made of them.
#[derive(Debug, Default)]
pub(crate) struct RequestedSpec {
    allocator: Option<Component>,
    compressor: Option<Component>,
}

/// The effect of a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Switched {
    /// The current pool had this spec already.
    Unchanged(PoolId),
    /// A new pool was made.
    Created(PoolId),
    /// A retired pool that still had references became current again.
    Revived(PoolId),
}

impl Switched {
    /// Returns the id of the pool that the call selected, current or cold.
    pub fn pool_id(self) -> PoolId {
        match self {
            Switched::Unchanged(id) | Switched::Created(id) | Switched::Revived(id) => id,
        }
    }
}

thread_local! {
    /// Plug-in constructors on this thread's stack.
    static CONSTRUCTING: Cell<u32> = const { Cell::new(0) };
}

/// Returns whether the calling thread is in foreign code that a switch may have called under the
/// switch mutex: a constructor or an observer.
pub(crate) fn is_inside_switch() -> bool {
    CONSTRUCTING.with(Cell::get) > 0 || is_observing()
}

impl PoolManager {
    /// Makes a pool of `spec` the current one.
    ///
    /// Blocks stored from then on go there. Blocks stored before stay in their pool and are loaded
    /// from it. The previous current pool is retired, and destroyed after its last block is freed.
    ///
    /// # Errors
    ///
    /// [`SwitchError`]. Then the current pool has not changed, and no pool or plug-in of the
    /// attempt is left. Before the first pool exists, the spec is remembered for
    /// [`set_allocator`](Self::set_allocator) and [`set_compressor`](Self::set_compressor).
    ///
    /// # Concurrency
    ///
    /// May block: for other switches, for plug-ins' constructors, and while [too
    /// many](crate::ManagerBuilder::max_pending) pools await destruction.
    ///
    /// Unless called from inside a job, it runs the jobs that the executor refused, and destroys
    /// pending pools itself when there are too many. So hold no lock that a plug-in's destructor
    /// takes.
    pub fn switch(&self, spec: &PoolSpec) -> Result<Switched, SwitchError> {
        self.switch_to(Some(&spec.allocator), Some(&spec.compressor), None)
    }

    /// Changes the allocator and keeps the compressor.
    ///
    /// # Errors
    ///
    /// As for [`switch`](Self::switch). [`SwitchError::Incomplete`] if no compressor was ever
    /// chosen. Before the first pool exists, a failed choice is remembered, so that choosing the
    /// compressor completes it.
    ///
    /// # Concurrency
    ///
    /// As for [`switch`](Self::switch).
    pub fn set_allocator(&self, allocator: &Component) -> Result<Switched, SwitchError> {
        self.switch_to(Some(allocator), None, None)
    }

    /// Changes the compressor and keeps the allocator.
    ///
    /// # Errors
    ///
    /// As for [`set_allocator`](Self::set_allocator), with the roles exchanged.
    ///
    /// # Concurrency
    ///
    /// As for [`switch`](Self::switch).
    pub fn set_compressor(&self, compressor: &Component) -> Result<Switched, SwitchError> {
        self.switch_to(None, Some(compressor), None)
    }

    /// Replaces the current pool by a new one of the same spec, and retires it for good: it is
    /// never revived. Returns a reference to the retired pool. If there is no current pool, or
    /// another one has become current meanwhile, returns `None` and changes nothing.
    ///
    /// For a caller that has given up all its objects in the pool, and drops it as a whole.
    ///
    /// # Errors
    ///
    /// As for [`switch`](Self::switch).
    ///
    /// # Concurrency
    ///
    /// As for [`switch`](Self::switch).
    pub fn renew(&self) -> Result<Option<PoolRef>, SwitchError> {
        let Some(old) = self.current() else { return Ok(None) };
        let switched = self.switch_to(None, None, Some(&old))?;
        Ok(matches!(switched, Switched::Created(_)).then_some(old))
    }

    /// Switches to what is chosen, and keeps the rest. If `renew` is still the current pool, a new
    /// pool of its spec replaces it.
    fn switch_to(
        &self,
        allocator: Option<&Component>,
        compressor: Option<&Component>,
        renew: Option<&PoolRef>,
    ) -> Result<Switched, SwitchError> {
        might_block("switching pools");
        self.attempt(|requested, kept| {
            let next = RequestedSpec {
                allocator: allocator.or(requested.allocator.as_ref()).cloned(),
                compressor: compressor.or(requested.compressor.as_ref()).cloned(),
            };
            let attempt = self.switch_locked(&next, renew, kept);
            if matches!(attempt, Ok(Attempt::Done(..))) || !self.shared.pools.has_current() {
                *requested = next;
            }
            attempt
        })
    }

    /// Repeats an attempt under the switch mutex until few enough pools await destruction.
    pub(crate) fn attempt(
        &self,
        attempt: impl Fn(&mut RequestedSpec, &mut KeptPlugins) -> Result<Attempt, SwitchError>,
    ) -> Result<Switched, SwitchError> {
        if CONSTRUCTING.with(Cell::get) > 0 {
            return Err(SwitchError::InsideConstructor);
        }
        if is_observing() {
            return Err(SwitchError::InsideObserver);
        }
        loop {
            if !in_job() {
                self.shared.gate.run_orphans();
            }
            let mut kept = KeptPlugins::default();
            let mut requested = self.switch_mutex.lock();
            let outcome = attempt(&mut requested, &mut kept);
            drop(requested);
            kept.destroy(&self.shared);
            match outcome? {
                Attempt::Done(switched, old) => {
                    // The reference that kept the previous pool through its retirement is dropped
                    // here, with no lock held.
                    old.into_iter().for_each(|old| self.free_contexts_later(old));
                    return Ok(switched);
                }
                Attempt::TooManyPending if in_job() => return Err(SwitchError::InsideJob),
                // Without the mutex: a destructor that is waited for may switch, too.
                Attempt::TooManyPending => {
                    self.shared.gate.wait_for_pending_below(self.config.max_pending);
                }
            }
        }
    }

    fn switch_locked(
        &self,
        requested: &RequestedSpec,
        renew: Option<&PoolRef>,
        kept: &mut KeptPlugins,
    ) -> Result<Attempt, SwitchError> {
        let current = self.current();
        if let (Some(old), Some(current)) = (renew, &current)
            && !PoolRef::same(old, current)
        {
            return Ok(Attempt::Done(Switched::Unchanged(current.id()), None));
        }
        let incomplete = |missing| SwitchError::Incomplete { missing };
        let allocator = requested.allocator.as_ref().ok_or(incomplete("allocator"))?;
        let compressor = requested.compressor.as_ref().ok_or(incomplete("compressor"))?;
        let plan = self.resolve(allocator, compressor, kept)?;
        if let Some(current) = current.filter(|current| *current.spec() == plan.spec)
            && renew.is_none()
        {
            return Ok(Attempt::Done(Switched::Unchanged(current.id()), None));
        }
        if self.config.revive
            && renew.is_none()
            && let Some(done) = self.revive(&plan.spec)
        {
            return Ok(done);
        }
        if self.shared.gate.pending() >= self.config.max_pending {
            return Ok(Attempt::TooManyPending);
        }
        self.create(plan, renew.is_some())
    }

    /// Revives a live retired pool of `spec`, if there is one.
    fn revive(&self, spec: &PoolSpec) -> Option<Attempt> {
        let pool = self.shared.pools.find_retired(spec)?;
        let revived = Counted::revive(&pool.0);
        debug_assert!(revived, "a pool that is listed, alive and not current is retired");
        pool.codec().revive_compression();
        let old =
            self.replace_current(PoolEventKind::Revived, || self.shared.pools.publish(Some(&pool)));
        count(&self.shared.counters.revived);
        Some(Attempt::Done(Switched::Revived(pool.id()), old))
    }

    /// Makes a pool, publishes it and retires the previous one, which `never_revive` excludes from
    /// revival.
    fn create(&self, plan: SwitchPlan, never_revive: bool) -> Result<Attempt, SwitchError> {
        let pool = self.construct(plan)?;
        let id = pool.id();
        count(&self.shared.counters.created);
        self.shared.notifier.notify_pool(PoolEventKind::Created, &pool);
        let old = self.replace_current(PoolEventKind::Published, || {
            self.shared.pools.publish_new(pool, never_revive)
        });
        Ok(Attempt::Done(Switched::Created(id), old))
    }

    /// Publishes a pool, then retires the previous one. Returns a reference to the previous pool,
    /// so that it is not released before the caller drops the reference.
    fn replace_current(
        &self,
        kind: PoolEventKind,
        publish: impl FnOnce() -> Option<Arc<Counted<Pool>>>,
    ) -> Option<PoolRef> {
        let old = publish();
        // Release: pairs with the Acquire in `PoolManager::switches`.
        self.shared.counters.switches.fetch_add(1, Ordering::Release);
        if let Some(current) = self.current() {
            self.shared.notifier.notify_pool(kind, &current);
        }
        self.retire(old?)
    }

    /// Retires a pool that has just been replaced. Returns a reference to it, so that it is not
    /// released before the caller drops the reference.
    pub(crate) fn retire(&self, old: Arc<Counted<Pool>>) -> Option<PoolRef> {
        let kept = old.try_ref().map(PoolRef);
        old.retire();
        if let Some(kept) = &kept {
            // Recorded after the last store. If a batch still stores into it, later estimates ask
            // it again.
            let bytes = catch(|| kept.zpool().bytes_held()).unwrap_or(0);
            self.shared.pools.record_bytes(kept, bytes);
            self.shared.notifier.notify_pool(PoolEventKind::Retired, kept);
        }
        kept
    }

    /// Frees the compression contexts of a retired pool that lives on, unless it is revived soon.
    /// From now on it is only read.
    pub(crate) fn free_contexts_later(&self, pool: PoolRef) {
        let block = PoolRef::block(&pool);
        // If ours is the only reference, the contexts are freed with the pool. Relaxed: a hint,
        // since the job checks again.
        if block.references() <= 1 || pool.contexts_job.swap(true, Ordering::Relaxed) {
            return;
        }
        let block = Arc::downgrade(&block);
        let job = Job::new("free compression contexts", move || {
            if let Some(block) = block.upgrade() {
                free_contexts(&block, || ());
            }
        });
        // If it was refused or panicked, the contexts are freed with the pool.
        let executor = &self.config.pool_executor;
        let submitted = catch(|| executor.submit_later(CONTEXT_GRACE, job));
        if !matches!(submitted, Some(Ok(()))) {
            pool.contexts_job.store(false, Ordering::Relaxed);
        }
    }

    /// Finds the drivers and makes the compressor, which determines the spec's canonical
    /// form.
    pub(crate) fn resolve(
        &self,
        allocator: &Component,
        compressor: &Component,
        kept: &mut KeptPlugins,
    ) -> Result<SwitchPlan, SwitchError> {
        let drivers = Drivers {
            allocator: kept.allocator.insert(self.registry.use_allocator(&allocator.name)?).clone(),
            compressor: kept
                .compressor
                .insert(self.registry.use_compressor(&compressor.name)?)
                .clone(),
        };
        let params =
            constructing(allocator, || drivers.allocator.driver.canonical(&allocator.params))?;
        let (algorithm, identity) = constructing(compressor, || {
            let algorithm =
                kept.algorithm.insert(drivers.compressor.driver.open(&compressor.params)?);
            Ok((algorithm.clone(), algorithm.identity().clone()))
        })?;
        let spec = PoolSpec::new(Component::named(&allocator.name).with_params(params), identity);
        Ok(SwitchPlan { spec, params: allocator.params.clone(), algorithm, drivers })
    }

    pub(crate) fn construct(&self, plan: SwitchPlan) -> Result<Pool, SwitchError> {
        let config = PoolConfig::new(Arc::clone(&self.config.source), self.config.block_size)
            .with_params(plan.params)
            .with_wipe_on_free(self.config.wipe_on_free)
            .with_executor(self.config.pool_executor.clone());
        let contexts = self.shared.contexts.clone();
        // The codec first: making it only asks the compressor for capabilities and shared bytes.
        let codec = constructing(&plan.spec.compressor, || {
            Ok(Codec::new(plan.algorithm, self.config.block_size).with_budget(contexts))
        })?;
        let driver = &plan.drivers.allocator.driver;
        let (zpool, id) = constructing(&plan.spec.allocator, || {
            if config.wipe_on_free && !driver.capabilities(&config)?.wipes_on_free {
                return Err(CreateError::Failed(
                    "it cannot wipe freed objects: choose another allocator, or turn \
                     `wipe_on_free` off"
                        .to_owned(),
                ));
            }
            let zpool = driver.create(&config)?;
            let id = zpool.id();
            let objects_per_page = zpool.capabilities().objects_per_page;
            Ok(((zpool, objects_per_page), id))
        })?;
        Ok(Pool::new(id, plan.spec, zpool, codec, self.shared.clone(), plan.drivers))
    }
}

/// Frees the compression contexts of a pool that is still retired. `between` lets a test revive it
/// between the check and the effect.
fn free_contexts(block: &Counted<Pool>, between: impl FnOnce()) {
    let Some(pool) = block.try_ref() else { return };
    // Relaxed: a second job at the same time does no harm.
    pool.contexts_job.store(false, Ordering::Relaxed);
    if !block.is_retired() {
        return;
    }
    between();
    pool.codec().retire_compression();
    // If it was revived in between, `revive` may have run first, so its effect is repeated. At
    // worst, contexts are kept that are not used.
    if !block.is_retired() {
        pool.codec().revive_compression();
    }
}

/// Keeps plug-in objects alive until the switch mutex is unlocked, so that no plug-in destructor
/// runs under it.
#[derive(Default)]
pub(crate) struct KeptPlugins {
    algorithm: Option<Arc<dyn Compressor>>,
    allocator: Option<DriverUse<dyn ZPoolDriver>>,
    compressor: Option<DriverUse<dyn CompressorDriver>>,
}

impl KeptPlugins {
    /// Drops the objects. Called with no lock held.
    fn destroy(self, shared: &Shared) {
        let KeptPlugins { algorithm, allocator, compressor } = self;
        destroy(algorithm, shared);
        destroy(allocator, shared);
        destroy(compressor, shared);
    }
}

/// The outcome of one attempt to switch.
pub(crate) enum Attempt {
    /// Switched. Holds a reference to the previous pool, so that it is released when this is
    /// dropped.
    Done(Switched, Option<PoolRef>),
    /// A new pool is needed, but too many await destruction.
    TooManyPending,
}

/// A switch whose parameters were checked.
pub(crate) struct SwitchPlan {
    pub(crate) spec: PoolSpec,
    params: Params,
    algorithm: Arc<dyn Compressor>,
    drivers: Drivers,
}

/// Calls a plug-in's constructor inside a catch, and marks the thread as constructing meanwhile.
fn constructing<T>(
    component: &Component,
    make: impl FnOnce() -> Result<T, CreateError>,
) -> Result<T, SwitchError> {
    CONSTRUCTING.with(|depth| depth.set(depth.get() + 1));
    let outcome = catch_unwind(AssertUnwindSafe(make));
    CONSTRUCTING.with(|depth| depth.set(depth.get() - 1));
    match outcome {
        Ok(made) => {
            made.map_err(|error| SwitchError::Create { component: component.clone(), error })
        }
        Err(panic) => {
            let message = take_panic_message(panic);
            Err(SwitchError::Panicked { component: component.clone(), message })
        }
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;
    use crate::Registry;
    use zpool_conformance::{NullDriver, ReferenceDriver, RleDriver};

    fn manager() -> PoolManager {
        let registry = Registry::new();
        registry.register_allocator(Arc::new(ReferenceDriver)).unwrap();
        registry.register_compressor(Arc::new(NullDriver)).unwrap();
        registry.register_compressor(Arc::new(RleDriver)).unwrap();
        let executor = Arc::new(zpool_core::exec::Manual::new());
        let manager = PoolManager::builder(Arc::new(registry)).executor(executor);
        manager.build(&"reference+rle".parse().unwrap()).unwrap()
    }

    /// Compresses twice and returns how many contexts that made.
    fn contexts_made(pool: &Pool) -> u64 {
        let before = pool.codec().stats().contexts_made;
        for _ in 0..2 {
            pool.codec().compress(&[7; 4096], 4096, |_| ()).unwrap();
        }
        pool.codec().stats().contexts_made - before
    }

    /// After the job has freed its contexts, a retired pool keeps no context that is returned.
    #[test]
    fn retired_pool_keeps_no_contexts() {
        let manager = manager();
        let pool = manager.current().unwrap();
        assert_eq!(contexts_made(&pool), 1);
        manager.switch(&"reference+null".parse().unwrap()).unwrap();
        free_contexts(&PoolRef::block(&pool), || ());
        assert_eq!(contexts_made(&pool), 2);
    }

    /// A pool that is revived after the job has found it retired keeps its contexts again.
    #[test]
    fn pool_revived_during_job_keeps_contexts() {
        let manager = manager();
        let pool = manager.current().unwrap();
        assert_eq!(contexts_made(&pool), 1);
        manager.switch(&"reference+null".parse().unwrap()).unwrap();
        free_contexts(&PoolRef::block(&pool), || {
            let revived = manager.switch(&"reference+rle".parse().unwrap()).unwrap();
            assert_eq!(revived, Switched::Revived(pool.id()));
        });
        assert_eq!(contexts_made(&pool), 1);
        // A job that runs while the pool is current does nothing.
        free_contexts(&PoolRef::block(&pool), || unreachable!("it is not retired"));
        assert_eq!(contexts_made(&pool), 0);
    }
}
