//! The contents of a shard, removed as a whole, to be freed without its lock.
//!
//! The memory of the shard's table serves as the list of what to free, so a store can be cleared
//! and dropped when there is no memory for another list.

use std::sync::Arc;

use zpool_core::Handle;
use zpool_core::internal::catch;
use zpool_manager::PoolRef;

use crate::backing::Tier;
use crate::index::large_values::LargeValues;
use crate::index::packed_entry::PackedEntry;
use crate::index::pool_refs::PoolRefs;
use crate::index::table::Table;
use crate::value::Value;
use crate::value::deferred_panic::DeferredPanic;

/// Handles that are freed with one call to their pool.
const BATCH: usize = 128;

/// The entries of a shard and what they refer to.
#[derive(Debug)]
pub(crate) struct ShardContents<K> {
    pub(crate) table: Table<K>,
    pub(crate) pools: PoolRefs,
    pub(crate) values: LargeValues,
    pub(crate) tier: Option<Arc<Tier>>,
}

impl<K> ShardContents<K> {
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Frees all objects except those in the pool `whole`, which is destroyed as a whole, and drops
    /// all keys. `panics` keeps the panics of keys. Returns how many objects an allocator did not
    /// free.
    pub(crate) fn free(mut self, whole: Option<&PoolRef>, panics: &mut DeferredPanic) -> usize {
        let whole = whole.and_then(|pool| self.pools.number_of(pool));
        let mut batch = FreedHandles { number: 0, len: 0, handles: [const { None }; BATCH] };
        // The bytes of these lists no longer count.
        let (mut failed, mut list_bytes) = (0, usize::MAX / 2);
        for ((key, entry), _) in self.table.drain() {
            match entry {
                PackedEntry::SameFilled { .. } => {}
                PackedEntry::Backed { place, .. } => {
                    self.tier.iter().for_each(|tier| tier.release(place));
                }
                // Its pool is destroyed as a whole, with all its objects.
                PackedEntry::Pooled { state, .. } if Some(state.pool()) == whole => {}
                PackedEntry::Pooled { handle, state, .. } => {
                    if batch.len == BATCH || (batch.len > 0 && batch.number != state.pool()) {
                        failed += batch.free(&self.pools);
                    }
                    batch.push(state.pool(), handle);
                }
                PackedEntry::Large { number, .. } => {
                    let value = self.values.remove(number, &mut list_bytes);
                    failed += usize::from(!Value::Large(value).free());
                }
            }
            panics.drop(key);
        }
        failed + batch.free(&self.pools)
    }

    /// Frees all objects one by one, and passes each key to `gone` with the length of its value.
    /// `panics` keeps the panics of `gone`. Returns how many objects an allocator did not free.
    pub(crate) fn free_each(
        mut self,
        gone: &mut impl FnMut(K, usize),
        panics: &mut DeferredPanic,
    ) -> usize {
        let (mut failed, mut list_bytes) = (0, usize::MAX / 2);
        for ((key, entry), _) in self.table.drain() {
            let (len, freed) = match entry {
                PackedEntry::SameFilled { len, .. } => (len.get(), true),
                PackedEntry::Backed { place, .. } => {
                    self.tier.iter().for_each(|tier| tier.release(place));
                    (place.block_len(), true)
                }
                PackedEntry::Pooled { handle, state, meta } => {
                    let pool = self.pools.get(state.pool());
                    let freed = catch(|| pool.zpool().free(handle).is_ok()).unwrap_or(false);
                    (meta.unpack(0).block_len, freed)
                }
                PackedEntry::Large { number, .. } => {
                    let value = self.values.remove(number, &mut list_bytes);
                    (value.len, Value::Large(value).free())
                }
            };
            failed += usize::from(!freed);
            panics.run(|| gone(key, len));
        }
        failed
    }

    /// Drops all keys and references, and leaves the objects to their pools, which are about to be
    /// destroyed as a whole.
    pub(crate) fn forget_objects(mut self, panics: &mut DeferredPanic) {
        if std::mem::needs_drop::<K>() {
            self.table.drain().for_each(|((key, _), _)| panics.drop(key));
        }
        // Blocks of large values are freed as these are dropped: they are few.
    }
}

/// Checks that these contents, and the caller, have all references to `pool`, which is retired. If
/// so, the pool is destroyed when they are dropped.
pub(crate) fn have_all_references<K>(contents: &[ShardContents<K>], pool: &PoolRef) -> bool {
    let in_values = |contents: &ShardContents<K>| {
        let blocks = contents.values.blocks().iter().filter(|(id, _)| *id == pool.id());
        blocks.map(|&(_, blocks)| blocks as u64).sum::<u64>()
    };
    let in_list = |contents: &ShardContents<K>| u64::from(contents.pools.number_of(pool).is_some());
    let ours: u64 = contents.iter().map(|contents| in_list(contents) + in_values(contents)).sum();
    // Exact: only a current pool counts its references apart from each other.
    PoolRef::references(pool) == ours + 1
}

/// Handles of one pool that are to be freed.
struct FreedHandles {
    /// The number of the pool.
    number: u16,
    len: usize,
    handles: [Option<Handle>; BATCH],
}

impl FreedHandles {
    fn push(&mut self, number: u16, handle: Handle) {
        self.number = number;
        self.handles[self.len] = Some(handle);
        self.len += 1;
    }

    /// Frees the objects of these handles. Returns how many were not freed.
    fn free(&mut self, pools: &PoolRefs) -> usize {
        let len = std::mem::take(&mut self.len);
        if len == 0 {
            return 0;
        }
        let pool = pools.get(self.number);
        let mut handles = self.handles[..len].iter_mut().filter_map(Option::take);
        catch(|| pool.zpool().free_many(&mut handles)).unwrap_or(len)
    }
}
