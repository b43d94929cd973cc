//! The codec against a slow decoder that was written from FORMAT.md: both accept the same input
//! with the same result, and both refuse the same input.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use slow::SlowModel;
use zpool_conformance::Generator;
use zpool_conformance::compressor::seeded_block;
use zpool_core::compress::{CodecError, Compressed, Compressor};
use zpool_pagelz::PagelzCompressor;

mod slow;

const GENERIC: &[u8] = include_bytes!("../src/generic.model");

fn decompress(codec: &PagelzCompressor, input: &[u8], block: &mut [u8]) -> Result<(), CodecError> {
    match codec.level() {
        1 => codec.decompress(input, block),
        _ => codec.decompression_context().unwrap().decompress(input, block),
    }
}

fn compress(codec: &PagelzCompressor, block: &[u8]) -> Vec<u8> {
    let mut out = vec![0; codec.compress_bound(block.len())];
    let mut context = codec.compression_context(block.len()).unwrap();
    let Ok(Compressed::Len(len)) = context.compress(block, &mut out) else { panic!("K5") };
    out.truncate(len);
    out
}

/// Decodes with both, into a block of `len` bytes.
fn compare(codec: &PagelzCompressor, slow: &SlowModel, input: &[u8], len: usize) {
    let mut fast = vec![0x5A; len];
    let outcome = decompress(codec, input, &mut fast);
    // At level 1 no stream is coded, so a block with a coded stream comes from another codec.
    let expected = match input.first() {
        Some(flags) if codec.level() == 1 && *flags != 0 => None,
        _ => slow.decode(input, len),
    };
    match expected {
        Some(block) => {
            assert_eq!(outcome, Ok(()), "the slow decoder reads it");
            assert!(fast == block, "other bytes");
        }
        None => assert_eq!(outcome, Err(CodecError::Corrupt), "the slow decoder refuses it"),
    }
}

fn codecs() -> [PagelzCompressor; 3] {
    [1, 2, 3].map(|level| PagelzCompressor::new(level).unwrap())
}

/// Pages of every kind that the generator makes, and blocks of other lengths.
#[test]
fn slow_decoder_reads_generated_blocks() {
    let slow = SlowModel::new(GENERIC);
    for codec in codecs() {
        for len in [64, 1000, 4096, 16_384, 70_000] {
            for block in Generator::new(len as u64).blocks(len).take(12) {
                let input = compress(&codec, &block);
                assert!(slow.decode(&input, len) == Some(block), "{len} at {}", codec.level());
            }
        }
    }
}

/// The first token whose lengths are both extensions. It repeats the last offset; the third after
/// it has a new one of two bytes.
const BOTH: u8 = 32;
const FAR: u8 = 3;

/// Returns a plain block of sequences of literals, match and offset, and its length. Lengths count
/// from the shortest possible one, offsets are taken modulo what the place allows, and 0 repeats
/// the last.
fn long_sequences(sequences: &[(usize, usize, usize)], tail: usize) -> (Vec<u8>, usize) {
    let [mut tokens, mut offsets, mut extensions] = [const { Vec::new() }; 3];
    let (mut literals, mut len) = (0, 0);
    for &(count, length, offset) in sequences {
        // The first sequence has the literals that the first offset needs.
        let count = if len == 0 { count + 8 } else { count };
        let furthest = len + count - 8;
        let repeats = offset == 0;
        tokens.push(if repeats { BOTH } else { BOTH + FAR });
        if !repeats {
            let value = (offset - 1).min(furthest) as u16;
            offsets.extend(value.to_le_bytes());
        }
        for number in [count, length] {
            push_number(&mut extensions, number);
        }
        literals += count;
        len += count + length + 4;
    }
    let mut input = vec![0];
    for stream in [&tokens, &offsets, &extensions] {
        push_number(&mut input, stream.len());
    }
    input.extend((0..literals + tail).map(|i| (i * 37) as u8));
    for stream in [offsets, extensions, tokens] {
        input.extend(stream);
    }
    (input, len + tail)
}

/// Appends a number below 16 320 (FORMAT.md, section 1).
fn push_number(bytes: &mut Vec<u8>, number: usize) {
    if let Some(rest) = number.checked_sub(192) {
        bytes.extend([192 + (rest >> 8) as u8, rest as u8]);
    } else {
        bytes.push(number as u8);
    }
}

proptest! {
    #[test]
    fn damaged_blocks_same_outcome(
        seeded in seeded_block(),
        level in 1..=3u8,
        damage in vec((any::<Index>(), any::<u8>()), 0..4),
        cut in any::<Index>(),
        by in -40..40isize,
    ) {
        let slow = SlowModel::new(GENERIC);
        let codec = PagelzCompressor::new(level).unwrap();
        let block = seeded.block();
        let mut input = compress(&codec, &block);
        compare(&codec, &slow, &input, block.len());
        compare(&codec, &slow, &input, block.len().saturating_add_signed(by));
        compare(&codec, &slow, &input[..cut.index(input.len())], block.len());
        for (at, byte) in damage {
            let at = at.index(input.len());
            input[at] = byte;
            compare(&codec, &slow, &input, block.len());
        }
    }

    /// Streams that no compressor wrote: tokens of every kind, at every distance from the ends.
    #[test]
    fn random_streams_same_outcome(
        tokens in vec(any::<u8>(), 0..12),
        offsets in vec(prop_oneof![0..16u8, any::<u8>()], 0..16),
        extensions in vec(any::<u8>(), 0..8),
        literals in vec(any::<u8>(), 0..200),
        len in 0..1200usize,
    ) {
        let slow = SlowModel::new(GENERIC);
        let counts = [tokens.len() as u8, offsets.len() as u8, extensions.len() as u8];
        let input = [&[0][..], &counts, &literals, &offsets, &extensions, &tokens].concat();
        for codec in codecs() {
            compare(&codec, &slow, &input, len);
        }
    }

    /// Sequences whose two lengths are extensions, of one byte or of two: whole, and then with one
    /// byte changed, so that literals or extensions are missing or left over.
    #[test]
    fn long_sequences_same_outcome(
        sequences in vec((0..230usize, 0..230usize, 0..400usize), 1..30),
        tail in 0..60usize,
        change in (any::<Index>(), any::<u8>()),
    ) {
        let slow = SlowModel::new(GENERIC);
        let (mut input, len) = long_sequences(&sequences, tail);
        for codec in codecs() {
            let mut block = vec![0; len];
            prop_assert_eq!(decompress(&codec, &input, &mut block), Ok(()));
            compare(&codec, &slow, &input, len);
        }
        let at = change.0.index(input.len());
        input[at] = change.1;
        for codec in codecs() {
            compare(&codec, &slow, &input, len);
        }
    }

    /// Random bytes, many of them small, have the same outcome in both decoders.
    #[test]
    fn random_bytes_same_outcome(
        flags in prop_oneof![0..16u8, any::<u8>()],
        rest in vec(prop_oneof![0..8u8, any::<u8>()], 0..100),
        len in 0..600usize,
    ) {
        let slow = SlowModel::new(GENERIC);
        let input = [&[flags][..], &rest].concat();
        for codec in codecs() {
            compare(&codec, &slow, &input, len);
        }
    }
}
