//! Blocks that are in the tier below memory: reading them, and their return to memory.
//!
//! ```text
//!   under the shard's lock     without any lock                    under the shard's lock
//!   find ─► copy the place ─►  read ─► check ─► decode          ─► [loaded twice: exchange for a
//!           keep the codec      └ lost: remove, a miss                copy in the current pool]
//!                               └ dropped meanwhile: look up again
//! ```
//!
//! A place is never given out twice, so an entry that still has it has not changed.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use zpool_core::{NoBlock, might_block};

use crate::backing::codecs::TierCodec;
use crate::backing::read::{ReadBuffer, ReadError};
use crate::index::shard::{Exchanged, Shard};
use crate::ops::load::Scratch;
use crate::store::Store;
use crate::value::access::Access;
use crate::value::destination::Destination;
use crate::value::error::Error;
use crate::value::meta::ObjectMeta;
use crate::value::pooled_object::{PooledObject, insert};
use crate::value::tier_place::{CodecNumber, TierPlace};
use crate::value::{PooledBlock, Value, ValueId};
use zpool_core::compress::CodecError;

/// Uses within a turn of the clock from which a block returns to memory.
const OFTEN: u32 = 2;

/// An entry in the tier, as it was found.
#[derive(Debug)]
pub(crate) struct BackedEntry {
    place: TierPlace,
    codec: Option<Arc<TierCodec>>,
    /// It is worth returning to memory.
    pub(crate) is_hot: bool,
}

/// A record that was read and checked.
#[derive(Debug)]
pub(crate) struct BackedRecord<'r> {
    place: TierPlace,
    pub(crate) object: &'r [u8],
    /// `None` if the object is the block itself.
    codec: Option<&'r TierCodec>,
    pub(crate) meta: ObjectMeta,
}

/// Result of reading a record.
#[derive(Debug)]
pub(crate) enum BackedRead<'r> {
    Record(BackedRecord<'r>),
    /// It is lost, and its entry was removed.
    Lost,
    /// The entry has another value by now, or is gone: to be looked up again.
    Changed,
}

impl BackedRecord<'_> {
    pub(crate) fn is_raw(&self) -> bool {
        self.codec.is_none()
    }

    /// Returns the identity of the codec; `None` if the object is the block itself.
    pub(crate) fn codec(&self) -> Option<&TierCodec> {
        self.codec
    }

    /// Writes the block into `block`, which is as long.
    pub(crate) fn decode(&self, block: &mut [u8]) -> Result<(), Error> {
        match self.codec {
            None if self.object.len() == block.len() => {
                block.copy_from_slice(self.object);
                Ok(())
            }
            None => Err(Error::Codec(CodecError::Corrupt)),
            Some(codec) => codec.codec.decompress(self.object, block).map_err(Error::Codec),
        }
    }
}

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Notes what reading a record takes, under the shard's lock.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] in a no-block section. Nothing is counted then.
    #[cold]
    pub(crate) fn note_backed(
        &self,
        shard: &mut Shard<K>,
        table_hash: u64,
        place: TierPlace,
        access: Access,
    ) -> Result<BackedEntry, Error> {
        if NoBlock::is_active() || access == Access::LoadResident {
            shard.stats.uncount_hit(access);
            return Err(Error::WouldBlock);
        }
        let heat = || {
            let at = shard.bucket_of_value(table_hash, ValueId::Backed(place));
            at.map_or(0, |at| shard.heat_at(at))
        };
        let is_hot = access == Access::Load && heat() >= OFTEN;
        Ok(BackedEntry { place, codec: shard.codec_of(place), is_hot })
    }

    /// Reads and checks a record. If it is lost, removes its entry and counts a miss.
    #[inline(never)]
    pub(crate) fn read_backed<'r>(
        &self,
        hash: u64,
        access: Access,
        found: &'r BackedEntry,
        buffer: &'r mut ReadBuffer,
    ) -> Result<BackedRead<'r>, Error> {
        might_block("reading from the tier");
        let Some(tier) = self.index().tier() else { return Ok(BackedRead::Lost) };
        let place = found.place.unpack();
        let error = match tier.read_record(&place, hash, buffer) {
            Ok((object, checksum)) if found.codec.is_some() || place.codec == CodecNumber::RAW => {
                let meta = ObjectMeta {
                    block_len: place.block_len,
                    object_len: place.object_len,
                    raw: found.codec.is_none(),
                    checksum,
                };
                let (place, codec) = (found.place, found.codec.as_deref());
                return Ok(BackedRead::Record(BackedRecord { place, object, codec, meta }));
            }
            Ok(_) => ReadError::Corrupt,
            Err(error) => error,
        };
        match error {
            ReadError::Failed(message) => {
                tier.counters.read_errors.add(1);
                Err(Error::TierFailed(message))
            }
            ReadError::OutOfMemory { needed } => Err(Error::BufferOutOfMemory { needed }),
            lost => Ok(self.remove_lost(hash, access, found.place, &lost)),
        }
    }

    /// Removes the entry of a record that is lost, if it still has that. A hit was counted for it.
    #[cold]
    fn remove_lost(
        &self,
        hash: u64,
        access: Access,
        place: TierPlace,
        cause: &ReadError,
    ) -> BackedRead<'static> {
        let item = self.index().edit(hash, |shard, hash| {
            shard.stats.uncount_hit(access);
            let item = shard.remove_lost(hash, place);
            if item.is_some() {
                shard.stats.count_miss(access);
            }
            item
        });
        let Some(item) = item else { return BackedRead::Changed };
        if let Some(tier) = self.index().tier() {
            let counters = &tier.counters;
            match cause {
                ReadError::Gone => counters.lost_gone.add(1),
                ReadError::Dropped => counters.lost_dropped.add(1),
                _ => counters.lost_corrupt.add(1),
            }
        }
        self.notify_listener(item);
        BackedRead::Lost
    }

    /// Returns a block to memory, if there is room, and keeps its record as a clean copy. What
    /// goes wrong changes nothing.
    #[inline(never)]
    pub(crate) fn readmit(&self, hash: u64, record: &BackedRecord<'_>) {
        let Some(pool) = self.manager().current() else { return };
        if !self.has_room_to_readmit(&pool) {
            return;
        }
        let has_codec = |codec: &TierCodec| codec.identity == pool.spec().compressor;
        let new = if record.codec.is_none_or(has_codec) {
            // The index has a place for checksums only if the store checks them.
            let checksum = if self.encode_options().checksums { record.meta.checksum } else { 0 };
            insert(&pool, record.object)
                .map(|handle| (handle, ObjectMeta { checksum, ..record.meta }))
        } else {
            let mut scratch = Scratch::take();
            scratch.0.room(record.meta.block_len).and_then(|block| {
                record.decode(block)?;
                let raw = self.encode_options().looks_incompressible(block);
                let encoded = self.encode_as(raw, usize::MAX, &pool, pool.codec(), block)?;
                Ok(encoded.expect("any length is within this bound"))
            })
        };
        let Ok((handle, meta)) = new else { return };
        let new = Value::Pooled(PooledBlock { object: PooledObject::new(pool, handle), meta });
        let added = self.cost(&new);
        match self.index().readmit(hash, record.place, new) {
            Ok(Exchanged { old, unused_ref }) => {
                drop(unused_ref);
                self.free(old);
                self.charge_for_readmission(added);
                if let Some(tier) = self.index().tier() {
                    tier.counters.readmitted.add(1);
                }
            }
            Err(new) => self.free(new),
        }
    }
}
