//! The table of a shard: keys and entries in one array, sorted by where they belong, nearly full.
//!
//! ```text
//!   slot        0    1    2    3    4    5    6    7        home of a hash: a share of the array
//!             | a0 | b0 | b1 | b2 | d1 |    | f0 | f1 |     a0: entry of home 0, at distance 0
//!                          ▲                                b's home is 1; d came to 3 and had to go on to 4
//!                          looking for home 2: distance 0 here, less than b1's; 1 at slot 3, less than b2's; 2 at slot 4, more than d1's: not there
//! ```
//!
//! Linear probing with entries in the order of their homes ("Robin Hood"): a look-up reads one run of neighbouring memory, ends where the next home's
//! entries begin, and compares keys of its own home only. No tombstones: removing moves the rest of the run back by one. The array may have any length, so
//! it grows by an eighth when it is [full](LOAD), and a table has at most a fifth of its bytes unused, whatever its size; tables that double have half.
//!
//! The lowest bits of a hash are not scaled to the array but added: hashes that differ in them alone are [neighbours](NEIGHBOURS) at home. With hashes that are
//! random that changes nothing. With hashes that are numbers, what is used together is found together (`docs/decisions/0023-neighbours.md`).
//!
//! Keys' `Eq` runs while nothing is being changed, their `Hash` only when the table grows, before the first entry moves: if they panic, nothing happened.

use std::collections::TryReserveError;

use zpool_core::prefetch;

use crate::entry::{Entry, Place};

/// A key with its entry.
pub(crate) type Item<K> = (K, Entry);

/// Of so many slots...
const LOAD_OF: usize = 32;
/// ...this many are used at most. Above nine tenths the runs get long.
const LOAD: usize = 29;

/// Slots of the smallest table, and by how many small ones grow.
const STEP: usize = 8;

/// Hashes that have homes next to each other: those that differ in these lowest bits alone. Measured: sixteen are as good as eight.
pub(crate) const NEIGHBOURS: u64 = 1 << NEIGHBOUR_BITS;
pub(crate) const NEIGHBOUR_BITS: u32 = 3;
const _: () = assert!(STEP >= NEIGHBOURS as usize, "neighbours go round the end of a table once at most");

/// An open table.
#[derive(Debug)]
pub(crate) struct Table<K> {
    slots: Vec<Option<Item<K>>>,
    /// A word for each slot, where entries have checksums; else empty.
    sums: Vec<u32>,
    len: usize,
    with_sums: bool,
}

/// Why there is no place for one more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoRoom;

impl From<TryReserveError> for NoRoom {
    fn from(_: TryReserveError) -> NoRoom {
        NoRoom
    }
}

impl<K> Table<K> {
    pub(crate) fn new(with_sums: bool) -> Table<K> {
        Table { slots: Vec::new(), sums: Vec::new(), len: 0, with_sums }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Bytes of the arrays.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Option<Item<K>>>() + self.sums.capacity() * size_of::<u32>()
    }

    /// What is at slot `at`.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<&Item<K>> {
        self.slots.get(at)?.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut Item<K>> {
        self.slots.get_mut(at)?.as_mut()
    }

    /// The checksum at slot `at`; 0 where there are none.
    #[inline]
    pub(crate) fn sum(&self, at: usize) -> u32 {
        self.sums.get(at).copied().unwrap_or(0)
    }

    #[inline]
    pub(crate) fn set_sum(&mut self, at: usize, sum: u32) {
        if let Some(place) = self.sums.get_mut(at) {
            *place = sum;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Item<K>> {
        self.slots.iter().flatten()
    }

    /// The slot of the key of this hash for which `is` says yes.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is: impl FnMut(&K) -> bool) -> Option<usize> {
        let slots = &self.slots[..];
        if slots.is_empty() {
            return None;
        }
        let mut at = home(hash, slots.len());
        let mut distance = 0;
        while let Some((key, entry)) = &slots[at] {
            let theirs = entry.place().distance();
            if theirs == distance && is(key) {
                return Some(at);
            }
            if theirs < distance {
                return None;
            }
            distance += 1;
            at = if at + 1 == slots.len() { 0 } else { at + 1 };
        }
        None
    }

    /// Asks memory for the slots where a hash is looked for.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        // As many lines as most runs from home to entry touch.
        prefetch(self.slots.get(home(hash, self.slots.len())..).unwrap_or_default(), 3);
    }

