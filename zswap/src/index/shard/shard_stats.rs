//! The counts of a shard.

use super::Shard;
use crate::index::packed_entry::PackedEntry;
use crate::index::packed_meta::PackedMeta;
use crate::value::access::Access;
use crate::value::{PooledBlock, Value};

/// Statistics of a shard. The figures about stored values are always exact, because they change
/// under the same lock as the table.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ShardStats {
    pub(crate) load_hits: u64,
    pub(crate) load_misses: u64,
    pub(crate) stores: u64,
    pub(crate) compressed: usize,
    pub(crate) raw: usize,
    pub(crate) same: usize,
    pub(crate) large: usize,
    pub(crate) backed: usize,
    /// Bytes of the objects of backed entries.
    pub(crate) backed_bytes: usize,
    /// Bytes of the objects in pools of all entries.
    pub(crate) payload: usize,
    /// Bytes of all blocks and values, as they were given.
    pub(crate) stored_bytes: usize,
    pub(crate) peek_hits: u64,
    pub(crate) peek_misses: u64,
    pub(crate) taken: u64,
    pub(crate) take_misses: u64,
    pub(crate) invalidated: u64,
    pub(crate) evicted: u64,
    /// Entries moved to another pool.
    pub(crate) moved: u64,
}

impl<K> Shard<K> {
    /// Counts an entry that comes in.
    pub(super) fn count_in(&mut self, entry: &PackedEntry) {
        match entry {
            PackedEntry::SameFilled { len, .. } => {
                self.stats.add(BlockKind::SameFilled, 0, len.get())
            }
            PackedEntry::Pooled { meta, .. } => {
                let meta = meta.unpack(0);
                let kind = if meta.raw { BlockKind::Raw } else { BlockKind::Compressed };
                self.stats.add(kind, meta.object_len, meta.block_len);
            }
            PackedEntry::Large { number, .. } => {
                let large = self.values.get(*number);
                self.stats.add(BlockKind::Large, large.object_len(), large.len);
            }
            PackedEntry::Backed { place, .. } => {
                let place = place.unpack();
                self.stats.add(BlockKind::Backed, 0, place.block_len);
                self.stats.backed_bytes += place.object_len;
            }
        }
    }
}

impl ShardStats {
    /// Adds the counts of another shard.
    pub(crate) fn add_shard(&mut self, other: &ShardStats) {
        self.compressed += other.compressed;
        self.raw += other.raw;
        self.same += other.same;
        self.large += other.large;
        self.backed += other.backed;
        self.backed_bytes += other.backed_bytes;
        self.payload += other.payload;
        self.stored_bytes += other.stored_bytes;
        self.stores += other.stores;
        self.load_hits += other.load_hits;
        self.load_misses += other.load_misses;
        self.peek_hits += other.peek_hits;
        self.peek_misses += other.peek_misses;
        self.taken += other.taken;
        self.take_misses += other.take_misses;
        self.invalidated += other.invalidated;
        self.evicted += other.evicted;
        self.moved += other.moved;
    }

    /// Exchanges the metadata of two blocks, except their checksums, and counts a store.
    #[inline(always)]
    pub(super) fn exchange(&mut self, entry: &mut PackedEntry, new: &mut PooledBlock) {
        let PackedEntry::Pooled { meta: packed, .. } = entry else {
            unreachable!("checked before")
        };
        let added = new.meta;
        let removed = packed.unpack(added.checksum);
        *packed = PackedMeta::pack(added);
        self.stores += 1;
        self.raw = self.raw + usize::from(added.raw) - usize::from(removed.raw);
        self.compressed = self.compressed + usize::from(removed.raw) - usize::from(added.raw);
        self.stored_bytes = self.stored_bytes + added.block_len - removed.block_len;
        self.payload = self.payload + added.object_len - removed.object_len;
        new.meta = removed;
        entry.warm();
    }

    /// Counts a look-up that found something. A take counts when the entry is removed.
    #[inline]
    pub(crate) fn count_hit(&mut self, access: Access) {
        match access {
            Access::Load | Access::LoadResident => self.load_hits += 1,
            Access::Peek | Access::Examine => self.peek_hits += 1,
            Access::Take => {}
        }
    }

    /// Reverts what [`count_hit`](Self::count_hit) counted under the same lock.
    pub(crate) fn uncount_hit(&mut self, access: Access) {
        match access {
            Access::Load | Access::LoadResident => self.load_hits -= 1,
            Access::Peek | Access::Examine => self.peek_hits -= 1,
            Access::Take => {}
        }
    }

    #[inline]
    pub(crate) fn count_miss(&mut self, access: Access) {
        match access {
            Access::Load | Access::LoadResident => self.load_misses += 1,
            Access::Peek | Access::Examine => self.peek_misses += 1,
            Access::Take => self.take_misses += 1,
        }
    }

    /// Resets the figures about stored values, after all were removed.
    pub(super) fn reset_stored(&mut self) {
        (self.compressed, self.raw, self.same, self.large) = (0, 0, 0, 0);
        (self.backed, self.backed_bytes) = (0, 0);
        (self.payload, self.stored_bytes) = (0, 0);
    }

    fn add(&mut self, kind: BlockKind, payload: usize, stored_bytes: usize) {
        *self.count(kind) += 1;
        self.payload += payload;
        self.stored_bytes += stored_bytes;
    }

    pub(super) fn subtract(&mut self, stored: &Value) {
        let kind = match stored {
            Value::SameFilled { .. } => BlockKind::SameFilled,
            Value::Pooled(block) if block.meta.raw => BlockKind::Raw,
            Value::Pooled(_) => BlockKind::Compressed,
            Value::Large(_) => BlockKind::Large,
            Value::Backed(place) => {
                self.backed_bytes -= place.unpack().object_len;
                BlockKind::Backed
            }
        };
        *self.count(kind) -= 1;
        self.payload -= stored.object_len();
        self.stored_bytes -= stored.len();
    }

    fn count(&mut self, kind: BlockKind) -> &mut usize {
        match kind {
            BlockKind::SameFilled => &mut self.same,
            BlockKind::Raw => &mut self.raw,
            BlockKind::Compressed => &mut self.compressed,
            BlockKind::Large => &mut self.large,
            BlockKind::Backed => &mut self.backed,
        }
    }
}

/// Kind of an entry in the statistics.
#[derive(Debug, Clone, Copy)]
enum BlockKind {
    SameFilled,
    Raw,
    Compressed,
    Large,
    Backed,
}
