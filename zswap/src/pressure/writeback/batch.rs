//! The blocks of a segment that is being written.

use bumpalo::collections::Vec as ArenaVec;
use zpool_manager::PoolRef;

use crate::backing::Tier;
use crate::backing::record::DirectoryItem;
use crate::value::ValueId;
use crate::value::pooled_object::PinnedObject;
use crate::value::tier_place::{CodecNumber, PlaceParts};

/// Codecs of a segment, at most: as many as pools.
const CODECS: usize = 8;

/// A block that is in the segment, and still in memory.
#[derive(Debug)]
pub(crate) struct StagedBlock<'p> {
    /// Hash of its key.
    pub(crate) hash: u64,
    /// The identity of the value, unique as long as the object is pinned.
    pub(crate) seen: ValueId,
    pub(crate) object: PinnedObject<'p>,
    /// The place of its record.
    pub(crate) place: PlaceParts,
}

impl StagedBlock<'_> {
    pub(crate) fn directory_item(&self) -> DirectoryItem {
        DirectoryItem { hash: self.hash, offset: self.place.offset }
    }
}

/// The list of these.
pub(crate) type StagedBlocks<'a, 'p> = ArenaVec<'a, StagedBlock<'p>>;

/// The codecs of a segment's blocks. Counts a reference to each, so that it stays until entries do.
#[derive(Debug)]
pub(crate) struct BatchCodecs<'t> {
    tier: &'t Tier,
    /// Numbers of pools' references, and those of their codecs.
    codecs: [Option<(usize, CodecNumber)>; CODECS],
}

impl<'t> BatchCodecs<'t> {
    pub(crate) fn new(tier: &'t Tier) -> BatchCodecs<'t> {
        BatchCodecs { tier, codecs: [None; CODECS] }
    }

    /// Returns the number of the codec of `pool`, or `None` if there are too many.
    pub(crate) fn number(&mut self, pool: &PoolRef) -> Option<CodecNumber> {
        let reference = PoolRef::number(pool);
        let at = self
            .codecs
            .iter()
            .position(|codec| codec.is_none_or(|(known, _)| known == reference))?;
        if self.codecs[at].is_none() {
            self.codecs[at] = Some((reference, self.tier.codecs.acquire_for(pool)?));
        }
        self.codecs[at].map(|(_, number)| number)
    }
}

impl Drop for BatchCodecs<'_> {
    fn drop(&mut self) {
        for (_, number) in self.codecs.into_iter().flatten() {
            self.tier.codecs.release(number);
        }
    }
}
