//! The codecs that records of a tier were compressed with, by number.
//!
//! A record outlives the pool that its object was in, which may be retired long before the record
//! goes. So the table keeps what decoding needs: the compressor, with contexts of its own. A codec
//! leaves the table when no record uses it.
//!
//! Entries count their records here under their shard's lock. A codec is dropped by the writer, and
//! under no lock: its destructor is a plug-in's.

use std::sync::Arc;

use zpool_core::compress::Codec;
use zpool_core::internal::sync::Mutex;
use zpool_core::internal::sync::atomic::{AtomicUsize, Ordering};
use zpool_core::internal::{Foreign, catch};
use zpool_core::spec::Component;
use zpool_manager::Pool;

use crate::value::tier_place::CodecNumber;

/// Codecs that a tier knows at a time.
const SLOTS: usize = 64;
const _: () = assert!(SLOTS <= CodecNumber::MAX, "every number fits a place");

/// A codec in the table.
#[derive(Debug)]
pub(crate) struct TierCodec {
    /// The compressor in canonical form.
    pub(crate) identity: Component,
    pub(crate) codec: Foreign<Codec>,
}

/// The table.
#[derive(Debug)]
pub(crate) struct TierCodecs {
    slots: Box<[CodecSlot]>,
}

#[derive(Debug, Default)]
struct CodecSlot {
    /// References of entries, and of a batch that is being written.
    records: AtomicUsize,
    codec: Mutex<Option<Arc<TierCodec>>>,
}

impl TierCodecs {
    pub(crate) fn new() -> TierCodecs {
        TierCodecs { slots: (0..SLOTS).map(|_| CodecSlot::default()).collect() }
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }

    /// Returns how many codecs there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.iter().filter(|slot| slot.codec.lock().is_some()).count()
    }

    /// Returns the codec of a number that an entry has. The entry's shard is locked.
    pub(crate) fn get(&self, number: CodecNumber) -> Option<Arc<TierCodec>> {
        self.slots[number.slot()?].codec.lock().clone()
    }

    /// Counts one more record of a codec that has some.
    #[inline]
    pub(crate) fn acquire(&self, number: CodecNumber) {
        if let Some(slot) = number.slot() {
            // Relaxed: the caller has a reference already, so the codec stays.
            self.slots[slot].records.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts one record less.
    #[inline]
    pub(crate) fn release(&self, number: CodecNumber) {
        if let Some(slot) = number.slot() {
            // Release: pairs with the Acquire in `drop_unused`, which comes after.
            self.slots[slot].records.fetch_sub(1, Ordering::Release);
        }
    }

    /// Returns the number of the codec of `pool`, and counts a reference to it. Adds the codec if
    /// it is not there. `None` if there are too many, or if the compressor panics.
    pub(crate) fn acquire_for(&self, pool: &Pool) -> Option<CodecNumber> {
        let identity = &pool.spec().compressor;
        let is_it = |codec: &Option<Arc<TierCodec>>| {
            codec.as_ref().is_some_and(|codec| codec.identity == *identity)
        };
        for (number, slot) in self.slots.iter().enumerate() {
            let codec = slot.codec.lock();
            if is_it(&codec) {
                // Under the lock, which `drop_unused` takes before it looks.
                slot.records.fetch_add(1, Ordering::Relaxed);
                return Some(CodecNumber::of_slot(number));
            }
        }
        // There is one writer, so no other thread adds it meanwhile.
        let codec = Foreign::new(catch(|| pool.decoder())?);
        let new = Arc::new(TierCodec { identity: identity.clone(), codec });
        let free = self.slots.iter().position(|slot| slot.codec.lock().is_none())?;
        let slot = &self.slots[free];
        let mut codec = slot.codec.lock();
        slot.records.fetch_add(1, Ordering::Relaxed);
        *codec = Some(new);
        Some(CodecNumber::of_slot(free))
    }

    /// Drops the codecs that no record uses.
    pub(crate) fn drop_unused(&self) {
        for slot in &self.slots {
            let unused = {
                let mut codec = slot.codec.lock();
                // Acquire: pairs with the Release of the last record. Nothing but `acquire_for`,
                // under this lock, counts from 0.
                let unused = codec.is_some() && slot.records.load(Ordering::Acquire) == 0;
                if unused { codec.take() } else { None }
            };
            drop(unused);
        }
    }

    /// Frees idle contexts. Returns their bytes.
    pub(crate) fn free_idle_contexts(&self) -> usize {
        let codec = |slot: &CodecSlot| slot.codec.lock().clone();
        let codecs = self.slots.iter().filter_map(codec);
        codecs.map(|codec| codec.codec.free_idle_contexts(false)).sum()
    }
}
