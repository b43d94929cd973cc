//! Pages that become empty: a few are kept, the others are released in bulk, never by `free`
//! itself.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use zpool_core::exec::{DrainExecutor, Executor, Inline, Manual};
use zpool_core::page::{
    FaultPlan, FaultySource, HeapSource, MmapSource, ObservedSource, PageSource, SourceCall,
};
use zpool_core::{CheckPolicy, Handle, NoBlock, PoolConfig, ZPool, ZPoolDriver, set_check_policy};
use zpool_testing::executors::{Fate, ScriptedExecutor, UnwillingExecutor, refuse};
use zpool_zbud::ZbudDriver;

const PAGES: usize = 500;
/// Empty pages that a pool with pages of 4 KiB keeps at most, and after a release.
const MOST: usize = 32;
const AFTER: usize = 8;

fn pool(executor: Option<Arc<dyn Executor>>) -> (Box<dyn ZPool>, Arc<FaultySource>) {
    pool_over(Arc::new(HeapSource::new(4096)), executor)
}

fn pool_over(
    source: Arc<dyn PageSource>,
    executor: Option<Arc<dyn Executor>>,
) -> (Box<dyn ZPool>, Arc<FaultySource>) {
    let source = Arc::new(FaultySource::new(source, FaultPlan::Never));
    let mut config = PoolConfig::new(source.clone(), 4096);
    config.executor = executor;
    (ZbudDriver.create(&config).unwrap(), source)
}

fn fill(pool: &dyn ZPool) -> Vec<Handle> {
    (0..PAGES).map(|i| pool.insert(&[i as u8; 4096]).unwrap()).collect()
}

fn free_all(pool: &dyn ZPool, handles: Vec<Handle>) {
    handles.into_iter().for_each(|handle| pool.free(handle).unwrap());
}

/// Creating a pool does not call the page source.
#[test]
fn new_pool_calls_no_page_source() {
    let (pool, source) = pool(None);
    assert_eq!((source.calls(), pool.stats().resident_frames), (0, 0));
}

/// Without an executor, inserts release empty pages in bulk.
#[test]
fn inserts_release_in_bulk_without_executor() {
    let (pool, source) = pool(None);
    let handles = fill(&*pool);
    free_all(&*pool, handles);
    assert_eq!(source.charged_frames(), PAGES, "free releases nothing itself");
    let mut charged = vec![PAGES];
    for _ in 0..20 {
        let _ = pool.insert(&[1]).unwrap();
        charged.push(source.charged_frames());
    }
    let steps: Vec<_> = charged.windows(2).map(|w| w[0] - w[1]).filter(|&step| step > 0).collect();
    assert!(steps.iter().all(|&step| step <= 64), "one batch per insert: {steps:?}");
    assert!(*charged.last().unwrap() <= MOST + 10, "20 objects and what is kept: {charged:?}");
    pool.validate().unwrap();
}

/// A few empty pages are kept and used again.
#[test]
fn few_empty_pages_are_kept_and_reused() {
    let (pool, source) = pool(None);
    let handles: Vec<_> = (0..MOST).map(|_| pool.insert(&[1; 4096]).unwrap()).collect();
    free_all(&*pool, handles);
    let calls = source.calls();
    let handles: Vec<_> = (0..MOST).map(|_| pool.insert(&[2; 4096]).unwrap()).collect();
    assert_eq!((source.calls(), source.charged_frames()), (calls, MOST));
    free_all(&*pool, handles);
    assert_eq!((pool.trim(), source.charged_frames()), (MOST * 4096, 0));
}

/// An insert in a no-block section leaves the surplus to later calls.
#[test]
fn insert_in_no_block_section_releases_nothing() {
    set_check_policy(CheckPolicy::Panic);
    let (pool, source) = pool(None);
    let handles = fill(&*pool);
    free_all(&*pool, handles);
    let handle = {
        let _section = NoBlock::enter();
        pool.insert(&[1; 4096]).unwrap()
    };
    assert_eq!(source.charged_frames(), PAGES);
    let other = pool.insert(&[2; 4096]).unwrap();
    assert!(source.charged_frames() < PAGES);
    free_all(&*pool, vec![handle, other]);
}

