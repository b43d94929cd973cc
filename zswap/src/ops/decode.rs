//! Decoding of a pinned value into the bytes that were stored.

use zpool_core::compress::CodecError;
use zpool_manager::Pool;

use crate::ops::pinned::PinnedValue;
use crate::store::Store;
use crate::value::LargeValue;
use crate::value::backoff::Backoff;
use crate::value::error::Error;
use crate::value::meta::ObjectMeta;
use crate::value::same_filled;

impl<K, S> Store<K, S> {
    /// Writes a value into `buffer`, which is as long as the value.
    #[inline]
    pub(crate) fn decode_value(
        &self,
        value: &PinnedValue<'_, '_>,
        buffer: &mut [u8],
        backoff: &mut Backoff,
    ) -> Result<(), Error> {
        match value {
            PinnedValue::Pooled { pool, object, meta } => self.decode(pool, object, *meta, buffer),
            PinnedValue::SameFilled { word, .. } => {
                same_filled::fill(buffer, *word);
                Ok(())
            }
            PinnedValue::Large(large) => self.decode_large(large, buffer, backoff),
            PinnedValue::Backed(record) => record.decode(buffer),
        }
    }

    /// Writes the block of an object into `block`.
    #[inline]
    pub(crate) fn decode(
        &self,
        pool: &Pool,
        object: &[u8],
        meta: ObjectMeta,
        block: &mut [u8],
    ) -> Result<(), Error> {
        self.check_object(object, meta)?;
        if meta.raw {
            block.copy_from_slice(object);
            return Ok(());
        }
        pool.codec().decompress(object, block).map_err(Error::Codec)
    }

    /// Checks by length and checksum that `object` is what was stored.
    #[inline]
    pub(crate) fn check_object(&self, object: &[u8], meta: ObjectMeta) -> Result<(), Error> {
        let same = meta.matches(object, self.encode_options().checksums);
        if same { Ok(()) } else { Err(Error::Codec(CodecError::Corrupt)) }
    }

    /// Writes the blocks of a long value one after the other.
    #[inline(never)]
    fn decode_large(
        &self,
        large: &LargeValue,
        mut buffer: &mut [u8],
        backoff: &mut Backoff,
    ) -> Result<(), Error> {
        for part in &large.parts {
            let (block, rest) = buffer.split_at_mut(part.len());
            buffer = rest;
            self.with_pinned_part(part, backoff, |value, backoff| {
                self.decode_value(&value, block, backoff)
            })?;
        }
        Ok(())
    }
}
