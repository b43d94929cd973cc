//! Compressed pages: what an allocator gets from a store.

use std::fmt;

use zpool_core::compress::{Codec, CodecError};

use crate::pages::Pages;

/// Objects of different lengths, owned, in one allocation, so that they leave no small holes in the heap that is measured later.
///
/// They may be made of another process' memory: `Debug` shows counts, never bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Objects {
    bytes: Vec<u8>,
    /// Where each object ends; it begins where the one before it ends.
    ends: Vec<usize>,
}

impl Objects {
    /// Every page of `pages` compressed, or as it is where it does not shrink, as a store keeps it. Leave same-filled pages out before: no store keeps
    /// an object of them. Keep the codec while the objects are measured: what it frees would be reused, and so not be counted.
    ///
    /// # Errors
    ///
    /// When the compressor fails.
    ///
    /// # Panics
    ///
    /// When the codec is for smaller blocks.
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

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no object at all.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Object `i`.
    ///
    /// # Panics
    ///
    /// When `i >= len()`.
    pub fn get(&self, i: usize) -> &[u8] {
        let start = i.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[i]]
    }

    /// All objects in order.
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

    #[test]
    fn objects_are_where_their_ends_say() {
        let mut objects = Objects::default();
        let all: [&[u8]; 4] = [b"one", b"", b"three", b"4"];
        all.iter().for_each(|object| objects.push(object));
        assert!(objects.iter().eq(all));
        assert_eq!((objects.len(), objects.is_empty(), objects.get(2)), (4, false, &b"three"[..]));
        assert_eq!(format!("{objects:?}"), "Objects { objects: 4, bytes: 9 }");
    }
}
