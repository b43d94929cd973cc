//! Executors that do not run the pool's job: memory still comes back, with the next inserts.
#![cfg(not(zpool_loom))]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use zpool_core::exec::{Executor, ExecutorCapabilities, Job, Manual, Refused};
use zpool_core::page::{HeapSource, PageSource};
use zpool_core::{CheckPolicy, NoBlock, PoolConfig, ZPoolDriver, set_check_policy};
use zpool_testing::executors::{Fate, UnwillingExecutor};
use zpool_zsmalloc::ZsmallocDriver;

/// An insert does the work of a job that the executor refused, dropped, or panicked on.
#[test]
fn inserts_do_the_work_of_an_unrun_job() {
    for fate in [Fate::Refused, Fate::Dropped, Fate::Unwound, Fate::Kept, Fate::Leaked] {
        let executor = Arc::new(UnwillingExecutor::new(fate));
        let source: Arc<dyn PageSource> = Arc::new(HeapSource::new(4096));
        let config = PoolConfig::new(source.clone(), 4096).with_executor(executor.clone());
        let pool = ZsmallocDriver.create(&config).unwrap();
        let fill =
            |n: usize| -> Vec<_> { (0..n).map(|_| pool.insert(&[1; 1400]).unwrap()).collect() };
        let empty =
            |handles: Vec<_>| handles.into_iter().for_each(|handle| pool.free(handle).unwrap());

        for _ in 0..3 {
            let full = fill(4000);
            let held = source.charged_frames();
            empty(full);
            let few = fill(10);
            assert!(source.charged_frames() < held / 10, "{fate:?}, {}", source.charged_frames());
            empty(few);
            pool.validate().unwrap();
        }

        // An executor that works again gets the job.
        executor.set_willing(true);
        empty(fill(4000));
        assert!(executor.jobs().run_all() > 0, "{fate:?}");
        assert!(source.charged_frames() <= 64, "{fate:?}, {}", source.charged_frames());
        pool.validate().unwrap();
        drop(pool);
        assert_eq!(source.charged_frames(), 0);
    }
}

/// One insert makes the job that the executor leaked, so that later frees have one to submit.
#[test]
fn one_insert_makes_leaked_job() {
    let executor = Arc::new(UnwillingExecutor::new(Fate::Leaked));
    let config =
        PoolConfig::new(Arc::new(HeapSource::new(4096)), 4096).with_executor(executor.clone());
    let pool = ZsmallocDriver.create(&config).unwrap();
    let mut handles: Vec<_> = (0..8000).map(|_| pool.insert(&[1; 1400]).unwrap()).collect();
    handles.drain(4000..).for_each(|handle| pool.free(handle).unwrap());
    assert!(executor.unwilling_calls() > 0, "a job was leaked");
    executor.set_willing(true);
    handles.push(pool.insert(&[1; 1400]).unwrap());
    handles.into_iter().for_each(|handle| pool.free(handle).unwrap());
    assert!(executor.jobs().pending() > 0);
}

/// An executor panics on jobs that are to continue after the cooldown. No job is lost, and no other
/// call panics.
#[test]
fn job_refused_for_later_is_made_again() {
    /// Takes jobs for now, and panics on jobs for later.
    #[derive(Debug, Default)]
    struct NotLater {
        jobs: Manual,
        panics: AtomicUsize,
    }
    impl Executor for NotLater {
        fn submit(&self, job: Job) -> Result<(), Refused> {
            self.jobs.submit(job)
        }
        fn submit_later(&self, _delay: Duration, _job: Job) -> Result<(), Refused> {
            self.panics.fetch_add(1, Ordering::Relaxed);
            panic!("no clock");
        }
        fn capabilities(&self) -> ExecutorCapabilities {
            ExecutorCapabilities::CAUTIOUS.with_submit_in_no_block()
        }
    }
    let executor = Arc::new(NotLater::default());
    let source: Arc<dyn PageSource> = Arc::new(HeapSource::new(4096));
    let config = PoolConfig::new(source.clone(), 4096).with_executor(executor.clone());
    let pool = ZsmallocDriver.create(&config).unwrap();
    for round in 1..4 {
        let handles: Vec<_> = (0..4000).map(|_| pool.insert(&[1; 1400]).unwrap()).collect();
        let (go, stay): (Vec<_>, Vec<_>) =
            handles.into_iter().enumerate().partition(|(i, _)| i % 4 > 0);
        go.into_iter().for_each(|(_, handle)| pool.free(handle).unwrap());
        assert!(executor.jobs.run_all() > 0, "round {round}");
        assert!(executor.panics.load(Ordering::Relaxed) >= round);
        assert_eq!(executor.jobs.jobs_panicked(), 0, "round {round}");
        stay.into_iter().for_each(|(_, handle)| pool.free(handle).unwrap());
        executor.jobs.run_all();
        assert!(source.charged_frames() <= 512, "round {round}: {}", source.charged_frames());
        pool.validate().unwrap();
    }
}

