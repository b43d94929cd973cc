//! Loads of a part of a value.
//!
//! ```text
//!   blocks    |   0   |   1   |   2   |   3   |      a value of four
//!   wanted            |  ▒▒▒▒▒▒▒▒▒▒▒▒|
//!   decoded              1: into scratch memory, its end is copied
//!                                2: into the caller's buffer
//! ```

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};

use crate::index::equivalent::Equivalent;
use crate::ops::load::Scratch;
use crate::ops::pinned::PinnedValue;
use crate::store::Store;
use crate::value::access::Access;
use crate::value::backoff::Backoff;
use crate::value::destination::Destination;
use crate::value::error::Error;
use crate::value::same_filled;

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Copies the bytes of a value from `offset` on into `buffer`, as many as there are and fit,
    /// and returns their number: 0 if the value ends before `offset`. Returns `None` if there is
    /// nothing under `key`. Counts as a use.
    ///
    /// If the value is longer than a block, only the blocks that the range touches are
    /// decompressed. A block that it touches in part is decompressed whole, in a buffer that the
    /// thread keeps.
    ///
    /// # Errors
    ///
    /// As for [`load_with`](Self::load_with). The contents of `buffer` are unspecified then.
    ///
    /// # Example
    ///
    /// ```
    /// use zswap::Store;
    ///
    /// let store = Store::builder().max_value_len(1 << 20).build()?;
    /// let log: Vec<u8> = (0..50_000u32).flat_map(u32::to_le_bytes).collect();
    /// store.store("log", &log)?;
    /// let mut line = [0; 4];
    /// assert_eq!(store.load_range("log", 4 * 12_345, &mut line)?, Some(4));
    /// assert_eq!(u32::from_le_bytes(line), 12_345);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "pread")]
    pub fn load_range<Q>(
        &self,
        key: &Q,
        offset: usize,
        buffer: &mut [u8],
    ) -> Result<Option<usize>, Error>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.load_range_if(key, offset, buffer, |_| true)
    }

    /// Loads a part of a value, if `admit` accepts the stored key: see
    /// [`load_range`](Self::load_range) and [`load_if`](Self::load_if).
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.store(7, "a value")?;
    /// let mut buffer = [0; 5];
    /// assert_eq!(store.load_range_if(&7, 2, &mut buffer, |key| *key < 10)?, Some(5));
    /// assert_eq!(&buffer, b"value");
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`load_range`](Self::load_range).
    ///
    /// # Concurrency
    ///
    /// As for [`load_if`](Self::load_if).
    pub fn load_range_if<Q>(
        &self,
        key: &Q,
        offset: usize,
        buffer: &mut [u8],
        admit: impl FnMut(&K) -> bool,
    ) -> Result<Option<usize>, Error>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.look_up_if(key, Access::Load, admit, |value, backoff| {
            self.decode_range(value, offset, buffer, backoff)
        })
    }
}

impl<K, S> Store<K, S> {
    /// Writes the bytes of a value from `offset` on into `buffer`. Returns how many.
    fn decode_range(
        &self,
        value: &PinnedValue<'_, '_>,
        offset: usize,
        buffer: &mut [u8],
        backoff: &mut Backoff,
    ) -> Result<usize, Error> {
        let (len, room) = (value.len(), buffer.len());
        let wanted = len.saturating_sub(offset).min(room);
        let buffer = &mut buffer[..wanted];
        if wanted == 0 {
            return Ok(0);
        }
        if wanted == len {
            self.decode_value(value, buffer, backoff)?;
            return Ok(wanted);
        }
        match value {
            PinnedValue::SameFilled { word, .. } => {
                // The word, rotated as if the block began here.
                same_filled::fill(buffer, word.rotate_right(8 * (offset % 8) as u32));
            }
            PinnedValue::Pooled { object, meta, .. } if meta.raw => {
                self.check_object(object, *meta)?;
                buffer.copy_from_slice(&object[offset..][..wanted]);
            }
            PinnedValue::Pooled { pool, object, meta } => {
                let mut scratch = Scratch::take();
                let block = scratch.0.room(len)?;
                self.decode(pool, object, *meta, block)?;
                buffer.copy_from_slice(&block[offset..][..wanted]);
            }
            PinnedValue::Backed(record) if record.is_raw() => {
                buffer.copy_from_slice(&record.object[offset..][..wanted]);
            }
            PinnedValue::Backed(record) => {
                let mut scratch = Scratch::take();
                let block = scratch.0.room(len)?;
                record.decode(block)?;
                buffer.copy_from_slice(&block[offset..][..wanted]);
            }
            PinnedValue::Large(large) => {
                let (mut skip, mut filled) = (offset, 0);
                for part in &large.parts {
                    if filled < wanted && skip < part.len() {
                        let rest = &mut buffer[filled..];
                        filled += self.with_pinned_part(part, backoff, |part, backoff| {
                            self.decode_range(&part, skip, rest, backoff)
                        })?;
                    }
                    skip = skip.saturating_sub(part.len());
                }
            }
        }
        Ok(wanted)
    }
}
