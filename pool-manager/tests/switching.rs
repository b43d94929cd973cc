//! Switches, case by case: the result, and the current pool afterwards.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use crate::common::*;
use parking_lot::Mutex;
use zpool_core::CreateError;
use zpool_core::exec::Manual;
use zpool_manager::{PoolManager, PoolState, SwitchError, Switched};
use zpool_testing::executors::RefusingExecutor;

/// A switch to a new spec makes a pool, and the empty previous one is destroyed.
#[test]
fn new_spec_makes_pool_and_destroys_empty_one() {
    let script = Script::new();
    let manager = builder(&script).build(&spec("a+x")).unwrap();
    let first = manager.current().unwrap().id();
    let Switched::Created(second) = manager.switch(&spec("b+x")).unwrap() else {
        panic!("not created")
    };
    assert_ne!(first, second);
    assert_eq!(manager.current().unwrap().spec().to_string(), "b+x");
    manager.flush().unwrap();
    let stats = manager.stats();
    assert_eq!(
        (stats.pools_created, stats.pools_destroyed, stats.pools_alive, script.alive()),
        (2, 1, 1, 1)
    );
    assert_eq!((stats.switches, stats.destroyed_on_caller), (2, 0));
}

/// Switching to an equal spec, written in any way, changes nothing.
#[test]
fn equal_spec_changes_nothing() {
    let script = Script::new();
    let manager = builder(&script).build(&spec("a(p=1,q=2)+x")).unwrap();
    let id = manager.current().unwrap().id();
    assert_eq!(manager.switch(&spec(" a( q=2 , p=1 ) + x()")).unwrap(), Switched::Unchanged(id));
    assert_eq!(manager.set_compressor(&component("x")).unwrap(), Switched::Unchanged(id));
    assert_eq!(manager.stats().switches, 1);
}

/// Setting one parameter keeps the other.
#[test]
fn setting_one_parameter_keeps_the_other() {
    let manager = builder(&Script::new()).build(&spec("a+x")).unwrap();
    manager.set_compressor(&component("y")).unwrap();
    assert_eq!(manager.current().unwrap().spec().to_string(), "a+y");
    manager.set_allocator(&component("b(k=v)")).unwrap();
    assert_eq!(manager.current().unwrap().spec().to_string(), "b(k=v)+y");
}

/// Stored objects keep their pool alive, until the last one is freed.
#[test]
fn stored_objects_keep_their_pool_alive() {
    let script = Script::new();
    let manager = builder(&script).build(&spec("a+x")).unwrap();
    let old = store(&manager, b"stored before the switch");
    manager.switch(&spec("b+x")).unwrap();
    let new = store(&manager, b"stored after it");
    manager.flush().unwrap();
    assert_eq!(script.alive(), 2);
    assert_eq!(
        (old.read(), new.read()),
        (b"stored before the switch".to_vec(), b"stored after it".to_vec())
    );
    let states: Vec<_> = manager.pools().iter().map(|p| (p.state, p.references)).collect();
    assert_eq!(states, [(PoolState::Retired, 1), (PoolState::Current, 1)]);
    old.free();
    manager.flush().unwrap();
    assert_eq!((script.alive(), manager.stats().pools_alive), (1, 1));
    new.free();
    manager.flush().unwrap();
    assert_eq!(script.alive(), 1, "the current pool needs no object to live");
}

/// A live retired pool is revived, unless that is turned off.
#[test]
fn live_retired_pool_is_revived_if_enabled() {
    let script = Script::new();
    let manager = builder(&script).build(&spec("a+x")).unwrap();
    let kept = store(&manager, b"keeps a+x alive");
    let id = kept.pool.id();
    manager.switch(&spec("b+x")).unwrap();
    assert_eq!(manager.switch(&spec("a+x")).unwrap(), Switched::Revived(id));
    assert_eq!(manager.stats().pools_revived, 1);
    kept.free();
    manager.flush().unwrap();
    assert_eq!(
        manager.current().unwrap().id(),
        id,
        "revived, it is current and lives without objects"
    );

    let manager = builder(&script).revive(false).build(&spec("a+x")).unwrap();
    let kept = store(&manager, b"keeps a+x alive");
    manager.switch(&spec("b+x")).unwrap();
    assert!(matches!(manager.switch(&spec("a+x")).unwrap(), Switched::Created(id)
            if id != kept.pool.id()));
    kept.free();
}

