//! Scans: the keys of a store, and removal of all values that a closure rejects.
//!
//! A scan locks one stretch of a shard at a time. It is not a snapshot.

use std::hash::{BuildHasher, Hash};

use zpool_core::internal::TryArc;
use zpool_core::internal::catch;

use crate::index::Index;
use crate::index::key_batch::KeyBatch;
use crate::index::shard::{Item, Shard, ValueRef, equals_itself};
use crate::index::table::Position;
use crate::store::Store;
use crate::value::ValueId;
use crate::value::pooled_object::pin;

/// A [watch](crate::index::watch) on the entry of a shard, ended when this is dropped.
struct WatchGuard<'i, K> {
    index: &'i Index<K>,
    hash: u64,
    number: u64,
}

impl<'i, K> WatchGuard<'i, K> {
    /// Watches the block that `id` names. `shard` is that of `hash`. `None` if memory is refused.
    fn begin(
        index: &'i Index<K>,
        hash: u64,
        shard: &mut Shard<K>,
        id: ValueId,
    ) -> Option<WatchGuard<'i, K>> {
        let number = shard.watches.begin(id)?;
        Some(WatchGuard { index, hash, number })
    }
}

impl<K> Drop for WatchGuard<'_, K> {
    fn drop(&mut self) {
        self.index.lock(self.hash).0.watches.end(self.number);
    }
}

/// # Go over all keys
impl<K: Hash + Eq + Clone, S: BuildHasher> Store<K, S> {
    /// Returns copies of all keys, in no order. A key that is in the store all the time is listed
    /// once. A key that is stored or removed meanwhile may or may not be listed.
    ///
    /// Keys are cloned in batches of some thousand, under a lock of the index, so `Clone` must not
    /// call the store. If memory is short, batches are smaller, down to single keys, which need no
    /// memory.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// for key in [3, 1, 2] {
    ///     store.store(key, "value")?;
    /// }
    /// let mut keys: Vec<u64> = store.keys().collect();
    /// keys.sort();
    /// assert_eq!(keys, [1, 2, 3]);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If there is no memory for a list of keys that all have the same hash.
    pub fn keys(&self) -> impl Iterator<Item = K> {
        (0..self.index().shards()).flat_map(|shard| self.key_batches(shard)).flatten()
    }

    /// Iterates over copies of the keys of a shard, a stretch at a time.
    fn key_batches(&self, shard: usize) -> impl Iterator<Item = KeyBatch<K>> {
        let mut next = Some(Position::default());
        std::iter::from_fn(move || {
            let (keys, behind) = self.index().key_batch(shard, next?, |key| self.hash(key));
            next = behind;
            Some(keys)
        })
    }
}

impl<K: Hash + Eq + Clone, S: BuildHasher> Store<K, S> {
    /// Removes every value for which `keep(key, length)` returns false, and returns their number.
    /// Then frees index memory that is no longer needed.
    ///
    /// If a newer block replaces the old one while `keep` runs, the newer one stays. The exception
    /// is a same-filled block that replaces an equal one: the two cannot be distinguished. A block
    /// that the allocator refuses to pin can be removed too. It stays if there is no memory to
    /// watch it meanwhile.
    ///
    /// If a [drain](Self::drain) moves a block while `keep` runs, `keep` is asked about that block
    /// again.
    ///
    /// Keys that are not equal to themselves, which no look-up finds, are visited too. They are
    /// taken out of the store while `keep` runs, and put back if it returns true.
    ///
    /// `keep` runs with no lock held and may use the store. Lists keys as [`keys`](Self::keys)
    /// does.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// for key in 0..10 {
    ///     store.store(key, vec![b'x'; 100 * key as usize])?;
    /// }
    /// assert_eq!(store.retain(|key, len| key % 2 == 0 && len < 500), 7);
    /// assert!(store.contains(&4) && !store.contains(&5) && !store.contains(&6));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// As `keys` does. What was removed before that stays removed.
    pub fn retain(&self, mut keep: impl FnMut(&K, usize) -> bool) -> usize {
        let mut removed = 0;
        for shard in 0..self.index().shards() {
            let mut unfindable = false;
            for key in self.key_batches(shard).flatten() {
                if !equals_itself(&key) {
                    unfindable = true;
                    continue;
                }
                removed += usize::from(self.retain_findable(&key, &mut keep));
            }
            if unfindable {
                removed += self.retain_unfindable(shard, &mut keep);
            }
        }
        self.index().shrink(|key| self.hash(key));
        removed
    }

