//! What is stored as it is kept, for those who have a tier of their own behind the store.

use std::hash::{BuildHasher, Hash};

use zpool_core::TryArc;
use zpool_core::spec::Component;
use zpool_manager::Pool;

use crate::index::shard::ValueRef;
use crate::ops::load::Shape;
use crate::store::Store;
use crate::value::Value;
use crate::value::access::Access;
use crate::value::backoff::{Backoff, is_too_many_readers};
use crate::value::error::{Error, ErrorKind};
use crate::value::pooled_object::{PinnedObject, call_compressor, pin};

/// A block as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodedBlock<'a> {
    /// Eight bytes, over and over, the last time perhaps not whole. An empty block is one of length
    /// 0.
    SameFilled {
        /// The eight bytes.
        word: [u8; 8],
        /// Bytes of the block.
        len: usize,
    },
    /// A block that does not shrink, as it is.
    Raw {
        /// The block.
        bytes: &'a [u8],
    },
    /// Compressed: an LZ4 block, an LZO1X stream, a zstd frame without its magic number; what that is, the codec's crate says.
    Compressed {
        /// The codec's identity, in which parameters that are its defaults are left out, and a dictionary is named by its hash.
        codec: &'a Component,
        /// The compressed bytes.
        bytes: &'a [u8],
        /// Bytes of the block.
        len: usize,
    },
}

impl<K: Hash + Eq + Clone, S: BuildHasher> Store<K, S> {
    /// Shows `visit` what is stored under `key` as it is kept: a block, or the blocks of a longer value in their order. Gives the length of the whole, or `None`
    /// when there is nothing. Does not count as a use; nothing is decompressed or copied.
    ///
    /// `visit` runs with no lock held and may use the store. What it sees is pinned meanwhile, and no older than the call.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load), but for the buffer and what only decompressing shows; what was
    /// stored stays. Of a value of several blocks, `visit` may have seen those before the one that
    /// failed. [`CodecError::Panicked`](crate::CodecError::Panicked) if the compressor panics when
    /// it is asked for its identity.
    ///
    /// # Example
    ///
    /// ```
    /// use zswap::{EncodedBlock, Store};
    ///
    /// let store = Store::builder().build()?;
    /// store.store(7, b"a page of memory ".repeat(240).as_slice())?;
    /// let mut tier = Vec::new();
    /// store.export(&7, |form| match form {
    ///     EncodedBlock::Compressed { codec, bytes, len } => tier.push((codec.to_string(), bytes.to_vec(), len)),
    ///     other => panic!("{other:?}"),
    /// })?;
    /// assert_eq!((tier[0].0.as_str(), tier[0].2), ("lz4", 4080));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn export(
        &self,
        key: &K,
        mut visit: impl FnMut(EncodedBlock<'_>),
    ) -> Result<Option<usize>, Error<K>> {
        let mut backoff = Backoff::default();
        self.export_once(key, &mut visit, &mut backoff).map_err(|kind| {
            self.counters().load_failed(&kind);
            Error { key: key.clone(), kind }
        })
    }

    fn export_once(
        &self,
        key: &K,
        visit: &mut impl FnMut(EncodedBlock<'_>),
        backoff: &mut Backoff,
    ) -> Result<Option<usize>, ErrorKind> {
        let hash = self.hash(key);
        loop {
            let (mut shard, table_hash) = self.index().lock(hash);
            let Some(found) = shard.look_up(table_hash, key, Access::Peek) else { return Ok(None) };
            match found {
                ValueRef::SameFilled { word, len } => {
                    drop(shard);
                    visit(EncodedBlock::SameFilled { word: word.to_le_bytes(), len });
                    return Ok(Some(len));
                }
                ValueRef::Pooled { handle, pool, len, object_len, raw, sum } => {
                    let pool = pool.clone();
                    let pinned = pin(&pool, handle);
                    if pinned.as_ref().is_err_and(is_too_many_readers) {
                        // Not counted yet: this look-up is repeated when readers are done.
                        shard.stats.uncount_hit(Access::Peek);
                        drop(shard);
                        if backoff.wait() {
                            continue;
                        }
                        return Err(self.give_up_waiting(hash, Access::Peek));
                    }
                    drop(shard);
                    self.show(&pool, pinned?, Shape { object_len, raw, sum }, len, visit)?;
                    return Ok(Some(len));
                }
                ValueRef::Large(large) => {
                    let large = TryArc::clone(large);
                    drop(shard);
                    let mut parts = large.parts.iter();
                    parts.try_for_each(|part| self.export_part(part, visit, backoff))?;
                    return Ok(Some(large.len));
                }
            }
        }
    }
}

impl<K, S> Store<K, S> {
    fn export_part(
        &self,
        part: &Value,
        visit: &mut impl FnMut(EncodedBlock<'_>),
        backoff: &mut Backoff,
    ) -> Result<(), ErrorKind> {
        match part {
            Value::SameFilled { word, len } => {
                visit(EncodedBlock::SameFilled { word: word.to_le_bytes(), len: *len })
            }
            Value::Pooled(block) => {
                let pool = block.object.pool();
                let object = backoff.retry(|| pin(pool, block.object.handle()))?;
                let shape = Shape { object_len: block.object_len, raw: block.raw, sum: block.sum };
                self.show(pool, object, shape, block.len, visit)?;
            }
            Value::Large(large) => {
                large.parts.iter().try_for_each(|part| self.export_part(part, visit, backoff))?;
            }
        }
        Ok(())
    }

    /// Checks an object, shows it to `visit` and unpins it.
    fn show(
        &self,
        pool: &Pool,
        mut object: PinnedObject<'_>,
        shape: Shape,
        len: usize,
        visit: &mut impl FnMut(EncodedBlock<'_>),
    ) -> Result<(), ErrorKind> {
        self.check_object(&object, shape, len)?;
        if shape.raw {
            visit(EncodedBlock::Raw { bytes: &object });
        } else {
            let codec = call_compressor(|| pool.codec().compressor().identity())?;
            visit(EncodedBlock::Compressed { codec, bytes: &object, len });
        }
        self.unpin(&mut object);
        Ok(())
    }
}
