//! The memory of a batch that is written to the tier: one segment, staged in a buffer that is
//! reused.

use std::ops::{Deref, DerefMut};

use bumpalo::Bump;
use zpool_core::backing::{AlignedBytes, BackingCapabilities};

use crate::backing::Tier;
use crate::backing::read::ReadBuffer;
use crate::backing::record::{
    DirectoryItem, directory_len, record_len, write_directory, write_record,
};
use crate::backing::segments::SegmentOrder;

/// State and memory of the one writer of a tier.
#[derive(Debug)]
pub(crate) struct TierWriter {
    pub(crate) order: SegmentOrder,
    /// The segment that is staged.
    pub(crate) buffer: AlignedBytes,
    /// For what is read of a segment that is dropped or compacted: its directory, or all of it.
    pub(crate) read_buffer: ReadBuffer,
    /// For the list of a batch.
    pub(crate) arena: Bump,
}

impl TierWriter {
    /// Makes a writer for an empty tier. `None` if memory is refused.
    pub(crate) fn new(capabilities: &BackingCapabilities) -> Option<TierWriter> {
        Some(TierWriter {
            order: SegmentOrder::new(capabilities)?,
            buffer: capabilities.segment_buffer().ok()?,
            read_buffer: ReadBuffer::default(),
            arena: Bump::new(),
        })
    }

    /// Returns the bytes of its memory.
    pub(crate) fn bytes(&self) -> usize {
        self.order.bytes()
            + self.buffer.len()
            + self.read_buffer.bytes()
            + self.arena.allocated_bytes()
    }
}

/// Result of borrowing the writer.
#[derive(Debug)]
pub(crate) enum Borrowed<'t> {
    AtOnce(WriterLease<'t>),
    /// Another thread had it, and has returned it.
    Waited,
    /// Another thread has it.
    No,
}

/// The writer, borrowed. It returns when this is dropped.
#[derive(Debug)]
pub(crate) struct WriterLease<'t> {
    tier: &'t Tier,
    /// There until the drop.
    writer: Option<Box<TierWriter>>,
}

impl<'t> WriterLease<'t> {
    pub(super) fn new(tier: &'t Tier, writer: Box<TierWriter>) -> WriterLease<'t> {
        WriterLease { tier, writer: Some(writer) }
    }
}

impl Deref for WriterLease<'_> {
    type Target = TierWriter;

    fn deref(&self) -> &TierWriter {
        self.writer.as_ref().expect("there until the drop")
    }
}

impl DerefMut for WriterLease<'_> {
    fn deref_mut(&mut self) -> &mut TierWriter {
        self.writer.as_mut().expect("there until the drop")
    }
}

impl Drop for WriterLease<'_> {
    fn drop(&mut self) {
        if let Some(mut writer) = self.writer.take() {
            writer.arena.reset();
            self.tier.return_writer(writer);
        }
    }
}

/// A segment in the making.
#[derive(Debug)]
pub(crate) struct StagedSegment<'b> {
    bytes: &'b mut [u8],
    /// Id that the segment will have.
    id: u32,
    unit: usize,
    alignment: usize,
    /// Bytes of the records so far, and their number.
    filled: usize,
    records: usize,
    /// Bytes of the longest of them.
    longest: usize,
}

impl<'b> StagedSegment<'b> {
    pub(crate) fn new(
        bytes: &'b mut [u8],
        id: u32,
        unit: usize,
        capabilities: &BackingCapabilities,
    ) -> StagedSegment<'b> {
        let alignment = capabilities.alignment();
        StagedSegment { bytes, id, unit, alignment, filled: 0, records: 0, longest: 0 }
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn records(&self) -> usize {
        self.records
    }

    /// Returns the bytes of the longest record so far.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// Returns the bytes of the records so far.
    pub(crate) fn filled(&self) -> usize {
        self.filled
    }

    /// Returns the bytes that are left for records, if `records` of them are added.
    pub(crate) fn room(&self, records: usize) -> usize {
        let used = self.filled + directory_len(self.records + records);
        self.bytes.len().saturating_sub(used)
    }

    /// Adds a record. Returns its offset in units, or `None` if there is no room for it.
    pub(crate) fn push(&mut self, hash: u64, sum: u32, object: &[u8]) -> Option<u16> {
        let len = record_len(object.len(), self.unit);
        if len > self.room(1) {
            return None;
        }
        let offset = (self.filled / self.unit) as u16;
        let into = &mut self.bytes[self.filled..][..len];
        write_record(into, self.id, hash, sum, object);
        self.filled += len;
        self.records += 1;
        self.longest = self.longest.max(len);
        Some(offset)
    }

    /// Writes the directory, and returns all bytes.
    pub(crate) fn finish(self, items: impl Iterator<Item = DirectoryItem>) -> &'b [u8] {
        let directory = directory_len(self.records);
        let end = (self.filled + directory).next_multiple_of(self.alignment).min(self.bytes.len());
        let (records, rest) = self.bytes.split_at_mut(end - directory);
        records[self.filled..].fill(0);
        write_directory(&mut rest[..directory], self.id, items);
        &self.bytes[..end]
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;
    use crate::backing::record::{read_directory, read_record};
    use crate::value::checksum::checksum;

    /// A segment that is as full as it can be has every record, and its directory at the end.
    #[test]
    fn full_segment_has_every_record() {
        for alignment in [1, 512] {
            let capabilities =
                BackingCapabilities::new(8192, 2).unwrap().with_alignment(alignment).unwrap();
            let mut writer = TierWriter::new(&capabilities).unwrap();
            let mut staged = StagedSegment::new(&mut writer.buffer, 5, 16, &capabilities);
            let mut items = Vec::new();
            let object = |n: u64| vec![n as u8; 100 + n as usize];
            for n in 0.. {
                let object = object(n);
                let Some(offset) = staged.push(n, checksum(&object, 4096), &object) else { break };
                items.push(DirectoryItem { hash: n, offset });
            }
            assert!(items.len() > 20 && staged.records() == items.len());
            let bytes = staged.finish(items.iter().copied());
            assert_eq!(bytes.len() % alignment, 0);
            let directory = &bytes[bytes.len() - directory_len(items.len())..];
            assert!(read_directory(directory, 5).unwrap().eq(items.iter().copied()));
            for (item, n) in items.iter().zip(0..) {
                let mut place = Tier::place_for_test(5, object(n).len());
                place.block_len = 4096;
                let record = &bytes[usize::from(item.offset) * 16..];
                assert_eq!(read_record(record, &place, n).unwrap().0, object(n));
            }
        }
    }
}
