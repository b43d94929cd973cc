//! Finds the points on the Pareto front, and recommends three.

use super::measure::Point;

/// Times within this ratio are equal, as far as a measurement can be repeated. The smaller setting
/// then wins.
const SAME_TIME: f64 = 1.10;
/// Bytes within this ratio are equal for any practical purpose. The faster setting then wins.
const SAME_BYTES: f64 = 1.02;

/// A recommendation: indices of points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recommendation {
    /// The point with the least time to store and load the wanted bytes once.
    pub(super) fast: usize,
    /// The point at the bend between the other two.
    pub(super) balanced: usize,
    /// The point with the fewest bytes.
    pub(super) small: usize,
    /// Whether each point is on the front: no other is at least as good in bytes, time to store,
    /// time to load per KiB, and time to load the wanted bytes.
    pub(super) front: Vec<bool>,
}

impl Recommendation {
    /// Finds the front of these points, and chooses three of them.
    ///
    /// # Panics
    ///
    /// If there is no point.
    pub(super) fn of(points: &[Point]) -> Recommendation {
        let fast = smaller_of_equals(points, best(points, |point| point.ns()));
        let fewest = points[best(points, |point| point.bytes_per_kib)].bytes_per_kib;
        let as_small = |point: &Point| point.bytes_per_kib <= SAME_BYTES * fewest;
        let small = best(points, |point| if as_small(point) { point.ns() } else { f64::INFINITY });
        let bend = best(points, |point| distance(point, &points[fast], &points[small]));
        Recommendation {
            fast,
            balanced: smaller_of_equals(points, bend),
            small,
            front: points
                .iter()
                .map(|point| !points.iter().any(|other| beats(other, point)))
                .collect(),
        }
    }

    /// Returns the three points with their names and reasons.
    pub(super) fn named(&self) -> [(&'static str, usize, &'static str); 3] {
        [
            (
                "fast",
                self.fast,
                "the least time to store and load; of those within 10 % of it the smallest",
            ),
            (
                "balanced",
                self.balanced,
                "nearest to the time of `fast` and the bytes of `small`, as ratios; \
                 of those within 10 % of its time the smallest",
            ),
            ("small", self.small, "the fewest bytes; of those within 2 % of it the fastest"),
        ]
    }
}

/// Returns the index of the least value.
fn best(points: &[Point], of: impl Fn(&Point) -> f64) -> usize {
    let least = points.iter().map(of).enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
    least.expect("there is a point").0
}

/// Returns the smallest point among those at most 10 % slower than `chosen`.
fn smaller_of_equals(points: &[Point], chosen: usize) -> usize {
    let time = SAME_TIME * points[chosen].ns();
    best(points, |point| if point.ns() <= time { point.bytes_per_kib } else { f64::INFINITY })
}

/// Returns how far a point is from having the time of `fast` and the bytes of `small`. Both are
/// shares of the difference between these two, on logarithmic scales.
fn distance(point: &Point, fast: &Point, small: &Point) -> f64 {
    let share =
        |value: f64, good: f64, bad: f64| (value / good).ln() / (bad / good).max(1.000_001).ln();
    let time = share(point.ns(), fast.ns(), small.ns());
    let bytes = share(point.bytes_per_kib, small.bytes_per_kib, fast.bytes_per_kib);
    time.max(0.0).hypot(bytes.max(0.0))
}

/// Returns whether `a` is nowhere worse than `b`, and somewhere better.
fn beats(a: &Point, b: &Point) -> bool {
    let [a, b] = [a, b].map(|point| {
        [point.bytes_per_kib, point.store_ns_per_kib, point.load_ns_per_kib, point.load_ns()]
    });
    a.iter().zip(&b).all(|(a, b)| a <= b) && a != b
}

#[cfg(test)]
mod tests {
    use super::super::grid::Family;
    use super::*;

    fn points(all: &[(f64, f64)]) -> Vec<Point> {
        let point = |&(bytes_per_kib, ns): &(f64, f64)| Point {
            compressor: String::new(),
            family: Family::Zstd,
            block_size: 4096,
            bytes_per_kib,
            store_ns_per_kib: ns * 0.75,
            load_ns_per_kib: ns * 0.25,
            wanted: 4096,
        };
        all.iter().map(point).collect()
    }

    #[test]
    fn chooses_the_ends_and_the_bend() {
        let points =
            points(&[(400.0, 1000.0), (250.0, 2000.0), (200.0, 10_000.0), (390.0, 1500.0)]);
        let recommendation = Recommendation::of(&points);
        assert_eq!((recommendation.fast, recommendation.balanced, recommendation.small), (0, 1, 2));
        assert_eq!(recommendation.front, [true, true, true, true]);
    }

    /// Within 10 % of time the smaller setting wins, and not beyond.
    #[test]
    fn smaller_wins_within_10_percent() {
        let fast = |time| {
            Recommendation::of(&points(&[(400.0, 1000.0), (300.0, time), (100.0, 9000.0)])).fast
        };
        assert_eq!(fast(1099.0), 1);
        assert_eq!(fast(1101.0), 0);
    }

    /// Within 2 % of bytes the faster setting is `small`.
    #[test]
    fn faster_wins_within_2_percent() {
        let small = |bytes| {
            Recommendation::of(&points(&[(400.0, 1000.0), (bytes, 5000.0), (100.0, 9000.0)])).small
        };
        assert_eq!(small(101.9), 1);
        assert_eq!(small(102.1), 2);
    }

    /// A point that another beats is not on the front.
    #[test]
    fn beaten_point_is_not_on_front() {
        let recommendation = Recommendation::of(&points(&[
            (400.0, 1000.0),
            (400.0, 1001.0),
            (401.0, 1000.0),
            (100.0, 9000.0),
        ]));
        assert_eq!(recommendation.front, [true, false, false, true]);
        let one = Recommendation::of(&points(&[(1.0, 1.0)]));
        assert_eq!((one.fast, one.balanced, one.small, one.front), (0, 0, 0, vec![true]));
    }
}
