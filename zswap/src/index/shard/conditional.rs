//! Changes of a shard that depend on the stored key, to which its owner may have attached
//! something.

use super::{Inserted, Item, Shard};
use crate::index::equivalent::Equivalent;
use crate::index::table::{BucketId, NoRoom, Position, Seek};

/// Items that are taken out while the shard is locked once.
pub(crate) const SWEEP: usize = 64;

/// Entries and free buckets that are passed while the shard is locked once.
const VISITED: usize = 1024;

impl<K> Shard<K> {
    /// Returns the key at bucket `at`.
    #[inline]
    pub(crate) fn key_at(&self, at: BucketId) -> Option<&K> {
        self.table.get(at).map(|(key, _)| key)
    }

    /// Moves items whose keys are `wanted` into `out`, from `from` on, until `out` is full or
    /// enough was visited. Returns where to continue, or `None` at the end.
    pub(crate) fn sweep(
        &mut self,
        from: Position,
        mut wanted: impl FnMut(&K) -> bool,
        out: &mut [Option<Item<K>>; SWEEP],
    ) -> Option<Position> {
        let (mut next, mut taken) = (from, 0);
        for _ in 0..VISITED {
            next = match self.table.seek(next, VISITED) {
                Seek::Found(at, found) if self.key_at(at).is_some_and(&mut wanted) => {
                    out[taken] = self.remove_at(at);
                    taken += 1;
                    // The entries that follow it may have moved to this bucket.
                    if taken == SWEEP {
                        return Some(found);
                    }
                    found
                }
                Seek::Found(at, found) => self.table.behind(at, found)?,
                Seek::Nothing(behind) => return Some(behind),
                Seek::End => return None,
            };
        }
        Some(next)
    }
}

impl<K: Eq> Shard<K> {
    /// Lends the stored key, and the length of its value, to `look`.
    pub(crate) fn with_key<Q, R>(
        &self,
        hash: u64,
        key: &Q,
        look: impl FnOnce(&K, usize) -> R,
    ) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let at = self.bucket_of(hash, key)?;
        Some(look(self.key_at(at)?, self.found(at)?.len()))
    }

    /// Takes the item of `key` out if `wanted` accepts its stored key and length.
    pub(crate) fn remove_key_if<Q>(
        &mut self,
        hash: u64,
        key: &Q,
        wanted: impl FnOnce(&K, usize) -> bool,
    ) -> Option<Item<K>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let at = self.bucket_of(hash, key)?;
        let wanted = wanted(self.key_at(at)?, self.found(at)?.len());
        wanted.then(|| self.remove_at(at)).flatten()
    }

    /// Stores the item in `new` if `decide` accepts the stored key and the new one. The new key
    /// replaces the stored one. Returns `None`, and changes nothing, if `decide` declines.
    ///
    /// # Errors
    ///
    /// When there is no memory or no place; `new` still has the item.
    pub(crate) fn put_if(
        &mut self,
        hash: u64,
        new: &mut Option<Item<K>>,
        rehash: impl Fn(&K) -> u64,
        decide: impl FnOnce(Option<&K>, &K) -> bool,
    ) -> Result<Option<Inserted<K>>, NoRoom> {
        let Some((key, _)) = &*new else { return Err(NoRoom) };
        let found = self.table.find(hash, |other| other == key);
        if !decide(found.and_then(|at| self.key_at(at)), key) {
            return Ok(None);
        }
        self.swap_keys(found, new);
        let put = self.put_at(found, hash, new, rehash);
        if put.is_err() {
            self.swap_keys(found, new);
        }
        put.map(Some)
    }

    /// Exchanges the key of `new` with the equal one at bucket `at`.
    fn swap_keys(&mut self, at: Option<BucketId>, new: &mut Option<Item<K>>) {
        if let Some(at) = at
            && let (Some((stored, _)), Some((key, _))) = (self.table.get_mut(at), new)
        {
            std::mem::swap(stored, key);
        }
    }
}
