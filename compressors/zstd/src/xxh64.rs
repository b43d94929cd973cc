//! XXH64 with seed 0: the hash that names a dictionary.
//!
//! Written from the algorithm's published specification. zstd uses the same function for its
//! checksums, which the tests compare with.

const P1: u64 = 0x9E37_79B1_85EB_CA87;
const P2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const P3: u64 = 0x1656_67B1_9E37_79F9;
const P4: u64 = 0x85EB_CA77_C2B2_AE63;
const P5: u64 = 0x27D4_EB2F_1656_67C5;

/// Returns the 64-bit hash of `bytes`.
pub(crate) fn xxh64(bytes: &[u8]) -> u64 {
    let (stripes, mut rest) = bytes.as_chunks::<32>();
    let mut hash = if stripes.is_empty() { P5 } else { hash_stripes(stripes) };
    hash = hash.wrapping_add(bytes.len() as u64);
    while let Some((eight, after)) = rest.split_first_chunk::<8>() {
        hash = (hash ^ round(0, u64::from_le_bytes(*eight)))
            .rotate_left(27)
            .wrapping_mul(P1)
            .wrapping_add(P4);
        rest = after;
    }
    if let Some((four, after)) = rest.split_first_chunk::<4>() {
        let lane = u64::from(u32::from_le_bytes(*four)).wrapping_mul(P1);
        hash = (hash ^ lane).rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
        rest = after;
    }
    for &byte in rest {
        hash = (hash ^ u64::from(byte).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(P2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(P3);
    hash ^ (hash >> 32)
}

/// Hashes the stripes in four lanes and folds them into one value.
fn hash_stripes(stripes: &[[u8; 32]]) -> u64 {
    let mut lanes = [P1.wrapping_add(P2), P2, 0, 0u64.wrapping_sub(P1)];
    for stripe in stripes {
        for (lane, eight) in lanes.iter_mut().zip(stripe.as_chunks::<8>().0) {
            *lane = round(*lane, u64::from_le_bytes(*eight));
        }
    }
    let turned = lanes.iter().zip([1, 7, 12, 18]).map(|(lane, by)| lane.rotate_left(by));
    let hash = turned.fold(0, u64::wrapping_add);
    lanes.iter().fold(hash, |hash, lane| (hash ^ round(0, *lane)).wrapping_mul(P1).wrapping_add(P4))
}

fn round(lane: u64, input: u64) -> u64 {
    lane.wrapping_add(input.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zstd::zstd_safe::{CCtx, CParameter, compress_bound};

    /// The hash equals published test values.
    #[test]
    fn hash_equals_published_values() {
        assert_eq!(xxh64(b""), 0xEF46_DB37_51D8_E999);
        assert_eq!(xxh64(b"a"), 0xD24E_C4F1_A98C_6E5B);
    }

    proptest! {
        /// A zstd frame ends with the low half of the content's XXH64.
        #[test]
        fn agrees_with_zstd(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut context = CCtx::create();
            context.set_parameter(CParameter::ChecksumFlag(true)).unwrap();
            let mut frame = vec![0; compress_bound(bytes.len())];
            let len = context.compress2(&mut frame[..], &bytes).unwrap();
            prop_assert_eq!(&frame[len - 4..len], &(xxh64(&bytes) as u32).to_le_bytes());
        }
    }
}
