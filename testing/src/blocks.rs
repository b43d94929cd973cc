//! Blocks of bytes for tests. Different seeds nearly always give different blocks, and stamped
//! blocks contain their key and version.

use crate::random::TestRng;

/// How a block looks to a compressor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// One word, again and again.
    SameFilled,
    /// Runs of one byte: every compressor here shrinks it, from some 40 bytes on.
    Runs,
    /// Noise: no compressor shrinks it.
    Noise,
}

/// Returns a block of `len` bytes. Different seeds nearly always give different blocks, unless
/// `len` is very short.
pub fn block(seed: u64, len: usize, look: Look) -> Vec<u8> {
    let mut rng = TestRng::new(seed);
    // Loops over chunks: tests make so many blocks that iterators over bytes take much of their
    // time in debug builds.
    let mut bytes = vec![0; len];
    match look {
        Look::SameFilled => {
            let word = rng.next().to_le_bytes();
            bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&word[..chunk.len()]));
        }
        Look::Noise => bytes
            .chunks_mut(8)
            .for_each(|chunk| chunk.copy_from_slice(&rng.next().to_le_bytes()[..chunk.len()])),
        // Runs of 20 bytes, so that no seed gives a period of eight bytes.
        Look::Runs => bytes.chunks_mut(20).for_each(|run| run.fill(rng.next() as u8)),
    }
    bytes
}

/// Returns a block that shrinks, with its key and its version in the first 16 bytes.
///
/// # Panics
///
/// If `len` is less than 16.
pub fn stamped(key: u64, version: u64, len: usize) -> Vec<u8> {
    let mut bytes = block(key ^ version.rotate_left(32), len, Look::Runs);
    bytes[..8].copy_from_slice(&key.to_le_bytes());
    bytes[8..16].copy_from_slice(&version.to_le_bytes());
    bytes
}

/// Returns the key and version of a stamped block, after checking every byte.
///
/// # Panics
///
/// If `bytes` are not a whole stamped block.
pub fn unstamp(bytes: &[u8]) -> (u64, u64) {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let (key, version) = (word(0), word(8));
    assert!(stamped(key, version, bytes.len()) == bytes, "torn or foreign bytes under key {key}");
    (key, version)
}
