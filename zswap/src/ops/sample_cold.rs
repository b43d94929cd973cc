//! A sample of the cold blocks, to train a codec for the cold pool on.
//!
//! ```text
//!   count the cold blocks ─► walk again: under the shard's lock, pin a block whenever the sample
//!                            lags behind its share of those passed ─► unlock, decode, unpin
//! ```
//!
//! No key is cloned or looked up, so a block cannot be replaced by another before it is read.

use zpool_core::internal::TryArc;
use zpool_manager::{Pool, PoolRef};

use crate::index::packed_entry::EntryState;
use crate::index::shard::ValueRef;
use crate::index::table::Position;
use crate::ops::sample::add_block;
use crate::store::Store;
use crate::value::backoff::{Backoff, is_too_many_readers};
use crate::value::error::Error;
use crate::value::meta::ObjectMeta;
use crate::value::pooled_object::{PinnedObject, pin};
use crate::value::source_pools::SourcePools;
use crate::value::{LargeValue, Value};

/// A value with cold blocks that stays readable.
enum ColdValue<'p> {
    Block { pool: &'p PoolRef, object: PinnedObject<'p>, meta: ObjectMeta },
    Large { large: TryArc<LargeValue>, is_idle: bool },
}

/// Spreads a sample over the cold blocks.
struct SampleShare {
    /// Blocks of the sample, at most as many as there are.
    wanted: usize,
    cold: usize,
    passed: usize,
}

impl SampleShare {
    /// Returns whether a sample of this many blocks has less than its share of those passed.
    fn lags(&self, taken: usize) -> bool {
        let [taken, wanted, cold, passed] =
            [taken, self.wanted, self.cold, self.passed].map(|count| count as u128);
        taken < wanted && taken * cold < passed * wanted
    }
}

impl<K, S> Store<K, S> {
    /// Returns copies of up to `count` cold blocks, spread over the store: for training a codec for
    /// the [cold pool](crate::StoreBuilder::cold) on what that pool keeps.
    ///
    /// A block is cold if one of these holds:
    ///
    /// - It is in the cold pool, or in one that was.
    /// - The [heat clock](Self::turn_heat_clock) found it unused when it came by last, and it was
    ///   not used since: it goes to the cold pool next, or stayed because it would not become
    ///   smaller by 1/8 there.
    ///
    /// So the sample is empty before the clock has turned. Same-filled blocks and those in a
    /// [tier](crate::StoreBuilder::tier) are left out, because no pool keeps them. The blocks of a
    /// longer value count each.
    ///
    /// Nothing counts as a use or a peek, and no heat changes. Keys are neither cloned nor
    /// compared. Blocks that become cold or change meanwhile may or may not be in the sample, and
    /// one with too many readers is left out. The copies take `count` times the block size.
    ///
    /// [`switching`](crate::docs::switching) shows how to train a dictionary on the sample, and to
    /// use it if it pays.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// use std::time::Duration;
    ///
    /// // A turn takes an hour, so that the store's own clock does not interfere.
    /// let store = zswap::Store::<u64>::builder()
    ///     .cold("zsmalloc(chain=8)+lz4".parse()?)
    ///     .cold_turn(Duration::from_secs(3600))
    ///     .build()?;
    /// for key in 0..100 {
    ///     store.store(key, format!("{key:>4000}"))?;
    /// }
    /// assert!(store.sample_cold(10)?.is_empty(), "the clock has not turned");
    /// store.turn_heat_clock();
    /// assert_eq!(store.sample_cold(10)?.len(), 10);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If a block cannot be read, as for [`load_vec`](Self::load_vec).
    ///
    /// # Concurrency
    ///
    /// Walks the index twice, a stretch of a shard at a time, so that no other thread waits long.
    pub fn sample_cold(&self, count: usize) -> Result<Vec<Vec<u8>>, Error> {
        let cold = if count == 0 { 0 } else { self.count_cold_blocks() };
        let mut share = SampleShare { wanted: count.min(cold), cold, passed: 0 };
        let mut blocks = Vec::new();
        for shard in 0..self.index().shards() {
            if blocks.len() == share.wanted {
                break;
            }
            self.sample_cold_in(shard, &mut share, &mut blocks)?;
        }
        Ok(blocks)
    }

