//! A histogram of latencies of fixed size. Recording neither allocates nor touches new memory.

use std::fmt;
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// The number of bits kept of each value: 64 buckets per octave.
const KEPT_BITS: u32 = 6;
const PER_OCTAVE: usize = 1 << KEPT_BITS;
/// Values below `2 * PER_OCTAVE` have a bucket each. Each of the other octaves of `u64` has
/// `PER_OCTAVE` buckets.
const BUCKETS: usize = (64 - KEPT_BITS as usize + 1) * PER_OCTAVE;

/// A log-linear histogram of nanoseconds.
///
/// ```text
///     value      0 1 2 … 127 │ 128 130 132 … 254 │ 256 260 … 508 │ 512 …
///     bucket     one per value │ 64, 2 wide       │ 64, 4 wide    │ 64, 8 wide, and so on to 2^64
/// ```
///
/// Count, mean and maximum are exact. A percentile is the upper end of its bucket, but never above
/// the maximum. It is never too small and at most 1/64 too large. The histogram takes 30 KiB,
/// whatever the number of values.
#[derive(Clone)]
pub struct LatencyHistogram {
    counts: Box<[u64; BUCKETS]>,
    count: u64,
    sum: u128,
    max: u64,
}

/// The result of a [`LatencyHistogram`], in nanoseconds. All zero if nothing was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// The mean, exact.
    pub mean: f64,
    /// The median, at most 1/64 too large.
    pub p50: u64,
    /// 99 of 100 values are at most this, at most 1/64 too large.
    pub p99: u64,
    /// 999 of 1000 values are at most this, at most 1/64 too large.
    pub p999: u64,
    /// The largest value, exact.
    pub max: u64,
}

impl LatencyHistogram {
    /// Creates an empty histogram. All of its memory is touched here and none of it later.
    pub fn new() -> Self {
        // Zeroed memory from the OS is not resident until it is written, and a measurement would
        // pay for that.
        let mut counts = Box::new([1; BUCKETS]);
        std::hint::black_box(&mut counts).fill(0);
        Self { counts, count: 0, sum: 0, max: 0 }
    }

    /// Records one value of `ns` nanoseconds.
    pub fn record(&mut self, ns: u64) {
        self.counts[bucket_of(ns)] += 1;
        self.count += 1;
        self.sum += u128::from(ns);
        self.max = self.max.max(ns);
    }

    /// Runs `work` and records the time it took. If it panics, nothing is recorded.
    pub fn time<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let result = work();
        self.record(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        result
    }

    /// Adds all values of `other`, such as those of another thread.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts.iter()) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// Returns the number of values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the exact mean, or 0 if there is no value.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }

    /// Returns the smallest recorded value `v` such that at least a share `p` of the values is
    /// `<= v` (nearest rank). It is at most 1/64 too large, and 0 if there is no value.
    ///
    /// # Panics
    ///
    /// If `p` is outside `0.0..=1.0`.
    pub fn percentile(&self, p: f64) -> u64 {
        assert!((0.0..=1.0).contains(&p), "a percentile is a share between 0 and 1");
        let rank = ((p * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_end(bucket).min(self.max);
            }
        }
        self.max
    }

    /// Returns the median.
    pub fn p50(&self) -> u64 {
        self.percentile(0.5)
    }

    /// Returns [`Percentiles::p99`].
    pub fn p99(&self) -> u64 {
        self.percentile(0.99)
    }

    /// Returns [`Percentiles::p999`].
    pub fn p999(&self) -> u64 {
        self.percentile(0.999)
    }

    /// Returns the largest value, which is exact, or 0 if there is none.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// Returns mean, percentiles and maximum at once.
    pub fn summary(&self) -> Percentiles {
        Percentiles {
            mean: self.mean(),
            p50: self.p50(),
            p99: self.p99(),
            p999: self.p999(),
            max: self.max,
        }
    }
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for LatencyHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LatencyHistogram")
            .field("count", &self.count)
            .field("summary", &self.summary())
            .finish()
    }
}

