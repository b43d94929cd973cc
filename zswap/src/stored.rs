//! What is stored under a key while it is outside of the index: on its way in, or taken out. Frees itself when it is dropped.

use zpool_core::internal::TryArc;
use zpool_core::{HandleId, PoolId};
use zpool_manager::PoolRef;

use crate::object::Object;

/// A block, or a value of several.
#[derive(Debug)]
pub(crate) enum Stored {
    /// Eight bytes repeated, the first one lowest: in no pool.
    Same { word: u64, len: usize },
    /// In a pool.
    Block(Block),
    /// Several of these, together longer than a block may be.
    Large(TryArc<Large>),
}

/// A block in a pool.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) object: Object,
    /// Bytes of the block.
    pub(crate) len: usize,
    /// Bytes of the object.
    pub(crate) object_len: usize,
    /// The object is the block itself.
    pub(crate) raw: bool,
    /// Of the object's bytes; 0 in a store without checksums.
    pub(crate) sum: u32,
}

/// A value of several blocks. Who loads it holds it meanwhile, so that its objects stay although nobody pins them.
#[derive(Debug)]
pub(crate) struct Large {
    /// In order; each but the last is as long as a block may be, none is large itself.
    pub(crate) parts: Box<[Stored]>,
    /// Bytes of them all.
    pub(crate) len: usize,
}

/// Tells what is stored from what may have taken its place under the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoredId {
    /// Same-filled blocks that are equal need not be told apart.
    Same { word: u64, len: usize },
    /// As long as a guard holds the object: no allocator gives a pinned object's handle out again, or to another object.
    Object { pool: PoolId, handle: HandleId },
    /// The address of its parts, while somebody holds it.
    Large(usize),
}

impl Stored {
    /// Bytes of the block or value.
    pub(crate) fn len(&self) -> usize {
        match self {
            Stored::Same { len, .. } => *len,
            Stored::Block(block) => block.len,
            Stored::Large(large) => large.len,
        }
    }

    /// Bytes of its objects.
    pub(crate) fn object_len(&self) -> usize {
        match self {
            Stored::Same { .. } => 0,
            Stored::Block(block) => block.object_len,
            Stored::Large(large) => large.object_len(),
        }
    }

    /// A pool that it is in: of a large value the first.
    pub(crate) fn pool(&self) -> Option<&PoolRef> {
        match self {
            Stored::Same { .. } => None,
            Stored::Block(block) => Some(block.object.pool()),
            Stored::Large(large) => large.parts.iter().find_map(Stored::pool),
        }
    }

    /// Frees what it has in pools; of a large value that somebody is loading, the last of those does. False when an allocator did not free.
    #[inline]
    pub(crate) fn free(self) -> bool {
        match self {
            Stored::Same { .. } => true,
            Stored::Block(block) => block.object.free(),
            Stored::Large(large) => {
                let parts = large.into_inner().map(|large| large.parts).unwrap_or_default();
                // All of them, whatever becomes of one.
                parts.into_iter().map(Stored::free).filter(|freed| !freed).count() == 0
            }
        }
    }
}

impl Large {
    pub(crate) fn object_len(&self) -> usize {
        self.parts.iter().map(Stored::object_len).sum()
    }

    pub(crate) fn id(&self) -> StoredId {
        StoredId::Large(self.parts.as_ptr().addr())
    }

    /// Bytes on the heap that say where its blocks are.
    pub(crate) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.parts) + TryArc::<Large>::HEAP_BYTES
    }
}
