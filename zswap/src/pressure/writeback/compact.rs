//! Compaction of a tier that loses nothing: live records of the emptiest segments move to a new
//! one.
//!
//! ```text
//!   emptiest   | a . . b . |  next | . c . . d |  next | e f . g . |
//!   new        | a b c d e |                   what does not fit stays, and makes that one emptier
//! ```
//!
//! Records that move are apart from those that come from memory. What has survived once is likely
//! to stay, and what was just written is likely to change, so segments become either full or empty
//! (Rosenblum and Ousterhout 1992, section 3.6).

use std::hash::{BuildHasher, Hash};

use bumpalo::collections::Vec as ArenaVec;

use super::carry::{CarriedRecord, Leaving};
use crate::backing::Tier;
use crate::backing::read::{ReadBuffer, ReadError};
use crate::backing::record::{directory_len, read_directory, read_record};
use crate::backing::segments::{SegmentOrder, SegmentUse};
use crate::backing::writer::{StagedSegment, TierWriter};
use crate::store::Store;
use crate::value::tier_place::TierPlace;

/// The most segments that are compacted to gain one. So a tier whose segments are all fuller than
/// 15/16 has no room.
const MOST_SOURCES: usize = 16;

/// Progress of a segment whose live records move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moved {
    /// All have moved.
    All,
    /// The new segment is full. The others stay where they are.
    Some,
}

/// A segment, or a live record of it, that cannot be read now.
struct Unreadable;

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Compacts segments until there is a free slot besides the one that always is. Returns false
    /// if there is no room for another segment, or if a read or write fails.
    pub(super) fn compact_tier(&self, tier: &Tier, writer: &mut TierWriter) -> bool {
        let mut list = [SegmentUse::NONE; MOST_SOURCES];
        let emptiest = writer.order.emptiest(&tier.segments, &mut list);
        let mut sources =
            &emptiest[..count_of_sources(emptiest, tier.capabilities().segment_bytes())];
        while writer.order.free() <= 1 && !sources.is_empty() {
            let Some(emptied) = self.fill_segment(tier, writer, sources) else { return false };
            sources = &sources[emptied..];
        }
        writer.order.free() > 1
    }

    /// Fills one segment with live records of `sources`, one after the other. Returns how many of
    /// these it has emptied; `None`, and no record has moved, if one cannot be read, or the segment
    /// cannot be written.
    fn fill_segment(
        &self,
        tier: &Tier,
        writer: &mut TierWriter,
        sources: &[SegmentUse],
    ) -> Option<usize> {
        let TierWriter { order, buffer, read_buffer, arena } = writer;
        let number = order.next_free()?;
        let (id, unit) = (tier.segments.id(number), tier.segments.unit());
        let mut staged = StagedSegment::new(buffer, id, unit, tier.capabilities());
        let (mut moving, mut emptied) = (ArenaVec::new_in(&*arena), 0);
        for source in sources {
            let mut leaving =
                Leaving::new_in(arena, source.number, tier.segments.id(source.number));
            let moved = self.move_live(tier, order, &mut staged, &mut leaving, read_buffer);
            moving.push(leaving);
            match moved {
                Ok(Moved::All) => emptied += 1,
                Ok(Moved::Some) => break,
                Err(Unreadable) => return None,
            }
        }
        let (records, longest) = (staged.records(), staged.longest());
        if records > 0 {
            let bytes = staged.finish(moving.iter().flat_map(Leaving::carried_items));
            tier.segments.set_written(id, bytes.len(), records, longest);
            if !tier.write(number, bytes) {
                return None;
            }
            order.mark_written();
        }
        moving.iter().for_each(|leaving| self.exchange_carried(tier, leaving));
        for leaving in &moving[..emptied] {
            // Only the writer lets an entry refer to a record that is in a segment already.
            tier.retire_segment(order, leaving.number);
        }
        Some(emptied)
    }

    /// Copies live records of `source` into the new segment, as long as there is room. A segment
    /// that came back without a directory is not compacted again, because the places of its records
    /// are not known.
    fn move_live(
        &self,
        tier: &Tier,
        order: &mut SegmentOrder,
        staged: &mut StagedSegment<'_>,
        source: &mut Leaving<'_>,
        buffer: &mut ReadBuffer,
    ) -> Result<Moved, Unreadable> {
        let (written, records) = tier.segments.written(source.id);
        let bytes = tier.read_part(source.id, 0..written, buffer).map_err(|_| Unreadable)?;
        let directory = written.checked_sub(directory_len(records)).and_then(|at| bytes.get(at..));
        let Some(directory) = directory.and_then(|bytes| read_directory(bytes, source.id)) else {
            order.set_aside(source.number);
            return Err(Unreadable);
        };
        for item in directory {
            let found = self.index().find_record(item.hash, source.id, item.offset);
            let Some((from, _)) = found else { continue };
            let at = usize::from(item.offset) * tier.segments.unit();
            let record =
                bytes.get(at..).and_then(|bytes| read_record(bytes, &from.unpack(), item.hash));
            let Some((object, sum)) = record else {
                if !self.remove_if_lost(tier, item.hash, from) {
                    return Err(Unreadable);
                }
                continue;
            };
            let Some(offset) = staged.push(item.hash, sum, object) else { return Ok(Moved::Some) };
            let to = from.moved_to(staged.id(), offset);
            source.carried.push(CarriedRecord { hash: item.hash, from, to });
        }
        Ok(Moved::All)
    }

    /// Reads a damaged-looking record again. If it is lost, removes its entry, notifies the
    /// listener and returns true.
    #[cold]
    fn remove_if_lost(&self, tier: &Tier, hash: u64, place: TierPlace) -> bool {
        let read = tier.read_record(&place.unpack(), hash, &mut ReadBuffer::take()).map(drop);
        let lost = match read {
            Err(ReadError::Corrupt) => &tier.counters.lost_corrupt,
            Err(ReadError::Gone) => &tier.counters.lost_gone,
            _ => return false,
        };
        if let Some(item) = self.index().remove_lost(hash, place) {
            lost.add(1);
            self.notify_listener(item);
        }
        true
    }
}

