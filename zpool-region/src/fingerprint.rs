//! A keyed 128-bit hash of a unit, which decides whether a resident page still equals its block.
//!
//! It is NH (Black, Halevi, Krawczyk, Krovetz and Rogaway, *UMAC: Fast and Secure Message
//! Authentication*, CRYPTO 1999) on 64-bit words, in two lanes whose keys are shifted (the Toeplitz
//! construction of the same paper). Each lane is folded to 64 bits by a keyed multilinear hash. For
//! two different units that do not depend on the key, both lanes collide with a probability of less
//! than 2^-120. The key is random per region and never leaves it, and neither do the hashes.

use rustix::rand::{GetRandomFlags, getrandom};
use std::io;

/// Words by which the second lane's key is shifted.
const SHIFT: usize = 2;
/// Words of key for folding the two lanes.
const FOLD: usize = 12;

/// The secret key of a region's fingerprints.
pub(crate) struct FingerprintKey(Box<[u64]>);

/// Fingerprint of a unit. Never 0, so that 0 can stand for *none* in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint(u128);

impl Fingerprint {
    /// Returns the bits that stand for a fingerprint in a table.
    pub(crate) fn bits(of: Option<Fingerprint>) -> u128 {
        of.map_or(0, |print| print.0)
    }

    /// Returns the fingerprint of these bits, if they are not 0.
    pub(crate) fn from_bits(bits: u128) -> Option<Fingerprint> {
        (bits != 0).then_some(Fingerprint(bits))
    }
}

impl FingerprintKey {
    /// Makes a random key for units of `unit` bytes, a multiple of 16.
    pub(crate) fn random(unit: usize) -> io::Result<FingerprintKey> {
        let words = unit / size_of::<u64>() + SHIFT + FOLD;
        let mut bytes = vec![0_u8; words * size_of::<u64>()];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())?;
        }
        Ok(FingerprintKey(bytes.chunks_exact(8).map(word).collect()))
    }

    /// Returns the fingerprint of a unit.
    pub(crate) fn of(&self, unit: &[u8]) -> Fingerprint {
        let (fold, keys) = self.0.split_at(FOLD);
        let mut lanes = [0_u128; 2];
        let pairs = unit.chunks_exact(16).zip(keys.windows(2 + SHIFT).step_by(2));
        for (pair, keys) in pairs {
            let (left, right) = (word(&pair[..8]), word(&pair[8..]));
            for (lane, keys) in lanes.iter_mut().zip([&keys[..2], &keys[SHIFT..]]) {
                let product = u128::from(left.wrapping_add(keys[0]))
                    * u128::from(right.wrapping_add(keys[1]));
                *lane = lane.wrapping_add(product);
            }
        }
        let [high, low] = [folded(lanes[0], &fold[..6]), folded(lanes[1], &fold[6..])];
        let bits = u128::from(high) << 64 | u128::from(low);
        Fingerprint(bits.max(1))
    }
}

impl std::fmt::Debug for FingerprintKey {
    /// Shows nothing of the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FingerprintKey").finish_non_exhaustive()
    }
}

/// Returns the multilinear hash of the two halves of a lane: the upper half of a sum of products
/// with keys of 128 bits (Lemire and Kaser, *Strongly universal string hashing is fast*, 2014).
fn folded(lane: u128, keys: &[u64]) -> u64 {
    let (high, low) = ((lane >> 64) as u64, lane as u64);
    let key = |at: usize| u128::from(keys[at]) << 64 | u128::from(keys[at + 1]);
    let sum = key(0)
        .wrapping_mul(u128::from(high))
        .wrapping_add(key(2).wrapping_mul(u128::from(low)))
        .wrapping_add(key(4));
    (sum >> 64) as u64
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Units that differ in one bit have different fingerprints, and equal ones the same.
    #[test]
    fn fingerprint_sees_each_bit() {
        let key = FingerprintKey::random(4096).unwrap();
        let mut unit = vec![0_u8; 4096];
        let mut seen = HashSet::from([key.of(&unit).0]);
        for bit in 0..4096 * 8 {
            unit[bit / 8] ^= 1 << (bit % 8);
            assert!(seen.insert(key.of(&unit).0), "bit {bit}");
            unit[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(!seen.insert(key.of(&unit).0));
        assert_ne!(FingerprintKey::random(4096).unwrap().of(&unit), key.of(&unit));
    }

    /// Swapped words, and words that differ by the same amount, have different fingerprints.
    #[test]
    fn fingerprint_sees_order() {
        let key = FingerprintKey::random(64).unwrap();
        let units: Vec<Vec<u8>> = (0..8_u8)
            .map(|at| (0..8_u8).flat_map(|word| [0, 0, 0, 0, 0, 0, 0, (word + at) % 8]).collect())
            .collect();
        let seen: HashSet<u128> = units.iter().map(|unit| key.of(unit).0).collect();
        assert_eq!(seen.len(), units.len());
    }
}
