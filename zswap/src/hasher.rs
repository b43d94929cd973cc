//! Identity hashing for keys that are numbers, which keeps neighbours together.

use std::hash::{BuildHasherDefault, Hasher};

/// Identity hashing for trusted integer keys: numbers of pages, blocks or sectors, or pairs of a
/// file and such a number. Set it by [`StoreBuilder::hasher`](crate::StoreBuilder::hasher).
///
/// An integer is its own hash, so hashing is almost free. The index keeps
/// [eight consecutive keys](crate#keys) in neighbouring buckets. A program that loads pages in the
/// order of their numbers finds the next entry next to the last one.
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
/// # Which keys
///
/// - Integers that are used in sequence gain the most. The bench `overhead` measures it, and
///   decision 0023 has the reasons.
/// - Integers in random order gain the cheaper hash only.
/// - Of several integers (a tuple, a struct), the last one makes keys neighbours. Arrays and text
///   are hashed as a whole.
/// - Groups of eight keys at random places, such as the pages of many short files, collide: a
///   look-up probes several times as many buckets as with random hashes, and the index takes a
///   little more memory.
/// - Multiples of a large number, such as addresses, have no neighbours. Divide them first.
///
/// # Not for untrusted keys
///
/// This hasher has no secret, so an attacker can choose tuples or text of equal hash. The store
/// keeps all keys of one hash, but compares them one by one. It becomes slow for these keys, and
/// for failed look-ups in their part of the index. For untrusted keys, use the default hasher,
/// `RandomState`.
pub type SequentialKeys = BuildHasherDefault<SequentialHasher>;

/// The hasher of [`SequentialKeys`], which describes it.
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

    /// Adds bytes, such as text, and their number. Other hashers are better at that.
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
    fn consecutive_numbers_have_consecutive_hashes() {
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
