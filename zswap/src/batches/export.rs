//! Export of values in their encoded form, for a tier behind the store.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};

use crate::ops::pinned::PinnedValue;
use crate::store::Store;
use crate::value::access::Access;
use crate::value::backoff::Backoff;
use crate::value::encoded_block::EncodedBlock;
use crate::value::error::Error;

/// # Export
impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Lends `visit` what is stored under `key` in its encoded form: a block, or the blocks of a
    /// longer value in order. Returns the length of the whole, or `None` if there is nothing. Does
    /// not count as a use. Nothing is decompressed or copied.
    ///
    /// `visit` runs with no lock held and may use the store. What it receives is pinned meanwhile,
    /// and no older than the call.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load), except for the buffer and for corruption that only
    /// decompression finds. What is stored stays. If a block of a longer value fails, `visit` may
    /// have received those before it. [`CodecError::Panicked`](crate::plugin::CodecError::Panicked)
    /// if the compressor panics in `identity`.
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
    ///     EncodedBlock::Compressed { codec, bytes, len } => {
    ///         tier.push((codec.to_string(), bytes.to_vec(), len));
    ///     }
    ///     other => panic!("{other:?}"),
    /// })?;
    /// assert_eq!((tier[0].0.as_str(), tier[0].2), ("lz4", 4080));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn export<Q>(
        &self,
        key: &Q,
        mut visit: impl FnMut(EncodedBlock<'_>),
    ) -> Result<Option<usize>, Error>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (hash, mut backoff) = (self.hash(key), Backoff::default());
        let shown = self.with_pinned(hash, key, Access::Peek, &mut backoff, |value, _, backoff| {
            let len = value.len();
            self.show(&value, &mut visit, backoff).map(|()| len)
        });
        shown.inspect_err(|error| self.counters().load_failed(error))
    }
}

impl<K, S> Store<K, S> {
    /// Checks a value and shows it to `visit`, block by block.
    fn show(
        &self,
        value: &PinnedValue<'_, '_>,
        visit: &mut impl FnMut(EncodedBlock<'_>),
        backoff: &mut Backoff,
    ) -> Result<(), Error> {
        match value {
            PinnedValue::SameFilled { word, len } => {
                visit(EncodedBlock::SameFilled { word: word.to_le_bytes(), len: *len });
                Ok(())
            }
            PinnedValue::Pooled { pool, object, meta } => {
                self.check_object(object, *meta)?;
                visit(EncodedBlock::of_object(pool, object, *meta)?.0);
                Ok(())
            }
            PinnedValue::Backed(record) => {
                let (bytes, len) = (record.object, record.meta.block_len);
                visit(match record.codec() {
                    None => EncodedBlock::Raw { bytes },
                    Some(codec) => EncodedBlock::Compressed { codec: &codec.identity, bytes, len },
                });
                Ok(())
            }
            PinnedValue::Large(large) => large.parts.iter().try_for_each(|part| {
                self.with_pinned_part(part, backoff, |value, backoff| {
                    self.show(&value, visit, backoff)
                })
            }),
        }
    }
}
