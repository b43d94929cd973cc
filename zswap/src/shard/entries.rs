//! How what is stored becomes an entry of a shard, and an entry what was stored.

use zpool_core::Handle;
use zpool_core::internal::TryArc;
use zpool_manager::PoolRef;

use super::{Item, Shard};
use crate::entry::{Entry, Place};
use crate::lengths::{Length, Lengths};
use crate::object::Object;
use crate::stored::{Block, Large, Stored, StoredId};

impl<K> Shard<K> {
    /// Makes an entry of what is stored, with its checksum and a reference that the shard did not
    /// need.
    ///
    /// # Errors
    ///
    /// Returns what is stored if there is no memory.
    pub(super) fn enter(
        &mut self,
        stored: Stored,
    ) -> Result<(Entry, u32, Option<PoolRef>), Stored> {
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
            Err(large) => {
                Err(large.parts.into_iter().next().expect("the block that was put in above"))
            }
        }
    }

    fn enter_large(
        &mut self,
        large: TryArc<Large>,
    ) -> Result<(Entry, u32, Option<PoolRef>), Stored> {
        match self.values.enter(large, &mut self.list_bytes) {
            Ok(number) => Ok((Entry::Large { number, place: Place::default() }, 0, None)),
            Err(large) => Err(Stored::Large(large)),
        }
    }

    /// An entry goes: what it stood for. `beside` is a reference to the same pool that the caller
    /// has and does not need.
    pub(super) fn leave(
        &mut self,
        entry: Entry,
        sum: u32,
        beside: Option<&mut Option<PoolRef>>,
    ) -> Stored {
        let stored = match entry {
            Entry::Same { word, len, .. } => {
                Stored::Same { word: u64::from_le_bytes(word), len: len.get() }
            }
            Entry::Object { handle, place, lengths } => {
                self.note_left(place.pool(), &handle);
                let pool = match beside.and_then(Option::take) {
                    Some(pool) => self.pools.one_less(place.pool()).unwrap_or(pool),
                    None => self.pools.leave(place.pool()),
                };
                let (len, object_len, raw) = (lengths.len(), lengths.object_len(), lengths.raw());
                Stored::Block(Block {
                    object: Object::new(pool, handle),
                    len,
                    object_len,
                    raw,
                    sum,
                })
            }
            Entry::Large { number, .. } => {
                Stored::Large(self.values.leave(number, &mut self.list_bytes))
            }
        };
        self.tally.subtract(&stored);
        stored
    }

    /// Puts an item back that was taken out for a moment: no store is counted, and no equal key
    /// looked for. `item` still has it if there is no memory. Returns a reference that was not
    /// needed, to be dropped when the lock is free.
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

    /// Tells the watches that the object of `handle`, in the pool of this number, is no longer in
    /// the index.
    #[inline]
    fn note_left(&mut self, pool: u16, handle: &Handle) {
        if !self.watches.is_empty() {
            let id = StoredId::Object { pool: self.pools.get(pool).id(), handle: handle.id() };
            self.watches.left(id);
        }
    }
}
