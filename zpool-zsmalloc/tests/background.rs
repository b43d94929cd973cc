//! The pool's job submits itself again only as long as it makes progress. If the pool is not used,
//! the series of jobs ends, whatever was left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use zpool_core::exec::Manual;
use zpool_core::page::{
    FaultPlan, FaultySource, HeapSource, ObservedSource, PageSource, SourceCall,
};
use zpool_core::spec::Component;
use zpool_core::{CompactionBudget, Handle, PoolConfig, ZPool, ZPoolDriver};
use zpool_zsmalloc::ZsmallocDriver;

use crate::common::Random;

/// More jobs than can be needed: one job moves some thousand objects, and there are fewer.
const JOBS: usize = 20;

/// A pool with an executor that runs jobs on request.
struct Kept {
    source: Arc<FaultySource>,
    executor: Arc<Manual>,
    pool: Box<dyn ZPool>,
}

impl Kept {
    fn new(params: &str) -> Kept {
        let source = Arc::new(FaultySource::new(Arc::new(HeapSource::new(4096)), FaultPlan::Never));
        let executor = Arc::new(Manual::new());
        let config = PoolConfig::new(source.clone(), 4096).with_executor(executor.clone());
        let spec: Component = format!("z({params})").parse().unwrap();
        let config = config.with_params(spec.params);
        Kept { source, executor, pool: ZsmallocDriver.create(&config).unwrap() }
    }

    /// Inserts objects of all classes, `each` of each length.
    fn fill(&self, each: usize) -> Vec<Handle> {
        let lengths = (100..4000).step_by(40).flat_map(|len| std::iter::repeat_n(len, each));
        lengths.map(|len| self.pool.insert(&vec![len as u8; len]).unwrap()).collect()
    }

    /// Runs jobs until none is left. Returns how many ran.
    fn drain(&self, when: &str) -> usize {
        for n in 0..=JOBS {
            if !self.executor.run_one() {
                self.pool.validate().unwrap();
                assert_eq!(self.executor.jobs_panicked(), 0, "{when}");
                return n;
            }
        }
        panic!("{when}: a job submits itself for ever: {:?} frames", self.source.charged_frames());
    }
}

/// Each class keeps one empty zspage for its next object. If these together are too much idle
/// memory, then they are released as well.
#[test]
fn job_ends_with_one_empty_zspage_per_class() {
    // A compacting pool releases them on the way.
    for params in ["compact=off", ""] {
        let kept = Kept::new(params);
        let used = kept.fill(40);
        kept.drain(&format!("{params:?}, filled"));
        used.into_iter().for_each(|handle| kept.pool.free(handle).unwrap());
        let jobs = kept.drain(&format!("{params:?}, all freed"));
        assert!(jobs > 0, "{params:?}: a job had something to do");
        assert!(kept.source.charged_frames() <= 32, "{} frames idle", kept.source.charged_frames());
    }
}

/// A call into the system interrupts every thread of the process, so one call releases the zspages
/// of many classes.
#[test]
fn empty_zspages_are_released_in_one_call() {
    let (reserved, released) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (zspages, calls) = (reserved.clone(), released.clone());
    let source = ObservedSource::new(Arc::new(HeapSource::new(4096)), move |call| {
        match call {
            SourceCall::Reserve(_) => zspages.fetch_add(1, Ordering::Relaxed),
            SourceCall::Release(_) | SourceCall::ReleaseAll(_) => {
                calls.fetch_add(1, Ordering::Relaxed)
            }
            _ => 0,
        };
    });
    let pool = ZsmallocDriver.create(&PoolConfig::new(Arc::new(source), 4096)).unwrap();
    let lengths = (100..4000).step_by(100);
    let handles: Vec<_> = lengths.map(|len| pool.insert(&vec![7; len]).unwrap()).collect();
    handles.into_iter().for_each(|handle| pool.free(handle).unwrap());
    assert!(pool.trim() > 0);
    let (zspages, calls) = (reserved.load(Ordering::Relaxed), released.load(Ordering::Relaxed));
    assert!(zspages > 30 && (1..=3).contains(&calls), "{calls} calls for {zspages} zspages");
}

/// The job compacts after churn, and the series of jobs ends.
#[test]
fn job_compacts_after_churn_and_ends() {
    let (kept, mut random) = (Kept::new(""), Random(77));
    let mut objects = kept.fill(60);
    for round in 0..5 {
        for _ in 0..objects.len() / 2 {
            kept.pool.free(objects.swap_remove(random.below(objects.len()))).unwrap();
        }
        kept.drain(&format!("half freed, round {round}"));
        objects.extend(kept.fill(20));
        kept.drain(&format!("refilled, round {round}"));
    }
    assert!(kept.pool.stats().moved_objects > 0, "the job compacts");
}

