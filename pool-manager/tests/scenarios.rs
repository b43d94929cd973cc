//! Scenarios from the kernel's history that concern the manager and have no better place (docs/scenarios.md has the table of all).

mod common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use common::*;
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
        panic!("no statistics today");
    }
}

#[test]
fn b3_an_observer_that_fails_stops_no_pool() {
    let script = Script::new();
    let manager = builder(&script).observer(Arc::new(Failing)).build(&spec("a+x")).unwrap();
    for text in ["b+x", "a+x"] {
        let stored = store(&manager, b"stored all the same");
        manager.switch(&spec(text)).unwrap();
        assert_eq!(stored.read(), b"stored all the same");
        stored.free();
    }
    manager.flush().unwrap();
    assert_eq!((script.alive(), manager.stats().pools_destroyed), (1, 2));
}

#[test]
fn b4_changing_a_parameter_after_a_failed_start_is_an_error_and_no_panic() {
    let script = Script::new();
    script.on_create(|| Err(CreateError::OutOfMemory));
    let manager = builder(&script).build_idle().unwrap();
    assert!(matches!(manager.switch(&spec("a+x")), Err(SwitchError::Create { .. })));
    assert!(matches!(manager.set_compressor(&component("y")), Err(SwitchError::Create { .. })));
    assert!(manager.current().is_none() && manager.pools().is_empty());
    script.calm();
    // What was asked for is remembered, so one parameter is enough now.
    manager.set_allocator(&component("b")).unwrap();
    assert_eq!(manager.current().unwrap().spec().to_string(), "b+y");
}

#[test]
fn b6_constructors_and_destructors_run_under_no_lock_that_readers_take() {
    let script = Script::new();
    let manager = Arc::new(builder(&script).build(&spec("a+x")).unwrap());
    let looks = Arc::new(AtomicUsize::new(0));
    let look = |manager: Weak<PoolManager>, looks: Arc<AtomicUsize>| {
        move || {
            if let Some(manager) = manager.upgrade() {
                // Each takes the list's lock, the gate's or a registry's: any of them held by the caller would hang here.
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

/// Destructors that leave work for the executor that runs them: b10 (a job of a pool that is gone), b39 and b40 (two kinds of work on one queue).
#[test]
fn b10_b39_b40_a_destructor_may_leave_work_and_the_end_completes_it() {
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
        // The queue's last owner may be one of its own jobs: then it ends by itself.
        while script.alive() > 0
            || second_kind.load(Ordering::SeqCst) + refused.load(Ordering::SeqCst) < 101
        {
            std::thread::yield_now();
        }
        script.calm();
    }
}

#[test]
fn b11_whoever_waits_for_the_last_destruction_wakes_up() {
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

#[test]
fn b27_work_that_is_queued_already_takes_no_further_reference() {
    let (script, manual) = (Script::new(), Arc::new(Manual::new()));
    let manager = builder(&script).executor(manual.clone()).build(&spec("a+x")).unwrap();
    let first = store(&manager, b"of a+x");
    manager.switch(&spec("b+x")).unwrap();
    let second = store(&manager, b"of b+x");
    for i in 0..1000 {
        manager.switch(&spec(["a+x", "b+x"][i % 2])).unwrap();
    }
    assert!(manual.pending() <= 2, "a job a pool, however often it was retired");
    assert!(manager.pools().iter().all(|pool| pool.references == 1), "{:?}", manager.pools());
    manual.run_all();
    first.free();
    second.free();
    manual.run_all();
    assert_eq!((manager.stats().pools_alive, script.alive()), (1, 1));
}

#[test]
fn b32_a_thread_may_end_while_its_context_lives_on_and_others_use_it() {
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

#[test]
fn i5_after_all_objects_are_gone_only_the_current_pool_exists() {
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

/// What is stuck is easy to see: a retired pool, for how long, and by how many references.
#[test]
fn a_retired_pool_that_something_keeps_is_seen_in_the_snapshot() {
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

/// Which pool was made of what, and each time one became current.
#[derive(Debug, Default)]
struct Register {
    specs: Mutex<HashMap<PoolId, String>>,
    became_current: Mutex<Vec<(PoolEventKind, PoolId)>>,
}

impl PoolObserver for Register {
    fn observe(&self, event: &PoolEvent<'_>) {
        match event.kind {
            PoolEventKind::Created => {
                self.specs.lock().insert(event.pool.id, event.pool.spec.to_string());
            }
            PoolEventKind::Published | PoolEventKind::Revived => {
                self.became_current.lock().push((event.kind, event.pool.id));
            }
            // Comes from a switcher that has given the mutex back and not yet returned: the other one's turn.
            PoolEventKind::Emptied => (0..50).for_each(|_| std::thread::yield_now()),
            _ => (),
        }
    }
}

/// A switch of one thread against one of another: each is told what its own switch did, and the books hold.
#[test]
fn two_switchers_take_turns_and_each_is_told_its_own_result() {
    let (script, register) = (Script::new(), Arc::new(Register::default()));
    let manager = builder(&script).observer(register.clone()).build_idle().unwrap();
    let switch_often = |text: &str| -> Vec<_> {
        let told: Vec<_> = (0..2_000).map(|_| manager.switch(&spec(text)).unwrap()).collect();
        let specs = register.specs.lock();
        for switched in &told {
            assert_eq!(specs[&switched.pool()], text, "{switched:?}");
        }
        told
    };
    let told: Vec<Switched> = std::thread::scope(|scope| {
        let threads = ["a+y", "b+x"].map(|text| scope.spawn(move || switch_often(text)));
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    // Whatever became current did so for one of the two, who was told so, and nobody else was.
    let mut seen = register.became_current.lock().clone();
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
