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
use crate::backing::segments::SegmentUse;
use crate::backing::writer::{StagedSegment, TierWriter};
use crate::store::Store;
use crate::value::tier_place::TierPlace;

/// The most segments that are compacted to gain one. So a tier whose segments are all fuller than
/// 15/16 has no room.
const MOST_SOURCES: usize = 16;

/// Fate of the records of a segment.
enum Moved {
    /// All that are live have moved.
    All,
    /// The new segment is full.
    Some,
    /// Some cannot be read now. They stay.
    NotAll,
    /// It came back without a directory, so their places are not known.
    Unreadable,
}

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Compacts segments until there is a free slot besides the one that always is. Returns false
    /// if there is no room for another segment.
    pub(super) fn compact_tier(&self, tier: &Tier, writer: &mut TierWriter) -> bool {
        let mut list = [SegmentUse::NONE; MOST_SOURCES];
        let emptiest = writer.order.emptiest(&tier.segments, &mut list);
        let mut sources =
            &emptiest[..count_of_sources(emptiest, tier.properties().segment_bytes())];
        while writer.order.free() <= 1 && !sources.is_empty() {
            let Some(done) = self.fill_segment(tier, writer, sources) else { return false };
            sources = &sources[done..];
        }
        writer.order.free() > 1
    }

    /// Fills one segment with live records of `sources`, one after the other. Returns how many of
    /// these are done with, or `None` if the segment could not be written.
    fn fill_segment(
        &self,
        tier: &Tier,
        writer: &mut TierWriter,
        sources: &[SegmentUse],
    ) -> Option<usize> {
        let TierWriter { order, buffer, read_buffer, arena } = writer;
        let number = order.next_free()?;
        let (id, unit) = (tier.segments.id(number), tier.segments.unit());
        let mut staged = StagedSegment::new(buffer, id, unit, tier.properties());
        let mut moved = ArenaVec::new_in(&*arena);
        for source in sources {
            let mut leaving =
                Leaving::new_in(arena, source.number, tier.segments.id(source.number));
            let outcome = self.move_live(tier, &mut staged, &mut leaving, read_buffer);
            let is_full = matches!(outcome, Moved::Some);
            moved.push((leaving, outcome));
            if is_full {
                break;
            }
        }
        let records = staged.records();
        if records > 0 {
            let bytes =
                staged.finish(moved.iter().flat_map(|(leaving, _)| leaving.carried_items()));
            tier.segments.set_written(id, bytes.len(), records);
            if !tier.write(number, bytes) {
                return None;
            }
            order.mark_written();
        }
        for (leaving, outcome) in &moved {
            self.exchange_carried(tier, leaving);
            match outcome {
                // Only the writer lets an entry refer to a record that is in a segment already.
                Moved::All => tier.retire_segment(order, leaving.number),
                Moved::Unreadable => order.set_aside(leaving.number),
                Moved::Some | Moved::NotAll => {}
            }
        }
        Some(moved.iter().filter(|(_, outcome)| !matches!(outcome, Moved::Some)).count())
    }

    /// Copies live records of `source` into the new segment, as long as there is room.
    fn move_live(
        &self,
        tier: &Tier,
        staged: &mut StagedSegment<'_>,
        source: &mut Leaving<'_>,
        buffer: &mut ReadBuffer,
    ) -> Moved {
        let (written, records) = tier.segments.written(source.id);
        let Ok(bytes) = tier.read_part(source.id, 0..written, buffer) else { return Moved::NotAll };
        let directory = written.checked_sub(directory_len(records)).and_then(|at| bytes.get(at..));
        let Some(directory) = directory.and_then(|bytes| read_directory(bytes, source.id)) else {
            return Moved::Unreadable;
        };
        let mut moved = Moved::All;
        for item in directory {
            let found = self.index().find_record(item.hash, source.id, item.offset);
            let Some((from, _)) = found else { continue };
            let at = usize::from(item.offset) * tier.segments.unit();
            let record =
                bytes.get(at..).and_then(|bytes| read_record(bytes, &from.unpack(), item.hash));
            let Some((object, sum)) = record else {
                if !self.is_lost(tier, item.hash, from) {
                    moved = Moved::NotAll;
                }
                continue;
            };
            let Some(offset) = staged.push(item.hash, sum, object) else {
                return Moved::Some;
            };
            let to = from.moved_to(staged.id(), offset);
            source.carried.push(CarriedRecord { hash: item.hash, from, to });
        }
        moved
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
}

/// Returns how many of `emptiest` are compacted into segments of `whole` bytes: as few as gain one,
/// and then those that still fit. 0 if all of them together gain none.
fn count_of_sources(emptiest: &[SegmentUse], whole: usize) -> usize {
    let (mut bytes, mut unused, mut segments) = (0, 0, None);
    for (count, source) in emptiest.iter().enumerate() {
        bytes += source.bytes_to_move;
        unused = source.record_bytes.max(unused);
        let room = |segments| segments * whole.saturating_sub(unused);
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
        for (bytes, record_bytes, expected) in [
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
            let usage =
                |&bytes_to_move| SegmentUse { bytes_to_move, record_bytes, ..SegmentUse::NONE };
            let sources: Vec<_> = bytes.iter().map(usage).collect();
            assert_eq!(count_of_sources(&sources, 100), expected, "{bytes:?}, {record_bytes}");
        }
    }
}
