//! Moving one entry: its value is copied to another pool, then exchanged for the old one.
//!
//! ```text
//!   under the shard's lock      without any lock                        under the shard's lock
//!   choose ─► clone the key ─►  same codec? copy the object : decode ─►  still the value that was
//!             pin the object    and encode as a store would              seen? exchange : leave it
//!                                                                        unlock ─► unpin ─► free
//! ```
//!
//! The pin is held until after the exchange. Without it, the allocator may give the identity that
//! was seen to a newer object, which would be exchanged for older bytes.

use std::hash::{BuildHasher, Hash};

use bumpalo::Bump;
use zpool_core::PoolError;
use zpool_core::compress::CodecError;
use zpool_core::internal::TryArc;
use zpool_manager::PoolRef;

use crate::index::shard::Exchanged;
use crate::moving::batch::{ChosenEntry, ChosenValue};
use crate::ops::pinned::PinnedValue;
use crate::stats::thrash::Departure;
use crate::store::Store;
use crate::value::backoff::{Backoff, is_too_many_readers};
use crate::value::error::Error;
use crate::value::meta::ObjectMeta;
use crate::value::pooled_object::{PinnedObject, PooledObject, insert};
use crate::value::{LargeValue, PooledBlock, Value};

/// The outcome for one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relocated {
    /// It is in the other pool.
    Moved {
        /// At least one block was compressed again.
        recompressed: bool,
        bytes_before: usize,
        bytes_after: usize,
    },
    /// It was replaced or removed meanwhile.
    Changed,
    /// It stays where it is.
    Kept(KeptReason),
}

/// The reason why an entry stays where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeptReason {
    /// A block has too many readers.
    Busy,
    /// Its pool or its codec did not return its bytes.
    Unreadable,
    /// The other pool or its codec refused them.
    Refused,
    /// There is no memory for a copy.
    OutOfMemory,
    /// The copy would not be as much smaller as was asked for.
    NotSmaller,
}

/// The target of a move, and its condition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Move<'t> {
    pub(crate) target: &'t PoolRef,
    /// The objects have to become smaller by this part of them, or the entry stays.
    pub(crate) min_gain: Option<usize>,
}

impl<'t> Move<'t> {
    /// Returns an unconditional move.
    pub(crate) fn to(target: &'t PoolRef) -> Move<'t> {
        Move { target, min_gain: None }
    }

    /// Returns the most bytes that the copies of objects of `len` bytes may have.
    fn max_len(&self, len: usize) -> usize {
        self.min_gain.map_or(usize::MAX, |part| len - len.div_ceil(part))
    }
}

/// A copy of a value.
struct CopiedValue {
    value: Value,
    recompressed: bool,
}

impl CopiedValue {
    /// Returns the copy if its objects have at most `max_len` bytes. Frees it otherwise.
    fn within(self, max_len: usize) -> Result<CopiedValue, KeptReason> {
        if self.value.object_len() <= max_len { Ok(self) } else { Err(KeptReason::NotSmaller) }
    }
}

/// Memory for the block that is being compressed again.
#[derive(Debug)]
pub(crate) struct BlockBuffer<'a> {
    arena: &'a Bump,
    bytes: &'a mut [u8],
}

