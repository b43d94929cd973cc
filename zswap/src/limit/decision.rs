//! The listener that decides whether an entry may be evicted.
//!
//! It runs under no lock, so several threads may be in it at once, and entries may change
//! meanwhile. What it is asked about one key comes in order: a key that it is shown is not shown
//! again, in whatever version, until that call has ended. Otherwise a slow write of an older
//! version could end after the write of a newer one.

use std::fmt;
use std::time::Duration;

use zpool_core::internal::sync::{Condvar, Mutex};

use crate::value::eviction_candidate::EvictionCandidate;

/// Answer of the listener of [`on_evict_with`](crate::StoreBuilder::on_evict_with).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EvictionDecision {
    /// The entry may go. It is removed, unless it was replaced or removed since the listener was
    /// called.
    Evict,
    /// The entry stays, and counts as used: the clock's hand passes it for its next three turns.
    Keep,
}

/// Function that decides about a candidate.
pub(crate) type Decide<K> =
    Box<dyn Fn(&K, &EvictionCandidate<'_>) -> EvictionDecision + Send + Sync>;

/// A listener that decides, with what it takes to call it.
pub(crate) struct DecidingListener<K> {
    pub(crate) decide: Decide<K>,
    /// Clones a key, so that it can be lent under no lock. Stores without such a listener need no
    /// keys that are `Clone`.
    pub(crate) clone_key: fn(&K) -> K,
    pub(crate) shown: ShownKeys,
}

impl<K> fmt::Debug for DecidingListener<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecidingListener").field("shown", &self.shown).finish_non_exhaustive()
    }
}

/// The keys that listeners are shown at this moment, by their hashes: at most one for each thread.
#[derive(Debug)]
pub(crate) struct ShownKeys {
    hashes: Mutex<Vec<u64>>,
    ended: Condvar,
}

impl ShownKeys {
    pub(crate) fn new() -> ShownKeys {
        ShownKeys { hashes: Mutex::new(Vec::new()), ended: Condvar::new() }
    }

    /// Notes that a key of this hash is going to be shown. Returns `None` if one is shown already,
    /// or if memory is refused.
    pub(crate) fn begin(&self, hash: u64) -> Option<ShownKey<'_>> {
        let mut hashes = self.hashes.lock();
        if hashes.contains(&hash) || hashes.try_reserve(1).is_err() {
            return None;
        }
        hashes.push(hash);
        Some(ShownKey { keys: self, hash })
    }

    /// Waits until a call of the listener ends. Returns false if that takes longer than `max_wait`.
    pub(crate) fn wait_for_end(&self, max_wait: Duration) -> bool {
        let mut hashes = self.hashes.lock();
        hashes.is_empty() || !self.ended.wait_for(&mut hashes, max_wait).timed_out()
    }
}

/// A key that is shown until this is dropped.
#[derive(Debug)]
pub(crate) struct ShownKey<'l> {
    keys: &'l ShownKeys,
    hash: u64,
}

impl Drop for ShownKey<'_> {
    fn drop(&mut self) {
        let mut hashes = self.keys.hashes.lock();
        if let Some(at) = hashes.iter().position(|&hash| hash == self.hash) {
            hashes.swap_remove(at);
        }
        drop(hashes);
        self.keys.ended.notify_all();
    }
}

#[cfg(all(test, not(zpool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn shown_keys_one_call_per_key() {
        let keys = ShownKeys::new();
        let (one, two) = (keys.begin(1).unwrap(), keys.begin(2).unwrap());
        assert!(keys.begin(1).is_none() && !keys.wait_for_end(Duration::ZERO));
        drop(one);
        assert!(keys.begin(2).is_none());
        drop(keys.begin(1).unwrap());
        drop(two);
        assert!(keys.begin(2).is_some() && keys.wait_for_end(Duration::ZERO));
    }

    #[test]
    fn shown_keys_wait_ends_with_a_call() {
        let keys = ShownKeys::new();
        let shown = keys.begin(1).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| keys.wait_for_end(Duration::from_secs(60)));
            scope.spawn(move || drop(shown));
            assert!(waiting.join().unwrap());
        });
    }
}
