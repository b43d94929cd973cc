//! Backing stores in memory, each with one bug or one oddity.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use zpool_conformance::backing::{BACKING_CASES, BackingMaker};
use zpool_core::backing::{
    AlignedBytes, BackingCapabilities, BackingError, BackingStore, SegmentNumber,
};
use zpool_testing::backing::MemoryBacking;

use crate::{Failed, Found, failure, try_each};

planted! {
    /// The bug or the oddity.
    enum Bug {
        bugs {
            // Segments and offsets.
            SharesTheLastSegment,
            IgnoresOffsets,
            RoundsOffsetsTo64Bytes,
            MixesUpNeighbours,
            SharedByAllStores,
            // Writes.
            KeepsTheFirstVersion,
            RefusesShortWrites,
            LosesTheTail,
            WipesTheNextSegment,
            RunsOutOfSpace,
            // Reads.
            ReadsShort,
            LeavesOutTheLastByte,
            ReadsOnce,
            PanicsWhereNothingIs,
            PanicsBeyondTheEnd,
            RefusesParts,
            // Discards.
            DiscardsTheNextToo,
            DiscardsAll,
            RefusesASecondDiscard,
            // Misuse.
            ChecksNothing,
            ChecksNoSegments,
            ChecksNoLengths,
            ChecksNoAlignment,
            ChecksNoAddresses,
            ChecksAfterTheWrite,
            // Threads.
            SharesAWriteBuffer,
            SharesAReadBuffer,
            TrustsWhatItLookedUp,
            // Facts.
            ChangesItsMind,
        }
        oddities {
            Nothing,
            ReadsZerosWhereNothingIs,
            KeepsDiscardedBytes,
            FailsWhereNothingIs,
            ReadsWholesOnly,
        }
    }
}

use Bug::*;

/// The findings of the suite.
pub(crate) fn found() -> Found {
    Found {
        what: "backing",
        bugs: try_each(BUGS, first_failing),
        oddities: try_each(ODDITIES, first_failing),
    }
}

/// Returns the first case that fails for backing stores with this bug.
fn first_failing(bug: Bug) -> Option<Failed> {
    let maker = BackingMaker::new(move || Planted::new(bug));
    let capabilities = maker.make().capabilities();
    let mut met = BACKING_CASES.iter().filter(|case| case.needs.met_by(capabilities));
    met.find_map(|case| failure(case.name, || (case.run)(&maker)))
}

const SEGMENT_BYTES: usize = 8192;
const ALIGNMENT: usize = 32;
const SEGMENTS: u32 = 12;

/// The segments of all stores with the bug `SharedByAllStores`.
static SHARED: Mutex<Option<MemoryBacking>> = Mutex::new(None);

#[derive(Debug)]
struct Planted {
    bug: Bug,
    inner: MemoryBacking,
    /// Calls that this bug counts.
    count: AtomicUsize,
    /// Segments that were written, read or discarded once, whichever the bug is about.
    seen: Mutex<HashSet<SegmentNumber>>,
    buffer: Mutex<Vec<u8>>,
}

fn capabilities() -> BackingCapabilities {
    let capabilities = BackingCapabilities::new(SEGMENT_BYTES, SEGMENTS).expect("they can be");
    capabilities.with_alignment(ALIGNMENT).expect("it divides the segment")
}

impl Planted {
    fn new(bug: Bug) -> Planted {
        // Without an alignment, which the checks of this bug leave out.
        let plain = BackingCapabilities::new(SEGMENT_BYTES, SEGMENTS).expect("they can be");
        let inner = match bug {
            ChecksNoAddresses => plain,
            ReadsWholesOnly => capabilities().without_partial_reads(),
            _ => capabilities(),
        };
        let inner = MemoryBacking::new(inner);
        let (count, seen, buffer) = (AtomicUsize::new(0), Mutex::default(), Mutex::default());
        Planted { bug, inner, count, seen, buffer }
    }

    /// Returns the segment that the bug uses in place of `segment`.
    fn place(&self, segment: SegmentNumber) -> SegmentNumber {
        match self.bug {
            SharesTheLastSegment if segment.get() == SEGMENTS - 1 => SegmentNumber::new(0),
            MixesUpNeighbours => SegmentNumber::new(segment.get() & !1),
            _ => segment,
        }
    }

    fn next(segment: SegmentNumber) -> SegmentNumber {
        SegmentNumber::new((segment.get() + 1) % SEGMENTS)
    }

    /// Returns whether this is the first time that the bug meets `segment`.
    fn is_first(&self, segment: SegmentNumber) -> bool {
        self.seen.lock().unwrap().insert(segment)
    }

    /// Returns whether the bug lets a call pass in silence that has to panic.
    fn lets_pass(&self, segment: SegmentNumber, offset: usize, len: usize) -> bool {
        let no_segment = segment.get() >= SEGMENTS;
        let no_range = len == 0 || offset + len > SEGMENT_BYTES;
        let misaligned = !(offset | len).is_multiple_of(ALIGNMENT);
        match self.bug {
            ChecksNothing => no_segment || no_range || misaligned,
            ChecksNoSegments => no_segment,
            ChecksNoLengths => no_range,
            ChecksNoAlignment => misaligned,
            _ => false,
        }
    }

    /// Copies through a buffer that all threads share, with a chance for them to meet in it.
    fn through_shared_buffer(&self, bytes: &mut [u8]) {
        *self.buffer.lock().unwrap() = bytes.to_vec();
        thread::sleep(Duration::from_micros(1));
        let buffer = self.buffer.lock().unwrap();
        let len = bytes.len().min(buffer.len());
        bytes[..len].copy_from_slice(&buffer[..len]);
    }

