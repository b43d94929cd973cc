//! A shard of the index: a table of entries, the pools that they are in, and the counts of what is in it and what happened to it, all under one lock.

use zpool_core::{Handle, PoolId, TryArc};
use zpool_manager::PoolRef;

use crate::contents::Contents;
use crate::entry::{Entry, Place};
use crate::error::ErrorKind;
use crate::lengths::{Length, Lengths};
use crate::loading::Access;
use crate::object::Object;
use crate::pools::Pools;
use crate::stored::{Block, Large, Stored, StoredId};
use crate::table::{At, NoRoom, Position, Seek, Table};
use crate::values::Values;
use crate::watch::Watches;

/// A key with what is stored under it, outside of the index. Dropping one runs the key's own drop and frees the block: do it after the shard's lock is free.
pub(crate) type Item<K> = (K, Stored);

/// A part of the index.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Shard<K> {
    // In the order of use: a load that hits needs the lock before this, and what fits its cache line.
    pub(crate) table: Table<K>,
    pools: Pools,
    /// The hash that a load, peek or take looked up last. In the line of the hits, which they count.
    latest: u64,
    pub(crate) tally: Tally,
    /// Blocks that are told apart without guards.
    pub(crate) watches: Watches,
    values: Values,
    /// Bytes of `pools` and `values` on the heap: they keep it up to date, since they seldom grow and it is asked for at every change.
    list_bytes: usize,
    /// Where the clock's hand points: see [`clock`](crate::clock).
    pub(crate) hand: Position,
    pub(crate) odd_turn: bool,
}

/// Counts of a shard. What is stored is exact at any moment, since it changes under the same lock as the table.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) load_hits: u64,
    pub(crate) load_misses: u64,
    pub(crate) stores: u64,
    pub(crate) compressed: usize,
    pub(crate) raw: usize,
    pub(crate) same: usize,
    pub(crate) large: usize,
    /// Bytes of the objects of all entries.
    pub(crate) payload: usize,
    /// Bytes of all blocks and values, as they were given.
    pub(crate) stored_bytes: usize,
    pub(crate) peek_hits: u64,
    pub(crate) peek_misses: u64,
    pub(crate) taken: u64,
    pub(crate) take_misses: u64,
    pub(crate) invalidated: u64,
    pub(crate) evicted: u64,
}

/// What a look-up found, borrowed from the shard.
#[derive(Debug)]
pub(crate) enum Found<'s> {
    Same { word: u64, len: usize },
    Block { handle: &'s Handle, pool: &'s PoolRef, len: usize, object_len: usize, raw: bool, sum: u32 },
    Large(&'s TryArc<Large>),
}

/// What was put in has taken the place of an item (with the key that is not needed), or none; and a reference that was not needed, either. To be
/// dropped when the lock is free.
#[derive(Debug)]
pub(crate) struct Put<K> {
    pub(crate) replaced: Option<Item<K>>,
    pub(crate) spare: Option<PoolRef>,
}

/// Whether a block was exchanged with the one under its key. What comes with it is to be dropped when the lock is free.
#[derive(Debug)]
pub(crate) enum Exchanged<K> {
    /// There is nothing under the key, or what is no block in a pool; or there is no memory.
    No,
    /// With a reference that was not needed.
    Yes { spare: Option<PoolRef> },
    /// The allocator panicked. The item that was there is out.
    Failed { broken: Option<Item<K>>, kind: ErrorKind },
}

impl<K> Shard<K> {
    pub(crate) fn new(with_sums: bool) -> Shard<K> {
        Shard {
            table: Table::new(with_sums),
            pools: Pools::default(),
            latest: 0,
            tally: Tally::default(),
            values: Values::default(),
            list_bytes: 0,
            hand: Position::default(),
            odd_turn: false,
            watches: Watches::default(),
        }
    }