    /// Sees to it that one more entry fits.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    #[inline]
    pub(crate) fn make_room(&mut self, rehash: impl Fn(&K) -> u64) -> Result<(), NoRoom> {
        if (self.len + 1) * LOAD_OF <= self.slots.len() * LOAD { Ok(()) } else { self.grow(rehash) }
    }

    #[cold]
    fn grow(&mut self, rehash: impl Fn(&K) -> u64) -> Result<(), NoRoom> {
        self.resize(self.slots.len() + STEP.max(self.slots.len() / 8), rehash)
    }

    /// Gives memory back if much of it is unused.
    pub(crate) fn shrink(&mut self, rehash: impl Fn(&K) -> u64) {
        let enough = self.len * LOAD_OF / LOAD + STEP;
        if self.slots.len() > enough + enough / 2 {
            // An error means that it stays as it is.
            let _ = self.resize(enough, rehash);
        }
    }

    fn resize(&mut self, slots: usize, rehash: impl Fn(&K) -> u64) -> Result<(), NoRoom> {
        let mut hashes = Vec::new();
        hashes.try_reserve_exact(self.len)?;
        hashes.extend(self.iter().map(|(key, _)| rehash(key)));
        let mut next = Table::new(self.with_sums);
        next.slots.try_reserve_exact(slots)?;
        if self.with_sums {
            next.sums.try_reserve_exact(slots)?;
            next.sums.resize(slots, 0);
        }
        next.slots.resize_with(slots, || None);
        // A hash function that does not spread might not fit any more: found out before anything moves.
        if !next.would_fit(&hashes)? {
            return Err(NoRoom);
        }
        let old = std::mem::replace(self, next);
        let sums = old.sums.into_iter().chain(std::iter::repeat(0));
        let items = old.slots.into_iter().zip(sums).filter_map(|(item, sum)| item.map(|item| (item, sum)));
        for ((item, sum), hash) in items.zip(hashes) {
            let placed = self.insert(hash, item);
            let Ok(at) = placed else { unreachable!("just found to fit") };
            self.set_sum(at, sum);
        }
        Ok(())
    }

    /// Whether entries of these hashes, put into this empty table, all are within reach of their homes. In the order of homes each entry comes right
    /// after the one before it or at its home, so the farthest is known without placing any; that the run goes round the end adds at most what is seen
    /// in a second round.
    fn would_fit(&self, hashes: &[u64]) -> Result<bool, NoRoom> {
        if hashes.len() < Place::MAX_DISTANCE {
            return Ok(true);
        }
        let mut homes = Vec::new();
        homes.try_reserve_exact(hashes.len())?;
        homes.extend(hashes.iter().map(|&hash| home(hash, self.slots.len())));
        homes.sort_unstable();
        let mut next = 0;
        for round in 0..2 {
            for &home in &homes {
                let home = home + round * self.slots.len();
                let at = next.max(home);
                if at - home > Place::MAX_DISTANCE {
                    return Ok(false);
                }
                next = at + 1;
            }
        }
        Ok(true)
    }

    /// Puts an item in whose key is not there, where room was made. Gives its slot.
    ///
    /// # Errors
    ///
    /// Gives the item back when too many keys have about this hash.
    pub(crate) fn insert(&mut self, hash: u64, mut item: Item<K>) -> Result<usize, Item<K>> {
        let (start, distance) = self.place_of(hash);
        // All from there to the next empty slot move on by one.
        let mut end = start;
        let mut farthest = distance;
        while let Some((_, entry)) = &self.slots[end] {
            farthest = farthest.max(entry.place().distance() + 1);
            end = self.after(end);
        }
        if farthest > Place::MAX_DISTANCE {
            return Err(item);
        }
        while end != start {
            let before = if end == 0 { self.slots.len() - 1 } else { end - 1 };
            self.shift(before, end, |distance| distance + 1);
            end = before;
        }
        item.1.place_mut().set_distance(distance);
        self.slots[start] = Some(item);
        self.len += 1;
        Ok(start)
    }

