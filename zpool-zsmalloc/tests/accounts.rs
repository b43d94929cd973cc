//! Statistics at each stage of a pool's life. Every figure agrees with the objects and the page
//! source, the classes sum to the totals, and the parts sum to the bytes held.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread;

use zpool_core::page::{HeapSource, PageSource};
use zpool_core::spec::Component;
use zpool_core::{CompactionBudget, GroupStats, Handle, PoolConfig, ReadGuard, ZPool, ZPoolDriver};
use zpool_zsmalloc::{SizeClass, ZsmallocDriver};

use crate::common::{Random, ideal_frames};

const SLOTS: usize = if cfg!(miri) { 120 } else { 3000 };
const MAX: usize = 9000;

/// Classes sum to the totals, and the parts of the memory to the bytes held.
#[test]
fn stats_sum_to_totals_and_bytes_held() {
    for (frame_size, params) in
        [(4096, ""), (4096, "chain=4"), (4096, "chain=1,step=8"), (16_384, "step=64")]
    {
        life(frame_size, params);
    }
}

fn life(frame_size: usize, params: &str) {
    let source = Arc::new(HeapSource::new(frame_size));
    let spec: Component = format!("z({params})").parse().unwrap();
    let config = PoolConfig::new(source.clone(), MAX).with_params(spec.params);
    let pool = ZsmallocDriver.create(&config).unwrap();
    let classes = ZsmallocDriver.classes(&config).unwrap();
    let mut random = Random(0x1234_5678_9ABC_DEF1);
    let (objects, guards) = (Vec::new(), Vec::new());
    let mut own = Own { pool: &*pool, source: &source, classes, objects, guards, inserted: 0 };
    own.check("empty");
    for _ in 0..SLOTS {
        own.insert(&mut random);
    }
    own.check("filled");
    for _ in 0..4 * SLOTS {
        own.free(&mut random);
        own.insert(&mut random);
    }
    own.check("after churn");
    for _ in 0..SLOTS / 2 {
        own.free(&mut random);
    }
    own.check("half freed");
    for _ in 0..SLOTS / 8 {
        own.guard(&mut random);
    }
    own.check("pinned");
    for _ in 0..SLOTS / 4 {
        own.free(&mut random);
    }
    own.check("freed under guards");
    let report = pool.compact(CompactionBudget::UNLIMITED);
    assert!(report.pinned_objects > 0 || cfg!(miri), "compaction met guards: {report:?}");
    own.check("compacted, pinned");
    own.guards.clear();
    own.check("guards gone");
    pool.compact(CompactionBudget::UNLIMITED);
    own.check("compacted");
    assert!(pool.stats().groups.iter().all(|group| group.reclaimable_bytes == 0), "compacted");
    while !own.objects.is_empty() {
        own.free(&mut random);
    }
    own.check("emptied");
    pool.trim();
    own.check("trimmed");
    assert_eq!((source.charged_frames(), pool.bytes_held()), (0, pool.stats().metadata_bytes));
}

/// A pool, and all that its caller knows about it.
struct Own<'a> {
    pool: &'a dyn ZPool,
    source: &'a HeapSource,
    classes: Vec<SizeClass>,
    objects: Vec<Object>,
    guards: Vec<(Known, ReadGuard<'a>)>,
    inserted: usize,
}

struct Object {
    handle: Handle,
    known: Known,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Known {
    number: usize,
    len: usize,
}

impl Own<'_> {
    fn insert(&mut self, random: &mut Random) {
        // 3 of 4 are shorter than a page, as most compressed objects are.
        let longest = if random.below(4) == 0 { MAX } else { 3000 };
        let len = 1 + random.below(longest);
        self.inserted += 1;
        let known = Known { number: self.inserted, len };
        self.objects.push(Object {
            handle: self.pool.insert(&vec![known.number as u8; len]).unwrap(),
            known,
        });
    }

    fn free(&mut self, random: &mut Random) {
        let object = self.objects.swap_remove(random.below(self.objects.len()));
        self.pool.free(object.handle).unwrap();
    }

    fn guard(&mut self, random: &mut Random) {
        let object = &self.objects[random.below(self.objects.len())];
        self.guards.push((object.known, self.pool.read(&object.handle).unwrap()));
    }