    /// Bytes on the heap: of the table, of the lists of pools and values, and of what says where the blocks of values are.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.table.bytes() + self.list_bytes
    }

    /// Entries in pools, by pool; blocks of large values among them.
    pub(crate) fn entries_by_pool(&self, mut add: impl FnMut(PoolId, usize)) {
        self.pools.entries().for_each(|(pool, entries)| add(pool, entries));
        self.values.blocks().iter().for_each(|&(pool, blocks)| add(pool, blocks));
    }

    /// What is at slot `at`, which is in use.
    #[inline]
    pub(crate) fn found(&self, at: At) -> Option<Found<'_>> {
        let (_, entry) = self.table.get(at)?;
        Some(match entry {
            Entry::Same { word, len, .. } => Found::Same { word: u64::from_le_bytes(*word), len: len.get() },
            Entry::Object { handle, place, lengths } => Found::Block {
                handle,
                pool: self.pools.get(place.pool()),
                len: lengths.len(),
                object_len: lengths.object_len(),
                raw: lengths.raw(),
                sum: self.table.sum(at),
            },
            Entry::Large { number, .. } => Found::Large(self.values.get(*number)),
        })
    }

    /// Takes the item at slot `at`, which is in use, out.
    pub(crate) fn remove_at(&mut self, at: At) -> Option<Item<K>> {
        let sum = self.table.sum(at);
        let (key, entry) = self.table.remove(at)?;
        Some((key, self.leave(entry, sum, None)))
    }

    /// Makes an entry of what is stored, with its checksum and a reference that the shard did not
    /// need.
    ///
    /// # Errors
    ///
    /// Returns what is stored if there is no memory.
    fn enter(&mut self, stored: Stored) -> Result<(Entry, u32, Option<PoolRef>), Stored> {
        let entered = match stored {
            Stored::Same { word, len } => {
                let (word, place) = (word.to_le_bytes(), Place::default());
                Ok((Entry::Same { word, len: Length::new(len), place }, 0, None))
            }
            Stored::Block(block) => self.enter_block(block),
            Stored::Large(large) => self.enter_large(large),
        };
        if let Ok((entry, ..)) = &entered {
            self.tally_in(entry);
        }
        entered
    }

    fn enter_block(&mut self, block: Block) -> Result<(Entry, u32, Option<PoolRef>), Stored> {
        let Block { object, len, object_len, raw, sum } = block;
        let (pool, handle) = object.into_parts();
        match self.pools.enter(pool, &mut self.list_bytes) {
            Ok((number, spare)) => {
                let (place, lengths) = (Place::in_pool(number), Lengths::new(len, object_len, raw));
                Ok((Entry::Object { handle, place, lengths }, sum, spare))
            }
            Err(pool) => {
                let block = Block { object: Object::new(pool, handle), len, object_len, raw, sum };
                self.enter_on_its_own(block)
            }
        }
    }

    /// A block whose pool has no number in this shard, because so many retired pools still have
    /// blocks in it: kept with a reference of its own, as a large value of one block.
    #[cold]
    fn enter_on_its_own(&mut self, block: Block) -> Result<(Entry, u32, Option<PoolRef>), Stored> {
        let mut parts = Vec::new();
        if parts.try_reserve_exact(1).is_err() {
            return Err(Stored::Block(block));
        }
        let len = block.len;
        parts.push(Stored::Block(block));
        match TryArc::try_new(Large { parts: parts.into_boxed_slice(), len }) {
            Ok(large) => self.enter_large(large),
            Err(large) => Err(large.parts.into_iter().next().expect("the block that was put in above")),
        }
    }

    fn enter_large(&mut self, large: TryArc<Large>) -> Result<(Entry, u32, Option<PoolRef>), Stored> {
        match self.values.enter(large, &mut self.list_bytes) {
            Ok(number) => Ok((Entry::Large { number, place: Place::default() }, 0, None)),
            Err(large) => Err(Stored::Large(large)),
        }
    }

    fn tally_in(&mut self, entry: &Entry) {
        match entry {
            Entry::Same { len, .. } => self.tally.add(Kind::Same, 0, len.get()),
            Entry::Object { lengths, .. } => {
                let kind = if lengths.raw() { Kind::Raw } else { Kind::Compressed };
                self.tally.add(kind, lengths.object_len(), lengths.len());
            }
            Entry::Large { number, .. } => {
                let large = self.values.get(*number);
                self.tally.add(Kind::Large, large.object_len(), large.len);
            }
        }
    }

    /// An entry goes: what it stood for. `beside` is a reference to the same pool that the caller has and does not need.
    fn leave(&mut self, entry: Entry, sum: u32, beside: Option<&mut Option<PoolRef>>) -> Stored {
        let stored = match entry {
            Entry::Same { word, len, .. } => Stored::Same { word: u64::from_le_bytes(word), len: len.get() },
            Entry::Object { handle, place, lengths } => {
                self.note_left(place.pool(), &handle);
                let pool = match beside.and_then(Option::take) {
                    Some(pool) => self.pools.one_less(place.pool()).unwrap_or(pool),
                    None => self.pools.leave(place.pool()),
                };
                let (len, object_len, raw) = (lengths.len(), lengths.object_len(), lengths.raw());
                Stored::Block(Block { object: Object::new(pool, handle), len, object_len, raw, sum })
            }
            Entry::Large { number, .. } => Stored::Large(self.values.leave(number, &mut self.list_bytes)),
        };
        self.tally.subtract(&stored);
        stored
    }

    /// Puts an item back that was taken out for a moment: no store is counted, and no equal key looked for. `item` still
    /// has it if there is no memory. Returns a reference that was not needed, to be dropped when the lock is free.
    pub(crate) fn put_back(
        &mut self,
        hash: u64,
        item: &mut Option<Item<K>>,
        rehash: impl Fn(&K) -> u64,
    ) -> Option<PoolRef> {
        let room = self.table.make_room(hash, rehash);
        let (key, stored) = item.take()?;
        let entered = if room.is_ok() { self.enter(stored) } else { Err(stored) };
        let (entry, sum, mut spare) = match entered {
            Ok(entered) => entered,
            Err(stored) => {
                self.tally.invalidated += 1;
                *item = Some((key, stored));
                return None;
            }
        };
        if let Err((key, entry)) = self.table.insert(hash, (key, entry), sum) {
            self.tally.invalidated += 1;
            *item = Some((key, self.leave(entry, sum, Some(&mut spare))));
        }
        spare
    }

    /// Tells the watches that the object of `handle`, in the pool of this number, is no longer in the index.
    #[inline]
    fn note_left(&mut self, pool: u16, handle: &Handle) {
        if !self.watches.is_empty() {
            let id = StoredId::Object { pool: self.pools.get(pool).id(), handle: handle.id() };
            self.watches.left(id);
        }
    }

    /// Takes everything out at once, memory included.
    pub(crate) fn take_all(&mut self) -> Contents<K> {
        self.watches.all_left();
        let contents = Contents {
            table: self.table.take_all(),
            pools: std::mem::take(&mut self.pools),
            values: std::mem::take(&mut self.values),
        };
        self.list_bytes = 0;
        self.hand = Position::default();
        self.tally.nothing_stored();
        contents
    }
}

