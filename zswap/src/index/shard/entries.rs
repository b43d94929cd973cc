//! Packing a value into an entry of a shard, and unpacking it again.

use zpool_core::Handle;
use zpool_core::internal::TryArc;
use zpool_manager::PoolRef;

use super::{Item, Shard};
use crate::index::packed_entry::{EntryState, PackedEntry};
use crate::index::packed_meta::{PackedLen, PackedMeta};
use crate::value::pooled_object::PooledObject;
use crate::value::{LargeValue, PooledBlock, Value, ValueId};

impl<K> Shard<K> {
    /// Packs a value. Returns the entry, its checksum, and a reference that the shard did not need.
    ///
    /// # Errors
    ///
    /// Returns the value if there is no memory.
    pub(super) fn pack(
        &mut self,
        stored: Value,
    ) -> Result<(PackedEntry, u32, Option<PoolRef>), Value> {
        let entered = match stored {
            Value::SameFilled { word, len } => {
                let (word, state) = (word.to_le_bytes(), EntryState::default());
                Ok((PackedEntry::SameFilled { word, len: PackedLen::new(len), state }, 0, None))
            }
            Value::Pooled(block) => self.pack_block(block),
            Value::Large(large) => self.pack_large(large),
            Value::Backed(place) => self.pack_backed(place),
        };
        if let Ok((entry, ..)) = &entered {
            self.count_in(entry);
        }
        entered
    }

    fn pack_block(
        &mut self,
        block: PooledBlock,
    ) -> Result<(PackedEntry, u32, Option<PoolRef>), Value> {
        let PooledBlock { object, meta } = block;
        let (pool, handle) = object.into_parts();
        match self.pools.acquire(pool, &mut self.list_bytes) {
            Ok((number, unused_ref)) => {
                let state = EntryState::in_pool(number);
                let packed = PackedMeta::pack(meta);
                Ok((PackedEntry::Pooled { handle, state, meta: packed }, meta.checksum, unused_ref))
            }
            Err(pool) => {
                let block = PooledBlock { object: PooledObject::new(pool, handle), meta };
                self.pack_without_pool_number(block)
            }
        }
    }

    /// Packs a block whose pool has no number in this shard, because too many retired pools still
    /// have blocks in it. The block keeps its own reference, as a large value of one block.
    #[cold]
    fn pack_without_pool_number(
        &mut self,
        block: PooledBlock,
    ) -> Result<(PackedEntry, u32, Option<PoolRef>), Value> {
        let mut parts = Vec::new();
        if parts.try_reserve_exact(1).is_err() {
            return Err(Value::Pooled(block));
        }
        let len = block.meta.block_len;
        parts.push(Value::Pooled(block));
        match TryArc::try_new(LargeValue { parts: parts.into_boxed_slice(), len }) {
            Ok(large) => self.pack_large(large),
            Err(large) => {
                Err(large.parts.into_iter().next().expect("the block that was put in above"))
            }
        }
    }

    fn pack_large(
        &mut self,
        large: TryArc<LargeValue>,
    ) -> Result<(PackedEntry, u32, Option<PoolRef>), Value> {
        match self.values.insert(large, &mut self.list_bytes) {
            Ok(number) => {
                Ok((PackedEntry::Large { number, state: EntryState::default() }, 0, None))
            }
            Err(large) => Err(Value::Large(large)),
        }
    }

    /// Unpacks an entry that was removed. `surplus` is a reference to the same pool that the caller
    /// does not need.
    pub(super) fn unpack(
        &mut self,
        entry: PackedEntry,
        sum: u32,
        surplus: Option<&mut Option<PoolRef>>,
    ) -> Value {
        let stored = match entry {
            PackedEntry::SameFilled { word, len, .. } => {
                Value::SameFilled { word: u64::from_le_bytes(word), len: len.get() }
            }
            PackedEntry::Pooled { handle, state, meta } => {
                self.note_removed(state.pool(), &handle);
                let pool = match surplus.and_then(Option::take) {
                    Some(pool) => self.pools.release_one(state.pool()).unwrap_or(pool),
                    None => self.pools.release(state.pool()),
                };
                let (object, meta) = (PooledObject::new(pool, handle), meta.unpack(sum));
                Value::Pooled(PooledBlock { object, meta })
            }
            PackedEntry::Large { number, .. } => {
                Value::Large(self.values.remove(number, &mut self.list_bytes))
            }
            PackedEntry::Backed { place, .. } => {
                self.release_record(place);
                Value::Backed(place)
            }
        };
        self.stats.subtract(&stored);
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
        let entered = if room.is_ok() { self.pack(stored) } else { Err(stored) };
        let (entry, sum, mut unused_ref) = match entered {
            Ok(entered) => entered,
            Err(stored) => {
                self.stats.invalidated += 1;
                *item = Some((key, stored));
                return None;
            }
        };
        if let Err((key, entry)) = self.table.insert(hash, (key, entry), sum) {
            self.stats.invalidated += 1;
            *item = Some((key, self.unpack(entry, sum, Some(&mut unused_ref))));
        }
        unused_ref
    }

    /// Notifies the watches that the object of `handle`, in the pool of this number, has left the
    /// index.
    #[inline]
    fn note_removed(&mut self, pool: u16, handle: &Handle) {
        if self.is_watched() {
            let id = ValueId::Pooled { pool: self.pools.get(pool).id(), handle: handle.id() };
            self.object_left(id);
        }
    }
}