/// The executor gets one job, which releases all empty pages but a few.
#[test]
fn executor_gets_one_job_for_all_but_a_few() {
    let manual = Arc::new(Manual::new());
    let (pool, source) = pool(Some(manual.clone()));
    for round in 1..=3 {
        let handles = fill(&*pool);
        free_all(&*pool, handles);
        assert_eq!((manual.pending(), source.charged_frames()), (1, PAGES), "round {round}");
        manual.run_all();
        assert_eq!(source.charged_frames(), AFTER, "round {round}");
        pool.validate().unwrap();
    }
    assert_eq!((manual.jobs_run(), manual.jobs_panicked()), (3, 0));
}

/// The last guard of a zombie submits the job as a free does.
#[test]
fn last_guard_submits_the_job() {
    let manual = Arc::new(Manual::new());
    let (pool, _) = pool(Some(manual.clone()));
    let handles = fill(&*pool);
    let guards: Vec<_> = handles.iter().map(|handle| pool.read(handle).unwrap()).collect();
    free_all(&*pool, handles);
    assert_eq!(manual.pending(), 0);
    drop(guards);
    assert_eq!(manual.pending(), 1);
}

/// A job that runs after its pool was dropped does nothing.
#[test]
fn job_after_drop_does_nothing() {
    let manual = Arc::new(Manual::new());
    let (pool, source) = pool(Some(manual.clone()));
    let handles = fill(&*pool);
    free_all(&*pool, handles);
    drop(pool);
    assert_eq!((manual.pending(), source.charged_frames()), (1, 0));
    manual.run_all();
    assert_eq!(manual.jobs_panicked(), 0);
}

/// If the executor refuses the job, inserts release the pages.
#[test]
fn refusing_executor_loses_nothing() {
    let manual = Arc::new(Manual::new());
    manual.shutdown().unwrap();
    let (pool, source) = pool(Some(manual));
    for _ in 0..3 {
        let handles = fill(&*pool);
        free_all(&*pool, handles);
    }
    assert_eq!((pool.trim(), source.charged_frames()), (PAGES * 4096, 0));
    pool.validate().unwrap();
}

/// A job that was refused is submitted again by a later free.
#[test]
fn refused_job_is_submitted_again() {
    let manual = Arc::new(Manual::new());
    let (jobs, refused) = (manual.clone(), AtomicBool::new(false));
    let executor = ScriptedExecutor::in_no_block(move |job| {
        if refused.swap(true, Ordering::Relaxed) { jobs.submit(job) } else { refuse(job) }
    });
    let (pool, source) = pool(Some(Arc::new(executor)));
    let handles = fill(&*pool);
    free_all(&*pool, handles);
    assert_eq!(manual.run_all(), 1);
    assert_eq!(source.charged_frames(), AFTER);
}

/// An executor that may not be used in a no-block section is not used.
#[test]
fn executor_that_blocks_is_not_used() {
    let inline = Arc::new(Inline::new());
    let (pool, source) = pool(Some(inline.clone()));
    let handles = fill(&*pool);
    free_all(&*pool, handles);
    assert_eq!((inline.jobs_run(), source.charged_frames()), (0, PAGES));
}

/// A pool that is dropped in a no-block section reports that, and still releases everything.
#[test]
fn drop_in_no_block_section_releases_all() {
    set_check_policy(CheckPolicy::Panic);
    let (pool, source) = pool(None);
    let handles = fill(&*pool);
    let found = {
        let _section = NoBlock::enter();
        catch_unwind(AssertUnwindSafe(|| drop(pool)))
    };
    assert!(found.is_err());
    assert_eq!((source.charged_frames(), handles.len()), (0, PAGES));
}

/// B10: a pool that is dropped while its job is submitted, pending or running releases everything,
/// and the job does not touch it afterwards.
#[test]
fn b10_drop_during_job_releases_all() {
    for _ in 0..40 {
        let manual = Arc::new(Manual::new());
        // Mapped frames: their release takes time, and a later touch would be noticed.
        let (pool, source) = pool_over(Arc::new(MmapSource::new()), Some(manual.clone()));
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    manual.run_all();
                    thread::yield_now();
                }
            });
            let handles = fill(&*pool);
            free_all(&*pool, handles);
            drop(pool);
            assert_eq!(
                source.charged_frames(),
                0,
                "right after the drop, whatever the job is doing"
            );
            done.store(true, Ordering::Release);
        });
        manual.run_all();
        assert_eq!((manual.jobs_panicked(), source.charged_frames()), (0, 0));
    }
}