    fn write_through_shared_buffer(
        &self,
        segment: SegmentNumber,
        bytes: &[u8],
    ) -> Result<(), BackingError> {
        self.inner.capabilities().check_write(segment, bytes);
        let mut copy = AlignedBytes::zeroed(bytes.len(), ALIGNMENT)?;
        copy.copy_from_slice(bytes);
        self.through_shared_buffer(&mut copy);
        self.inner.write(segment, &copy)
    }

    /// Reads as [`MemoryBacking`] does, and beyond the end what the bug or oddity has there.
    fn read_inner(
        &self,
        segment: SegmentNumber,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), BackingError> {
        let Some(written) = self.inner.written(segment) else {
            return match self.bug {
                PanicsWhereNothingIs => panic!("an index of a map"),
                ReadsZerosWhereNothingIs => {
                    into.fill(0);
                    Ok(())
                }
                FailsWhereNothingIs => Err(BackingError::failed("no such file")),
                _ => Err(BackingError::Gone),
            };
        };
        assert!(
            self.bug != PanicsBeyondTheEnd || offset + into.len() <= written,
            "a range out of bounds"
        );
        self.inner.read(segment, offset, into)
    }
}

impl BackingStore for Planted {
    fn capabilities(&self) -> BackingCapabilities {
        // Relaxed: a count.
        let calls = self.count.load(Ordering::Relaxed);
        match self.bug {
            ReadsWholesOnly => capabilities().without_partial_reads(),
            ChangesItsMind if calls > 0 => capabilities().with_remote(),
            _ => capabilities(),
        }
    }

    fn write(&self, segment: SegmentNumber, bytes: &[u8]) -> Result<(), BackingError> {
        if self.lets_pass(segment, 0, bytes.len()) {
            return Err(BackingError::Full);
        }
        let segment = self.place(segment);
        let calls = self.count.fetch_add(1, Ordering::Relaxed);
        match self.bug {
            RefusesShortWrites if bytes.len() < SEGMENT_BYTES => {
                return Err(BackingError::failed("a short write"));
            }
            RunsOutOfSpace if calls >= 30 => return Err(BackingError::Full),
            KeepsTheFirstVersion if !self.is_first(segment) => return Ok(()),
            SharedByAllStores => {
                let mut shared = SHARED.lock().unwrap_or_else(|poison| poison.into_inner());
                return shared
                    .get_or_insert_with(|| MemoryBacking::new(capabilities()))
                    .write(segment, bytes);
            }
            WipesTheNextSegment => {
                let next = Planted::next(segment);
                if self.inner.written(next).is_some() {
                    self.inner.write(next, bytes)?;
                }
            }
            LosesTheTail => {
                let kept = bytes.len().min(SEGMENT_BYTES - ALIGNMENT);
                return self.inner.write(segment, &bytes[..kept]);
            }
            ChecksAfterTheWrite if bytes.len() > SEGMENT_BYTES => {
                self.inner.write(segment, &bytes[..SEGMENT_BYTES])?;
            }
            SharesAWriteBuffer => return self.write_through_shared_buffer(segment, bytes),
            _ => {}
        }
        self.inner.write(segment, bytes)
    }

    fn read(
        &self,
        segment: SegmentNumber,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), BackingError> {
        if self.lets_pass(segment, offset, into.len()) {
            return Err(BackingError::Gone);
        }
        self.inner.capabilities().check_read(segment, offset, into);
        let segment = self.place(segment);
        match self.bug {
            IgnoresOffsets => self.inner.read(segment, 0, into),
            RoundsOffsetsTo64Bytes => self.inner.read(segment, offset & !63, into),
            ReadsShort if into.len() > 4096 => self.read_inner(segment, offset, &mut into[..4096]),
            LeavesOutTheLastByte => {
                let last = into.last().copied();
                self.read_inner(segment, offset, into)?;
                *into.last_mut().expect("at least one byte") = last.expect("likewise");
                Ok(())
            }
            ReadsOnce if !self.is_first(segment) => Err(BackingError::Gone),
            RefusesParts if into.len() < SEGMENT_BYTES => Err(BackingError::failed("a part")),
            SharedByAllStores => {
                let shared = SHARED.lock().unwrap_or_else(|poison| poison.into_inner());
                shared
                    .as_ref()
                    .map_or(Err(BackingError::Gone), |shared| shared.read(segment, offset, into))
            }
            TrustsWhatItLookedUp if self.inner.written(segment).is_some() => {
                // Long enough to meet a discard of another thread, also on a busy machine.
                for _ in 0..20 {
                    if self.inner.written(segment).is_some() {
                        thread::sleep(Duration::from_micros(1));
                    }
                }
                let outcome = self.inner.read(segment, offset, into);
                assert!(!matches!(outcome, Err(BackingError::Gone)), "it was there just now");
                outcome
            }
            SharesAReadBuffer => {
                self.read_inner(segment, offset, into)?;
                self.through_shared_buffer(into);
                Ok(())
            }
            _ => self.read_inner(segment, offset, into),
        }
    }

    fn discard(&self, segment: SegmentNumber) -> Result<(), BackingError> {
        if self.lets_pass(segment, 0, ALIGNMENT) {
            return Ok(());
        }
        let segment = self.place(segment);
        match self.bug {
            KeepsDiscardedBytes => self.inner.capabilities().check_discard(segment),
            DiscardsTheNextToo => self.inner.lose(Planted::next(segment)),
            DiscardsAll => (0..SEGMENTS).for_each(|n| self.inner.lose(SegmentNumber::new(n))),
            RefusesASecondDiscard if self.inner.written(segment).is_none() => {
                return Err(BackingError::Gone);
            }
            _ => {}
        }
        if self.bug != KeepsDiscardedBytes {
            self.inner.lose(segment);
        }
        Ok(())
    }
}