    /// Where an entry of this hash goes: behind those of its home and of homes before it.
    fn place_of(&self, hash: u64) -> (usize, usize) {
        let (mut at, mut distance) = (home(hash, self.slots.len()), 0);
        while let Some((_, entry)) = &self.slots[at] {
            if entry.place().distance() < distance {
                break;
            }
            distance += 1;
            at = self.after(at);
        }
        (at, distance)
    }

    /// Takes the item at slot `at`, which is in use, out.
    pub(crate) fn remove(&mut self, at: usize) -> Option<Item<K>> {
        let removed = self.slots[at].take()?;
        self.len -= 1;
        let (mut hole, mut next) = (at, self.after(at));
        while self.slots[next].as_ref().is_some_and(|(_, entry)| entry.place().distance() > 0) {
            self.shift(next, hole, |distance| distance - 1);
            hole = next;
            next = self.after(next);
        }
        Some(removed)
    }

    /// Takes everything out, memory included.
    pub(crate) fn take_all(&mut self) -> Vec<Option<Item<K>>> {
        let empty = Table::new(self.with_sums);
        std::mem::replace(self, empty).slots
    }

    fn shift(&mut self, from: usize, to: usize, distance: impl FnOnce(usize) -> usize) {
        let mut moved = self.slots[from].take();
        if let Some((_, entry)) = &mut moved {
            let place = entry.place_mut();
            place.set_distance(distance(place.distance()));
        }
        self.slots[to] = moved;
        if self.with_sums {
            self.sums[to] = self.sums[from];
        }
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() { 0 } else { at + 1 }
    }
}

