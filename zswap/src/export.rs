//! What is stored as it is kept, for those who have a tier of their own behind the store.

use std::hash::{BuildHasher, Hash};

use zpool_core::TryArc;
use zpool_core::spec::Component;

use crate::error::{Error, ErrorKind};
use crate::loading::{Shape, Then};
use crate::object::pin;
use crate::shard::Found;
use crate::store::Store;
use crate::stored::Stored;

/// A block as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form<'a> {
    /// Eight bytes, over and over, the last time perhaps not whole.
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
    /// As for [`load`](Self::load), but for the buffer and what only decompressing shows; what was stored stays. Of a value of several blocks, `visit` may have seen
    /// those before.
    ///
    /// # Example
    ///
    /// ```
    /// use zswap::{Form, Store};
    ///
    /// let store = Store::builder().build()?;
    /// store.store(7, b"a page of memory ".repeat(240).as_slice())?;
    /// let mut tier = Vec::new();
    /// store.export(&7, |form| match form {
    ///     Form::Compressed { codec, bytes, len } => tier.push((codec.to_string(), bytes.to_vec(), len)),
    ///     other => panic!("{other:?}"),
    /// })?;
    /// assert_eq!((tier[0].0.as_str(), tier[0].2), ("lz4", 4080));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn export(&self, key: &K, mut visit: impl FnMut(Form<'_>)) -> Result<Option<usize>, Error<K>> {
        let hash = self.hash(key);
        let (mut shard, table_hash) = self.index().lock(hash);
        let Some(found) = shard.look_up(table_hash, key, Then::Peek) else { return Ok(None) };
        let failed = |kind| {
            self.counters().load_failed(&kind);
            Error { key: key.clone(), kind }
        };
        match found {
            Found::Same { word, len } => {
                drop(shard);
                visit(Form::SameFilled { word: word.to_le_bytes(), len });
                Ok(Some(len))
            }
            Found::Block { handle, pool, len, object_len, raw, sum } => {
                let pool = pool.clone();
                let guard = pin(&pool, handle);
                drop(shard);
                let guard = guard.map_err(failed)?;
                self.check_object(&guard, Shape { object_len, raw, sum }, len).map_err(failed)?;
                visit(form(pool.codec().compressor().identity(), &guard, len, raw));
                Ok(Some(len))
            }
            Found::Large(large) => {
                let large = TryArc::clone(large);
                drop(shard);
                let mut parts = large.parts.iter();
                parts.try_for_each(|part| self.export_part(part, &mut visit)).map_err(failed)?;
                Ok(Some(large.len))
            }
        }
    }
}

impl<K, S> Store<K, S> {
    fn export_part(&self, part: &Stored, visit: &mut impl FnMut(Form<'_>)) -> Result<(), ErrorKind> {
        match part {
            Stored::Same { word, len } => visit(Form::SameFilled { word: word.to_le_bytes(), len: *len }),
            Stored::Block(block) => {
                let pool = block.object.pool();
                let guard = pin(pool, block.object.handle())?;
                let shape = Shape { object_len: block.object_len, raw: block.raw, sum: block.sum };
                self.check_object(&guard, shape, block.len)?;
                visit(form(pool.codec().compressor().identity(), &guard, block.len, block.raw));
            }
            Stored::Large(large) => {
                large.parts.iter().try_for_each(|part| self.export_part(part, visit))?;
            }
        }
        Ok(())
    }
}

fn form<'a>(codec: &'a Component, bytes: &'a [u8], len: usize, raw: bool) -> Form<'a> {
    if raw { Form::Raw { bytes } } else { Form::Compressed { codec, bytes, len } }
}
