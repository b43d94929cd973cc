//! Which entry is the coldest: a second chance for what was used, instead of a list that every load would have to rewrite.
//!
//! ```text
//!   shard            0                                       1                     2
//!   buckets   | 0 | . | 2 | 1 | . | 0 | 3 | ... | | . | 1 | 0 | . | ... | | 0 | 0 | ...     heat: uses since the hand came by, up to three
//!                     ▲ hand: warm entries get colder as it passes; the first that is cold already goes
//! ```
//!
//! One hand goes over the buckets of all shards, one shard after the other, so that each entry is visited once a turn, whichever shard it is in. Costs two bits
//! an entry. The order of the buckets is that of hashes, so a new entry may be anywhere before the hand: it is as good as random how soon the hand comes (for keys that are
//! [neighbours](crate::index::table) about as soon), and an entry that is never used again tends to go before one that is. Entries that are kept raw are in the same order as the others.

use crate::index::packed_entry::PackedEntry;
use crate::index::shard::{Item, Shard};
use crate::index::table::{Position, Seek};

/// Entries that are looked at while the shard is locked once, and free buckets that are passed.
const ENTRIES: usize = 128;
const BUCKETS: usize = 128;

/// What the hand found.
#[derive(Debug)]
pub(crate) enum Coldest<K> {
    /// The coldest, taken out.
    Taken(Item<K>),
    /// All that it passed was warm: it has not come to the end yet.
    Warm,
    /// It came to the end of the shard.
    End,
    /// It came to the end of the shard, in which there is nothing.
    Empty,
}

impl<K> Shard<K> {
    /// Takes out the entry that the hand comes to first among those that were not used since it last came by.
    ///
    /// `keep_compressible`: what takes up at most a quarter of its block cools at every second turn only.
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

    /// The hand has come to the end of the shard.
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
