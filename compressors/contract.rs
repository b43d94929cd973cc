//! What every codec of this folder must do, by the bullets (K1 to K10) of `zpool_core::compress`.
//!
//! Each crate includes this file in its `tests/contract.rs` and calls [`contract!`] for each setting of its codec.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use zpool_core::compress::{
    Codec, CodecError, Compressed, CompressionContext, Compressor, DecompressionContext,
};

/// The tests, for the codec that the function makes, with so many cases a property.
macro_rules! contract {
    ($name:ident, $cases:expr, $make:expr) => {
        mod $name {
            use super::contract::*;
            use super::*;

            #[test]
            fn b37_k4_k5_never_writes_past_a_destination_of_any_length() {
                every_destination_length(&Subject::new($make()));
            }

            #[test]
            fn decompresses_nothing_from_no_bytes() {
                Subject::new($make()).check_hostile(&[], 4096);
            }

            proptest! {
                #![proptest_config(ProptestConfig::with_cases($cases))]

                #[test]
                fn k8_gives_back_what_was_compressed(recipe in recipe()) {
                    Subject::new($make()).check_round_trip(&recipe.block());
                }

                #[test]
                fn k3_same_bytes_whatever_the_context_did_before(steps in steps()) {
                    same_bytes_after_anything(&Subject::new($make()), &steps);
                }

                #[test]
                fn k9_hostile_bytes_give_an_error_or_wrong_bytes(attacks in attacks()) {
                    hostile_bytes(&mut Subject::new($make()), &attacks);
                }

                #[test]
                fn k9_damaged_bytes_give_an_error_or_wrong_bytes(recipe in recipe(), damage in damage()) {
                    damaged_bytes(&mut Subject::new($make()), &recipe.block(), &damage);
                }

                #[test]
                fn keeps_the_contract_through_a_codec(steps in steps(), damage in damage()) {
                    through_a_codec($make(), &steps, &damage);
                }
            }
        }
    };
}
pub(crate) use contract;

/// The largest block tried. One more byte than positions of 16 bits can name, and one more.
const MAX_BLOCK: usize = (1 << 16) + 1;
/// Bytes on either side of a buffer that nobody may touch.
const MARGIN: usize = 64;
const CANARY: u8 = 0xC7;

/// How a block is made. Small, so that a failing case prints in a line.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    kind: u8,
    seed: u64,
    len: usize,
}

pub(crate) fn recipe() -> impl Strategy<Value = Recipe> {
    let len = prop_oneof![
        4 => 1..=64usize,
        4 => 1..=4096usize,
        4 => Just(4096usize),
        1 => 1..=MAX_BLOCK,
        1 => MAX_BLOCK - 3..=MAX_BLOCK,
    ];
    (0..6u8, any::<u64>(), len).prop_map(|(kind, seed, len)| Recipe { kind, seed, len })
}

impl Recipe {
    pub(crate) fn block(&self) -> Vec<u8> {
        let mut random = Random(self.seed | 1);
        let mut block = Vec::with_capacity(self.len + 64);
        while block.len() < self.len {
            let kind = if self.kind == 5 { (random.next() % 5) as u8 } else { self.kind };
            match kind {
                // Incompressible.
                0 => block.extend(random.next().to_le_bytes()),
                // Runs.
                1 => {
                    let (byte, len) = (random.next() as u8, 1 + random.next() as usize % 700);
                    block.extend(std::iter::repeat_n(byte, len));
                }
                // Text of few words.
                2 => {
                    const WORDS: [&str; 8] =
                        ["the ", "page ", "of ", "a pool ", "is\n", "\0", "key: ", "compressed, "];
                    block.extend(WORDS[random.next() as usize % 8].as_bytes());
                }
                // Pointers into one heap.
                3 => block.extend((0x7f3a_5c00_0000 + (random.next() & 0xffff8)).to_le_bytes()),
                // A sparse page.
                _ => {
                    block.extend([0; 56]);
                    block.extend((random.next() & 0xff).to_le_bytes());
                }
            }
        }
        block.truncate(self.len);
        block
    }
}

/// Xorshift: enough for blocks, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }
}

/// A codec with what is needed to decompress.
pub(crate) struct Subject {
    compressor: Arc<dyn Compressor>,
    decompression: Option<Box<dyn DecompressionContext>>,
}

