//! What several tests of this crate use.

/// Numbers that are the same in every run of a test: xorshift, whose seed must not be 0.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// One of `0..n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }
}
