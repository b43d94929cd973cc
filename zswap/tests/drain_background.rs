//! Drains on the executor: after a switch, paused and resumed, at the limit, and when the store is
//! dropped. The executor runs its jobs when the test asks for it.

use std::sync::Arc;
use std::time::Duration;

use crate::common::pool::{OnInsert, PoolScript};
use crate::common::{SPECS, builder, check_books, scripted, spec, stamped};
use zpool_testing::executors::{Fate, UnwillingExecutor};
use zswap::drain::{DrainEnd, DrainPolicy, DrainProgress};
use zswap::plugin::{Inline, Manual};
use zswap::{BuildError, SequentialKeys, Store, Switched};

const KEYS: u64 = 2_000;

fn fill(store: &Store<u64>) {
    (0..KEYS).for_each(|key| store.store(key, stamped(key, 1, 300)).unwrap());
}

fn check(store: &Store<u64>) {
    for key in 0..KEYS {
        assert!(store.peek_vec(&key).unwrap() == Some(stamped(key, 1, 300)), "key {key}");
    }
    check_books(store);
}

fn manual() -> (Arc<Manual>, Store<u64>) {
    let executor = Arc::new(Manual::new());
    let store = builder().spec(spec(SPECS[0])).executor(executor.clone()).build().unwrap();
    fill(&store);
    (executor, store)
}

/// Runs jobs until the drain has moved something.
fn run_a_step(executor: &Manual, store: &Store<u64>) {
    while store.drain_progress().moved == 0 {
        assert!(executor.run_one(), "an active drain has a job");
    }
}

fn counts(progress: DrainProgress) -> (bool, bool, usize, usize) {
    (progress.is_active, progress.is_paused, progress.moved, progress.remaining)
}

/// A drain on the executor goes step by step, reports its progress, and ends when nothing is left.
#[test]
fn background_drain_goes_in_steps() {
    let (executor, store) = manual();
    assert_eq!(counts(store.drain_progress()), (false, false, 0, 0));
    store.switch_and_drain(&spec("zsmalloc+lz4")).unwrap();
    assert_eq!(counts(store.drain_progress()), (true, false, 0, KEYS as usize));
    let (mut steps, mut before) = (0, 0);
    while store.drain_progress().is_active {
        assert!(executor.run_one(), "an active drain has a job");
        let progress = store.drain_progress();
        assert!(progress.moved >= before && progress.moved - before <= 256);
        assert_eq!(progress.moved + progress.remaining, KEYS as usize);
        (steps, before) = (steps + 1, progress.moved);
    }
    assert!(steps > KEYS / 256, "{steps} steps");
    let progress = store.drain_progress();
    assert_eq!((progress.last_end, progress.remaining), (Some(DrainEnd::Empty), 0));
    executor.run_all();
    assert_eq!(store.manager().stats().pools_alive, 1);
    check(&store);
}

/// A paused drain does nothing until it is resumed, and none begins meanwhile.
#[test]
fn background_drain_paused_waits() {
    let (executor, store) = manual();
    store.switch_and_drain(&spec("zsmalloc+lz4")).unwrap();
    run_a_step(&executor, &store);
    store.pause_drain();
    executor.run_all();
    let paused = store.drain_progress();
    assert!(paused.is_paused && !paused.is_active && paused.remaining > 0, "{paused:?}");
    store.switch_and_drain(&spec("zbud+lz4")).unwrap();
    executor.run_all();
    assert_eq!(counts(store.drain_progress()), (false, true, 0, KEYS as usize));
    store.resume_drain();
    executor.run_all();
    assert_eq!(counts(store.drain_progress()), (false, false, KEYS as usize, 0));
    check(&store);
    // With nothing to do, resuming does not begin a drain.
    store.resume_drain();
    assert_eq!((store.drain_progress().is_active, executor.pending()), (false, 0));
}

/// A switch while a drain runs redirects it: in the end the newest pool has everything.
#[test]
fn background_drain_newer_switch_turns_it() {
    let (executor, store) = manual();
    store.switch_and_drain(&spec("zsmalloc+lz4")).unwrap();
    run_a_step(&executor, &store);
    store.switch_and_drain(&spec("zbud+lz4")).unwrap();
    run_a_step(&executor, &store);
    // A switch back to a pool that still has blocks.
    store.switch_and_drain(&spec("zsmalloc+lz4")).unwrap();
    executor.run_all();
    assert_eq!(store.drain_progress().remaining, 0);
    let manager = store.manager();
    assert_eq!((manager.stats().pools_alive, manager.stats().pools_revived), (1, 1));
    assert_eq!(*manager.current().unwrap().spec(), spec("zsmalloc+lz4"));
    check(&store);
}

/// With a policy, each kind of switch begins a drain; without one, none does.
#[test]
fn policy_after_drains_after_each_switch() {
    let idle = Duration::from_millis(1);
    for (policy, drained) in [
        (DrainPolicy::Never, false),
        (DrainPolicy::After { idle, share_percent: 30 }, true),
        (DrainPolicy::After { idle: Duration::ZERO, share_percent: 100 }, true),
    ] {
        let executor = Arc::new(Manual::new());
        let store = builder().executor(executor.clone()).drain(policy).build().unwrap();
        fill(&store);
        let lz4 = "lz4".parse::<zswap::Component>().unwrap();
        let switches: [&dyn Fn() -> Switched; 3] = [
            &|| store.switch(&spec("zsmalloc+rle")).unwrap(),
            &|| store.set_compressor(&lz4).unwrap(),
            &|| store.set_allocator(&zswap::Component::named("zbud")).unwrap(),
        ];
        for switch in switches {
            assert!(matches!(switch(), Switched::Created(_)));
            executor.run_all();
            assert_eq!(store.drain_progress().remaining == 0, drained, "{policy:?}");
        }
        assert_eq!(store.stats().moved, if drained { 3 * KEYS } else { 0 });
        // A switch to the current spec begins nothing.
        store.switch(&spec("zbud+lz4")).unwrap();
        assert_eq!(executor.pending(), 0);
        check(&store);
    }
}

