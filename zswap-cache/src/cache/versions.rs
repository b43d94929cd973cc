//! Versions: values that are replaced only if they are the ones that were seen.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};

use crate::cache::Cache;
use crate::entry::options::EntryOptions;
use crate::entry::stamp::{EntryStamp, Stamp, Version};
use crate::entry::stamped::{Probe, Stamped};
use crate::error::CacheError;

impl<K: Hash + Eq, S: BuildHasher> Cache<K, S, Stamp> {
    /// Stores a copy of `value` under `key` with settings of its own, and replaces what was there.
    ///
    /// # Errors
    ///
    /// As for [`insert`](Self::insert), and [`CacheError::PinnedFull`]. There is nothing under
    /// `key` then.
    pub fn insert_with(
        &self,
        key: K,
        value: impl AsRef<[u8]>,
        options: EntryOptions,
    ) -> Result<(), CacheError> {
        self.put_always(key, value.as_ref(), self.shared.lifetime.with(options))
    }

    /// Returns the value under `key` and its version. Counts as a use.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn get_versioned<Q>(&self, key: &Q) -> Result<Option<(Vec<u8>, Version)>, CacheError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (fresh, mut version) = (self.freshness(), Version(0));
        let found = self.store().load_vec_if(&Probe(key), |stored| {
            // Under the lock under which the value is pinned: the two belong together.
            version = stored.stamp.version();
            fresh.admit(stored)
        });
        self.after_look_up(key, &fresh);
        Ok(found?.map(|value| (value, version)))
    }

    /// Returns the version of the value under `key`. Not counted as a use.
    pub fn version_of<Q>(&self, key: &Q) -> Option<Version>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let fresh = self.freshness();
        let found = self
            .store()
            .with_key(&Probe(key), |stored, _| fresh.peek(stored).then(|| stored.stamp.version()));
        found.flatten()
    }

    /// Stores a copy of `value` under `key`, if `seen` is the version of what is there. Returns
    /// whether it did. The entry keeps its expiry and its pin.
    ///
    /// If the value has become longer and pinned values have no room for it, the entry loses its
    /// pin.
    ///
    /// # Errors
    ///
    /// As for [`insert`](Self::insert). If the version is the one that was seen, the entry is
    /// removed then.
    pub fn replace_if(
        &self,
        key: K,
        seen: Version,
        value: impl AsRef<[u8]>,
    ) -> Result<bool, CacheError> {
        let (value, share) = (value.as_ref(), self.pinned_share());
        let (fresh, callbacks) = (self.freshness(), &*self.shared.callbacks);
        let decide = |old: Option<&Stamped<K, Stamp>>, new: &Stamped<K, Stamp>| {
            let Some(old) = old else { return false };
            if old.stamp.version() != seen || !fresh.peek(old) {
                return false;
            }
            new.stamp.inherit(&old.stamp);
            if new.stamp.is_pinned() && !callbacks.pin_bytes(value.len(), share) {
                new.stamp.set_pinned(false);
            }
            true
        };
        self.put(key, value, Default::default(), decide).map_err(|(key, error)| {
            let unchanged = |stored: &Stamped<K, Stamp>, _| stored.stamp.version() == seen;
            self.remove_failed(&key, unchanged);
            error
        })
    }

    /// Changes the value under `key` in place. Returns what `change` returned, or `None` if there
    /// is nothing. The entry keeps its expiry and its pin. Counts as a use.
    ///
    /// `change` runs with no lock held. If another thread stores under `key` meanwhile, it runs
    /// again, with the newer value: so two updates never lose one. It must not depend on how often
    /// it runs.
    ///
    /// ```
    /// use zswap_cache::Cache;
    ///
    /// let counters: Cache<String> = Cache::builder().build()?;
    /// counters.insert("visits".to_owned(), 41u64.to_le_bytes())?;
    /// let visits = counters.update("visits", |value| {
    ///     let visits = u64::from_le_bytes(value[..].try_into().unwrap()) + 1;
    ///     value.copy_from_slice(&visits.to_le_bytes());
    ///     visits
    /// })?;
    /// assert_eq!(visits, Some(42));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get), which leaves the entry; and as for
    /// [`replace_if`](Self::replace_if).
    pub fn update<Q, R>(
        &self,
        key: &Q,
        mut change: impl FnMut(&mut Vec<u8>) -> R,
    ) -> Result<Option<R>, CacheError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        // Each turn but the last means that another thread has stored, so the threads together make
        // progress.
        while let Some((mut value, seen)) = self.get_versioned(key)? {
            let result = change(&mut value);
            if self.replace_if(key.to_owned(), seen, &value)? {
                return Ok(Some(result));
            }
        }
        Ok(None)
    }
}