/// B2: pools that await destruction block no new one, and names are unique.
#[test]
fn b2_pending_pools_block_no_new_pool_or_name() {
    let (script, manual) = (Script::new(), Arc::new(Manual::new()));
    let manager =
        builder(&script).executor(manual.clone()).revive(false).build(&spec("a+x")).unwrap();
    let mut kept = Vec::new();
    for text in ["b+x", "a+x", "b+x", "a+x"] {
        kept.push(store(&manager, b"keeps it"));
        manager.switch(&spec(text)).unwrap();
    }
    let mut names: Vec<_> = manager.pools().into_iter().map(|p| p.label.name).collect();
    assert_eq!(names.len(), 5);
    names.dedup();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 5);
    assert_eq!(manual.run_all(), 4, "jobs that free the contexts of pools that are only read now");
    kept.into_iter().for_each(Stored::free);
    assert_eq!((manager.stats().pending_destroy, script.alive()), (4, 5));
    assert_eq!(manual.run_all(), 4);
    assert_eq!((manager.stats().pending_destroy, script.alive()), (0, 1));
}

/// An unknown name is an error that lists the known ones.
#[test]
fn unknown_name_error_lists_known_names() {
    let manager = builder(&Script::new()).build(&spec("a+x")).unwrap();
    let id = manager.current().unwrap().id();
    let error = manager.switch(&spec("c+x")).unwrap_err();
    let advice = "use a known one, or register its driver";
    assert_eq!(error.to_string(), format!("unknown allocator `c` (known: a, b): {advice}"));
    let error = manager.switch(&spec("a+z")).unwrap_err();
    assert_eq!(error.to_string(), format!("unknown compressor `z` (known: x, y): {advice}"));
    assert_eq!(manager.current().unwrap().id(), id);
}

/// A failed switch changes nothing.
#[test]
fn failed_switch_changes_nothing() {
    let script = Script::new();
    let manager = builder(&script).build(&spec("a+x")).unwrap();
    let id = manager.current().unwrap().id();
    script.on_create(|| Err(CreateError::OutOfMemory));
    let error = manager.switch(&spec("b+x")).unwrap_err();
    assert!(
        matches!(&error, SwitchError::Create { error: CreateError::OutOfMemory, .. }),
        "{error}"
    );
    script.on_create(|| panic!("constructor gave up"));
    let error = manager.switch(&spec("b+x")).unwrap_err();
    assert!(error.to_string().contains("constructor gave up"), "{error}");
    script.calm();
    // The failed choice is not remembered: changing the compressor keeps allocator `a`.
    manager.set_compressor(&component("y")).unwrap();
    assert_eq!(manager.current().unwrap().spec().to_string(), "a+y");
    manager.flush().unwrap();
    let stats = manager.stats();
    assert_eq!((stats.pools_created, stats.pools_destroyed, stats.pools_alive), (2, 1, 1));
    assert_ne!(manager.current().unwrap().id(), id);
}

/// B5: without a pool, one parameter can be set and then the other.
#[test]
fn b5_parameters_can_be_set_before_first_pool() {
    let manager = builder(&Script::new()).build_idle().unwrap();
    assert!(manager.current().is_none());
    assert!(matches!(
        manager.set_compressor(&component("y")),
        Err(SwitchError::Incomplete { missing: "allocator" })
    ));
    assert!(manager.switch(&spec("nope+nada")).is_err());
    assert!(matches!(
        manager.set_compressor(&component("x")),
        Err(SwitchError::UnknownAllocator { .. })
    ));
    assert!(manager.current().is_none());
    manager.set_allocator(&component("b")).unwrap();
    assert_eq!(manager.current().unwrap().spec().to_string(), "b+x");
}

/// A switch inside a constructor is an error.
#[test]
fn switch_in_constructor_is_error() {
    let script = Script::new();
    let manager = Arc::new(builder(&script).build(&spec("a+x")).unwrap());
    let (inner, outcome) = (Arc::downgrade(&manager), Arc::new(parking_lot::Mutex::new(None)));
    let seen = outcome.clone();
    script.on_create(move || {
        *seen.lock() =
            inner.upgrade().map(|manager: Arc<PoolManager>| manager.switch(&spec("a+y")));
        Ok(())
    });
    manager.switch(&spec("b+x")).unwrap();
    script.calm();
    assert_eq!(outcome.lock().take(), Some(Err(SwitchError::InsideConstructor)));
}

