//! A cheap test for incompressible blocks: noise, and compressed or encrypted data. They skip the
//! codec.
//!
//! Such a block has about as many different bytes in a sample as chance would have. First, 64 bytes
//! are looked at, which suffices for nearly everything that does compress; only then 448 more,
//! spread over the block. The test cannot recognize a block whose every stretch looks random and
//! which repeats itself at a distance: it is kept raw, although a codec would shrink it.
//! `cargo run -p benches --bin store` measures how often that happens.

/// Bytes of a stretch, and the number of stretches.
const STRETCH: usize = 64;
const STRETCHES: usize = 8;

/// Shorter blocks are left to the codec.
const MIN_LEN: usize = 1024;

/// Different bytes among 64: random bytes have 56.7 on average, and less than this once in two
/// thousand times.
const FIRST: u32 = 48;

/// Upper bound of zeros among 64 bytes of which `FIRST` are different: one, and all bytes that
/// repeat another.
const MOST_ZEROS: usize = STRETCH - FIRST as usize + 1;

/// Different bytes among 512: random bytes have 221.5 on average, with a deviation of 4.6.
const ALL: u32 = 206;

/// Returns whether `block` looks like one that no codec shrinks.
#[inline]
pub(crate) fn looks_incompressible(block: &[u8]) -> bool {
    if block.len() < MIN_LEN {
        return false;
    }
    // The beginning first: it has just been looked at, so it costs no wait for memory.
    let beginning = &block[..STRETCH];
    // Most compressible blocks have more zeros than that, and counting zeros takes a few
    // instructions.
    let zeros: u8 = beginning.iter().map(|&byte| u8::from(byte == 0)).sum();
    usize::from(zeros) <= MOST_ZEROS && beginning_looks_incompressible(block)
}

#[inline(never)]
fn beginning_looks_incompressible(block: &[u8]) -> bool {
    let mut seen = ByteSet([0; 256]);
    seen.add(&block[..STRETCH]);
    seen.different() >= FIRST && rest_looks_incompressible(block, seen)
}

#[inline(never)]
fn rest_looks_incompressible(block: &[u8], mut seen: ByteSet) -> bool {
    let gap = block.len() / STRETCHES;
    for stretch in 1..STRETCHES {
        seen.add(&block[stretch * gap + gap / 2..][..STRETCH]);
    }
    seen.different() >= ALL
}

/// The set of bytes that were seen. It has a byte for each, because setting bits of a few words
/// would make each step wait for the one before.
struct ByteSet([u8; 256]);

impl ByteSet {
    #[inline]
    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0[usize::from(byte)] = 1;
        }
    }

    #[inline]
    fn different(&self) -> u32 {
        self.0.iter().map(|&seen| u32::from(seen)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 56) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn noise_is_found_and_what_compresses_is_not() {
        for len in [1024, 4096, 65_536, 262_144] {
            let found = (0..1000).filter(|&seed| looks_incompressible(&noise(seed, len))).count();
            assert!(found >= 985, "{found} of 1000 blocks of {len} bytes");
        }
        let text = "a block of text, which any codec shrinks; and so on. ".repeat(100);
        assert!(!looks_incompressible(text.as_bytes()));
        let counting: Vec<u8> = (0..1024u32).flat_map(|n| (n * 3).to_le_bytes()).collect();
        assert!(!looks_incompressible(&counting));
        // Half of it is noise: a codec removes the other half.
        let mut half = noise(1, 4096);
        half[2048..].fill(0);
        assert!(!looks_incompressible(&half));
    }

    #[test]
    fn short_blocks_are_not_looked_at() {
        assert!((0..MIN_LEN).all(|len| !looks_incompressible(&noise(7, len))));
    }
}
