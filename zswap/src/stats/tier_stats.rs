//! Statistics of the tier below memory.

use std::fmt;

use zpool_core::internal::sync::atomic::{AtomicU64, Ordering};

use crate::stats::latency::LatencySummary;

/// The tier below the memory of a store, in its statistics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierStats {
    /// Entries whose block is in the tier. They are in no pool.
    pub backed: usize,
    /// Bytes of the objects of these entries.
    pub backed_bytes: usize,
    /// Segments in use.
    pub segments_used: usize,
    /// Segments of the tier.
    pub segments: usize,
    /// Bytes of records that entries refer to.
    pub live_bytes: usize,
    /// Codecs that records in the tier need.
    pub codecs: usize,
    /// Bytes of memory that the tier takes besides the entries: buffers and tables. They are part
    /// of [`index_bytes`](crate::StoreStats::index_bytes).
    pub memory_bytes: usize,
    /// Segments written so far.
    pub segments_written: u64,
    /// Segments dropped or compacted so far.
    pub segments_dropped: u64,
    /// Bytes written so far, whether the write succeeded or not.
    pub bytes_written: u64,
    /// Blocks that went from memory to the tier so far.
    pub put: u64,
    /// Bytes of the objects of these blocks.
    pub bytes_put: u64,
    /// Blocks that went from memory to the tier without a write, because it still had them.
    pub put_clean: u64,
    /// Blocks that were replaced or removed while they were written.
    pub changed: u64,
    /// Records that were written again because their segment was dropped or compacted.
    pub carried: u64,
    /// Records read for loads so far.
    pub reads: u64,
    /// Bytes that these reads asked for, with what alignment added.
    pub bytes_read: u64,
    /// Blocks that returned to memory so far.
    pub readmitted: u64,
    /// Blocks that are lost, by cause. They were removed, and are counted as
    /// [evicted](crate::StoreStats::evicted) as well.
    pub lost: LostBlocks,
    /// Segment writes that failed, for any reason.
    pub write_errors: u64,
    /// Segment writes that failed because the backing store was full.
    pub full_errors: u64,
    /// Reads that failed without saying that the block is lost. Their loads returned an error.
    pub read_errors: u64,
    /// The tier takes no more blocks, because writes failed several times in a row. Blocks that it
    /// has are still read.
    pub is_off: bool,
    /// How long reads took, if the builder was
    /// [asked](crate::StoreBuilder::latency_histograms) for that.
    pub read_latency: Option<LatencySummary>,
    /// How long writes of a segment took, on the same condition.
    pub write_latency: Option<LatencySummary>,
}

/// Blocks of a tier that are lost, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostBlocks {
    /// Their segment was dropped to make room.
    pub dropped: u64,
    /// The backing store had lost them.
    pub gone: u64,
    /// Their record was damaged.
    pub corrupt: u64,
}

impl fmt::Display for TierStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
        let TierStats { backed, segments_used, segments, put, put_clean, reads, .. } = self;
        let off = if self.is_off { ", OFF" } else { "" };
        write!(f, "tier     {backed} backed in {segments_used} of {segments} segments{off}; ")?;
        write!(f, "{put} put ({put_clean} clean), {:.1} MiB written, ", mib(self.bytes_written))?;
        write!(f, "{reads} read, {} readmitted; ", self.readmitted)?;
        let LostBlocks { dropped, gone, corrupt } = self.lost;
        write!(f, "lost: {dropped} dropped, {gone} gone, {corrupt} corrupt; ")?;
        write!(f, "errors: {} write, {} read", self.write_errors, self.read_errors)?;
        if let (Some(read), Some(write)) = (&self.read_latency, &self.write_latency) {
            write!(f, "\ntier rd  {read}\ntier wr  {write}")?;
        }
        Ok(())
    }
}

/// Declares counters that are read one by one into the statistics.
macro_rules! counters {
    ($($name:ident),* $(,)?) => {
        /// Counts of what a tier did.
        #[derive(Debug, Default)]
        pub(crate) struct TierCounters {
            $(pub(crate) $name: TierCount,)*
            pub(crate) lost_dropped: TierCount,
            pub(crate) lost_gone: TierCount,
            pub(crate) lost_corrupt: TierCount,
        }

        impl TierCounters {
            /// Fills in the counts.
            pub(crate) fn fill(&self, stats: &mut TierStats) {
                $(stats.$name = self.$name.get();)*
                stats.lost = LostBlocks {
                    dropped: self.lost_dropped.get(),
                    gone: self.lost_gone.get(),
                    corrupt: self.lost_corrupt.get(),
                };
            }
        }
    };
}

counters!(
    segments_written,
    segments_dropped,
    bytes_written,
    put,
    bytes_put,
    put_clean,
    changed,
    carried,
    reads,
    bytes_read,
    readmitted,
    write_errors,
    full_errors,
    read_errors,
);

/// A count.
#[derive(Debug, Default)]
pub(crate) struct TierCount(AtomicU64);

impl TierCount {
    pub(crate) fn add(&self, more: u64) {
        // Relaxed, here and below: statistics only.
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
