//! The tier below memory: a log of segments in a backing store, without the store above it.
//!
//! ```text
//!   record     the bytes of records and segments, and their checks
//!   segments   which segments there are: ids, live bytes, order
//!   codecs     the codecs of records, which outlive their pools
//!   clean      records of blocks that are in memory again, and unchanged
//!   writer     the memory of a batch, lent to one thread at a time
//!   read       one record
//! ```
//!
//! An entry names a record by its [place](crate::value::tier_place). Nothing here knows of objects
//! in pools or of the index: `pressure/writeback` moves blocks out, and `ops/backed` reads them.

pub(crate) mod clean;
pub(crate) mod codecs;
pub(crate) mod read;
pub(crate) mod record;
pub(crate) mod segments;
pub(crate) mod writer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use zpool_core::NoBlock;
use zpool_core::backing::{BackingCapabilities, BackingError, BackingStore, SegmentNumber};
use zpool_core::internal::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use zpool_core::internal::sync::{Condvar, Mutex};
use zpool_core::internal::{Foreign, catch};

use self::codecs::TierCodecs;
use self::segments::{SegmentOrder, TierSegments};
use self::writer::{Borrowed, TierWriter, WriterLease};
use crate::stats::TierStats;
use crate::stats::latency::Histogram;
use crate::stats::tier_stats::TierCounters;
use crate::value::tier_place::TierPlace;

/// Writes that fail in a row before the tier takes no more blocks.
const FAILURES: u32 = 3;

/// The most segments of a tier, so that an id has room for 256 generations.
pub(crate) const MAX_SEGMENTS: u32 = 1 << 24;

/// The fewest: one that is written, and one to be dropped for it.
pub(crate) const MIN_SEGMENTS: u32 = 2;

/// Policy of a full tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TierPolicy {
    /// Drops the oldest segment. Blocks of it that were loaded are carried over, up to 1/10 of a
    /// segment; the others are evicted. Needs [`AtLimit::Evict`](crate::AtLimit::Evict).
    #[default]
    DropOldest,
    /// Compacts the segments with the fewest live bytes, and loses nothing. If there is no room
    /// left, the store is full. Needs [`AtLimit::Refuse`](crate::AtLimit::Refuse).
    Refuse,
}

/// A tier.
#[derive(Debug)]
pub(crate) struct Tier {
    backing: Foreign<Arc<dyn BackingStore>>,
    capabilities: BackingCapabilities,
    policy: TierPolicy,
    pub(crate) segments: TierSegments,
    pub(crate) codecs: TierCodecs,
    pub(crate) counters: TierCounters,
    pub(crate) latencies: Option<Box<TierLatencies>>,
    /// There unless a thread writes. Not held while it does.
    writer: Mutex<Option<Box<TierWriter>>>,
    /// The writer is back, and how often it was.
    returned: Condvar,
    turns: AtomicUsize,
    /// Bytes of the writer's memory, and segments that hold something.
    writer_bytes: AtomicUsize,
    segments_used: AtomicUsize,
    /// Writes that have failed in a row.
    failures: AtomicU32,
    is_off: AtomicBool,
    /// A job that writes is queued, or runs.
    pub(crate) has_job: AtomicBool,
}

/// Latencies of reads and writes.
#[derive(Debug, Default)]
pub(crate) struct TierLatencies {
    read: Histogram,
    write: Histogram,
}

/// Why there is no tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoTier {
    Segments(u32),
    SegmentTooShort { bytes: usize, needed: usize },
    OutOfMemory,
}

impl Tier {
    /// Makes a tier for blocks of up to `block_size` bytes. Asks `backing` for its capabilities.
    pub(crate) fn new(
        backing: Arc<dyn BackingStore>,
        policy: TierPolicy,
        block_size: usize,
        latencies: bool,
    ) -> Result<Tier, NoTier> {
        let capabilities = backing.capabilities();
        let count = capabilities.segments();
        if !(MIN_SEGMENTS..=MAX_SEGMENTS).contains(&count) {
            return Err(NoTier::Segments(count));
        }
        let unit = TierPlace::unit_of(capabilities.segment_bytes());
        let needed = record::record_len(block_size, unit) + record::directory_len(1);
        if capabilities.segment_bytes() < needed {
            return Err(NoTier::SegmentTooShort { bytes: capabilities.segment_bytes(), needed });
        }
        let segments = TierSegments::new(&capabilities).ok_or(NoTier::OutOfMemory)?;
        let writer = TierWriter::new(&capabilities).ok_or(NoTier::OutOfMemory)?;
        Ok(Tier {
            backing: Foreign::new(backing),
            capabilities,
            policy,
            segments,
            codecs: TierCodecs::new(),
            counters: TierCounters::default(),
            latencies: latencies.then(Box::default),
            writer_bytes: AtomicUsize::new(writer.bytes()),
            writer: Mutex::new(Some(Box::new(writer))),
            returned: Condvar::new(),
            turns: AtomicUsize::new(0),
            segments_used: AtomicUsize::new(0),
            failures: AtomicU32::new(0),
            is_off: AtomicBool::new(false),
            has_job: AtomicBool::new(false),
        })
    }

    #[inline]
    pub(crate) fn capabilities(&self) -> &BackingCapabilities {
        &self.capabilities
    }