    fn count_cold_blocks(&self) -> usize {
        let mut cold = 0;
        for shard in 0..self.index().shards() {
            let mut next = Some(Position::default());
            while let Some(position) = next {
                next = self.index().look(shard, |shard| {
                    shard.walk(position, |_, state, found| {
                        cold += cold_blocks(state, &found);
                        true
                    })
                });
            }
        }
        cold
    }

    /// Adds blocks of one shard to the sample.
    fn sample_cold_in(
        &self,
        shard: usize,
        share: &mut SampleShare,
        blocks: &mut Vec<Vec<u8>>,
    ) -> Result<(), Error> {
        let mut next = Some(Position::default());
        while let Some(position) = next {
            let source = SourcePools::default();
            let mut chosen = None;
            next = self.index().look(shard, |shard| {
                shard.walk(position, |_, state, found| {
                    if chosen.is_some() {
                        return false;
                    }
                    let cold = cold_blocks(state, &found);
                    share.passed += cold;
                    if cold > 0 && share.lags(blocks.len()) {
                        chosen = pin_cold(state, &found, &source);
                    }
                    true
                })
            });
            if let Some(value) = chosen {
                self.copy_cold(value?, share.wanted, blocks)?;
            }
        }
        Ok(())
    }

    /// Adds the cold blocks of a value to the sample, up to `wanted`.
    fn copy_cold(
        &self,
        value: ColdValue<'_>,
        wanted: usize,
        blocks: &mut Vec<Vec<u8>>,
    ) -> Result<(), Error> {
        match value {
            ColdValue::Block { pool, mut object, meta } => {
                let added = add_block(blocks, meta.block_len, |block| {
                    self.decode(pool, &object, meta, block)
                });
                self.unpin(&mut object);
                added?;
            }
            ColdValue::Large { large, is_idle } => {
                let mut backoff = Backoff::default();
                let cold = large.parts.iter().filter(|part| is_cold_part(part, is_idle));
                for part in cold.take(wanted.saturating_sub(blocks.len())) {
                    add_block(blocks, part.len(), |block| {
                        self.with_pinned_part(part, &mut backoff, |value, backoff| {
                            self.decode_value(&value, block, backoff)
                        })
                    })?;
                }
            }
        }
        Ok(())
    }
}

/// Returns the number of cold blocks of a value.
fn cold_blocks(state: EntryState, found: &ValueRef<'_>) -> usize {
    match found {
        ValueRef::Pooled { pool, .. } => usize::from(is_cold(pool, state.is_idle())),
        ValueRef::Large(large) => {
            large.parts.iter().filter(|part| is_cold_part(part, state.is_idle())).count()
        }
        ValueRef::SameFilled { .. } | ValueRef::Backed(_) => 0,
    }
}

fn is_cold_part(part: &Value, is_idle: bool) -> bool {
    matches!(part, Value::Pooled(block) if is_cold(block.object.pool(), is_idle))
}

fn is_cold(pool: &Pool, is_idle: bool) -> bool {
    is_idle || pool.is_for_cold()
}

/// Pins a cold value. Returns `None` if its block has too many readers.
fn pin_cold<'p>(
    state: EntryState,
    found: &ValueRef<'_>,
    source: &'p SourcePools,
) -> Option<Result<ColdValue<'p>, Error>> {
    match *found {
        ValueRef::Pooled { handle, pool, meta } => {
            let pool = source.hold(pool)?;
            match pin(pool, handle) {
                Ok(object) => Some(Ok(ColdValue::Block { pool, object, meta })),
                Err(error) if is_too_many_readers(&error) => None,
                Err(error) => Some(Err(error)),
            }
        }
        ValueRef::Large(large) => {
            let (large, is_idle) = (TryArc::clone(large), state.is_idle());
            Some(Ok(ColdValue::Large { large, is_idle }))
        }
        ValueRef::SameFilled { .. } | ValueRef::Backed(_) => None,
    }
}
