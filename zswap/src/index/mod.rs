//! The index: a sharded map from keys to what is stored, with one lock per shard.
//!
//! ```text
//!   hash of the key, computed once, before any lock
//!        │ split: neighbours stay together
//!        │ number of the shard     hash for its table
//!        ▼                              ▼
//!   +---------+---------+-- ... --+   the home in the shard's table
//!   | shard 0 | shard 1 |         |
//!   +---------+---------+-- ... --+   each: Mutex { table, pools, stats }
//! ```
//!
//! A shard's lock is held for a look-up, a pin or an exchange of entries. Under it run the key's
//! `Eq`; its `Hash` when a part of the table is rebuilt; its `Clone` when keys are listed or shown
//! to a listener; the closures of conditional operations and the eviction advice, which see stored
//! keys; and the allocator's `read` and `exchange`, which never block. No other caller-supplied
//! code runs under it. The frames of a rebuilt part come from a source of the index's own. Removed
//! items are freed after the lock.

pub(crate) mod clock;
pub(crate) mod equivalent;
mod insert;
pub(crate) mod key_batch;
pub(crate) mod large_values;
pub(crate) mod moving;
pub(crate) mod packed_entry;
pub(crate) mod packed_meta;
pub(crate) mod pool_refs;
pub(crate) mod shard;
pub(crate) mod shard_contents;
pub(crate) mod table;
pub(crate) mod tiered;
pub(crate) mod watch;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use crossbeam_utils::CachePadded;
use zpool_core::PoolId;
use zpool_core::internal::prefetch;
use zpool_core::internal::sync::atomic::{AtomicUsize, Ordering};
use zpool_core::internal::sync::{Mutex, MutexGuard};
use zpool_manager::PoolRef;

use crate::backing::Tier;
use crate::index::clock::{Coldest, EvictionAdvice};
use crate::index::key_batch::KeyBatch;
use crate::index::shard::{Item, Shard, ShardStats};
use crate::index::shard_contents::ShardContents;
use crate::index::table::{NEIGHBOUR_BITS, NEIGHBOURS, Position, Table};
use crate::stats::thrash::ThrashMeter;

/// Fewest and most shards.
const SHARDS: std::ops::RangeInclusive<usize> = 64..=1024;

/// Shards for each processor, so that two threads seldom meet.
const SHARDS_PER_CPU: usize = 16;

/// Rows that are placed in one sequence, as a power of two: those of some thirty million numbers.
/// Rows that are a Fibonacci number apart end up next to each other, and the fewer of them are in a
/// sequence, the shorter are the runs that they make.
const STRETCH_BITS: u32 = 16;

/// Permutes words so that each bit depends on every other: the finalizer of SplitMix64 (Steele, Lea
/// and Flood, 2014).
#[inline]
fn mix(mut word: u64) -> u64 {
    word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ word >> 31
}

/// A sharded map from keys to what is stored.
#[derive(Debug)]
pub(crate) struct Index<K> {
    shards: Box<[CachePadded<Mutex<Shard<K>>>]>,
    /// The number of shards as a power of two.
    bits: u32,
    /// Random number of this index. Without it, an attacker could compute which hashes collide.
    seed: u64,
    /// Bytes of all tables.
    bytes: AtomicUsize,
    /// The shard that the clock's hand is in, modulo the number of shards.
    hand: AtomicUsize,
    /// Notes how soon blocks that left are looked up again, if the store was built with a meter.
    meter: Option<Box<ThrashMeter>>,
    /// The tier that entries may be in, if there is one.
    tier: Option<Arc<Tier>>,
}

/// Next target of [`Index::prefetch_next_group`].
#[derive(Debug, PartialEq)]
enum Prefetch {
    /// A shard.
    Shard(usize),
    /// The buckets of its table from this hash on.
    Places { shard: usize, hash: u64 },
}

impl<K> Index<K> {
    pub(crate) fn new(with_sums: bool) -> Index<K> {
        let wanted = zpool_core::internal::cpu_shards() * SHARDS_PER_CPU;
        let shards = wanted.clamp(*SHARDS.start(), *SHARDS.end()).next_power_of_two();
        // Not `hash_one`: that of another type keeps the hasher's `write` from being inlined for
        // keys.
        let seed = RandomState::new().build_hasher().finish();
        Index::with_shards(shards, seed, with_sums)
    }

    /// Creates an index with a number of shards that is a power of two.
    fn with_shards(shards: usize, seed: u64, with_sums: bool) -> Index<K> {
        Index {
            shards: (0..shards)
                .map(|_| CachePadded::new(Mutex::new(Shard::new(with_sums))))
                .collect(),
            bits: shards.trailing_zeros(),
            seed,
            bytes: AtomicUsize::new(0),
            hand: AtomicUsize::new(0),
            meter: None,
            tier: None,
        }
    }

