//! Latency histograms of stores and loads.

use std::fmt;
use std::time::{Duration, Instant};

use zpool_core::internal::sync::atomic::{AtomicU64, Ordering};

/// Buckets of a histogram: four for each power of two nanoseconds, from 2^2 up to 2^42 (73
/// minutes).
const BUCKETS: usize = 4 * 40;

/// The histograms of a store.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    pub(crate) store: Histogram,
    pub(crate) load: Histogram,
}

/// Counts of durations.
pub(crate) struct Histogram([AtomicU64; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Histogram(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

/// Records the time since it was made when it is dropped.
pub(crate) struct Timer<'h> {
    histogram: &'h Histogram,
    begun: Instant,
}

/// Records the time since it was made or since the last lap: how long each item of a batch took, so
/// that the times add up to that of the call.
pub(crate) struct Laps<'h> {
    /// The histogram, and when the latest item was done. `None` in a store without histograms,
    /// which never reads the clock.
    running: Option<(&'h Histogram, Instant)>,
}

impl<'h> Laps<'h> {
    pub(crate) fn new(histogram: Option<&'h Histogram>) -> Laps<'h> {
        Laps { running: histogram.map(|histogram| (histogram, Instant::now())) }
    }

    /// Records the time of an item that is done.
    #[inline]
    pub(crate) fn lap(&mut self) {
        if let Some((histogram, latest)) = &mut self.running {
            let now = Instant::now();
            histogram.record((now - *latest).as_nanos() as u64);
            *latest = now;
        }
    }
}

impl Histogram {
    pub(crate) fn timer(&self) -> Timer<'_> {
        Timer { histogram: self, begun: Instant::now() }
    }

    fn record(&self, ns: u64) {
        // Relaxed: statistics only.
        self.0[bucket(ns)].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn summary(&self) -> LatencySummary {
        // Relaxed: statistics only.
        let counts = self.0.each_ref().map(|count| count.load(Ordering::Relaxed));
        let calls = counts.iter().sum();
        let at = |share: f64| {
            let rank = (share * calls as f64).ceil().max(1.0) as u64;
            let mut seen = 0;
            let reached = counts.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            Duration::from_nanos(reached.map_or(0, upper))
        };
        LatencySummary { calls, p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1.0) }
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        self.histogram.record(self.begun.elapsed().as_nanos() as u64);
    }
}

/// How long calls took: each figure is the upper end of its bucket, at most 1/4 too high.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LatencySummary {
    /// The number of calls.
    pub calls: u64,
    /// Half of them took no longer.
    pub p50: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
    /// 999 of 1000 took no longer.
    pub p999: Duration,
    /// None took longer.
    pub max: Duration,
}

impl fmt::Display for LatencySummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LatencySummary { calls, p50, p99, p999, max } = self;
        write!(f, "{calls} calls, p50 {p50:.1?}, p99 {p99:.1?}, p99.9 {p999:.1?}, max {max:.1?}")
    }
}

/// Returns the number of the bucket of a time: its power of two, and the two bits after the
/// highest.
fn bucket(ns: u64) -> usize {
    let ns = ns.max(4);
    let power = ns.ilog2();
    let quarter = (ns >> (power - 2)) as usize & 3;
    ((power as usize - 2) * 4 + quarter).min(BUCKETS - 1)
}

/// Returns the longest time that is counted in a bucket.
fn upper(bucket: usize) -> u64 {
    let (power, quarter) = (bucket as u32 / 4 + 2, bucket as u64 % 4);
    ((4 + quarter + 1) << (power - 2)) - 1
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.summary().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The upper end of a duration's bucket is at most 1/4 above it.
    #[test]
    fn bucket_bound_is_at_most_a_quarter_too_high() {
        for ns in (4..5_000).chain([1 << 20, (1 << 30) + 12345, 1 << 39]) {
            let upper = upper(bucket(ns));
            assert!(ns <= upper && upper <= ns + ns / 4, "{ns} counts as {upper}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket(0), 0);
    }

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let histogram = Histogram::default();
        assert_eq!(histogram.summary(), LatencySummary::default());
        (1..=10_000).for_each(|number| histogram.record(number * 100));
        let LatencySummary { calls, p50, p99, p999, max } = histogram.summary();
        assert_eq!(calls, 10_000);
        let near = |found: Duration, us: u64| {
            found >= Duration::from_micros(us) && found <= Duration::from_micros(us + us / 4 + 1)
        };
        assert!(near(p50, 500) && near(p99, 990) && near(max, 1000), "{p50:?} {p99:?} {max:?}");
        assert!(near(p999, 999), "{p999:?}");
        // One of 10 000 is above the 99.9th percentile, and nothing else.
        histogram.record(1 << 30);
        assert_eq!(histogram.summary().p999, p999);
        assert!(histogram.summary().max > Duration::from_secs(1));
    }
}