/// The slot where the entries of a hash begin: as far into the array as the hash is into its range, and the lowest bits added.
#[inline]
fn home(hash: u64, slots: usize) -> usize {
    let share = ((u128::from(hash) * slots as u128) >> u64::BITS) as usize;
    let at = share + (hash % NEIGHBOURS) as usize;
    if at < slots { at } else { at - slots }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lengths::Length;

    fn item(key: u64) -> Item<u64> {
        (key, Entry::Same { word: key.to_le_bytes(), len: Length::new(8), place: Place::default() })
    }

    fn hash(key: &u64) -> u64 {
        key.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    fn add(table: &mut Table<u64>, key: u64, hash: impl Fn(&u64) -> u64) -> Result<usize, NoRoom> {
        table.make_room(&hash)?;
        table.insert(hash(&key), item(key)).map_err(|_| NoRoom)
    }

    fn check(table: &Table<u64>, hash: impl Fn(&u64) -> u64) {
        let slots = table.slots.len();
        for (at, slot) in table.slots.iter().enumerate() {
            let Some((key, entry)) = slot else { continue };
            let home = home(hash(key), slots);
            assert_eq!(entry.place().distance(), (at + slots - home) % slots, "key {key}");
            assert_eq!(table.find(hash(key), |k| k == key), Some(at));
            if table.with_sums {
                assert_eq!(table.sum(at), *key as u32 ^ 77);
            }
        }
        assert_eq!(table.iter().count(), table.len());
    }

    #[test]
    fn against_a_set_with_good_and_bad_hashes() {
        let hashes: [fn(&u64) -> u64; 4] =
            [hash, |k| k << 60, |_| u64::MAX, |k| hash(k) | 0xFF00_0000_0000_0000];
        for (n, hash) in hashes.into_iter().enumerate() {
            let (mut table, mut set) = (Table::new(n % 2 == 0), std::collections::HashSet::new());
            let mut state = 1u64;
            for step in 0..6_000 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let key = (state >> 33) % 300;
                let found = table.find(hash(&key), |k| *k == key);
                assert_eq!(found.is_some(), set.contains(&key));
                match (found, state >> 62) {
                    (Some(at), 0..2) => {
                        assert_eq!(table.remove(at).unwrap().0, key);
                        set.remove(&key);
                    }
                    (None, _) => {
                        let at = add(&mut table, key, hash).unwrap();
                        table.set_sum(at, key as u32 ^ 77);
                        set.insert(key);
                    }
                    _ => {}
                }
                if step % 100 == 0 {
                    check(&table, hash);
                }
                if step % 1_000 == 999 {
                    table.shrink(hash);
                    check(&table, hash);
                }
            }
        }
    }

    #[test]
    fn hashes_that_differ_in_the_lowest_bits_alone_are_neighbours() {
        for slots in [8, 9, 100, 1000] {
            for high in [0, 0x1234_5678_9ABC_DEF0, !(NEIGHBOURS - 1)] {
                let first = home(high, slots);
                assert!((0..NEIGHBOURS).all(|low| home(high | low, slots) == (first + low as usize) % slots));
            }
        }
    }

    /// How far entries are from home in a table that is as full as it gets: groups in sequence hardly at all, groups at random by dozens of slots.
    #[test]
    fn how_far_neighbours_are_from_home() {
        fn random(key: &u64) -> u64 {
            let mixed = hash(key);
            (mixed ^ mixed >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93)
        }
        let group = |key: &u64, hash: fn(&u64) -> u64| {
            hash(&(key >> NEIGHBOUR_BITS)) & !(NEIGHBOURS - 1) | (key % NEIGHBOURS)
        };
        let far = |hash: &dyn Fn(&u64) -> u64| {
            let mut table = Table::new(false);
            (0..10_000).for_each(|key| assert!(add(&mut table, key, hash).is_ok()));
            check(&table, hash);
            let distances = || table.iter().map(|(_, entry)| entry.place().distance());
            (distances().sum::<usize>() / 10_000, distances().max().unwrap())
        };
        // On average and at most. The figures of docs/decisions/0023.
        assert_eq!(far(&|key| group(key, hash)), (0, 3), "in sequence");
        assert_eq!(far(&|key| group(key, random)), (29, 194), "at random");
        assert_eq!(far(&random), (2, 16), "single entries");
    }

    #[test]
    fn a_table_is_seldom_more_than_a_fifth_empty() {
        let mut table = Table::new(false);
        for key in 0..100_000 {
            add(&mut table, key, hash).unwrap();
            if key >= 1_000 {
                let slots = table.bytes() / size_of::<Option<Item<u64>>>();
                assert!(slots * 79 <= (table.len() + STEP) * 100, "{slots} slots for {}", table.len());
            }
        }
        check(&table, hash);
    }

    #[test]
    fn too_many_keys_of_one_hash_are_refused_and_nothing_is_lost() {
        for constant in [0, u64::MAX] {
            let mut table = Table::new(false);
            let fitted = (0..5_000).take_while(|&key| add(&mut table, key, |_| constant).is_ok()).count();
            assert_eq!(fitted, Place::MAX_DISTANCE + 1);
            assert_eq!(table.len(), fitted);
            check(&table, |_| constant);
        }
    }

    #[test]
    fn a_hash_that_panics_while_growing_changes_nothing_wherever_it_strikes() {
        for nth in 0..40 {
            let mut table = Table::new(false);
            (0..40).for_each(|key| assert!(add(&mut table, key, hash).is_ok()));
            let (len, calls) = (table.len(), std::cell::Cell::new(0));
            let hostile = |key: &u64| {
                calls.set(calls.get() + 1);
                assert!(calls.get() <= nth, "a hasher that panics");
                hash(key)
            };
            let grow = std::panic::AssertUnwindSafe(|| table.grow(hostile).is_ok());
            assert!(std::panic::catch_unwind(grow).is_err());
            assert_eq!(table.len(), len);
            check(&table, hash);
        }
    }
}
