//! The eviction clock (CLOCK, Corbató 1968): used entries get a second chance, so that no load has
//! to rewrite a list.
//!
//! ```text
//!   shard      0                                   1                 2
//!   buckets  | 0 | . | 2 | 1 | . | 0 | 3 | ... | | . | 1 | 0 | ... | | 0 | ...     heat, 0 to 3:
//!                      ▲                                          each use adds 1, each pass of
//!                      │                                          the hand takes 1
//!                      hand: cools warm entries as it passes, and evicts the first cold one
//! ```
//!
//! One hand goes over the buckets of all shards, one shard after the other, so each entry is
//! visited once per turn, whichever shard it is in. That costs two bits per entry. Buckets are in
//! the order of hashes, so it is random how soon the hand reaches a new entry. Keys that are
//! [neighbours](crate::index::table) are reached at about the same time. An entry that is never
//! used again tends to go before one that is. Raw entries are in the same order as the others.

use crate::index::packed_entry::PackedEntry;
use crate::index::shard::{Item, Shard};
use crate::index::table::{BucketId, Position, Seek};
use crate::index::tiered::OnCold;

/// Entries that are looked at while the shard is locked once, and free buckets that are passed.
const ENTRIES: usize = 128;
const BUCKETS: usize = 128;

/// How the eviction clock treats an entry, as set by [`StoreBuilder::eviction_advice`].
///
/// [`StoreBuilder::eviction_advice`]: crate::StoreBuilder::eviction_advice
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EvictionAdvice {
    /// By its use, like every entry of a store without advice.
    #[default]
    ByUse,
    /// It is worthless: the hand takes it at once, however warm it is.
    AtOnce,
    /// It is pinned: the hand passes it.
    Never,
}

/// Result of a step of the hand.
#[derive(Debug)]
pub(crate) enum Coldest<K> {
    /// The coldest, taken out.
    Taken(Item<K>),
    /// Some of the entries that it passed were warm, and there are more to come.
    Warm,
    /// It passed no entry that it may take, and there may be more to come.
    Pinned,
    /// It came to the end of the shard.
    End,
    /// It came to the end of the shard, in which there is nothing that it may take.
    Empty,
}

impl<K> Shard<K> {
    /// Evicts the first entry under the hand that has no heat, and cools those before it by 1.
    ///
    /// `keep_compressible`: an entry whose object is at most 1/4 of its block cools only at
    /// every second turn.
    ///
    /// `spare_backed`: entries in the tier stay, because they cost little.
    ///
    /// `advise` is asked for each entry under the hand.
    pub(crate) fn take_coldest(
        &mut self,
        keep_compressible: bool,
        spare_backed: bool,
        advise: impl Fn(&K) -> EvictionAdvice,
    ) -> Coldest<K> {
        self.advance_hand(keep_compressible, advise, |shard, at, _| {
            if spare_backed && shard.is_backed(at) { OnCold::Pass } else { OnCold::Take }
        })
    }

    /// Moves the hand over a bounded number of entries, and asks `on_cold` what becomes of each
    /// that is cold. Ends at the first one that is taken, or at which the hand stops.
    #[inline]
    pub(crate) fn advance_hand(
        &mut self,
        keep_compressible: bool,
        advise: impl Fn(&K) -> EvictionAdvice,
        mut on_cold: impl FnMut(&mut Self, BucketId, EvictionAdvice) -> OnCold,
    ) -> Coldest<K> {
        let mut cooled = false;
        if self.table.len() == 0 {
            self.hand = Position::default();
            return Coldest::Empty;
        }
        for _ in 0..ENTRIES {
            let (at, position) = match self.table.seek(self.hand, BUCKETS) {
                Seek::Found(at, position) => (at, position),
                Seek::Nothing(position) => {
                    self.hand = position;
                    return step(cooled);
                }
                Seek::End => return self.turn(),
            };
            let odd_turn = self.odd_turn;
            let Some((key, entry)) = self.table.get_mut(at) else { return self.turn() };
            let advice = advise(key);
            let spared = keep_compressible && odd_turn && is_dense(entry);
            let heat = entry.state().heat();
            let cold = match advice {
                EvictionAdvice::ByUse => heat == 0 && !spared,
                EvictionAdvice::AtOnce => true,
                EvictionAdvice::Never => false,
            };
            if cold {
                match on_cold(self, at, advice) {
                    OnCold::Take => {
                        self.passed_evictable = true;
                        // The hand stays: the next entry of the run moves here.
                        self.hand = position;
                        let taken = self.remove_at(at);
                        if self.table.len() == 0 {
                            // Nothing follows: the turn is over.
                            self.turn();
                        }
                        return taken.map_or(Coldest::Warm, Coldest::Taken);
                    }
                    OnCold::Stop => {
                        self.hand = position;
                        return Coldest::Warm;
                    }
                    OnCold::Pass => {}
                }
            } else if advice == EvictionAdvice::ByUse {
                (cooled, self.passed_evictable) = (true, true);
                if !spared {
                    entry.state_mut().set_heat(heat - 1);
                }
            }
            match self.table.behind(at, position) {
                Some(position) => self.hand = position,
                None => return self.turn(),
            }
        }
        step(cooled)
    }

    /// Ends a turn: the hand has reached the end of the shard.
    fn turn(&mut self) -> Coldest<K> {
        self.hand = Position::default();
        self.odd_turn = !self.odd_turn;
        if std::mem::take(&mut self.passed_evictable) { Coldest::End } else { Coldest::Empty }
    }
}

/// Returns the result of a step that took nothing and did not reach the end.
fn step<K>(cooled: bool) -> Coldest<K> {
    if cooled { Coldest::Warm } else { Coldest::Pinned }
}

/// Returns whether evicting the entry would gain little.
fn is_dense(entry: &PackedEntry) -> bool {
    match entry {
        PackedEntry::SameFilled { .. } => true,
        PackedEntry::Pooled { meta, .. } => {
            let meta = meta.unpack(0);
            meta.object_len * 4 <= meta.block_len
        }
        PackedEntry::Large { .. } | PackedEntry::Backed { .. } => false,
    }
}
