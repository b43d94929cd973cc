//! Statistics and compaction, exact to a single object: counts of pinned objects, rows of fullness,
//! where a compaction ends, and which frames it empties. Callers do not rely on these, so no other
//! test would notice an error.

use std::sync::Arc;

use zpool_core::page::{HeapSource, PageSource};
use zpool_core::spec::Component;
use zpool_core::{CompactionBudget, GroupStats, Handle, PoolConfig, ZPool, ZPoolDriver};
use zpool_zsmalloc::ZsmallocDriver;

fn pool(params: &str) -> (Arc<HeapSource>, Box<dyn ZPool>) {
    let source = Arc::new(HeapSource::new(4096));
    let spec: Component = format!("z({params})").parse().unwrap();
    let config = PoolConfig::new(source.clone(), 4096).with_params(spec.params);
    (source, ZsmallocDriver.create(&config).unwrap())
}

fn fill(pool: &dyn ZPool, count: usize, len: usize) -> Vec<Handle> {
    (0..count).map(|i| pool.insert(&vec![i as u8; len]).unwrap()).collect()
}

/// Returns the statistics of the class of objects of `len` bytes.
fn group(pool: &dyn ZPool, len: usize) -> GroupStats {
    let groups = pool.stats().groups;
    groups
        .into_iter()
        .find(|group| group.slot_bytes >= len && group.pages > 0)
        .expect("it has objects")
}

/// The first guard of an object makes it count as pinned, and further ones do not.
#[test]
fn pinned_object_counts_once() {
    let (_, pool) = pool("");
    let objects = fill(&*pool, 10, 700);
    assert_eq!(group(&*pool, 700).pinned, 0);
    let one = pool.read(&objects[3]).unwrap();
    assert_eq!(group(&*pool, 700).pinned, 1, "one guard");
    let again = (pool.read(&objects[3]).unwrap(), pool.read(&objects[3]).unwrap());
    assert_eq!(group(&*pool, 700).pinned, 1, "three guards of one object");
    let other = pool.read(&objects[7]).unwrap();
    assert_eq!(group(&*pool, 700).pinned, 2, "and one of another");
    drop((one, again));
    assert_eq!(group(&*pool, 700).pinned, 1, "the other one is left");
    for object in objects {
        pool.free(object).unwrap();
    }
    assert_eq!(
        (group(&*pool, 700).pinned, group(&*pool, 700).objects),
        (1, 1),
        "a zombie is pinned"
    );
    drop(other);
    pool.trim();
    assert!(pool.stats().groups.iter().all(|group| (group.pinned, group.pages) == (0, 0)));
}

/// For every number of objects, a zspage is in the row of the quarter that it has reached.
#[test]
fn zspage_is_in_row_of_its_quarter() {
    for (params, len) in [("chain=4", 500), ("chain=4", 1100), ("chain=8", 150), ("", 2700)] {
        let (_, pool) = pool(params);
        let _first = fill(&*pool, 1, len);
        let slots = group(&*pool, len).slots_per_page;
        for n in 1..=slots {
            let group = group(&*pool, len);
            assert_eq!((group.pages, group.objects), (1, n), "{params}, {len} bytes");
            let row = match n {
                n if n == slots => 5,
                n if 4 * n <= slots => 1,
                n if 4 * n <= 2 * slots => 2,
                n if 4 * n <= 3 * slots => 3,
                _ => 4,
            };
            let mut rows = [0; 6];
            rows[row] = 1;
            assert_eq!(
                group.pages_by_fullness, rows,
                "{params}, {len} bytes, {n} objects in {slots} slots"
            );
            let _next = fill(&*pool, 1, len);
        }
    }
}

/// Frees 3 of 4 objects, evenly, so that every zspage keeps some.
fn thinned(pool: &dyn ZPool, count: usize, len: usize) -> Vec<Handle> {
    let (kept, freed): (Vec<_>, Vec<_>) =
        fill(pool, count, len).into_iter().enumerate().partition(|(i, _)| i % 4 == 0);
    freed.into_iter().for_each(|(_, handle)| pool.free(handle).unwrap());
    kept.into_iter().map(|(_, handle)| handle).collect()
}

/// One call moves more objects than a round does.
#[test]
fn one_compaction_takes_several_rounds() {
    let (source, pool) = pool("chain=4");
    let objects = thinned(&*pool, 8000, 600);
    pool.trim();
    let before = source.charged_frames();
    let report = pool.compact(CompactionBudget::UNLIMITED);
    assert!(report.moved_objects > 256, "one round would do: {report:?}");
    assert!(!report.exhausted, "{report:?}");
    let group = group(&*pool, 600);
    let least = objects.len() * group.slot_bytes / 4096;
    assert!((least..=least + 8).contains(&source.charged_frames()), "{group:?}");
    assert_eq!(group.reclaimable_bytes, 0, "{group:?}");
    assert_eq!(report.freed_bytes, (before - source.charged_frames()) * 4096, "{report:?}");
    assert_eq!(pool.compact(CompactionBudget::UNLIMITED).moved_objects, 0, "something was left");
    pool.validate().unwrap();
}