impl Subject {
    pub(crate) fn new(compressor: Arc<dyn Compressor>) -> Subject {
        let stateless = compressor.properties().stateless_decompression;
        let decompression = (!stateless).then(|| compressor.decompression_context().unwrap());
        Subject { compressor, decompression }
    }

    fn context(&self) -> Box<dyn CompressionContext> {
        self.compressor.compression_context(MAX_BLOCK).unwrap()
    }

    /// The compressed form, made by a context that has done nothing yet.
    fn compressed(&self, block: &[u8]) -> Vec<u8> {
        compress(&mut *self.context(), block, self.compressor.compress_bound(block.len())).unwrap()
    }

    /// Decompresses into a buffer of `len` bytes that holds `poison`, between two margins that must stay as they are.
    fn decompress(&mut self, compressed: &[u8], len: usize, poison: u8) -> Result<Vec<u8>, CodecError> {
        let mut buffer = vec![CANARY; len + 2 * MARGIN];
        let block = &mut buffer[MARGIN..MARGIN + len];
        block.fill(poison);
        let result = match &mut self.decompression {
            Some(context) => context.decompress(compressed, block),
            None => self.compressor.decompress(compressed, block),
        };
        let block = block.to_vec();
        buffer.drain(MARGIN..MARGIN + len);
        assert!(buffer.iter().all(|b| *b == CANARY), "wrote outside the block");
        result.map(|()| block)
    }

    pub(crate) fn check_round_trip(&mut self, block: &[u8]) {
        let compressed = self.compressed(block);
        assert!(!compressed.is_empty());
        assert_eq!(self.decompress(&compressed, block.len(), 0xA5).as_deref(), Ok(block));
    }

    /// K9: whatever was in the buffer before, the outcome is the same, or it is an error both times; and the only error is K10's.
    pub(crate) fn check_hostile(&mut self, compressed: &[u8], len: usize) {
        let first = self.decompress(compressed, len, 0xA5);
        let second = self.decompress(compressed, len, 0x5A);
        assert_eq!(first, second, "the outcome depends on what the buffer held");
        if let Err(error) = first {
            assert_eq!(error, CodecError::Corrupt);
        }
    }
}

/// Compresses to the front of a buffer of `out_len` bytes, and checks that nothing beyond it was written.
fn compress(context: &mut dyn CompressionContext, block: &[u8], out_len: usize) -> Option<Vec<u8>> {
    let mut buffer = vec![CANARY; out_len + MARGIN];
    let outcome = context.compress(block, &mut buffer[..out_len]).unwrap();
    assert!(buffer[out_len..].iter().all(|b| *b == CANARY), "wrote past a destination of {out_len} bytes");
    match outcome {
        Compressed::DoesNotFit => None,
        Compressed::Len(len) => {
            assert!((1..=out_len).contains(&len), "claims {len} bytes in {out_len}");
            buffer.truncate(len);
            Some(buffer)
        }
    }
}

pub(crate) fn every_destination_length(subject: &Subject) {
    let mut context = subject.context();
    for (kind, len) in [(0, 1), (0, 12), (0, 13), (0, 100), (0, 1100), (0, 4096), (2, 700), (5, 4096)] {
        let block = Recipe { kind, seed: 7, len }.block();
        let bound = subject.compressor.compress_bound(len);
        let full = compress(&mut *context, &block, bound).expect("fits the bound");
        // Every length where it matters; between, for speed, lengths that share no factor with anything.
        let near =
            |out_len: usize| out_len.abs_diff(full.len()) <= 40 || out_len + 80 >= bound || out_len < 80;
        for out_len in (0..=bound + 1).filter(|&l| len < 2000 || near(l) || l % 7 == 0) {
            match compress(&mut *context, &block, out_len) {
                Some(bytes) => assert!(bytes == full, "other bytes into a destination of {out_len}"),
                None => assert!(out_len < full.len(), "{} bytes should fit {out_len}", full.len()),
            }
        }
    }
}

/// Blocks to compress one after the other, each into the bound less so many bytes.
pub(crate) fn steps() -> impl Strategy<Value = Vec<(Recipe, usize)>> {
    vec((recipe(), prop_oneof![Just(0), 1..5000usize]), 1..8)
}

