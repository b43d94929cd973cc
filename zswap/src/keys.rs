//! Lists of what is stored. A shard at a time, so that nobody waits for long; each shard as it was at one moment.

use std::hash::{BuildHasher, Hash};

use crate::store::Store;

impl<K: Clone, S> Store<K, S> {
    /// Copies of all keys, in no order. A key that is there all the time is listed once; one that comes or goes meanwhile may or may not be.
    ///
    /// Keys are cloned a shard at a time, under its lock: `Clone` must not call the store.
    pub fn keys(&self) -> impl Iterator<Item = K> {
        (0..self.index().shards()).flat_map(|shard| {
            self.index()
                .look(shard, |shard| shard.table.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>())
        })
    }
}

impl<K: Hash + Eq + Clone, S: BuildHasher> Store<K, S> {
    /// Removes everything for which `keep(key, length)` says no, and gives back index memory that is not needed any more. What is stored or replaced
    /// meanwhile stays. Gives how many were removed.
    ///
    /// `keep` runs with no lock held and may use the store.
    pub fn retain(&self, mut keep: impl FnMut(&K, usize) -> bool) -> usize {
        let mut removed = 0;
        for shard in 0..self.index().shards() {
            let listed = self.index().look(shard, |shard| {
                let found = shard.items().map(|(key, found)| (key.clone(), found.len(), found.id()));
                found.collect::<Vec<_>>()
            });
            for (key, len, id) in listed {
                if keep(&key, len) {
                    continue;
                }
                let gone = self.index().edit(self.hash(&key), |shard, hash| {
                    let gone = shard.remove_if(hash, &key, |found| found.id() == id);
                    shard.tally.invalidated += u64::from(gone.is_some());
                    gone
                });
                removed += usize::from(self.discard(gone));
            }
        }
        self.index().shrink(|key| self.hash(key));
        removed
    }
}
