//! Small blocks, and stores full of them.

use std::hash::{BuildHasher, Hash};
use std::time::{Duration, Instant};

use zswap::Store;

/// A fill ends after this time, however far it got, so that a figure far over its limit is still
/// printed.
pub(crate) const LONGEST_FILL: Duration = Duration::from_secs(240);

/// Bytes of a block of [`noise`].
pub(crate) const SMALL: usize = 16;

/// The result of a fill.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Filled {
    /// Stores that succeeded.
    pub(crate) stored: u64,
    /// Stores that returned an error.
    pub(crate) failed: u64,
}

impl Filled {
    /// Stores that were tried.
    pub(crate) fn tried(self) -> u64 {
        self.stored + self.failed
    }
}

/// Makes a block that does not shrink and is not same-filled, and so becomes an object of its
/// length. A `key` always makes the same block.
pub(crate) fn noise(key: u64) -> [u8; SMALL] {
    let mut block = [0; SMALL];
    for (place, half) in block.chunks_exact_mut(8).enumerate() {
        half.copy_from_slice(&mix(2 * key + place as u64).to_le_bytes());
    }
    block
}

/// Makes a same-filled block, which is kept in the index and in no pool.
pub(crate) fn same_filled(key: u64) -> [u8; SMALL] {
    let word = mix(key).to_le_bytes();
    let mut block = [0; SMALL];
    block.chunks_exact_mut(8).for_each(|half| half.copy_from_slice(&word));
    block
}

/// Stores a block under each key until all are stored or `longest` is over. Counts failed stores
/// and goes on.
pub(crate) fn fill<K: Hash + Eq + Clone, S: BuildHasher>(
    store: &Store<K, S>,
    keys: impl IntoIterator<Item = K>,
    block: impl Fn(u64) -> [u8; SMALL],
    longest: Duration,
) -> Filled {
    const STORES_PER_CLOCK_READ: u64 = 1024;
    let (start, mut filled) = (Instant::now(), Filled::default());
    for (number, key) in (0..).zip(keys) {
        if number % STORES_PER_CLOCK_READ == 0 && start.elapsed() > longest {
            break;
        }
        match store.store(key, block(number)) {
            Ok(()) => filled.stored += 1,
            Err(_) => filled.failed += 1,
        }
    }
    filled
}

/// Turns neighbouring numbers into unrelated ones, by the finalizer of splitmix64 (Steele, Lea and
/// Flood 2014).
fn mix(number: u64) -> u64 {
    let mut word = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ word >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fill stores a block under each key.
    #[test]
    fn fill_stores_block_under_each_key() {
        let store = Store::builder().build().unwrap();
        let filled = fill(&store, 0..500u64, noise, LONGEST_FILL);
        assert_eq!(filled, Filled { stored: 500, failed: 0 });
        assert_eq!(store.load_vec(&499).unwrap().unwrap(), noise(499));
        assert_eq!(store.stats().stored_raw, 500);
    }

    #[test]
    fn fill_ends_when_its_time_is_over() {
        let store: Store<u64> = Store::builder().build().unwrap();
        let filled = fill(&store, 0.., same_filled, Duration::ZERO);
        assert!(filled.tried() < 10_000, "{filled:?}");
        assert_eq!(store.stats().same_filled as u64, filled.stored);
    }
}