/// Compaction is due after a share of the present objects was freed, not of the most there ever
/// were.
#[test]
fn pool_that_was_once_large_compacts() {
    let frames = [0, 60_000].map(|once| {
        let (kept, mut random) = (Kept::new(""), Random(5));
        let many: Vec<_> = (0..once).map(|_| kept.pool.insert(&[1; 300]).unwrap()).collect();
        many.into_iter().for_each(|handle| kept.pool.free(handle).unwrap());
        kept.drain("all freed");
        kept.pool.trim();
        let lengths = (0..6000).map(|_| 1300 + random.below(400)).collect::<Vec<_>>();
        let mut objects: Vec<_> =
            lengths.iter().map(|&len| kept.pool.insert(&vec![1; len]).unwrap()).collect();
        while objects.len() > 300 {
            kept.pool.free(objects.swap_remove(random.below(objects.len()))).unwrap();
            kept.executor.run_all();
        }
        kept.source.charged_frames()
    });
    // 300 objects of 1500 bytes, the open ends of 25 classes, and what was freed since the last
    // job.
    assert!(frames.iter().all(|&frames| frames < 350), "{frames:?}");
}

/// A pool with frees only, and without statistics, trims or inserts, keeps no more than what its
/// last cached slots hold up.
#[test]
fn frees_alone_give_memory_back() {
    for (params, prompt) in [("", true), ("", false), ("compact=off", true), ("compact=off", false)]
    {
        for n in [2000, 12_000] {
            let (kept, mut random) = (Kept::new(params), Random(99));
            let lengths: Vec<_> = (0..n).map(|_| 1 + random.below(4096)).collect();
            let mut objects: Vec<_> =
                lengths.iter().map(|&len| kept.pool.insert(&vec![1; len]).unwrap()).collect();
            kept.drain("filled");
            let full = kept.source.charged_frames();
            while !objects.is_empty() {
                kept.pool.free(objects.swap_remove(random.below(objects.len()))).unwrap();
                if prompt && random.below(50) == 0 {
                    kept.executor.run_all();
                }
            }
            kept.executor.run_all();
            let left = kept.source.charged_frames();
            let most = match (params, prompt) {
                // The cached slots of two streaks, in a frame each.
                ("", true) => 2 * 256,
                // Each of them may be the last of its zspage, which has several frames.
                (_, true) => full / 3,
                // The one job, which was pending all the time, has seen everything.
                (_, false) => 32,
            };
            assert!(left <= most, "{params:?}, prompt: {prompt}, {n} objects: {left} of {full}");
        }
    }
}

/// Frames that are empty now may be needed a moment later. They go after a job during which they
/// were not needed.
#[test]
fn recently_used_frames_survive_one_job() {
    let kept = Kept::new("");
    let objects = kept.fill(60);
    kept.drain("filled");
    let full = kept.source.charged_frames();
    let free_every_second = |objects: Vec<Handle>| {
        let (go, stay): (Vec<_>, Vec<_>) =
            objects.into_iter().enumerate().partition(|(i, _)| i % 2 == 0);
        go.into_iter().for_each(|(_, handle)| kept.pool.free(handle).unwrap());
        stay.into_iter().map(|(_, handle)| handle).collect::<Vec<_>>()
    };
    let mut objects = free_every_second(objects);
    assert!(kept.executor.run_one(), "there is much to gain");
    assert_eq!((kept.source.charged_frames(), kept.pool.stats().moved_objects), (full, 0));
    objects.extend(kept.fill(30));
    assert_eq!(kept.source.charged_frames(), full, "none had to be charged again");
    kept.drain("refilled");
    let _objects = free_every_second(objects);
    kept.drain("half freed");
    let half = kept.source.charged_frames();
    assert!(half < full * 3 / 5, "{half} of {full} frames");
}

/// There is much to gain, but nothing that may be moved.
#[test]
fn job_ends_if_everything_is_pinned() {
    let kept = Kept::new("");
    let objects: Vec<_> = kept.fill(40).into_iter().enumerate().collect();
    let (stay, go): (Vec<_>, Vec<_>) = objects.into_iter().partition(|(i, _)| i % 4 == 0);
    let guards: Vec<_> = stay.iter().map(|(_, handle)| kept.pool.read(handle).unwrap()).collect();
    go.into_iter().for_each(|(_, handle)| kept.pool.free(handle).unwrap());
    kept.drain("pinned");
    drop(guards);
    kept.drain("guards gone");
}

