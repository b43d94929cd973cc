//! Comparison of a look-up's key with stored keys.

use std::borrow::Borrow;

/// Equality of a look-up's key with a stored one.
///
/// Every borrowed form of a key implements it. A type of your own that is not `Eq` can implement it
/// for keys that have no borrowed form, such as a key with something attached.
///
/// # Behavior
///
/// 1. If a stored key is equivalent, its hash is that of `self`.
/// 2. Equal stored keys are equivalent to the same values.
/// 3. It must not call the store: it runs under a lock of the index.
pub trait Equivalent<K: ?Sized> {
    /// Returns whether `key` is the one that is looked up.
    fn equivalent(&self, key: &K) -> bool;
}

impl<Q: Eq + ?Sized, K: Borrow<Q> + ?Sized> Equivalent<K> for Q {
    #[inline]
    fn equivalent(&self, key: &K) -> bool {
        self == key.borrow()
    }
}
