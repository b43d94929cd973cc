//! A shard of the index, all under one lock: a table of entries, the pools that they are in, and
//! the statistics.

mod candidate;
mod conditional;
mod entries;
mod exchange;
mod moving;
mod shard_stats;
mod tiered;

use std::sync::Arc;

use zpool_core::internal::TryArc;
use zpool_core::{Handle, PoolId};
use zpool_manager::PoolRef;

pub(crate) use self::candidate::CandidateFate;
pub(crate) use self::conditional::SWEEP;
pub(crate) use self::exchange::{Inserted, Replaced};
pub(crate) use self::moving::{Exchanged, Temperature};
pub(crate) use self::shard_stats::ShardStats;
use crate::backing::Tier;
use crate::backing::clean::CleanCopies;
use crate::index::equivalent::Equivalent;
use crate::index::large_values::LargeValues;
use crate::index::packed_entry::PackedEntry;
use crate::index::pool_refs::PoolRefs;
use crate::index::shard_contents::ShardContents;
use crate::index::table::{BucketId, Position, Seek, Table};
use crate::index::watch::Watches;
use crate::value::access::Access;
use crate::value::meta::ObjectMeta;
use crate::value::tier_place::TierPlace;
use crate::value::{LargeValue, Value, ValueId};

/// A key with its value, outside the index. Dropping one runs the key's own drop and frees the
/// block, so do that after the shard's lock is released.
pub(crate) type Item<K> = (K, Value);

/// A part of the index.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Shard<K> {
    // In the order of use: a load that hits needs the lock, which comes before this, and the fields
    // on its cache line.
    pub(crate) table: Table<K>,
    pools: PoolRefs,
    /// The hash that a load, peek or take looked up last. In the line of the hits, which they
    /// count.
    last_hash: u64,
    pub(crate) stats: ShardStats,
    /// Marks blocks that must be recognized although no guard holds them.
    pub(crate) watches: Watches,
    values: LargeValues,
    /// Bytes of `pools` and `values` on the heap: they keep it up to date, since they seldom grow
    /// and it is read at every change.
    list_bytes: usize,
    /// Position of the clock's hand: see [`clock`](crate::index::clock).
    pub(crate) hand: Position,
    pub(crate) odd_turn: bool,
    /// Whether the hand has passed an entry in this turn that it may take.
    pub(crate) passed_evictable: bool,
    /// The tier that entries may be in, if there is one.
    tier: Option<Arc<Tier>>,
    /// Records of blocks that are in memory.
    clean: CleanCopies,
}

/// A value in the index, borrowed from its shard.
#[derive(Debug)]
pub(crate) enum ValueRef<'s> {
    SameFilled { word: u64, len: usize },
    Pooled { handle: &'s Handle, pool: &'s PoolRef, meta: ObjectMeta },
    Large(&'s TryArc<LargeValue>),
    Backed(TierPlace),
}

impl<K> Shard<K> {
    pub(crate) fn new(with_sums: bool) -> Shard<K> {
        Shard {
            table: Table::new(with_sums),
            pools: PoolRefs::default(),
            last_hash: 0,
            stats: ShardStats::default(),
            values: LargeValues::default(),
            list_bytes: 0,
            hand: Position::default(),
            odd_turn: false,
            passed_evictable: false,
            watches: Watches::default(),
            tier: None,
            clean: CleanCopies::default(),
        }
    }

    /// Returns the bytes on the heap: of the table, of the lists of pools and values, and of the
    /// lists of the values' blocks.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.table.bytes() + self.list_bytes
    }

    /// Counts entries in pools, by pool, including blocks of large values.
    pub(crate) fn entries_by_pool(&self, mut add: impl FnMut(PoolId, usize)) {
        self.pools.entries().for_each(|(pool, entries)| add(pool, entries));
        self.values.blocks().iter().for_each(|&(pool, blocks)| add(pool, blocks));
    }

    /// Returns the value at bucket `at`, which is in use. Inlined, so that a load does not pass it
    /// through memory.
    #[inline(always)]
    pub(crate) fn found(&self, at: BucketId) -> Option<ValueRef<'_>> {
        let (_, entry) = self.table.get(at)?;
        Some(match entry {
            PackedEntry::SameFilled { word, len, .. } => {
                ValueRef::SameFilled { word: u64::from_le_bytes(*word), len: len.get() }
            }
            PackedEntry::Pooled { handle, state, meta } => ValueRef::Pooled {
                handle,
                pool: self.pools.get(state.pool()),
                meta: meta.unpack(self.table.sum(at)),
            },
            PackedEntry::Large { number, .. } => ValueRef::Large(self.values.get(*number)),
            PackedEntry::Backed { place, .. } => ValueRef::Backed(*place),
        })
    }

    /// Takes the item at bucket `at`, which is in use, out.
    pub(crate) fn remove_at(&mut self, at: BucketId) -> Option<Item<K>> {
        let sum = self.table.sum(at);
        let (key, entry) = self.table.remove(at)?;
        Some((key, self.unpack(entry, sum, None)))
    }

    /// Takes everything out at once, memory included.
    pub(crate) fn take_all(&mut self) -> ShardContents<K> {
        self.watches.all_left();
        self.forget_clean_copies();
        let contents = ShardContents {
            table: self.table.take_all(),
            pools: std::mem::take(&mut self.pools),
            values: std::mem::take(&mut self.values),
            tier: self.tier.clone(),
        };
        self.list_bytes = 0;
        self.hand = Position::default();
        self.stats.reset_stored();
        contents
    }
}