/// Switches within the idle time begin one drain together.
#[test]
fn policy_idle_begins_anew_with_each_switch() {
    let executor = Arc::new(Manual::new());
    let policy = DrainPolicy::After { idle: Duration::from_millis(1), share_percent: 30 };
    let store = builder().executor(executor.clone()).drain(policy).build().unwrap();
    fill(&store);
    store.switch(&spec("zsmalloc+rle")).unwrap();
    store.switch(&spec("zbud+lz4")).unwrap();
    // The first job is for the older switch: it only waits again.
    while store.drain_progress().remaining == KEYS as usize && executor.run_one() {}
    executor.run_all();
    assert_eq!((store.drain_progress().remaining, store.stats().moved), (0, KEYS));
}

/// A drain without memory tries again a bounded number of times, then waits to be resumed.
#[test]
fn background_drain_without_memory_gives_up() {
    let (pool, executor) = (PoolScript::new(), Arc::new(Manual::new()));
    let store = scripted(pool.clone(), Arc::default())
        .spec(spec("zsmalloc+lz4"))
        .executor(executor.clone())
        .build()
        .unwrap();
    fill(&store);
    pool.on_insert(OnInsert::OutOfMemory);
    store.switch_and_drain(&spec("scripted+lz4")).unwrap();
    let jobs = executor.run_all();
    assert!((2..1_000).contains(&jobs), "{jobs} jobs");
    let progress = store.drain_progress();
    assert_eq!(progress.last_end, Some(DrainEnd::OutOfMemory));
    assert_eq!(counts(progress), (false, false, 0, KEYS as usize));
    pool.on_insert(OnInsert::Work);
    store.resume_drain();
    executor.run_all();
    assert_eq!(store.drain_progress().remaining, 0);
    check(&store);
}

/// An executor that runs jobs on the caller drains before the switch returns.
#[test]
fn background_drain_on_caller_is_done_at_once() {
    let store =
        builder().spec(spec("zsmalloc+lz4")).executor(Arc::new(Inline::default())).build().unwrap();
    fill(&store);
    store.switch_and_drain(&spec("zbud+lz4")).unwrap();
    assert_eq!(counts(store.drain_progress()), (false, false, KEYS as usize, 0));
    assert_eq!(store.manager().stats().pools_alive, 1);
    check(&store);
}

/// A store can be dropped while a drain waits for its next step; and the default executor drains
/// by itself.
#[test]
fn background_drain_does_not_keep_store() {
    let (executor, store) = manual();
    store.switch_and_drain(&spec("zsmalloc+lz4")).unwrap();
    run_a_step(&executor, &store);
    drop(store);
    executor.run_all();
    assert_eq!(executor.jobs_panicked(), 0);

    let store = builder().spec(spec("zsmalloc+lz4")).build().unwrap();
    fill(&store);
    store.switch_and_drain(&spec("zbud+lz4")).unwrap();
    while store.drain_progress().is_active {
        std::thread::yield_now();
    }
    assert_eq!(store.drain_progress().last_end, Some(DrainEnd::Empty));
    check(&store);
}

#[test]
fn policy_builder_errors_name_the_setting() {
    let policy = |share_percent| DrainPolicy::After { idle: Duration::ZERO, share_percent };
    for share in [0, 101] {
        let error = builder().drain(policy(share)).build().unwrap_err();
        assert!(matches!(error, BuildError::DrainShare(percent) if percent == share), "{error}");
    }
    let error = builder().drain(policy(10)).hasher(SequentialKeys::default()).build().unwrap_err();
    assert!(matches!(error, BuildError::DrainBeforeHasher), "{error}");
    builder().hasher(SequentialKeys::default()).drain(policy(10)).build().unwrap();
}

/// An executor that does not take the next step ends the drain, whatever it does with the job. The
/// next request begins another one. (A forgotten job cannot be distinguished from one that is
/// kept.)
#[test]
fn drain_survives_unwilling_executor() {
    for fate in [Fate::Refused, Fate::Dropped, Fate::Unwound, Fate::Kept] {
        let executor = Arc::new(UnwillingExecutor::new(fate));
        executor.set_willing(true);
        let store = builder().spec(spec(SPECS[0])).executor(executor.clone()).build().unwrap();
        fill(&store);
        store.switch_and_drain(&spec(SPECS[1])).unwrap();
        run_a_step(executor.jobs(), &store);
        executor.set_willing(false);
        // The jobs that wait, one of which is a step; it submits the next one.
        for _ in 0..executor.jobs().pending() {
            executor.jobs().run_one();
        }
        let progress = store.drain_progress();
        assert!(progress.remaining > 0, "{fate:?}: two steps do not move all");
        assert_eq!(progress.is_active, fate == Fate::Kept, "{fate:?}: {progress:?}");
        executor.set_willing(true);
        store.resume_drain();
        executor.jobs().run_all();
        assert_eq!(counts(store.drain_progress()).3, 0, "{fate:?}");
        check(&store);
    }
}
