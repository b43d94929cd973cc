//! A hasher for keys that are numbers, which leaves neighbours together.

use std::hash::{BuildHasherDefault, Hasher};

/// Makes [`SequentialHasher`]s: for [`StoreBuilder::hasher`](crate::StoreBuilder::hasher).
pub type SequentialKeys = BuildHasherDefault<SequentialHasher>;

/// A hasher for keys that are numbers of the program's own: of pages, blocks, sectors, or a file
/// with one of these.
///
/// A number is its own hash. The index spreads hashes by itself, and keeps [eight](crate#keys) that
/// follow each other in neighbouring places: a program that loads pages in the order of their
/// numbers finds the next entry near the one before. Of several numbers (a tuple, a struct) the
/// last one is that by which keys are neighbours; arrays and text are hashed whole.
///
/// ```
/// use zswap::{SequentialKeys, Store};
///
/// let hasher = SequentialKeys::default();
/// let pages: Store<u64, SequentialKeys> = Store::builder().hasher(hasher).build()?;
/// pages.store(7, &[1; 4096])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The gain for pages that are stored and loaded in order: `docs/decisions/0023-neighbours.md` has
/// the figures and the command. Keys in random order only gain the cheaper hash. If groups of eight
/// keys lie at random, as the pages of many short files do, they collide, and a look-up in a full
/// table probes several times as many buckets as with random hashes.
///
/// # Not for keys that an enemy chooses
///
/// There is no secret in this hasher. The index mixes a secret number of its own into where a key
/// goes, but keys of equal hash stay together whatever that number is, and for several numbers in a
/// tuple, or text, such keys are easy to find. The store keeps them all. It compares them one by
/// one, so it becomes slow for them, and for look-ups that find nothing in their part of the index.
/// Std's `RandomState`, the default, is for keys that an enemy chooses.
///
/// Nor is it meant for addresses: multiples of a large number have no neighbours. Divide them.
#[derive(Debug, Clone, Copy, Default)]
pub struct SequentialHasher(u64);

/// Multiplier for each integer except the last: odd, with bits spread over the word. It differs
/// from the index's own multiplier, which is 2^64 over the golden ratio.
const SPREAD: u64 = 0xD6E8_FEB8_6659_FD93;

impl SequentialHasher {
    #[inline]
    fn add(&mut self, number: u64) {
        self.0 = self.0.wrapping_mul(SPREAD).wrapping_add(number);
    }
}

impl Hasher for SequentialHasher {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    /// Text, too, though others do that better.
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(size_of::<u64>()) {
            let mut word = [0; size_of::<u64>()];
            word[..chunk.len()].copy_from_slice(chunk);
            self.add(u64::from_le_bytes(word));
        }
        self.add(bytes.len() as u64);
    }

    #[inline]
    fn write_u8(&mut self, number: u8) {
        self.add(u64::from(number));
    }

    #[inline]
    fn write_u16(&mut self, number: u16) {
        self.add(u64::from(number));
    }

    #[inline]
    fn write_u32(&mut self, number: u32) {
        self.add(u64::from(number));
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        self.add(number);
    }

    #[inline]
    fn write_u128(&mut self, number: u128) {
        self.add((number >> u64::BITS) as u64);
        self.add(number as u64);
    }

    #[inline]
    fn write_usize(&mut self, number: usize) {
        self.add(number as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{BuildHasher, Hash};

    use super::*;

    fn hash(key: impl Hash) -> u64 {
        SequentialKeys::default().hash_one(key)
    }

    #[test]
    fn numbers_that_follow_each_other_have_hashes_that_do() {
        assert_eq!((hash(0u64), hash(7u64), hash(u64::MAX)), (0, 7, u64::MAX));
        assert_eq!((hash(7u8), hash(7u16), hash(7u32), hash(7usize), hash(7i64)), (7, 7, 7, 7, 7));
        for (file, page) in [(0u32, 0u64), (1, 0), (1, 77), (u32::MAX, u64::MAX)] {
            assert_eq!(hash((file, page.wrapping_add(1))), hash((file, page)).wrapping_add(1));
        }
        assert_eq!(hash(1u128 << 64 | 9), hash(1u128 << 64 | 8) + 1);
    }

    /// Keys that differ in any number or letter have different hashes.
    #[test]
    fn different_keys_have_different_hashes() {
        let pairs = (0..100u32).flat_map(|file| (0..100u64).map(move |page| hash((file, page))));
        assert_eq!(pairs.collect::<HashSet<_>>().len(), 10_000);
        let texts =
            ["", "a", "b", "ab", "ba", "a\0", "eight by", "eight by\0", "eight bytes and more"];
        assert_eq!(texts.map(hash).into_iter().collect::<HashSet<_>>().len(), texts.len());
    }
}