    /// Removes the value of `key`, if `keep` rejects it.
    fn retain_findable(&self, key: &K, mut keep: impl FnMut(&K, usize) -> bool) -> bool {
        loop {
            let (gone, rejected_at) = self.remove_unless(key, &mut keep);
            // If nothing was removed, the key has a newer value, which stays, or the rejected value
            // has moved to another pool, where only `keep` recognizes it.
            let moves = || self.index().lock(self.hash(key)).0.stats.moved;
            match rejected_at {
                Some(before) if gone.is_none() && moves() != before => {}
                _ => return self.free_removed(gone),
            }
        }
    }

    /// Removes the value of `key`, if `keep` rejects it and it is still there afterwards. Returns
    /// it. If `keep` rejected it, also returns how many values had moved in the shard before.
    fn remove_unless(
        &self,
        key: &K,
        keep: impl FnOnce(&K, usize) -> bool,
    ) -> (Option<Item<K>>, Option<u64>) {
        let hash = self.hash(key);
        let (mut shard, table_hash) = self.index().lock(hash);
        let Some(found) = shard.find(table_hash, key) else { return (None, None) };
        let (len, seen, moves) = (found.len(), found.id(), shard.stats.moved);
        let ask = |watched: Option<&WatchGuard<'_, K>>| {
            if keep(key, len) {
                return (None, None);
            }
            (self.remove_seen(hash, key, seen, watched), Some(moves))
        };
        // Pinned while `keep` runs, so that no other value can have its id.
        match found {
            ValueRef::SameFilled { .. } | ValueRef::Backed(_) => {
                drop(shard);
                ask(None)
            }
            ValueRef::Pooled { handle, pool, .. } => {
                let pool = pool.clone();
                let pinned = pin(&pool, handle);
                let watched = match &pinned {
                    Ok(_) => None,
                    Err(_) => match WatchGuard::begin(self.index(), hash, &mut shard, seen) {
                        Some(watched) => Some(watched),
                        None => return (None, None),
                    },
                };
                drop(shard);
                let gone = ask(watched.as_ref());
                if let Ok(mut object) = pinned {
                    self.unpin(&mut object);
                }
                gone
            }
            ValueRef::Large(large) => {
                let _large = TryArc::clone(large);
                drop(shard);
                ask(None)
            }
        }
    }

    fn remove_seen(
        &self,
        hash: u64,
        key: &K,
        seen: ValueId,
        watched: Option<&WatchGuard<'_, K>>,
    ) -> Option<Item<K>> {
        let gone = self.index().edit(hash, |shard, hash| {
            if watched.is_some_and(|watched| !shard.watches.stayed(watched.number)) {
                return None;
            }
            let gone = shard.remove_if(hash, key, |found| found.id() == seen);
            shard.stats.invalidated += u64::from(gone.is_some());
            gone
        });
        if gone.is_some() {
            self.forget_in_thrash_meter(hash);
        }
        gone
    }

    /// Visits the keys of a shard that are not equal to themselves. No look-up finds these, so they
    /// are removed, shown to `keep`, and put back.
    fn retain_unfindable(&self, shard: usize, keep: &mut impl FnMut(&K, usize) -> bool) -> usize {
        let mut out = Unfindable { store: self, items: Vec::new() };
        self.index().edit_shard(shard, |shard| shard.take_unfindable(&mut out.items));
        let mut removed = 0;
        for _ in 0..out.items.len() {
            let Some((key, stored)) = out.items.last() else { break };
            let kept = keep(key, stored.len());
            let Some(item) = out.items.pop() else { break };
            if kept {
                self.put_back(item);
            } else {
                self.index().edit_shard(shard, |shard| shard.stats.invalidated += 1);
                self.free_removed(Some(item));
                removed += 1;
            }
        }
        removed
    }
}

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Puts an item back that was removed for a moment. If there is no memory for the index, the
    /// item is lost and counted as removed.
    fn put_back(&self, item: Item<K>) {
        let hash = self.hash(&item.0);
        let mut item = Some(item);
        drop(self.index().put_back(hash, &mut item, |key| self.hash(key)));
        self.free_removed(item);
    }
}

/// Items with keys that are not equal to themselves, out of the index. Those left when this is
/// dropped, because a call of `keep` or of a key panicked, go back.
struct Unfindable<'s, K: Hash + Eq, S: BuildHasher> {
    store: &'s Store<K, S>,
    items: Vec<Item<K>>,
}

impl<K: Hash + Eq, S: BuildHasher> Drop for Unfindable<'_, K, S> {
    fn drop(&mut self) {
        for item in self.items.drain(..) {
            // A panic of a key would abort here, or keep the other items out.
            catch(|| self.store.put_back(item));
        }
    }
}
