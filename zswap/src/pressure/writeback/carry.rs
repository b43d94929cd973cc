//! The segment that makes room for the one that is written: which it is, which of its records are
//! written again, and what becomes of the others.

use std::hash::{BuildHasher, Hash};

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;
use zpool_core::backing::SegmentNumber;

use super::{NoRoomInTier, WritebackBatch};
use crate::backing::read::{ReadBuffer, ReadError};
use crate::backing::record::{DirectoryItem, directory_len, read_directory, read_record};
use crate::backing::writer::TierWriter;
use crate::backing::{Tier, TierPolicy};
use crate::store::Store;
use crate::value::ValueId;
use crate::value::tier_place::TierPlace;

/// Records that were loaded are carried over up to this part of a segment.
const CARRIED_SHARE: usize = 10;

/// A segment is compacted if that gains at least this part of one.
const MIN_GAIN_SHARE: usize = 16;

/// A segment that is about to be dropped.
#[derive(Debug)]
pub(crate) struct Leaving<'a> {
    pub(crate) number: SegmentNumber,
    pub(crate) id: u32,
    /// Its directory, if it could be read.
    directory: ArenaVec<'a, DirectoryItem>,
    /// Records that are written again.
    pub(crate) carried: ArenaVec<'a, CarriedRecord>,
    /// It came back without a directory.
    pub(super) is_unreadable: bool,
}

/// A record that is written again.
#[derive(Debug)]
pub(crate) struct CarriedRecord {
    pub(crate) hash: u64,
    from: TierPlace,
    to: TierPlace,
}

impl CarriedRecord {
    pub(crate) fn offset(&self) -> u16 {
        self.to.unpack().offset
    }
}

impl<'a> Leaving<'a> {
    pub(super) fn new((number, id): (SegmentNumber, u32), arena: &'a Bump) -> Leaving<'a> {
        let (directory, carried) = (ArenaVec::new_in(arena), ArenaVec::new_in(arena));
        Leaving { number, id, directory, carried, is_unreadable: false }
    }
}

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Chooses the segment to be dropped or compacted for the next one, if the tier is full.
    pub(super) fn choose_leaving(
        &self,
        tier: &Tier,
        writer: &TierWriter,
    ) -> Result<Option<(SegmentNumber, u32)>, NoRoomInTier> {
        if writer.order.free() > 1 {
            return Ok(None);
        }
        let number = match tier.policy() {
            TierPolicy::DropOldest => writer.order.oldest(),
            TierPolicy::Refuse => {
                let whole = tier.properties().segment_bytes();
                let gains =
                    |(_, live): &(SegmentNumber, usize)| live + whole / MIN_GAIN_SHARE <= whole;
                let emptiest = writer.order.emptiest(&tier.segments).filter(gains);
                Some(emptiest.ok_or(NoRoomInTier)?.0)
            }
        };
        Ok(number.map(|number| (number, tier.segments.id(number))))
    }

    /// Copies records of the leaving segment into the new one. Returns false if that has to stay,
    /// because not all could be copied that must not be lost.
    pub(super) fn carry(
        &self,
        batch: &mut WritebackBatch<'_, '_>,
        buffer: &mut ReadBuffer,
    ) -> bool {
        match (&batch.leaving, batch.tier.policy()) {
            (None, _) => true,
            (Some(_), TierPolicy::DropOldest) => {
                self.carry_loaded(batch, buffer);
                true
            }
            (Some(_), TierPolicy::Refuse) => self.carry_live(batch, buffer),
        }
    }

    /// Carries records over that were loaded since they were written, up to a tenth of a segment.
    /// What cannot be read is not carried.
    fn carry_loaded(&self, batch: &mut WritebackBatch<'_, '_>, buffer: &mut ReadBuffer) {
        let tier = batch.tier;
        let Some(leaving) = &mut batch.leaving else { return };
        let Ok(directory) = tier.read_directory(leaving.id, buffer) else { return };
        leaving.directory.extend(directory);
        let most = tier.properties().segment_bytes() / CARRIED_SHARE;
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

    /// Carries all records over to which entries refer. Returns false if one cannot be read. Of a
    /// segment without a directory it is not known which they are.
    fn carry_live(&self, batch: &mut WritebackBatch<'_, '_>, buffer: &mut ReadBuffer) -> bool {
        let tier = batch.tier;
        let Some(leaving) = &mut batch.leaving else { return true };
        let (written, records) = tier.segments.written(leaving.id);
        let Ok(bytes) = tier.read_part(leaving.id, 0..written, buffer) else { return false };
        let directory = written.checked_sub(directory_len(records)).and_then(|at| bytes.get(at..));
        let directory = directory.and_then(|bytes| read_directory(bytes, leaving.id));
        let Some(directory) = directory else {
            leaving.is_unreadable = true;
            return false;
        };
        leaving.directory.extend(directory);
        for item in &leaving.directory {
            let found = self.index().find_record(item.hash, leaving.id, item.offset);
            let Some((from, _)) = found else { continue };
            let at = usize::from(item.offset) * tier.segments.unit();
            let record =
                bytes.get(at..).and_then(|bytes| read_record(bytes, &from.unpack(), item.hash));
            let Some((object, sum)) = record else {
                if !self.is_lost(tier, item.hash, from) {
                    return false;
                }
                continue;
            };
            let Some(offset) = batch.staged.push(item.hash, sum, object) else { return false };
            let to = from.moved_to(batch.staged.id(), offset);
            leaving.carried.push(CarriedRecord { hash: item.hash, from, to });
        }
        true
    }

    /// Returns whether a record that looks damaged is. Then its entry is removed.
    #[cold]
    fn is_lost(&self, tier: &Tier, hash: u64, place: TierPlace) -> bool {
        let read = tier.read_record(&place.unpack(), hash, &mut ReadBuffer::take()).map(drop);
        if !matches!(read, Err(ReadError::Corrupt | ReadError::Gone)) {
            return false;
        }
        if let Some(item) = self.index().remove_lost(hash, place) {
            tier.counters.lost_corrupt.add(1);
            self.notify_listener(item);
        }
        true
    }

    /// Exchanges the places of carried records, and evicts the others of the leaving segment.
    pub(super) fn finish_leaving(&self, tier: &Tier, leaving: &Leaving<'_>) {
        for record in &leaving.carried {
            let from = ValueId::Backed(record.from);
            if self.index().exchange_for_record(record.hash, from, record.to).is_some() {
                tier.counters.carried.add(1);
            }
        }
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
