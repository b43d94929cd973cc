//! The constants and number encodings of FORMAT.md.

use zpool_core::compress::CodecError;

/// Blocks of up to this length are searched and coded as a page is.
pub(crate) const PAGE: usize = 4096;

/// A match is at least this long.
pub(crate) const MIN_MATCH: usize = 4;

/// A token whose match length stands in one extension byte has fewer literals than this.
pub(crate) const FEW_LITERALS: usize = 8;

/// The source of a token's offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum OffsetKind {
    /// The offset of the token before.
    Repeat = 0,
    /// One byte, which counts words of 8 bytes: 8, 16, ... 2048.
    Words = 1,
    /// One byte: 8 to 263.
    Near = 2,
    /// Two bytes, or three in a block of over 64 KiB: from 8 on.
    Far = 3,
}

impl OffsetKind {
    pub(crate) const ALL: [OffsetKind; 4] =
        [OffsetKind::Repeat, OffsetKind::Words, OffsetKind::Near, OffsetKind::Far];

    /// Returns the kind of an offset, and the number that is written for it.
    #[inline(always)]
    pub(crate) fn of(offset: usize, last: usize) -> (OffsetKind, u32) {
        if offset == last {
            (OffsetKind::Repeat, 0)
        } else if offset.is_multiple_of(WORD) && offset <= 256 * WORD {
            (OffsetKind::Words, (offset / WORD - 1) as u32)
        } else if offset <= 255 + MIN_OFFSET {
            (OffsetKind::Near, (offset - MIN_OFFSET) as u32)
        } else {
            (OffsetKind::Far, (offset - MIN_OFFSET) as u32)
        }
    }

    /// Returns the bytes that an offset of this kind takes in a block of this length.
    #[inline(always)]
    pub(crate) fn bytes(self, block_len: usize) -> usize {
        match self {
            OffsetKind::Repeat => 0,
            OffsetKind::Words | OffsetKind::Near => 1,
            OffsetKind::Far => far_bytes(block_len),
        }
    }
}

/// Returns the bytes of an offset of kind [`OffsetKind::Far`].
#[inline(always)]
pub(crate) fn far_bytes(block_len: usize) -> usize {
    if block_len <= 1 << 16 { 2 } else { 3 }
}

/// The largest offset.
pub(crate) const MAX_OFFSET: usize = (1 << 24) - 1 + MIN_OFFSET;

/// The smallest offset. With this minimum, any match can be copied by words of 8 bytes.
pub(crate) const MIN_OFFSET: usize = 8;

/// The unit of [`OffsetKind::Words`].
pub(crate) const WORD: usize = 8;

/// The offset that a block's first token repeats.
pub(crate) const FIRST_OFFSET: usize = WORD;

/// Tokens below [`FIRST_ENTRY`] take lengths from the extensions: `FEW_LITERALS * kind + literals`
/// the length of the match, and `BOTH + kind` both.
pub(crate) const BOTH: usize = OffsetKind::ALL.len() * FEW_LITERALS;
pub(crate) const FIRST_ENTRY: usize = BOTH + OffsetKind::ALL.len();

/// Entries of the codebook.
pub(crate) const MAX_ENTRIES: usize = 256 - FIRST_ENTRY;

/// Exclusive bounds of an entry of the codebook: its literals and its match are fewer than these.
pub(crate) const ENTRY_LITERALS: usize = 16;
pub(crate) const ENTRY_MATCH: usize = MIN_MATCH + 128;

/// The streams, by their index in lists of four.
pub(crate) const LITERALS: usize = 0;
pub(crate) const TOKENS: usize = 1;
pub(crate) const OFFSETS: usize = 2;
pub(crate) const EXTENSIONS: usize = 3;
/// The order of the plain streams. All but the tokens, which come last, may be read a little beyond
/// their end.
pub(crate) const PLAIN_ORDER: [usize; 4] = [LITERALS, OFFSETS, EXTENSIONS, TOKENS];

/// The number of tables of each stream. The second half of those for literals is for xored ones.
pub(crate) const TABLES_PER_STREAM: [usize; 4] = [16, 4, 4, 4];
/// The index of each stream's first table in the list of all tables.
pub(crate) const FIRST_TABLE: [usize; 4] = [0, 16, 20, 24];
pub(crate) const ALL_TABLES: usize = 28;
/// The first table for xored literals.
pub(crate) const FIRST_XORED: usize = 8;
/// The bit at which each stream's table begins in the two bytes that name them.
pub(crate) const TABLE_SHIFT: [u32; 4] = [0, 4, 6, 8];

