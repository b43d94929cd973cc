//! Plug-ins and executors that call back, panic or give up at the worst moment: no deadlock, no
//! unwinding, no loss.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak, mpsc};

use crate::common::*;
use parking_lot::Mutex;
use zpool_core::NoBlock;
use zpool_core::compress::{
    CodecCapabilities, CodecError, CompressionContext, Compressor, CompressorDriver,
    DecompressionContext,
};
use zpool_core::exec::{DrainError, DrainExecutor, Executor, ExecutorCapabilities, Job, Refused};
use zpool_core::spec::{Component, Params};
use zpool_core::{
    Capabilities, CreateError, FreeError, Handle, PoolConfig, PoolError, PoolId, PoolStats,
    ReadGuard, Violation, ZPool, ZPoolDriver,
};
use zpool_manager::{
    PoolEvent, PoolManager, PoolObserver, Registry, SwitchError, Switched, WorkQueue, pools_leaked,
};
use zpool_testing::executors::{RefusingExecutor, ScriptedExecutor, refuse};

/// A destructor that runs in a refused job may switch.
#[test]
fn orphan_destructor_may_switch() {
    let script = Script::new();
    let manager = Arc::new(
        builder(&script)
            .executor(Arc::new(RefusingExecutor::default()))
            .build(&spec("a+x"))
            .unwrap(),
    );
    let (weak, switched) = (Arc::downgrade(&manager), Arc::new(Mutex::new(Vec::new())));
    let seen = switched.clone();
    script.on_destroy(move || {
        if let Some(manager) = weak.upgrade()
            && seen.lock().is_empty()
        {
            let outcome = manager.switch(&spec("b+y"));
            seen.lock().push(outcome);
        }
    });
    manager.switch(&spec("b+x")).unwrap();
    manager.switch(&spec("a+y")).unwrap();
    assert!(matches!(switched.lock()[..], [Ok(Switched::Created(_))]));
    manager.flush().unwrap();
    script.calm();
    assert_eq!((manager.stats().pools_alive, script.alive()), (1, 1));
}

/// The destructor in a refused job may take a lock that another switching thread holds.
#[test]
fn orphan_destructor_takes_lock_of_other_switch() {
    let script = Script::new();
    let manager = Arc::new(
        builder(&script)
            .executor(Arc::new(RefusingExecutor::default()))
            .build(&spec("a+x"))
            .unwrap(),
    );
    let (lock, (begun, begins)) = (Arc::new(Mutex::new(())), mpsc::channel());
    let wanted = lock.clone();
    script.on_destroy(move || {
        let _ = begun.send(());
        drop(wanted.lock());
    });
    manager.switch(&spec("b+x")).unwrap();
    let held = lock.lock();
    std::thread::scope(|scope| {
        scope.spawn(|| manager.switch(&spec("a+y")).unwrap());
        begins.recv().unwrap();
        // That switch waits inside the destructor for our lock, and so must not hold a lock that we
        // need.
        manager.switch(&spec("b+y")).unwrap();
        drop(held);
    });
    manager.flush().unwrap();
    script.calm();
    assert_eq!(script.alive(), 1);
}

/// Side effects of a compressor that copies its input.
#[derive(Default)]
struct SideEffects {
    manager: Mutex<Weak<PoolManager>>,
    /// Whether its drop switches.
    switches: AtomicBool,
    /// Switches that its drops have made.
    switched: AtomicUsize,
    /// The method that panics.
    panics_in: Mutex<&'static str>,
}

impl SideEffects {
    fn panic_in(&self, method: &str) {
        assert!(*self.panics_in.lock() != method, "{method} gave up");
    }
}

impl std::fmt::Debug for SideEffects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SideEffects")
    }
}

/// Its driver, called `w`.
#[derive(Debug, Clone, Default)]
struct SideEffectDriver(Arc<SideEffects>);

#[derive(Debug)]
struct Wrapped(Arc<dyn Compressor>, Component, Arc<SideEffects>);

impl CompressorDriver for SideEffectDriver {
    fn name(&self) -> &str {
        "w"
    }

    fn open(&self, params: &Params) -> Result<Arc<dyn Compressor>, CreateError> {
        let own = Component::named("w").with_params(params.clone());
        Ok(Arc::new(Wrapped(CopyDriver("x").open(params)?, own, self.0.clone())))
    }
}

impl Compressor for Wrapped {
    fn identity(&self) -> &Component {
        self.2.panic_in("identity");
        &self.1
    }

