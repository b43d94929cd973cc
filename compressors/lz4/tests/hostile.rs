//! The decoder against that of `lz4_flex`, on input that no compressor made: both accept the same
//! input with the same result, and both refuse the same input.

use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use zpool_conformance::compressor::seeded_block;
use zpool_core::compress::{CodecError, Compressor};
use zpool_lz4::Lz4Compressor;

/// Decodes with both, into a block of `len` bytes.
fn compare(input: &[u8], len: usize) {
    let (mut ours, mut expected) = (vec![0x5A; len], vec![0xA5; len]);
    let outcome = Lz4Compressor::new().decompress(input, &mut ours);
    match decompress_into(input, &mut expected) {
        Ok(read) if read == len => {
            assert_eq!(outcome, Ok(()), "lz4_flex reads it");
            assert!(ours == expected, "other bytes");
        }
        _ => assert_eq!(outcome, Err(CodecError::Corrupt), "lz4_flex refuses it"),
    }
}

/// Encodes a sequence, with its lengths in their shortest form.
fn sequence(literals: &[u8], offset: u16, length: usize) -> Vec<u8> {
    let more = |value: usize| {
        let rest = value.checked_sub(15)?;
        Some([vec![255; rest / 255], vec![(rest % 255) as u8]].concat())
    };
    let token = (literals.len().min(15) << 4 | length.min(15)) as u8;
    let (a, b) = (more(literals.len()), more(length));
    [&[token], &*a.unwrap_or_default(), literals, &offset.to_le_bytes(), &*b.unwrap_or_default()]
        .concat()
}

proptest! {
    #[test]
    fn damaged_blocks_same_outcome(
        seeded in seeded_block(),
        damage in vec((any::<Index>(), any::<u8>()), 0..4),
        cut in any::<Index>(),
        by in -40..40isize,
    ) {
        let block = seeded.block();
        let mut input = vec![0; get_maximum_output_size(block.len())];
        let len = compress_into(&block, &mut input).unwrap();
        input.truncate(len);
        compare(&input, block.len());
        compare(&input, block.len().saturating_add_signed(by));
        compare(&input[..cut.index(input.len())], block.len());
        for (at, byte) in damage {
            let at = at.index(input.len());
            input[at] = byte;
            compare(&input, block.len());
        }
    }

    /// Sequences of every kind at every distance from the ends: offsets that are short, as long as
    /// the block, and a little longer; and lengths around those that continue.
    #[test]
    fn random_sequences_same_outcome(
        sequences in vec(
            (
                prop_oneof![4 => 0..20usize, 1 => 250..300usize],
                prop_oneof![2 => 0..40u16, 1 => any::<u16>()],
                prop_oneof![4 => 0..40usize, 1 => 250..300usize],
                any::<bool>(),
            ),
            0..12,
        ),
        last in vec(any::<u8>(), 0..60),
        by in prop_oneof![8 => Just(0), 1 => -40..40isize],
    ) {
        let (mut input, mut len) = (Vec::new(), 0);
        for (literals, offset, length, within) in sequences {
            let bytes: Vec<u8> = (0..literals).map(|i| (i * 7 + len) as u8).collect();
            len += literals;
            // Most offsets are valid, because the comparison ends at offset 0 and at one that
            // reaches too far.
            let within = within && len > 0;
            let offset = if within { usize::from(offset) % len + 1 } else { offset.into() };
            input.extend(sequence(&bytes, offset as u16, length));
            len += length + 4;
        }
        let end = sequence(&last, 0, 0);
        input.extend(&end[..end.len() - 2]);
        compare(&input, (len + last.len()).saturating_add_signed(by));
    }

    /// Random bytes, many of them small, have the same outcome in both decoders.
    #[test]
    fn random_bytes_same_outcome(
        input in vec(prop_oneof![0..32u8, any::<u8>()], 0..100),
        len in 0..600usize,
    ) {
        compare(&input, len);
    }
}
