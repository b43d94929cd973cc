//! A seeded generator of numbers, for tests that make many different inputs.

/// xorshift64* (Vigna 2016). One seed makes the same numbers in every run.
#[derive(Debug, Clone)]
pub struct TestRng(u64);

impl TestRng {
    /// Creates the generator of `seed`. Any seed works, but two of them may give the same numbers.
    pub fn new(seed: u64) -> TestRng {
        TestRng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Returns the next 64 bits.
    #[allow(clippy::should_implement_trait, reason = "a generator has no end, an iterator may")]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Returns a number below `bound`.
    ///
    /// # Panics
    ///
    /// If `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }
}
