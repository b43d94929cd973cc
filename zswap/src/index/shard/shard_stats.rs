//! The counts of a shard.

use super::Shard;
use crate::index::packed_entry::PackedEntry;
use crate::index::packed_meta::PackedMeta;
use crate::value::access::Access;
use crate::value::{PooledBlock, Value};

/// Counts of a shard. What is stored is exact at any moment, since it changes under the same lock
/// as the table.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ShardStats {
    pub(crate) load_hits: u64,
    pub(crate) load_misses: u64,
    pub(crate) stores: u64,
    pub(crate) compressed: usize,
    pub(crate) raw: usize,
    pub(crate) same: usize,
    pub(crate) large: usize,
    /// Bytes of the objects of all entries.
    pub(crate) payload: usize,
    /// Bytes of all blocks and values, as they were given.
    pub(crate) stored_bytes: usize,
    pub(crate) peek_hits: u64,
    pub(crate) peek_misses: u64,
    pub(crate) taken: u64,
    pub(crate) take_misses: u64,
    pub(crate) invalidated: u64,
    pub(crate) evicted: u64,
}

impl<K> Shard<K> {
    /// Counts an entry that comes in.
    pub(super) fn count_in(&mut self, entry: &PackedEntry) {
        match entry {
            PackedEntry::SameFilled { len, .. } => self.stats.add(Kind::SameFilled, 0, len.get()),
            PackedEntry::Pooled { meta, .. } => {
                let kind = if meta.raw() { Kind::Raw } else { Kind::Compressed };
                self.stats.add(kind, meta.object_len(), meta.len());
            }
            PackedEntry::Large { number, .. } => {
                let large = self.values.get(*number);
                self.stats.add(Kind::Large, large.object_len(), large.len);
            }
        }
    }
}

impl ShardStats {
    /// Exchanges what is kept of two blocks, but for their handles and pools, and counts a store.
    #[inline(always)]
    pub(super) fn exchange(&mut self, entry: &mut PackedEntry, new: &mut PooledBlock) {
        let PackedEntry::Pooled { meta, .. } = entry else { unreachable!("looked at before") };
        let old = std::mem::replace(meta, PackedMeta::new(new.len, new.object_len, new.raw));
        self.stores += 1;
        self.raw = self.raw + usize::from(new.raw) - usize::from(old.raw());
        self.compressed = self.compressed + usize::from(old.raw()) - usize::from(new.raw);
        self.stored_bytes = self.stored_bytes + new.len - old.len();
        self.payload = self.payload + new.object_len - old.object_len();
        (new.len, new.object_len, new.raw) = (old.len(), old.object_len(), old.raw());
        entry.warm();
    }

    /// Counts a look-up that found something. A take counts when the entry is removed.
    #[inline]
    pub(crate) fn count_hit(&mut self, access: Access) {
        match access {
            Access::Load => self.load_hits += 1,
            Access::Peek => self.peek_hits += 1,
            Access::Take => {}
        }
    }

    /// Takes back what [`count_hit`](Self::count_hit) counted under the same lock.
    pub(crate) fn uncount_hit(&mut self, access: Access) {
        match access {
            Access::Load => self.load_hits -= 1,
            Access::Peek => self.peek_hits -= 1,
            Access::Take => {}
        }
    }

    #[inline]
    pub(super) fn count_miss(&mut self, access: Access) {
        match access {
            Access::Load => self.load_misses += 1,
            Access::Peek => self.peek_misses += 1,
            Access::Take => self.take_misses += 1,
        }
    }

    /// Nothing is stored any more.
    pub(super) fn reset_stored(&mut self) {
        (self.compressed, self.raw, self.same, self.large) = (0, 0, 0, 0);
        (self.payload, self.stored_bytes) = (0, 0);
    }

    fn add(&mut self, kind: Kind, payload: usize, stored_bytes: usize) {
        *self.count(kind) += 1;
        self.payload += payload;
        self.stored_bytes += stored_bytes;
    }

    pub(super) fn subtract(&mut self, stored: &Value) {
        let kind = match stored {
            Value::SameFilled { .. } => Kind::SameFilled,
            Value::Pooled(block) if block.raw => Kind::Raw,
            Value::Pooled(_) => Kind::Compressed,
            Value::Large(_) => Kind::Large,
        };
        *self.count(kind) -= 1;
        self.payload -= stored.object_len();
        self.stored_bytes -= stored.len();
    }

    fn count(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::SameFilled => &mut self.same,
            Kind::Raw => &mut self.raw,
            Kind::Compressed => &mut self.compressed,
            Kind::Large => &mut self.large,
        }
    }
}

/// What an entry is counted as.
#[derive(Debug, Clone, Copy)]
enum Kind {
    SameFilled,
    Raw,
    Compressed,
    Large,
}