#[test]
fn threads_free_while_the_job_runs() {
    let manual = Arc::new(Manual::new());
    let (pool, source) = pool(Some(manual.clone()));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let handles = fill(&*pool);
                    free_all(&*pool, handles);
                    manual.run_all();
                }
            });
        }
    });
    manual.run_all();
    pool.validate().unwrap();
    assert!(source.charged_frames() <= MOST, "{} pages are left", source.charged_frames());
    pool.trim();
    assert_eq!(source.charged_frames(), 0);
}

/// Other threads empty pages as fast as a trim releases them. It releases those that were empty
/// when it began, and ends.
#[test]
fn trim_ends_while_pages_become_empty() {
    let stage: Arc<OnceLock<&'static dyn ZPool>> = Arc::default();
    let pool_of_source = stage.clone();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let observe = move |call| {
        if let (SourceCall::Uncharge(_), Some(pool)) = (call, pool_of_source.get()) {
            assert!(count.fetch_add(1, Ordering::Relaxed) < 1000, "the trim does not end");
            pool.free(pool.insert(&[1]).unwrap()).unwrap();
        }
    };
    let source = Arc::new(ObservedSource::new(Arc::new(HeapSource::new(4096)), observe));
    // The closure needs a pool that outlives the source: the memory of one test is leaked.
    let pool: &'static dyn ZPool =
        Box::leak(ZbudDriver.create(&PoolConfig::new(source, 4096)).unwrap());
    stage.set(pool).expect("set once");
    // Too few for an insert to release any.
    let handles = (0..MOST).map(|_| pool.insert(&[1; 4096]).unwrap()).collect();
    free_all(pool, handles);
    assert_eq!((pool.trim(), calls.load(Ordering::Relaxed)), (MOST * 4096, 1));
    assert_eq!(pool.stats().resident_frames, 1);
    pool.validate().unwrap();
}

/// After a panic of the source at any call of a trim, the next trim releases all that is empty.
/// Only an uncharge that did not reach the source stays charged.
#[test]
fn trim_after_source_panic_releases_the_rest() {
    for nth in 0.. {
        let (armed, calls) = (Arc::new(AtomicBool::new(false)), AtomicUsize::new(0));
        let (breaks, unheard) = (armed.clone(), Arc::new(AtomicUsize::new(0)));
        let lost = unheard.clone();
        let observe = move |call| {
            if breaks.load(Ordering::Relaxed) && calls.fetch_add(1, Ordering::Relaxed) == nth {
                if let SourceCall::Uncharge(frames) = call {
                    lost.store(frames, Ordering::Relaxed);
                }
                panic!("on purpose, in {call:?}");
            }
        };
        let source = Arc::new(ObservedSource::new(Arc::new(HeapSource::new(4096)), observe));
        let pool = ZbudDriver.create(&PoolConfig::new(source.clone(), 4096)).unwrap();
        let mut handles = fill(&*pool);
        // Every other page, so that each is a range of its own.
        let (kept, freed): (Vec<_>, Vec<_>) =
            handles.drain(..).enumerate().partition(|(i, _)| i % 2 == 0);
        free_all(&*pool, freed.into_iter().map(|(_, handle)| handle).collect());
        armed.store(true, Ordering::Relaxed);
        let broken = catch_unwind(AssertUnwindSafe(|| pool.trim())).is_err();
        armed.store(false, Ordering::Relaxed);
        pool.validate().unwrap();
        pool.trim();
        assert_eq!(pool.stats().resident_frames, PAGES / 2, "call {nth}");
        assert_eq!(
            source.charged_frames(),
            PAGES / 2 + unheard.load(Ordering::Relaxed),
            "call {nth}"
        );
        free_all(&*pool, kept.into_iter().map(|(_, handle)| handle).collect());
        if !broken {
            assert!(nth > 200, "one call per stretch: {nth}");
            break;
        }
    }
}