impl<'a> BlockBuffer<'a> {
    pub(crate) fn new(arena: &'a Bump) -> BlockBuffer<'a> {
        BlockBuffer { arena, bytes: &mut [] }
    }

    /// Returns a buffer of `len` bytes, of unspecified content.
    fn of(&mut self, len: usize) -> Result<&mut [u8], KeptReason> {
        if self.bytes.len() < len {
            let grown = self.arena.try_alloc_slice_fill_copy(len, 0);
            self.bytes = grown.map_err(|_| KeptReason::OutOfMemory)?;
        }
        Ok(&mut self.bytes[..len])
    }
}

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Moves a chosen entry.
    pub(crate) fn relocate(
        &self,
        chosen: ChosenEntry<'_, K>,
        to: Move<'_>,
        buffer: &mut BlockBuffer<'_>,
    ) -> Relocated {
        let ChosenEntry { key, seen, mut value } = chosen;
        let copy = match &mut value {
            ChosenValue::Pooled { pool, object, meta } => {
                let max_len = to.max_len(meta.object_len);
                self.copy_block(pool, object, *meta, to.target, max_len, buffer)
            }
            ChosenValue::Large(large) => self
                .copy_large(large, to.target, buffer)
                .and_then(|copy| copy.within(to.max_len(large.object_len()))),
        };
        let (new, recompressed) = match copy {
            Ok(CopiedValue { value, recompressed }) => (value, recompressed),
            Err(KeptReason::NotSmaller) => {
                let hash = self.hash(&key);
                self.index().edit(hash, |shard, hash| shard.keep_idle(hash, &key, seen));
                return Relocated::Kept(KeptReason::NotSmaller);
            }
            Err(reason) => return Relocated::Kept(reason),
        };
        let bytes_after = new.object_len();
        // The value is pinned, so that no other value can have the identity that was seen.
        let hash = self.hash(&key);
        let exchanged = self.index().exchange_seen(hash, &key, seen, new);
        // Unpinned before the old object is freed, so that an allocator whose `free` waits for
        // readers does not wait for this thread (B20).
        match value {
            ChosenValue::Pooled { mut object, .. } => self.unpin(&mut object),
            ChosenValue::Large(large) => drop(large),
        }
        match exchanged {
            Ok(Exchanged { old, unused_ref }) => {
                drop(unused_ref);
                if let Some(meter) = self.index().meter()
                    && to.min_gain.is_some()
                {
                    meter.note(hash, Departure::Cold);
                }
                let bytes_before = old.object_len();
                self.free(old);
                Relocated::Moved { recompressed, bytes_before, bytes_after }
            }
            Err(refused) => {
                self.free(refused.new);
                match refused.changed {
                    true => Relocated::Changed,
                    false => Relocated::Kept(KeptReason::OutOfMemory),
                }
            }
        }
    }
}

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Copies a value, or a block of a large one, to `target`.
    fn copy_value(
        &self,
        value: PinnedValue<'_, '_>,
        target: &PoolRef,
        buffer: &mut BlockBuffer<'_>,
    ) -> Result<CopiedValue, KeptReason> {
        match value {
            PinnedValue::SameFilled { word, len } => {
                Ok(CopiedValue { value: Value::SameFilled { word, len }, recompressed: false })
            }
            PinnedValue::Pooled { pool, object, meta } => {
                self.copy_block(pool, object, meta, target, usize::MAX, buffer)
            }
            PinnedValue::Large(large) => self.copy_large(&large, target, buffer),
            PinnedValue::Backed(_) => unreachable!("the blocks of a long value stay in memory"),
        }
    }

    /// Copies an object as it is, if both pools have one codec. Otherwise decodes it, and encodes
    /// the block as a store would. Makes no copy of more than `max_len` bytes.
    fn copy_block(
        &self,
        pool: &PoolRef,
        object: &PinnedObject<'_>,
        meta: ObjectMeta,
        target: &PoolRef,
        max_len: usize,
        buffer: &mut BlockBuffer<'_>,
    ) -> Result<CopiedValue, KeptReason> {
        let same_codec = pool.spec().compressor == target.spec().compressor;
        let (handle, meta) = if same_codec {
            if meta.object_len > max_len {
                return Err(KeptReason::NotSmaller);
            }
            self.check_object(object, meta).map_err(unreadable)?;
            (insert(target, object).map_err(refused)?, meta)
        } else {
            let block = buffer.of(meta.block_len)?;
            self.decode(pool, object, meta, block).map_err(unreadable)?;
            let raw = self.encode_options().looks_incompressible(block);
            let encoded = self.encode_as(raw, max_len, target, target.codec(), block);
            encoded.map_err(refused)?.ok_or(KeptReason::NotSmaller)?
        };
        let object = PooledObject::new(target.clone(), handle);
        let value = Value::Pooled(PooledBlock { object, meta });
        Ok(CopiedValue { value, recompressed: !same_codec })
    }

    /// Copies all blocks of a value, even those that are in `target` already, because each has one
    /// owner.
    fn copy_large(
        &self,
        large: &LargeValue,
        target: &PoolRef,
        buffer: &mut BlockBuffer<'_>,
    ) -> Result<CopiedValue, KeptReason> {
        let mut parts = Vec::new();
        parts.try_reserve_exact(large.parts.len()).map_err(|_| KeptReason::OutOfMemory)?;
        let (mut backoff, mut recompressed) = (Backoff::default(), false);
        for part in &large.parts {
            let copied = self.with_pinned_part(part, &mut backoff, |value, _| {
                Ok(self.copy_value(value, target, buffer))
            });
            let copy = copied.map_err(unreadable)??;
            recompressed |= copy.recompressed;
            parts.push(copy.value);
        }
        // A single block stands in a large value only where its pool had no number in the shard.
        let value = match parts.pop() {
            Some(part) if parts.is_empty() => part,
            last => {
                parts.extend(last);
                let large = LargeValue { parts: parts.into_boxed_slice(), len: large.len };
                TryArc::try_new(large).map(Value::Large).map_err(|_| KeptReason::OutOfMemory)?
            }
        };
        Ok(CopiedValue { value, recompressed })
    }
}

/// Returns the reason to keep an entry whose bytes could not be read.
fn unreadable(error: Error) -> KeptReason {
    match error {
        error if is_too_many_readers(&error) => KeptReason::Busy,
        error if is_out_of_memory(&error) => KeptReason::OutOfMemory,
        _ => KeptReason::Unreadable,
    }
}

/// Returns the reason to keep an entry whose copy could not be stored.
fn refused(error: Error) -> KeptReason {
    if is_out_of_memory(&error) { KeptReason::OutOfMemory } else { KeptReason::Refused }
}

fn is_out_of_memory(error: &Error) -> bool {
    matches!(error, Error::Pool(PoolError::OutOfMemory) | Error::Codec(CodecError::OutOfMemory))
}
