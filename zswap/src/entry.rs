//! What the index keeps for a block.

use crate::object::{Object, ObjectId};

/// Where a block is.
#[derive(Debug)]
pub(crate) enum Entry {
    /// Nowhere: it is eight bytes repeated.
    Same {
        /// Those bytes, the first one lowest.
        word: u64,
        /// Bytes of the block.
        len: u32,
    },
    /// In a pool, compressed.
    Compressed {
        object: Object,
        /// Bytes of the block.
        len: u32,
        /// Bytes of the object: less than the block's, which has 65 536 at most.
        object_len: u16,
    },
    /// In a pool as it is, since it does not shrink.
    Raw {
        object: Object,
        /// Bytes of the block and of the object.
        len: u32,
    },
}

const _: () = assert!(size_of::<Entry>() == 24, "one a block: it is part of every density figure");
const _: () =
    assert!(crate::MAX_BLOCK_SIZE - 1 <= u16::MAX as usize, "an object that shrank has a length of 16 bits");

/// Tells an entry from one that may have taken its place under the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryId {
    /// Same-filled blocks that are equal need not be told apart.
    Same {
        word: u64,
        len: u32,
    },
    Object(ObjectId),
}

impl Entry {
    /// Bytes of the block.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match self {
            Entry::Same { len, .. } | Entry::Compressed { len, .. } | Entry::Raw { len, .. } => *len as usize,
        }
    }

    /// Bytes of the object in the pool.
    #[inline]
    pub(crate) fn object_len(&self) -> usize {
        match self {
            Entry::Same { .. } => 0,
            Entry::Compressed { object_len, .. } => usize::from(*object_len),
            Entry::Raw { len, .. } => *len as usize,
        }
    }

    #[inline]
    pub(crate) fn id(&self) -> EntryId {
        match self {
            Entry::Same { word, len } => EntryId::Same { word: *word, len: *len },
            Entry::Compressed { object, .. } | Entry::Raw { object, .. } => EntryId::Object(object.id()),
        }
    }

    /// Frees what it has in a pool. False when the allocator did not.
    pub(crate) fn free(self) -> bool {
        match self {
            Entry::Same { .. } => true,
            Entry::Compressed { object, .. } | Entry::Raw { object, .. } => object.free(),
        }
    }
}
