//! Decides how many units a fault brings in: more while faults follow each other, otherwise one.

use zpool_core::internal::sync::atomic::{AtomicU64, Ordering};

/// The largest window in units.
pub(crate) const MAX_WINDOW: usize = 16;

/// Bits of the window in the word; the rest is the unit at which a sequential fault is expected.
const WINDOW_BITS: u32 = 8;

/// Sequential streams that are followed at once. Threads that scan different parts of a region
/// would break each other's stream otherwise.
const STREAMS: usize = 4;

/// Adaptive readahead.
///
/// A fixed fault-around fetches pages that a random access does not want, and evicts others for
/// them. So the window doubles only while a fault comes where the last one of a stream ended. The
/// state is a hint: a lost update costs a window, so relaxed orderings are enough.
#[derive(Debug)]
pub(crate) struct Readahead {
    /// Per stream, the expected unit and the window that led there.
    streams: [AtomicU64; STREAMS],
    max: usize,
}

impl Readahead {
    /// Makes a readahead with windows of at most `max` units.
    pub(crate) fn new(max: usize) -> Readahead {
        Readahead { streams: std::array::from_fn(|_| AtomicU64::new(u64::MAX)), max }
    }

    /// Returns how many units a fault at `unit` should bring in, at least 1.
    pub(crate) fn window(&self, unit: usize) -> usize {
        if self.max <= 1 {
            return 1;
        }
        for stream in &self.streams {
            let word = stream.load(Ordering::Relaxed);
            if word >> WINDOW_BITS == unit as u64 {
                let window = (word as usize % (1 << WINDOW_BITS) * 2).clamp(1, self.max);
                stream.store(pack(unit + window, window), Ordering::Relaxed);
                return window;
            }
        }
        // A fault elsewhere starts a stream in the place of another, chosen by its address.
        let place = (unit >> 4).wrapping_mul(0x9E37_79B9) >> 16;
        self.streams[place % STREAMS].store(pack(unit + 1, 1), Ordering::Relaxed);
        1
    }
}

fn pack(expected: usize, window: usize) -> u64 {
    (expected as u64) << WINDOW_BITS | window as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A scan doubles the window up to the largest, and a jump falls back to one unit.
    #[test]
    fn readahead_doubles_while_sequential() {
        let readahead = Readahead::new(MAX_WINDOW);
        let mut unit = 100;
        let windows: Vec<usize> = (0..7)
            .map(|_| {
                let window = readahead.window(unit);
                unit += window;
                window
            })
            .collect();
        assert_eq!(windows, [1, 2, 4, 8, 16, 16, 16]);
        assert_eq!(readahead.window(7), 1);
        assert_eq!(readahead.window(5), 1);
        assert_eq!(Readahead::new(1).window(0), 1);
    }
}
