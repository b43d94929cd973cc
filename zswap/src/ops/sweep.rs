//! Removal of many entries, selected by their stored keys, or of all. Each is passed to a closure.
//!
//! ```text
//!   remove_where   every entry: wanted(stored key)? ─► take out ─► free ─► gone(key, length)
//!   clear_with     every entry: take out ─► free ─► gone(key, length)
//! ```

use std::hash::{BuildHasher, Hash};

use crate::index::shard::SWEEP;
use crate::index::table::Position;
use crate::store::Store;
use crate::value::deferred_panic::DeferredPanic;

impl<K: Hash + Eq, S: BuildHasher> Store<K, S> {
    /// Removes all entries whose stored keys are `wanted`, and passes each key to `gone` with the
    /// length in bytes, after the value is freed. Returns their number. Entries that are stored or
    /// moved meanwhile may be passed over.
    ///
    /// `wanted` runs under the shard's lock, for a bounded number of entries at a time; `gone` runs
    /// under none and may use the store. Needs no memory.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// for key in 0..10 {
    ///     store.store(key, "a value")?;
    /// }
    /// let mut bytes = 0;
    /// assert_eq!(store.remove_where(|key| key % 2 == 0, |_key, len| bytes += len), 5);
    /// assert_eq!(bytes, 5 * 7);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If `wanted` or `gone` panics: with the first such panic. Each entry that was removed before
    /// is passed to `gone`, and no further one is removed.
    pub fn remove_where(
        &self,
        mut wanted: impl FnMut(&K) -> bool,
        mut gone: impl FnMut(K, usize),
    ) -> usize {
        let (mut removed, mut panics) = (0, DeferredPanic::default());
        for number in 0..self.index().shards() {
            let mut next = Some(Position::default());
            while let Some(from) = next {
                let mut out = [const { None }; SWEEP];
                next = self.index().edit_shard(number, |shard| {
                    let mut next = None;
                    panics.run(|| next = shard.sweep(from, &mut wanted, &mut out));
                    shard.stats.invalidated += out.iter().flatten().count() as u64;
                    next
                });
                for (key, value) in out.into_iter().flatten() {
                    if self.index().meter().is_some() {
                        panics.run(|| self.forget_in_thrash_meter(self.hash(&key)));
                    }
                    let len = value.len();
                    self.free_removed_value(value);
                    panics.run(|| gone(key, len));
                    removed += 1;
                }
                if panics.has_panic() {
                    panics.raise();
                    return removed;
                }
            }
        }
        removed
    }

    /// Removes everything that was there when the call began, as [`clear`](Self::clear) does, and
    /// passes each key to `gone` with the length in bytes, after it is freed. Needs no memory.
    ///
    /// `gone` runs with no lock held and may use the store.
    ///
    /// ```
    /// # #[cfg(all(feature = "zsmalloc", feature = "lz4"))] {
    /// let store = zswap::Store::<u64>::builder().build()?;
    /// store.store(7, "a value")?;
    /// store.clear_with(|key, len| assert_eq!((key, len), (7, 7)));
    /// assert!(store.is_empty());
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If `gone` panics: with the first such panic, after everything is removed.
    pub fn clear_with(&self, mut gone: impl FnMut(K, usize)) {
        let mut panics = DeferredPanic::default();
        for shard in 0..self.index().shards() {
            let contents = self.index().take_shard(shard);
            let failed = contents.free_each(&mut gone, &mut panics);
            (0..failed).for_each(|_| self.counters().free_failed());
        }
        // All entries are removed, so no debt is left to evict for.
        self.limit().debt().reset();
        self.limit().note_removed();
        panics.raise();
    }
}
