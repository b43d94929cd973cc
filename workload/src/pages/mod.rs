//! Blocks of one size in one allocation, which every measurement works on.

mod seeded_blocks;

use std::fmt;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;

pub use seeded_blocks::SeededBlocks;

/// Owned blocks of a fixed size.
///
/// ```text
///     bytes  │ block 0 │ block 1 │ … │ block len-1 │        len * block_size bytes, nothing behind
/// ```
///
/// All blocks lie in one flat vector. Iterating is then a walk through memory, and a block costs no
/// allocation. There may be no block at all.
///
/// The blocks may be another process' memory, so `Debug` shows counts and never bytes.
///
/// # Invariants
///
/// `bytes.len()` is a multiple of `block_size`.
#[derive(Clone, PartialEq, Eq)]
pub struct Pages {
    block_size: NonZeroUsize,
    bytes: Vec<u8>,
    dropped_bytes: u64,
    available_blocks: u64,
}

impl Pages {
    /// Cuts `bytes` into blocks. A trailing part shorter than a block is dropped and counted.
    pub fn from_bytes(block_size: NonZeroUsize, mut bytes: Vec<u8>) -> Self {
        let tail = bytes.len() % block_size;
        bytes.truncate(bytes.len() - tail);
        let blocks = (bytes.len() / block_size) as u64;
        Self { block_size, bytes, dropped_bytes: tail as u64, available_blocks: blocks }
    }

    /// Cuts `bytes`, which were sampled from a larger input. That input had `available_blocks`, and
    /// `dropped_bytes` of it were part of no block.
    pub(crate) fn from_sample(
        block_size: NonZeroUsize,
        bytes: Vec<u8>,
        available_blocks: u64,
        dropped_bytes: u64,
    ) -> Self {
        let mut pages = Self::from_bytes(block_size, bytes);
        pages.available_blocks = available_blocks.max(pages.available_blocks);
        pages.dropped_bytes += dropped_bytes;
        pages
    }

    /// Returns the length of a block in bytes.
    pub fn block_size(&self) -> usize {
        self.block_size.get()
    }

    /// Returns the number of blocks.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.block_size
    }

    /// Returns whether there is no block.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns block `i`.
    ///
    /// # Panics
    ///
    /// If `i >= len()`.
    pub fn block(&self, i: usize) -> &[u8] {
        let at = i * self.block_size.get();
        &self.bytes[at..at + self.block_size.get()]
    }

    /// Iterates over all blocks in order.
    pub fn iter(&self) -> std::slice::ChunksExact<'_, u8> {
        self.bytes.chunks_exact(self.block_size.get())
    }

    /// Returns all blocks as one slice.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns how many bytes of the input were part of no whole block.
    pub fn dropped_bytes(&self) -> u64 {
        self.dropped_bytes
    }

    /// Returns how many blocks the input had before a limit chose among them.
    pub fn available_blocks(&self) -> u64 {
        self.available_blocks
    }

    /// Drops the blocks that are same-filled (see [`is_same_filled`]) and keeps the order of the
    /// others. Needs no second buffer.
    #[must_use]
    pub fn without_same_filled(mut self) -> Self {
        let size = self.block_size.get();
        let mut kept = 0;
        for at in (0..self.bytes.len()).step_by(size) {
            if !is_same_filled(&self.bytes[at..at + size]) {
                self.bytes.copy_within(at..at + size, kept);
                kept += size;
            }
        }
        self.bytes.truncate(kept);
        self.bytes.shrink_to_fit();
        self
    }

    /// Repeats the blocks `n` times, for the density of a larger pool. With `n == 0`, no block is
    /// left.
    ///
    /// # Panics
    ///
    /// If the bytes do not fit the address space.
    #[must_use]
    pub fn repeat(&self, n: usize) -> Self {
        Self { bytes: self.bytes.repeat(n), ..*self }
    }

    /// Keeps the first `n` blocks.
    pub fn truncate(&mut self, n: usize) {
        self.bytes.truncate(n.saturating_mul(self.block_size.get()));
    }

    /// Writes the blocks for [`Self::read_from`] in another process of this program. They go
    /// through a pipe and never to a disk.
    ///
    /// # Errors
    ///
    /// Errors of `out`.
    pub fn write_to(&self, mut out: impl Write) -> io::Result<()> {
        out.write_all(&self.header())?;
        out.write_all(&self.bytes)?;
        out.flush()
    }

    /// Reads what [`Self::write_to`] wrote, into one allocation of exactly the right size. A vector
    /// that grew would leave freed memory in the heap, and a pool measured next would hide in it.
    ///
    /// # Errors
    ///
    /// Errors of `input`. `UnexpectedEof` if it ends early, and `InvalidData` if it does not start
    /// with our header.
    pub fn read_from(mut input: impl Read) -> io::Result<Self> {
        let mut header = [0_u8; HEADER_BYTES];
        input.read_exact(&mut header)?;
        let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|b| header[i * 8 + b]));
        let size = |i: usize| usize::try_from(word(i)).ok();
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "no blocks of this program");
        let block_size = size(1).and_then(NonZeroUsize::new).ok_or_else(invalid)?;
        let length = size(2).filter(|&n| n % block_size == 0).ok_or_else(invalid)?;
        if word(0) != MAGIC {
            return Err(invalid());
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
        // The vector has room for all of it, so reading to the end of `take` never grows it.
        if input.take(length as u64).read_to_end(&mut bytes)? < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Self { block_size, bytes, dropped_bytes: word(3), available_blocks: word(4) })
    }

    fn header(&self) -> [u8; HEADER_BYTES] {
        let words = [
            MAGIC,
            self.block_size.get() as u64,
            self.bytes.len() as u64,
            self.dropped_bytes,
            self.available_blocks,
        ];
        let mut header = [0; HEADER_BYTES];
        for (place, word) in header.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        header
    }
}

