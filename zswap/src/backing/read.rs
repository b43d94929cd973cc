//! Reading one record of the tier.

use std::cell::Cell;
use std::ops::Range;

use zpool_core::backing::{AlignedBytes, BackingError};
use zpool_core::internal::catch;

use crate::backing::Tier;
use crate::backing::record::{DirectoryItem, HEADER, directory_len, read_directory, read_record};
use crate::value::tier_place::PlaceParts;

/// The most bytes of a buffer that a thread keeps for its next read.
const KEPT: usize = 128 << 10;

/// How often a record is read that turns out to be damaged.
const ATTEMPTS: usize = 2;

/// Why there is no record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// Its segment was dropped.
    Dropped,
    /// The backing store has lost it.
    Gone,
    /// It is not the record that was written.
    Corrupt,
    /// The backing store failed, with this message. The record may still be there.
    Failed(String),
    /// There is no memory for a buffer.
    OutOfMemory { needed: usize },
}

thread_local! {
    /// The buffer of the thread's latest read.
    static BUFFER: Cell<Option<AlignedBytes>> = const { Cell::new(None) };
}

/// A buffer for one read, from the thread or from the heap.
#[derive(Debug, Default)]
pub(crate) struct ReadBuffer(Option<AlignedBytes>);

impl ReadBuffer {
    /// Takes the thread's buffer, if it has one.
    pub(crate) fn take() -> ReadBuffer {
        // While the thread ends, the buffer may be gone.
        ReadBuffer(BUFFER.try_with(Cell::take).unwrap_or_default())
    }

    /// Returns the bytes of its memory.
    pub(crate) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |bytes| bytes.len())
    }

    /// Returns `len` bytes at a multiple of `alignment`.
    fn room(&mut self, len: usize, alignment: usize) -> Result<&mut [u8], ReadError> {
        let fits = |bytes: &AlignedBytes| {
            bytes.len() >= len && bytes.as_ptr().addr().is_multiple_of(alignment)
        };
        if !self.0.as_ref().is_some_and(fits) {
            let new = AlignedBytes::zeroed(len, alignment);
            self.0 = Some(new.map_err(|_| ReadError::OutOfMemory { needed: len })?);
        }
        Ok(&mut self.0.as_mut().expect("made above")[..len])
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        let kept = self.0.take().filter(|bytes| bytes.len() <= KEPT);
        // While the thread ends, there is no place to put it.
        let _ = BUFFER.try_with(|place| place.set(kept));
    }
}

impl Tier {
    /// Reads the record of `place`, checks it, and returns its object with its checksum. May block.
    pub(crate) fn read_record<'b>(
        &self,
        place: &PlaceParts,
        hash: u64,
        buffer: &'b mut ReadBuffer,
    ) -> Result<(&'b [u8], u32), ReadError> {
        let _timer = self.latencies.as_ref().map(|latencies| latencies.read.timer());
        let start = usize::from(place.offset) * self.segments.unit();
        let range = start..start + HEADER + place.object_len;
        let (written, _) = self.segments.written(place.segment);
        let window = self.capabilities.window(range.clone(), written);
        if written < range.end {
            return Err(self.unless_dropped(place.segment, ReadError::Corrupt));
        }
        let bytes = buffer.room(window.len(), self.capabilities.alignment())?;
        let record = range.start - window.start..range.end - window.start;
        self.counters.reads.add(1);
        // A damaged record is read once more: the medium may have it still.
        let mut checksum = None;
        for _ in 0..ATTEMPTS {
            self.counters.bytes_read.add(window.len() as u64);
            self.read_window(place.segment, window.start, bytes)?;
            let bytes = bytes.get(record.clone()).unwrap_or_default();
            checksum = read_record(bytes, place, hash).map(|(_, checksum)| checksum);
            if checksum.is_some() {
                break;
            }
        }
        match checksum {
            // The segment was still there after the read, so no write had begun before its end.
            Some(checksum) if self.segments.is_current(place.segment) => {
                Ok((&bytes[record][HEADER..], checksum))
            }
            _ => Err(self.unless_dropped(place.segment, ReadError::Corrupt)),
        }
    }

    /// Reads `range` of a segment, for the writer, which drops and compacts segments.
    pub(crate) fn read_part<'b>(
        &self,
        id: u32,
        range: Range<usize>,
        buffer: &'b mut ReadBuffer,
    ) -> Result<&'b [u8], ReadError> {
        let (written, _) = self.segments.written(id);
        let window = self.capabilities.window(range.clone(), written);
        let bytes = buffer.room(window.len(), self.capabilities.alignment())?;
        self.read_window(id, window.start, bytes)?;
        bytes.get(range.start - window.start..range.end - window.start).ok_or(ReadError::Corrupt)
    }

    /// Reads the directory of a segment.
    pub(crate) fn read_directory<'b>(
        &self,
        id: u32,
        buffer: &'b mut ReadBuffer,
    ) -> Result<impl ExactSizeIterator<Item = DirectoryItem> + Clone + use<'b>, ReadError> {
        let (written, records) = self.segments.written(id);
        let start = written.checked_sub(directory_len(records)).ok_or(ReadError::Corrupt)?;
        let bytes = self.read_part(id, start..written, buffer)?;
        read_directory(bytes, id).ok_or(ReadError::Corrupt)
    }

    fn read_window(&self, id: u32, start: usize, into: &mut [u8]) -> Result<(), ReadError> {
        let number = self.segments.slot_of(id);
        let read = catch(|| {
            self.backing.read(number, start, into).map_err(|error| match error {
                BackingError::Gone => ReadError::Gone,
                error => ReadError::Failed(error.to_string()),
            })
        });
        let error = match read {
            Some(Ok(())) => return Ok(()),
            Some(Err(error)) => error,
            None => ReadError::Failed("the backing store panicked".to_owned()),
        };
        Err(self.unless_dropped(id, error))
    }

    /// Returns `error`, unless the segment was dropped, which explains it.
    fn unless_dropped(&self, id: u32, error: ReadError) -> ReadError {
        if self.segments.is_current(id) { error } else { ReadError::Dropped }
    }
}
