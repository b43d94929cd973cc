//! Storing in a shard: a new entry, or one that replaces an older one.

use zpool_manager::PoolRef;

use super::{Item, Shard};
use crate::index::packed_entry::PackedEntry;
use crate::index::packed_meta::PackedLen;
use crate::index::table::{BucketId, NoRoom};
use crate::value::PooledBlock;
use crate::value::error::Error;

/// Result of inserting an item: the item that it replaced, with the key that was not needed, and a
/// reference to a pool that was not needed. Drop both after the lock is released.
#[derive(Debug)]
pub(crate) struct Inserted<K> {
    pub(crate) replaced: Option<Item<K>>,
    pub(crate) unused_ref: Option<PoolRef>,
}

/// Whether a block was exchanged with the one under its key. Drop what it contains after the lock
/// is released.
#[derive(Debug)]
pub(crate) enum Replaced<K> {
    /// Not exchanged: there is nothing under the key, or nothing in a pool, or there is no memory.
    No,
    /// Exchanged. Contains a reference that was not needed.
    Yes { unused_ref: Option<PoolRef> },
    /// The allocator panicked. The item that was there is taken out.
    Failed { broken: Option<Item<K>>, error: Error },
}

impl<K: Eq> Shard<K> {
    /// Replaces a same-filled block by another one. Returns false, and does nothing, if the key has
    /// no same-filled block.
    #[inline]
    pub(crate) fn replace_same(&mut self, hash: u64, key: &K, word: u64, len: usize) -> bool {
        let Some(at) = self.table.find(hash, |other| other == key) else { return false };
        let Some((_, entry)) = self.table.get_mut(at) else { return false };
        let PackedEntry::SameFilled { word: old_word, len: old_len, .. } = entry else {
            return false;
        };
        *old_word = word.to_le_bytes();
        self.stats.stored_bytes = self.stats.stored_bytes + len - old_len.get();
        self.stats.stores += 1;
        *old_len = PackedLen::new(len);
        entry.warm();
        true
    }

    /// Stores the item in `new` and replaces what the key had. If `Eq` or `rehash` panics, `new`
    /// still has the item.
    ///
    /// # Errors
    ///
    /// When there is no memory or no place; `new` still has it.
    #[inline]
    pub(crate) fn put(
        &mut self,
        hash: u64,
        new: &mut Option<Item<K>>,
        rehash: impl Fn(&K) -> u64,
    ) -> Result<Inserted<K>, NoRoom> {
        let Some((key, _)) = &*new else { return Err(NoRoom) };
        let found = self.table.find(hash, |other| other == key);
        self.put_at(found, hash, new, rehash)
    }

    /// Stores the item in `new` at the bucket of its key, or in a new one if there is none.
    #[inline]
    pub(super) fn put_at(
        &mut self,
        found: Option<BucketId>,
        hash: u64,
        new: &mut Option<Item<K>>,
        rehash: impl Fn(&K) -> u64,
    ) -> Result<Inserted<K>, NoRoom> {
        if found.is_none() {
            if self.table.is_sparse() {
                self.table.tidy(false, &rehash);
            }
            self.table.make_room(hash, &rehash)?;
        }
        let Some((key, stored)) = new.take() else { return Err(NoRoom) };
        let (entry, sum, unused_ref) = match self.pack(stored) {
            Ok(entered) => entered,
            Err(stored) => {
                *new = Some((key, stored));
                return Err(NoRoom);
            }
        };
        match found {
            Some(at) => Ok(self.replace(at, key, entry, sum, unused_ref)),
            None => match self.table.insert(hash, (key, entry), sum) {
                Ok(()) => {
                    self.stats.stores += 1;
                    Ok(Inserted { replaced: None, unused_ref })
                }
                Err((key, entry)) => {
                    let mut unused_ref = unused_ref;
                    *new = Some((key, self.unpack(entry, sum, Some(&mut unused_ref))));
                    Err(NoRoom)
                }
            },
        }
    }

    /// Exchanges `new` with the block at bucket `at`, if both are in one pool. This is the usual
    /// case, and only a few words change. The entry keeps its handle where the pool exchanges the
    /// objects, unless a watch distinguishes the two by that.
    ///
    /// # Errors
    ///
    /// If the allocator panicked. What the entry's handle names is then unknown, so the entry has
    /// to be removed.
    #[inline]
    pub(crate) fn exchange_in_pool(
        &mut self,
        at: BucketId,
        new: &mut PooledBlock,
    ) -> Result<bool, Error> {
        let old_sum = self.table.sum(at);
        let Some((_, entry)) = self.table.get_mut(at) else { return Ok(false) };
        let PackedEntry::Pooled { handle, state, .. } = entry else { return Ok(false) };
        if !PoolRef::same(self.pools.get(state.pool()), new.object.pool()) {
            return Ok(false);
        }
        // A watched entry does not keep its handle for another object.
        let watched = !self.watches.is_empty() || !self.clean.is_empty();
        let keeps_handle = !watched && new.object.exchange(handle)?;
        if !keeps_handle {
            std::mem::swap(handle, new.object.handle_mut());
        }
        self.stats.exchange(entry, new);
        if watched {
            self.object_left(new.object.id());
        }
        self.table.set_sum(at, std::mem::replace(&mut new.meta.checksum, old_sum));
        Ok(true)
    }

    /// Exchanges `new` with a block that is in another pool, because of a switch between the two.
    #[inline(never)]
    pub(crate) fn exchange_pools(&mut self, at: BucketId, new: &mut PooledBlock) -> Replaced<K> {
        let old_sum = self.table.sum(at);
        let Some((_, entry)) = self.table.get_mut(at) else { return Replaced::No };
        let PackedEntry::Pooled { handle, state, .. } = entry else { return Replaced::No };
        let changed = new.object.change_pool(|pool| {
            let (number, unused) = self.pools.acquire(pool, &mut self.list_bytes)?;
            let left = self.pools.release(state.pool());
            state.set_pool(number);
            Ok((left, unused))
        });
        let Some(unused_ref) = changed else { return Replaced::No };
        std::mem::swap(handle, new.object.handle_mut());
        self.stats.exchange(entry, new);
        self.object_left(new.object.id());
        self.table.set_sum(at, std::mem::replace(&mut new.meta.checksum, old_sum));
        Replaced::Yes { unused_ref }
    }

    fn replace(
        &mut self,
        at: BucketId,
        key: K,
        entry: PackedEntry,
        sum: u32,
        unused_ref: Option<PoolRef>,
    ) -> Inserted<K> {
        let stored = self.swap_entry(at, entry, sum);
        if let Some((_, entry)) = self.table.get_mut(at) {
            entry.warm();
        }
        self.stats.stores += 1;
        Inserted { replaced: Some((key, stored)), unused_ref }
    }
}
