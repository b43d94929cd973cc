//! Every call into a plug-in may panic, even a harmless one. No panic unwinds to the caller.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::*;
use zpool_core::compress::{Compressor, CompressorDriver};
use zpool_core::exec::{DrainExecutor, Executor, ExecutorCapabilities, Job, Manual, Refused};
use zpool_core::page::{HeapSource, ObservedSource};
use zpool_core::spec::Params;
use zpool_core::{
    Capabilities, CreateError, FreeError, Handle, PoolConfig, PoolError, PoolId, PoolStats,
    ReadGuard, Violation, ZPool, ZPoolDriver,
};
use zpool_manager::{
    PoolEvent, PoolManager, PoolObserver, Registry, RegistryError, SwitchError, WorkQueue,
};

/// A panic payload that panics when it is dropped.
struct Payload;

impl Drop for Payload {
    fn drop(&mut self) {
        panic!("the payload panics, too");
    }
}

/// Panics when it is dropped, and counts its drops.
#[derive(Clone, Debug)]
struct Bomb(Arc<AtomicUsize>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic_any(Payload);
    }
}

/// Runs `call`, which must not panic.
fn contained<R>(call: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        // Dropping it would end the test program.
        std::mem::forget(panic);
        panic!("a plug-in's panic came out");
    })
}

/// An executor that panics when it is asked for its capabilities, formatted, or dropped.
struct BadExecutor {
    inner: Manual,
    _bomb: Bomb,
}

impl std::fmt::Debug for BadExecutor {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic_any(Payload);
    }
}

impl Executor for BadExecutor {
    fn submit(&self, job: Job) -> Result<(), Refused> {
        self.inner.submit(job)
    }

    fn capabilities(&self) -> ExecutorCapabilities {
        panic_any(Payload);
    }
}

/// An executor may panic in its capabilities, its `Debug` and its drop, directly and behind a
/// relay.
#[test]
fn executor_panics_outside_submit_are_caught() {
    let (script, drops) = (Script::new(), Arc::new(AtomicUsize::new(0)));
    let bad = || Arc::new(BadExecutor { inner: Manual::new(), _bomb: Bomb(drops.clone()) });
    contained(|| {
        let building = builder(&script).executor(bad());
        assert!(format!("{building:?}").contains("Debug panicked"));
        // Without capabilities it promises nothing, so it is used behind a relay.
        let manager = building.build(&spec("a+x")).unwrap();
        assert!(manager.executor().capabilities().submit_in_no_block);
        manager.switch(&spec("b+x")).unwrap();
        assert!(!format!("{manager:?} {:?}", manager.executor()).is_empty());
    });
    // The relay's thread may be the last owner.
    while drops.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    assert_eq!(script.alive(), 0);
    contained(|| {
        let relay = WorkQueue::relay("bad", bad()).unwrap();
        assert!(!relay.capabilities().ordered);
        relay.submit(Job::new("job", || ())).unwrap();
        relay.shutdown().unwrap();
        drop(relay);
    });
    while drops.load(Ordering::SeqCst) == 1 {
        std::thread::yield_now();
    }
    contained(|| drop(builder(&script).executor(bad())));
    assert_eq!(drops.load(Ordering::SeqCst), 3);
}