/// Whether a look-up can find this key. A float that is not a number, for example, does not equal itself.
pub(crate) fn equals_itself<K: Eq>(key: &K) -> bool {
    let itself = key;
    key == itself
}

impl<K: Eq> Shard<K> {
    /// Moves the items whose keys do not equal themselves into `items`; none if memory for that is
    /// refused.
    pub(crate) fn take_unfindable(&mut self, items: &mut Vec<Item<K>>) {
        let count = self.table.iter().filter(|(key, _)| !equals_itself(key)).count();
        if items.try_reserve_exact(count).is_err() {
            return;
        }
        let mut next = Some(Position::default());
        while let Some(position) = next {
            next = match self.table.seek(position, usize::MAX) {
                Seek::Found(at, found) => {
                    let unfindable = self.table.get(at).is_some_and(|(key, _)| !equals_itself(key));
                    let full = items.len() == items.capacity();
                    match (unfindable && !full).then(|| self.remove_at(at)).flatten() {
                        // What followed in its run may have moved to this slot.
                        Some(item) => {
                            items.push(item);
                            Some(found)
                        }
                        None => self.table.behind(at, found),
                    }
                }
                Seek::Nothing(behind) => Some(behind),
                Seek::End => None,
            };
        }
    }

    /// What is stored under `key`, whose hash is `hash`.
    #[inline]
    pub(crate) fn find(&self, hash: u64, key: &K) -> Option<Found<'_>> {
        let at = self.table.find(hash, |other| other == key)?;
        self.found(at)
    }

    /// The same for a load, peek or take: counted, and for a load as a use.
    #[inline]
    pub(crate) fn look_up(&mut self, hash: u64, key: &K, access: Access) -> Option<Found<'_>> {
        match self.table.find(hash, |other| other == key) {
            Some(at) => {
                self.count_hit(at, access);
                self.found(at)
            }
            None => {
                self.tally.count_miss(access);
                None
            }
        }
    }

    /// Whether hashes are looked up in their order: before `hash` the one before it. Now it is `hash`.
    #[inline]
    pub(crate) fn in_order(&mut self, hash: u64) -> bool {
        std::mem::replace(&mut self.latest, hash) == hash.wrapping_sub(1)
    }

    /// Where `key` is, for [`found`](Self::found) and [`count_hit`](Self::count_hit).
    #[inline]
    pub(crate) fn slot_of(&self, hash: u64, key: &K) -> Option<At> {
        self.table.find(hash, |other| other == key)
    }

    /// What is at slot `at` is being loaded, peeked or taken.
    #[inline]
    pub(crate) fn count_hit(&mut self, at: At, access: Access) {
        self.tally.count_hit(access);
        if access == Access::Load
            && let Some((_, entry)) = self.table.get_mut(at)
        {
            entry.warm();
        }
    }

    /// Stores a same-filled block in the place of one that was stored under that key before. False, and nothing done, if there is no such one.
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

    /// Stores what `new` has, in the place of what was stored under that key before. Whatever panics here (`Eq`, `rehash`), `new` still has it then.
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

    /// Exchanges `new` with the block at slot `at`, if both are in one pool: what a store usually meets, and only a few words change. The entry keeps its handle where the
    /// pool exchanges the objects, unless somebody tells the two apart by that.
    ///
    /// # Errors
    ///
    /// When the allocator panicked over it. What the entry's handle names then nobody knows, so it has to go.
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

    /// The same where the block at slot `at` is in another pool: a switch lies between the two.
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

    fn replace(&mut self, at: At, key: K, mut entry: Entry, sum: u32, spare: Option<PoolRef>) -> Put<K> {
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

    /// Takes the item of `key` out, if it is one that is `wanted`.
    #[inline]
    pub(crate) fn remove_if(
        &mut self,
        hash: u64,
        key: &K,
        wanted: impl FnOnce(&Found<'_>) -> bool,
    ) -> Option<Item<K>> {
        let at = self.table.find(hash, |other| other == key)?;
        if !wanted(&self.found(at)?) {
            return None;
        }
        self.remove_at(at)
    }
}

impl Found<'_> {
    /// Bytes of the block or value.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match self {
            Found::Same { len, .. } | Found::Block { len, .. } => *len,
            Found::Large(large) => large.len,
        }
    }

    #[inline]
    pub(crate) fn id(&self) -> StoredId {
        match self {
            Found::Same { word, len } => StoredId::Same { word: *word, len: *len },
            Found::Block { handle, pool, .. } => StoredId::Object { pool: pool.id(), handle: handle.id() },
            Found::Large(large) => large.id(),
        }
    }
}

