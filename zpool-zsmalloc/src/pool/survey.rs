//! The books once more, by a walk over all handles and zspages: what [`stats`](crate::stats) has to
//! agree with.

use zpool_core::PoolStats;

use crate::class::fullness::row;
use crate::class::state::{ClassCounts, ClassState};
use crate::geometry::slot_map::{bit, runs};
use crate::handle::entry::EntrySnapshot;
use crate::pool::core::PoolCore;
use crate::pool::stats::{ClassFigures, StatsBuilder};

impl PoolCore {
    /// See `ZPool::survey`.
    pub(crate) fn survey(&self) -> PoolStats {
        self.drain_magazines(None);
        let tallies = self.tallies();
        let payload = tallies.iter().map(|tally| tally.payload).sum();
        let mut books = StatsBuilder::default();
        for class in self.existing_classes() {
            let tally = &tallies[usize::from(class.index.0)];
            self.locked(class, |state| {
                // A claimed slot may be a spare again by now, and the walk may have met an object
                // that moved twice.
                let objects = tally.objects.min(state.objects());
                let figures = ClassFigures { objects, pinned: tally.pinned, counted: count(state) };
                self.add_class(class, state, figures, &mut books);
            });
        }
        self.close_books(books, payload)
    }

    /// What the handle table says, by class.
    fn tallies(&self) -> Vec<HandleTally> {
        let mut tallies = vec![HandleTally::default(); self.table.classes().len()];
        let announced = self.hazards.published();
        for (index, slot) in self.handles.iter() {
            if let EntrySnapshot::Live { content, pins } | EntrySnapshot::Dead { content, pins } =
                slot.snapshot()
                && let (at, slack) = self.layout.unpack(content)
                && let Some(zspage) = self.zspages.get(at.zspage)
            {
                let class = usize::from(zspage.class().0);
                tallies[class].objects += 1;
                tallies[class].pinned += usize::from(pins > 0 || announced.contains(&index));
                tallies[class].payload +=
                    self.table.classes()[class].slot_bytes.saturating_sub(slack) as usize;
            }
        }
        tallies
    }
}

/// What a walk over the handle table finds of a class.
#[derive(Debug, Clone, Default)]
struct HandleTally {
    objects: usize,
    /// Objects that a guard holds.
    pinned: usize,
    /// Bytes of all objects.
    payload: usize,
}

/// Counts what a class keeps [counted](ClassState::counted), by a walk over its zspages. Under its
/// lock.
pub(crate) fn count(state: &ClassState) -> ClassCounts {
    #[cfg(all(test, not(zpool_loom)))]
    WALKS.with(|walks| walks.set(walks.get() + 1));
    let mut counted = ClassCounts::default();
    for local in 0..state.members().len() as u32 {
        counted.absent += absent_bytes(state, local);
        counted.tail += tail_bytes(state, local);
        let row = row(state.member(local).inuse, state.slot_map.objects);
        counted.by_fullness[usize::from(row)] += 1;
    }
    counted
}

/// Bytes of claimed slots in frames that are not resident: an object's slot is longer than the
/// object.
fn absent_bytes(state: &ClassState, local: u32) -> usize {
    let (slot_map, bits) = (&state.slot_map, state.bits(local));
    let all = u64::MAX >> (64 - slot_map.frames);
    let mut bytes = 0;
    for frame in runs(!state.member(local).resident & all).flatten() {
        let (from, to) =
            (frame as usize * slot_map.frame_size(), (frame as usize + 1) * slot_map.frame_size());
        for object in slot_map.slots_in(frame..frame + 1).filter(|&object| bit(bits, object)) {
            let start = slot_map.offset(object);
            bytes += (start + slot_map.slot as usize).min(to) - start.max(from);
        }
    }
    bytes
}