/// A destructor may switch even while a switch waits for it.
#[test]
fn awaited_destructor_may_switch() {
    let script = Script::new();
    let manager = Arc::new(builder(&script).max_pending(1).build(&spec("a+x")).unwrap());
    let (inner, again) = (Arc::downgrade(&manager), AtomicBool::new(true));
    script.on_destroy(move || {
        if again.swap(false, Ordering::SeqCst)
            && let Some(manager) = inner.upgrade()
        {
            // Both outcomes are right; a deadlock is not.
            let _ = manager.switch(&spec("a+y"));
        }
    });
    for text in ["b+x", "a+x", "b+x", "a+x"] {
        manager.switch(&spec(text)).unwrap();
    }
    manager.flush().unwrap();
    script.calm();
    assert_eq!(manager.stats().pools_alive, 1);
}

/// If another pool becomes current before `renew` has the mutex, `renew` changes nothing and
/// returns no pool. (It renewed that pool, and returned the other one, which could be revived.)
#[test]
fn renew_after_racing_switch_changes_nothing() {
    let script = Script::new();
    let executor = Arc::new(RefusingExecutor::default());
    let manager = Arc::new(builder(&script).executor(executor).build(&spec("a+x")).unwrap());
    // The refused job of the first pool runs inside `renew`, before it takes the mutex.
    let (inner, again) = (Arc::downgrade(&manager), AtomicBool::new(true));
    script.on_destroy(move || {
        if again.swap(false, Ordering::SeqCst)
            && let Some(manager) = inner.upgrade()
        {
            manager.switch(&spec("a+y")).unwrap();
        }
    });
    manager.switch(&spec("b+x")).unwrap();
    let stored = store(&manager, b"object");
    assert!(manager.renew().unwrap().is_none());
    assert_eq!(manager.current().unwrap().spec().to_string(), "a+y");
    assert_eq!(manager.stats().pools_created, 3);
    let revived = manager.switch(&spec("b+x")).unwrap();
    assert_eq!(revived, Switched::Revived(stored.pool.id()));
    // Without a race, it makes a new pool and excludes the old one from revival.
    let renewed = manager.renew().unwrap().unwrap();
    assert_eq!(renewed.id(), stored.pool.id());
    manager.switch(&spec("a+x")).unwrap();
    assert!(matches!(manager.switch(&spec("b+x")).unwrap(), Switched::Created(_)));
    stored.free();
    script.calm();
}

/// A switch that finds too many pools awaiting destruction destroys the oldest one that no thread
/// has begun, and waits for those that are being destroyed.
#[test]
fn switch_at_max_pending_destroys_or_waits() {
    let (script, manual) = (Script::new(), Arc::new(Manual::new()));
    let manager = Arc::new(
        builder(&script).executor(manual.clone()).max_pending(2).build(&spec("a+x")).unwrap(),
    );
    for text in ["b+x", "a+x"] {
        manager.switch(&spec(text)).unwrap();
    }
    assert_eq!((manager.stats().pending_destroy, manager.stats().pools_destroyed), (2, 0));
    manager.switch(&spec("b+x")).unwrap();
    assert_eq!((manager.stats().pending_destroy, manager.stats().pools_destroyed), (2, 1));

    // Both are being destroyed by other threads, so the switch can only succeed after one has
    // ended.
    let ((begun, begins), (go, wait)) = (mpsc::channel(), mpsc::channel::<()>());
    let wait = Mutex::new(wait);
    script.on_destroy(move || {
        let _ = begun.send(());
        let _ = wait.lock().recv();
    });
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| manager.flush().unwrap());
            begins.recv().unwrap();
        }
        let switching = scope.spawn(|| manager.switch(&spec("a+x")).unwrap());
        drop(go);
        switching.join().unwrap();
    });
    assert_eq!(manager.stats().pending_destroy_max, 2);
}

/// A driver whose pool awaits destruction is busy.
#[test]
fn driver_of_pending_pool_is_busy() {
    let (script, manual) = (Script::new(), Arc::new(Manual::new()));
    let manager = builder(&script).executor(manual.clone()).build(&spec("a+x")).unwrap();
    manager.switch(&spec("b+y")).unwrap();
    let registry = manager.registry();
    assert!(registry.unregister_allocator("a").unwrap_err().to_string().contains("used by 1"));
    assert!(registry.unregister_compressor("x").is_err());
    manual.run_all();
    registry.unregister_allocator("a").unwrap();
    registry.unregister_compressor("x").unwrap();
    assert!(registry.unregister_allocator("a").is_err());
    assert!(manager.switch(&spec("a+y")).unwrap_err().to_string().contains("(known: b)"));
}
