//! A checksum of 32 bits over an object's bytes. It finds accidental changes, not deliberate ones.
//!
//! There are four lanes of eight bytes each. Every step of a lane is invertible, so changed bytes
//! in one word of a lane always change that lane. The lanes are folded at the end.

const MULTIPLIERS: [u64; 4] =
    [0x9E37_79B1_85EB_CA87, 0xC2B2_AE3D_27D4_EB4F, 0x1656_67B1_9E37_79F9, 0x85EB_CA77_C2B2_AE63];

/// Returns the checksum of `bytes`, and of the length of the block that they stand for.
pub(crate) fn checksum(bytes: &[u8], len: usize) -> u32 {
    let mut lanes = MULTIPLIERS;
    lanes[0] ^= bytes.len() as u64;
    lanes[1] ^= len as u64;
    let (words, rest) = bytes.as_chunks::<8>();
    let (fours, few) = words.as_chunks::<4>();
    for four in fours {
        for (lane, word) in lanes.iter_mut().zip(four) {
            *lane = step(*lane, u64::from_le_bytes(*word));
        }
    }
    for (lane, word) in lanes.iter_mut().zip(few) {
        *lane = step(*lane, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let mut sum = step(lanes[3], u64::from_le_bytes(last));
    for lane in &lanes[..3] {
        sum = step(sum, *lane);
    }
    (sum ^ sum >> 32) as u32
}

#[inline]
fn step(lane: u64, word: u64) -> u64 {
    let mixed = (lane ^ word).wrapping_mul(MULTIPLIERS[0]);
    mixed ^ mixed >> 29
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_length_shows() {
        let bytes: Vec<u8> = (0..1500u32).map(|i| ((i * i) >> 3) as u8).collect();
        for len in [1, 7, 8, 31, 32, 33, 64, 1500] {
            let mut changed = bytes[..len].to_vec();
            let sum = checksum(&changed, 4096);
            for bit in 0..len * 8 {
                changed[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(checksum(&changed, 4096), sum, "bit {bit} of {len} bytes");
                changed[bit / 8] ^= 1 << (bit % 8);
            }
            assert_ne!(checksum(&changed, 4095), sum);
            assert_ne!(checksum(&changed[..len - 1], 4096), sum);
        }
    }

    /// The top bit of a word reaches no other bit by multiplication alone.
    #[test]
    fn two_top_bits_in_one_lane_show() {
        let mut bytes = [7; 128];
        let sum = checksum(&bytes, 128);
        bytes[7] ^= 0x80;
        bytes[39] ^= 0x80;
        assert_ne!(checksum(&bytes, 128), sum);
    }

    #[test]
    fn words_that_change_places_show() {
        let mut bytes: Vec<u8> = (0..64).collect();
        let sum = checksum(&bytes, 64);
        bytes.rotate_left(8);
        assert_ne!(checksum(&bytes, 64), sum);
        bytes.rotate_left(24);
        assert_ne!(checksum(&bytes, 64), sum);
    }
}