/// Bytes of the tail that are resident.
fn tail_bytes(state: &ClassState, local: u32) -> usize {
    let slot_map = &state.slot_map;
    let tail = slot_map.offset(slot_map.objects);
    let frames = runs(state.member(local).resident).flatten();
    frames
        .map(|frame| {
            (frame as usize + 1) * slot_map.frame_size()
                - tail.clamp(
                    frame as usize * slot_map.frame_size(),
                    (frame as usize + 1) * slot_map.frame_size(),
                )
        })
        .sum()
}

#[cfg(all(test, not(zpool_loom)))]
thread_local! {
    /// Walks over the handle table, and over the zspages of a class, on this thread.
    pub(crate) static WALKS: core::cell::Cell<usize> = const { core::cell::Cell::new(0) };
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use std::sync::Arc;

    use zpool_core::page::HeapSource;
    use zpool_core::{CompactionBudget, Handle, PoolConfig, ReadGuard, ZPool, ZPoolDriver};

    use super::*;

    fn next(seed: &mut u64) -> usize {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed as usize
    }

    fn pool(max: usize, params: &str, frame: usize) -> Box<dyn ZPool> {
        let spec: zpool_core::spec::Component = params.parse().unwrap();
        let config =
            PoolConfig::new(Arc::new(HeapSource::new(frame)), max).with_params(spec.params);
        crate::ZsmallocDriver.create(&config).unwrap()
    }

    /// Random inserts, frees one by one and many at once, guards, zombies, compactions and trims:
    /// the books that are kept are what a walk finds, for objects much shorter than a frame and
    /// much longer, in zspages of all shapes.
    #[test]
    fn stats_kept_equal_survey() {
        for (max, params, frame) in [
            (4096, "zsmalloc", 4096),
            (4096, "zsmalloc(chain=1)", 4096),
            (200, "zsmalloc(step=8)", 4096),
            (65_536, "zsmalloc(chain=64,step=64)", 4096),
            (9000, "zsmalloc(chain=5)", 16_384),
        ] {
            let pool = pool(max, params, frame);
            let mut seed = max as u64 + 77;
            let mut live: Vec<Handle> = Vec::new();
            let mut guards: Vec<ReadGuard<'_>> = Vec::new();
            for step in 0..if cfg!(miri) { 100 } else { 1200 } {
                match next(&mut seed) % 16 {
                    0..=6 => {
                        let len = 1 + next(&mut seed) % if step % 3 == 0 { max } else { max / 7 };
                        live.push(pool.insert(&vec![7; len]).unwrap());
                    }
                    7..=11 if !live.is_empty() => {
                        pool.free(live.swap_remove(next(&mut seed) % live.len())).unwrap();
                    }
                    12 if !live.is_empty() => {
                        guards.push(pool.read(&live[next(&mut seed) % live.len()]).unwrap())
                    }
                    13 if !guards.is_empty() => {
                        drop(guards.swap_remove(next(&mut seed) % guards.len()))
                    }
                    14 if step % 50 == 0 => {
                        let from = next(&mut seed) % (live.len() + 1);
                        assert_eq!(pool.free_many(&mut live.drain(from..)), 0);
                    }
                    15 if step % 40 == 0 => {
                        pool.compact(CompactionBudget::moves(next(&mut seed) % 100));
                    }
                    15 if step % 40 == 1 => {
                        pool.trim();
                    }
                    _ => continue,
                }
                assert_eq!(pool.stats(), pool.survey(), "{params}, step {step}");
            }
            pool.validate().unwrap();
        }
    }

    /// The books take no walk over handles or zspages, whatever is in the pool. A survey does.
    #[test]
    fn stats_walk_over_nothing() {
        let pool = pool(4096, "zsmalloc", 4096);
        let _live: Vec<_> = (1..3000).map(|len| pool.insert(&vec![1; len]).unwrap()).collect();
        let before = WALKS.with(|walks| walks.get());
        let stats = pool.stats();
        assert_eq!((WALKS.with(|walks| walks.get()), stats.objects), (before, 2999));
        pool.survey();
        assert!(WALKS.with(|walks| walks.get()) > before + 1);
    }
}
