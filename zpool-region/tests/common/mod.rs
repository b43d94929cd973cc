//! Helpers of the tests of regions.

#![allow(dead_code, reason = "each test program uses a part")]

use zpool_region::{Region, RegionBuilder};
use zpool_testing::random::TestRng;

/// Bytes of a page, assumed by tests that count them.
pub(crate) const PAGE: usize = 4096;

/// The ways to serve faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Handler threads, of this number.
    Threads(usize),
    /// The faulting thread.
    Signal,
}

pub(crate) const MODES: [Mode; 3] = [Mode::Threads(1), Mode::Threads(2), Mode::Signal];

/// Builds a region, or says in one line why the test is skipped.
pub(crate) fn build(builder: RegionBuilder) -> Option<Region> {
    match builder.build() {
        Ok(region) => Some(region),
        Err(error) if error.is_unsupported() => {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("a region: {error}"),
    }
}

/// Sets the way to serve faults.
#[allow(unsafe_code, reason = "signal mode is unsafe to choose")]
pub(crate) fn with_mode(builder: RegionBuilder, mode: Mode) -> RegionBuilder {
    match mode {
        Mode::Threads(threads) => builder.handler_threads(threads),
        // SAFETY: (1) tests block no signals; (2) their threads have 2 MiB of stack; (3) there is
        // no allocator over a region, and no other signal handler; (4) no such plug-ins.
        Mode::Signal => unsafe { builder.fault_in_signal_handler() },
    }
}

/// Fills a piece with bytes that belong to `seed` and compress to about a half.
pub(crate) fn fill(piece: &mut [u8], seed: u64) {
    let mut rng = TestRng::new(seed);
    let mut word = [0; 8];
    for (at, bytes) in piece.chunks_mut(8).enumerate() {
        if at % 2 == 0 {
            word = rng.next().to_le_bytes();
        }
        bytes.copy_from_slice(&word[..bytes.len()]);
    }
}

/// Returns whether a piece has the bytes that belong to `seed`.
pub(crate) fn has(piece: &[u8], seed: u64) -> bool {
    let mut expected = vec![0; piece.len()];
    fill(&mut expected, seed);
    piece == expected
}

/// Fills a piece with bytes that do not compress.
pub(crate) fn fill_noise(piece: &mut [u8], seed: u64) {
    let mut rng = TestRng::new(seed);
    for bytes in piece.chunks_mut(8) {
        bytes.copy_from_slice(&rng.next().to_le_bytes()[..bytes.len()]);
    }
}