/// Returns whether a look-up can find this key. A float that is not a number, for example, does not
/// equal itself.
pub(crate) fn equals_itself<K: Eq>(key: &K) -> bool {
    let itself = key;
    key == itself
}

impl<K: Eq> Shard<K> {
    /// Moves the items whose keys do not equal themselves into `items`; none if memory for that is
    /// refused.
    pub(crate) fn take_unfindable(&mut self, items: &mut Vec<Item<K>>) {
        let count = self.table.iter().filter(|(key, _)| !equals_itself(key)).count();
        if items.try_reserve_exact(count).is_err() {
            return;
        }
        let mut next = Some(Position::default());
        while let Some(position) = next {
            next = match self.table.seek(position, usize::MAX) {
                Seek::Found(at, found) => {
                    let unfindable = self.table.get(at).is_some_and(|(key, _)| !equals_itself(key));
                    let full = items.len() == items.capacity();
                    match (unfindable && !full).then(|| self.remove_at(at)).flatten() {
                        // The entries that follow it may have moved to this bucket.
                        Some(item) => {
                            items.push(item);
                            Some(found)
                        }
                        None => self.table.behind(at, found),
                    }
                }
                Seek::Nothing(behind) => Some(behind),
                Seek::End => None,
            };
        }
    }

    /// Finds the value of `key`, whose hash is `hash`.
    #[inline]
    pub(crate) fn find<Q>(&self, hash: u64, key: &Q) -> Option<ValueRef<'_>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let at = self.table.find(hash, |other| key.equivalent(other))?;
        self.found(at)
    }

    /// Finds `key` for a load, peek or take. Counts the look-up, and for a load also a use.
    ///
    /// An entry that `admit` declines counts as missing.
    #[inline]
    pub(crate) fn look_up<Q>(
        &mut self,
        hash: u64,
        key: &Q,
        access: Access,
        admit: impl FnOnce(&Self, BucketId) -> bool,
    ) -> Option<ValueRef<'_>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        match self.table.find(hash, |other| key.equivalent(other)) {
            Some(at) if admit(self, at) => {
                self.count_hit(at, access);
                self.found(at)
            }
            _ => {
                self.stats.count_miss(access);
                None
            }
        }
    }

    /// Returns whether hashes are looked up in order, which means that the last one was the one
    /// before `hash`. Remembers `hash` as the last one.
    #[inline]
    pub(crate) fn is_sequential(&mut self, hash: u64) -> bool {
        std::mem::replace(&mut self.last_hash, hash) == hash.wrapping_sub(1)
    }

    /// Finds the bucket of `key`, for [`found`](Self::found) and [`count_hit`](Self::count_hit).
    #[inline]
    pub(crate) fn bucket_of<Q>(&self, hash: u64, key: &Q) -> Option<BucketId>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.table.find(hash, |other| key.equivalent(other))
    }

    /// Counts a load, peek or take of the entry at bucket `at`. A load warms it.
    #[inline]
    pub(crate) fn count_hit(&mut self, at: BucketId, access: Access) {
        self.stats.count_hit(access);
        if matches!(access, Access::Load | Access::LoadResident)
            && let Some((_, entry)) = self.table.get_mut(at)
        {
            entry.warm();
        }
    }

    /// Takes the item of `key` out, if `wanted` returns true for it.
    #[inline]
    pub(crate) fn remove_if<Q>(
        &mut self,
        hash: u64,
        key: &Q,
        wanted: impl FnOnce(&ValueRef<'_>) -> bool,
    ) -> Option<Item<K>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let at = self.table.find(hash, |other| key.equivalent(other))?;
        if !wanted(&self.found(at)?) {
            return None;
        }
        self.remove_at(at)
    }
}

impl ValueRef<'_> {
    /// Returns the bytes of the block or value.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match self {
            ValueRef::SameFilled { len, .. } => *len,
            ValueRef::Pooled { meta, .. } => meta.block_len,
            ValueRef::Large(large) => large.len,
            ValueRef::Backed(place) => place.block_len(),
        }
    }

    #[inline]
    pub(crate) fn id(&self) -> ValueId {
        match self {
            ValueRef::SameFilled { word, len } => ValueId::SameFilled { word: *word, len: *len },
            ValueRef::Pooled { handle, pool, .. } => {
                ValueId::Pooled { pool: pool.id(), handle: handle.id() }
            }
            ValueRef::Large(large) => large.id(),
            ValueRef::Backed(place) => ValueId::Backed(*place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes are in order where each follows the one before.
    #[test]
    fn sequential_if_each_hash_follows_the_last() {
        let mut shard = Shard::<u64>::new(false);
        let asked = [7, 8, 9, 9, 10, 8, u64::MAX, 0, 2].map(|hash| shard.is_sequential(hash));
        assert_eq!(asked, [false, true, true, false, true, false, false, true, false]);
    }
}
