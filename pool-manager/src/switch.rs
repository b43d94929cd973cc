//! Switching: another allocator, another compressor, or both, while data lives in the pools.
//!
//! A switch runs under the switchers' mutex alone; it builds the new pool with no other lock held,
//! publishes it, and only then retires the old one. What runs plug-ins' destructors comes before
//! the mutex or after it, so that a destructor may switch, or want a lock that another switcher
//! holds: refused jobs, what an attempt made and did not use, the old pool's last reference.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use zpool_core::compress::{Codec, Compressor, CompressorDriver};
use zpool_core::exec::Job;
use zpool_core::internal::sync::atomic::Ordering;
use zpool_core::internal::{Counted, Ref};
use zpool_core::internal::{contained, in_job, swallowed_message};
use zpool_core::spec::{Component, Params, PoolSpec};
use zpool_core::{CreateError, PoolConfig, PoolId, ZPoolDriver, might_block};

use crate::error::SwitchError;
use crate::hub::{Hub, count};
use crate::manager::PoolManager;
use crate::observe::{PoolEventKind, is_observing};
use crate::pool::{Drivers, Pool, PoolRef};
use crate::registry::Used;
use crate::release::destroy;

/// How long a retired pool keeps its compression contexts, in case it is revived.
const CONTEXT_GRACE: Duration = Duration::from_millis(100);

/// What was last asked for, one parameter at a time: known also while no pool could be made of it.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    allocator: Option<Component>,
    compressor: Option<Component>,
}

/// What a switch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Switched {
    /// The current pool has this spec already.
    Unchanged(PoolId),
    /// A new pool was made.
    Created(PoolId),
    /// A retired pool that still had references became current again.
    Revived(PoolId),
}

impl Switched {
    /// The pool that is current now.
    pub fn pool(self) -> PoolId {
        match self {
            Switched::Unchanged(id) | Switched::Created(id) | Switched::Revived(id) => id,
        }
    }
}

thread_local! {
    /// Plug-in constructors on this thread's stack.
    static CONSTRUCTING: Cell<u32> = const { Cell::new(0) };
}

/// Is the calling thread in foreign code under the switchers' mutex, or in an observer that may be?
pub(crate) fn is_inside_switch() -> bool {
    CONSTRUCTING.with(Cell::get) > 0 || is_observing()
}

impl PoolManager {
    /// Makes a pool of `spec` the current one.
    ///
    /// Blocks stored from then on go there; blocks stored before stay where they are, and are
    /// loaded from there. The pool that was current is retired: it goes when its last block does.
    ///
    /// # Errors
    ///
    /// [`SwitchError`]; the current pool is then what it was before, and nothing is left of the
    /// attempt.
    ///
    /// # Concurrency
    ///
    /// May block: for other switchers, for plug-ins' constructors, and while [too
    /// many](crate::ManagerBuilder::max_pending) pools await destruction. Of those it destroys the
    /// ones that the executor has not begun, and it runs the jobs that the executor refused, unless
    /// called from inside a job: hold no lock that a plug-in's destructor wants.
    pub fn switch(&self, spec: &PoolSpec) -> Result<Switched, SwitchError> {
        self.switch_to(Some(&spec.allocator), Some(&spec.compressor), false)
    }

    /// Changes the allocator and keeps the compressor.
    ///
    /// # Errors
    ///
    /// As for [`switch`](Self::switch); [`SwitchError::Incomplete`] while no compressor was ever
    /// given. Before the first pool exists, the choice is remembered all the same, so that choosing
    /// the other one can complete it.
    ///
    /// # Concurrency
    ///
    /// As for [`switch`](Self::switch).
    pub fn set_allocator(&self, allocator: &Component) -> Result<Switched, SwitchError> {
        self.switch_to(Some(allocator), None, false)
    }

    /// Changes the compressor and keeps the allocator.
    ///
    /// # Errors
    ///
    /// As for [`set_allocator`](Self::set_allocator), the other way round.
    ///
    /// # Concurrency
    ///
    /// As for [`switch`](Self::switch).
    pub fn set_compressor(&self, compressor: &Component) -> Result<Switched, SwitchError> {
        self.switch_to(None, Some(compressor), false)
    }

