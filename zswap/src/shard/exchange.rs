//! Storing in a shard: a new entry, or one in the place of an older one.

use zpool_manager::PoolRef;

use super::{Item, Shard};
use crate::entry::Entry;
use crate::error::ErrorKind;
use crate::lengths::Length;
use crate::stored::Block;
use crate::table::{At, NoRoom};

/// What was put in has taken the place of an item (with the key that is not needed), or none; and a
/// reference that was not needed, either. To be dropped when the lock is free.
#[derive(Debug)]
pub(crate) struct Put<K> {
    pub(crate) replaced: Option<Item<K>>,
    pub(crate) spare: Option<PoolRef>,
}

/// Whether a block was exchanged with the one under its key. What comes with it is to be dropped
/// when the lock is free.
#[derive(Debug)]
pub(crate) enum Exchanged<K> {
    /// There is nothing under the key, or what is no block in a pool; or there is no memory.
    No,
    /// With a reference that was not needed.
    Yes { spare: Option<PoolRef> },
    /// The allocator panicked. The item that was there is out.
    Failed { broken: Option<Item<K>>, kind: ErrorKind },
}

impl<K: Eq> Shard<K> {
    /// Stores a same-filled block in the place of one that was stored under that key before. False,
    /// and nothing done, if there is no such one.
    #[inline]
    pub(crate) fn replace_same(&mut self, hash: u64, key: &K, word: u64, len: usize) -> bool {
        let Some(at) = self.table.find(hash, |other| other == key) else { return false };
        let Some((_, entry)) = self.table.get_mut(at) else { return false };
        let Entry::Same { word: old_word, len: old_len, .. } = entry else { return false };
        *old_word = word.to_le_bytes();
        self.tally.stored_bytes = self.tally.stored_bytes + len - old_len.get();
        self.tally.stores += 1;
        *old_len = Length::new(len);
        entry.warm();
        true
    }

    /// Stores what `new` has, in the place of what was stored under that key before. Whatever
    /// panics here (`Eq`, `rehash`), `new` still has it then.
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
    ) -> Result<Put<K>, NoRoom> {
        let Some((key, _)) = &*new else { return Err(NoRoom) };
        let found = self.table.find(hash, |other| other == key);
        if found.is_none() {
            if self.table.is_sparse() {
                self.table.tidy(false, &rehash);
            }
            self.table.make_room(hash, &rehash)?;
        }
        let Some((key, stored)) = new.take() else { return Err(NoRoom) };
        let (entry, sum, spare) = match self.enter(stored) {
            Ok(entered) => entered,
            Err(stored) => {
                *new = Some((key, stored));
                return Err(NoRoom);
            }
        };
        match found {
            Some(at) => Ok(self.replace(at, key, entry, sum, spare)),
            None => match self.table.insert(hash, (key, entry), sum) {
                Ok(()) => {
                    self.tally.stores += 1;
                    Ok(Put { replaced: None, spare })
                }
                Err((key, entry)) => {
                    let mut spare = spare;
                    *new = Some((key, self.leave(entry, sum, Some(&mut spare))));
                    Err(NoRoom)
                }
            },
        }
    }

    /// Exchanges `new` with the block at slot `at`, if both are in one pool: what a store usually
    /// meets, and only a few words change. The entry keeps its handle where the pool exchanges the
    /// objects, unless a watch tells the two apart by that.
    ///
    /// # Errors
    ///
    /// When the allocator panicked over it. What the entry's handle names then is unknown, so it
    /// has to go.
    #[inline]
    pub(crate) fn exchange_in_pool(&mut self, at: At, new: &mut Block) -> Result<bool, ErrorKind> {
        let old_sum = self.table.sum(at);
        let Some((_, entry)) = self.table.get_mut(at) else { return Ok(false) };
        let Entry::Object { handle, place, .. } = entry else { return Ok(false) };
        if !PoolRef::same(self.pools.get(place.pool()), new.object.pool()) {
            return Ok(false);
        }
        // A watched entry does not keep its handle for another object.
        let keeps_handle = self.watches.is_empty() && new.object.exchange(handle)?;
        if !keeps_handle {
            std::mem::swap(handle, new.object.handle_mut());
            if !self.watches.is_empty() {
                self.watches.left(new.object.id());
            }
        }
        self.tally.exchange(entry, new);
        self.table.set_sum(at, std::mem::replace(&mut new.sum, old_sum));
        Ok(true)
    }

    /// Exchanges `new` with a block that is in another pool: a switch lies between the two.
    #[inline(never)]
    pub(crate) fn exchange_pools(&mut self, at: At, new: &mut Block) -> Exchanged<K> {
        let old_sum = self.table.sum(at);
        let Some((_, entry)) = self.table.get_mut(at) else { return Exchanged::No };
        let Entry::Object { handle, place, .. } = entry else { return Exchanged::No };
        let changed = new.object.change_pool(|pool| {
            let (number, unused) = self.pools.enter(pool, &mut self.list_bytes)?;
            let left = self.pools.leave(place.pool());
            place.set_pool(number);
            Ok((left, unused))
        });
        let Some(spare) = changed else { return Exchanged::No };
        std::mem::swap(handle, new.object.handle_mut());
        self.watches.left(new.object.id());
        self.tally.exchange(entry, new);
        self.table.set_sum(at, std::mem::replace(&mut new.sum, old_sum));
        Exchanged::Yes { spare }
    }

    fn replace(
        &mut self,
        at: At,
        key: K,
        mut entry: Entry,
        sum: u32,
        spare: Option<PoolRef>,
    ) -> Put<K> {
        let (old_sum, item) = (self.table.sum(at), self.table.get_mut(at));
        let Some((_, old)) = item else { unreachable!("the key was found there") };
        let (from, to) = (old.place(), entry.place_mut());
        to.set_distance(from.distance());
        to.set_heat(from.heat());
        entry.warm();
        let old = std::mem::replace(old, entry);
        self.table.set_sum(at, sum);
        self.tally.stores += 1;
        Put { replaced: Some((key, self.leave(old, old_sum, None))), spare }
    }
}