    fn check(&self, stage: &str) {
        let live: HashSet<_> = self.objects.iter().map(|object| object.known).collect();
        let pinned: HashSet<_> = self.guards.iter().map(|&(known, _)| known).collect();
        let held: Vec<_> = live.union(&pinned).collect();
        let frame_size = self.source.frame_size();
        let stats = self.pool.stats();
        let sum = |of: fn(&GroupStats) -> usize| stats.groups.iter().map(of).sum::<usize>();

        // The totals agree with what the caller and the page source know.
        assert_eq!(
            (stats.objects, stats.zombies),
            (live.len(), held.len() - live.len()),
            "{stage}"
        );
        let payload: usize = held.iter().map(|known| known.len).sum();
        assert_eq!(stats.payload_bytes, payload, "{stage}: lengths of {} objects", held.len());
        assert_eq!(stats.resident_frames, self.source.charged_frames(), "{stage}");
        assert_eq!(stats.pool_bytes(), self.pool.bytes_held(), "{stage}");

        // The parts sum to the bytes held.
        let parts = [
            stats.payload_bytes,
            stats.rounding_bytes,
            stats.tail_bytes,
            stats.fragmentation_bytes,
        ];
        assert_eq!(
            parts.iter().sum::<usize>(),
            stats.resident_frames * frame_size,
            "{stage}: {parts:?}"
        );
        assert_eq!(
            stats.pool_bytes(),
            stats.resident_frames * frame_size + stats.metadata_bytes,
            "{stage}: frames, and tables on the heap"
        );

        // The classes sum to the totals.
        assert_eq!(sum(|group| group.objects), held.len(), "{stage}: zombies included");
        assert_eq!(sum(|group| group.pinned), pinned.len(), "{stage}: each once");
        assert_eq!(sum(|group| group.resident_frames), stats.resident_frames, "{stage}");
        let slots = sum(|group| group.objects * group.slot_bytes);
        assert!(
            stats.payload_bytes + stats.rounding_bytes <= slots,
            "{stage}: resident parts of {slots} bytes"
        );
        stats.groups.iter().for_each(|group| self.check_class(group, stage));
        self.pool.validate().unwrap();
    }

    fn check_class(&self, group: &GroupStats, stage: &str) {
        let frame_size = self.source.frame_size();
        let of = |class: &&SizeClass| class.slot_bytes as usize == group.slot_bytes;
        let class = self.classes.iter().find(of).expect("a row of the table");
        let geometry = (usize::from(class.frames), usize::from(class.slots));
        assert_eq!((group.frames_per_page, group.slots_per_page), geometry, "{stage}: {group:?}");
        let [empty, .., full] = group.pages_by_fullness;
        assert_eq!(
            group.pages_by_fullness.iter().sum::<usize>(),
            group.pages,
            "{stage}: {group:?}"
        );
        // At least one object per zspage that is not empty, and one free slot if it is not full.
        let (partial, slots) = (group.pages - empty - full, group.slots_per_page);
        let objects = full * slots + partial..=full * slots + partial * (slots - 1);
        assert!(objects.contains(&group.objects), "{stage}: {objects:?} objects, {group:?}");
        assert!(group.pinned <= group.objects, "{stage}: {group:?}");
        assert!(group.resident_frames <= group.pages * group.frames_per_page, "{stage}: {group:?}");
        let gain = group.resident_frames.saturating_sub(ideal_frames(group, frame_size));
        assert_eq!(group.reclaimable_bytes, gain * frame_size, "{stage}: {group:?}");
    }
}

/// A slot that another thread takes from a magazine back to its class is no object meanwhile.
#[test]
fn stats_are_exact_while_another_thread_trims() {
    let source = Arc::new(HeapSource::new(4096));
    let pool = ZsmallocDriver.create(&PoolConfig::new(source, MAX)).unwrap();
    let stay: Vec<_> = (0..10).map(|fill| pool.insert(&[fill; 300]).unwrap()).collect();
    let churn = || {
        for round in 0..30 * SLOTS {
            let go: Vec<_> = (0..10).map(|fill| pool.insert(&[fill; 300]).unwrap()).collect();
            go.into_iter().for_each(|handle| pool.free(handle).unwrap());
            assert_eq!(pool.stats().objects, stay.len(), "round {round}");
        }
    };
    thread::scope(|scope| {
        let churning = scope.spawn(churn);
        while !churning.is_finished() {
            pool.trim();
        }
    });
    stay.into_iter().for_each(|handle| pool.free(handle).unwrap());
}
