//! The report.

use std::fmt;

use benches::PrintedReport;
use serde::Serialize;

/// All results.
#[derive(Debug, Default, Serialize)]
pub(crate) struct CodecOutcomes {
    pub(crate) results: Vec<CodecOutcome>,
}

/// One file with one codec.
#[derive(Debug, Serialize)]
pub(crate) struct CodecOutcome {
    pub(crate) file: String,
    pub(crate) codec: String,
    /// Medians, by the clock of the thread.
    #[serde(flatten)]
    pub(crate) ratios: Ratios<f64>,
    /// The lowest and highest round of each.
    pub(crate) ranges: Ratios<[f64; 2]>,
    /// Medians by the wall clock.
    pub(crate) wall: Ratios<f64>,
    /// Distinct pages, none same-filled.
    pub(crate) pages: usize,
    pub(crate) rounds: usize,
    /// Bytes of pages over bytes of objects.
    pub(crate) ratio: f64,
    /// Nanoseconds per page, with the codec crate alone.
    pub(crate) raw_compress_ns: f64,
    pub(crate) raw_decompress_ns: f64,
}

/// Ratios of times.
#[derive(Debug, Serialize)]
pub(crate) struct Ratios<T> {
    pub(crate) compress_over_raw: T,
    pub(crate) decompress_over_raw: T,
    pub(crate) store_over_raw: T,
    pub(crate) load_over_raw: T,
    /// Over the raw codec with a new box in place of the page's last one.
    pub(crate) store_over_boxes: T,
    /// Over the raw codec on boxes that such stores have left.
    pub(crate) load_over_boxes: T,
    pub(crate) keyed_store_over_raw: T,
    pub(crate) keyed_load_over_raw: T,
    pub(crate) zram: Option<ZramRatios<T>>,
}

/// zram's time over ours and over the codec crate's.
#[derive(Debug, Serialize)]
pub(crate) struct ZramRatios<T> {
    pub(crate) store_speedup: T,
    pub(crate) load_speedup: T,
    pub(crate) keyed_store_speedup: T,
    pub(crate) keyed_load_speedup: T,
    pub(crate) raw_store_speedup: T,
    pub(crate) raw_load_speedup: T,
}

impl PrintedReport for CodecOutcomes {
    fn table(&self) -> String {
        self.results.iter().map(CodecOutcome::to_string).collect()
    }
}

impl fmt::Display for CodecOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}: {} pages, ratio {:.2}", self.file, self.codec, self.pages, self.ratio)?;
        let raw = |ns: f64| format!("raw {ns:5.0} ns");
        let (compress, decompress) = (raw(self.raw_compress_ns), raw(self.raw_decompress_ns));
        let (middle, ends) = (&self.ratios, &self.ranges);
        let mut line = |name: &str, value: f64, [low, high]: [f64; 2], beside: &str| {
            writeln!(f, "  {name:23} {value:6.3}  ({low:.3} to {high:.3})  {beside}")
        };
        line("compress / raw", middle.compress_over_raw, ends.compress_over_raw, &compress)?;
        line(
            "decompress / raw",
            middle.decompress_over_raw,
            ends.decompress_over_raw,
            &decompress,
        )?;
        line("store / raw compress", middle.store_over_raw, ends.store_over_raw, "")?;
        line("load / raw decompress", middle.load_over_raw, ends.load_over_raw, "")?;
        line("store / codec and box", middle.store_over_boxes, ends.store_over_boxes, "")?;
        line("load / replaced boxes", middle.load_over_boxes, ends.load_over_boxes, "")?;
        line("store, keyed hasher", middle.keyed_store_over_raw, ends.keyed_store_over_raw, "")?;
        line("load, keyed hasher", middle.keyed_load_over_raw, ends.keyed_load_over_raw, "")?;
        if let (Some(zram), Some(range)) = (&middle.zram, &ends.zram) {
            let best = |value: f64| format!("the raw codec: {value:.3}");
            let (store, load) = (best(zram.raw_store_speedup), best(zram.raw_load_speedup));
            line("zram write / store", zram.store_speedup, range.store_speedup, &store)?;
            line("zram read / load", zram.load_speedup, range.load_speedup, &load)?;
            line("zram write / keyed", zram.keyed_store_speedup, range.keyed_store_speedup, "")?;
            line("zram read / keyed", zram.keyed_load_speedup, range.keyed_load_speedup, "")?;
            writeln!(f, "  (zram: requests of 1 MiB; the block layer's share is in its time)")?;
        }
        Ok(())
    }
}
