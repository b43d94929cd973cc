//! Sizes: which class an object belongs to, and how a block of that class is cut.

/// A class of objects: those that fit a cell of a power of two of bytes. Its number is that power's, from the smallest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class(pub usize);

impl Class {
    /// Bytes of the smallest cell: less than a cache line is not worth its books.
    const SMALLEST: usize = 64;

    /// The class of an object of `len` bytes.
    pub fn of(len: usize) -> Class {
        let cell = len.next_power_of_two().max(Class::SMALLEST);
        Class((cell / Class::SMALLEST).ilog2() as usize)
    }

    /// Bytes of a cell.
    pub fn cell(self) -> usize {
        Class::SMALLEST << self.0
    }

    /// Frames of a block: one, or as many as a cell takes. Both are powers of two, so nothing is left over at the end.
    pub fn frames(self, frame_size: usize) -> usize {
        self.cell().div_ceil(frame_size)
    }
}
