//! The traces, which are sequences of page numbers to look up.

use workload::{Rng, Zipf};

/// A pattern of look-ups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// Few numbers are hot, most are cold, and the hot ones stay the same.
    Zipf,
    /// Like `Zipf`, but interrupted by scans over numbers that come once.
    Scan,
    /// Like `Zipf`, but the hot numbers change all the time.
    Shifting,
}

/// An endless sequence of page numbers, the same in every process.
#[derive(Debug)]
pub(crate) struct Trace {
    pattern: Pattern,
    /// The number of page numbers that Zipf's law draws from.
    numbers: u64,
    zipf: Zipf,
    rng: Rng,
    /// Look-ups so far.
    at: u64,
    /// Numbers scanned so far.
    scanned: u64,
}

/// The look-ups of a scan. Between two scans there are twice as many others.
const SCAN: u64 = 2000;

/// Look-ups after which the hot numbers have moved on by one number.
const LOOKUPS_PER_SHIFT: u64 = 10;

impl Pattern {
    pub(crate) const ALL: [Pattern; 3] = [Pattern::Zipf, Pattern::Scan, Pattern::Shifting];

    /// Returns the name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Pattern::Zipf => "zipf",
            Pattern::Scan => "scan",
            Pattern::Shifting => "shifting",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Pattern> {
        Pattern::ALL.into_iter().find(|pattern| pattern.name() == name)
    }
}

impl Trace {
    /// Creates the trace of a pattern over `numbers` page numbers that are not scanned.
    pub(crate) fn new(pattern: Pattern, numbers: usize) -> Trace {
        Trace {
            pattern,
            numbers: numbers as u64,
            zipf: Zipf::new(numbers),
            rng: Rng::new(1),
            at: 0,
            scanned: 0,
        }
    }

    /// Returns one more than the largest number so far, if every number was looked up.
    pub(crate) fn end(&self) -> u64 {
        self.numbers + self.scanned
    }
}

impl Iterator for Trace {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let at = self.at;
        self.at += 1;
        if self.pattern == Pattern::Scan && at % (3 * SCAN) >= 2 * SCAN {
            self.scanned += 1;
            return Some(self.numbers + self.scanned - 1);
        }
        let rank = self.zipf.sample(&mut self.rng) as u64;
        let shift = if self.pattern == Pattern::Shifting { at / LOOKUPS_PER_SHIFT } else { 0 };
        Some((rank + shift) % self.numbers)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn first(pattern: Pattern, n: usize) -> Vec<u64> {
        Trace::new(pattern, 10_000).take(n).collect()
    }

    #[test]
    fn patterns_have_names() {
        for pattern in Pattern::ALL {
            assert_eq!(Pattern::named(pattern.name()), Some(pattern));
            assert_eq!(first(pattern, 100), first(pattern, 100));
        }
        assert_eq!(Pattern::named("none"), None);
    }

    /// A third of the look-ups of `scan` come once, and no number of them is drawn otherwise.
    #[test]
    fn scanned_numbers_come_once() {
        let numbers = first(Pattern::Scan, 30_000);
        let scanned: Vec<u64> = numbers.iter().copied().filter(|&n| n >= 10_000).collect();
        assert_eq!(scanned.len(), 10_000);
        assert_eq!(scanned.iter().collect::<HashSet<_>>().len(), scanned.len());
    }

    /// The hottest number of `shifting` is another one later.
    #[test]
    fn shifting_moves_the_hot_numbers() {
        let numbers = first(Pattern::Shifting, 50_000);
        let hot = |part: &[u64], from: u64| {
            part.iter().filter(|&&n| (from..from + 100).contains(&n)).count()
        };
        assert!(hot(&numbers[..1000], 0) > 3 * hot(&numbers[49_000..], 0));
        assert!(hot(&numbers[49_000..], 4900) > 3 * hot(&numbers[..1000], 4900));
    }
}