/// A panic of the executor leaves neither a free nor a guard's drop, whatever became of the job.
/// When the executor works again, it gets a job from the next free.
#[test]
fn submit_panic_is_contained_and_the_job_stays() {
    for fate in [Fate::Unwound, Fate::Kept, Fate::Leaked] {
        let executor = Arc::new(UnwillingExecutor::new(fate));
        let (pool, source) = pool(Some(executor.clone()));
        let mut handles = fill(&*pool);
        let last = handles.pop().unwrap();
        let guarded = handles.split_off(PAGES / 2);
        let guards: Vec<_> = guarded.iter().map(|handle| pool.read(handle).unwrap()).collect();
        free_all(&*pool, handles);
        let in_free = executor.unwilling_calls();
        free_all(&*pool, guarded);
        drop(guards);
        assert!(in_free > 0 && executor.unwilling_calls() > in_free);
        assert_eq!((pool.stats().objects, pool.stats().zombies), (1, 0));
        pool.validate().unwrap();
        executor.set_willing(true);
        pool.free(last).unwrap();
        assert!(executor.jobs().run_all() > 0, "{fate:?}");
        assert_eq!((source.charged_frames(), executor.jobs().jobs_panicked()), (AFTER, 0));
        pool.validate().unwrap();
    }
}

/// An executor that drops jobs unrun does not make the pool lose its job.
#[test]
fn job_dropped_unrun_is_made_again() {
    let executor = Arc::new(UnwillingExecutor::new(Fate::Dropped));
    let (pool, source) = pool(Some(executor.clone()));
    let mut handles = fill(&*pool);
    let last = handles.pop().unwrap();
    free_all(&*pool, handles);
    executor.set_willing(true);
    pool.free(last).unwrap();
    assert_eq!(executor.jobs().run_all(), 1);
    assert_eq!(source.charged_frames(), AFTER);
}

/// A page source that panics in the job does not make the pool lose its job.
#[test]
fn job_that_panics_is_made_again() {
    let broken = Arc::new(AtomicBool::new(true));
    let breaks = broken.clone();
    let observe = move |call| {
        if let SourceCall::Discard(_) = call {
            assert!(!breaks.load(Ordering::Relaxed), "on purpose");
        }
    };
    let observed = Arc::new(ObservedSource::new(Arc::new(HeapSource::new(4096)), observe));
    let manual = Arc::new(Manual::new());
    let (pool, source) = pool_over(observed, Some(manual.clone()));
    let mut handles = fill(&*pool);
    let last = handles.pop().unwrap();
    free_all(&*pool, handles);
    manual.run_all();
    assert_eq!((manual.jobs_panicked(), manual.pending(), source.charged_frames()), (1, 0, PAGES));
    broken.store(false, Ordering::Relaxed);
    pool.free(last).unwrap();
    manual.run_all();
    assert_eq!((manual.jobs_panicked(), source.charged_frames()), (1, AFTER));
    pool.validate().unwrap();
}

/// A page source that panics when the pool is dropped leaves no frame charged, and does not abort a
/// thread that already unwinds.
#[test]
fn drop_over_a_panicking_source_uncharges() {
    let broken = Arc::new(AtomicBool::new(false));
    let breaks = broken.clone();
    let observe = move |call| {
        if let SourceCall::ReleaseAll(_) = call {
            assert!(!breaks.load(Ordering::Relaxed), "on purpose");
        }
    };
    let observed = Arc::new(ObservedSource::new(Arc::new(HeapSource::new(4096)), observe));
    for unwinding in [false, true] {
        let (pool, source) = pool_over(observed.clone(), None);
        let _handles = fill(&*pool);
        broken.store(true, Ordering::Relaxed);
        let dropped = catch_unwind(AssertUnwindSafe(move || {
            let _pool = pool;
            assert!(!unwinding, "on purpose");
        }));
        broken.store(false, Ordering::Relaxed);
        assert!(dropped.is_err());
        assert_eq!(source.charged_frames(), 0, "unwinding: {unwinding}");
    }
}
