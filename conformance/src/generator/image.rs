//! The bytes of an imaginary heap, to which structures are copied.

use crate::rng::SplitMix;

/// The high bytes of addresses in 64-bit processes: the program's own heap, and a mapping.
const BASES: [u64; 2] = [0x0000_55D0_0000_0000, 0x0000_7F00_0000_0000];

/// A stretch of memory that grows at its end.
#[derive(Debug, Clone)]
pub(super) struct Image {
    bytes: Vec<u8>,
    /// The address of the first byte.
    base: u64,
}

impl Image {
    pub(super) fn new() -> Image {
        Image { bytes: Vec::new(), base: BASES[0] }
    }

    /// Clears the image and moves it to another address.
    pub(super) fn clear(&mut self, rng: &mut SplitMix) {
        self.bytes.clear();
        self.base = BASES[rng.below(2)] + ((rng.below(1 << 20) as u64) << 12);
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the address of the next byte.
    pub(super) fn here(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    // Little-endian on every machine, because a seed has to give the same blocks.

    pub(super) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.bytes.extend(value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.bytes.extend(value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.bytes.extend(value.to_le_bytes());
    }

    pub(super) fn f64(&mut self, value: f64) {
        self.bytes.extend(value.to_le_bytes());
    }

    pub(super) fn bytes_of(&mut self, text: &str) {
        self.bytes.extend(text.as_bytes());
    }

    pub(super) fn zeros(&mut self, n: usize) {
        self.bytes.resize(self.bytes.len() + n, 0);
    }

    pub(super) fn noise(&mut self, rng: &mut SplitMix, n: usize) {
        let at = self.bytes.len();
        self.zeros(n);
        rng.fill(&mut self.bytes[at..]);
    }

    pub(super) fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    /// Writes a pointer to a place within 256 KiB, 16-byte aligned as those of allocators.
    pub(super) fn pointer(&mut self, rng: &mut SplitMix) {
        let near = self.here().wrapping_add((rng.below(1 << 18) as u64).wrapping_sub(1 << 17));
        self.u64(near & !15);
    }
}