/// A pool is in use even if its inserts fail. Its job ends once it has forgotten the peaks,
/// although there is still much to gain.
#[test]
fn job_ends_if_inserts_fail() {
    let kept = Kept::new("");
    let (stay, go): (Vec<_>, Vec<_>) =
        kept.fill(10).into_iter().enumerate().partition(|(i, _)| i % 4 == 0);
    kept.drain("filled");
    let guards: Vec<_> = stay.iter().map(|(_, handle)| kept.pool.read(handle).unwrap()).collect();
    go.into_iter().for_each(|(_, handle)| kept.pool.free(handle).unwrap());
    kept.source.plan(FaultPlan::From(0));
    let mut jobs = 0;
    loop {
        // No class has a place for it.
        assert!(kept.pool.insert(&[1; 4096]).is_err());
        if !kept.executor.run_one() {
            break;
        }
        jobs += 1;
        assert!(jobs < 300, "a job submits itself for ever");
    }
    assert!(jobs > 8, "1/32 of a peak at a time: {jobs} jobs");
    drop(guards);
}

/// A pool without an executor, and the number of calls that release memory.
fn inline_pool(params: &str) -> (Box<dyn ZPool>, Arc<ObservedSource>, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let source = ObservedSource::new(Arc::new(HeapSource::new(4096)), move |call| {
        if let SourceCall::Discard(_) | SourceCall::Release(_) | SourceCall::ReleaseAll(_) = call {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let source = Arc::new(source);
    let spec: Component = format!("z({params})").parse().unwrap();
    let config = PoolConfig::new(source.clone(), 4096).with_params(spec.params);
    (ZsmallocDriver.create(&config).unwrap(), source, calls)
}

/// Without an executor, an insert releases empty frames once 1/32 of the objects were freed since
/// the last time, and not before. Inserts meanwhile do not reset that count.
#[test]
fn insert_gives_back_after_enough_frees() {
    let (pool, source, calls) = inline_pool("");
    let mut objects: Vec<_> = (0..8000).map(|_| pool.insert(&[1; 1300]).unwrap()).collect();
    let full = source.charged_frames();
    // Neighbours, so that whole frames become empty.
    let mut replace = |count: usize| {
        for handle in objects.split_off(objects.len() - count) {
            pool.free(handle).unwrap();
        }
        pool.insert(&[2; 1300]).unwrap()
    };
    let _few: Vec<_> = (0..10).map(|_| replace(20)).collect();
    assert_eq!((calls.load(Ordering::Relaxed), source.charged_frames()), (0, full));
    let _much = replace(400);
    assert!(calls.load(Ordering::Relaxed) > 0);
    assert!(source.charged_frames() < full - 64, "{} of {full}", source.charged_frames());
    pool.validate().unwrap();
}

/// Without an executor, too, what counts is a share of the present objects.
#[test]
fn inline_pool_that_was_once_large_gives_back() {
    let (pool, source, _) = inline_pool("");
    let many: Vec<_> = (0..60_000).map(|_| pool.insert(&[1; 300]).unwrap()).collect();
    many.into_iter().for_each(|handle| pool.free(handle).unwrap());
    let objects = (0..1500).map(|_| pool.insert(&[1; 1300]).unwrap());
    // No zspage becomes empty.
    let (_stay, go): (Vec<_>, Vec<_>) = objects.enumerate().partition(|(i, _)| i % 20 == 0);
    let full = source.charged_frames();
    go.into_iter().for_each(|(_, handle)| pool.free(handle).unwrap());
    let _new = pool.insert(&[1; 1300]).unwrap();
    let left = source.charged_frames();
    assert!(left < full / 2, "{left} of {full} frames");
    pool.validate().unwrap();
}

/// Compaction sometimes needs frames, which the page source may refuse.
#[test]
fn job_ends_if_source_refuses() {
    let kept = Kept::new("");
    let objects: Vec<_> = kept.fill(40).into_iter().enumerate().collect();
    kept.pool.trim();
    kept.source.plan(FaultPlan::From(0));
    let (stay, go): (Vec<_>, Vec<_>) = objects.into_iter().partition(|(i, _)| i % 4 == 0);
    go.into_iter().for_each(|(_, handle)| kept.pool.free(handle).unwrap());
    kept.drain("no frames available");
    kept.source.plan(FaultPlan::Never);
    stay.into_iter().for_each(|(_, handle)| kept.pool.free(handle).unwrap());
    kept.drain("all freed");
    kept.pool.compact(CompactionBudget::UNLIMITED);
    assert_eq!(kept.pool.trim() + kept.source.charged_frames(), 0, "nothing is left");
}

/// Use of a part of the pool does not hold up the rest, although each freed object is cached first.
#[test]
fn frees_give_memory_back_during_inserts() {
    let (source, executor) = (Arc::new(HeapSource::new(4096)), Arc::new(Manual::new()));
    let config = PoolConfig::new(source.clone(), 65_536).with_executor(executor.clone());
    let pool = ZsmallocDriver.create(&config).unwrap();
    let lengths = (1024..=65_536).step_by(1024).flat_map(|len| std::iter::repeat_n(len, 12));
    let objects: Vec<_> = lengths.map(|len| pool.insert(&vec![1; len]).unwrap()).collect();
    let full = source.charged_frames();
    objects.into_iter().for_each(|handle| pool.free(handle).unwrap());
    let mut jobs = 0;
    for _ in 0..1000 {
        pool.free(pool.insert(&[1; 100]).unwrap()).unwrap();
        jobs += usize::from(executor.run_one());
    }
    let left = source.charged_frames();
    assert!(left < full / 20, "{left} of {full} frames are held without use");
    assert!(jobs < 200, "{jobs} jobs, with nothing to gain for most");
}

/// Frees every second object of those that `fill` inserts. Then repeatedly inserts and frees one,
/// with a job in between. Returns the frames at first, and after each job.
fn half_freed_and_in_use(fill: impl Fn(&Kept) -> Vec<Handle>, jobs: usize) -> (Kept, Vec<usize>) {
    let kept = Kept::new("");
    let handles = fill(&kept);
    kept.drain("filled");
    let mut frames = vec![kept.source.charged_frames()];
    let (go, stay): (Vec<_>, Vec<_>) =
        handles.into_iter().enumerate().partition(|(i, _)| i % 2 == 0);
    go.into_iter().for_each(|(_, handle)| kept.pool.free(handle).unwrap());
    for _ in 0..jobs {
        kept.pool.free(kept.pool.insert(&[1; 1300]).unwrap()).unwrap();
        assert!(kept.executor.run_one(), "there is much to gain");
        frames.push(kept.source.charged_frames());
    }
    drop(stay);
    (kept, frames)
}

/// Returns a function that inserts `objects` objects of one length.
fn alike(objects: usize) -> impl Fn(&Kept) -> Vec<Handle> {
    move |kept| (0..objects).map(|_| kept.pool.insert(&[1; 1300]).unwrap()).collect()
}

/// Decision 0022, point 2: a pool in use releases little by little what it has needed, and an
/// idle pool at once.
#[test]
fn pool_in_use_forgets_peaks_slowly() {
    let (kept, frames) = half_freed_and_in_use(alike(6000), 8);
    let full = frames[0];
    assert!(frames[8] < full, "a part is given back: {frames:?}");
    assert!(frames[8] > full * 4 / 5, "eight parts of 32 of a half are an eighth: {frames:?}");
    kept.drain("it is unused");
    assert!(
        kept.source.charged_frames() < full * 11 / 20,
        "{} of {full}",
        kept.source.charged_frames()
    );
}

/// 1/32 of a few slots is less than a slot: small classes forget no faster than a large one.
#[test]
fn small_classes_forget_no_faster_than_large() {
    let (kept, frames) = half_freed_and_in_use(|kept| kept.fill(12), 8);
    let full = frames[0];
    assert!(frames[8] > full * 4 / 5, "eight parts of 32 of a half are an eighth: {frames:?}");
    // In use as before, it has forgotten some jobs later.
    let later = (0..60).take_while(|_| {
        kept.pool.free(kept.pool.insert(&[1; 1300]).unwrap()).unwrap();
        kept.executor.run_one()
    });
    let jobs = later.count();
    let left = kept.source.charged_frames();
    assert!(jobs < 60 && left < full * 3 / 5, "{left} of {full} after {jobs} more jobs");
}

/// Decision 0022, point 3: less than 1/128 of the frames plus four is left for the next time.
#[test]
fn pool_in_use_gives_back_nothing_or_much() {
    let (_kept, frames) = half_freed_and_in_use(alike(1500), 20);
    let steps: Vec<_> =
        frames.windows(2).map(|pair| pair[0] - pair[1]).filter(|&step| step > 0).collect();
    let least = frames[20] / 128 + 4;
    assert!(steps.len() > 2 && steps.iter().all(|&step| step > least), "{steps:?}, of {frames:?}");
}
