//! The table of pools that are not destroyed, with the current one and the bytes of retired ones.
//!
//! ```text
//!   slots   [ pool 7 ][ free ][ pool 3 ][ pool 9 ] ...    a pool keeps its slot while it is listed
//!   chains  spec hash ──► slot ──► slot                   finds the pools of a spec without a walk
//!   bytes   the latest figure of each retired pool, and their sum
//! ```
//!
//! Thousands of retired pools may be alive, each kept by a few blocks. So adding, finding by spec,
//! making current and removing take constant time, and no store or switch walks all pools.
//!
//! All of it runs under the list's lock: it calls no foreign code, and only
//! [`with_room_for`](PoolTable::with_room_for) allocates.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use zpool_core::internal::Counted;
use zpool_core::spec::PoolSpec;

use super::pool::{Pool, PoolLabel};

/// Marks the end of a chain.
const NONE: u32 = u32::MAX;

/// Pools in a sample that were retired last, which a batch may still store into.
const RECENT: usize = 16;
/// Other pools in a sample, chosen in rotation.
const ROTATING: usize = 8;

/// A listed pool. Its label and times stay known when it cannot be referenced any more.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) label: Arc<PoolLabel>,
    pub(crate) block: Arc<Counted<Pool>>,
    /// Set when the pool is listed.
    pub(crate) place: Arc<OnceLock<TablePlace>>,
    pub(crate) created: Instant,
    pub(crate) retired: Option<Instant>,
    /// Whether it was replaced by a pool of its own spec, and must not be revived.
    pub(crate) never_revive: bool,
}

/// The position of a pool in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TablePlace {
    slot: u32,
    /// Counts up: distinguishes pools that had the same slot, and orders them by age.
    pub(crate) number: u64,
}

/// Pools by slot and by spec. See the module.
#[derive(Debug)]
pub(crate) struct PoolTable<L = Listed> {
    slots: Vec<TableSlot<L>>,
    /// The first slot of each chain; their number is a power of two.
    heads: Vec<u32>,
    /// The first free slot; free slots are linked by `next`.
    free: u32,
    len: usize,
    numbers: u64,
    current: Option<TablePlace>,
    /// The cold pool. Its bytes are recorded, as those of retired pools are.
    cold: Option<TablePlace>,
    /// The sum of the entries' `recorded`.
    recorded: usize,
    /// The places of the pools retired last, a ring.
    recent: [Option<TablePlace>; RECENT],
    next_recent: usize,
    /// The slot at which the rotation continues.
    cursor: usize,
}

#[derive(Debug)]
struct TableSlot<L> {
    entry: Option<PoolEntry<L>>,
    next: u32,
    previous: u32,
}

#[derive(Debug)]
struct PoolEntry<L> {
    listed: L,
    number: u64,
    spec_hash: u64,
    /// Bytes that the allocator of a retired pool held when it was last asked.
    recorded: usize,
    dying: bool,
}

/// A bounded number of pools, taken out without an allocation.
pub(crate) type Sample<L> = [Option<(TablePlace, L)>; RECENT + ROTATING];

/// Returns the hash by which pools of `spec` are found.
pub(crate) fn spec_hash(spec: &PoolSpec) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(spec)
}

impl<L> PoolTable<L> {
    pub(crate) fn new() -> PoolTable<L> {
        PoolTable::with_room_for(0)
    }

