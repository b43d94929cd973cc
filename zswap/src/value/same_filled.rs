//! Same-filled blocks: eight bytes, repeated to the block's end. They are kept as that word and
//! cost no pool memory.
//!
//! The kernel compares machine words over a page; here the last word may be cut off, so that a
//! block of any length can be one.

use zpool_core::internal::prefetch;

/// Bytes after which a same-filled block repeats itself.
const PERIOD: usize = size_of::<u64>();

/// Returns the word that `block` repeats, first byte lowest. Blocks of up to eight bytes always
/// repeat one.
#[inline]
pub(crate) fn detect(block: &[u8]) -> Option<u64> {
    let Some(first) = block.first_chunk::<PERIOD>() else { return Some(short(block)) };
    let word = u64::from_le_bytes(*first);
    // The first and the last word rule most other blocks out: a block that begins with zeros seldom
    // ends with them.
    let last = block.last_chunk::<PERIOD>().map(|last| u64::from_le_bytes(*last));
    let phase = (block.len() % PERIOD * 8) as u32;
    if last != Some(word.rotate_right(phase)) {
        return None;
    }
    // The comparison waits for one line after the other, so fetch all of them now. `--bin store`
    // shows the gain in `store_same_filled_over_typical`.
    prefetch(block, usize::MAX);
    (block[PERIOD..] == block[..block.len() - PERIOD]).then_some(word)
}

/// Returns a word that begins with `block`, which is shorter than one.
fn short(block: &[u8]) -> u64 {
    let mut bytes = [0; PERIOD];
    bytes[..block.len()].copy_from_slice(block);
    u64::from_le_bytes(bytes)
}

/// Writes the block that repeats `word` into `block`.
#[inline]
pub(crate) fn fill(block: &mut [u8], word: u64) {
    let bytes = word.to_le_bytes();
    let (words, rest) = block.as_chunks_mut::<PERIOD>();
    words.fill(bytes);
    rest.copy_from_slice(&bytes[..rest.len()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the definition, a byte at a time.
    fn repeats(block: &[u8]) -> bool {
        (PERIOD..block.len()).all(|i| block[i] == block[i - PERIOD])
    }

    #[test]
    fn every_length_comes_back_from_its_word() {
        let word = 0x1122_3344_5566_7788;
        for len in 1..=4200 {
            let mut block = vec![0xEE; len];
            fill(&mut block, word);
            assert!(repeats(&block), "length {len}");
            let found = detect(&block).unwrap_or_else(|| panic!("length {len} is same-filled"));
            let mut back = vec![0; len];
            fill(&mut back, found);
            assert_eq!(back, block, "length {len}");
        }
    }

    #[test]
    fn one_changed_byte_anywhere_is_found_at_every_length() {
        for len in (PERIOD + 1..=80).chain([4095, 4096, 4097]) {
            let mut block = vec![0; len];
            fill(&mut block, 0x0807_0605_0403_0201);
            for at in 0..len {
                block[at] ^= 0x80;
                assert_eq!(detect(&block).is_some(), repeats(&block), "length {len}, byte {at}");
                block[at] ^= 0x80;
            }
        }
    }

    #[test]
    fn equal_first_and_last_words_are_not_enough() {
        let mut block = [0u8; 4096];
        block[2000] = 1;
        assert_eq!(detect(&block), None);
    }

    #[test]
    fn up_to_eight_bytes_always_are() {
        for len in 1..=PERIOD {
            let block: Vec<u8> = (1..=len as u8).collect();
            let word = detect(&block).expect("short blocks repeat a word");
            let mut back = vec![0; len];
            fill(&mut back, word);
            assert_eq!(back, block);
        }
    }
}
