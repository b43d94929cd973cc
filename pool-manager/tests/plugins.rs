//! Plug-ins that block, fail, panic or call back: the releasing thread is never delayed, stores
//! continue, and the current pool does not change.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use crate::common::*;
use parking_lot::Mutex;
use zpool_core::compress::CodecError;
use zpool_core::{CreateError, PoolConfig, ZPool, ZPoolDriver};
use zpool_manager::{PoolEvent, PoolEventKind, PoolObserver};
use zpool_testing::codecs::{CodecHooks, HookedDriver};

/// Stores, reads and frees an object in the current pool.
fn stores_go_on(manager: &zpool_manager::PoolManager) {
    let stored = store(manager, b"while others are busy");
    assert_eq!(stored.read(), b"while others are busy");
    stored.free();
}

/// A constructor that blocks delays only other switches.
#[test]
fn blocked_constructor_delays_only_switches() {
    let script = Script::new();
    let manager = builder(&script).build(&spec("a+x")).unwrap();
    let ((open, wait), (begun, begins)) = (mpsc::channel::<()>(), mpsc::channel());
    let wait = Mutex::new(wait);
    script.on_create(move || {
        begun.send(()).unwrap();
        let _ = wait.lock().recv();
        Ok(())
    });
    std::thread::scope(|scope| {
        let switcher = scope.spawn(|| manager.switch(&spec("b+x")).unwrap());
        begins.recv().unwrap();
        for _ in 0..1000 {
            stores_go_on(&manager);
        }
        assert_eq!(manager.current().unwrap().spec().to_string(), "a+x");
        drop(open);
        switcher.join().unwrap();
    });
    assert_eq!(manager.current().unwrap().spec().to_string(), "b+x");
}

/// A destructor that blocks delays neither the releasing thread nor stores.
#[test]
fn blocked_destructor_delays_no_release_or_store() {
    let script = Script::new();
    let manager = builder(&script).build(&spec("a+x")).unwrap();
    let ((open, wait), (begun, begins)) = (mpsc::channel::<()>(), mpsc::channel());
    let wait = Mutex::new(wait);
    script.on_destroy(move || {
        let _ = begun.send(());
        let _ = wait.lock().recv();
    });
    let last = store(&manager, b"the last of its pool");
    manager.switch(&spec("b+x")).unwrap();
    last.free();
    begins.recv().unwrap();
    for _ in 0..1000 {
        stores_go_on(&manager);
    }
    // Further pools queue up behind it, and switches continue up to the limit.
    manager.switch(&spec("a+y")).unwrap();
    assert_eq!(manager.stats().pools_destroyed, 0);
    drop(open);
    manager.flush().unwrap();
    assert_eq!(manager.stats().pools_alive, 1);
}

/// A destructor may hold a lock that a constructor takes.
#[test]
fn destructor_and_constructor_share_a_lock() {
    let script = Script::new();
    let manager = builder(&script).build(&spec("a+x")).unwrap();
    let lock = Arc::new(Mutex::new(()));
    let (in_create, in_destroy) = (lock.clone(), lock);
    script.on_create(move || {
        let _held = in_create.lock();
        Ok(())
    });
    script.on_destroy(move || {
        let _held = in_destroy.lock();
        std::thread::yield_now();
    });
    let specs = ["b+x", "a+x"].map(spec);
    for i in 0..2_000 {
        manager.switch(&specs[i % 2]).unwrap();
    }
    manager.flush().unwrap();
    assert_eq!((manager.stats().pools_alive, script.alive()), (1, 1));
}