/// Objects that stay keep their zspages. The empty frames between them are given back without
/// moving an object.
#[test]
fn empty_frames_go_back_without_compaction() {
    let unwilling = |fate| Some(Arc::new(UnwillingExecutor::new(fate)) as Arc<dyn Executor>);
    let manual = Arc::new(Manual::new());
    let cases = [
        ("no executor", "", None),
        ("refused", "", unwilling(Fate::Refused)),
        ("dropped", "", unwilling(Fate::Dropped)),
        ("no compaction", "compact=off", Some(manual.clone() as Arc<dyn Executor>)),
    ];
    for (what, params, executor) in cases {
        let source = Arc::new(HeapSource::new(4096));
        let spec: zpool_core::spec::Component = format!("z({params})").parse().unwrap();
        let mut config = PoolConfig::new(source.clone(), 4096).with_params(spec.params);
        if let Some(executor) = executor {
            config = config.with_executor(executor);
        }
        let pool = ZsmallocDriver.create(&config).unwrap();
        let insert = || pool.insert(&[7; 1490]).unwrap();
        let handles: Vec<_> = (0..4000).map(|_| insert()).collect();
        let full = source.charged_frames();
        // Runs of twenty, so that there are frames between those that stay.
        for (i, handle) in handles.into_iter().enumerate() {
            if i % 21 > 0 {
                pool.free(handle).unwrap();
            }
        }
        for _ in 0..200 {
            pool.free(insert()).unwrap();
        }
        while manual.run_one() {}
        let left = source.charged_frames();
        assert!(left < full / 2, "{what}: {left} of {full} frames");
        assert_eq!(pool.stats().moved_objects, 0, "{what}");
        pool.validate().unwrap();
        let after = pool.trim() / 4096;
        assert!(after <= full / 8, "{what}: {after} of {full} frames were left to release");
    }
}

/// An executor panics when its last reference is dropped, which is the pool's. The pool is still
/// torn down.
#[test]
fn drop_with_panicking_executor_frees_frames() {
    #[derive(Debug)]
    struct PanicsInDrop(Manual);
    impl Executor for PanicsInDrop {
        fn submit(&self, job: Job) -> Result<(), Refused> {
            self.0.submit(job)
        }
        fn submit_later(&self, delay: Duration, job: Job) -> Result<(), Refused> {
            self.0.submit_later(delay, job)
        }
        fn capabilities(&self) -> ExecutorCapabilities {
            self.0.capabilities()
        }
    }
    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            panic!("the executor panics when dropped");
        }
    }
    let source = Arc::new(HeapSource::new(4096));
    let config =
        PoolConfig::new(source.clone(), 4096).with_executor(Arc::new(PanicsInDrop(Manual::new())));
    let pool = ZsmallocDriver.create(&config).unwrap();
    drop(config);
    for _ in 0..100 {
        let _leaked = pool.insert(&[1; 3000]).unwrap();
    }
    drop(pool);
    assert_eq!(source.charged_frames(), 0);
}

/// A pool that is dropped in a no-block section reports that, and leaks nothing.
#[test]
fn drop_in_no_block_section_frees_frames() {
    set_check_policy(CheckPolicy::Panic);
    let source = Arc::new(HeapSource::new(4096));
    let pool = ZsmallocDriver.create(&PoolConfig::new(source.clone(), 4096)).unwrap();
    let _leaked = pool.insert(&[1; 3000]).unwrap();
    let dropped = catch_unwind(AssertUnwindSafe(|| {
        let _section = NoBlock::enter();
        drop(pool);
    }));
    assert!(dropped.is_err(), "a drop may block");
    assert_eq!(source.charged_frames(), 0);
}

/// Tables keep their size and are used again: as many objects as before need no more memory.
#[test]
fn tables_of_an_emptied_pool_are_reused() {
    let source = Arc::new(HeapSource::new(4096));
    let pool = ZsmallocDriver.create(&PoolConfig::new(source, 4096)).unwrap();
    let mut held = Vec::new();
    for _ in 0..3 {
        let handles: Vec<_> =
            (0..6000).map(|i| pool.insert(&vec![1; 1 + i * 7 % 4096]).unwrap()).collect();
        held.push(pool.stats().metadata_bytes);
        assert_eq!(pool.free_many(&mut handles.into_iter()), 0);
        pool.trim();
    }
    assert!(held.iter().all(|&bytes| bytes <= held[0]), "{held:?}");
}
