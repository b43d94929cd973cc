//! A batch of entries to move: chosen and pinned under a shard's lock.
//!
//! A list in an arena holds keys, identities and pins, so that a batch makes no heap call per entry
//! (docs/decisions/0040). The arena is reset after each batch.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;
use zpool_core::PoolId;
use zpool_core::internal::{TryArc, prefetch};
use zpool_manager::{Pool, PoolRef};

use crate::index::Index;
use crate::index::shard::ValueRef;
use crate::store::drain_state::MoveCursor;
use crate::value::backoff::is_too_many_readers;
use crate::value::meta::ObjectMeta;
use crate::value::pooled_object::{PinnedObject, pin};
pub(crate) use crate::value::source_pools::SourcePools;
use crate::value::{LargeValue, Value, ValueId};

/// Entries of a batch. Their pins keep a compaction from moving them, so they are few.
pub(crate) const BATCH: usize = 32;

/// Cache lines of each object that are prefetched while others are chosen.
pub(crate) const LINES: usize = 4;

/// An entry to be moved.
#[derive(Debug)]
pub(crate) struct ChosenEntry<'p, K> {
    pub(crate) key: K,
    /// The identity of the value, unique as long as `value` lives.
    pub(crate) seen: ValueId,
    pub(crate) value: ChosenValue<'p>,
}

/// A value that stays readable while it is copied.
#[derive(Debug)]
pub(crate) enum ChosenValue<'p> {
    Pooled { pool: &'p PoolRef, object: PinnedObject<'p>, meta: ObjectMeta },
    Large(TryArc<LargeValue>),
}

/// The list of a batch.
pub(crate) type Batch<'a, 'p, K> = ArenaVec<'a, ChosenEntry<'p, K>>;

/// Makes an empty list with room for a batch, or `None` if memory is refused.
pub(crate) fn new_batch<'a, 'p, K>(arena: &'a Bump) -> Option<Batch<'a, 'p, K>> {
    let mut batch = ArenaVec::new_in(arena);
    batch.try_reserve_exact(BATCH).ok()?;
    Some(batch)
}

/// Result of choosing from the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Entries that were passed over because of too many readers, or because they were unreadable.
    pub(crate) busy: usize,
    pub(crate) unreadable: usize,
    /// The cursor is in the next shard.
    pub(crate) passed_shard: bool,
}

/// Chooses up to `most` entries of the cursor's shard, and moves the cursor past them.
///
/// `is_source` returns true for the pools to take entries from.
pub(crate) fn choose<'p, K: Clone>(
    index: &Index<K>,
    cursor: &mut MoveCursor,
    most: usize,
    is_source: impl Fn(PoolId) -> bool,
    sources: &'p SourcePools,
    batch: &mut Batch<'_, 'p, K>,
) -> Choice {
    let mut choice = Choice { busy: 0, unreadable: 0, passed_shard: false };
    let most = most.min(BATCH);
    let next = index.look(cursor.shard, |shard| {
        if shard.blocks_in(&is_source) == 0 {
            return None;
        }
        shard.walk(cursor.position, |key, _, found| {
            if batch.len() == most {
                return false;
            }
            let seen = found.id();
            let value = match found {
                ValueRef::SameFilled { .. } | ValueRef::Backed(_) => return true,
                ValueRef::Large(large) if large_is_in(large, |pool| is_source(pool.id())) => {
                    ChosenValue::Large(TryArc::clone(large))
                }
                ValueRef::Large(_) => return true,
                ValueRef::Pooled { pool, .. } if !is_source(pool.id()) => return true,
                ValueRef::Pooled { handle, pool, meta } => {
                    // With too many pools the batch ends here.
                    let Some(pool) = sources.hold(pool) else { return false };
                    match pin(pool, handle) {
                        Ok(object) => {
                            prefetch(&object, LINES);
                            ChosenValue::Pooled { pool, object, meta }
                        }
                        Err(error) if is_too_many_readers(&error) => {
                            choice.busy += 1;
                            return true;
                        }
                        Err(_) => {
                            choice.unreadable += 1;
                            return true;
                        }
                    }
                }
            };
            batch.push(ChosenEntry { key: key.clone(), seen, value });
            true
        })
    });
    match next {
        Some(position) => cursor.position = position,
        None => {
            let shard = (cursor.shard + 1) % index.shards();
            *cursor = MoveCursor { shard, ..MoveCursor::default() };
            choice.passed_shard = true;
        }
    }
    choice
}

/// Returns whether a block of a value is in one of these pools.
pub(crate) fn large_is_in(large: &LargeValue, is_source: impl Fn(&Pool) -> bool) -> bool {
    large.parts.iter().any(|part| match part {
        Value::Pooled(block) => is_source(block.object.pool()),
        _ => false,
    })
}

/// Returns an upper bound of the bytes of an entry's copy.
pub(crate) fn entry_bytes(value: &ChosenValue<'_>) -> usize {
    match value {
        ChosenValue::Pooled { meta, .. } => meta.block_len,
        ChosenValue::Large(large) => large.len + large.heap_bytes(),
    }
}

pub(crate) fn batch_bytes<K>(batch: &[ChosenEntry<'_, K>]) -> usize {
    batch.iter().map(|chosen| entry_bytes(&chosen.value)).sum()
}
