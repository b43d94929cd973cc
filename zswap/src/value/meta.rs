//! The facts about a block in a pool.

use crate::value::checksum::checksum;

/// Metadata of an object and of the block that it encodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ObjectMeta {
    /// Length of the block in bytes.
    pub(crate) block_len: usize,
    /// Length of the object in bytes.
    pub(crate) object_len: usize,
    /// Whether the object is the block itself.
    pub(crate) raw: bool,
    /// Checksum of the object; 0 in a store without checksums.
    pub(crate) checksum: u32,
}

impl ObjectMeta {
    /// Returns whether `object` is what was stored, by its length, and by its checksum in a store
    /// that has checksums.
    #[inline]
    pub(crate) fn matches(&self, object: &[u8], checksums: bool) -> bool {
        object.len() == self.object_len
            && (!checksums || checksum(object, self.block_len) == self.checksum)
    }
}