/// The header is five little-endian words: magic, block size, bytes, dropped bytes, available
/// blocks.
const HEADER_BYTES: usize = 5 * 8;

/// "PAGES01\n" read as a little-endian word.
const MAGIC: u64 = u64::from_le_bytes(*b"PAGES01\n");

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages")
            .field("block_size", &self.block_size)
            .field("blocks", &self.len())
            .field("available_blocks", &self.available_blocks)
            .field("dropped_bytes", &self.dropped_bytes)
            .finish_non_exhaustive()
    }
}

impl<'a> IntoIterator for &'a Pages {
    type Item = &'a [u8];
    type IntoIter = std::slice::ChunksExact<'a, u8>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Returns whether `block` repeats one word of 8 bytes. A last word that is shorter repeats the
/// start of it.
///
/// The kernel's zswap and zram use this rule and keep such a page as its word. A block of 8 bytes
/// or fewer is same-filled.
pub fn is_same_filled(block: &[u8]) -> bool {
    // A sequence has period 8 if it equals itself moved by 8.
    block.len() <= 8 || block[8..] == block[..block.len() - 8]
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: NonZeroUsize = NonZeroUsize::new(64).unwrap();

    fn block_of(tag: u8) -> Vec<u8> {
        (0..64).map(|i| if i % 5 == 0 { tag } else { i }).collect()
    }

    /// A trailing part of a block is dropped and counted.
    #[test]
    fn trailing_part_is_dropped() {
        let pages = Pages::from_bytes(BLOCK, vec![1; 64 * 3 + 5]);
        assert_eq!((pages.len(), pages.dropped_bytes(), pages.available_blocks()), (3, 5, 3));
        assert_eq!(pages.bytes().len(), 64 * 3);
        assert!(Pages::from_bytes(BLOCK, vec![1; 63]).is_empty());
    }

    /// Blocks are found by their index, and iteration keeps their order.
    #[test]
    fn blocks_are_found_by_index() {
        let pages = Pages::from_bytes(BLOCK, (1..=4).flat_map(block_of).collect());
        assert_eq!(pages.iter().len(), 4);
        for (i, block) in pages.iter().enumerate() {
            assert_eq!(block, pages.block(i));
            assert_eq!(block, block_of(i as u8 + 1));
        }
        assert_eq!((&pages).into_iter().count(), 4);
    }

    /// A same-filled block repeats one word, and a change of any byte ends that.
    #[test]
    fn same_filled_repeats_a_word() {
        assert!(is_same_filled(&[0; 4096]));
        assert!(is_same_filled(&[1, 2, 3, 4, 5, 6, 7, 8].repeat(8)));
        assert!(is_same_filled(&[1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3]));
        assert!(!is_same_filled(&[1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 4]));
        assert!(is_same_filled(&[9, 8, 7]));
        for at in 0..64 {
            let mut block = [7; 64];
            block[at] = 8;
            assert!(!is_same_filled(&block), "byte {at} differs");
        }
    }

    /// The blocks that are not same-filled keep their order.
    #[test]
    fn without_same_filled_keeps_order() {
        let bytes =
            [vec![0; 64], block_of(1), vec![3; 64], block_of(2), block_of(3), vec![0; 64]].concat();
        let pages = Pages::from_bytes(BLOCK, bytes).without_same_filled();
        assert_eq!(pages.iter().collect::<Vec<_>>(), [block_of(1), block_of(2), block_of(3)]);
        assert_eq!(pages.available_blocks(), 6);
    }

    /// Repeat and truncate count in blocks.
    #[test]
    fn repeat_and_truncate_whole_blocks() {
        let mut pages = Pages::from_bytes(BLOCK, [block_of(1), block_of(2)].concat()).repeat(3);
        assert_eq!(pages.len(), 6);
        assert_eq!(pages.block(5), block_of(2));
        pages.truncate(3);
        assert_eq!(pages.iter().collect::<Vec<_>>(), [block_of(1), block_of(2), block_of(1)]);
        pages.truncate(usize::MAX);
        assert_eq!(pages.len(), 3);
        assert!(pages.repeat(0).is_empty());
    }

    /// Blocks survive a pipe, and damage on the way is found.
    #[test]
    fn damaged_pipe_is_an_error() {
        let pages = Pages::from_bytes(BLOCK, [block_of(1), block_of(2), vec![1, 2]].concat());
        let mut wire = Vec::new();
        pages.write_to(&mut wire).unwrap();
        let back = Pages::read_from(wire.as_slice()).unwrap();
        assert_eq!(back, pages);

        let short = Pages::read_from(&wire[..wire.len() - 1]).unwrap_err();
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
        for byte in [0, 8, 16] {
            let mut bad = wire.clone();
            bad[byte] ^= 0xFF;
            assert!(Pages::read_from(bad.as_slice()).is_err(), "byte {byte}");
        }
        let mut vast = wire;
        vast[16..24].copy_from_slice(&(1_u64 << 62).to_le_bytes());
        assert_eq!(
            Pages::read_from(vast.as_slice()).unwrap_err().kind(),
            io::ErrorKind::OutOfMemory
        );
    }

    #[test]
    fn debug_shows_counts_and_no_bytes() {
        let text = format!("{:?}", Pages::from_bytes(BLOCK, b"secret!!".repeat(8)));
        assert_eq!(
            text,
            "Pages { block_size: 64, blocks: 1, available_blocks: 1, dropped_bytes: 0, .. }"
        );
    }
}
