//! Scenarios from the history of the kernel's zsmalloc, by number, and others peculiar to this
//! pool.
//!
//! Three are not here, because they cannot happen:
//!
//! - B11: there is no wait for readers, because a pool is dropped only when no guard borrows it.
//! - B17: the link of a free entry is never taken for an object, because the state is in the word.
//! - B48: an object's bytes are contiguous and its length is exact.

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

/// A job that runs after its pool was dropped does nothing.
#[test]
fn b10_job_after_drop_does_nothing() {
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

/// The job releases zspages that frees have emptied.
#[test]
fn b12_job_releases_empty_zspages() {
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

/// An object freed under its guard leaves nothing behind once the guard is dropped.
#[test]
fn b12_zombie_leaves_nothing_behind() {
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

/// A compaction that ends after every move leaves the pool in order each time.
#[test]
fn b19_compaction_in_single_moves_is_sound() {
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

/// A class is left with exactly the frames that its objects need.
#[test]
fn compaction_reaches_ideal_packing() {
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

/// If the source refuses frames, compaction does less and breaks nothing.
#[test]
fn compaction_without_frames_is_sound() {
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
    // Frames inside zspages are given back, so that packing has to charge some again.
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

/// A refusal at any call of the page source leaves nothing behind.
#[test]
fn refusal_at_any_source_call_leaves_nothing() {
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

/// Empty frames inside a zspage are given back and used again.
#[test]
fn empty_frames_go_back_and_are_reused() {
    let source = heap();
    let pool = pool(source.clone(), "chain=16");
    let mut handles: Vec<_> = fill(&*pool, 90, 1450).into_iter().map(Some).collect();
    let full = source.charged_frames();
    // All but the last object of a zspage: 15 of its 16 frames are empty.
    for handle in &mut handles[..44] {
        pool.free(handle.take().unwrap()).unwrap();
    }
    assert_eq!(source.charged_frames(), full, "not one call per free");
    assert!(pool.trim() >= 14 * 4096);
    pool.validate().unwrap();
    let again = fill(&*pool, 44, 1450);
    pool.validate().unwrap();
    assert!(source.charged_frames() <= full);
    drop(again);
}

/// A pinned object counts in its class.
#[test]
fn pinned_objects_are_counted_by_class() {
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

/// An empty pool has no frame and little metadata.
#[test]
fn empty_pool_holds_no_frame() {
    let source = Arc::new(FaultySource::new(heap(), FaultPlan::From(0)));
    let pool = pool(source.clone(), "");
    assert_eq!((source.calls(), pool.stats().resident_frames), (0, 0));
    assert!(pool.bytes_held() < 10_000, "{} bytes", pool.bytes_held());
}
