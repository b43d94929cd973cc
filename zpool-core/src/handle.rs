//! Handles, the tokens of objects, and the mint that makes and opens them.
//!
//! ```text
//!   63            48 47            32 31                             0
//!  +----------------+----------------+--------------------------------+
//!  |    pool tag    |   generation   |             index              |
//!  +----------------+----------------+--------------------------------+
//!   never 0 (niche)   of the entry     of the entry in the pool's table
//! ```
//!
//! The pool tag is the pool's process-unique [`PoolId`] folded to 16 bits. The generation is that
//! of the entry, cut to 16 bits by the pool. Both wrap, so foreign and stale handles are detected
//! on a best-effort basis.
//!
//! **Soundness never rests on that**: a back end treats an opened handle as untrusted numbers, and
//! checks bounds and the entry's state. The worst that a confused caller can do is to read or free
//! another object of the same pool.

use core::fmt;
use core::num::NonZeroU64;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::error::PoolError;

const INDEX_BITS: u32 = 32;
const GENERATION_BITS: u32 = 16;
const TAG_BITS: u32 = 16;
const _: () = assert!(INDEX_BITS + GENERATION_BITS + TAG_BITS == u64::BITS, "a handle is one word");
const _: () = assert!(
    size_of::<Handle>() == 8,
    "callers keep one per object: it is part of every density figure"
);
const _: () = assert!(
    size_of::<Option<Handle>>() == 8,
    "the pool tag is never 0, so an absent handle costs nothing"
);

/// The process-unique number of a pool, handed out in order of creation and never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId(NonZeroU64);

impl PoolId {
    fn next() -> PoolId {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Relaxed: only uniqueness matters, which one RMW on one word guarantees.
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        PoolId(NonZeroU64::new(id).expect("fewer than 2^64 pools are made"))
    }

    /// Returns the number itself, for logs.
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// Returns the id folded to the width of a handle's tag: 1..=65535.
    fn tag(self) -> u64 {
        (self.0.get() - 1) % ((1 << TAG_BITS) - 1) + 1
    }
}

impl fmt::Debug for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PoolId({})", self.0)
    }
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The token of one stored object: 8 bytes, neither `Copy` nor `Clone`, consumed by
/// [`ZPool::free`](crate::ZPool::free).
///
/// Dropping a handle without freeing it leaks the object until its pool is dropped.
#[must_use = "dropping a handle leaks its object until the pool is dropped: free it"]
#[derive(PartialEq, Eq, Hash)]
pub struct Handle(NonZeroU64);

impl Handle {
    /// Returns a name for this handle that can be copied and logged, and gives no access.
    #[inline]
    pub fn id(&self) -> HandleId {
        HandleId(self.0)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_word("Handle", self.0, f)
    }
}

/// The name of a [`Handle`], for maps, logs and [evict callbacks](crate::Evict). It gives no
/// access.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HandleId(NonZeroU64);

impl HandleId {
    /// Returns the name as a number.
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// Forges a second token for the handle of this name, as a caller's bug could.
    ///
    /// For test suites that try stale handles, hence behind the `testing` feature.
    #[cfg(feature = "testing")]
    pub fn forge(self) -> Handle {
        Handle(self.0)
    }
}

impl fmt::Debug for HandleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_word("HandleId", self.0, f)
    }
}

fn fmt_word(name: &str, word: NonZeroU64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let opened = Opened::decode(word);
    let tag = word.get() >> (INDEX_BITS + GENERATION_BITS);
    write!(f, "{name}(pool#{tag} entry {} gen {})", opened.index, opened.generation)
}

/// The contents of an opened handle. Not to be trusted: after a wrap or a caller's bug, the pool
/// may never have minted these numbers together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Index of the entry in the pool's handle table.
    pub index: u32,
    /// The entry's generation when the handle was minted, in the width that the pool keeps (up to
    /// 16 bits).
    pub generation: u16,
}

impl Opened {
    #[inline]
    fn decode(word: NonZeroU64) -> Opened {
        Opened { index: word.get() as u32, generation: (word.get() >> INDEX_BITS) as u16 }
    }
}

/// Makes and opens the handles of one pool.
///
/// No other code can. A pool makes its own mint and keeps it private, so it needs no `unsafe` to
/// make handles.
#[derive(Debug)]
pub struct HandleMint {
    id: PoolId,
    /// The tag of `id`, which every handle is compared with.
    tag: u64,
}

impl HandleMint {
    /// Makes a mint with a new pool id.
    #[expect(clippy::new_without_default, reason = "each call takes a new id: not a default value")]
    pub fn new() -> HandleMint {
        let id = PoolId::next();
        HandleMint { id, tag: id.tag() }
    }

    /// Returns the id of the pool that this mint belongs to.
    pub fn pool_id(&self) -> PoolId {
        self.id
    }

    /// Makes the handle of entry `index` in its current `generation`.
    #[inline]
    pub fn mint(&self, index: u32, generation: u16) -> Handle {
        let word = u64::from(index)
            | u64::from(generation) << INDEX_BITS
            | self.tag << (INDEX_BITS + GENERATION_BITS);
        // The pool tag is never 0, so neither is the word.
        Handle(NonZeroU64::new(word).unwrap_or(NonZeroU64::MIN))
    }

    /// Opens a handle.
    ///
    /// # Errors
    ///
    /// [`PoolError::ForeignHandle`] if another mint made it, unless the two pool ids have the same
    /// tag.
    #[inline]
    pub fn open(&self, handle: &Handle) -> Result<Opened, PoolError> {
        if handle.0.get() >> (INDEX_BITS + GENERATION_BITS) == self.tag {
            Ok(Opened::decode(handle.0))
        } else {
            Err(PoolError::ForeignHandle)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minted handle opens to the numbers that it was minted from.
    #[test]
    fn minted_handle_opens_to_numbers() {
        let mint = HandleMint::new();
        for (index, generation) in
            [(0, 0), (1, 65_535), (u32::MAX, 0), (u32::MAX, u16::MAX), (77, 5)]
        {
            let handle = mint.mint(index, generation);
            assert_eq!(mint.open(&handle).unwrap(), Opened { index, generation });
        }
    }

    /// Another mint reports the handle as foreign.
    #[test]
    fn other_mint_reports_foreign_handle() {
        let (a, b) = (HandleMint::new(), HandleMint::new());
        assert_ne!(a.pool_id(), b.pool_id());
        assert!(matches!(b.open(&a.mint(3, 1)), Err(PoolError::ForeignHandle)));
    }

    /// The tag is never 0, even where the id wraps it.
    #[test]
    fn tag_is_never_zero() {
        for id in [1, 65_534, 65_535, 65_536, 131_070, 131_071, u64::MAX] {
            let tag = PoolId(NonZeroU64::new(id).unwrap()).tag();
            assert!((1..=65_535).contains(&tag), "id {id} has tag {tag}");
        }
    }
}
