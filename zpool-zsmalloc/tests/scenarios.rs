//! Scenarios from the history of the kernel's zsmalloc, by number, and what is peculiar to this pool.
//!
//! Not here because they cannot happen: B11 (nobody waits for readers: a pool is dropped when nobody borrows it), B17 (a free slot's link
//! is never taken for an object: the state is in the same word), B48 (an object's bytes are contiguous and its length is exact).

use std::sync::Arc;

use zpool_core::exec::Manual;
use zpool_core::page::{FaultPlan, FaultySource, HeapSource, PageSource};
use zpool_core::spec::Component;
use zpool_core::{CompactionBudget, Handle, NoBlock, PoolConfig, ZPool, ZPoolDriver};
use zpool_zsmalloc::{ClassConfig, ClassTable, ZsmallocDriver};

fn heap() -> Arc<HeapSource> {
    Arc::new(HeapSource::new(4096))
}

fn pool(source: Arc<dyn PageSource>, params: &str) -> Box<dyn ZPool> {
    let spec: Component = format!("z({params})").parse().unwrap();
    ZsmallocDriver.create(&PoolConfig::new(source, 4096).with_params(spec.params)).unwrap()
}

fn fill(pool: &dyn ZPool, count: usize, len: usize) -> Vec<Handle> {
    (0..count).map(|i| pool.insert(&vec![i as u8; len]).unwrap()).collect()
}

#[test]
fn b10_a_job_that_runs_after_the_pool_does_nothing() {
    let (source, executor) = (heap(), Arc::new(Manual::new()));
    let config = PoolConfig::new(source.clone(), 4096).with_executor(executor.clone());
    let pool = ZsmallocDriver.create(&config).unwrap();
    for handle in fill(&*pool, 400, 1400) {
        let _section = NoBlock::enter();
        pool.free(handle).unwrap();
    }
    assert_eq!(executor.pending(), 1, "submitted, and only once");
    drop(pool);
    assert_eq!(source.charged_frames(), 0);
    executor.run_all();
    assert_eq!((executor.jobs_run(), executor.jobs_panicked()), (1, 0));
}

#[test]
fn b12_the_job_gives_empty_zspages_back() {
    let (source, executor) = (heap(), Arc::new(Manual::new()));
    let config = PoolConfig::new(source.clone(), 4096).with_executor(executor.clone());
    let pool = ZsmallocDriver.create(&config).unwrap();
    for _ in 0..3 {
        let handles = fill(&*pool, 400, 1400);
        handles.into_iter().for_each(|handle| pool.free(handle).unwrap());
        executor.run_all();
        pool.validate().unwrap();
        assert!(
            source.charged_frames() <= 32,
            "{} frames of an empty pool",
            source.charged_frames()
        );
    }
    pool.trim();
    assert_eq!(source.charged_frames(), 0);
}

#[test]
fn b12_an_object_freed_under_its_guard_leaves_nothing_behind() {
    let source = heap();
    let pool = pool(source.clone(), "chain=8");
    let handles = fill(&*pool, 50, 1000);
    let guards: Vec<_> = handles.iter().map(|handle| pool.read(handle).unwrap()).collect();
    handles.into_iter().for_each(|handle| pool.free(handle).unwrap());
    assert_eq!(pool.compact(CompactionBudget::UNLIMITED).moved_objects, 0);
    assert_eq!((pool.stats().objects, pool.stats().zombies), (0, 50));
    drop(guards);
    pool.trim();
    assert_eq!((pool.stats().zombies, source.charged_frames()), (0, 0));
    pool.validate().unwrap();
}

#[test]
fn b19_compaction_interrupted_after_every_move_leaves_all_in_order() {
    let source = heap();
    let pool = pool(source.clone(), "chain=4");
    let mut kept = Vec::new();
    for (i, handle) in fill(&*pool, 300, 1000).into_iter().enumerate() {
        if i % 3 == 0 { kept.push((i, handle)) } else { pool.free(handle).unwrap() }
    }
    let mut steps = 0;
    while pool.compact(CompactionBudget::moves(1)).exhausted {
        pool.validate().unwrap();
        steps += 1;
        assert!(steps < 300, "no end");
    }
    for (i, handle) in &kept {
        assert!(pool.read(handle).unwrap().iter().all(|&byte| byte == *i as u8));
    }
    assert_eq!(pool.compact(CompactionBudget::UNLIMITED).moved_objects, 0);
}

