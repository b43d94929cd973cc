//! The index: from a key to its entry, in shards with a lock each.
//!
//! ```text
//!   hash of the key, computed once, before any lock
//!        │ times an odd constant: top bits          │ as it is
//!        ▼                                          ▼
//!   +---------+---------+-- ... --+         tables: tag and bucket
//!   | shard 0 | shard 1 |         |
//!   +---------+---------+-- ... --+         each: Mutex { table of (key, entry), tally }
//! ```
//!
//! A shard's lock is held for a look-up, a pin or an exchange of entries. Under it run the key's `Eq`, and `Hash` when the table grows, and the
//! allocator's `read`, which never blocks; nothing else of anybody's. What is taken out is freed after the lock is.

use crossbeam_utils::CachePadded;
use zpool_core::sync::atomic::{AtomicUsize, Ordering};
use zpool_core::sync::{Mutex, MutexGuard};

use crate::entry::Entry;
use crate::shard::{Item, Shard, Tally};

/// Shards there are at least, so that two threads seldom meet, and at most.
const SHARDS: std::ops::RangeInclusive<usize> = 16..=256;

/// Shards for each processor.
const SHARDS_PER_CPU: usize = 4;

/// A sharded map from keys to entries.
#[derive(Debug)]
pub(crate) struct Index<K> {
    shards: Box<[CachePadded<Mutex<Shard<K>>>]>,
    /// What `hash` is shifted by to give the number of a shard.
    shift: u32,
    /// Bytes of all tables.
    bytes: AtomicUsize,
}

impl<K> Index<K> {
    pub(crate) fn new() -> Index<K> {
        let wanted = zpool_core::cpu_shards() * SHARDS_PER_CPU;
        let shards = wanted.clamp(*SHARDS.start(), *SHARDS.end()).next_power_of_two();
        Index {
            shards: (0..shards).map(|_| CachePadded::new(Mutex::new(Shard::new()))).collect(),
            shift: u64::BITS - shards.trailing_zeros(),
            bytes: AtomicUsize::new(0),
        }
    }

    /// Locks the shard of `hash`.
    #[inline]
    pub(crate) fn lock(&self, hash: u64) -> MutexGuard<'_, Shard<K>> {
        // The table takes its tag from the top bits and its bucket from the low ones. The multiplication (by 2^64 over the golden ratio)
        // makes the shard depend on all bits, so that neither the table nor a weak hasher suffers.
        let mixed = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.shards[(mixed >> self.shift) as usize].lock()
    }

    /// Entries. Exact while nothing runs.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// The sum of all shards' tallies.
    pub(crate) fn tally(&self) -> Tally {
        let mut sum = Tally::default();
        for shard in &self.shards {
            let tally = shard.lock().tally;
            sum.compressed += tally.compressed;
            sum.raw += tally.raw;
            sum.same += tally.same;
            sum.payload += tally.payload;
            sum.stores += tally.stores;
            sum.hits += tally.hits;
            sum.misses += tally.misses;
            sum.taken += tally.taken;
            sum.invalidated += tally.invalidated;
        }
        sum
    }

    /// Bytes of the index: tables and shards. What keys own on the heap is not in it.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        // Relaxed: an account; nothing is published through it. So below.
        self.bytes.load(Ordering::Relaxed) + size_of_val(&*self.shards)
    }

    /// Takes everything out, a shard at a time, and drops it.
    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            self.bytes.fetch_sub(shard.bytes(), Ordering::Relaxed);
            let table = shard.take_all();
            shard.tally.invalidated += table.len() as u64;
            drop(shard);
            drop(table);
        }
    }
}

impl<K: Eq> Index<K> {
    /// Makes `entry` that of `key`, in one critical section, and gives what it took the place of. For the caller to drop: no lock is held then.
    ///
    /// # Errors
    ///
    /// When there is no memory for the table to grow; gives both back.
    #[inline]
    pub(crate) fn put(
        &self,
        hash: u64,
        key: K,
        entry: Entry,
        rehash: impl Fn(&K) -> u64,
    ) -> Result<Option<Item<K>>, Item<K>> {
        let mut shard = self.lock(hash);
        let before = shard.bytes();
        let outcome = shard.put(hash, key, entry, rehash);
        let after = shard.bytes();
        if before != after {
            // Under the lock, so that nobody subtracts it before. Wrapping, so that shrinking is adding the difference, too.
            self.bytes.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        }
        outcome
    }
}