    #[inline]
    pub(crate) fn policy(&self) -> TierPolicy {
        self.policy
    }

    /// Returns the bytes of memory that the tier takes besides entries.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        // Relaxed: an account.
        let writer = self.writer_bytes.load(Ordering::Relaxed);
        size_of::<Tier>() + self.segments.bytes() + self.codecs.bytes() + writer
    }

    /// Returns whether the tier takes blocks.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        // Relaxed: a thread that is late to see it tries once more.
        !self.is_off.load(Ordering::Relaxed)
    }

    /// Returns whether a place still is one: its segment was not dropped.
    #[inline]
    pub(crate) fn is_current(&self, place: TierPlace) -> bool {
        self.segments.is_current(place.segment())
    }

    /// Counts an entry that refers to a record. Its shard is locked.
    #[inline]
    pub(crate) fn acquire(&self, place: TierPlace) -> bool {
        let parts = place.unpack();
        self.codecs.acquire(parts.codec);
        self.segments.acquire(&parts)
    }

    /// Counts an entry that does so no more.
    #[inline]
    pub(crate) fn release(&self, place: TierPlace) {
        let parts = place.unpack();
        self.codecs.release(parts.codec);
        self.segments.release(&parts);
    }

    /// Borrows the writer's memory. If another thread writes, waits up to `max_wait` until it has.
    pub(crate) fn borrow_writer(&self, max_wait: Duration) -> Borrowed<'_> {
        let mut writer = self.writer.lock();
        if let Some(writer) = writer.take() {
            return Borrowed::AtOnce(WriterLease::new(self, writer));
        }
        if max_wait.is_zero() || NoBlock::is_active() {
            return Borrowed::No;
        }
        let before = self.turns.load(Ordering::Relaxed);
        let until = Instant::now() + max_wait;
        // Relaxed: changed under the lock.
        while self.turns.load(Ordering::Relaxed) == before {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Borrowed::No;
            }
            self.returned.wait_for(&mut writer, left);
        }
        Borrowed::Waited
    }

    fn return_writer(&self, writer: Box<TierWriter>) {
        // Relaxed, twice: accounts.
        self.writer_bytes.store(writer.bytes(), Ordering::Relaxed);
        self.segments_used.store(writer.order.used(), Ordering::Relaxed);
        let mut place = self.writer.lock();
        self.turns.fetch_add(1, Ordering::Relaxed);
        *place = Some(writer);
        drop(place);
        self.returned.notify_all();
    }

    /// Writes a segment. Counts an error, and returns false.
    pub(crate) fn write(&self, number: SegmentNumber, bytes: &[u8]) -> bool {
        let timer = self.latencies.as_ref().map(|latencies| latencies.write.timer());
        let written = catch(|| self.backing.write(number, bytes));
        drop(timer);
        self.counters.bytes_written.add(bytes.len() as u64);
        match written {
            Some(Ok(())) => {
                self.failures.store(0, Ordering::Relaxed);
                self.counters.segments_written.add(1);
                true
            }
            failed => {
                let is_full = matches!(failed, Some(Err(BackingError::Full)));
                self.counters.full_errors.add(u64::from(is_full));
                self.counters.write_errors.add(1);
                // Relaxed: there is one writer at a time, and readers of the flag may be late.
                if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES {
                    self.is_off.store(true, Ordering::Relaxed);
                }
                // An error's destructor is foreign code.
                catch(|| drop(failed));
                false
            }
        }
    }

    /// Drops a segment: all places in it are misses from now on.
    pub(crate) fn retire_segment(&self, order: &mut SegmentOrder, number: SegmentNumber) {
        self.segments.retire(number);
        // If it fails, the slot can be written all the same.
        catch(|| self.backing.discard(number).is_ok());
        order.mark_free(number);
        self.counters.segments_dropped.add(1);
    }

    /// Discards the segments to which no entry refers.
    pub(crate) fn discard_dead(&self, writer: &mut TierWriter) {
        while let Some(number) = writer.order.dead(&self.segments) {
            self.retire_segment(&mut writer.order, number);
        }
    }

    /// Fills in statistics.
    pub(crate) fn fill(&self, stats: &mut TierStats) {
        self.counters.fill(stats);
        let numbers = (0..self.capabilities.segments()).map(SegmentNumber::new);
        stats.live_bytes = numbers.map(|number| self.segments.live_bytes(number)).sum();
        stats.segments = self.capabilities.segments() as usize;
        // Relaxed: statistics only.
        stats.segments_used = self.segments_used.load(Ordering::Relaxed);
        stats.codecs = self.codecs.len();
        stats.memory_bytes = self.bytes();
        stats.is_off = !self.is_on();
        if let Some(latencies) = &self.latencies {
            stats.read_latency = Some(latencies.read.summary());
            stats.write_latency = Some(latencies.write.summary());
        }
    }

    /// Returns the parts of a place in `segment` for an object.
    #[cfg(all(test, not(zpool_loom)))]
    pub(crate) fn place_for_test(
        segment: u32,
        object_len: usize,
    ) -> crate::value::tier_place::PlaceParts {
        let codec = crate::value::tier_place::CodecNumber::RAW;
        crate::value::tier_place::PlaceParts {
            segment,
            offset: 0,
            block_len: object_len,
            object_len,
            codec,
        }
    }
}