/// A call that is not the last one uses its budget up. A budget that is just enough is not reported
/// as too small, and one move less is.
#[test]
fn compaction_uses_its_budget_up() {
    let with = |moves: usize| {
        let (_, pool) = pool("chain=4");
        let _objects = thinned(&*pool, 3000, 600);
        (pool.compact(CompactionBudget::moves(moves)), pool)
    };
    let (whole, _) = with(usize::MAX);
    let all = whole.moved_objects;
    assert!(all > 512, "{whole:?}");
    for moves in [1, 100, 256, 257, 512, all - 1] {
        let (report, _) = with(moves);
        assert_eq!((report.moved_objects, report.exhausted), (moves, true), "of {all}");
    }
    for moves in [all, all + 1, 2 * all] {
        let (report, _) = with(moves);
        assert_eq!((report.moved_objects, report.exhausted), (all, false), "of {all}");
    }
    let (first, pool) = with(all / 2);
    let second = pool.compact(CompactionBudget::UNLIMITED);
    assert_eq!(first.freed_bytes + second.freed_bytes, whole.freed_bytes, "in two steps");
}

/// With more pinned objects than a round takes, compaction ends when a round moves nothing.
#[test]
fn compaction_ends_if_all_is_pinned() {
    let (_, pool) = pool("chain=4");
    let objects = thinned(&*pool, 8000, 600);
    let guards: Vec<_> = objects.iter().map(|object| pool.read(object).unwrap()).collect();
    let report = pool.compact(CompactionBudget::UNLIMITED);
    assert_eq!(report.moved_objects, 0);
    assert!(report.pinned_objects > 0, "{report:?}");
    drop(guards);
    assert!(pool.compact(CompactionBudget::UNLIMITED).moved_objects > 256, "nothing is pinned");
}

/// Inserts one frame's worth of a class and a few more, with open slots for these few in the next
/// class. Returns their handles, the last ones inserted last.
fn a_tail_and_room_for_it(pool: &dyn ZPool) -> (Vec<Handle>, Vec<Handle>) {
    // The shorter ones first: otherwise they would overflow into the class of the others.
    let short = fill(pool, 4 + 3, 1000);
    let long = fill(pool, 4 + 1, 1020);
    assert!(
        pool.stats().groups.iter().filter(|group| group.objects > 0).count() == 2,
        "two classes"
    );
    (short, long)
}

/// The objects of a last frame move to open slots of the next class.
#[test]
fn last_frame_is_merged_into_next_class() {
    let (source, pool) = pool("");
    let (short, long) = a_tail_and_room_for_it(&*pool);
    let before = source.charged_frames();
    let report = pool.compact(CompactionBudget::UNLIMITED);
    assert_eq!((report.moved_objects, before - source.charged_frames()), (3, 1), "{report:?}");
    pool.validate().unwrap();
    assert_contents(&*pool, &short, 1000);
    assert_contents(&*pool, &long, 1020);
}

/// The other objects of its frame stay where they are, because moving them would free nothing.
#[test]
fn frame_with_pinned_object_is_not_merged() {
    for pinned in 4..7 {
        let (source, pool) = pool("");
        let (short, long) = a_tail_and_room_for_it(&*pool);
        let before = source.charged_frames();
        let guard = pool.read(&short[pinned]).unwrap();
        let report = pool.compact(CompactionBudget::UNLIMITED);
        assert_eq!((report.moved_objects, report.freed_bytes), (0, 0), "object {pinned} is pinned");
        assert_eq!(source.charged_frames(), before);
        drop(guard);
        assert_eq!(pool.compact(CompactionBudget::UNLIMITED).moved_objects, 3, "nothing is pinned");
        assert_contents(&*pool, &short, 1000);
        assert_contents(&*pool, &long, 1020);
    }
}

/// An object that a round would move and a guard holds counts once.
#[test]
fn report_counts_each_pinned_object_once() {
    for pins in 0..=4 {
        let (_, pool) = pool("chain=1");
        // 2 of 4 objects in each of two frames.
        let objects: Vec<_> = fill(&*pool, 8, 1000).into_iter().enumerate().collect();
        let (kept, freed): (Vec<_>, Vec<_>) = objects.into_iter().partition(|(i, _)| i % 4 < 2);
        freed.into_iter().for_each(|(_, handle)| pool.free(handle).unwrap());
        let guards: Vec<_> =
            kept.iter().take(pins).map(|(_, handle)| pool.read(handle).unwrap()).collect();
        let report = pool.compact(CompactionBudget::UNLIMITED);
        assert_eq!(
            report.moved_objects + report.pinned_objects,
            2,
            "{pins} of four are pinned: {report:?}"
        );
        assert!(report.pinned_objects <= pins, "{pins} of four are pinned: {report:?}");
        drop(guards);
    }
}

/// A frame that is emptied into larger slots wastes at most 3/4 of itself there.
#[test]
fn merge_that_wastes_most_of_a_frame_is_skipped() {
    // 63 slots are open in the class of 64 bytes, which waste 32 bytes each; then 50 in the class
    // of 80 bytes, which waste 48 each.
    for (count, moved) in [(63 + 22, 63 + 22), (63 + 23, 0), (63 + 50, 0)] {
        let (_, pool) = pool("chain=1");
        let objects = fill(&*pool, count, 30);
        let (_larger, _largest) = (fill(&*pool, 1, 60), fill(&*pool, 1, 75));
        let sizes: Vec<_> =
            pool.stats().groups.iter().filter(|g| g.objects > 0).map(|g| g.slot_bytes).collect();
        assert_eq!(sizes, [32, 64, 80]);
        let report = pool.compact(CompactionBudget::UNLIMITED);
        assert_eq!(report.moved_objects, moved, "{count} objects: {report:?}");
        assert_contents(&*pool, &objects, 30);
    }
}

/// Checks that each object is its number among those inserted, `len` times.
fn assert_contents(pool: &dyn ZPool, objects: &[Handle], len: usize) {
    for (i, object) in objects.iter().enumerate() {
        assert!(*pool.read(object).unwrap() == *vec![i as u8; len], "object {i} of {len} bytes");
    }
}
