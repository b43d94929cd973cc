//! Searching and counting the bits of bitmaps.

use core::ops::Range;

/// Iterates over the runs of ones in a word.
pub(crate) fn runs(mut bits: u64) -> impl Iterator<Item = Range<u32>> {
    core::iter::from_fn(move || {
        if bits == 0 {
            return None;
        }
        let start = bits.trailing_zeros();
        let end = start + (bits >> start).trailing_ones();
        bits &= u64::MAX.checked_shl(end).unwrap_or(0);
        Some(start..end)
    })
}

/// Returns whether bit `at` is set.
#[inline]
pub(crate) fn bit(words: &[u64], at: u16) -> bool {
    words[usize::from(at / 64)] >> (at % 64) & 1 == 1
}

/// Returns the first clear bit of `from..end`.
pub(crate) fn first_clear(words: &[u64], from: u16, end: u16) -> Option<u16> {
    first(words, from, end, |word| !word)
}

/// Returns the first set bit of `from..end`.
pub(crate) fn first_set(words: &[u64], from: u16, end: u16) -> Option<u16> {
    first(words, from, end, |word| word)
}

#[inline]
fn first(words: &[u64], from: u16, end: u16, look: impl Fn(u64) -> u64) -> Option<u16> {
    let mut at = from;
    while at < end {
        let word = look(words[usize::from(at / 64)]) >> (at % 64);
        if word != 0 {
            return Some(at + word.trailing_zeros() as u16).filter(|&found| found < end);
        }
        at = (at / 64 + 1) * 64;
    }
    None
}

/// Counts the set bits of `range`.
pub(crate) fn count_set(words: &[u64], range: Range<u16>) -> usize {
    let mut count = 0;
    let mut at = range.start;
    while at < range.end {
        let here = (range.end - at).min(64 - at % 64);
        let word = words[usize::from(at / 64)] >> (at % 64);
        count += (word & (u64::MAX >> (64 - here))).count_ones() as usize;
        at += here;
    }
    count
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    /// Searches and counts respect both ends of their range, even inside a word.
    #[test]
    fn ranges_of_bits_are_searched_and_counted() {
        let words = [0b1011u64 | 1 << 63, u64::MAX, 0];
        assert_eq!((first_clear(&words, 0, 192), first_clear(&words, 3, 192)), (Some(2), Some(4)));
        assert_eq!((first_clear(&words, 63, 192), first_clear(&words, 63, 128)), (Some(128), None));
        assert_eq!((first_set(&words, 4, 192), first_set(&words, 128, 192)), (Some(63), None));
        assert_eq!(
            (count_set(&words, 0..192), count_set(&words, 1..66), count_set(&words, 5..5)),
            (68, 5, 0)
        );
        assert_eq!(runs(0b1101_1000 | 1 << 63).collect::<Vec<_>>(), [3..5, 6..8, 63..64]);
        assert_eq!(runs(u64::MAX).map(|run| (run.start, run.end)).collect::<Vec<_>>(), [(0, 64)]);
    }
}
