//! Which points are worth a look, and which to take.

use super::measure::Point;

/// Times this close are equal, as far as anybody can measure twice: then the smaller setting wins.
const SAME_TIME: f64 = 1.10;
/// Bytes this close are equal, as far as anybody cares: then the faster setting wins.
const SAME_BYTES: f64 = 1.02;

/// A recommendation: indices of points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recommendation {
    /// The least time to store and load what is wanted at a time, once.
    pub(super) fast: usize,
    /// The bend between the other two.
    pub(super) balanced: usize,
    /// The fewest bytes.
    pub(super) small: usize,
    /// For each point: is no other at least as good in bytes, time to store, time to load a KiB, and time to load what is wanted?
    pub(super) front: Vec<bool>,
}

impl Recommendation {
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

    /// The three, with their names and reasons.
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
                "nearest to the time of `fast` and the bytes of `small` at once, both as ratios; of those within 10 % of its time the smallest",
            ),
            ("small", self.small, "the fewest bytes; of those within 2 % of it the fastest"),
        ]
    }
}

/// The index of the least.
fn best(points: &[Point], of: impl Fn(&Point) -> f64) -> usize {
    let least = points.iter().map(of).enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
    least.expect("there is a point").0
}

/// The smallest of those whose time is that of `chosen`, or less.
fn smaller_of_equals(points: &[Point], chosen: usize) -> usize {
    let time = SAME_TIME * points[chosen].ns();
    best(points, |point| if point.ns() <= time { point.bytes_per_kib } else { f64::INFINITY })
}

/// How far a point is from having the time of `fast` and the bytes of `small`, in shares of what these two differ by, on logarithmic scales.
fn distance(point: &Point, fast: &Point, small: &Point) -> f64 {
    let share =
        |value: f64, good: f64, bad: f64| (value / good).ln() / (bad / good).max(1.000_001).ln();
    let time = share(point.ns(), fast.ns(), small.ns());
    let bytes = share(point.bytes_per_kib, small.bytes_per_kib, fast.bytes_per_kib);
    time.max(0.0).hypot(bytes.max(0.0))
}

/// Is `a` nowhere worse than `b`, and somewhere better?
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

    #[test]
    fn within_ten_percent_of_time_the_smaller_wins_and_not_beyond() {
        let fast = |time| {
            Recommendation::of(&points(&[(400.0, 1000.0), (300.0, time), (100.0, 9000.0)])).fast
        };
        assert_eq!(fast(1099.0), 1);
        assert_eq!(fast(1101.0), 0);
    }

    #[test]
    fn within_two_percent_of_bytes_the_faster_is_small() {
        let small = |bytes| {
            Recommendation::of(&points(&[(400.0, 1000.0), (bytes, 5000.0), (100.0, 9000.0)])).small
        };
        assert_eq!(small(101.9), 1);
        assert_eq!(small(102.1), 2);
    }

    #[test]
    fn what_another_beats_is_not_on_the_front() {
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