/// B34: a constructor may use the current pool.
#[test]
fn b34_constructor_uses_current_pool() {
    let script = Script::new();
    let manager = Arc::new(builder(&script).build(&spec("a+x")).unwrap());
    let (inner, used) = (Arc::downgrade(&manager), Arc::new(AtomicUsize::new(0)));
    let count = used.clone();
    script.on_create(move || {
        let manager = inner.upgrade().expect("it is switching");
        assert_eq!(manager.current().unwrap().spec().to_string(), "a+x", "handled by the old pool");
        stores_go_on(&manager);
        count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    manager.switch(&spec("b+x")).unwrap();
    script.calm();
    assert_eq!(used.load(Ordering::SeqCst), 1);
}

/// Fails after it has made a pool, which it drops again.
#[derive(Debug)]
struct HalfWay(ScriptedDriver);

impl ZPoolDriver for HalfWay {
    fn name(&self) -> &str {
        "halfway"
    }

    fn create(&self, config: &PoolConfig) -> Result<Box<dyn ZPool>, CreateError> {
        drop(self.0.create(config)?);
        Err(CreateError::Failed("no second half".into()))
    }
}

/// B45: a driver that fails halfway leaves nothing behind.
#[test]
fn b45_driver_failing_halfway_leaves_nothing() {
    let (script, registry) = (Script::new(), registry(&Script::new()));
    registry
        .register_allocator(Arc::new(HalfWay(ScriptedDriver {
            name: "half",
            script: script.clone(),
        })))
        .unwrap();
    let manager =
        zpool_manager::PoolManager::builder(registry.clone()).build(&spec("a+x")).unwrap();
    let error = manager.switch(&spec("halfway+x")).unwrap_err();
    assert_eq!(error.to_string(), "cannot make `halfway`: no second half");
    assert_eq!((script.alive(), manager.stats().pools_created), (0, 1));
    registry.unregister_allocator("halfway").unwrap();
}

/// Contexts of a compressor that fail this many times.
#[derive(Debug)]
struct Failures(AtomicUsize);

impl CodecHooks for Failures {
    fn on_make(&self) -> Result<(), CodecError> {
        let less = |left: usize| left.checked_sub(1);
        match self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
            Ok(_) => Err(CodecError::OutOfMemory),
            Err(_) => Ok(()),
        }
    }
}

/// A context that cannot be made is an error, is counted, and is made later.
#[test]
fn failed_context_is_counted_and_retried() {
    let (registry, failures) = (registry(&Script::new()), Arc::new(Failures(AtomicUsize::new(2))));
    registry.register_compressor(Arc::new(HookedDriver("moody", failures))).unwrap();
    let manager = zpool_manager::PoolManager::builder(registry).build(&spec("a+moody")).unwrap();
    let pool = manager.current().unwrap();
    for _ in 0..2 {
        assert_eq!(pool.codec().compress(b"block", 5, |_| ()), Err(CodecError::OutOfMemory));
    }
    assert_eq!(pool.codec().compress(b"block", 5, |bytes| bytes.map(<[u8]>::len)), Ok(Some(5)));
    let stats = pool.codec().stats();
    assert_eq!((stats.contexts_made, stats.contexts_failed), (1, 2));
}

#[derive(Debug, Default)]
struct Log(Mutex<Vec<(String, PoolEventKind)>>);

impl PoolObserver for Log {
    fn observe(&self, event: &PoolEvent<'_>) {
        self.0.lock().push((event.pool.spec.to_string(), event.kind));
        if event.kind == PoolEventKind::Retired {
            panic!("an observer's panic is its own");
        }
    }
}

/// An observer sees every event in the life of a pool.
#[test]
fn observer_sees_every_event_of_a_pool() {
    use PoolEventKind::{Created, Destroyed, Emptied, Published, Retired, Revived};
    let log = Arc::new(Log::default());
    let manager = builder(&Script::new()).observer(log.clone()).build(&spec("a+x")).unwrap();
    let kept = store(&manager, b"keeps a+x");
    manager.switch(&spec("b+x")).unwrap();
    manager.switch(&spec("a+x")).unwrap();
    manager.flush().unwrap();
    manager.switch(&spec("b+y")).unwrap();
    kept.free();
    drop(manager);
    let log = log.0.lock();
    let life = |spec: &str| {
        log.iter().filter(|(of, _)| of == spec).map(|&(_, kind)| kind).collect::<Vec<_>>()
    };
    assert_eq!(life("a+x"), [Created, Published, Retired, Revived, Retired, Emptied, Destroyed]);
    assert_eq!(life("b+x"), [Created, Published, Retired, Emptied, Destroyed]);
}
