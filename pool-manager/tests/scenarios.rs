//! Scenarios from the kernel's history that concern the manager and fit no other file
//! (docs/scenarios.md lists all).

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use crate::common::*;
use parking_lot::Mutex;
use zpool_core::exec::{Executor, Job, Manual};
use zpool_core::{CreateError, PoolId};
use zpool_manager::{
    PoolEvent, PoolEventKind, PoolManager, PoolObserver, SwitchError, Switched, WorkQueue,
};

#[derive(Debug)]
struct Failing;

impl PoolObserver for Failing {
    fn observe(&self, _: &PoolEvent<'_>) {
        panic!("on purpose");
    }
}

/// B3: an observer that panics stops no pool.
#[test]
fn b3_failing_observer_stops_no_pool() {
    let script = Script::new();
    let manager = builder(&script).observer(Arc::new(Failing)).build(&spec("a+x")).unwrap();
    for text in ["b+x", "a+x"] {
        let stored = store(&manager, b"stored anyway");
        manager.switch(&spec(text)).unwrap();
        assert_eq!(stored.read(), b"stored anyway");
        stored.free();
    }
    manager.flush().unwrap();
    assert_eq!((script.alive(), manager.stats().pools_destroyed), (1, 2));
}

/// B4: changing a parameter after a failed start is an error and not a panic.
#[test]
fn b4_parameter_after_failed_start_is_error() {
    let script = Script::new();
    script.on_create(|| Err(CreateError::OutOfMemory));
    let manager = builder(&script).build_idle().unwrap();
    assert!(matches!(manager.switch(&spec("a+x")), Err(SwitchError::Create { .. })));
    assert!(matches!(manager.set_compressor(&component("y")), Err(SwitchError::Create { .. })));
    assert!(manager.current().is_none() && manager.pools().is_empty());
    script.calm();
    // The request is remembered, so one parameter is enough now.
    manager.set_allocator(&component("b")).unwrap();
    assert_eq!(manager.current().unwrap().spec().to_string(), "b+y");
}

/// B6: constructors and destructors run under no lock that readers take.
#[test]
fn b6_plug_ins_run_under_no_reader_lock() {
    let script = Script::new();
    let manager = Arc::new(builder(&script).build(&spec("a+x")).unwrap());
    let looks = Arc::new(AtomicUsize::new(0));
    let look = |manager: Weak<PoolManager>, looks: Arc<AtomicUsize>| {
        move || {
            if let Some(manager) = manager.upgrade() {
                // Each call takes the lock of the list, the gate or a registry. If the caller held
                // one, this would hang.
                drop((manager.pools(), manager.stats(), manager.bytes_held(), manager.current()));
                drop((manager.registry().allocators(), manager.registry().compressors()));
                looks.fetch_add(1, Ordering::SeqCst);
            }
        }
    };
    let on_create = look(Arc::downgrade(&manager), looks.clone());
    script.on_create(move || {
        on_create();
        Ok(())
    });
    script.on_destroy(look(Arc::downgrade(&manager), looks.clone()));
    for text in ["b+x", "a+x"] {
        manager.switch(&spec(text)).unwrap();
    }
    manager.flush().unwrap();
    script.calm();
    assert_eq!(looks.load(Ordering::SeqCst), 4, "two constructors and two destructors");
}

/// B10, B39, B40: destructors may leave work for the executor that runs them. B10: a job of a
/// destroyed pool. B39 and B40: two kinds of work on one queue.
#[test]
fn b10_b39_b40_work_of_destructor_is_completed() {
    for end_with_manager in [true, false] {
        let (script, queue) = (Script::new(), Arc::new(WorkQueue::new("scenario").unwrap()));
        let (second_kind, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let manager = builder(&script).executor(queue.clone()).build(&spec("a+x")).unwrap();
        let (weak, done, lost) = (Arc::downgrade(&queue), second_kind.clone(), refused.clone());
        script.on_destroy(move || {
            let done = done.clone();
            let job = Job::new("release the rest", move || {
                done.fetch_add(1, Ordering::SeqCst);
            });
            let queue: Option<Arc<WorkQueue>> = weak.upgrade();
            if queue.is_none_or(|queue| queue.submit(job).is_err()) {
                lost.fetch_add(1, Ordering::SeqCst);
            }
        });
        for i in 0..100 {
            manager.switch(&spec(["b+x", "a+x"][i % 2])).unwrap();
        }
        if end_with_manager {
            drop(manager);
            drop(queue);
        } else {
            drop(queue);
            drop(manager);
        }
        // The queue's last owner may be one of its own jobs; then it ends by itself.
        while script.alive() > 0
            || second_kind.load(Ordering::SeqCst) + refused.load(Ordering::SeqCst) < 101
        {
            std::thread::yield_now();
        }
        script.calm();
    }
}

/// B11: a thread that waits for the last destruction wakes up.
#[test]
fn b11_last_destruction_wakes_waiter() {
    let script = Script::new();
    let manager = builder(&script).max_pending(1).build(&spec("a+x")).unwrap();
    std::thread::scope(|scope| {
        for t in 0..2 {
            let manager = &manager;
            scope.spawn(move || {
                for i in 0..3_000 {
                    manager.switch(&spec(["a+x", "b+x", "b+y"][(i + t) % 3])).unwrap();
                    manager.flush().unwrap();
                }
            });
        }
    });
    assert_eq!((manager.stats().pending_destroy, script.alive()), (0, 1));
}

/// B27: work that is queued already takes no further reference.
#[test]
fn b27_queued_work_takes_no_reference() {
    let (script, manual) = (Script::new(), Arc::new(Manual::new()));
    let manager = builder(&script).executor(manual.clone()).build(&spec("a+x")).unwrap();
    let first = store(&manager, b"of a+x");
    manager.switch(&spec("b+x")).unwrap();
    let second = store(&manager, b"of b+x");
    for i in 0..1000 {
        manager.switch(&spec(["a+x", "b+x"][i % 2])).unwrap();
    }
    assert!(manual.pending() <= 2, "one job per pool, however often it was retired");
    assert!(manager.pools().iter().all(|pool| pool.references == 1), "{:?}", manager.pools());
    manual.run_all();
    first.free();
    second.free();
    manual.run_all();
    assert_eq!((manager.stats().pools_alive, script.alive()), (1, 1));
}

/// B32: a thread may end while its context lives on and other threads use it.
#[test]
fn b32_context_outlives_its_thread() {
    let manager = builder(&Script::new()).build(&spec("a+x")).unwrap();
    let pool = manager.current().unwrap();
    for _ in 0..50 {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    pool.codec()
                        .compress(b"block", 5, |out| assert_eq!(out, Some(&b"block"[..])))
                        .unwrap()
                });
            }
        });
    }
    let made = pool.codec().stats().contexts_made;
    assert!(made <= 40, "200 threads shared {made} contexts");
}

