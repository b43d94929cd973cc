//! Packed metadata of a block in a pool: both lengths, and whether the object is the block itself.
//! It takes five bytes, one of which has unused values: the niche of the enum around it.
//!
//! ```text
//!   | length: 16 bits | object's length: 16 bits | raw: 1, length: 2, object's length: 2 bits |
//! ```
//!
//! Lengths are 1 to 262 144. They are stored minus one; the last byte has their high bits.
//! [`PackedLen`] is for blocks that are in no pool: these may be empty.

use crate::value::MAX_BLOCK_SIZE;
use crate::value::meta::ObjectMeta;

/// Bits of a length, less one.
const LEN_BITS: u32 = 18;
const _: () = assert!(MAX_BLOCK_SIZE == 1 << LEN_BITS, "every length fits");

const LOW_BITS: u32 = 16;
const HIGH_BITS: u32 = LEN_BITS - LOW_BITS;

/// Lengths of a block and its object.
// The byte with values to spare is the last one: an enum has room for something else in front of
// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct PackedMeta {
    len: [u8; 2],
    object_len: [u8; 2],
    rest: U5,
}

impl PackedMeta {
    /// Packs all but the checksum. Both lengths are 1 to [`MAX_BLOCK_SIZE`].
    #[inline]
    pub(crate) fn pack(meta: ObjectMeta) -> PackedMeta {
        let (len, len_high) = split(meta.block_len);
        let (object_len, object_high) = split(meta.object_len);
        let rest = u32::from(meta.raw) | len_high << 1 | object_high << (1 + HIGH_BITS);
        PackedMeta { len, object_len, rest: U5::new(rest) }
    }

    /// Unpacks, and adds the checksum, which the table keeps elsewhere.
    #[inline]
    pub(crate) fn unpack(self, checksum: u32) -> ObjectMeta {
        let rest = self.rest.get();
        ObjectMeta {
            block_len: join(self.len, rest >> 1),
            object_len: join(self.object_len, rest >> (1 + HIGH_BITS)),
            raw: rest & 1 == 1,
            checksum,
        }
    }
}

/// Returns the low bits of a length less one, and the high ones.
#[inline]
fn split(len: usize) -> ([u8; 2], u32) {
    debug_assert!((1..=MAX_BLOCK_SIZE).contains(&len), "{len} bytes");
    let less = len.wrapping_sub(1) as u32;
    ((less as u16).to_le_bytes(), less >> LOW_BITS & ((1 << HIGH_BITS) - 1))
}

/// Returns the length of such parts. Of `high` only the lowest bits count.
#[inline]
fn join(low: [u8; 2], high: u32) -> usize {
    (usize::from(u16::from_le_bytes(low)) | (high as usize & ((1 << HIGH_BITS) - 1)) << LOW_BITS)
        + 1
}

/// A length on its own, 0 to [`MAX_BLOCK_SIZE`]: of a block that is in no pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackedLen([u8; 3]);
const _: () = assert!(MAX_BLOCK_SIZE < 1 << 24, "every length fits three bytes");

impl PackedLen {
    #[inline]
    pub(crate) fn new(bytes: usize) -> PackedLen {
        debug_assert!(bytes <= MAX_BLOCK_SIZE, "{bytes} bytes");
        let [a, b, c, _] = (bytes as u32).to_le_bytes();
        PackedLen([a, b, c])
    }

    #[inline]
    pub(crate) fn get(self) -> usize {
        let [a, b, c] = self.0;
        u32::from_le_bytes([a, b, c, 0]) as usize
    }
}

/// Five bits in a byte. The byte's other values are the niche of an enum that contains it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[rustfmt::skip]
enum U5 {
    B0, B1, B2, B3, B4, B5, B6, B7, B8, B9, B10, B11, B12, B13, B14, B15,
    B16, B17, B18, B19, B20, B21, B22, B23, B24, B25, B26, B27, B28, B29, B30, B31,
}

#[rustfmt::skip]
const ALL: [U5; 32] = {
    use U5::*;
    [B0, B1, B2, B3, B4, B5, B6, B7, B8, B9, B10, B11, B12, B13, B14, B15,
     B16, B17, B18, B19, B20, B21, B22, B23, B24, B25, B26, B27, B28, B29, B30, B31]
};

impl U5 {
    /// Returns the lowest five bits.
    #[inline]
    fn new(bits: u32) -> U5 {
        ALL[bits as usize % ALL.len()]
    }

    #[inline]
    fn get(self) -> u32 {
        self as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_zero_to_largest_comes_back() {
        assert_eq!((PackedLen::new(0).get(), size_of::<PackedLen>()), (0, 3));
        let lens = [1, 2, 255, 256, 4096, 65_535, 65_536, 65_537, 131_072, 200_000, MAX_BLOCK_SIZE];
        for block_len in lens {
            assert_eq!(PackedLen::new(block_len).get(), block_len);
            for object_len in lens {
                for raw in [false, true] {
                    let meta = ObjectMeta { block_len, object_len, raw, checksum: 7 };
                    assert_eq!(PackedMeta::pack(meta).unpack(7), meta);
                }
            }
        }
    }

    #[test]
    fn every_five_bits_are_themselves() {
        assert!((0..32).all(|bits| U5::new(bits).get() == bits));
    }
}