/// The number of bit streams to which coded symbols go in turn.
pub(crate) const LANES: usize = 4;

/// Returns the greatest length that a stream has in a block of this length.
pub(crate) fn max_stream_len(stream: usize, block_len: usize) -> usize {
    match stream {
        LITERALS => block_len,
        OFFSETS => block_len / MIN_MATCH * far_bytes(block_len),
        _ => block_len / MIN_MATCH,
    }
}

/// Bytes that a block of literals alone takes beyond the literals.
pub(crate) const LITERAL_OVERHEAD: usize = 4;

/// Numbers below this take one byte, those below [`LONG`] two, the others five.
pub(crate) const SHORT_NUMBER: usize = 192;
const LONG: usize = SHORT_NUMBER + ((255 - SHORT_NUMBER) << 8);

/// Returns the bytes of a number, and how many of them count.
#[inline]
pub(crate) fn encode_number(value: usize) -> ([u8; 5], usize) {
    if value < SHORT_NUMBER {
        ([value as u8, 0, 0, 0, 0], 1)
    } else if value < LONG {
        let rest = value - SHORT_NUMBER;
        ([(SHORT_NUMBER + (rest >> 8)) as u8, rest as u8, 0, 0, 0], 2)
    } else {
        let [a, b, c, d] = (value as u32).to_le_bytes();
        ([255, a, b, c, d], 5)
    }
}

/// Reads the number at `*at` and advances `*at` past it.
#[inline]
pub(crate) fn read_number(bytes: &[u8], at: &mut usize) -> Result<usize, CodecError> {
    let rest = bytes.get(*at..).ok_or(CodecError::Corrupt)?;
    let (value, len) = match *rest {
        [first, ..] if usize::from(first) < SHORT_NUMBER => (usize::from(first), 1),
        [255, a, b, c, d, ..] => (u32::from_le_bytes([a, b, c, d]) as usize, 5),
        [first, second, ..] if first < 255 => {
            (SHORT_NUMBER + ((usize::from(first) - SHORT_NUMBER) << 8) + usize::from(second), 2)
        }
        _ => return Err(CodecError::Corrupt),
    };
    *at += len;
    Ok(value)
}

/// Maps a signed number to an unsigned one, in the order 0, -1, 1, -2, ...
pub(crate) fn fold(value: isize) -> usize {
    ((value << 1) ^ (value >> (isize::BITS - 1))).cast_unsigned()
}

/// Returns the inverse of [`fold`].
pub(crate) fn unfold(value: usize) -> isize {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_every_size_comes_back() {
        const FIRST: usize = SHORT_NUMBER;
        let edges = [0, 1, FIRST - 1, FIRST, FIRST + 255, FIRST + 256, LONG - 1, LONG, 1 << 20];
        for value in edges.into_iter().chain([u32::MAX as usize]) {
            let (bytes, len) = encode_number(value);
            let mut at = 0;
            assert_eq!(read_number(&bytes[..len], &mut at), Ok(value));
            assert_eq!(at, len);
            for cut in 0..len {
                assert_eq!(read_number(&bytes[..cut], &mut 0), Err(CodecError::Corrupt));
            }
        }
        assert_eq!(read_number(&[1], &mut 2), Err(CodecError::Corrupt));
    }

    #[test]
    fn fold_small_values_stay_small() {
        for (value, folded) in [(0, 0), (-1, 1), (1, 2), (-2, 3), (100, 200)] {
            assert_eq!(fold(value), folded);
            assert_eq!(unfold(folded), value);
        }
    }

    #[test]
    fn kind_of_offset_is_shortest() {
        assert_eq!(OffsetKind::of(24, 24), (OffsetKind::Repeat, 0));
        assert_eq!(OffsetKind::of(8, 24), (OffsetKind::Words, 0));
        assert_eq!(OffsetKind::of(2048, 24), (OffsetKind::Words, 255));
        assert_eq!(OffsetKind::of(2056, 24), (OffsetKind::Far, 2048));
        assert_eq!(OffsetKind::of(9, 24), (OffsetKind::Near, 1));
        assert_eq!(OffsetKind::of(263, 24), (OffsetKind::Near, 255));
        assert_eq!(OffsetKind::of(265, 24), (OffsetKind::Far, 257));
    }
}
