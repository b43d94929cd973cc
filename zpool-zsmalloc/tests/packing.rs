//! Compaction of many classes at once frees what an ideal packing of each would free, and reports
//! that before and after.

use std::sync::Arc;

use zpool_core::page::{HeapSource, PageSource};
use zpool_core::spec::Component;
use zpool_core::{CompactionBudget, GroupStats, Handle, PoolConfig, ZPool, ZPoolDriver};
use zpool_zsmalloc::ZsmallocDriver;

use crate::common::{Random, ideal_frames};

const FRAME: usize = 4096;
const OBJECTS: usize = if cfg!(miri) { 300 } else { 12_000 };

/// Share of objects that are freed, at random.
#[derive(Debug, Clone, Copy)]
enum Freed {
    Half,
    NineOfTen,
}

/// A pool that was filled with objects of random lengths and lost some, and the objects left.
struct Thinned {
    source: Arc<HeapSource>,
    pool: Box<dyn ZPool>,
    objects: Vec<(Handle, Vec<u8>)>,
}

fn thinned(params: &str, seed: u64, freed: Freed) -> Thinned {
    let source = Arc::new(HeapSource::new(FRAME));
    let spec: Component = format!("z({params})").parse().unwrap();
    let config = PoolConfig::new(source.clone(), 4096).with_params(spec.params);
    let pool = ZsmallocDriver.create(&config).unwrap();
    let mut random = Random(seed);
    let mut objects: Vec<_> = (0..OBJECTS)
        .map(|i| vec![i as u8; 1 + random.below(4096)])
        .map(|object| (pool.insert(&object).unwrap(), object))
        .collect();
    for at in (0..objects.len()).rev() {
        let gone = match freed {
            Freed::Half => random.below(2) == 0,
            Freed::NineOfTen => random.below(10) > 0,
        };
        if gone {
            pool.free(objects.swap_remove(at).0).unwrap();
        }
    }
    Thinned { source, pool, objects }
}

/// Every way in which these tests fill a pool: a description, and the pool.
fn all() -> impl Iterator<Item = (String, Thinned)> {
    let params = ["", "", "", "chain=32", "chain=16", "chain=4", "chain=8,step=32"];
    params.into_iter().zip(1u64..).flat_map(|(params, seed)| {
        [Freed::Half, Freed::NineOfTen].map(|freed| {
            let case = format!("{params:?} {seed}, {freed:?} freed");
            (case, thinned(params, seed * 0x9E37_79B9, freed))
        })
    })
}

/// Returns the frames that packing a class to the front would free.
fn gain(group: &GroupStats) -> usize {
    group.resident_frames - ideal_frames(group, FRAME)
}

/// Compaction of many classes frees what packing each of them would free.
#[test]
fn compaction_frees_ideal_packing_of_each_class() {
    for (case, thinned) in all() {
        let Thinned { source, pool, objects } = thinned;
        let (frames, before) = (source.charged_frames(), pool.stats().groups);
        let used = before.iter().filter(|group| group.objects > 0).count();
        assert!(used >= 50, "{case}: {used} classes");
        let ideal: usize = before.iter().map(gain).sum();
        assert!(ideal > frames / 20 || cfg!(miri), "{case}: {ideal} of {frames} frames to gain");

        let report = pool.compact(CompactionBudget::UNLIMITED);
        assert_eq!(report.freed_bytes, (frames - source.charged_frames()) * FRAME, "{case}");
        assert_eq!(report.estimated_bytes, ideal * FRAME, "{case}: estimated before it starts");
        assert!(
            report.freed_bytes * 100 >= ideal * FRAME * 95,
            "{case}: {ideal} frames, {report:?}"
        );
        let after = pool.stats().groups;
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before.slot_bytes, after.slot_bytes, "{case}");
            let (freed, ideal) =
                (before.resident_frames.saturating_sub(after.resident_frames), gain(before));
            assert!(
                freed * 100 >= ideal * 95,
                "{case}: {freed} frames freed of {ideal}, {before:?}"
            );
        }

        let again = pool.compact(CompactionBudget::UNLIMITED);
        let nothing = (again.freed_bytes, again.moved_objects, again.exhausted);
        assert_eq!(nothing, (0, 0, false), "{case}: a second call");
        assert_eq!(source.charged_frames() * FRAME, frames * FRAME - report.freed_bytes, "{case}");
        assert_eq!(pool.trim(), 0, "{case}: nothing empty was left");
        assert_contents(&*pool, &objects);
    }
}

/// Many steps of a few moves free as much as one call. Each step but the last uses its moves up.
#[test]
fn short_compactions_free_as_much_as_one() {
    const MOVES: usize = 100;
    for (case, thinned) in all() {
        let Thinned { source, pool, objects } = thinned;
        let frames = source.charged_frames();
        let ideal: usize = pool.stats().groups.iter().map(gain).sum();
        let (mut freed, mut steps) = (0, 0);
        loop {
            let report = pool.compact(CompactionBudget::moves(MOVES));
            freed += report.freed_bytes / FRAME;
            assert!(report.moved_objects <= MOVES, "{case}: {report:?}");
            if !report.exhausted {
                break;
            }
            assert_eq!(report.moved_objects, MOVES, "{case}");
            steps += 1;
            assert!(steps <= OBJECTS / MOVES * 2, "{case}: no end");
        }
        assert!(steps > 1 || cfg!(miri), "{case}: {steps} steps");
        // A step may charge frames that a later one releases: only the sum has to be right.
        assert!(
            source.charged_frames() * 100 <= frames * 100 - ideal * 95,
            "{case}: {freed} of {ideal} frames"
        );
        assert_eq!(
            pool.compact(CompactionBudget::UNLIMITED).freed_bytes,
            0,
            "{case}: the last one left something"
        );
        assert_contents(&*pool, &objects);
    }
}

fn assert_contents(pool: &dyn ZPool, objects: &[(Handle, Vec<u8>)]) {
    pool.validate().unwrap();
    assert_eq!(pool.stats().objects, objects.len());
    for (handle, object) in objects {
        assert!(*pool.read(handle).unwrap() == **object, "object of {} bytes", object.len());
    }
}
