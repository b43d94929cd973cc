//! The pool's job submits itself again only as long as it gets on: when nobody uses the pool, running jobs comes to an end, whatever was left behind.

mod common;

use std::sync::Arc;

use zpool_core::exec::Manual;
use zpool_core::page::{FaultPlan, FaultySource, HeapSource, PageSource};
use zpool_core::spec::Component;
use zpool_core::{CompactionBudget, Handle, PoolConfig, ZPool, ZPoolDriver};
use zpool_zsmalloc::ZsmallocDriver;

use common::Random;

/// A job moves some thousand objects, and there are fewer: that many jobs are more than there can be use for.
const JOBS: usize = 20;

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

    /// Objects of all classes, `each` of each length that is looked at.
    fn fill(&self, each: usize) -> Vec<Handle> {
        let lengths = (100..4000).step_by(40).flat_map(|len| std::iter::repeat_n(len, each));
        lengths.map(|len| self.pool.insert(&vec![len as u8; len]).unwrap()).collect()
    }

    /// Runs jobs until there are none left. Returns how many ran.
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

/// One empty zspage is kept a class, in case the next object wants it. Where those together are too much idle, they go, too.
#[test]
fn one_empty_zspage_of_each_of_many_classes_is_no_endless_work() {
    // Where it compacts, that gives them back in passing.
    for params in ["compact=off", ""] {
        let kept = Kept::new(params);
        let mut used = kept.fill(40);
        kept.drain(&format!("{params:?}, filled"));
        let last = used.split_off(used.len() - 40);
        used.into_iter().for_each(|handle| kept.pool.free(handle).unwrap());
        // Takes the spare slots back, without which no zspage is empty.
        assert_eq!(kept.pool.stats().objects, last.len());
        last.into_iter().for_each(|handle| kept.pool.free(handle).unwrap());
        let jobs = kept.drain(&format!("{params:?}, all freed"));
        assert!(jobs > 0, "{params:?}: a job had something to do");
        assert!(kept.source.charged_frames() <= 32, "{} frames idle", kept.source.charged_frames());
    }
}

#[test]
fn the_job_ends_after_churn_and_compacts_meanwhile() {
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

/// What one moment leaves empty the next one wants again: frames go once a job has come and gone without their being needed.
#[test]
fn frames_that_were_needed_of_late_are_kept_until_the_next_job() {
    let kept = Kept::new("");
    let objects = kept.fill(60);
    kept.drain("filled");
    let full = kept.source.charged_frames();
    let free_every_second = |objects: Vec<Handle>| {
        let (go, stay): (Vec<_>, Vec<_>) = objects.into_iter().enumerate().partition(|(i, _)| i % 2 == 0);
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
fn the_job_ends_where_everything_is_pinned() {
    let kept = Kept::new("");
    let objects: Vec<_> = kept.fill(40).into_iter().enumerate().collect();
    let (stay, go): (Vec<_>, Vec<_>) = objects.into_iter().partition(|(i, _)| i % 4 == 0);
    let guards: Vec<_> = stay.iter().map(|(_, handle)| kept.pool.read(handle).unwrap()).collect();
    go.into_iter().for_each(|(_, handle)| kept.pool.free(handle).unwrap());
    kept.drain("pinned");
    drop(guards);
    kept.drain("guards gone");
}

/// Compaction needs frames now and then, which the page source may refuse.
#[test]
fn the_job_ends_where_the_source_has_nothing() {
    let kept = Kept::new("");
    let objects: Vec<_> = kept.fill(40).into_iter().enumerate().collect();
    kept.pool.trim();
    kept.source.plan(FaultPlan::From(0));
    let (stay, go): (Vec<_>, Vec<_>) = objects.into_iter().partition(|(i, _)| i % 4 == 0);
    go.into_iter().for_each(|(_, handle)| kept.pool.free(handle).unwrap());
    kept.drain("no frames to be had");
    kept.source.plan(FaultPlan::Never);
    stay.into_iter().for_each(|(_, handle)| kept.pool.free(handle).unwrap());
    kept.drain("all freed");
    kept.pool.compact(CompactionBudget::UNLIMITED);
    assert_eq!(kept.pool.trim() + kept.source.charged_frames(), 0, "nothing is left");
}
