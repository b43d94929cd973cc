//! A shard of the index: a table of entries, and the counts of what is in it and what happened to it, all under one lock.

use hashbrown::{HashTable, TryReserveError};

use crate::entry::Entry;
use crate::loading::Then;

/// A key with its entry, in or out of a table. Dropping one runs the key's own drop and frees the block: do it after the shard's lock is free.
pub(crate) type Item<K> = (K, Entry);

/// A part of the index.
#[derive(Debug)]
pub(crate) struct Shard<K> {
    table: HashTable<Item<K>>,
    pub(crate) tally: Tally,
}

/// Counts of a shard. What is stored is exact at any moment, since it changes under the same lock as the table.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) compressed: usize,
    pub(crate) raw: usize,
    pub(crate) same: usize,
    /// Bytes of the objects of all entries.
    pub(crate) payload: usize,
    pub(crate) stores: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) taken: u64,
    pub(crate) invalidated: u64,
}

impl<K> Shard<K> {
    pub(crate) fn new() -> Shard<K> {
        Shard { table: HashTable::new(), tally: Tally::default() }
    }

    /// Bytes of the table.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.table.allocation_size()
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Takes everything out, table included.
    pub(crate) fn take_all(&mut self) -> HashTable<Item<K>> {
        let (stores, hits) = (self.tally.stores, self.tally.hits);
        let Tally { misses, taken, invalidated, .. } = self.tally;
        self.tally = Tally { stores, hits, misses, taken, invalidated, ..Tally::default() };
        std::mem::take(&mut self.table)
    }
}

impl<K: Eq> Shard<K> {
    /// The entry of `key`, whose hash is `hash`.
    #[inline]
    pub(crate) fn find(&self, hash: u64, key: &K) -> Option<&Entry> {
        self.table.find(hash, |item| item.0 == *key).map(|item| &item.1)
    }

    /// The same for a load or take: counted as a miss, or for a load as a hit.
    #[inline]
    pub(crate) fn look_up(&mut self, hash: u64, key: &K, then: Then) -> Option<&Entry> {
        let found = self.table.find(hash, |item| item.0 == *key);
        match found {
            Some(_) => self.tally.hits += u64::from(then == Then::Keep),
            None => self.tally.misses += 1,
        }
        found.map(|item| &item.1)
    }

    /// Makes `entry` that of `key`, and gives what it took the place of (with the key that is not needed).
    ///
    /// # Errors
    ///
    /// When there is no memory for the table to grow; gives both back.
    #[inline]
    pub(crate) fn put(
        &mut self,
        hash: u64,
        key: K,
        entry: Entry,
        rehash: impl Fn(&K) -> u64,
    ) -> Result<Option<Item<K>>, Item<K>> {
        if let Some(item) = self.table.find_mut(hash, |item| item.0 == key) {
            self.tally.add(&entry);
            let old = std::mem::replace(&mut item.1, entry);
            self.tally.subtract(&old);
            self.tally.stores += 1;
            return Ok(Some((key, old)));
        }
        if self.make_room(rehash).is_err() {
            return Err((key, entry));
        }
        self.tally.add(&entry);
        self.tally.stores += 1;
        self.table.insert_unique(hash, (key, entry), |_| unreachable!("room was made"));
        Ok(None)
    }

    /// Takes the item of `key` out, if its entry is one that is `wanted`.
    #[inline]
    pub(crate) fn remove_if(
        &mut self,
        hash: u64,
        key: &K,
        wanted: impl FnOnce(&Entry) -> bool,
    ) -> Option<Item<K>> {
        let place = self.table.find_entry(hash, |item| item.0 == *key).ok()?;
        if !wanted(&place.get().1) {
            return None;
        }
        let (item, _) = place.remove();
        self.tally.subtract(&item.1);
        Some(item)
    }

    /// Sees to it that one more item fits without rehashing.
    ///
    /// The table's own rehash would lose items where a key's hash panics. Here all hashes are known before the first item moves.
    #[inline]
    fn make_room(&mut self, rehash: impl Fn(&K) -> u64) -> Result<(), TryReserveError> {
        if self.table.len() < self.table.capacity() { Ok(()) } else { self.grow(rehash) }
    }

