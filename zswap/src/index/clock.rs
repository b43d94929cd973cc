//! The eviction clock (CLOCK, Corbató 1968): used entries get a second chance, so that no load has
//! to rewrite a list.
//!
//! ```text
//!   shard      0                                   1                 2
//!   buckets  | 0 | . | 2 | 1 | . | 0 | 3 | ... | | . | 1 | 0 | ... | | 0 | ...     heat, 0 to 3:
//!                      ▲                                          uses since the hand passed
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
use crate::index::table::{Position, Seek};

/// Entries that are looked at while the shard is locked once, and free buckets that are passed.
const ENTRIES: usize = 128;
const BUCKETS: usize = 128;

/// Result of a step of the hand.
#[derive(Debug)]
pub(crate) enum Coldest<K> {
    /// The coldest, taken out.
    Taken(Item<K>),
    /// All entries that it passed were warm, and there are more to come.
    Warm,
    /// It came to the end of the shard.
    End,
    /// It came to the end of the shard, in which there is nothing.
    Empty,
}

impl<K> Shard<K> {
    /// Evicts the first entry under the hand that was not used since the hand last passed it.
    ///
    /// `keep_compressible`: what takes up at most a quarter of its block cools at every second turn
    /// only.
    pub(crate) fn take_coldest(&mut self, keep_compressible: bool) -> Coldest<K> {
        if self.table.len() == 0 {
            self.hand = Position::default();
            return Coldest::Empty;
        }
        for _ in 0..ENTRIES {
            let (at, position) = match self.table.seek(self.hand, BUCKETS) {
                Seek::Found(at, position) => (at, position),
                Seek::Nothing(position) => {
                    self.hand = position;
                    return Coldest::Warm;
                }
                Seek::End => return self.turn(),
            };
            let odd_turn = self.odd_turn;
            let Some((_, entry)) = self.table.get_mut(at) else { return self.turn() };
            let spared = keep_compressible && odd_turn && is_dense(entry);
            let heat = entry.state().heat();
            if heat == 0 && !spared {
                // The hand stays: the next entry of the run moves here.
                self.hand = position;
                let taken = self.remove_at(at);
                if self.table.len() == 0 {
                    // There is nothing behind it: the turn is over.
                    self.turn();
                }
                return taken.map_or(Coldest::Warm, Coldest::Taken);
            }
            if !spared {
                entry.state_mut().set_heat(heat - 1);
            }
            match self.table.behind(at, position) {
                Some(position) => self.hand = position,
                None => return self.turn(),
            }
        }
        Coldest::Warm
    }

    /// Ends a turn: the hand has reached the end of the shard.
    fn turn(&mut self) -> Coldest<K> {
        self.hand = Position::default();
        self.odd_turn = !self.odd_turn;
        Coldest::End
    }
}

/// Little would be gained by evicting it.
fn is_dense(entry: &PackedEntry) -> bool {
    match entry {
        PackedEntry::SameFilled { .. } => true,
        PackedEntry::Pooled { meta, .. } => {
            let meta = meta.unpack(0);
            meta.object_len * 4 <= meta.block_len
        }
        PackedEntry::Large { .. } => false,
    }
}
