//! The index as the tier sees it: cold blocks to be written, and entries by hash and value, without
//! their keys.

use std::sync::Arc;

use super::Index;
use crate::backing::Tier;
use crate::index::clock::{Coldest, EvictionAdvice};
use crate::index::shard::{Exchanged, Item, Shard};
use crate::index::table::BucketId;
use crate::value::tier_place::TierPlace;
use crate::value::{Value, ValueId};

/// Fate of a cold entry under the hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnCold {
    /// It is taken out of the index.
    Take,
    /// It stays, and the hand continues behind it.
    Pass,
    /// It stays, and the hand stays at it.
    Stop,
}

impl<K> Index<K> {
    /// Adds a tier to a new index.
    pub(crate) fn add_tier(&mut self, tier: Tier) {
        let tier = Arc::new(tier);
        self.shards.iter().for_each(|shard| shard.lock().add_tier(&tier));
        self.tier = Some(tier);
    }

    /// The tier, if there is one.
    #[inline]
    pub(crate) fn tier(&self) -> Option<&Arc<Tier>> {
        self.tier.as_ref()
    }

    /// Moves the clock's hand through a part of one shard, and shows cold entries to `on_cold`.
    /// Returns an item that was taken out.
    ///
    /// A shard without a block in memory is passed at once.
    pub(crate) fn pass_cold(
        &self,
        keep_compressible: bool,
        advise: impl Fn(&K) -> EvictionAdvice,
        on_cold: impl FnMut(&mut Shard<K>, BucketId, EvictionAdvice) -> OnCold,
    ) -> Coldest<K> {
        self.step_hand(|shard| match shard.has_blocks_in_memory() {
            true => shard.advance_hand(keep_compressible, advise, on_cold),
            false => Coldest::Empty,
        })
        .0
    }

    /// Exchanges a value for its record: see [`Shard::exchange_for_record`].
    pub(crate) fn exchange_for_record(
        &self,
        hash: u64,
        seen: ValueId,
        place: TierPlace,
    ) -> Option<Value> {
        self.edit(hash, |shard, hash| shard.exchange_for_record(hash, seen, place))
    }

    /// Exchanges a record for its block: see [`Shard::readmit`].
    ///
    /// # Errors
    ///
    /// Returns `new` if nothing was exchanged.
    pub(crate) fn readmit(
        &self,
        hash: u64,
        place: TierPlace,
        new: Value,
    ) -> Result<Exchanged, Value> {
        self.edit(hash, |shard, hash| shard.readmit(hash, place, new))
    }

    /// Finds the entry of a record of a segment. Returns its place and its heat.
    pub(crate) fn find_record(
        &self,
        hash: u64,
        segment: u32,
        offset: u16,
    ) -> Option<(TierPlace, u32)> {
        let (shard, hash) = self.lock(hash);
        shard.find_record(hash, segment, offset).map(|(_, place, heat)| (place, heat))
    }

    /// Takes the entry of a lost record out: see [`Shard::remove_lost`].
    pub(crate) fn remove_lost(&self, hash: u64, place: TierPlace) -> Option<Item<K>> {
        self.edit(hash, |shard, hash| shard.remove_lost(hash, place))
    }
}
