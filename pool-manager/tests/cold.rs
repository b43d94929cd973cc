//! The cold pool: a second pool that takes objects, neither current nor retired.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::*;
use zpool_core::exec::Manual;
use zpool_manager::{PoolState, SwitchError, Switched};

fn states(manager: &zpool_manager::PoolManager) -> Vec<PoolState> {
    manager.pools().iter().map(|pool| pool.state).collect()
}

/// A cold pool lives on while it is empty, has a state of its own, and is destroyed with the
/// manager.
#[test]
fn cold_pool_lives_beside_current_one() {
    let script = Script::new();
    let manager = builder(&script).build(&spec("a+x")).unwrap();
    assert!(manager.cold().is_none());
    let Switched::Created(id) = manager.set_cold(&spec("b+y")).unwrap() else {
        panic!("not created")
    };
    let current = manager.current().unwrap().id();
    assert!(id != current && manager.cold().unwrap().id() == id);
    assert_eq!(states(&manager), [PoolState::Current, PoolState::Cold]);
    assert!(manager.pools().iter().all(|pool| pool.retired_for.is_none()));
    assert_eq!(manager.set_cold(&spec("b+y")).unwrap(), Switched::Unchanged(id));
    assert_eq!((manager.stats().switches, manager.stats().pools_created), (2, 2));
    // Switches of the current pool leave it alone.
    for text in ["a+y", "b+x", "a+x"] {
        manager.switch(&spec(text)).unwrap();
    }
    manager.flush().unwrap();
    assert_eq!((manager.cold().unwrap().id(), script.alive()), (id, 2));
    drop(manager);
    assert_eq!(script.alive(), 0);
}

/// A switch to the spec of the cold pool makes a pool, even while the cold pool has objects.
#[test]
fn switch_does_not_revive_cold_pool() {
    let manager = builder(&Script::new()).build(&spec("a+x")).unwrap();
    let cold = manager.set_cold(&spec("b+y")).unwrap().pool_id();
    let Switched::Created(id) = manager.switch(&spec("b+y")).unwrap() else {
        panic!("not created")
    };
    assert_ne!(id, cold);
    assert_eq!(manager.cold().unwrap().id(), cold);
    assert_eq!(manager.stats().pools_revived, 0);
}

/// The pool that another one replaces is retired, and can be revived in either role.
#[test]
fn replaced_cold_pool_is_retired_and_revived() {
    let script = Script::new();
    let manager = builder(&script).executor(Arc::new(Manual::new())).build(&spec("a+x")).unwrap();
    let first = manager.set_cold(&spec("b+y")).unwrap().pool_id();
    // A reference stands for an object in it.
    let held = manager.cold().unwrap();
    manager.set_cold(&spec("b+x")).unwrap();
    assert_eq!(states(&manager), [PoolState::Current, PoolState::Retired, PoolState::Cold]);
    assert!(held.is_for_cold(), "a retired pool keeps its role");
    assert_eq!(manager.set_cold(&spec("b+y")).unwrap(), Switched::Revived(first));
    manager.flush().unwrap();
    assert_eq!(states(&manager), [PoolState::Current, PoolState::Cold]);
    assert!(manager.remove_cold() && !manager.remove_cold());
    assert_eq!(states(&manager), [PoolState::Current, PoolState::Retired]);
    // As the current pool.
    assert!(held.is_for_cold() && !manager.current().unwrap().is_for_cold());
    assert_eq!(manager.switch(&spec("b+y")).unwrap(), Switched::Revived(first));
    assert!(!held.is_for_cold(), "it has the other role now");
    drop(held);
    manager.flush().unwrap();
    assert_eq!((states(&manager), script.alive()), (vec![PoolState::Current], 1));
}

/// Bytes of the cold pool are in every sum, even while it grows and with many retired pools.
#[test]
fn bytes_of_cold_pool_are_counted() {
    let script = Script::new();
    let manager = builder(&script).build(&spec("a+x")).unwrap();
    manager.set_cold(&spec("b+y")).unwrap();
    let mut retired = Vec::new();
    for round in 0..100 {
        if round == 50 {
            for n in 0..80 {
                manager.switch(&spec(&format!("a(n={n})+x"))).unwrap();
                retired.push(store(&manager, &[1; 100]));
            }
        }
        let cold = manager.cold().unwrap();
        drop(cold.zpool().insert(&[7; 1000]).unwrap());
        let all: usize = manager.pools().iter().map(|pool| pool.bytes_held).sum();
        let current = manager.current().unwrap();
        let besides = manager.allocator_bytes_except(&current);
        assert!(besides >= cold.zpool().bytes_held(), "{besides} bytes besides the current pool");
        assert_eq!(manager.bytes_held(), all, "round {round}");
    }
}

/// A constructor can neither exchange the cold pool nor retire it.
#[test]
fn constructor_cannot_change_cold_pool() {
    let script = Script::new();
    let manager = Arc::new(builder(&script).build(&spec("a+x")).unwrap());
    let cold = manager.set_cold(&spec("b+y")).unwrap().pool_id();
    let (inside, calls) = (Arc::downgrade(&manager), Arc::new(AtomicUsize::new(0)));
    let counted = calls.clone();
    script.on_create(move || {
        let manager = inside.upgrade().expect("the manager makes this pool");
        assert!(!manager.remove_cold());
        let refused = manager.set_cold(&spec("b+x"));
        assert!(matches!(refused, Err(SwitchError::InsideConstructor)));
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    manager.switch(&spec("a+y")).unwrap();
    script.calm();
    assert_eq!((calls.load(Ordering::SeqCst), manager.cold().unwrap().id()), (1, cold));
}

/// Errors change nothing.
#[test]
fn set_cold_errors_change_nothing() {
    let script = Script::new();
    let manager = builder(&script).build(&spec("a+x")).unwrap();
    let cold = manager.set_cold(&spec("b+y")).unwrap().pool_id();
    assert!(matches!(manager.set_cold(&spec("c+y")), Err(SwitchError::UnknownAllocator { .. })));
    script.on_create(|| Err(zpool_core::CreateError::OutOfMemory));
    assert!(matches!(manager.set_cold(&spec("b+x")), Err(SwitchError::Create { .. })));
    script.calm();
    manager.flush().unwrap();
    assert_eq!((manager.cold().unwrap().id(), manager.stats().pools_alive), (cold, 2));
}

/// A cold pool of the current pool's spec is a new pool. (The current pool was taken for a retired
/// one, and got both roles.)
#[test]
fn cold_pool_of_current_spec_is_new() {
    let manager = builder(&Script::new()).build(&spec("a+x")).unwrap();
    let stored = store(&manager, b"object");
    let Switched::Created(cold) = manager.set_cold(&spec("a+x")).unwrap() else {
        panic!("not created")
    };
    assert_ne!(cold, stored.pool.id());
    assert_eq!(states(&manager), [PoolState::Current, PoolState::Cold]);
    // Once it is retired, it can be revived as the cold pool.
    manager.switch(&spec("b+y")).unwrap();
    manager.remove_cold();
    let revived = manager.set_cold(&spec("a+x")).unwrap();
    assert_eq!(revived, Switched::Revived(stored.pool.id()));
    stored.free();
}
