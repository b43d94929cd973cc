//! A sample of what is stored, to train a codec on.

use std::hash::{BuildHasher, Hash};

use crate::store::Store;
use crate::value::destination::Destination;
use crate::value::error::Error;

impl<K: Hash + Eq + Clone, S: BuildHasher> Store<K, S> {
    /// Returns copies of up to `count` blocks, spread over the store: for training a codec on what
    /// it will compress, as a dictionary of zstd or a model of pagelz.
    ///
    /// For a codec of the cold pool, use [`sample_cold`](Self::sample_cold).
    ///
    /// Values are [peeked](Self::peek) at, so a sample does not keep them from being evicted. A
    /// value longer than a block counts as its blocks, of which the last may be shorter. Values
    /// that are stored or removed meanwhile may or may not be in the sample. Keys are cloned as
    /// [`keys`](Self::keys) does.
    ///
    /// The copies take `count` times the block size, plus the length of a longer value while it is
    /// split into blocks.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// for key in 0..100 {
    ///     store.store(key, format!("{key:>4000}"))?;
    /// }
    /// assert_eq!(store.sample(10)?.len(), 10);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`load_vec`](Self::load_vec).
    ///
    /// # Panics
    ///
    /// As `keys` does.
    pub fn sample(&self, count: usize) -> Result<Vec<Vec<u8>>, Error> {
        let step = (self.len() / count.max(1)).max(1);
        let mut blocks = Vec::new();
        for key in self.keys().step_by(step) {
            if blocks.len() >= count {
                break;
            }
            let Some(value) = self.peek_vec(&key)? else { continue };
            let rest = count - blocks.len();
            for chunk in value.chunks(self.block_size()).take(rest) {
                add_block(&mut blocks, chunk.len(), |block| {
                    block.copy_from_slice(chunk);
                    Ok(())
                })?;
            }
        }
        Ok(blocks)
    }
}

/// Adds a block of `len` bytes to a sample. `fill` writes it.
pub(crate) fn add_block(
    blocks: &mut Vec<Vec<u8>>,
    len: usize,
    fill: impl FnOnce(&mut [u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let needed = (blocks.len() + 1) * size_of::<Vec<u8>>();
    blocks.try_reserve(1).map_err(|_| Error::BufferOutOfMemory { needed })?;
    let mut block = Vec::new();
    fill(block.room(len)?)?;
    blocks.push(block);
    Ok(())
}