pub(crate) fn same_bytes_after_anything(subject: &Subject, steps: &[(Recipe, usize)]) {
    let mut context = subject.context();
    for (recipe, less) in steps {
        let block = recipe.block();
        let bound = subject.compressor.compress_bound(block.len());
        let fresh = subject.compressed(&block);
        match compress(&mut *context, &block, bound.saturating_sub(*less)) {
            Some(bytes) => assert!(bytes == fresh, "a used context compresses differently"),
            None => assert!(bound.saturating_sub(*less) < fresh.len()),
        }
    }
}

/// Bytes that nobody compressed, each with a block length. Half are small or large numbers mostly, which get further into a decoder.
pub(crate) fn attacks() -> impl Strategy<Value = Vec<(Vec<u8>, usize)>> {
    let small_bytes = vec(prop_oneof![0..4u8, 0xF0..=0xFFu8, any::<u8>()], 0..200);
    let bytes = prop_oneof![vec(any::<u8>(), 0..400), small_bytes];
    vec((bytes, prop_oneof![1..64usize, 1..5000usize]), 1..12)
}

pub(crate) fn hostile_bytes(subject: &mut Subject, attacks: &[(Vec<u8>, usize)]) {
    let block = Recipe { kind: 5, seed: 11, len: 3000 }.block();
    for (bytes, len) in attacks {
        subject.check_hostile(bytes, *len);
        // The context that was attacked still works.
        subject.check_round_trip(&block);
    }
}

/// What happens to compressed bytes on their way.
#[derive(Debug, Clone)]
pub(crate) enum Damage {
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
    /// Nothing, but the block is said to be longer or shorter.
    LieAboutLen {
        by: isize,
    },
}

pub(crate) fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let one = prop_oneof![
        4 => (any::<usize>(), 1..=255u8).prop_map(|(at, mask)| Damage::Flip { at, mask }),
        2 => any::<usize>().prop_map(|len| Damage::CutTo { len }),
        1 => vec(any::<u8>(), 1..40).prop_map(Damage::Append),
        1 => (any::<usize>(), any::<usize>(), 1..64usize).prop_map(|(from, to, len)| Damage::Copy { from, to, len }),
        1 => (-200..200isize).prop_map(|by| Damage::LieAboutLen { by }),
    ];
    vec(one, 1..4)
}

impl Damage {
    fn inflict(&self, bytes: &mut Vec<u8>, block_len: &mut usize) {
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

pub(crate) fn damaged_bytes(subject: &mut Subject, block: &[u8], damages: &[Damage]) {
    let original = subject.compressed(block);
    let (mut bytes, mut len) = (original.clone(), block.len());
    for damage in damages {
        damage.inflict(&mut bytes, &mut len);
        subject.check_hostile(&bytes, len);
    }
    assert_eq!(subject.decompress(&original, block.len(), 0).as_deref(), Ok(block));
}

pub(crate) fn through_a_codec(
    compressor: Arc<dyn Compressor>,
    steps: &[(Recipe, usize)],
    damages: &[Damage],
) {
    let codec = Codec::new(compressor.clone(), MAX_BLOCK);
    let subject = Subject::new(compressor);
    for (recipe, less) in steps {
        let block = recipe.block();
        let fresh = subject.compressed(&block);
        let max_len = block.len().saturating_sub(*less);
        let bytes = codec.compress(&block, max_len, |bytes| bytes.map(<[u8]>::to_vec)).unwrap();
        assert_eq!(bytes.is_some(), fresh.len() <= max_len);
        assert!(bytes.is_none_or(|bytes| bytes == fresh));

        let (mut bytes, mut len) = (fresh.clone(), block.len());
        damages.iter().for_each(|damage| damage.inflict(&mut bytes, &mut len));
        let mut back = vec![0xA5; len];
        assert!(matches!(codec.decompress(&bytes, &mut back), Ok(()) | Err(CodecError::Corrupt)));
        let mut back = vec![0xA5; block.len()];
        assert_eq!(codec.decompress(&fresh, &mut back), Ok(()));
        assert!(back == block);
    }
    let stats = codec.stats();
    let contexts = 1 + u64::from(!codec.compressor().properties().stateless_decompression);
    assert_eq!((stats.contexts_made, stats.contexts_failed), (contexts, 0));
    codec.retire_compression();
    assert!(codec.stats().context_bytes < stats.context_bytes);
}
