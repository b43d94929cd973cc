//! Inserts into the index, and exchanges of entries.

use crate::index::Index;
use crate::index::shard::{Inserted, Item, Replaced};
use crate::index::table::NoRoom;
use crate::value::PooledBlock;

impl<K: Eq> Index<K> {
    /// Exchanges `new` with the block under its key, if there is one.
    #[inline]
    pub(crate) fn exchange(&self, hash: u64, key: &K, new: &mut PooledBlock) -> Replaced<K> {
        let (mut shard, hash) = self.lock(hash);
        let Some(at) = shard.bucket_of(hash, key) else { return Replaced::No };
        match shard.exchange_in_pool(at, new) {
            Ok(true) => Replaced::Yes { unused_ref: None },
            Ok(false) => self.accounted(&mut shard, |shard| shard.exchange_pools(at, new)),
            // Not accounted for, because neither the table nor a list shrinks by that.
            Err(error) => Replaced::Failed { broken: shard.remove_at(at), error },
        }
    }

    /// Stores the item in `new`, in one critical section, and returns the item that it replaced.
    /// The caller drops that with no lock held.
    ///
    /// # Errors
    ///
    /// When there is no memory or no place; `new` still has it.
    #[inline]
    pub(crate) fn put(
        &self,
        hash: u64,
        new: &mut Option<Item<K>>,
        rehash: impl Fn(&K) -> u64,
    ) -> Result<Inserted<K>, NoRoom> {
        self.edit(hash, |shard, hash| shard.put(hash, new, |key| self.split(rehash(key)).1))
    }

    /// Stores the item in `new` if `decide` accepts: see [`Shard::put_if`].
    ///
    /// # Errors
    ///
    /// When there is no memory or no place; `new` still has it.
    pub(crate) fn put_if(
        &self,
        hash: u64,
        new: &mut Option<Item<K>>,
        rehash: impl Fn(&K) -> u64,
        decide: impl FnOnce(Option<&K>, &K) -> bool,
    ) -> Result<Option<Inserted<K>>, NoRoom> {
        self.edit(hash, |shard, hash| {
            shard.put_if(hash, new, |key| self.split(rehash(key)).1, decide)
        })
    }
}