/// Returns the bucket of `value`: its octave, and the `KEPT_BITS` bits behind its leading one.
fn bucket_of(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(KEPT_BITS + 1);
    shift as usize * PER_OCTAVE + (value >> shift) as usize
}

/// Returns the largest value of `bucket`.
fn upper_end(bucket: usize) -> u64 {
    let shift = (bucket / PER_OCTAVE).saturating_sub(1);
    let first = (bucket - shift * PER_OCTAVE) as u64;
    (first << shift) + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Rng;

    /// Every bucket ends where the next begins.
    #[test]
    fn buckets_leave_no_gap() {
        for bucket in 0..BUCKETS - 1 {
            let end = upper_end(bucket);
            assert_eq!(bucket_of(end), bucket);
            assert_eq!(bucket_of(end + 1), bucket + 1);
        }
        assert_eq!(upper_end(BUCKETS - 1), u64::MAX);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn small_values_are_exact() {
        let mut latencies = LatencyHistogram::new();
        (1..=100).for_each(|ns| latencies.record(ns));
        let expected = Percentiles { mean: 50.5, p50: 50, p99: 99, p999: 100, max: 100 };
        assert_eq!(latencies.summary(), expected);
        assert_eq!((latencies.percentile(0.0), latencies.percentile(1.0)), (1, 100));
        assert_eq!(latencies.count(), 100);
    }

    /// Percentiles are at most 1/64 above those of the sorted values.
    #[test]
    fn percentiles_are_close() {
        let mut rng = Rng::new(4);
        // Values of all magnitudes from 1 ns to 1000 s.
        let mut values: Vec<u64> =
            (0..50_000).map(|_| 10_f64.powf(rng.unit() * 12.0) as u64).collect();
        let mut latencies = LatencyHistogram::new();
        values.iter().for_each(|&ns| latencies.record(ns));
        values.sort_unstable();
        for p in [0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let exact = values[((p * values.len() as f64).ceil() as usize).max(1) - 1];
            let found = latencies.percentile(p);
            assert!(found >= exact && found - exact <= exact / 64, "{p}: {found} {exact}");
        }
        let mean = values.iter().sum::<u64>() as f64 / values.len() as f64;
        assert!((latencies.mean() / mean - 1.0).abs() < 1e-12);
        assert_eq!(latencies.max(), *values.last().unwrap());
    }

    /// Merging histograms equals recording all values in one.
    #[test]
    fn merge_equals_recording_once() {
        let (mut one, mut two, mut all) =
            (LatencyHistogram::new(), LatencyHistogram::new(), LatencyHistogram::new());
        for ns in 0..10_000 {
            if ns % 3 == 0 {
                one.record(ns * ns)
            } else {
                two.record(ns * ns)
            }
            all.record(ns * ns);
        }
        one.merge(&two);
        assert_eq!((one.count(), one.summary()), (all.count(), all.summary()));
    }

    #[test]
    fn nothing_recorded_is_all_zero() {
        assert_eq!(LatencyHistogram::new().summary(), Percentiles::default());
    }

    #[test]
    fn extremes_are_kept() {
        let mut latencies = LatencyHistogram::new();
        latencies.record(0);
        latencies.record(u64::MAX);
        assert_eq!((latencies.p50(), latencies.p99(), latencies.max()), (0, u64::MAX, u64::MAX));
    }

    /// Timing records one value and returns the result of the work.
    #[test]
    fn time_records_once() {
        let mut latencies = LatencyHistogram::new();
        assert_eq!(latencies.time(|| 42), 42);
        assert_eq!(latencies.count(), 1);
    }

    #[test]
    fn a_summary_is_json() {
        let mut latencies = LatencyHistogram::new();
        latencies.record(7);
        let json = serde_json::to_value(latencies.summary()).unwrap();
        assert_eq!(json, serde_json::json!({"mean": 7.0, "p50": 7, "p99": 7, "p999": 7, "max": 7}));
    }
}
