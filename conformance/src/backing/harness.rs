//! The shared part of the cases: a backing store, and contents that differ for each segment.

use zpool_core::backing::{
    AlignedBytes, BackingCapabilities, BackingError, BackingStore, SegmentNumber,
};

use super::BackingMaker;
use crate::rng::SplitMix;

/// A backing store under test.
pub(crate) struct BackingHarness {
    store: Box<dyn BackingStore>,
    pub(crate) capabilities: BackingCapabilities,
}

impl BackingHarness {
    pub(crate) fn new(maker: &BackingMaker) -> BackingHarness {
        let store = maker.make();
        let capabilities = store.capabilities();
        BackingHarness { store, capabilities }
    }

    pub(crate) fn store(&self) -> &dyn BackingStore {
        &*self.store
    }

    /// Returns at most `n` different segments: the first ones and the last.
    pub(crate) fn segments(&self, n: u32) -> Vec<SegmentNumber> {
        let all = self.capabilities.segments();
        let first = 0..n.min(all) - 1;
        first.chain([all - 1]).map(SegmentNumber::new).collect()
    }

    /// Returns `len` bytes of contents, which differ for each segment and version.
    pub(crate) fn contents(
        &self,
        segment: SegmentNumber,
        version: u64,
        len: usize,
    ) -> AlignedBytes {
        let mut bytes = self.buffer(len);
        SplitMix::new(u64::from(segment.get()) << 32 | version).fill(&mut bytes);
        bytes
    }

    /// Makes an aligned buffer that holds garbage, so that bytes which a read left out are seen.
    pub(crate) fn buffer(&self, len: usize) -> AlignedBytes {
        let bytes = AlignedBytes::zeroed(len, self.capabilities.alignment());
        let mut bytes = bytes.expect("memory for a test");
        bytes.fill(0xA5);
        bytes
    }

    pub(crate) fn whole(&self) -> usize {
        self.capabilities.segment_bytes()
    }

    /// Returns a random length that can be written.
    pub(crate) fn any_len(&self, rng: &mut SplitMix) -> usize {
        let alignment = self.capabilities.alignment();
        rng.between(1, self.whole() / alignment) * alignment
    }

    /// Returns a random range that can be read, where `written` bytes were written.
    pub(crate) fn any_range(&self, rng: &mut SplitMix, written: usize) -> (usize, usize) {
        if !self.capabilities.partial_reads() {
            return (0, written);
        }
        let alignment = self.capabilities.alignment();
        let units = written / alignment;
        let offset = rng.below(units);
        let len = rng.between(1, units - offset);
        (offset * alignment, len * alignment)
    }

    pub(crate) fn write(&self, segment: SegmentNumber, bytes: &[u8]) {
        if let Err(error) = self.store.write(segment, bytes) {
            panic!("W3: segment {segment} cannot be written: {error}");
        }
    }

    /// Writes all of the segment with what `contents` makes.
    pub(crate) fn write_version(&self, segment: SegmentNumber, version: u64) {
        self.write(segment, &self.contents(segment, version, self.whole()));
    }

    pub(crate) fn discard(&self, segment: SegmentNumber) {
        if let Err(error) = self.store.discard(segment) {
            panic!("W5: segment {segment} cannot be discarded: {error}");
        }
    }

    pub(crate) fn read(
        &self,
        segment: SegmentNumber,
        offset: usize,
        len: usize,
    ) -> Result<AlignedBytes, BackingError> {
        let mut bytes = self.buffer(len);
        self.store.read(segment, offset, &mut bytes).map(|()| bytes)
    }

    /// Reads `len` bytes at `offset` and compares them with `expected`, the contents written.
    pub(crate) fn assert_part(
        &self,
        segment: SegmentNumber,
        expected: &[u8],
        offset: usize,
        len: usize,
    ) {
        let read = match self.read(segment, offset, len) {
            Ok(read) => read,
            Err(error) => panic!("W1: {len} bytes at {offset} of segment {segment}: {error}"),
        };
        let wrong = read.iter().zip(&expected[offset..]).position(|(read, wrote)| read != wrote);
        assert_eq!(
            wrong, None,
            "W1: the first wrong byte of {len} read at {offset} of segment {segment}"
        );
    }

    /// Checks that all of a segment is what `write_version` wrote.
    pub(crate) fn assert_version(&self, segment: SegmentNumber, version: u64) {
        let expected = self.contents(segment, version, self.whole());
        self.assert_part(segment, &expected, 0, self.whole());
    }
}