    fn capabilities(&self) -> CodecCapabilities {
        self.2.panic_in("capabilities");
        self.0.capabilities()
    }

    fn compress_bound(&self, block_size: usize) -> usize {
        self.0.compress_bound(block_size)
    }

    fn shared_bytes(&self) -> usize {
        self.2.panic_in("shared_bytes");
        self.0.shared_bytes()
    }

    fn compression_context(&self, max: usize) -> Result<Box<dyn CompressionContext>, CodecError> {
        self.0.compression_context(max)
    }

    fn decompression_context(&self) -> Result<Box<dyn DecompressionContext>, CodecError> {
        self.0.decompression_context()
    }
}

impl Drop for Wrapped {
    fn drop(&mut self) {
        let manager = self.2.manager.lock().upgrade();
        if self.2.switches.swap(false, Ordering::SeqCst)
            && let Some(manager) = manager
        {
            manager.switch(&spec("b+y")).unwrap();
            self.2.switched.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// A compressor that a switch made and did not use may switch in its drop.
#[test]
fn unused_compressor_may_switch_in_drop() {
    let (script, whimsical) = (Script::new(), SideEffectDriver::default());
    let manager = Arc::new(builder(&script).max_pending(1_000).build(&spec("a+x")).unwrap());
    manager.registry().register_compressor(Arc::new(whimsical.clone())).unwrap();
    *whimsical.0.manager.lock() = Arc::downgrade(&manager);
    let drop_switches = || {
        manager.flush().unwrap();
        whimsical.0.switches.store(true, Ordering::SeqCst);
    };
    manager.switch(&spec("a+w")).unwrap();
    drop_switches();
    assert!(matches!(manager.switch(&spec("a+w")), Ok(Switched::Unchanged(_))));

    manager.switch(&spec("a+w")).unwrap();
    let kept = store(&manager, b"keeps a+w");
    manager.switch(&spec("b+x")).unwrap();
    drop_switches();
    assert!(matches!(manager.switch(&spec("a+w")), Ok(Switched::Revived(_))));

    drop_switches();
    script.on_create(|| Err(CreateError::OutOfMemory));
    // The compressor exists when the allocator fails.
    assert!(matches!(manager.switch(&spec("b(n=1)+w")), Err(SwitchError::Create { .. })));
    script.calm();
    assert_eq!(whimsical.0.switched.load(Ordering::SeqCst), 3);
    kept.free();
    manager.flush().unwrap();
    assert_eq!((manager.stats().pools_alive, script.alive()), (1, 1));
}

/// A compressor that panics when asked for its facts is an error of the switch.
#[test]
fn panicking_compressor_facts_are_switch_error() {
    let (script, whimsical) = (Script::new(), SideEffectDriver::default());
    let manager = builder(&script).build(&spec("a+x")).unwrap();
    manager.registry().register_compressor(Arc::new(whimsical.clone())).unwrap();
    for method in ["identity", "capabilities", "shared_bytes"] {
        *whimsical.0.panics_in.lock() = method;
        let error = manager.switch(&spec("b+w")).unwrap_err();
        assert!(
            matches!(&error, SwitchError::Panicked { component, message }
                if component.name == "w" && message.contains(method)),
            "{error}"
        );
    }
    manager.flush().unwrap();
    assert_eq!(manager.current().unwrap().spec().to_string(), "a+x");
    assert_eq!((manager.stats().switches, script.alive()), (1, 1));
    *whimsical.0.panics_in.lock() = "";
    manager.switch(&spec("b+w")).unwrap();
}

/// An allocator that several pools share: it reports one id, and panics on request.
#[derive(Debug, Clone)]
struct Layered {
    inner: Arc<dyn ZPool>,
    panics_in: Arc<Mutex<&'static str>>,
}

impl Layered {
    fn panic_in(&self, method: &str) {
        assert!(*self.panics_in.lock() != method, "{method} gave up");
    }
}

impl ZPoolDriver for Layered {
    fn name(&self) -> &str {
        "l"
    }

    fn canonical(&self, params: &Params) -> Result<Params, CreateError> {
        Ok(params.clone())
    }

    fn create(&self, _: &PoolConfig) -> Result<Box<dyn ZPool>, CreateError> {
        Ok(Box::new(self.clone()))
    }
}

impl ZPool for Layered {
    fn id(&self) -> PoolId {
        self.panic_in("id");
        self.inner.id()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn insert(&self, object: &[u8]) -> Result<Handle, PoolError> {
        self.inner.insert(object)
    }

    fn read(&self, handle: &Handle) -> Result<ReadGuard<'_>, PoolError> {
        self.inner.read(handle)
    }

    fn free(&self, handle: Handle) -> Result<(), FreeError> {
        self.inner.free(handle)
    }

    fn bytes_held(&self) -> usize {
        self.panic_in("bytes_held");
        self.inner.bytes_held()
    }

    fn stats(&self) -> PoolStats {
        self.inner.stats()
    }

    fn validate(&self) -> Result<(), Violation> {
        self.inner.validate()
    }
}

/// Makes a registry with an additional allocator `l`.
fn with_layered(script: &Arc<Script>) -> (Arc<Registry>, Layered) {
    let registry = registry(script);
    let config = PoolConfig::new(zpool_core::page::default_source(), 4096);
    let inner = zpool_conformance::ReferenceDriver.create(&config).unwrap();
    let layered = Layered { inner: inner.into(), panics_in: Arc::default() };
    registry.register_allocator(Arc::new(layered.clone())).unwrap();
    (registry, layered)
}

/// Of two pools with one id, the destroyed one is taken off the list.
#[test]
fn destroyed_pool_with_shared_id_is_unlisted() {
    let manager = PoolManager::builder(with_layered(&Script::new()).0).build(&spec("l+x")).unwrap();
    let kept = store(&manager, b"kept");
    manager.switch(&spec("l(n=2)+x")).unwrap();
    manager.switch(&spec("a+x")).unwrap();
    manager.flush().unwrap();
    let specs: Vec<_> = manager.pools().iter().map(|pool| pool.label.spec.to_string()).collect();
    assert_eq!(specs, ["l+x", "a+x"]);
    kept.free();
    manager.flush().unwrap();
    assert_eq!(manager.stats().pools_alive, 1);
}

/// An allocator that panics when asked for its id is an error of the switch.
#[test]
fn panicking_allocator_id_is_switch_error() {
    let (registry, layered) = with_layered(&Script::new());
    let manager = PoolManager::builder(registry).build(&spec("a+x")).unwrap();
    *layered.panics_in.lock() = "id";
    let error = manager.switch(&spec("l+x")).unwrap_err();
    assert!(
        matches!(&error, SwitchError::Panicked { component, .. } if component.name == "l"),
        "{error}"
    );
    assert_eq!((manager.stats().pools_alive, manager.stats().switches), (1, 1));
}

#[derive(Debug)]
struct Watching;

impl PoolObserver for Watching {
    fn observe(&self, _: &PoolEvent<'_>) {}
}

/// An allocator that panics when asked for its bytes stops neither a switch nor a release.
#[test]
fn panicking_bytes_held_stops_no_switch_or_release() {
    let (registry, layered) = with_layered(&Script::new());
    let manager =
        PoolManager::builder(registry).observer(Arc::new(Watching)).build(&spec("l+x")).unwrap();
    let last = manager.current().unwrap();
    *layered.panics_in.lock() = "bytes_held";
    manager.switch(&spec("a+x")).unwrap();
    // A panic would unwind out of this drop and lose the pool.
    drop(last);
    manager.flush().unwrap();
    let stats = manager.stats();
    assert_eq!((stats.pools_created, stats.pools_destroyed, stats.pools_alive), (2, 1, 1));
}

/// A flush inside a job is an error.
#[test]
fn flush_inside_job_is_error() {
    let script = Script::new();
    let manager = Arc::new(builder(&script).build(&spec("a+x")).unwrap());
    let (weak, outcome) = (Arc::downgrade(&manager), Arc::new(Mutex::new(None)));
    let seen = outcome.clone();
    script.on_destroy(move || {
        if let Some(manager) = weak.upgrade() {
            *seen.lock() = Some(manager.flush());
        }
    });
    manager.switch(&spec("b+x")).unwrap();
    manager.flush().unwrap();
    script.calm();
    assert_eq!(outcome.lock().take(), Some(Err(DrainError)));
}

/// Panics in `submit_later`, which is used for contexts.
#[derive(Debug)]
struct NoLater(WorkQueue);

impl Executor for NoLater {
    fn submit(&self, job: Job) -> Result<(), Refused> {
        self.0.submit(job)
    }

    fn submit_later(&self, _: std::time::Duration, _: Job) -> Result<(), Refused> {
        panic!("no clock")
    }

    fn capabilities(&self) -> ExecutorCapabilities {
        self.0.capabilities()
    }
}

/// An executor that panics in `submit_later` fails no switch.
#[test]
fn panicking_submit_later_fails_no_switch() {
    let executor = Arc::new(NoLater(WorkQueue::new("no clock").unwrap()));
    let manager = builder(&Script::new()).executor(executor).build(&spec("a+x")).unwrap();
    let kept = store(&manager, b"so the old pool lives on, and its contexts are to be freed");
    assert!(matches!(manager.switch(&spec("b+x")), Ok(Switched::Created(_))));
    kept.free();
    manager.flush().unwrap();
    assert_eq!(manager.stats().pools_alive, 1);
}

#[test]
fn manager_dropped_in_job_leaves_work_to_releaser() {
    for inside in [false, true] {
        let (script, leaked) = (Script::new(), pools_leaked());
        let ((begun, begins), (go, goes)) = (mpsc::channel(), mpsc::channel());
        let (slow, goes) = (Arc::new(AtomicBool::new(false)), Mutex::new(goes));
        let executor = Arc::new(ScriptedExecutor::in_no_block({
            let slow = slow.clone();
            move |job| {
                if slow.swap(false, Ordering::SeqCst) {
                    begun.send(()).unwrap();
                    goes.lock().recv().unwrap();
                }
                refuse(job)
            }
        }));
        let manager = builder(&script).executor(executor.clone()).build(&spec("a+x")).unwrap();
        let last = manager.current().unwrap();
        manager.switch(&spec("b+x")).unwrap();
        slow.store(true, Ordering::SeqCst);
        let releaser = std::thread::spawn(move || {
            let _section = inside.then(NoBlock::enter);
            drop(last);
        });
        begins.recv().unwrap();
        // The thread is in `submit`. The manager is dropped inside a job, so it waits for no
        // thread.
        Job::new("drop the manager", move || drop(manager)).run().unwrap();
        assert_eq!(script.alive(), 1, "the current pool is destroyed, the other one on its way");
        go.send(()).unwrap();
        releaser.join().unwrap();
        let (alive, lost) = if inside { (1, 1) } else { (0, 0) };
        assert_eq!((script.alive(), pools_leaked() - leaked), (alive, lost));
        assert_eq!(Arc::strong_count(&executor), 1, "nothing that is left has the executor");
    }
}

/// A manager dropped inside its own queue waits for no thread.
#[test]
fn manager_dropped_in_own_queue_does_not_wait() {
    let script = Script::new();
    let manager = Arc::new(builder(&script).build(&spec("a+x")).unwrap());
    let (mine, (done, ended)) = (Mutex::new(Some(manager.clone())), mpsc::channel());
    script.on_destroy(move || {
        // First: the queue's own thread is the last owner of the manager.
        if let Some(manager) = mine.lock().take() {
            while Arc::strong_count(&manager) > 1 {
                std::thread::yield_now();
            }
            drop(manager);
        }
        let _ = done.send(());
    });
    manager.switch(&spec("b+x")).unwrap();
    drop(manager);
    ended.recv().unwrap();
    ended.recv().unwrap();
    assert_eq!(script.alive(), 0);
}

/// A destructor in a refused job that always switches ends with one pool.
#[test]
fn orphan_destructor_that_switches_ends() {
    let (script, queue) = (Script::new(), Arc::new(WorkQueue::new("ended").unwrap()));
    let manager = Arc::new(builder(&script).executor(queue.clone()).build(&spec("a+x")).unwrap());
    queue.shutdown().unwrap();
    let (weak, calls) = (Arc::downgrade(&manager), Arc::new(AtomicUsize::new(0)));
    let count = calls.clone();
    script.on_destroy(move || {
        let Some(manager) = weak.upgrade() else { return };
        if count.fetch_add(1, Ordering::SeqCst) < 10 {
            assert_eq!(manager.flush(), Err(DrainError));
            let next =
                if manager.current().unwrap().spec().allocator.name == "a" { "b+y" } else { "a+y" };
            manager.switch(&spec(next)).unwrap();
        }
    });
    manager.switch(&spec("b+x")).unwrap();
    manager.flush().unwrap();
    script.calm();
    assert_eq!((calls.load(Ordering::SeqCst), manager.stats().destructors_panicked), (11, 0));
    assert_eq!((manager.stats().pools_alive, script.alive()), (1, 1));
}
