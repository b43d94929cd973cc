//! Settings of blocks and values: their length, and how they are kept.

use crate::builder::StoreBuilder;

/// # Blocks and values
impl<K, S> StoreBuilder<K, S> {
    /// Sets the largest block in bytes: 1 to [`MAX_BLOCK_SIZE`](crate::MAX_BLOCK_SIZE) (default
    /// [`DEFAULT_BLOCK_SIZE`](crate::DEFAULT_BLOCK_SIZE)). Larger blocks compress better and cost
    /// more to load.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().block_size(64 << 10).build()?;
    /// store.store(1, vec![b'x'; 64 << 10])?;
    /// // A longer value has two blocks.
    /// store.store(2, vec![b'x'; (64 << 10) + 1])?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn block_size(self, bytes: usize) -> Self {
        StoreBuilder { block_size: bytes, ..self }
    }

    /// Sets the longest value in bytes (default
    /// [`DEFAULT_MAX_VALUE_LEN`](crate::DEFAULT_MAX_VALUE_LEN)). Values longer than a block are
    /// split and joined again, and are there whole or not at all.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().max_value_len(1 << 20).build()?;
    /// store.store(1, vec![b'x'; 1 << 20])?;
    /// assert!(store.store(1, vec![b'x'; (1 << 20) + 1]).is_err());
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn max_value_len(self, bytes: usize) -> Self {
        StoreBuilder { max_value_len: Some(bytes), ..self }
    }

    /// Sets by how many percent compression has to shorten a block; otherwise the block is kept
    /// raw. 0 to 99 (default 0: at least a byte). A raw block is loaded by a copy instead of a
    /// decompression.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().min_gain_percent(25).build()?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn min_gain_percent(mut self, percent: u8) -> Self {
        self.encode_options.min_gain_percent = percent;
        self
    }

    /// Sets whether blocks whose bytes look random are kept raw without asking the compressor
    /// (default true). Decision record 0018 of the repository says how seldom that is wrong.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().skip_incompressible(false).build()?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn skip_incompressible(mut self, skip: bool) -> Self {
        self.encode_options.skip_incompressible = skip;
        self
    }

    /// Sets whether every object has a checksum of four bytes in the index, without which a load
    /// may give wrong bytes after memory was corrupted (default false).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().checksums(true).build()?;
    /// store.store(1, b"a page of memory ".repeat(240))?;
    /// assert_eq!(store.load_vec(&1)?, Some(b"a page of memory ".repeat(240)));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn checksums(mut self, checksums: bool) -> Self {
        self.encode_options.checksums = checksums;
        self
    }

    /// Overwrites a block with zeros in its pool once it is removed, replaced, evicted or moved,
    /// and no reader holds it (default: false). This costs a write of as many bytes. Allocators
    /// that [cannot](zpool_core::Capabilities::wipes_on_free) do that are refused.
    ///
    /// It covers the pools only. Bytes of blocks also remain, until they are overwritten, in the
    /// compressors' contexts, in each thread's buffers for [`load_with`](crate::Store::load_with)
    /// and for reads of the tier, in the buffers of drains, of the heat clock and of the tier's
    /// writer, and in heap memory that [`import`](crate::Store::import) has freed. The index holds
    /// keys and same-filled blocks. The zeros are written on every system. Without this setting
    /// only memory that was returned to the system is zeroed, and only on Linux; other systems may
    /// leave its contents.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let secrets = zswap::Store::<u64>::builder().wipe_on_free(true).build()?;
    /// secrets.store(1, "overwritten once it is removed")?;
    /// secrets.invalidate(&1);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wipe_on_free(self, wipe: bool) -> Self {
        StoreBuilder { wipe_on_free: wipe, ..self }
    }

    /// Sets whether the memory of pools is left out of core dumps: it is mapped for this store
    /// alone then (default false). Cannot be combined with a [`page_source`](Self::page_source), on
    /// which it would have no effect.
    ///
    /// Heap memory stays in dumps: keys; same-filled blocks; the compressors' contexts; each
    /// thread's buffers for [`load_with`](crate::Store::load_with) and for reads of the tier; and
    /// the buffers of drains, of the heat clock and of the tier's writer, which hold bytes of
    /// blocks. Memory is left out of dumps on Linux only (`MADV_DONTDUMP`). On other systems this
    /// setting has no effect, and nothing reports that.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let secrets = zswap::Store::<u64>::builder().exclude_from_dumps(true).build()?;
    /// secrets.store(1, "not in a core dump")?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn exclude_from_dumps(self, exclude: bool) -> Self {
        StoreBuilder { exclude_from_dumps: exclude, ..self }
    }
}