    /// Returns the number of the shard of a key's hash, and the hash for its table.
    ///
    /// - A *group*, the hashes that differ in the lowest bits alone, are [neighbours](NEIGHBOURS)
    ///   in one table.
    /// - A *row*, as many consecutive groups as there are shards, has a group for each shard.
    /// - In a shard, each row goes where the largest gap is: its number is multiplied by 2^64 over
    ///   the golden ratio. So numbers in sequence leave tables without long runs.
    ///
    /// Other hashes, such as multiples of a number, must not collide because of that. So each row
    /// begins with another shard, and each [stretch](STRETCH_BITS) of rows in another place. Both
    /// are as good as random.
    #[inline]
    fn split(&self, hash: u64) -> (usize, u64) {
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        let group = hash >> NEIGHBOUR_BITS;
        let row = group >> self.bits;
        let shard = group.wrapping_add(mix(row ^ self.seed)) & ((1 << self.bits) - 1);
        let gap = row.wrapping_mul(GOLDEN).wrapping_add(mix(row >> STRETCH_BITS ^ self.seed));
        (shard as usize, (gap & !(NEIGHBOURS - 1)) | (hash % NEIGHBOURS))
    }

    /// Locks the shard of a hash, for a look-up or a change that keeps its size. Returns also the
    /// hash for its table.
    #[inline]
    pub(crate) fn lock(&self, hash: u64) -> (MutexGuard<'_, Shard<K>>, u64) {
        let (shard, hash) = self.split(hash);
        (self.shards[shard].lock(), hash)
    }

