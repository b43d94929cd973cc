//! Sizes: the class of an object, and the cells of a block.

/// A class of objects, whose cells have a power of two of bytes. Class 0 has the smallest cells,
/// and each further class doubles their size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class(pub usize);

impl Class {
    /// The bytes of the smallest cell. Less than a cache line is not worth its metadata.
    const SMALLEST: usize = 64;

    /// Returns the class of an object of `len` bytes.
    pub fn of(len: usize) -> Class {
        let cell = len.next_power_of_two().max(Class::SMALLEST);
        Class((cell / Class::SMALLEST).ilog2() as usize)
    }

    /// Returns the bytes of a cell.
    pub fn cell(self) -> usize {
        Class::SMALLEST << self.0
    }

    /// Returns the frames of a block: one, or as many as a cell takes. Both are powers of two, so
    /// nothing is left over.
    pub fn frames(self, frame_size: usize) -> usize {
        self.cell().div_ceil(frame_size)
    }
}
