//! Entries of a shard whose blocks are in the tier, and those that have been or will be.

use std::sync::Arc;

use zpool_manager::PoolRef;

use super::{Exchanged, Item, Shard, ValueRef};
use crate::backing::Tier;
use crate::backing::codecs::TierCodec;
use crate::index::packed_entry::{EntryState, PackedEntry};
use crate::index::table::BucketId;
use crate::value::tier_place::TierPlace;
use crate::value::{Value, ValueId};

impl<K> Shard<K> {
    /// Adds a tier to a new shard.
    pub(crate) fn add_tier(&mut self, tier: &Arc<Tier>) {
        self.tier = Some(Arc::clone(tier));
    }

    /// Returns whether a watch or a clean copy has to know which objects leave.
    #[inline]
    pub(super) fn is_watched(&self) -> bool {
        !self.watches.is_empty() || !self.clean.is_empty()
    }

    /// Notes that the object of this id has left the index.
    #[cold]
    pub(super) fn object_left(&mut self, id: ValueId) {
        self.watches.left(id);
        if let Some(place) = self.clean.remove(id) {
            self.release_record(place);
        }
    }

    /// Forgets all clean copies.
    pub(super) fn forget_clean_copies(&mut self) {
        for place in self.clean.take_all() {
            self.release_record(place);
        }
    }

    pub(super) fn release_record(&self, place: TierPlace) {
        if let Some(tier) = &self.tier {
            tier.release(place);
        }
    }

    /// Packs a block in the tier. The caller has a reference to its codec.
    pub(super) fn pack_backed(
        &mut self,
        place: TierPlace,
    ) -> Result<(PackedEntry, u32, Option<PoolRef>), Value> {
        if let Some(tier) = &self.tier {
            tier.acquire(place);
        }
        Ok((PackedEntry::Backed { place, state: EntryState::default() }, 0, None))
    }

    /// Returns whether the segment of this record is still there.
    #[inline]
    pub(crate) fn is_current(&self, place: TierPlace) -> bool {
        self.tier.as_ref().is_some_and(|tier| tier.is_current(place))
    }

    /// Returns the codec of a record that an entry refers to; `None` for a raw block.
    pub(crate) fn codec_of(&self, place: TierPlace) -> Option<Arc<TierCodec>> {
        self.tier.as_ref()?.codecs.get(place.unpack().codec)
    }

    /// Returns whether a shard has blocks that could go to the tier.
    pub(crate) fn has_blocks_in_memory(&self) -> bool {
        self.stats.compressed + self.stats.raw + self.stats.large > 0
    }

    /// Returns whether the entry at bucket `at` has a record that is still there.
    pub(crate) fn is_backed(&self, at: BucketId) -> bool {
        matches!(self.found(at), Some(ValueRef::Backed(place)) if self.is_current(place))
    }

    /// Finds the entry of the record at `offset` of the segment of this id. Returns its place
    /// and its heat.
    pub(crate) fn find_record(
        &self,
        hash: u64,
        segment: u32,
        offset: u16,
    ) -> Option<(BucketId, TierPlace, u32)> {
        let place_at = |at| match self.found(at) {
            Some(ValueRef::Backed(place)) => Some(place),
            _ => None,
        };
        let is_it = |place: TierPlace| {
            let parts = place.unpack();
            (parts.segment, parts.offset) == (segment, offset)
        };
        let at = self.table.find_at(hash, |at| place_at(at).is_some_and(is_it))?;
        Some((at, place_at(at)?, self.heat_at(at)))
    }

    /// Finds the entry of the value that `seen` names among those of this hash. Needs no key.
    pub(crate) fn bucket_of_value(&self, hash: u64, seen: ValueId) -> Option<BucketId> {
        self.table.find_at(hash, |at| self.found(at).is_some_and(|found| found.id() == seen))
    }

    /// Returns the heat of the entry at bucket `at`.
    pub(crate) fn heat_at(&self, at: BucketId) -> u32 {
        self.table.get(at).map_or(0, |(_, entry)| entry.state().heat())
    }

    /// Exchanges the value that `seen` names for its record at `place`, and returns it. `None` if
    /// the entry has another value by now, or is gone.
    pub(crate) fn exchange_for_record(
        &mut self,
        hash: u64,
        seen: ValueId,
        place: TierPlace,
    ) -> Option<Value> {
        let at = self.bucket_of_value(hash, seen)?;
        self.put_record(at, place)
    }

    fn put_record(&mut self, at: BucketId, place: TierPlace) -> Option<Value> {
        let (entry, sum, _) = self.pack(Value::Backed(place)).ok()?;
        Some(self.swap_entry(at, entry, sum))
    }

    /// Exchanges the block in memory at bucket `at` for the clean copy that the tier still has of
    /// it, and returns it.
    ///
    /// A copy in the segment `leaving`, which is being dropped or compacted, is none.
    pub(crate) fn exchange_for_clean_copy(
        &mut self,
        at: BucketId,
        leaving: Option<u32>,
    ) -> Option<Value> {
        if self.clean.is_empty() {
            return None;
        }
        let stays = |place: &TierPlace| self.is_current(*place) && Some(place.segment()) != leaving;
        let place = self.clean.get(self.found(at)?.id()).filter(stays)?;
        self.put_record(at, place)
    }

    /// Exchanges the record at `place` for `new`, the same block in a pool, and keeps the record as
    /// a clean copy.
    ///
    /// # Errors
    ///
    /// Returns `new` if the entry has another value by now, or is gone, or if there is no memory.
    pub(crate) fn readmit(
        &mut self,
        hash: u64,
        place: TierPlace,
        new: Value,
    ) -> Result<Exchanged, Value> {
        let Some(at) = self.bucket_of_value(hash, ValueId::Backed(place)) else { return Err(new) };
        let (entry, sum, unused_ref) = self.pack(new)?;
        // The clean copy takes over the reference of the entry.
        if let Some(tier) = &self.tier {
            tier.acquire(place);
        }
        let old = self.swap_entry(at, entry, sum);
        if let Some(ValueRef::Pooled { .. }) = self.found(at) {
            self.keep_clean_copy(at, place);
        } else {
            self.release_record(place);
        }
        Ok(Exchanged { old, unused_ref })
    }

    fn keep_clean_copy(&mut self, at: BucketId, place: TierPlace) {
        let Some(id) = self.found(at).map(|found| found.id()) else { return };
        let before = self.clean.bytes();
        let forgotten = self.clean.insert(id, place);
        self.list_bytes += self.clean.bytes() - before;
        forgotten.into_iter().for_each(|place| self.release_record(place));
    }

    /// Takes the entry of a record out that is lost.
    pub(crate) fn remove_lost(&mut self, hash: u64, place: TierPlace) -> Option<Item<K>> {
        let at = self.bucket_of_value(hash, ValueId::Backed(place))?;
        let item = self.remove_at(at);
        self.stats.evicted += u64::from(item.is_some());
        item
    }
}
