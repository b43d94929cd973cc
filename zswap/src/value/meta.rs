//! The facts about a block in a pool.

/// Describes an object: what it must be like, and the block that it stands for.
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
