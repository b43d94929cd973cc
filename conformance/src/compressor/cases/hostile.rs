//! Hostile bytes. The result is an error, or wrong bytes of the full length that depend on this
//! input alone, and never a panic.

use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::prop_oneof;
use zpool_core::compress::CodecError;

use crate::compressor::CompressorMaker;
use crate::compressor::harness::{CompressorHarness, block_of, noise};
use crate::compressor::seeded_block::seeded_block;
use crate::generator::{Generator, Kind};

/// K9: no bytes at all.
pub fn k9_no_bytes(maker: &CompressorMaker) {
    let mut harness = CompressorHarness::new(maker);
    for len in [1, 8, 4096] {
        let _ = harness.check_hostile(&[], len);
    }
    harness.check_round_trip(&[7; 100]);
}

/// K9: the compressed form cut short, at every length.
pub fn k9_every_prefix(maker: &CompressorMaker) {
    let mut harness = CompressorHarness::new(maker);
    for block in [block_of(Kind::Json, 1, 900), block_of(Kind::Records, 2, 4096), noise(3, 200)] {
        let compressed = harness.compressed(&block);
        let step = if maker.scaled(100) < 100 { 13 } else { 1 };
        for len in (0..compressed.len()).step_by(step) {
            let _ = harness.check_hostile(&compressed[..len], block.len());
        }
        harness.check_comes_back(&compressed, &block);
    }
}

/// K9: the right bytes for a block of another length.
pub fn k9_any_other_block_length(maker: &CompressorMaker) {
    let mut harness = CompressorHarness::new(maker);
    for block in [block_of(Kind::Text, 1, 300), noise(3, 300), vec![0; 300], noise(4, 4096)] {
        let compressed = harness.compressed(&block);
        let len = block.len();
        for other in (1..=20)
            .chain(len - 20..len + 20)
            .chain([2 * len, 65_536])
            .filter(|&other| other != len)
        {
            let _ = harness.check_hostile(&compressed, other);
        }
        harness.check_comes_back(&compressed, &block);
    }
}

/// K9, K10: random bytes. Half of them are mostly small or large numbers, which get further into a
/// decoder. Afterwards the context still works.
pub fn k9_k10_random_bytes(maker: &CompressorMaker) {
    let small_bytes = vec(prop_oneof![0..4u8, 0xF0..=0xFFu8, any::<u8>()], 0..200);
    let bytes = prop_oneof![vec(any::<u8>(), 0..400), small_bytes];
    let attacks = vec((bytes, prop_oneof![1..64usize, 1..5000usize]), 1..12);
    let block = block_of(Kind::HashMap, 11, 3000);
    maker.for_all(100, attacks, |attacks| {
        let mut harness = CompressorHarness::new(maker);
        let compressed = harness.compressed(&block);
        for (bytes, len) in attacks {
            let _ = harness.check_hostile(&bytes, len);
            harness.check_comes_back(&compressed, &block);
        }
    });
}

/// K9, K10: compressed bytes with flipped, lost and added bits. Afterwards the whole ones still
/// decode.
pub fn k9_k10_damaged_bytes(maker: &CompressorMaker) {
    maker.for_all(100, (seeded_block(), damages()), |(seeded, damages)| {
        let mut harness = CompressorHarness::new(maker);
        let block = seeded.block();
        let original = harness.compressed(&block);
        let (mut bytes, mut len) = (original.clone(), block.len());
        for damage in &damages {
            damage.inflict(&mut bytes, &mut len);
            let _ = harness.check_hostile(&bytes, len);
        }
        harness.check_comes_back(&original, &block);
    });
}

/// K9: a used context has the outcome of a new one, and no 8 consecutive bytes of a block that it
/// decoded before.
pub fn k9_the_outcome_is_that_of_these_bytes_alone(maker: &CompressorMaker) {
    let (mut used, mut fresh_blocks) =
        (CompressorHarness::new(maker), Generator::new(5).blocks(2000));
    for round in 0..maker.scaled(60) as u64 {
        let secret = noise(0xB10C + round, 4096);
        let compressed = used.compressed(&secret);
        used.check_comes_back(&compressed, &secret);
        let other = fresh_blocks.next().expect("the iterator has no end");
        let mut bytes = used.compressed(&other);
        let at = bytes.len() * (round as usize % 7) / 7;
        match round % 3 {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << (round % 8),
            _ => bytes = noise(round, 1 + round as usize * 3),
        }
        for len in [2000, 4096] {
            let outcome = used.check_hostile(&bytes, len);
            let expected =
                CompressorHarness::of(used.compressor.clone()).check_hostile(&bytes, len);
            assert!(outcome == expected, "K9: the outcome depends on what was read before");
            if let Ok(block) = outcome {
                let leaked = secret.chunks(8).find(|run| block.windows(8).any(|w| w == *run));
                assert_eq!(leaked, None, "K9: bytes of a block that was read before");
            }
        }
    }
}

/// Damage to compressed bytes.
#[derive(Debug, Clone)]
pub(super) enum Damage {
    Flip {
        at: usize,
        mask: u8,
    },
    CutTo {
        len: usize,
    },
    Append(Vec<u8>),
    /// Bytes from another place, copied over.
    Copy {
        from: usize,
        to: usize,
        len: usize,
    },
    /// No damage, but a wrong length for the block.
    LieAboutLen {
        by: isize,
    },
}

pub(super) fn damages() -> impl Strategy<Value = Vec<Damage>> {
    let one = prop_oneof![
        4 => (any::<usize>(), 1..=255u8).prop_map(|(at, mask)| Damage::Flip { at, mask }),
        2 => any::<usize>().prop_map(|len| Damage::CutTo { len }),
        1 => vec(any::<u8>(), 1..40).prop_map(Damage::Append),
        1 => (any::<usize>(), any::<usize>(), 1..64usize)
            .prop_map(|(from, to, len)| Damage::Copy { from, to, len }),
        1 => (-200..200isize).prop_map(|by| Damage::LieAboutLen { by }),
    ];
    vec(one, 1..4)
}

impl Damage {
    pub(super) fn inflict(&self, bytes: &mut Vec<u8>, block_len: &mut usize) {
        let len = bytes.len();
        match self {
            _ if len == 0 => {}
            Damage::Flip { at, mask } => bytes[at % len] ^= mask,
            Damage::CutTo { len: to } => bytes.truncate(to % len),
            Damage::Append(more) => bytes.extend(more),
            Damage::Copy { from, to, len: count } => {
                let (from, to) = (from % len, to % len);
                let count = (*count).min(len - from.max(to));
                bytes.copy_within(from..from + count, to);
            }
            Damage::LieAboutLen { by } => *block_len = block_len.saturating_add_signed(*by).max(1),
        }
    }
}

/// Returns whether K9 allows the outcome through a `Codec`, which adds no errors of its own.
pub(super) fn is_allowed(outcome: &Result<(), CodecError>) -> bool {
    matches!(outcome, Ok(()) | Err(CodecError::Corrupt))
}