/// Returns how many of `emptiest` are compacted into segments of `whole` bytes: as few as gain one,
/// and then those that still fit. 0 if all of them together gain none.
///
/// That they gain one is certain: of each segment that is filled less stays unused than the longest
/// record takes. Otherwise a tier that is full could be rewritten for every block that it refuses.
fn count_of_sources(emptiest: &[SegmentUse], whole: usize) -> usize {
    let (mut bytes, mut longest, mut segments) = (0, 0, None);
    for (count, source) in emptiest.iter().enumerate() {
        bytes += source.bytes_to_move;
        longest = source.longest.max(longest);
        let room = |segments| segments * whole.saturating_sub(longest);
        match segments {
            None if bytes <= room(count) => segments = Some(count),
            Some(segments) if bytes > room(segments) => return count,
            _ => {}
        }
    }
    segments.map_or(0, |_| emptiest.len())
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    /// As few segments are read as make room for one, and no full one is.
    #[test]
    fn sources_gain_a_segment() {
        for (bytes, longest, expected) in [
            (&[][..], 0, 0),
            (&[100], 0, 0),
            (&[60, 60], 0, 0),
            (&[40, 60], 0, 2),
            (&[40, 60], 10, 0),
            (&[40, 50], 10, 2),
            (&[40, 50, 60, 60], 0, 2),
            (&[20, 30, 40, 60], 0, 3),
            (&[60, 70, 70], 0, 3),
            (&[60, 70, 80, 90], 0, 4),
            (&[60, 70, 80, 90], 10, 0),
            (&[90, 90, 90, 90], 0, 0),
            (&[0, 100, 100], 50, 1),
        ] {
            let usage = |&bytes_to_move| SegmentUse { bytes_to_move, longest, ..SegmentUse::NONE };
            let sources: Vec<_> = bytes.iter().map(usage).collect();
            assert_eq!(count_of_sources(&sources, 100), expected, "{bytes:?}, {longest}");
        }
    }
}