/// An executor that is used directly may panic when it is dropped.
#[derive(Debug)]
struct PanicsInDrop(Manual, #[allow(dead_code, reason = "for its drop")] Bomb);

impl Executor for PanicsInDrop {
    fn submit(&self, job: Job) -> Result<(), Refused> {
        self.0.submit(job)
    }

    fn capabilities(&self) -> ExecutorCapabilities {
        self.0.capabilities()
    }
}

/// A manager's drop catches the panics of its executor, observer and page source, and the pools in
/// that executor are destroyed.
#[test]
fn manager_drop_contains_drops_of_what_it_was_given() {
    let (script, drops) = (Script::new(), Arc::new(AtomicUsize::new(0)));
    contained(|| {
        let bomb = || Bomb(drops.clone());
        let in_source = bomb();
        let manager = builder(&script)
            .executor(Arc::new(PanicsInDrop(Manual::new(), bomb())))
            .observer(Arc::new(BadObserver(bomb())))
            .page_source(Arc::new(ObservedSource::new(
                Arc::new(HeapSource::new(4096)),
                move |_| {
                    let _ = &in_source;
                },
            )))
            .build(&spec("a+x"))
            .unwrap();
        for n in 0..4 {
            manager.switch(&spec(if n % 2 == 0 { "b+x" } else { "a+x" })).unwrap();
        }
        drop(manager);
    });
    assert_eq!((drops.load(Ordering::SeqCst), script.alive()), (3, 0));
}

#[derive(Debug)]
struct BadObserver(#[allow(dead_code, reason = "for its drop")] Bomb);

impl PoolObserver for BadObserver {
    fn observe(&self, _: &PoolEvent<'_>) {
        panic_any(Payload);
    }
}

/// A driver with a method that panics.
#[derive(Debug, Default)]
struct Driver {
    at: Mutex<&'static str>,
    bomb: Option<Bomb>,
}

impl Driver {
    fn at(&self, place: &str) {
        let here = *self.at.lock().unwrap() == place;
        if here {
            panic_any(Payload);
        }
    }
}

#[derive(Debug)]
struct PanickingDriver(Arc<Driver>);

impl ZPoolDriver for PanickingDriver {
    fn name(&self) -> &str {
        self.0.at("name");
        "mine"
    }

    fn canonical(&self, params: &Params) -> Result<Params, CreateError> {
        self.0.at("canonical");
        Ok(params.clone())
    }

    fn capabilities(&self, config: &PoolConfig) -> Result<Capabilities, CreateError> {
        self.0.at("capabilities");
        Ok(Capabilities::new(config.max_object_len).wiping())
    }

    fn create(&self, config: &PoolConfig) -> Result<Box<dyn ZPool>, CreateError> {
        self.0.at("create");
        let mut config = config.clone();
        config.params = Params::default();
        config.wipe_on_free = false;
        let pool = zpool_conformance::ReferenceDriver.create(&config)?;
        Ok(Box::new(PanickingPool(pool, self.0.clone())))
    }
}

impl CompressorDriver for PanickingDriver {
    fn name(&self) -> &str {
        self.0.at("name");
        "mine"
    }

    fn open(&self, params: &Params) -> Result<Arc<dyn Compressor>, CreateError> {
        self.0.at("open");
        zpool_conformance::NullDriver.open(params)
    }
}

#[derive(Debug)]
struct PanickingPool(Box<dyn ZPool>, Arc<Driver>);

impl ZPool for PanickingPool {
    fn id(&self) -> PoolId {
        self.1.at("id");
        self.0.id()
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn insert(&self, object: &[u8]) -> Result<Handle, PoolError> {
        self.0.insert(object)
    }

    fn read(&self, handle: &Handle) -> Result<ReadGuard<'_>, PoolError> {
        self.0.read(handle)
    }

    fn free(&self, handle: Handle) -> Result<(), FreeError> {
        self.0.free(handle)
    }

    fn bytes_held(&self) -> usize {
        self.1.at("bytes_held");
        self.0.bytes_held()
    }

    fn stats(&self) -> PoolStats {
        self.0.stats()
    }

    fn validate(&self) -> Result<(), Violation> {
        self.0.validate()
    }
}

/// A driver that panics when asked for its name is not registered, and the registry goes on.
#[test]
fn driver_that_panics_in_name_is_an_error_of_register() {
    let (registry, driver) = (Registry::new(), Arc::new(Driver::default()));
    *driver.at.lock().unwrap() = "name";
    let (allocator, compressor) =
        (Arc::new(PanickingDriver(driver.clone())), Arc::new(PanickingDriver(driver.clone())));
    for outcome in [
        contained(|| registry.register_allocator(allocator.clone())),
        contained(|| registry.register_compressor(compressor.clone())),
    ] {
        assert!(matches!(&outcome, Err(RegistryError::Panicked { message })
                if message == "(no message)"));
        let text = outcome.unwrap_err().to_string();
        assert_eq!(text, "the driver panicked when it was asked for its name: (no message)");
    }
    *driver.at.lock().unwrap() = "";
    registry.register_allocator(allocator).unwrap();
    registry.register_compressor(compressor).unwrap();
    assert_eq!(
        format!("{registry:?}"),
        r#"Registry { allocators: ["mine"], compressors: ["mine"] }"#
    );
}

/// Whichever method of a driver panics, the switch is an error that names it, and the next one
/// works.
#[test]
fn driver_method_panics_are_errors_of_the_switch() {
    let script = Script::new();
    let driver = Arc::new(Driver::default());
    let registry = registry(&script);
    registry.register_allocator(Arc::new(PanickingDriver(driver.clone()))).unwrap();
    registry.register_compressor(Arc::new(PanickingDriver(driver.clone()))).unwrap();
    for name in ["a", "b"] {
        registry.unregister_allocator(name).unwrap();
    }
    let manager = PoolManager::builder(registry).wipe_on_free(true).build_idle().unwrap();
    for at in ["canonical", "capabilities", "create", "id", "open"] {
        *driver.at.lock().unwrap() = at;
        let error = contained(|| manager.switch(&spec("mine+mine"))).unwrap_err();
        assert!(matches!(&error, SwitchError::Panicked { .. }), "{at}: {error}");
        assert!(error.to_string().starts_with("cannot make `mine`"), "{at}: {error}");
    }
    *driver.at.lock().unwrap() = "";
    manager.switch(&spec("mine+mine")).unwrap();
    let kept = store(&manager, &[7; 100]);
    manager.switch(&spec("mine(n=2)+mine")).unwrap();
    let retired = kept.pool.zpool().bytes_held();
    assert!(manager.bytes_held() >= retired && retired >= 100);
    // If a retired pool's allocator panics when asked for its bytes, its previous answer counts.
    *driver.at.lock().unwrap() = "bytes_held";
    assert!(contained(|| manager.bytes_held()) >= retired);
    assert_eq!(contained(|| manager.pools().len()), 2);
    let current = manager.current().unwrap();
    assert!(contained(|| manager.allocator_bytes_except(&current)) >= retired);
    drop(current);
    contained(|| kept.free());
    *driver.at.lock().unwrap() = "";
    manager.flush().unwrap();
    assert_eq!(manager.stats().pools_alive, 1);
}

/// Panics in the drops of drivers are caught by `unregister`, by a refused registration and by the
/// registry's drop.
#[test]
fn driver_drop_panics_are_contained_by_the_registry() {
    let drops = Arc::new(AtomicUsize::new(0));
    let bad = || Arc::new(Driver { bomb: Some(Bomb(drops.clone())), ..Driver::default() });
    let registry = Registry::new();
    contained(|| {
        registry.register_allocator(Arc::new(PanickingDriver(bad()))).unwrap();
        assert!(registry.register_allocator(Arc::new(PanickingDriver(bad()))).is_err());
        assert_eq!(drops.load(Ordering::SeqCst), 1, "the one that was refused");
        registry.unregister_allocator("mine").unwrap();
        assert_eq!(drops.load(Ordering::SeqCst), 2);
        registry.register_allocator(Arc::new(PanickingDriver(bad()))).unwrap();
        registry.register_compressor(Arc::new(PanickingDriver(bad()))).unwrap();
    });
    contained(|| drop(registry));
    assert_eq!(drops.load(Ordering::SeqCst), 4);
    assert!(Driver::default().bomb.is_none());
}

/// A queue's name with a zero byte is an error, and so is a relay's.
#[test]
fn queue_name_with_a_zero_byte_is_an_error() {
    for made in [
        contained(|| WorkQueue::new("a\0b")),
        contained(|| WorkQueue::relay("\0", Arc::new(Manual::new()))),
    ] {
        let error = made.expect_err("the system takes no such name");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("must not contain a zero byte"));
    }
    // Longer than the system keeps, empty, and not ASCII: all are legal.
    for name in ["", "a name that is longer than fifteen bytes", "Größe"] {
        WorkQueue::new(name).unwrap().shutdown().unwrap();
    }
}
