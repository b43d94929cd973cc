//! Import of values in their encoded form: the way back from a tier behind the store.
//!
//! ```text
//!   codec of the current pool ─► decode, to verify ─► insert the bytes as they are
//!   codec of a retired pool   ─► decode            ─► encode as a store would
//!   any other codec           ─► an error
//! ```

use std::hash::{BuildHasher, Hash};

use zpool_core::compress::CodecError;
use zpool_core::internal::TryArc;
use zpool_core::might_block;
use zpool_core::spec::Component;
use zpool_manager::PoolRef;

use crate::ops::encode::Placement;
use crate::store::Store;
use crate::value::checksum::checksum;
use crate::value::encoded_block::EncodedBlock;
use crate::value::error::Error;
use crate::value::meta::ObjectMeta;
use crate::value::pooled_object::{PooledObject, call_compressor, insert};
use crate::value::{LargeValue, PooledBlock, Value};

/// # Export
impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Stores a value that [`export`](Self::export) has lent: a block, or the blocks of a longer
    /// value in order. Replaces what was stored under `key` before. No blocks are an empty value.
    ///
    /// A compressed block is decoded, which shows that it has the length that it claims, and its
    /// bytes are kept as they are. Nothing is compressed. If only a retired pool or the cold one
    /// has its codec, then it is decoded by that and stored anew. The codec's own check is all that
    /// detects damaged bytes, so keep a checksum with them if they were anywhere else.
    ///
    /// # Errors
    ///
    /// As for [`store`](Self::store); the older block is removed then. In addition:
    ///
    /// - [`Error::UnknownCodec`] if no pool has the codec.
    /// - [`Error::BufferOutOfMemory`] if there is no memory to decode a block.
    /// - [`CodecError::Corrupt`](crate::plugin::CodecError::Corrupt) if a block does not decode to
    ///   its length.
    /// - [`Error::UnevenBlocks`] if one of several blocks, but for the last, is not of this store's
    ///   block size.
    ///
    /// # Example
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// use zswap::{EncodedBlock, Store};
    ///
    /// let (store, other) = (Store::builder().build()?, Store::builder().build()?);
    /// let page = b"a page of memory ".repeat(240);
    /// store.store(7, &page)?;
    /// store.export(&7, |form| {
    ///     other.import(7, &[form]).expect("the same codec");
    /// })?;
    /// assert_eq!(other.load_vec(&7)?, Some(page));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn import(&self, key: K, blocks: &[EncodedBlock<'_>]) -> Result<(), Error> {
        might_block("Store::import");
        let hash = self.hash(&key);
        self.forget_in_thrash_meter(hash);
        match self.import_value(hash, blocks) {
            Ok(value) => self.put(hash, key, value),
            Err(error) => Err(self.store_failed(hash, key, error)),
        }
    }

    fn import_value(&self, hash: u64, blocks: &[EncodedBlock<'_>]) -> Result<Value, Error> {
        let len = blocks.iter().fold(0_usize, |sum, block| sum.saturating_add(block.block_len()));
        let (block_size, max) = (self.block_size(), self.max_value_len());
        if len > max {
            return Err(Error::BlockTooLong { len, max });
        }
        let longest = blocks.iter().map(EncodedBlock::block_len).max().unwrap_or(0);
        if longest > block_size {
            return Err(Error::BlockTooLong { len: longest, max: block_size });
        }
        let (last, whole) = match blocks {
            [] => return self.encode_block(hash, &[]),
            [only] => return self.import_block(hash, only),
            [whole @ .., last] => (last, whole),
        };
        let uneven = whole.iter().find(|block| block.block_len() != block_size);
        if let Some(len) = uneven.map(EncodedBlock::block_len) {
            return Err(Error::UnevenBlocks { len, block_size });
        }
        if last.block_len() == 0 {
            return Err(Error::UnevenBlocks { len: 0, block_size });
        }
        let mut parts = Vec::new();
        parts.try_reserve_exact(blocks.len()).map_err(|_| Error::IndexOutOfMemory)?;
        for block in blocks {
            parts.push(self.import_block(hash, block)?);
        }
        let large = LargeValue { parts: parts.into_boxed_slice(), len };
        TryArc::try_new(large).map(Value::Large).map_err(|_| Error::IndexOutOfMemory)
    }

    fn import_block(&self, hash: u64, block: &EncodedBlock<'_>) -> Result<Value, Error> {
        match *block {
            EncodedBlock::SameFilled { word, len } => {
                if self.limit().bytes().is_some() {
                    self.admit(&self.current_pool()?)?;
                }
                Ok(Value::SameFilled { word: u64::from_le_bytes(word), len })
            }
            EncodedBlock::Raw { bytes } => match self.place(bytes, || self.current_pool())? {
                Placement::SameFilled(word) => Ok(Value::SameFilled { word, len: bytes.len() }),
                Placement::Pool(pool) => self.import_raw(pool, bytes),
            },
            EncodedBlock::Compressed { codec, bytes, len } => {
                let mut decoded = Vec::new();
                decoded
                    .try_reserve_exact(len)
                    .map_err(|_| Error::BufferOutOfMemory { needed: len })?;
                decoded.resize(len, 0);
                self.import_compressed(hash, codec, bytes, &mut decoded)
            }
        }
    }

    /// Inserts a block as it is.
    fn import_raw(&self, pool: PoolRef, block: &[u8]) -> Result<Value, Error> {
        let encoded = self.encode_as(true, usize::MAX, &pool, pool.codec(), block)?;
        let (handle, meta) = encoded.expect("any length is within this bound");
        Ok(Value::Pooled(PooledBlock { object: PooledObject::new(pool, handle), meta }))
    }

    /// Verifies `object` by decoding it into `decoded`, and inserts it, or its block if the current
    /// pool has another codec.
    fn import_compressed(
        &self,
        hash: u64,
        codec: &Component,
        object: &[u8],
        decoded: &mut [u8],
    ) -> Result<Value, Error> {
        if decoded.is_empty() || object.is_empty() {
            return Err(Error::Codec(CodecError::Corrupt));
        }
        let current = self.current_pool()?;
        if !has_codec(&current, codec)? {
            let other = self.live_pool_with(codec)?;
            other.codec().decompress(object, decoded).map_err(Error::Codec)?;
            return self.encode_block(hash, decoded);
        }
        current.codec().decompress(object, decoded).map_err(Error::Codec)?;
        self.admit(&current)?;
        let options = self.encode_options();
        if object.len() > options.max_object_len(decoded.len()) {
            // Longer than a store would keep it.
            return self.import_raw(current, decoded);
        }
        let meta = ObjectMeta {
            block_len: decoded.len(),
            object_len: object.len(),
            raw: false,
            checksum: if options.checksums { checksum(object, decoded.len()) } else { 0 },
        };
        let handle = insert(&current, object)?;
        Ok(Value::Pooled(PooledBlock { object: PooledObject::new(current, handle), meta }))
    }
}

impl<K, S> Store<K, S> {
    fn current_pool(&self) -> Result<PoolRef, Error> {
        self.manager().current().ok_or(Error::NoPool)
    }

    /// Returns a pool that is not current and has this codec.
    fn live_pool_with(&self, codec: &Component) -> Result<PoolRef, Error> {
        let mut found = None;
        self.manager().for_each_pool(|pool| {
            if found.is_none() && has_codec(pool, codec).unwrap_or(false) {
                found = Some(pool.clone());
            }
        });
        found.ok_or_else(|| Error::UnknownCodec { codec: codec.to_string() })
    }
}

fn has_codec(pool: &PoolRef, codec: &Component) -> Result<bool, Error> {
    call_compressor(|| pool.codec().compressor().identity() == codec)
}
