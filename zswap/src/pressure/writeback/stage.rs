//! Choosing cold blocks by the clock's hand, and copying them into a segment.

use std::hash::{BuildHasher, Hash};

use zpool_core::internal::prefetch;
use zpool_manager::PoolRef;

use super::WritebackBatch;
use super::batch::StagedBlock;
use crate::backing::record::record_len;
use crate::index::clock::{Coldest, EvictionAdvice};
use crate::index::shard::{Shard, ValueRef, equals_itself};
use crate::index::table::BucketId;
use crate::index::tiered::OnCold;
use crate::store::Store;
use crate::value::checksum::checksum;
use crate::value::meta::ObjectMeta;
use crate::value::pooled_object::{PinnedObject, pin};
use crate::value::tier_place::{CodecNumber, PlaceParts};
use crate::value::{Value, ValueId};

/// Blocks that are pinned while a shard is locked once.
const PINS: usize = 32;

/// Cache lines of each object that are prefetched while others are chosen.
const LINES: usize = 32;

/// Turns of the hand without a block to write, after which there is none: heat goes after 3, and
/// some blocks cool at every second one.
const FRUITLESS_TURNS: usize = 8;

/// A block that was chosen.
struct ChosenBlock<'p> {
    hash: u64,
    seen: ValueId,
    pool: &'p PoolRef,
    object: PinnedObject<'p>,
    meta: ObjectMeta,
}

/// Blocks that one step of the hand has chosen.
struct ColdChoice<'p> {
    blocks: [Option<ChosenBlock<'p>>; PINS],
    /// Blocks that the tier had a clean copy of, and which their entries do not need any more.
    clean: [Option<Value>; PINS],
    pinned: usize,
    cleaned: usize,
    /// Bytes of the segment that are left.
    room: usize,
    is_full: bool,
}

impl ColdChoice<'_> {
    fn new(room: usize) -> Self {
        ColdChoice {
            blocks: [const { None }; PINS],
            clean: [const { None }; PINS],
            pinned: 0,
            cleaned: 0,
            room,
            is_full: false,
        }
    }
}

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Fills the segment with cold blocks. Blocks with a clean copy leave memory at once.
    pub(super) fn stage_cold(&self, batch: &mut WritebackBatch<'_, '_>) {
        let shards = self.index().shards();
        // Shards that the hand has passed since it has found something, and since the first block.
        let (mut fruitless, mut since_first) = (0, 0);
        while fruitless <= FRUITLESS_TURNS * shards {
            let mut choice = ColdChoice::new(batch.staged.room(PINS));
            let eviction = self.eviction();
            let coldest = self.index().pass_cold(
                eviction.keep_compressible,
                |key| eviction.advise(key),
                |shard, at, advice| self.choose_cold(batch, &mut choice, shard, at, advice),
            );
            let found = choice.pinned + choice.cleaned > 0;
            let is_full = choice.is_full;
            self.stage_chosen(batch, choice);
            match coldest {
                Coldest::Taken((key, value)) => {
                    batch.freed += self.cost(&value);
                    // Otherwise the advice called it worthless, and its segment is still there.
                    if matches!(value, Value::Backed(place) if !batch.tier.is_current(place)) {
                        batch.tier.counters.lost_dropped.add(1);
                    }
                    self.notify_listener((key, value));
                }
                Coldest::End | Coldest::Empty => {
                    fruitless += 1;
                    since_first += usize::from(!batch.blocks.is_empty());
                    if since_first == shards {
                        since_first = 0;
                        batch.note_turn();
                    }
                }
                Coldest::Warm | Coldest::Pinned => {}
            }
            if found {
                fruitless = 0;
            }
            if is_full {
                break;
            }
        }
    }

    /// Decides what becomes of a cold entry under the hand, in its locked shard.
    fn choose_cold<'p>(
        &self,
        batch: &WritebackBatch<'_, 'p>,
        choice: &mut ColdChoice<'p>,
        shard: &mut Shard<K>,
        at: BucketId,
        advice: EvictionAdvice,
    ) -> OnCold {
        if choice.pinned == PINS || choice.cleaned == PINS {
            return OnCold::Stop;
        }
        let evicts = self.eviction().evicts();
        if advice == EvictionAdvice::AtOnce && evicts {
            return OnCold::Take;
        }
        let leaving = batch.leaving.as_ref().map(|leaving| leaving.id);
        if let Some(old) = shard.exchange_for_clean_copy(at, leaving) {
            choice.clean[choice.cleaned] = Some(old);
            choice.cleaned += 1;
            return OnCold::Pass;
        }
        let Some(key) = shard.key_at(at) else { return OnCold::Pass };
        match shard.found(at) {
            // A key that does not equal itself is found by its value, in memory only.
            Some(ValueRef::Pooled { handle, pool, meta }) if equals_itself(key) => {
                let len = record_len(meta.object_len, batch.tier.segments.unit());
                if len > choice.room {
                    choice.is_full = true;
                    return OnCold::Stop;
                }
                let hash = self.hash(key);
                if batch.earlier.binary_search(&hash).is_ok() {
                    return OnCold::Pass;
                }
                let seen = ValueId::Pooled { pool: pool.id(), handle: handle.id() };
                let Some(pool) = batch.sources.hold(pool) else { return OnCold::Pass };
                let Ok(object) = pin(pool, handle) else { return OnCold::Pass };
                prefetch(&object, LINES);
                choice.blocks[choice.pinned] = Some(ChosenBlock { hash, seen, pool, object, meta });
                choice.pinned += 1;
                choice.room -= len;
                OnCold::Pass
            }
            Some(ValueRef::Backed(place)) if !shard.is_current(place) => OnCold::Take,
            Some(ValueRef::Large(_)) if evicts => OnCold::Take,
            _ => OnCold::Pass,
        }
    }

    /// Copies chosen blocks into the segment, and frees those that need no copy.
    fn stage_chosen<'p>(&self, batch: &mut WritebackBatch<'_, 'p>, choice: ColdChoice<'p>) {
        for old in choice.clean.into_iter().flatten() {
            batch.freed += self.memory_cost(&old);
            batch.tier.counters.put.add(1);
            batch.tier.counters.bytes_put.add(old.object_len() as u64);
            batch.tier.counters.put_clean.add(1);
            self.free(old);
        }
        for mut chosen in choice.blocks.into_iter().flatten() {
            if let Some(staged) = self.stage_block(batch, &mut chosen) {
                let ChosenBlock { hash, seen, object, .. } = chosen;
                batch.blocks.push(StagedBlock { hash, seen, object, place: staged });
            } else {
                self.unpin(&mut chosen.object);
            }
        }
    }

    /// Copies a block into the segment. Returns where it is.
    fn stage_block<'p>(
        &self,
        batch: &mut WritebackBatch<'_, 'p>,
        chosen: &mut ChosenBlock<'p>,
    ) -> Option<PlaceParts> {
        let ChosenBlock { hash, pool, object, meta, .. } = chosen;
        // An object that does not have its length would give other bytes than the block.
        if object.len() != meta.object_len {
            return None;
        }
        let codec = if meta.raw { CodecNumber::RAW } else { batch.codecs.number(pool)? };
        // With checksums the one of the store: damage in memory is found when the record is read.
        let sum = match self.encode_options().checksums {
            true => meta.checksum,
            false => checksum(object, meta.block_len),
        };
        let offset = batch.staged.push(*hash, sum, object)?;
        Some(PlaceParts {
            segment: batch.staged.id(),
            offset,
            block_len: meta.block_len,
            object_len: meta.object_len,
            codec,
        })
    }
}