    /// Prefetches the buckets of a hash, for a caller that has other work before it looks the hash
    /// up.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        let (shard, hash) = self.lock(hash);
        shard.table.prefetch(hash);
    }

    /// Prefetches what the next group of hashes needs, for a caller that visits hashes in order and
    /// is at `hash`. Never waits. Other threads may wait for the shard, but only for a few
    /// instructions.
    #[inline]
    pub(crate) fn prefetch_next_group(&self, hash: u64) {
        match self.next_prefetch(hash) {
            None => {}
            Some(Prefetch::Shard(shard)) => {
                prefetch(std::slice::from_ref(&self.shards[shard]), usize::MAX)
            }
            Some(Prefetch::Places { shard, hash }) => {
                if let Some(shard) = self.shards[shard].try_lock() {
                    shard.table.prefetch(hash);
                }
            }
        }
    }

    /// Decides what to prefetch at `hash`. A group begins with its shard, because the shard knows
    /// where its buckets are. Nothing is prefetched at the first hash of a group: only the second
    /// one shows that there is an order.
    #[inline]
    fn next_prefetch(&self, hash: u64) -> Option<Prefetch> {
        let at = hash % NEIGHBOURS;
        let next = || self.split((hash - at).wrapping_add(NEIGHBOURS));
        const { assert!(NEIGHBOURS > 4) };
        match at {
            1 => Some(Prefetch::Shard(next().0)),
            4 => {
                let (shard, hash) = next();
                Some(Prefetch::Places { shard, hash })
            }
            _ => None,
        }
    }

    /// Changes the shard of a hash.
    #[inline]
    pub(crate) fn edit<R>(&self, hash: u64, change: impl FnOnce(&mut Shard<K>, u64) -> R) -> R {
        let (shard, hash) = self.split(hash);
        self.edit_shard(shard, |shard| change(shard, hash))
    }

    /// Changes the shard of this number.
    #[inline]
    pub(crate) fn edit_shard<R>(&self, shard: usize, change: impl FnOnce(&mut Shard<K>) -> R) -> R {
        self.accounted(&mut self.shards[shard].lock(), change)
    }

    /// Changes a shard, which the caller has locked, and keeps account of its bytes.
    #[inline]
    fn accounted<R>(&self, shard: &mut Shard<K>, change: impl FnOnce(&mut Shard<K>) -> R) -> R {
        let before = shard.bytes();
        let result = change(shard);
        let after = shard.bytes();
        if before != after {
            // Under the lock, so that no other thread subtracts the bytes before they are added.
            // Wrapping, so that shrinking adds the difference too. Relaxed: an account.
            self.bytes.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        }
        result
    }

    /// Returns the number of shards.
    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Returns the number of entries. Exact without concurrent calls.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().table.len()).sum()
    }

    /// Returns the sum of all shards' statistics.
    pub(crate) fn stats(&self) -> ShardStats {
        let mut sum = ShardStats::default();
        for shard in &self.shards {
            sum.add_shard(&shard.lock().stats);
        }
        sum
    }

    /// Returns the number of entries by pool, oldest pool first.
    pub(crate) fn entries_by_pool(&self) -> Vec<(PoolId, usize)> {
        let mut by_pool = std::collections::BTreeMap::new();
        for shard in &self.shards {
            shard
                .lock()
                .entries_by_pool(|pool, entries| *by_pool.entry(pool).or_insert(0) += entries);
        }
        by_pool.into_iter().collect()
    }

    /// Returns the bytes of the index: tables and shards, without what keys own on the heap.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed) + self.fixed_bytes()
    }

    /// Returns the bytes of an index without entries, with the memory of a tier.
    #[inline]
    pub(crate) fn fixed_bytes(&self) -> usize {
        size_of_val(&*self.shards)
            + self.meter.as_ref().map_or(0, |meter| meter.bytes())
            + self.tier.as_ref().map_or(0, |tier| tier.bytes())
    }

    /// Takes everything out of the shard of this number. Needs no memory.
    pub(crate) fn take_shard(&self, shard: usize) -> ShardContents<K> {
        self.edit_shard(shard, |shard| {
            let contents = shard.take_all();
            shard.stats.invalidated += contents.len() as u64;
            contents
        })
    }

    /// Evicts the first cold entry that the clock's hand reaches. Returns `None` if no shard has an
    /// entry that may be evicted.
    ///
    /// The search continues past empty shards, however many there are (B30).
    ///
    /// With a tier, the blocks in it stay as long as there are others.
    pub(crate) fn take_coldest(
        &self,
        keep_compressible: bool,
        advise: impl Fn(&K) -> EvictionAdvice,
    ) -> Option<Item<K>> {
        let coldest = self.take_coldest_of(keep_compressible, self.tier.is_some(), &advise);
        if coldest.is_none() && self.tier.is_some() {
            return self.take_coldest_of(keep_compressible, false, &advise);
        }
        coldest
    }

    fn take_coldest_of(
        &self,
        keep_compressible: bool,
        spare_backed: bool,
        advise: impl Fn(&K) -> EvictionAdvice,
    ) -> Option<Item<K>> {
        let mut empty = 0;
        // The first shard twice: the hand may have been in its middle.
        while empty <= self.shards() {
            let (coldest, moved) = self
                .step_hand(|shard| shard.take_coldest(keep_compressible, spare_backed, &advise));
            match coldest {
                Coldest::Taken(item) => return Some(item),
                Coldest::Warm | Coldest::End => empty = 0,
                Coldest::Pinned => {}
                Coldest::Empty => empty += usize::from(moved),
            }
        }
        None
    }

    /// Moves the clock's hand on by a `step` in the shard that it is in, and at the end of that to
    /// the next shard. Returns the result of the step, and whether this call moved the hand to
    /// another shard. Counts an item that was taken out as evicted.
    pub(crate) fn step_hand(
        &self,
        step: impl FnOnce(&mut Shard<K>) -> Coldest<K>,
    ) -> (Coldest<K>, bool) {
        // Relaxed, here and below: only this function reads the hand. Two threads that find it in
        // the same shard look there one after the other.
        let at = self.hand.load(Ordering::Relaxed);
        let coldest = self.edit_shard(at % self.shards(), |shard| {
            let coldest = step(shard);
            shard.stats.evicted += u64::from(matches!(coldest, Coldest::Taken(_)));
            coldest
        });
        let moved = matches!(coldest, Coldest::End | Coldest::Empty)
            // Another thread may have moved it.
            && self
                .hand
                .compare_exchange(at, at.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        (coldest, moved)
    }

    /// Puts an item back that was taken out for a moment: see [`Shard::put_back`].
    pub(crate) fn put_back(
        &self,
        hash: u64,
        item: &mut Option<Item<K>>,
        rehash: impl Fn(&K) -> u64,
    ) -> Option<PoolRef> {
        self.edit(hash, |shard, hash| shard.put_back(hash, item, |key| self.split(rehash(key)).1))
    }

    /// Frees memory of the index that its entries do not need, in one shard after the other.
    pub(crate) fn shrink(&self, rehash: impl Fn(&K) -> u64) {
        for shard in 0..self.shards() {
            self.edit_shard(shard, |shard| shard.table.shrink(&|key| self.split(rehash(key)).1));
        }
    }

    /// Returns the bytes that an entry takes in the index.
    pub(crate) const fn entry_bytes() -> usize {
        Table::<K>::ENTRY_BYTES
    }

    /// Returns copies of the keys of a stretch of a shard, and where the next stretch begins. Keys
    /// that moved here from an earlier stretch, because two were merged, are left out. If memory is
    /// short, the stretch is shorter.
    ///
    /// # Panics
    ///
    /// If there is no memory for keys that cannot be divided further: those of one hash, or in the
    /// stash.
    pub(crate) fn key_batch(
        &self,
        shard: usize,
        from: Position,
        rehash: impl Fn(&K) -> u64,
    ) -> (KeyBatch<K>, Option<Position>)
    where
        K: Clone,
    {
        let locked = self.shards[shard].lock();
        let (stretch, mut next) = locked.table.stretch(from);
        let hash = |key: &K| self.split(rehash(key)).1;
        let mut keys = KeyBatch { one: None, more: Vec::new() };
        if keys.more.try_reserve_exact(stretch.len()).is_ok() {
            let is_new = |key: &K| from.is_start() || hash(key) >= from.hash();
            keys.more
                .extend(stretch.items().map(|(key, _)| key).filter(|key| is_new(key)).cloned());
            return (keys, next);
        }
        // The part of the stretch up to `last`, which is halved until there is memory for it.
        let mut last = next.map_or(u64::MAX, |next| next.hash().wrapping_sub(1));
        loop {
            let hashes = from.hash()..=last;
            let stretch = || locked.table.stretch(from).0;
            let part =
                || stretch().items().map(|(key, _)| key).filter(|key| hashes.contains(&hash(key)));
            match part().count() {
                0 => {}
                1 => keys.one = part().next().cloned(),
                count if keys.more.try_reserve_exact(count).is_ok() => {
                    keys.more.extend(part().cloned())
                }
                _ => {
                    assert!(
                        !stretch().is_stash() && last > from.hash(),
                        "no memory for a list of keys"
                    );
                    last = from.hash() + (last - from.hash()) / 2;
                    next = Some(Position::of(last + 1));
                    continue;
                }
            }
            return (keys, next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that follow each other are neighbours in a shard, and their groups go to one shard
    /// after the other.
    #[test]
    fn consecutive_numbers_are_neighbours() {
        let index = Index::<u64>::with_shards(64, 0, false);
        let shards = index.shards() as u64;
        for first in
            [0, NEIGHBOURS * shards, NEIGHBOURS * shards * 77, u64::MAX - NEIGHBOURS * shards + 1]
        {
            let mut seen = std::collections::HashSet::new();
            for group in 0..shards {
                let (shard, hash) = index.split(first + group * NEIGHBOURS);
                assert!(seen.insert(shard), "each shard has one group of a row");
                for low in 1..NEIGHBOURS {
                    assert_eq!(index.split(first + group * NEIGHBOURS + low), (shard, hash + low));
                }
            }
        }
    }

    /// Look-ups in order prefetch the next shard and its buckets once each.
    #[test]
    fn sequential_lookups_prefetch_each_group_once() {
        let index = Index::<u64>::with_shards(64, 0, false);
        let last_group = u64::MAX - NEIGHBOURS + 1;
        for first in [0, NEIGHBOURS * 64 * 77, last_group] {
            let (shard, hash) = index.split(first.wrapping_add(NEIGHBOURS));
            let asked: Vec<_> =
                (0..NEIGHBOURS).filter_map(|at| index.next_prefetch(first + at)).collect();
            assert_eq!(asked, [Prefetch::Shard(shard), Prefetch::Places { shard, hash }]);
        }
        // A prefetch has no visible effect, but it must neither wait for a shard that is locked nor
        // fail on an empty table.
        let _held = index.shards[index.split(NEIGHBOURS).0].lock();
        (0..2 * NEIGHBOURS).for_each(|hash| index.prefetch_next_group(hash));
    }

    /// The last four are Fibonacci numbers times eight.
    #[test]
    fn any_stride_is_spread_over_shards_and_tables() {
        for shards in [64, 1024] {
            let index = Index::<u64>::with_shards(shards, 0, false);
            let powers = (0..=43).map(|power| 1u64 << power);
            for stride in
                powers.chain([3, 7, 1000, 12_288, 971_144, 1_571_344, 6_656_320, 17_426_472])
            {
                // 100 per shard, and 16 ranges to tell apart in each shard's table.
                let (mut by_shard, mut by_place) = (vec![0; shards], vec![0; 16 * shards]);
                for i in 0..100 * shards as u64 {
                    let (shard, hash) = index.split(i.wrapping_mul(stride));
                    by_shard[shard] += 1;
                    by_place[shard * 16 + (hash >> 60) as usize] += 1;
                }
                let most = |counts: &[usize]| counts.iter().copied().max().unwrap_or(0);
                // Random hashes have 100 on average, with a deviation of 10, and 6 per place, or 28
                // in places with groups of eight.
                assert!(
                    most(&by_shard) < 180,
                    "{shards} shards, stride {stride}: {}",
                    most(&by_shard)
                );
                assert!(
                    most(&by_place) <= 64,
                    "{shards} shards, stride {stride}: {} in one place",
                    most(&by_place)
                );
            }
        }
    }
}
