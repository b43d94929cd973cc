//! Lists of what is stored. A shard at a time, so that nobody waits for long; each shard as it was at one moment.

use std::hash::{BuildHasher, Hash};

use zpool_core::TryArc;

use crate::index::Index;
use crate::object::pin;
use crate::shard::{Found, Item, Shard};
use crate::store::Store;
use crate::stored::StoredId;
use crate::table::Position;

/// While it lives, no entry of its shard keeps its handle for another object: somebody who has no guard goes by that.
struct Unguarded<'i, K> {
    index: &'i Index<K>,
    hash: u64,
}

impl<'i, K> Unguarded<'i, K> {
    /// `shard` is that of `hash`.
    fn note(index: &'i Index<K>, hash: u64, shard: &mut Shard<K>) -> Unguarded<'i, K> {
        shard.unguarded += 1;
        Unguarded { index, hash }
    }
}

impl<K> Drop for Unguarded<'_, K> {
    fn drop(&mut self) {
        self.index.lock(self.hash).0.unguarded -= 1;
    }
}

impl<K: Hash + Eq + Clone, S: BuildHasher> Store<K, S> {
    /// Copies of all keys, in no order. A key that is there all the time is listed once; one that comes or goes meanwhile may or may not be.
    ///
    /// Keys are cloned some thousand at a time, under a lock of the index: `Clone` must not call the
    /// store.
    pub fn keys(&self) -> impl Iterator<Item = K> {
        (0..self.index().shards()).flat_map(|shard| self.stretches(shard)).flatten()
    }

    /// Copies of the keys of a shard, a stretch at a time.
    fn stretches(&self, shard: usize) -> impl Iterator<Item = Vec<K>> {
        let mut next = Some(Position::default());
        std::iter::from_fn(move || {
            let (keys, behind) = self.index().keys_from(shard, next?, |key| self.hash(key));
            next = behind;
            Some(keys)
        })
    }
}

impl<K: Hash + Eq + Clone, S: BuildHasher> Store<K, S> {
    /// Removes everything for which `keep(key, length)` says no, and gives back index memory that is not needed any more. What takes the place of a block
    /// while `keep` is asked about it stays, unless both repeat the same eight bytes and are equally long. Gives how many were removed.
    ///
    /// `keep` runs with no lock held and may use the store.
    pub fn retain(&self, mut keep: impl FnMut(&K, usize) -> bool) -> usize {
        let mut removed = 0;
        for shard in 0..self.index().shards() {
            for key in self.stretches(shard).flatten() {
                let gone = self.remove_unless(&key, &mut keep);
                removed += usize::from(self.removed(gone));
            }
        }
        self.index().shrink(|key| self.hash(key));
        removed
    }

    /// Takes out what is under `key`, if `keep` says no and it is still there then.
    fn remove_unless(&self, key: &K, keep: impl FnOnce(&K, usize) -> bool) -> Option<Item<K>> {
        let hash = self.hash(key);
        let (mut shard, table_hash) = self.index().lock(hash);
        let found = shard.find(table_hash, key)?;
        let (len, seen) = (found.len(), found.id());
        // Held while `keep` runs, so that nothing else can have its id.
        match found {
            Found::Same { .. } => {
                drop(shard);
                if keep(key, len) { None } else { self.remove_seen(hash, key, seen) }
            }
            Found::Block { handle, pool, .. } => {
                let pool = pool.clone();
                let guard = pin(&pool, handle).ok();
                // What cannot be read can be removed. Its handle has to do then, which says how often its slot was used.
                let _unguarded = guard.is_none().then(|| Unguarded::note(self.index(), hash, &mut shard));
                drop(shard);
                if keep(key, len) { None } else { self.remove_seen(hash, key, seen) }
            }
            Found::Large(large) => {
                let _large = TryArc::clone(large);
                drop(shard);
                if keep(key, len) { None } else { self.remove_seen(hash, key, seen) }
            }
        }
    }

    fn remove_seen(&self, hash: u64, key: &K, seen: StoredId) -> Option<Item<K>> {
        self.index().edit(hash, |shard, hash| {
            let gone = shard.remove_if(hash, key, |found| found.id() == seen);
            shard.tally.invalidated += u64::from(gone.is_some());
            gone
        })
    }
}
