//! Blocks that look like a process's memory. A seed makes the same blocks on every machine.
//!
//! ```text
//!   seed ──► Kind, by the weights of MIX ──► structures: records, maps, trees, text
//!        ──► copied out, field by field, to an imaginary heap ──► cut to the block
//! ```
//!
//! Pages are compressible because of how programs lay data out. Pointers share their high bytes,
//! counters are small, capacities leave zeros behind, and words repeat. So we build such
//! structures, with their fields and lengths, instead of random bytes with a ratio. Their addresses
//! are those of an imaginary heap, because real ones differ from run to run.

mod heap;
mod image;
mod text;

use crate::rng::SplitMix;
use heap::{hash_map, records, tree};
use image::Image;
use text::Vocabulary;

/// The kind of data in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// Zeros only: same-filled.
    Zero,
    /// One other word, repeated: same-filled.
    Pattern,
    /// Zeros with a few islands of data: fresh stacks, arenas, buffers with more capacity than
    /// content.
    MostlyZero,
    /// A vector of records with pointers, counters and flags, and the strings they own between
    /// them.
    Records,
    /// An open-addressing hash map: control bytes, then slots, some of them empty.
    HashMap,
    /// Leaves of a B-tree: parent, sorted keys, values, unused capacity.
    Tree,
    /// An array of numbers: counters, prices, indices that grow, measurements.
    Numbers,
    /// UTF-8 text of words by their frequency, some not ASCII.
    Text,
    /// JSON documents of a few shapes.
    Json,
    /// Rows of 32-bit pixels: gradients, flat areas, noise.
    Pixels,
    /// Random bytes: compressed or encrypted data.
    Incompressible,
}

/// The kinds with their weights, which sum to 100.
///
/// With lz4, the blocks of 4 KiB that are not same-filled shrink about as much as the pages of live
/// interpreters: more than those of a Node.js process, and less than those of a Python process. A
/// test of this crate checks that.
pub const MIX: [(Kind, usize); 11] = [
    (Kind::Zero, 6),
    (Kind::Pattern, 2),
    (Kind::MostlyZero, 12),
    (Kind::Records, 27),
    (Kind::HashMap, 15),
    (Kind::Tree, 11),
    (Kind::Numbers, 6),
    (Kind::Text, 6),
    (Kind::Json, 7),
    (Kind::Pixels, 4),
    (Kind::Incompressible, 4),
];

/// Makes blocks. It is deterministic: a seed and a sequence of lengths always give the same blocks.
#[derive(Debug, Clone)]
pub struct Generator {
    rng: SplitMix,
    words: Vocabulary,
    /// The image that blocks are cut from. It is kept for its memory.
    image: Image,
}

impl Generator {
    /// Creates the generator of a seed.
    pub fn new(seed: u64) -> Generator {
        let mut rng = SplitMix::new(seed);
        Generator { words: Vocabulary::new(&mut rng), image: Image::new(), rng }
    }

    /// Fills `block`, of any length, with the next block of the mix, and returns its kind.
    pub fn block(&mut self, block: &mut [u8]) -> Kind {
        let mut at = self.rng.below(100);
        let kind = MIX.iter().find(|(_, weight)| {
            let here = at < *weight;
            at = at.saturating_sub(*weight);
            here
        });
        let kind = kind.map_or(Kind::Zero, |(kind, _)| *kind);
        self.block_of(kind, block);
        kind
    }

    /// Fills `block` with a block of this kind.
    pub fn block_of(&mut self, kind: Kind, block: &mut [u8]) {
        let Generator { rng, words, image } = self;
        match kind {
            Kind::Zero => return block.fill(0),
            Kind::Pattern => return fill_with_word(rng, block),
            Kind::Incompressible => return rng.fill(block),
            _ => {}
        }
        // A block can begin anywhere in a structure.
        let skip = rng.below(64) * 8;
        image.clear(rng);
        while image.len() < skip + block.len() {
            match kind {
                Kind::MostlyZero => islands(rng, words, image),
                Kind::Records => records(rng, words, image),
                Kind::HashMap => hash_map(rng, image),
                Kind::Tree => tree(rng, image),
                Kind::Numbers => numbers(rng, image),
                Kind::Text => text::prose(rng, words, image),
                Kind::Json => text::json(rng, words, image),
                _ => pixels(rng, image),
            }
        }
        block.copy_from_slice(&image.bytes()[skip..skip + block.len()]);
    }

    /// Returns the endless sequence as blocks of `len` bytes.
    pub fn blocks(mut self, len: usize) -> impl Iterator<Item = Vec<u8>> {
        core::iter::repeat_with(move || {
            let mut block = vec![0; len];
            self.block(&mut block);
            block
        })
    }
}

fn fill_with_word(rng: &mut SplitMix, block: &mut [u8]) {
    let words =
        [0xFFFF_FFFF_FFFF_FFFF, 0x0101_0101_0101_0101, 0xDEAD_BEEF_DEAD_BEEF, rng.next() | 1];
    let word = words[rng.below(words.len())].to_le_bytes();
    block.iter_mut().zip(word.iter().cycle()).for_each(|(byte, of)| *byte = *of);
}

/// Writes a stretch of zeros and a little data.
fn islands(rng: &mut SplitMix, words: &Vocabulary, image: &mut Image) {
    image.zeros(rng.between(200, 2400));
    match rng.below(4) {
        0 => image.bytes_of(words.word(rng)),
        1 => image.pointer(rng),
        2 => (0..rng.between(1, 12)).for_each(|i| image.u64(i as u64 * 3)),
        _ => image.noise(rng, 24),
    }
    image.align(8);
}

/// Writes an array of one type, with some hundred elements.
fn numbers(rng: &mut SplitMix, image: &mut Image) {
    let (n, mut value) = (rng.between(60, 400), rng.below(100_000) as u64);
    match rng.below(4) {
        0 => (0..n).for_each(|_| image.u64(rng.below(300) as u64)),
        1 => (0..n).for_each(|_| {
            value += rng.between(1, 90) as u64;
            image.u32(value as u32);
        }),
        2 => (0..n).for_each(|_| image.f64(rng.below(20_000) as f64 / 100.0)),
        _ => (0..n).for_each(|_| {
            value = value.wrapping_add(rng.below(21) as u64).wrapping_sub(10);
            image.f64(value as f64);
        }),
    }
}

/// Writes a few rows of an RGBA picture.
fn pixels(rng: &mut SplitMix, image: &mut Image) {
    let (mut red, mut green, blue) =
        (rng.below(256) as u8, rng.below(256) as u8, rng.below(256) as u8);
    let style = rng.below(3);
    for x in 0..256_u32 {
        match style {
            0 if x % 40 == 0 => (red, green) = (rng.below(256) as u8, rng.below(256) as u8),
            1 => red = red.wrapping_add((x % 3 == 0) as u8),
            2 => (red, green) = (red ^ rng.below(4) as u8, green ^ rng.below(4) as u8),
            _ => {}
        }
        image.u32(u32::from_le_bytes([red, green, blue, 0xFF]));
    }
}
