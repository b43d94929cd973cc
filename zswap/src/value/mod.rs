//! Values outside the index: on their way into it, or removed from it. They free themselves when
//! they are dropped.

pub(crate) mod access;
pub(crate) mod backoff;
pub(crate) mod checksum;
pub(crate) mod deferred_panic;
pub(crate) mod destination;
pub(crate) mod encoded_block;
pub(crate) mod error;
pub(crate) mod eviction_candidate;
pub(crate) mod incompressible;
pub(crate) mod meta;
pub(crate) mod pooled_object;
pub(crate) mod same_filled;
pub(crate) mod source_pools;
pub(crate) mod tier_place;

use zpool_core::internal::TryArc;
use zpool_core::{HandleId, PoolId};
use zpool_manager::PoolRef;

use crate::value::meta::ObjectMeta;
use crate::value::pooled_object::PooledObject;
use crate::value::tier_place::TierPlace;

/// The largest block size in bytes that a store can be built with.
pub const MAX_BLOCK_SIZE: usize = 262_144;

/// A block, or a value of several.
#[derive(Debug)]
pub(crate) enum Value {
    /// Eight bytes repeated, the first one lowest: in no pool.
    SameFilled { word: u64, len: usize },
    /// In a pool.
    Pooled(PooledBlock),
    /// Several of these, together longer than a block may be.
    Large(TryArc<LargeValue>),
    /// In the tier. The index counts the reference to the record, so there is nothing to free.
    Backed(TierPlace),
}

/// A block in a pool.
#[derive(Debug)]
pub(crate) struct PooledBlock {
    pub(crate) object: PooledObject,
    pub(crate) meta: ObjectMeta,
}

/// A value of several blocks. A load shares ownership of it, so that its objects stay although none
/// of them is pinned yet.
#[derive(Debug)]
pub(crate) struct LargeValue {
    /// In order. Each but the last is as long as a block may be, and none is itself large.
    pub(crate) parts: Box<[Value]>,
    /// Bytes of all parts.
    pub(crate) len: usize,
}

/// Identity of a value, which distinguishes it from a later one under the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValueId {
    /// Equal same-filled blocks are interchangeable.
    SameFilled { word: u64, len: usize },
    /// Unique as long as a guard holds the object: no allocator reuses a pinned object's handle.
    Pooled { pool: PoolId, handle: HandleId },
    /// Address of the parts, unique as long as they are shared.
    Large(usize),
    /// No two records have one place.
    Backed(TierPlace),
}

impl Value {
    /// Returns the bytes of the block or value.
    pub(crate) fn len(&self) -> usize {
        match self {
            Value::SameFilled { len, .. } => *len,
            Value::Pooled(block) => block.meta.block_len,
            Value::Large(large) => large.len,
            Value::Backed(place) => place.block_len(),
        }
    }

    /// Returns the bytes of its objects in memory.
    pub(crate) fn object_len(&self) -> usize {
        match self {
            Value::SameFilled { .. } | Value::Backed(_) => 0,
            Value::Pooled(block) => block.meta.object_len,
            Value::Large(large) => large.object_len(),
        }
    }

    /// Returns a pool that it is in; for a large value, the first one.
    pub(crate) fn pool(&self) -> Option<&PoolRef> {
        match self {
            Value::SameFilled { .. } | Value::Backed(_) => None,
            Value::Pooled(block) => Some(block.object.pool()),
            Value::Large(large) => large.parts.iter().find_map(Value::pool),
        }
    }

    /// Frees the objects. The objects of a large value that another thread is loading are freed by
    /// the last of those threads. Returns false if an allocator failed to free one.
    #[inline]
    pub(crate) fn free(self) -> bool {
        match self {
            Value::SameFilled { .. } | Value::Backed(_) => true,
            Value::Pooled(block) => block.object.free(),
            Value::Large(large) => {
                let parts = large.into_inner().map(|large| large.parts).unwrap_or_default();
                // Frees all of them, even if one fails.
                parts.into_iter().map(Value::free).filter(|freed| !freed).count() == 0
            }
        }
    }
}

impl LargeValue {
    pub(crate) fn object_len(&self) -> usize {
        self.parts.iter().map(Value::object_len).sum()
    }

    pub(crate) fn id(&self) -> ValueId {
        ValueId::Large(self.parts.as_ptr().addr())
    }

    /// Returns the bytes of the list of its blocks on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.parts) + TryArc::<LargeValue>::HEAP_BYTES
    }
}