    /// Makes an empty table with room for this many pools. Allocates.
    pub(crate) fn with_room_for(pools: usize) -> PoolTable<L> {
        PoolTable {
            slots: Vec::with_capacity(pools),
            heads: vec![NONE; pools.next_power_of_two()],
            free: NONE,
            len: 0,
            numbers: 0,
            current: None,
            cold: None,
            recorded: 0,
            recent: [None; RECENT],
            next_recent: 0,
            cursor: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of pools that a larger table needs room for, or `None` if this one has
    /// room for another.
    pub(crate) fn wants_room_for(&self) -> Option<usize> {
        let full = self.free == NONE && self.slots.len() == self.slots.capacity();
        full.then(|| 2 * self.slots.len() + 4)
    }

    /// Moves everything into `larger`, which is empty, if `larger` has more room. Returns the
    /// memory that is no longer needed, to be dropped without the lock.
    pub(crate) fn grow_into(&mut self, mut larger: PoolTable<L>) -> PoolTable<L> {
        if larger.slots.capacity() <= self.slots.len() {
            return larger;
        }
        larger.slots.append(&mut self.slots);
        core::mem::swap(&mut larger.slots, &mut self.slots);
        core::mem::swap(&mut larger.heads, &mut self.heads);
        for slot in 0..self.slots.len() as u32 {
            if let Some(entry) = &self.slots[slot as usize].entry {
                self.link(slot, entry.spec_hash);
            }
        }
        larger
    }

    /// Adds a pool. There must be room.
    pub(crate) fn add(&mut self, listed: L, spec_hash: u64) -> TablePlace {
        self.numbers += 1;
        let entry =
            PoolEntry { listed, number: self.numbers, spec_hash, recorded: 0, dying: false };
        let slot = match self.free {
            NONE => {
                debug_assert!(
                    self.slots.len() < self.slots.capacity(),
                    "there is room: no allocation under the lock"
                );
                self.slots.push(TableSlot { entry: Some(entry), next: NONE, previous: NONE });
                self.slots.len() as u32 - 1
            }
            free => {
                let slot = &mut self.slots[free as usize];
                self.free = slot.next;
                slot.entry = Some(entry);
                free
            }
        };
        self.len += 1;
        self.link(slot, spec_hash);
        TablePlace { slot, number: self.numbers }
    }

    /// Removes a pool.
    pub(crate) fn remove(&mut self, place: TablePlace) -> Option<L> {
        let entry = self.entry(place)?;
        let (hash, recorded) = (entry.spec_hash, entry.recorded);
        self.unlink(place.slot, hash);
        self.recorded -= recorded;
        self.len -= 1;
        for role in [&mut self.current, &mut self.cold] {
            if *role == Some(place) {
                *role = None;
            }
        }
        let slot = &mut self.slots[place.slot as usize];
        slot.next = core::mem::replace(&mut self.free, place.slot);
        slot.entry.take().map(|entry| entry.listed)
    }

    /// Makes a pool current, or leaves none. Returns the place of the previous one.
    pub(crate) fn make_current(&mut self, next: Option<TablePlace>) -> Option<TablePlace> {
        let old = core::mem::replace(&mut self.current, next);
        self.note_recent(old.filter(|_| old != next));
        self.forget_current();
        old
    }

    /// Makes a pool the cold pool, or leaves none. Returns the place of the previous one.
    pub(crate) fn make_cold(&mut self, next: Option<TablePlace>) -> Option<TablePlace> {
        let old = core::mem::replace(&mut self.cold, next);
        self.note_recent(old.filter(|_| old != next));
        old
    }

    /// Returns the place of the cold pool.
    pub(crate) fn cold(&self) -> Option<TablePlace> {
        self.cold
    }

    /// Notes a pool that was just retired.
    fn note_recent(&mut self, place: Option<TablePlace>) {
        if place.is_some() {
            self.recent[self.next_recent] = place;
            self.next_recent = (self.next_recent + 1) % RECENT;
        }
    }

    pub(crate) fn get_mut(&mut self, place: TablePlace) -> Option<&mut L> {
        self.entry(place).map(|entry| &mut entry.listed)
    }

    /// Finds the first pool with this hash of its spec for which `found` returns something.
    pub(crate) fn find<R>(
        &self,
        spec_hash: u64,
        mut found: impl FnMut(TablePlace, &L) -> Option<R>,
    ) -> Option<R> {
        let mut slot = self.heads[self.chain(spec_hash)];
        while let Some(TableSlot { entry, next, .. }) = self.slots.get(slot as usize) {
            if let Some(entry) = entry
                && entry.spec_hash == spec_hash
                && let Some(result) =
                    found(TablePlace { slot, number: entry.number }, &entry.listed)
            {
                return Some(result);
            }
            slot = *next;
        }
        None
    }

    /// Returns all pools with their recorded bytes, in the order of their slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (TablePlace, &L, usize)> {
        self.slots.iter().zip(0..).filter_map(|(slot, number)| {
            let entry = slot.entry.as_ref()?;
            Some((TablePlace { slot: number, number: entry.number }, &entry.listed, entry.recorded))
        })
    }

    /// Returns the pools from this slot on, with their slots.
    pub(crate) fn iter_from(&self, slot: usize) -> impl Iterator<Item = (usize, &L)> {
        let slots = self.slots.iter().enumerate().skip(slot);
        slots.filter_map(|(number, slot)| slot.entry.as_ref().map(|entry| (number, &entry.listed)))
    }

    /// Records what a retired pool's allocator holds. Ignores current and dying pools.
    pub(crate) fn record(&mut self, place: TablePlace, bytes: usize) {
        let current = self.current == Some(place);
        let Some(entry) = self.entry(place).filter(|entry| !entry.dying && !current) else {
            return;
        };
        let before = core::mem::replace(&mut entry.recorded, bytes);
        self.recorded = self.recorded - before + bytes;
    }

    /// Returns the recorded bytes of the pool at `place`.
    pub(crate) fn recorded(&mut self, place: TablePlace) -> usize {
        self.entry(place).map_or(0, |entry| entry.recorded)
    }

    /// Excludes a pool whose last reference is gone from the recorded bytes, for good.
    pub(crate) fn exclude(&mut self, place: TablePlace) {
        self.record(place, 0);
        if let Some(entry) = self.entry(place) {
            entry.dying = true;
        }
    }

    /// Drops the current pool's figure, which is from an earlier retirement.
    fn forget_current(&mut self) {
        let Some(current) = self.current else { return };
        let Some(entry) = self.entry(current) else { return };
        let before = core::mem::replace(&mut entry.recorded, 0);
        self.recorded -= before;
    }

    /// Returns the sum of the recorded bytes of all retired pools except the one at `except`.
    pub(crate) fn recorded_except(&mut self, except: Option<TablePlace>) -> usize {
        let own = except.and_then(|place| self.entry(place)).map_or(0, |entry| entry.recorded);
        self.recorded - own
    }
}

impl<L: Clone> PoolTable<L> {
    /// Returns a bounded number of pools to ask and [record](Self::record): those retired last, and
    /// others in rotation.
    pub(crate) fn sample(&mut self) -> Sample<L> {
        let mut sample = [const { None }; RECENT + ROTATING];
        let (recent, rotating) = sample.split_at_mut(RECENT);
        for (to, place) in recent.iter_mut().zip(self.recent) {
            let Some(place) = place.filter(|place| self.current != Some(*place)) else { continue };
            *to = self.entry(place).map(|entry| (place, entry.listed.clone()));
        }
        for to in rotating {
            self.cursor = (self.cursor + 1) % self.slots.len().max(1);
            let Some(entry) = self.slots.get(self.cursor).and_then(|slot| slot.entry.as_ref())
            else {
                continue;
            };
            let place = TablePlace { slot: self.cursor as u32, number: entry.number };
            *to = Some((place, entry.listed.clone()));
        }
        sample
    }
}

impl<L> PoolTable<L> {
    fn entry(&mut self, place: TablePlace) -> Option<&mut PoolEntry<L>> {
        let entry = self.slots.get_mut(place.slot as usize)?.entry.as_mut();
        entry.filter(|entry| entry.number == place.number)
    }

