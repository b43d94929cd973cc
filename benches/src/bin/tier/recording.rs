//! A backing store that notes the reads it passes on.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use zswap::plugin::{AlignedBytes, BackingCapabilities, BackingError, BackingStore, SegmentNumber};
use zswap::tier::FileTier;

/// A read: segment, offset and length.
pub(crate) type NotedRead = (SegmentNumber, usize, usize);

/// A file whose reads are noted.
#[derive(Debug)]
pub(crate) struct RecordingTier {
    file: FileTier,
    reads: Mutex<Vec<NotedRead>>,
}

impl RecordingTier {
    pub(crate) fn new(file: FileTier) -> RecordingTier {
        RecordingTier { file, reads: Mutex::default() }
    }

    /// Returns the reads since the last call.
    pub(crate) fn take_reads(&self) -> Vec<NotedRead> {
        std::mem::take(&mut self.reads.lock().unwrap())
    }

    /// Repeats a read, and returns how long it took.
    pub(crate) fn time(
        &self,
        (segment, offset, len): NotedRead,
        buffer: &mut AlignedBytes,
    ) -> Result<Duration, BackingError> {
        let began = Instant::now();
        self.file.read(segment, offset, &mut buffer[..len])?;
        Ok(began.elapsed())
    }
}

impl BackingStore for RecordingTier {
    fn capabilities(&self) -> BackingCapabilities {
        self.file.capabilities()
    }

    fn write(&self, segment: SegmentNumber, bytes: &[u8]) -> Result<(), BackingError> {
        self.file.write(segment, bytes)
    }

    fn read(
        &self,
        segment: SegmentNumber,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), BackingError> {
        self.reads.lock().unwrap().push((segment, offset, into.len()));
        self.file.read(segment, offset, into)
    }

    fn discard(&self, segment: SegmentNumber) -> Result<(), BackingError> {
        self.file.discard(segment)
    }
}
