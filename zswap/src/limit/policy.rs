//! The policy of a store at its limit.

use std::fmt;

use zpool_core::internal::catch;

use crate::index::clock::EvictionAdvice;
use crate::limit::decision::DecidingListener;

/// Policy of a store at its limit.
///
/// # How far over the limit
///
/// A block is admitted while the store is below its limit, and memory is counted when it is taken,
/// before it is used. So each store in flight may pass the limit by what it adds itself, and a
/// batch counts as one store. That is at most the sum of:
///
/// - 256 KiB for its object's frames, the growth of the index (one segment of 32 KiB, or of 64
///   entries with their keys if that is more, of which there are two while it is rebuilt) and of
///   the allocator's tables; 512 KiB with blocks of more than 64 KiB, or from about two million
///   blocks on; more with keys of more than 1 KiB, by two such segments;
/// - a compression context, where it needs a new one. Together they hold at most 1/4 of the limit,
///   or one context in each pool if that is more: a thread that needs a further one
///   [waits](zpool_core::compress::ContextBudget);
/// - the list of a value of several blocks, 40 bytes for each.
///
/// Loads are never refused: a decompression context that one of them makes counts as soon as it is
/// there, and the next store makes room for it, or is refused. After
/// [`Store::set_limit`](crate::Store::set_limit) has lowered the limit, the store is over it until
/// enough was evicted or removed.
///
/// # What a full store does
///
/// In this order, until it is below its limit: frees contexts that are not in use, shrinks the
/// index, releases free frames, compacts pools with many holes. Only then does it evict or refuse.
/// A store that refuses tries again to release memory only once something was removed from it, or
/// 200 ms have passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AtLimit {
    /// Refuses what is to be stored, with [`Error::Full`](crate::Error::Full), until the store is
    /// below its low watermark.
    #[default]
    Refuse,
    /// Evicts the coldest blocks (CLOCK, approximately least recently used). A block that was just
    /// stored is cold until it is loaded, so once in a while, by chance, it goes first.
    Evict,
}

/// Receives the key and the length of what was evicted.
pub(crate) type Listener<K> = Box<dyn Fn(&K, usize) + Send + Sync>;

/// Decides how the eviction clock treats the entry of a key.
pub(crate) type Advisor<K> = Box<dyn Fn(&K) -> EvictionAdvice + Send + Sync>;

/// How to evict.
pub(crate) struct Eviction<K> {
    pub(crate) at_limit: AtLimit,
    pub(crate) keep_compressible: bool,
    pub(crate) listener: Option<Listener<K>>,
    /// Decides about each entry that is to be evicted.
    pub(crate) deciding: Option<DecidingListener<K>>,
    pub(crate) advisor: Option<Advisor<K>>,
}

impl<K> Eviction<K> {
    #[inline]
    pub(crate) fn evicts(&self) -> bool {
        self.at_limit == AtLimit::Evict
    }

    /// Returns how to treat the entry of `key`. If the advisor panics, the entry is treated by its
    /// use.
    #[inline]
    pub(crate) fn advise(&self, key: &K) -> EvictionAdvice {
        match &self.advisor {
            None => EvictionAdvice::ByUse,
            Some(advisor) => catch(|| advisor(key)).unwrap_or_default(),
        }
    }
}

impl<K> fmt::Debug for Eviction<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Eviction")
            .field("at_limit", &self.at_limit)
            .field("keep_compressible", &self.keep_compressible)
            .field("listener", &self.listener.is_some())
            .field("deciding", &self.deciding.is_some())
            .field("advisor", &self.advisor.is_some())
            .finish()
    }
}