#[test]
fn compaction_reaches_the_ideal_packing_of_a_class() {
    let source = heap();
    let pool = pool(source.clone(), "");
    let handles = fill(&*pool, 2000, 1450);
    for (i, handle) in handles.into_iter().enumerate() {
        if i % 2 == 0 {
            pool.free(handle).unwrap();
        }
    }
    let table = ClassTable::new(ClassConfig::new(4096, 4096)).unwrap();
    let class = table.classes().iter().find(|class| class.slot_bytes >= 1450).unwrap();
    let (full, rest) = (1000 / usize::from(class.slots), 1000 % usize::from(class.slots));
    let slot = class.slot_bytes as usize;
    let ideal = full * usize::from(class.frames) + (rest * slot).div_ceil(4096);
    let before = source.charged_frames();
    let report = pool.compact(CompactionBudget::UNLIMITED);
    assert_eq!(source.charged_frames(), ideal);
    assert_eq!(report.freed_bytes, (before - ideal) * 4096);
    assert!(report.estimated_bytes >= report.freed_bytes * 95 / 100);
    assert_eq!(pool.compact(CompactionBudget::UNLIMITED).freed_bytes, 0);
}

#[test]
fn a_compaction_without_memory_does_less_and_breaks_nothing() {
    let source = Arc::new(FaultySource::new(heap(), FaultPlan::Never));
    let pool = pool(source.clone(), "chain=16");
    let handles = fill(&*pool, 600, 700);
    let kept: Vec<_> = handles
        .into_iter()
        .enumerate()
        .filter_map(|(i, handle)| {
            if i % 4 == 0 { Some((i, handle)) } else { pool.free(handle).map(|()| None).unwrap() }
        })
        .collect();
    // Frames inside are given back, so that packing needs some anew.
    pool.trim();
    source.plan(FaultPlan::From(0));
    pool.compact(CompactionBudget::UNLIMITED);
    pool.validate().unwrap();
    source.plan(FaultPlan::Never);
    pool.compact(CompactionBudget::UNLIMITED);
    pool.validate().unwrap();
    for (i, handle) in &kept {
        assert!(pool.read(handle).unwrap().iter().all(|&byte| byte == *i as u8));
    }
}

#[test]
fn a_refusal_at_every_call_of_the_source_leaves_nothing_behind() {
    for n in 0..40 {
        let source = Arc::new(FaultySource::new(heap(), FaultPlan::Nth(n)));
        let pool = pool(source.clone(), "chain=3");
        let handles: Vec<_> =
            (0..60).filter_map(|i| pool.insert(&vec![1; 100 + i * 50]).ok()).collect();
        pool.validate().unwrap();
        assert_eq!(pool.stats().failed_inserts, source.failures());
        assert_eq!(pool.stats().resident_frames, source.charged_frames());
        handles.into_iter().for_each(|handle| pool.free(handle).unwrap());
        pool.trim();
        assert_eq!(source.charged_frames(), 0, "call {n}");
    }
}

#[test]
fn frames_inside_a_zspage_are_given_back_and_used_again() {
    let source = heap();
    let pool = pool(source.clone(), "chain=16");
    let mut handles: Vec<_> = fill(&*pool, 90, 1450).into_iter().map(Some).collect();
    let full = source.charged_frames();
    // All but the last of a zspage: 15 of its 16 frames hold nothing.
    for handle in &mut handles[..44] {
        pool.free(handle.take().unwrap()).unwrap();
    }
    assert_eq!(source.charged_frames(), full, "not one call a free");
    assert!(pool.trim() >= 14 * 4096);
    pool.validate().unwrap();
    let again = fill(&*pool, 44, 1450);
    pool.validate().unwrap();
    assert!(source.charged_frames() <= full);
    drop(again);
}

#[test]
fn pinned_objects_are_counted_in_their_class() {
    let pool = pool(heap(), "");
    let handles = fill(&*pool, 10, 1000);
    let _others = fill(&*pool, 10, 3000);
    let guards: Vec<_> =
        handles[..4].iter().flat_map(|handle| [pool.read(handle), pool.read(handle)]).collect();
    let pinned = |pool: &dyn ZPool| {
        let groups = pool.stats().groups;
        groups.iter().map(|group| (group.slot_bytes >= 3000, group.pinned)).collect::<Vec<_>>()
    };
    assert_eq!(pinned(&*pool), [(false, 4), (true, 0)]);
    drop(guards);
    assert_eq!(pinned(&*pool), [(false, 0), (true, 0)]);
}

#[test]
fn an_empty_pool_takes_no_frame_and_little_heap() {
    let source = Arc::new(FaultySource::new(heap(), FaultPlan::From(0)));
    let pool = pool(source.clone(), "");
    assert_eq!((source.calls(), pool.stats().resident_frames), (0, 0));
    assert!(pool.bytes_held() < 10_000, "{} bytes", pool.bytes_held());
}
