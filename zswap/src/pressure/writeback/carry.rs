//! The oldest segment of a full tier, which makes room for the next one: which of its records are
//! written again. The others are evicted.

use std::hash::{BuildHasher, Hash};

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;
use zpool_core::backing::SegmentNumber;

use super::WritebackBatch;
use crate::backing::Tier;
use crate::backing::read::ReadBuffer;
use crate::backing::record::DirectoryItem;
use crate::store::Store;
use crate::value::ValueId;
use crate::value::tier_place::TierPlace;

/// Records that were loaded are carried over up to this part of a segment.
const CARRIED_SHARE: usize = 10;

/// A segment whose records move to another one, or are evicted.
#[derive(Debug)]
pub(crate) struct Leaving<'a> {
    pub(crate) number: SegmentNumber,
    pub(crate) id: u32,
    /// Its directory, if it could be read.
    pub(super) directory: ArenaVec<'a, DirectoryItem>,
    /// Records that are written again.
    pub(super) carried: ArenaVec<'a, CarriedRecord>,
}

/// A record that is written again.
#[derive(Debug)]
pub(super) struct CarriedRecord {
    pub(super) hash: u64,
    pub(super) from: TierPlace,
    pub(super) to: TierPlace,
}

impl<'a> Leaving<'a> {
    pub(super) fn new_in(arena: &'a Bump, number: SegmentNumber, id: u32) -> Leaving<'a> {
        let (directory, carried) = (ArenaVec::new_in(arena), ArenaVec::new_in(arena));
        Leaving { number, id, directory, carried }
    }

    /// Returns the carried records as they are in the directory of the new segment.
    pub(super) fn carried_items(&self) -> impl Iterator<Item = DirectoryItem> {
        self.carried
            .iter()
            .map(|record| DirectoryItem { hash: record.hash, offset: record.to.unpack().offset })
    }
}

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Carries records of the leaving segment over that were loaded since they were written, up to
    /// 1/10 of a segment. What cannot be read is not carried.
    pub(super) fn carry_loaded(&self, batch: &mut WritebackBatch<'_, '_>, buffer: &mut ReadBuffer) {
        let tier = batch.tier;
        let Some(leaving) = &mut batch.leaving else { return };
        let Ok(directory) = tier.read_directory(leaving.id, buffer) else { return };
        leaving.directory.extend(directory);
        let most = tier.capabilities().segment_bytes() / CARRIED_SHARE;
        let mut record_buffer = ReadBuffer::take();
        for item in &leaving.directory {
            if batch.staged.filled() >= most {
                break;
            }
            let found = self.index().find_record(item.hash, leaving.id, item.offset);
            let Some((from, _)) = found.filter(|(_, heat)| *heat > 0) else { continue };
            let read = tier.read_record(&from.unpack(), item.hash, &mut record_buffer);
            let Ok((object, sum)) = read else { continue };
            let Some(offset) = batch.staged.push(item.hash, sum, object) else { break };
            let to = from.moved_to(batch.staged.id(), offset);
            leaving.carried.push(CarriedRecord { hash: item.hash, from, to });
        }
    }

    /// Exchanges the places of carried records.
    pub(super) fn exchange_carried(&self, tier: &Tier, leaving: &Leaving<'_>) {
        for record in &leaving.carried {
            let from = ValueId::Backed(record.from);
            if self.index().exchange_for_record(record.hash, from, record.to).is_some() {
                tier.counters.carried.add(1);
            }
        }
    }

    /// Evicts the records that the leaving segment still has.
    pub(super) fn evict_rest(&self, tier: &Tier, leaving: &Leaving<'_>) {
        for item in &leaving.directory {
            let found = self.index().find_record(item.hash, leaving.id, item.offset);
            let Some((place, _)) = found else { continue };
            if let Some(lost) = self.index().remove_lost(item.hash, place) {
                tier.counters.lost_dropped.add(1);
                self.notify_listener(lost);
            }
        }
    }
}
