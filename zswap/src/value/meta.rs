//! The facts about a block in a pool.

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