    #[cold]
    fn grow(&mut self, rehash: impl Fn(&K) -> u64) -> Result<(), TryReserveError> {
        let mut places: Vec<(usize, u64)> = Vec::new();
        let out_of_memory = |_| TryReserveError::CapacityOverflow;
        places.try_reserve_exact(self.table.len()).map_err(out_of_memory)?;
        for bucket in self.table.iter_buckets() {
            let item = self.table.get_bucket(bucket).expect("the iterator gives buckets in use");
            places.push((bucket, rehash(&item.0)));
        }
        // Half of a full table may be places of removed items: then it is only swept, as hashbrown would.
        let full = self.table.num_buckets() * 7 / 8;
        let capacity = if 2 * (self.table.len() + 1) > full { full + 1 } else { full };
        let mut grown = HashTable::new();
        grown.try_reserve(capacity, |_| unreachable!("it is empty"))?;
        for (bucket, hash) in places {
            let place = self.table.get_bucket_entry(bucket).ok().expect("nothing was removed in between");
            grown.insert_unique(hash, place.remove().0, |_| unreachable!("it is larger"));
        }
        self.table = grown;
        Ok(())
    }
}

impl Tally {
    fn add(&mut self, entry: &Entry) {
        *self.count(entry) += 1;
        self.payload += entry.object_len();
    }

    fn subtract(&mut self, entry: &Entry) {
        *self.count(entry) -= 1;
        self.payload -= entry.object_len();
    }

    fn count(&mut self, entry: &Entry) -> &mut usize {
        match entry {
            Entry::Same { .. } => &mut self.same,
            Entry::Compressed { .. } => &mut self.compressed,
            Entry::Raw { .. } => &mut self.raw,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(word: u64) -> Entry {
        Entry::Same { word, len: 8 }
    }

    fn word(entry: Option<&Entry>) -> Option<u64> {
        match entry {
            Some(Entry::Same { word, .. }) => Some(*word),
            _ => None,
        }
    }

    fn hash(key: &u64) -> u64 {
        key.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    #[test]
    fn growing_and_sweeping_keep_every_item() {
        let mut shard = Shard::new();
        for key in 0..5_000u64 {
            assert!(shard.put(hash(&key), key, entry(key), hash).unwrap().is_none());
        }
        let bytes = shard.bytes();
        // Few at a time, but many in all: the places of removed items have to be swept.
        for key in 0..100_000u64 {
            assert!(shard.remove_if(hash(&key), &key, |_| true).is_some());
            let new = key + 5_000;
            assert!(shard.put(hash(&new), new, entry(new), hash).unwrap().is_none());
        }
        for key in 100_000..105_000u64 {
            assert_eq!(word(shard.find(hash(&key), &key)), Some(key));
        }
        assert_eq!((shard.len(), shard.tally.same), (5_000, 5_000));
        assert!(shard.bytes() <= 2 * bytes, "{} after {bytes}", shard.bytes());
    }

    #[test]
    fn a_panicking_hash_changes_nothing_wherever_it_strikes() {
        for nth in 0..28 {
            let mut shard = Shard::new();
            for key in 0..28u64 {
                shard.put(hash(&key), key, entry(key), hash).unwrap();
            }
            let (len, calls) = (shard.len(), std::cell::Cell::new(0));
            assert_eq!(len, shard.table.capacity(), "the next one makes it grow");
            let hostile = |key: &u64| {
                calls.set(calls.get() + 1);
                assert!(calls.get() <= nth, "a hasher that panics");
                hash(key)
            };
            let put = std::panic::AssertUnwindSafe(|| shard.put(hash(&99), 99, entry(99), hostile).is_ok());
            assert!(std::panic::catch_unwind(put).is_err());
            assert_eq!((shard.len(), shard.tally.same), (len, len));
            assert!((0..28).all(|key| word(shard.find(hash(&key), &key)) == Some(key)));
            assert!(shard.put(hash(&99), 99, entry(99), hash).unwrap().is_none());
        }
    }
}