    /// Makes a new pool of the current one's spec, and retires that one for good: it is not
    /// revived. Returns a reference to it, so that a caller that has removed all that it stored
    /// there can let the pool go as a whole; `None` if another pool has become current meanwhile.
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
        self.switch_to(None, None, true)?;
        Ok(Ref::block(&old).is_retired().then_some(old))
    }

    fn switch_to(
        &self,
        allocator: Option<&Component>,
        compressor: Option<&Component>,
        renew: bool,
    ) -> Result<Switched, SwitchError> {
        might_block("switching pools");
        if CONSTRUCTING.with(Cell::get) > 0 {
            return Err(SwitchError::InsideConstructor);
        }
        if is_observing() {
            return Err(SwitchError::InsideObserver);
        }
        loop {
            if !in_job() {
                self.hub.run_orphans();
            }
            let mut kept = Kept::default();
            let mut wanted = self.switcher.lock();
            let next = Wanted {
                allocator: allocator.or(wanted.allocator.as_ref()).cloned(),
                compressor: compressor.or(wanted.compressor.as_ref()).cloned(),
            };
            let attempt = self.switch_locked(&next, renew, &mut kept);
            if matches!(attempt, Ok(Attempt::Done(..))) || self.hub.current.block().is_none() {
                *wanted = next;
            }
            drop(wanted);
            kept.destroy(&self.hub);
            match attempt? {
                Attempt::Done(switched, old) => {
                    // The reference that kept the old pool through its retirement goes here, with
                    // no lock held.
                    old.into_iter().for_each(|old| self.free_contexts_later(old));
                    return Ok(switched);
                }
                Attempt::Crowded if in_job() => return Err(SwitchError::InsideJob),
                // Without the mutex: a destructor that is waited for may itself want to switch.
                Attempt::Crowded => self.hub.wait_for_pending_below(self.config.max_pending),
            }
        }
    }

    fn switch_locked(
        &self,
        wanted: &Wanted,
        renew: bool,
        kept: &mut Kept,
    ) -> Result<Attempt, SwitchError> {
        let incomplete = |missing| SwitchError::Incomplete { missing };
        let allocator = wanted.allocator.as_ref().ok_or(incomplete("allocator"))?;
        let compressor = wanted.compressor.as_ref().ok_or(incomplete("compressor"))?;
        let plan = self.resolve(allocator, compressor, kept)?;
        if let Some(current) = self.current()
            && *current.spec() == plan.spec
            && !renew
        {
            return Ok(Attempt::Done(Switched::Unchanged(current.id()), None));
        }
        if self.config.revive
            && !renew
            && let Some(done) = self.revive(&plan.spec)
        {
            return Ok(done);
        }
        if self.hub.pending() >= self.config.max_pending {
            return Ok(Attempt::Crowded);
        }
        self.create(plan, renew)
    }

    /// Takes a live retired pool of `spec` back.
    fn revive(&self, spec: &PoolSpec) -> Option<Attempt> {
        let pool = self.hub.find_retired(spec)?;
        let revived = Counted::revive(&pool);
        debug_assert!(revived, "what is listed, alive and not current is retired");
        pool.codec().revive_compression();
        let old = self.replace_current(PoolEventKind::Revived, || self.hub.publish(Some(&pool)));
        count(&self.hub.counters.revived);
        Some(Attempt::Done(Switched::Revived(pool.id()), old))
    }

    /// Makes a pool and publishes it. The one before is retired, `for_good` or until it is revived.
    fn create(&self, plan: Plan, for_good: bool) -> Result<Attempt, SwitchError> {
        let pool = self.construct(plan)?;
        let id = pool.id();
        count(&self.hub.counters.created);
        self.hub.watch.pool(PoolEventKind::Created, &pool);
        let old =
            self.replace_current(PoolEventKind::Published, || self.hub.publish_new(pool, for_good));
        Ok(Attempt::Done(Switched::Created(id), old))
    }

    /// Publishes, then retires what was current before. Gives a reference to that, so that its
    /// release comes when the caller drops it.
    fn replace_current(
        &self,
        kind: PoolEventKind,
        publish: impl FnOnce() -> Option<Arc<Counted<Pool>>>,
    ) -> Option<PoolRef> {
        let old = publish();
        // Release: pairs with the Acquire in `PoolManager::switches`.
        self.hub.counters.switches.fetch_add(1, Ordering::Release);
        if let Some(current) = self.current() {
            self.hub.watch.pool(kind, &current);
        }
        let old = old?;
        let kept = old.try_ref();
        old.retire();
        if let Some(kept) = &kept {
            // After the last that was stored in it; a batch that goes on is asked about by the
            // looks to come.
            self.hub.book(kept, contained(|| kept.zpool().bytes_held()).unwrap_or(0));
            self.hub.watch.pool(PoolEventKind::Retired, kept);
        }
        kept
    }

    /// Frees the compression contexts of a retired pool that lives on, unless it is revived soon:
    /// it will only be read.
    fn free_contexts_later(&self, pool: PoolRef) {
        let block = Ref::block(&pool);
        // Ours is the only reference: the pool goes, and its contexts with it. Relaxed: a hint; the
        // job looks for itself.
        if block.references() <= 1 || pool.contexts_job.swap(true, Ordering::Relaxed) {
            return;
        }
        let block = Arc::downgrade(&block);
        let job = Job::new("free compression contexts", move || {
            if let Some(block) = block.upgrade() {
                free_contexts(&block, || ());
            }
        });
        // Refused, or foreign code that panicked: the contexts go with the pool.
        let executor = &self.config.pool_executor;
        let submitted = contained(|| executor.submit_later(CONTEXT_GRACE, job));
        if !matches!(submitted, Some(Ok(()))) {
            pool.contexts_job.store(false, Ordering::Relaxed);
        }
    }

    /// Finds the drivers and makes the algorithm object: all that is needed to know the spec's
    /// canonical form.
    fn resolve(
        &self,
        allocator: &Component,
        compressor: &Component,
        kept: &mut Kept,
    ) -> Result<Plan, SwitchError> {
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
        Ok(Plan { spec, params: allocator.params.clone(), algorithm, drivers })
    }

    fn construct(&self, plan: Plan) -> Result<Pool, SwitchError> {
        let config = PoolConfig::new(Arc::clone(&self.config.source), self.config.block_len)
            .with_params(plan.params)
            .with_wipe_on_free(self.config.wipe_on_free)
            .with_executor(self.config.pool_executor.clone());
        let contexts = self.hub.counters.contexts.clone();
        // The codec first: it has no context yet, and asks the compressor for its properties.
        let codec = constructing(&plan.spec.compressor, || {
            Ok(Codec::new(plan.algorithm, self.config.block_len).with_budget(contexts))
        })?;
        let driver = &plan.drivers.allocator.driver;
        let (zpool, id) = constructing(&plan.spec.allocator, || {
            if config.wipe_on_free && !driver.capabilities(&config)?.wipes_on_free {
                return Err(CreateError::Failed(
                    "does not overwrite what is freed, as was asked for".to_owned(),
                ));
            }
            let zpool = driver.create(&config)?;
            let id = zpool.id();
            let objects_per_page = zpool.capabilities().objects_per_page;
            Ok(((zpool, objects_per_page), id))
        })?;
        Ok(Pool::new(id, plan.spec, zpool, codec, self.hub.clone(), plan.drivers))
    }
}

