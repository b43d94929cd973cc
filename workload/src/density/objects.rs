//! Compressed pages, as a store passes them to an allocator.

use std::fmt;

use zpool_core::compress::{Codec, CodecError};

use crate::pages::Pages;

/// Objects of different lengths in one allocation, so that they leave no small holes in the heap
/// that is measured later.
///
/// They may be made of another process' memory, so `Debug` shows counts and never bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Objects {
    bytes: Vec<u8>,
    /// The end of each object, which is the beginning of the next.
    ends: Vec<usize>,
}

impl Objects {
    /// Compresses every page of `pages`. As in a store, a page that does not shrink stays as it is.
    ///
    /// Remove same-filled pages first, because no store keeps an object for them. Keep the codec
    /// while the objects are measured; memory that it frees would be reused and not counted.
    ///
    /// # Errors
    ///
    /// If the compressor fails.
    ///
    /// # Panics
    ///
    /// If the codec is for smaller blocks.
    pub fn compressed(pages: &Pages, codec: &Codec) -> Result<Objects, CodecError> {
        let mut objects = Objects {
            bytes: Vec::with_capacity(pages.bytes().len()),
            ends: Vec::with_capacity(pages.len()),
        };
        for page in pages.iter() {
            codec.compress(page, page.len() - 1, |shrunk| objects.push(shrunk.unwrap_or(page)))?;
        }
        Ok(objects)
    }

    /// Adds a copy of an object.
    pub fn push(&mut self, object: &[u8]) {
        self.bytes.extend_from_slice(object);
        self.ends.push(self.bytes.len());
    }

    /// Returns the number of objects.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns object `i`.
    ///
    /// # Panics
    ///
    /// If `i >= len()`.
    pub fn get(&self, i: usize) -> &[u8] {
        let start = i.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[i]]
    }

    /// Iterates over all objects in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.get(i))
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects")
            .field("objects", &self.len())
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each object lies between its predecessor's end and its own.
    #[test]
    fn objects_end_where_they_should() {
        let mut objects = Objects::default();
        let all: [&[u8]; 4] = [b"one", b"", b"three", b"4"];
        all.iter().for_each(|object| objects.push(object));
        assert!(objects.iter().eq(all));
        assert_eq!((objects.len(), objects.is_empty(), objects.get(2)), (4, false, &b"three"[..]));
        assert_eq!(format!("{objects:?}"), "Objects { objects: 4, bytes: 9 }");
    }
}
