//! The place of a record in the tier, packed into 12 bytes: all that an entry keeps of a backed
//! block.
//!
//! ```text
//!   | segment: 32 bits | offset: 16 | block's length: 18 | object's length: 18 | codec: 12 bits |
//! ```
//!
//! - The segment is named by its [id](crate::backing::segments), which changes with each reuse of
//!   its slot. So two records that were written at different times have different places.
//! - The offset counts [units](TierPlace::unit_of), at least 16 bytes each.
//! - Lengths are 1 to 262 144 and kept less one.
//! - The codec is a number in the tier's [table](crate::backing::codecs). 0 is a raw block.

use crate::value::MAX_BLOCK_SIZE;

const OFFSET_SHIFT: u32 = 32;
const LEN_SHIFT: u32 = OFFSET_SHIFT + OFFSET_BITS;
const OBJECT_SHIFT: u32 = LEN_SHIFT + LEN_BITS;
const CODEC_SHIFT: u32 = OBJECT_SHIFT + LEN_BITS;
const OFFSET_BITS: u32 = 16;
const LEN_BITS: u32 = 18;
const CODEC_BITS: u32 = 12;
const _: () = assert!(CODEC_SHIFT + CODEC_BITS == 96, "twelve bytes");
const _: () = assert!(MAX_BLOCK_SIZE == 1 << LEN_BITS, "every length fits");

/// The fewest bytes of a unit.
const MIN_UNIT: usize = 16;

/// The number of a codec in the tier's table; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CodecNumber(u16);

impl CodecNumber {
    /// A block that is kept as it is.
    pub(crate) const RAW: CodecNumber = CodecNumber(0);
    /// Codecs that a place can name.
    pub(crate) const MAX: usize = (1 << CODEC_BITS) - 1;

    /// Returns the number for a place in the table, from 0.
    pub(crate) fn of_slot(slot: usize) -> CodecNumber {
        debug_assert!(slot < CodecNumber::MAX);
        CodecNumber(slot as u16 + 1)
    }

    /// Returns the place in the table, or `None` for a raw block.
    #[inline]
    pub(crate) fn slot(self) -> Option<usize> {
        usize::from(self.0).checked_sub(1)
    }
}

/// Place of a record, and what it takes to decode it. Its segment may be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TierPlace([u8; 12]);

/// The parts of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlaceParts {
    /// The id of the segment.
    pub(crate) segment: u32,
    /// Units from the segment's beginning.
    pub(crate) offset: u16,
    /// Bytes of the block.
    pub(crate) block_len: usize,
    /// Bytes of its object.
    pub(crate) object_len: usize,
    pub(crate) codec: CodecNumber,
}

impl TierPlace {
    /// Returns the bytes of a unit in segments of `segment_bytes`.
    pub(crate) fn unit_of(segment_bytes: usize) -> usize {
        segment_bytes.div_ceil(1 << OFFSET_BITS).next_power_of_two().max(MIN_UNIT)
    }

    #[inline]
    pub(crate) fn pack(parts: PlaceParts) -> TierPlace {
        let PlaceParts { segment, offset, block_len, object_len, codec } = parts;
        debug_assert!((1..=MAX_BLOCK_SIZE).contains(&block_len), "{block_len} bytes");
        debug_assert!((1..=MAX_BLOCK_SIZE).contains(&object_len), "{object_len} bytes");
        let bits = u128::from(segment)
            | u128::from(offset) << OFFSET_SHIFT
            | ((block_len - 1) as u128) << LEN_SHIFT
            | ((object_len - 1) as u128) << OBJECT_SHIFT
            | u128::from(codec.0) << CODEC_SHIFT;
        let mut place = [0; 12];
        place.copy_from_slice(&bits.to_le_bytes()[..12]);
        TierPlace(place)
    }

    #[inline]
    fn bits(self) -> u128 {
        let mut bits = [0; 16];
        bits[..12].copy_from_slice(&self.0);
        u128::from_le_bytes(bits)
    }

    #[inline]
    pub(crate) fn unpack(self) -> PlaceParts {
        let bits = self.bits();
        let len = |shift: u32| (bits >> shift) as usize % (1 << LEN_BITS) + 1;
        PlaceParts {
            segment: bits as u32,
            offset: (bits >> OFFSET_SHIFT) as u16,
            block_len: len(LEN_SHIFT),
            object_len: len(OBJECT_SHIFT),
            codec: CodecNumber((bits >> CODEC_SHIFT) as u16),
        }
    }

    /// Returns the place of a copy of the record.
    pub(crate) fn moved_to(self, segment: u32, offset: u16) -> TierPlace {
        TierPlace::pack(PlaceParts { segment, offset, ..self.unpack() })
    }

    /// Returns the id of the segment.
    #[inline]
    pub(crate) fn segment(self) -> u32 {
        self.bits() as u32
    }

    /// Returns the bytes of the block.
    #[inline]
    pub(crate) fn block_len(self) -> usize {
        self.unpack().block_len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every part comes back, whatever the others are.
    #[test]
    fn packed_parts_come_back() {
        let lens = [1, 2, 4096, 65_536, 65_537, MAX_BLOCK_SIZE];
        for segment in [0, 1, 0x8000_0001, u32::MAX] {
            for offset in [0, 1, u16::MAX] {
                for block_len in lens {
                    for object_len in lens {
                        for codec in [0, 1, CodecNumber::MAX as u16] {
                            let codec = CodecNumber(codec);
                            let parts =
                                PlaceParts { segment, offset, block_len, object_len, codec };
                            let place = TierPlace::pack(parts);
                            assert_eq!(place.unpack(), parts);
                            assert_eq!((place.segment(), place.block_len()), (segment, block_len));
                        }
                    }
                }
            }
        }
    }

    /// Sixteen bits of offset reach the whole segment.
    #[test]
    fn units_cover_every_segment() {
        for bytes in [1, 4096, 1 << 20, (1 << 20) + 1, 8 << 20, 1 << 30] {
            let unit = TierPlace::unit_of(bytes);
            assert!(unit.is_power_of_two() && unit >= MIN_UNIT);
            assert!(bytes.div_ceil(unit) <= 1 << OFFSET_BITS, "{bytes} bytes in units of {unit}");
        }
        assert_eq!((TierPlace::unit_of(1 << 20), TierPlace::unit_of(8 << 20)), (16, 128));
    }
}
