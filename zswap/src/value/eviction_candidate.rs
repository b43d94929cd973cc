//! A value that is about to be evicted, as its listener sees it.

use std::fmt;

use zpool_core::compress::{Codec, CodecError};

use crate::value::destination::Destination;
use crate::value::encoded_block::EncodedBlock;
use crate::value::error::Error;
use crate::value::same_filled;

/// A value that a store wants to evict, lent to the listener of
/// [`on_evict_with`](crate::StoreBuilder::on_evict_with) before it is freed.
///
/// Nothing was copied or decompressed. The bytes stay as they are while the listener runs, even if
/// the entry is replaced or removed meanwhile.
#[derive(Clone, Copy)]
pub struct EvictionCandidate<'a> {
    blocks: &'a [EncodedBlock<'a>],
    /// The codecs of the blocks that are compressed.
    codecs: &'a [Option<&'a Codec>],
}

impl<'a> EvictionCandidate<'a> {
    pub(crate) fn new(
        blocks: &'a [EncodedBlock<'a>],
        codecs: &'a [Option<&'a Codec>],
    ) -> EvictionCandidate<'a> {
        EvictionCandidate { blocks, codecs }
    }

    /// Returns its length in bytes, as it was stored.
    pub fn len(&self) -> usize {
        self.blocks.iter().map(EncodedBlock::block_len).sum()
    }

    /// Returns whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns its encoded form, as [`export`](crate::Store::export) lends it and
    /// [`import`](crate::Store::import) takes it: one block, or the blocks of a longer value in
    /// order.
    pub fn blocks(&self) -> &'a [EncodedBlock<'a>] {
        self.blocks
    }

    /// Decompresses it into the front of `buffer`. Returns its length in bytes.
    ///
    /// # Errors
    ///
    /// - [`Error::BufferTooSmall`], with the length needed.
    /// - [`Error::Codec`]: the compressor failed. The front of the buffer is unspecified.
    ///
    /// # Concurrency
    ///
    /// May block if the compressor needs a context to decompress and has none yet.
    pub fn decode(&self, mut buffer: &mut [u8]) -> Result<usize, Error> {
        self.decode_into(&mut buffer)
    }

    fn decode_into(&self, buffer: &mut impl Destination) -> Result<usize, Error> {
        let len = self.len();
        let mut rest = buffer.room(len)?;
        for (block, codec) in self.blocks.iter().zip(self.codecs) {
            let (into, behind) = std::mem::take(&mut rest).split_at_mut(block.block_len());
            match (*block, codec) {
                (EncodedBlock::SameFilled { word, .. }, _) => {
                    same_filled::fill(into, u64::from_le_bytes(word));
                }
                (EncodedBlock::Raw { bytes }, _) => into.copy_from_slice(bytes),
                (EncodedBlock::Compressed { bytes, .. }, Some(codec)) => {
                    codec.decompress(bytes, into).map_err(Error::Codec)?;
                }
                (EncodedBlock::Compressed { .. }, None) => {
                    return Err(Error::Codec(CodecError::Corrupt));
                }
            }
            rest = behind;
        }
        Ok(len)
    }

    /// Decompresses it into a new vector; see [`decode`](Self::decode).
    ///
    /// # Errors
    ///
    /// As for `decode`, except that [`Error::BufferOutOfMemory`] replaces `BufferTooSmall`.
    pub fn decode_vec(&self) -> Result<Vec<u8>, Error> {
        let mut value = Vec::new();
        self.decode_into(&mut value)?;
        Ok(value)
    }
}

impl fmt::Debug for EvictionCandidate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvictionCandidate").field("blocks", &self.blocks).finish_non_exhaustive()
    }
}