/// I5: after all objects are freed, only the current pool exists.
#[test]
fn i5_without_objects_only_current_pool_exists() {
    let script = Script::new();
    let manager = builder(&script).build(&spec("a+x")).unwrap();
    let mut stored = Vec::new();
    for i in 0..40 {
        stored.push(store(&manager, &[i]));
        manager.switch(&spec(["b+x", "b+y", "a+y", "a+x"][i as usize % 4])).unwrap();
    }
    assert_eq!(manager.stats().pools_alive, 4);
    stored.into_iter().for_each(Stored::free);
    manager.flush().unwrap();
    assert_eq!((manager.stats().pools_alive, script.alive()), (1, 1));
    assert_eq!(manager.pools()[0].label.spec, *manager.current().unwrap().spec());
}

/// A retired pool that is kept alive is in the snapshot, with its age and references.
#[test]
fn kept_retired_pool_is_in_snapshot() {
    let manager = builder(&Script::new()).build(&spec("a+x")).unwrap();
    let kept: Vec<_> = (0..3).map(|i| store(&manager, &[i])).collect();
    manager.switch(&spec("b+x")).unwrap();
    let pools = manager.pools();
    let stuck: Vec<_> = pools.iter().filter(|pool| pool.retired_for.is_some()).collect();
    assert_eq!(stuck.len(), 1);
    assert_eq!(
        (stuck[0].references, stuck[0].bytes_held, stuck[0].label.spec.to_string()),
        (3, 3, "a+x".into())
    );
    assert!(stuck[0].age >= stuck[0].retired_for.unwrap());
    kept.into_iter().for_each(Stored::free);
}

/// The spec of each pool, and every time one became current.
#[derive(Debug, Default)]
struct SwitchLog {
    specs: Mutex<HashMap<PoolId, String>>,
    became_current: Mutex<Vec<(PoolEventKind, PoolId)>>,
}

impl PoolObserver for SwitchLog {
    fn observe(&self, event: &PoolEvent<'_>) {
        match event.kind {
            PoolEventKind::Created => {
                self.specs.lock().insert(event.pool.id, event.pool.spec.to_string());
            }
            PoolEventKind::Published | PoolEventKind::Revived => {
                self.became_current.lock().push((event.kind, event.pool.id));
            }
            // Reported by a switch that has unlocked the mutex and not yet returned: now the other
            // one runs.
            PoolEventKind::Emptied => (0..50).for_each(|_| std::thread::yield_now()),
            _ => (),
        }
    }
}

/// Concurrent switches each return their own result, and the counts are right.
#[test]
fn concurrent_switches_return_own_results() {
    let (script, log) = (Script::new(), Arc::new(SwitchLog::default()));
    let manager = builder(&script).observer(log.clone()).build_idle().unwrap();
    let switch_often = |text: &str| -> Vec<_> {
        let told: Vec<_> = (0..2_000).map(|_| manager.switch(&spec(text)).unwrap()).collect();
        let specs = log.specs.lock();
        for switched in &told {
            assert_eq!(specs[&switched.pool_id()], text, "{switched:?}");
        }
        told
    };
    let told: Vec<Switched> = std::thread::scope(|scope| {
        let threads = ["a+y", "b+x"].map(|text| scope.spawn(move || switch_often(text)));
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    // Every pool that became current did so for one of the two switches, and only that one returned
    // it.
    let mut seen = log.became_current.lock().clone();
    let mut heard: Vec<_> = told
        .iter()
        .filter_map(|switched| match *switched {
            Switched::Created(id) => Some((PoolEventKind::Published, id)),
            Switched::Revived(id) => Some((PoolEventKind::Revived, id)),
            _ => None,
        })
        .collect();
    let by_pool =
        |&(kind, id): &(PoolEventKind, PoolId)| (id.get(), kind == PoolEventKind::Revived);
    seen.sort_by_key(by_pool);
    heard.sort_by_key(by_pool);
    assert_eq!((seen.len() as u64, &seen), (manager.stats().switches, &heard));
    manager.flush().unwrap();
    assert_eq!((manager.stats().pools_alive, script.alive()), (1, 1));
}
