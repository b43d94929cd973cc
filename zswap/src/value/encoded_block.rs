//! A block in its encoded form, as it is lent to callers.

use zpool_core::compress::Codec;
use zpool_core::spec::Component;
use zpool_manager::Pool;

use crate::value::error::Error;
use crate::value::meta::ObjectMeta;
use crate::value::pooled_object::call_compressor;

/// A block in its encoded form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodedBlock<'a> {
    /// A block that repeats eight bytes; the last repetition may be cut off. An empty block has
    /// length 0.
    SameFilled {
        /// The eight bytes.
        word: [u8; 8],
        /// Length of the block in bytes.
        len: usize,
    },
    /// An incompressible block, as it was stored.
    Raw {
        /// The block.
        bytes: &'a [u8],
    },
    /// A compressed block: an LZ4 block, an LZO1X stream, or a zstd frame without its magic number.
    /// The codec's crate documents the format.
    Compressed {
        /// Identity of the codec. Parameters with default values are left out, and a dictionary is
        /// named by its hash.
        codec: &'a Component,
        /// The compressed bytes.
        bytes: &'a [u8],
        /// Length of the block in bytes.
        len: usize,
    },
}

impl<'a> EncodedBlock<'a> {
    /// Returns the length of the decoded block in bytes.
    ///
    /// ```
    /// let raw = zswap::EncodedBlock::Raw { bytes: b"noise" };
    /// assert_eq!(raw.block_len(), 5);
    /// ```
    pub fn block_len(&self) -> usize {
        match self {
            EncodedBlock::SameFilled { len, .. } | EncodedBlock::Compressed { len, .. } => *len,
            EncodedBlock::Raw { bytes } => bytes.len(),
        }
    }

    /// Returns the form of the block of an object, and the codec that decodes it: `None` if the
    /// object is the block itself.
    ///
    /// # Errors
    ///
    /// If the compressor panics in `identity`.
    pub(crate) fn of_object(
        pool: &'a Pool,
        object: &'a [u8],
        meta: ObjectMeta,
    ) -> Result<(EncodedBlock<'a>, Option<&'a Codec>), Error> {
        if meta.raw {
            return Ok((EncodedBlock::Raw { bytes: object }, None));
        }
        let codec = call_compressor(|| pool.codec().compressor().identity())?;
        let block = EncodedBlock::Compressed { codec, bytes: object, len: meta.block_len };
        Ok((block, Some(pool.codec())))
    }
}
