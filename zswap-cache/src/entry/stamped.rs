//! A key with its stamp, as the store keeps it.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};

use zswap::conditional::Equivalent;

/// A stored key with what the cache attaches to it. Hashed and compared as the key alone, so a
/// newer stamp replaces an older one together with the value.
#[derive(Debug, Clone)]
pub struct Stamped<K, M> {
    pub(crate) key: K,
    pub(crate) stamp: M,
}

impl<K, M> Stamped<K, M> {
    /// Returns the key.
    pub fn key(&self) -> &K {
        &self.key
    }
}

impl<K: Hash, M> Hash for Stamped<K, M> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl<K: PartialEq, M> PartialEq for Stamped<K, M> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<K: Eq, M> Eq for Stamped<K, M> {}

/// A key to be looked up, in any form that stored keys can be borrowed in. Hashed as the key.
#[derive(Debug)]
pub(crate) struct Probe<'q, Q: ?Sized>(pub(crate) &'q Q);

impl<Q: Hash + ?Sized> Hash for Probe<'_, Q> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<Q: Eq + ?Sized, K: Borrow<Q>, M> Equivalent<Stamped<K, M>> for Probe<'_, Q> {
    #[inline]
    fn equivalent(&self, stored: &Stamped<K, M>) -> bool {
        stored.key.borrow() == self.0
    }
}