    fn chain(&self, spec_hash: u64) -> usize {
        spec_hash as usize & (self.heads.len() - 1)
    }

    fn link(&mut self, slot: u32, spec_hash: u64) {
        let chain = self.chain(spec_hash);
        let next = core::mem::replace(&mut self.heads[chain], slot);
        self.slots[slot as usize].next = next;
        self.slots[slot as usize].previous = NONE;
        if let Some(next) = self.slots.get_mut(next as usize) {
            next.previous = slot;
        }
    }

    fn unlink(&mut self, slot: u32, spec_hash: u64) {
        let (next, previous) = {
            let slot = &self.slots[slot as usize];
            (slot.next, slot.previous)
        };
        if let Some(next) = self.slots.get_mut(next as usize) {
            next.previous = previous;
        }
        let chain = self.chain(spec_hash);
        match self.slots.get_mut(previous as usize) {
            Some(previous) => previous.next = next,
            None => self.heads[chain] = next,
        }
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    fn grown(list: &mut PoolTable<u64>) {
        if let Some(room) = list.wants_room_for() {
            drop(list.grow_into(PoolTable::with_room_for(room)));
        }
    }

    /// The table adds, finds and removes as a plain map does, through growth and reused slots.
    #[test]
    fn find_returns_added_and_not_removed_pools() {
        let mut list = PoolTable::new();
        let mut places = Vec::new();
        for n in 0..1000_u64 {
            grown(&mut list);
            places.push((n, list.add(n, n % 300)));
            if n % 3 == 0 {
                let (value, place) = places.swap_remove((n as usize * 7) % places.len());
                assert_eq!((list.remove(place), list.remove(place)), (Some(value), None));
            }
        }
        assert_eq!((list.len(), list.iter().count()), (places.len(), places.len()));
        for hash in 0..300 {
            let mut found = Vec::new();
            list.find(hash, |place, &value| {
                found.push((value, place));
                None::<()>
            });
            let mut expected: Vec<_> =
                places.iter().filter(|p| p.0 % 300 == hash).copied().collect();
            found.sort_by_key(|p| p.0);
            expected.sort_by_key(|p| p.0);
            assert_eq!(found, expected);
        }
    }

    /// A look-up among thousands of pools visits only those with its own hash.
    #[test]
    fn find_among_thousands_visits_own_spec() {
        let mut list = PoolTable::new();
        for n in 0..8000_u64 {
            grown(&mut list);
            list.add(n, n);
        }
        let mut looks = 0;
        let found = list.find(77, |place, &value| {
            looks += 1;
            (value == 77).then_some(place)
        });
        assert_eq!((looks, found.is_some()), (1, true));
    }

    /// The recorded bytes are the sum of the retired pools' latest figures.
    #[test]
    fn recorded_bytes_are_sum_of_retired_pools() {
        let mut list = PoolTable::<u64>::new();
        let mut places = Vec::new();
        for n in 0..4 {
            grown(&mut list);
            let place = list.add(n, n);
            list.make_current(Some(place));
            places.push(place);
        }
        places.iter().for_each(|&place| list.record(place, 100));
        assert_eq!(list.recorded_except(None), 300, "the current one is not recorded");
        list.record(places[0], 40);
        assert_eq!((list.recorded_except(None), list.recorded_except(Some(places[1]))), (240, 140));
        list.exclude(places[0]);
        list.record(places[0], 500);
        assert_eq!(list.recorded_except(None), 200, "a dying pool is counted elsewhere");
        list.remove(places[1]);
        list.record(places[1], 500);
        assert_eq!(list.recorded_except(None), 100);
        list.make_current(Some(places[2]));
        assert_eq!(list.recorded_except(None), 0, "revived");
    }

    /// A sample is bounded and contains the pools retired last. Repeated samples contain all pools.
    #[test]
    fn sample_is_bounded_and_rotates_over_all() {
        let mut list = PoolTable::<u64>::new();
        for n in 0..200 {
            grown(&mut list);
            let place = list.add(n, n);
            list.make_current(Some(place));
        }
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 / ROTATING {
            let sample = list.sample();
            let mut values: Vec<_> = sample.iter().flatten().map(|(_, value)| *value).collect();
            for recent in 200 - 1 - RECENT as u64..199 {
                assert!(values.contains(&recent));
            }
            seen.extend(values.drain(..));
        }
        assert_eq!(seen.len(), 200);
    }
}