impl Tally {
    /// Exchanges what is kept of two blocks, but for their handles and pools, and counts a store.
    #[inline(always)]
    fn exchange(&mut self, entry: &mut Entry, new: &mut Block) {
        let Entry::Object { lengths, .. } = entry else { unreachable!("looked at before") };
        let old = std::mem::replace(lengths, Lengths::new(new.len, new.object_len, new.raw));
        self.stores += 1;
        self.raw = self.raw + usize::from(new.raw) - usize::from(old.raw());
        self.compressed = self.compressed + usize::from(old.raw()) - usize::from(new.raw);
        self.stored_bytes = self.stored_bytes + new.len - old.len();
        self.payload = self.payload + new.object_len - old.object_len();
        (new.len, new.object_len, new.raw) = (old.len(), old.object_len(), old.raw());
        entry.warm();
    }

    /// Counts a look-up that found something. A take counts when the entry is removed.
    #[inline]
    pub(crate) fn count_hit(&mut self, access: Access) {
        match access {
            Access::Load => self.load_hits += 1,
            Access::Peek => self.peek_hits += 1,
            Access::Take => {}
        }
    }

    /// Takes back what [`count_hit`](Self::count_hit) counted under the same lock.
    pub(crate) fn uncount_hit(&mut self, access: Access) {
        match access {
            Access::Load => self.load_hits -= 1,
            Access::Peek => self.peek_hits -= 1,
            Access::Take => {}
        }
    }

    #[inline]
    fn count_miss(&mut self, access: Access) {
        match access {
            Access::Load => self.load_misses += 1,
            Access::Peek => self.peek_misses += 1,
            Access::Take => self.take_misses += 1,
        }
    }

    /// Nothing is stored any more.
    fn nothing_stored(&mut self) {
        (self.compressed, self.raw, self.same, self.large) = (0, 0, 0, 0);
        (self.payload, self.stored_bytes) = (0, 0);
    }

    fn add(&mut self, kind: Kind, payload: usize, stored_bytes: usize) {
        *self.count(kind) += 1;
        self.payload += payload;
        self.stored_bytes += stored_bytes;
    }

    fn subtract(&mut self, stored: &Stored) {
        let kind = match stored {
            Stored::Same { .. } => Kind::Same,
            Stored::Block(block) if block.raw => Kind::Raw,
            Stored::Block(_) => Kind::Compressed,
            Stored::Large(_) => Kind::Large,
        };
        *self.count(kind) -= 1;
        self.payload -= stored.object_len();
        self.stored_bytes -= stored.len();
    }

    fn count(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Same => &mut self.same,
            Kind::Raw => &mut self.raw,
            Kind::Compressed => &mut self.compressed,
            Kind::Large => &mut self.large,
        }
    }
}

/// What an entry is counted as.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Same,
    Raw,
    Compressed,
    Large,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_in_order_where_each_follows_the_one_before() {
        let mut shard = Shard::<u64>::new(false);
        let asked = [7, 8, 9, 9, 10, 8, u64::MAX, 0, 2].map(|hash| shard.in_order(hash));
        assert_eq!(asked, [false, true, true, false, true, false, false, true, false]);
    }
}
