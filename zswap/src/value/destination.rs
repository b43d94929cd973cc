//! Buffers for decoded values.

use crate::value::error::Error;

/// Memory that a value is copied to.
pub(crate) trait Destination {
    /// Returns room for `len` bytes.
    fn room(&mut self, len: usize) -> Result<&mut [u8], Error>;
}

impl Destination for &mut [u8] {
    #[inline]
    fn room(&mut self, len: usize) -> Result<&mut [u8], Error> {
        let given = (**self).len();
        self.get_mut(..len).ok_or(Error::BufferTooSmall { needed: len, given })
    }
}

impl Destination for Vec<u8> {
    #[inline]
    fn room(&mut self, len: usize) -> Result<&mut [u8], Error> {
        if let Some(more) = len.checked_sub(self.len()) {
            self.try_reserve(more).map_err(|_| Error::BufferOutOfMemory { needed: len })?;
            self.resize(len, 0);
        }
        Ok(&mut self[..len])
    }
}
