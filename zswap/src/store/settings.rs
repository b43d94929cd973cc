//! The settings of a store, made by its builder.

use crate::limit::policy::Eviction;
use crate::value::incompressible;

/// Default of [`StoreBuilder::block_size`](crate::StoreBuilder::block_size) in bytes.
pub const DEFAULT_BLOCK_SIZE: usize = 4096;

/// Default of [`StoreBuilder::max_value_len`](crate::StoreBuilder::max_value_len) in bytes.
pub const DEFAULT_MAX_VALUE_LEN: usize = 64 << 20;

/// Settings of a store.
pub(crate) struct StoreSettings<K> {
    pub(crate) block_size: usize,
    pub(crate) max_value_len: usize,
    pub(crate) encode_options: EncodeOptions,
    pub(crate) eviction: Eviction<K>,
    pub(crate) wipe_on_free: bool,
}

/// How blocks are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EncodeOptions {
    /// An object has to be shorter than its block by this percentage, or the block is kept raw.
    pub(crate) min_gain_percent: u8,
    /// Whether blocks that look incompressible are kept raw.
    pub(crate) skip_incompressible: bool,
    pub(crate) checksums: bool,
}

impl EncodeOptions {
    /// Returns whether this block is kept raw without running the codec.
    #[inline]
    pub(crate) fn looks_incompressible(self, block: &[u8]) -> bool {
        self.skip_incompressible && incompressible::looks_incompressible(block)
    }

    /// Returns the most bytes that the object of a block of `len` bytes may have; a longer one is
    /// kept raw.
    #[inline]
    pub(crate) fn max_object_len(self, len: usize) -> usize {
        len - (len * usize::from(self.min_gain_percent) / 100).max(1)
    }
}