/// Frees the compression contexts of a pool that is still retired. `between` is for a test that
/// revives it in the moment that matters.
fn free_contexts(block: &Counted<Pool>, between: impl FnOnce()) {
    let Some(pool) = block.try_ref() else { return };
    // Relaxed: a second job at the same time would do no harm.
    pool.contexts_job.store(false, Ordering::Relaxed);
    if !block.is_retired() {
        return;
    }
    between();
    pool.codec().retire_compression();
    // Revived in between? Then `revive` may have spoken first. At worst contexts are kept that are
    // not used.
    if !block.is_retired() {
        pool.codec().revive_compression();
    }
}

/// A second owner of whatever an attempt gets from plug-ins, so that nothing of theirs is dropped
/// under the switchers' mutex, however the attempt ends.
#[derive(Default)]
struct Kept {
    algorithm: Option<Arc<dyn Compressor>>,
    allocator: Option<Used<dyn ZPoolDriver>>,
    compressor: Option<Used<dyn CompressorDriver>>,
}

impl Kept {
    /// Gives it up: with no lock held.
    fn destroy(self, hub: &Hub) {
        let Kept { algorithm, allocator, compressor } = self;
        destroy(algorithm, hub);
        destroy(allocator, hub);
        destroy(compressor, hub);
    }
}

/// How far one attempt to switch came.
enum Attempt {
    /// Switched. With a reference to the pool that was current before: its release comes when this
    /// is dropped.
    Done(Switched, Option<PoolRef>),
    /// A pool would have to be made, but too many await destruction.
    Crowded,
}

/// A switch whose parameters are known to be good.
struct Plan {
    spec: PoolSpec,
    params: Params,
    algorithm: Arc<dyn Compressor>,
    drivers: Drivers,
}

/// Runs a plug-in's constructor: contained, and known to be one.
fn constructing<T>(
    component: &Component,
    make: impl FnOnce() -> Result<T, CreateError>,
) -> Result<T, SwitchError> {
    CONSTRUCTING.with(|c| c.set(c.get() + 1));
    let outcome = catch_unwind(AssertUnwindSafe(make));
    CONSTRUCTING.with(|c| c.set(c.get() - 1));
    match outcome {
        Ok(made) => {
            made.map_err(|error| SwitchError::Create { component: component.clone(), error })
        }
        Err(panic) => {
            let message = swallowed_message(panic);
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

    /// A retired pool keeps no context that is given back after the job has freed them.
    #[test]
    fn contexts_of_a_retired_pool_are_not_kept() {
        let manager = manager();
        let pool = manager.current().unwrap();
        assert_eq!(contexts_made(&pool), 1);
        manager.switch(&"reference+null".parse().unwrap()).unwrap();
        free_contexts(&Ref::block(&pool), || ());
        assert_eq!(contexts_made(&pool), 2);
    }

    /// A pool that is revived after the job has found it retired keeps its contexts again.
    #[test]
    fn contexts_are_kept_after_revival_during_the_job() {
        let manager = manager();
        let pool = manager.current().unwrap();
        assert_eq!(contexts_made(&pool), 1);
        manager.switch(&"reference+null".parse().unwrap()).unwrap();
        free_contexts(&Ref::block(&pool), || {
            let revived = manager.switch(&"reference+rle".parse().unwrap()).unwrap();
            assert_eq!(revived, Switched::Revived(pool.id()));
        });
        assert_eq!(contexts_made(&pool), 1);
        // A job that comes when the pool is current does nothing.
        free_contexts(&Ref::block(&pool), || unreachable!("it is not retired"));
        assert_eq!(contexts_made(&pool), 0);
    }
}
