//! Encoding of a block into an object in a pool, for single stores, batches and the blocks of long
//! values.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};

use zpool_core::Handle;
use zpool_core::compress::{Codec, CodecError, Session};
use zpool_manager::{Pool, PoolRef};

use crate::store::Store;
use crate::value::checksum::checksum;
use crate::value::error::Error;
use crate::value::meta::ObjectMeta;
use crate::value::pooled_object::insert;
use crate::value::same_filled;

/// Destination of a block. `P` is a reference to a pool, owned or borrowed.
pub(crate) enum Placement<P> {
    /// In the index alone, because it repeats this word.
    SameFilled(u64),
    /// In this pool, which admits it.
    Pool(P),
}

/// Compresses a block into scratch memory, which it lends to `insert`. Lends `None` if the result
/// would be longer than `max_len`.
pub(crate) trait Compress {
    fn compress<R>(
        &mut self,
        block: &[u8],
        max_len: usize,
        insert: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R, CodecError>;
}

/// Takes a context for each block.
impl Compress for &Codec {
    #[inline(always)]
    fn compress<R>(
        &mut self,
        block: &[u8],
        max_len: usize,
        insert: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R, CodecError> {
        Codec::compress(self, block, max_len, insert)
    }
}

/// Keeps one context for many blocks.
impl Compress for &mut Session<'_> {
    #[inline(always)]
    fn compress<R>(
        &mut self,
        block: &[u8],
        max_len: usize,
        insert: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R, CodecError> {
        Session::compress(self, block, max_len).map(insert)
    }
}

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Decides where a block is stored. `pool` returns the pool for a block that needs one.
    #[inline]
    pub(crate) fn place<P: Borrow<PoolRef>>(
        &self,
        block: &[u8],
        pool: impl FnOnce() -> Result<P, Error>,
    ) -> Result<Placement<P>, Error> {
        let word = same_filled::detect(block);
        if let Some(word) = word
            && self.limit().bytes().is_none()
        {
            return Ok(Placement::SameFilled(word));
        }
        let pool = pool()?;
        // A same-filled block costs its place in the index, so the limit applies to it as well.
        self.admit(pool.borrow())?;
        Ok(word.map_or(Placement::Pool(pool), Placement::SameFilled))
    }

    /// Compresses `block` and inserts the result into `pool`. If the block hardly shrinks, inserts
    /// the block itself.
    ///
    /// The scratch memory of the context is borrowed for that, so nothing is copied twice.
    #[inline(always)]
    pub(crate) fn encode(
        &self,
        pool: &Pool,
        context: impl Compress,
        block: &[u8],
    ) -> Result<(Handle, ObjectMeta), Error> {
        let raw = self.encode_options().looks_incompressible(block);
        if raw {
            self.counters().incompressible_skipped();
        }
        let encoded = self.encode_as(raw, usize::MAX, pool, context, block)?;
        Ok(encoded.expect("any length is within this bound"))
    }

    /// Inserts a block as [`encode`](Self::encode) does, without counting anything. If `raw`, the
    /// codec is not asked. Returns `None`, and inserts nothing, if the object would have more than
    /// `max_len` bytes.
    #[inline(always)]
    pub(crate) fn encode_as(
        &self,
        raw: bool,
        max_len: usize,
        pool: &Pool,
        mut context: impl Compress,
        block: &[u8],
    ) -> Result<Option<(Handle, ObjectMeta)>, Error> {
        let options = self.encode_options();
        let insert = |shorter: Option<&[u8]>| {
            let object = shorter.unwrap_or(block);
            if object.len() > max_len {
                return Ok(None);
            }
            let meta = ObjectMeta {
                block_len: block.len(),
                object_len: object.len(),
                raw: shorter.is_none(),
                checksum: if options.checksums { checksum(object, block.len()) } else { 0 },
            };
            insert(pool, object).map(|handle| Some((handle, meta)))
        };
        if raw {
            return insert(None);
        }
        context
            .compress(block, options.max_object_len(block.len()), insert)
            .unwrap_or_else(|error| Err(Error::Codec(error)))
    }
}
